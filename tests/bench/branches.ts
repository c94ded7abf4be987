/**
 * The branch cycle from end to end, each branch with its Postgres: make one, use it, throw it away. Single operations, trees of
 * several shapes and sizes, and the five workflows of BranchBench in their small form, on one warehouse of TPC-C (100 MB). The references get the same statements:
 * a stock 15 that copies the files of a database, an 18 that clones them on XFS, and a 15 per snapshot of a btrfs, where these can
 * be mounted.
 *
 * `npm run bench -- branches [operations|shapes|workflows|<part of a workflow's name> …] [warehouses=1] [branches=100]`
 */
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
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
import { load, runWorkflow, WORKFLOWS } from "./lib/workflows.ts";

const CYCLES = 10;
const STATEMENTS = 50;
/** How many branches the trees have, and the largest of them unless told otherwise. */
const BRANCH_COUNTS = [1, 10];
const MOST_BRANCHES = 100;

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

/** One branch after another; each is used and goes again. */
async function measureOperations(system: BranchingSystem): Promise<Timings> {
  const timings: Timings = new Map();
  for (let cycle = 0; cycle < CYCLES; cycle++) {
    const branch = `cycle_${cycle}`;
    const child = `child_${cycle}`;
    await timed(timings, "branch to first row, ms", async () => {
      await system.create(branch, ROOT_BRANCH);
      await using session = await system.connect(branch);
      await session.query("SELECT c_balance FROM customer WHERE (c_w_id, c_d_id, c_id) = (1, 2, 3)");
    });
    {
      await using session = await system.connect(branch);
      await timed(timings, "first scan of 30 MB, ms", () => session.query(SCAN));
      await timed(timings, "the same again, ms", () => session.query(SCAN));
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
            session.query(
              `UPDATE customer SET c_balance = 1 WHERE (c_w_id, c_d_id, c_id) = (1, 1, ${i + 1})`,
            ),
        );
      }
      for (let i = 0; i < STATEMENTS / 5; i++) {
        await timed(timings, "DDL, ms", () => session.query(`ALTER TABLE customer ADD COLUMN more_${i} int`));
      }
    }
    await timed(
      timings,
      "branch of a branch that has just committed, ms",
      () => system.create(child, branch),
    );
    await system.remove(child);
    await timed(timings, "removal, ms", () => system.remove(branch));
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

type Row = Record<string, number | string>;

function row(figures: ReadonlyMap<string, number>): Row {
  const [own, ...others] = [...figures.values()];
  const cells = [...figures].map(([name, value]) => [name, Number(value.toPrecision(3))]);
  return {
    ...Object.fromEntries(cells),
    "Zenith / best": Number((own! / Math.min(...others)).toPrecision(3)),
  };
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
  const table: Record<string, Row> = {};
  await using resources = new AsyncDisposableStack();
  resources.defer(() => rmSync(directory, { recursive: true, force: true }));
  const systems = await startSystems(directory, resources, numberOf("warehouses", 1));
  if (wants("operations")) {
    const measured = new Map<string, Timings>();
    for (const system of systems) measured.set(system.name, await measureOperations(system));
    for (const operation of [...measured.values()][0]!.keys()) {
      const medians = [...measured].map(([name, timings]): [string, number] => [
        name,
        percentile(timings.get(operation)!.sort((a, b) => a - b), 0.5),
      ]);
      table[operation] = row(new Map(medians));
    }
  }
  if (wants("shapes")) {
    const most = numberOf("branches", MOST_BRANCHES);
    for (const shape of SHAPES) {
      for (const count of BRANCH_COUNTS.filter((size) => size < most).concat(most)) {
        const measured = new Map<string, Map<string, number>>();
        for (const system of systems) measured.set(system.name, await measureShape(system, shape, count));
        for (const operation of [...measured.values()][0]!.keys()) {
          const medians = [...measured].map(([name, all]): [string, number] => [name, all.get(operation)!]);
          table[`${shape.name} of ${count}: ${operation}, ms`] = row(new Map(medians));
        }
      }
    }
  }
  for (const workflow of WORKFLOWS) {
    if (!wants("workflows", workflow.name)) continue;
    const seconds = new Map<string, number>();
    for (const system of systems) seconds.set(system.name, await runWorkflow(system, workflow));
    table[`${workflow.name}, s`] = row(seconds);
    console.log(workflow.name, table[`${workflow.name}, s`]);
  }
  console.table(table);
  console.log(JSON.stringify({ bench: "branches", results: table }));
}
