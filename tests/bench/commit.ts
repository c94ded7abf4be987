/**
 * Commits: pgbench's TPC-B on a compute with one and with three safekeepers, fsync on, against a stock Postgres with fsync on and
 * one synchronous pg_receivewal. `npm run bench -- commit [clients …]`, by default 1, 4 and 16.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { asUser, makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { postgresEnvironment } from "../../src/pg_install/initdb.ts";
import type { StockCluster } from "../harness/stock_cluster.ts";
import { ZenithEnv } from "../harness/zenith_env.ts";
import { type Comparison, percentile, report, summarize } from "./harness.ts";
import { ReplicatedCluster } from "./receiver.ts";

const CLIENTS = [1, 4, 16];
const SAFEKEEPERS = [1, 3];
/** At least as many branches as clients, so that they don't wait for each other's rows. */
const SCALE = 16;
const RUN_S = 3;
const ROUNDS = 5;

/** One run of pgbench. Latencies in ms, of single transactions. */
interface Run {
  readonly tps: number;
  readonly p50: number;
  readonly p99: number;
}

const FIGURES = [["tps", "1/s"], ["p50", "ms"], ["p99", "ms"]] as const;

/** Where pgbench connects to: its arguments, and libpq's variables. */
interface Target {
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

class Pgbench {
  readonly #cluster: StockCluster;

  constructor(cluster: StockCluster) {
    this.#cluster = cluster;
  }

  async fill(target: Target): Promise<void> {
    await this.#pgbench(target, ["--initialize", "--quiet", `--scale=${SCALE}`]);
  }

  async run(target: Target, clients: number): Promise<Run> {
    const dir = mkdtempSync(join(this.#cluster.directory, "pgbench-"));
    makeOwnedDirectory(dir, pgUser());
    const log = join(dir, "log");
    const output = await this.#pgbench(target, [
      "--no-vacuum",
      `--client=${clients}`,
      "--jobs=1",
      `--time=${RUN_S}`,
      "--log",
      `--log-prefix=${log}`,
    ]);
    const tps = Number(/tps = ([\d.]+)/.exec(output)?.[1]);
    if (!(tps > 0)) throw new Error(`pgbench made no transactions:\n${output}`);
    // client, transaction, latency in microseconds, ...
    const latencies = readdirSync(dir).flatMap((name) =>
      readFileSync(join(dir, name), "utf8").trimEnd().split("\n").map((line) =>
        Number(line.split(" ")[2]) / 1000
      )
    ).sort((a, b) => a - b);
    rmSync(dir, { recursive: true });
    return { tps, p50: percentile(latencies, 0.5), p99: percentile(latencies, 0.99) };
  }

  async #pgbench(target: Target, args: readonly string[]): Promise<string> {
    const { install, directory } = this.#cluster;
    const child = spawn(join(install.binDir, "pgbench"), [...target.args, ...args, "postgres"], {
      ...asUser(pgUser()),
      cwd: directory,
      env: { ...postgresEnvironment(), ...target.env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    child.stdout!.setEncoding("utf8").on("data", (text: string) => output += text);
    child.stderr!.setEncoding("utf8").on("data", (text: string) => output += text);
    const code = await new Promise((resolve) => child.on("close", resolve));
    if (code !== 0) throw new Error(`pgbench ${args.join(" ")} failed:\n${output}`);
    return output;
  }
}

async function filledEnvironment(pgbench: Pgbench, safekeepers: number): Promise<[ZenithEnv, Target]> {
  const env = await ZenithEnv.create({ safekeepers });
  const compute = await env.startCompute();
  const target = { args: [], env: compute.libpq };
  await pgbench.fill(target);
  return [env, target];
}

export async function run(args: readonly string[]): Promise<void> {
  const clientCounts = args.length > 0 ? args.map(Number) : CLIENTS;
  await using reference = await ReplicatedCluster.start();
  const { cluster } = reference;
  const stock = { args: reference.target, env: {} };
  const pgbench = new Pgbench(cluster);
  await pgbench.fill(stock);
  const environments: ZenithEnv[] = [];
  try {
    const subjects = new Map<number, Target>();
    for (const count of SAFEKEEPERS) {
      const [env, target] = await filledEnvironment(pgbench, count);
      environments.push(env);
      subjects.set(count, target);
    }
    const comparisons: Comparison[] = [];
    for (const clients of clientCounts) {
      comparisons.push(...await measure(pgbench, stock, subjects, clients));
    }
    report("commit", comparisons);
  } finally {
    for (const env of environments) await env[Symbol.asyncDispose]();
  }
}

/** All in turns: what the machine does beside this hits them alike. */
async function measure(
  pgbench: Pgbench,
  stock: Target,
  subjects: ReadonlyMap<number, Target>,
  clients: number,
): Promise<Comparison[]> {
  const references: Run[] = [];
  const runs = new Map<number, Run[]>([...subjects.keys()].map((count) => [count, []]));
  for (let round = 0; round <= ROUNDS; round++) {
    const reference = await pgbench.run(stock, clients);
    // The first round only warms up.
    if (round > 0) references.push(reference);
    for (const [count, target] of subjects) {
      const run = await pgbench.run(target, clients);
      if (round > 0) runs.get(count)!.push(run);
    }
  }
  return [...runs].flatMap(([count, own]) =>
    FIGURES.map(([figure, unit]): Comparison => {
      const subject = summarize(own.map((run) => run[figure]));
      const reference = summarize(references.map((run) => run[figure]));
      const name = `${count} safekeeper${count === 1 ? "" : "s"}, ${clients} clients, ${figure}`;
      return { name, unit, subject, reference, ratio: subject.median / reference.median };
    })
  );
}
