/**
 * The branch cycle from end to end, each branch with its Postgres: make one, use it, throw it away. Single operations, trees of
 * several shapes and sizes, and the five workflows of BranchBench in their small form, on one warehouse of TPC-C (100 MB). The
 * references get the same statements: a stock 15 that copies the files of a database, an 18 that clones them on XFS, and a 15 per
 * snapshot of a btrfs, where these can be mounted. Statements of one row are also compared with a stock 15 whose commits wait for
 * a pg_receivewal, as ours wait for a safekeeper. Prints Markdown.
 *
 * `npm run bench -- branches [commands|wake|start|many|depth|operations|shapes|workflows|<part of a workflow's name> …] [warehouses=1] [branches=100] [many=10000]`
 */
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sleep } from "../../src/common/sleep.ts";
import { percentile, useExecutable } from "./harness.ts";
import {
  type BranchingSystem,
  BtrfsSystem,
  FileCopySystem,
  ROOT_BRANCH,
  ZenithSystem,
} from "./lib/branching_systems.ts";
import { LoopVolume } from "./lib/loop_volume.ts";
import { measureShape, SHAPES } from "./lib/shapes.ts";
import { measureCommands } from "./lib/command_times.ts";
import { type GoalRow, markdownTable } from "./lib/goal_table.ts";
import { measureDepth, measureManyBranches } from "./lib/many_branches.ts";
import { measureStarts } from "./lib/start_times.ts";
import { measureWakes } from "./lib/wake_times.ts";
import { load, runWorkflow, WORKFLOWS } from "./lib/workflows.ts";
import { ReplicatedCluster } from "./receiver.ts";
import type { Connection } from "../harness/connection.ts";

const CYCLES = 10;
const STATEMENTS = 50;
/** After that, a Postgres counts as idle. */
const IDLE_MS = 15_000;
/** How many branches the trees have, and the largest of them unless told otherwise. */
const BRANCH_COUNTS = [1, 10];
const MOST_BRANCHES = 100;
const MANY_BRANCHES = 10_000;
/** Parts that don't need the references' clusters. */
const ALONE = new Set(["commands", "wake", "start", "many", "depth"]);

/** Milliseconds by operation. */
type Timings = Map<string, number[]>;

async function timed(timings: Timings, operation: string, run: () => Promise<unknown>): Promise<void> {
  const started = performance.now();
  await run();
  const known = timings.get(operation) ?? [];
  timings.set(operation, known);
  known.push(performance.now() - started);
}

const SCAN = "SELECT sum(ol_amount), count(*) FROM order_line WHERE ol_w_id = 1";

const FIRST_ROW = "branch to first row, ms";
const MAKE = "branch of a branch that has just committed, without a Postgres, ms";
const MEMORY = "supervisor of an idle Postgres, MB of its own";

/** Has the same statements as the others, but no branches. */
const REPLICATED = "15, pg_receivewal";

/** What the issue asks for. */
const GOALS: Readonly<Record<string, string>> = {
  [FIRST_ROW]: "≤ 100 p50",
  [`${FIRST_ROW}, p99`]: "≤ 200",
  "first scan of 30 MB, ms": "≤ 1.3 x the best",
  "insert of a row, ms": "≤ 1.2 x pg_receivewal",
  "update of a row, ms": "≤ 1.2 x pg_receivewal",
  "DDL, ms": "≤ 1.2 x pg_receivewal",
  [MAKE]: "≤ 20",
  "removal, ms": "≤ 40",
  [MEMORY]: "≤ 60",
};

/** One branch after another; each is used and goes again. */
async function measureOperations(system: BranchingSystem): Promise<Timings> {
  const timings: Timings = new Map();
  for (let cycle = 0; cycle < CYCLES; cycle++) {
    const branch = `cycle_${cycle}`;
    const child = `child_${cycle}`;
    await timed(timings, FIRST_ROW, async () => {
      await system.create(branch, ROOT_BRANCH);
      await using session = await system.connect(branch);
      await session.query("SELECT c_balance FROM customer WHERE (c_w_id, c_d_id, c_id) = (1, 2, 3)");
    });
    {
      await using session = await system.connect(branch);
      await timed(timings, "first scan of 30 MB, ms", () => session.query(SCAN));
      await timed(timings, "the same again, ms", () => session.query(SCAN));
      await measureStatements(timings, session, "");
    }
    if (system.memoryBytes !== undefined && cycle === CYCLES - 1) {
      await sleep(IDLE_MS);
      timings.set(MEMORY, [system.memoryBytes(branch) / 1e6]);
    }
    await timed(timings, MAKE, () => system.make(child, branch));
    await system.remove(child);
    await timed(timings, "removal, ms", () => system.remove(branch));
  }
  return timings;
}

/** Statements of one row by one client. @param tag makes the names of columns new */
async function measureStatements(
  timings: Timings,
  session: Pick<Connection, "query">,
  tag: string,
): Promise<void> {
  for (let i = 0; i < STATEMENTS; i++) {
    await timed(
      timings,
      "insert of a row, ms",
      () => session.query(`INSERT INTO orders VALUES (1, 1, ${500_000 + i}, 1, 1, 1, 1, now())`),
    );
    await timed(
      timings,
      "update of a row, ms",
      () =>
        session.query(`UPDATE customer SET c_balance = 1 WHERE (c_w_id, c_d_id, c_id) = (1, 1, ${i + 1})`),
    );
  }
  for (let i = 0; i < STATEMENTS / 5; i++) {
    const statement = `ALTER TABLE customer ADD COLUMN more_${tag}${i} int`;
    await timed(timings, "DDL, ms", () => session.query(statement));
  }
}

/** The same on a stock Postgres with a synchronous pg_receivewal. */
async function measureReplicated(): Promise<Timings> {
  const timings: Timings = new Map();
  await using replicated = await ReplicatedCluster.start();
  const { sql } = replicated.cluster;
  const session = { query: (text: string) => sql.unsafe(text).simple() as unknown as Promise<never[]> };
  for (const statement of load(1)) await session.query(statement);
  await session.query("CHECKPOINT");
  for (let cycle = 0; cycle < CYCLES; cycle++) {
    await measureStatements(timings, session, `${cycle}_`);
    await session.query("DELETE FROM orders WHERE o_id >= 500000");
  }
  return timings;
}

/** What cannot be had here is left out, with the reason. */
async function startSystems(
  directory: string,
  resources: AsyncDisposableStack,
  warehouses: number,
): Promise<BranchingSystem[]> {
  const systems: BranchingSystem[] = [
    await ZenithSystem.start(),
    await FileCopySystem.start("file copy, 15", 15, join(directory, "file_copy")),
  ];
  for (const system of systems) resources.use(system);
  const onVolume = async (
    kind: "xfs" | "btrfs",
    start: (mountPoint: string) => Promise<BranchingSystem>,
  ): Promise<void> => {
    try {
      systems.push(resources.use(await start(resources.use(new LoopVolume(kind, directory)).mountPoint)));
    } catch (error) {
      console.log(`nothing on ${kind} here: ${error instanceof Error ? error.message : error}`);
    }
  };
  await onVolume(
    "xfs",
    (mountPoint) =>
      FileCopySystem.start("clone, 18", 18, join(mountPoint, "clone"), ["file_copy_method = clone"]),
  );
  await onVolume("btrfs", (mountPoint) => BtrfsSystem.start("btrfs, 15", 15, mountPoint));
  for (const system of systems) {
    await using session = await system.connect(ROOT_BRANCH);
    for (const statement of load(warehouses)) await session.query(statement);
    await session.query("CHECKPOINT");
  }
  return systems;
}

function row(what: string, measured: Iterable<readonly [string, number]>): GoalRow {
  const figures = new Map(measured);
  const reference = figures.has(REPLICATED) ? REPLICATED : undefined;
  return { what, goal: GOALS[what] ?? "the best", figures, reference };
}

function operationRows(measured: ReadonlyMap<string, Timings>): GoalRow[] {
  const figureOf = (operation: string, share: number): [string, number][] =>
    [...measured].flatMap(([name, timings]) => {
      const times = timings.get(operation)?.toSorted((a, b) => a - b);
      return times === undefined ? [] : [[name, percentile(times, share)]];
    });
  return [...measured.values().next().value!.keys()].flatMap((operation) => [
    row(operation, figureOf(operation, 0.5)),
    ...operation === FIRST_ROW ? [row(`${operation}, p99`, figureOf(operation, 0.99))] : [],
  ]);
}

export async function run(args: readonly string[]): Promise<void> {
  useExecutable();
  const parts = args.filter((arg) => !arg.includes("="));
  const wants = (part: string, name = part): boolean =>
    parts.length === 0 || parts.includes(part) || parts.some((wanted) => name.includes(wanted));
  const numberOf = (name: string, usual: number): number =>
    Number(args.find((arg) => arg.startsWith(`${name}=`))?.slice(name.length + 1) ?? usual);
  const directory = mkdtempSync(join(tmpdir(), "zenith-branches-"));
  // Postgres runs as another user.
  chmodSync(directory, 0o755);
  const rows: GoalRow[] = [];
  const note = (...more: GoalRow[]): void => {
    rows.push(...more);
    console.log(markdownTable(more));
  };
  await using resources = new AsyncDisposableStack();
  resources.defer(() => rmSync(directory, { recursive: true, force: true }));
  if (wants("commands")) note(...await measureCommands(directory));
  if (wants("wake")) note(...await measureWakes());
  if (wants("start")) note(...await measureStarts());
  if (wants("many")) note(...await measureManyBranches(numberOf("many", MANY_BRANCHES)));
  if (wants("depth")) note(...await measureDepth());
  if (parts.length > 0 && parts.every((part) => ALONE.has(part))) return;
  const systems = await startSystems(directory, resources, numberOf("warehouses", 1));
  if (wants("operations")) {
    const measured = new Map<string, Timings>();
    for (const system of systems) measured.set(system.name, await measureOperations(system));
    measured.set(REPLICATED, await measureReplicated());
    note(...operationRows(measured));
  }
  if (wants("shapes")) {
    const most = numberOf("branches", MOST_BRANCHES);
    for (const shape of SHAPES) {
      for (const count of BRANCH_COUNTS.filter((size) => size < most).concat(most)) {
        const measured = new Map<string, Map<string, number>>();
        for (const system of systems) measured.set(system.name, await measureShape(system, shape, count));
        for (const operation of [...measured.values()][0]!.keys()) {
          const medians = [...measured].map(([name, all]): [string, number] => [name, all.get(operation)!]);
          note(row(`${shape.name} of ${count}: ${operation}, ms`, medians));
        }
      }
    }
  }
  for (const workflow of WORKFLOWS) {
    if (!wants("workflows", workflow.name)) continue;
    const seconds = new Map<string, number>();
    for (const system of systems) seconds.set(system.name, await runWorkflow(system, workflow));
    note(row(`${workflow.name}, s`, seconds));
  }
  console.log(`\nall of it:\n\n${markdownTable(rows)}\n`);
  const results = rows.map(({ what, goal, figures }) => ({ what, goal, ...Object.fromEntries(figures) }));
  console.log(JSON.stringify({ bench: "branches", results }));
}
