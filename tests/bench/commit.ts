/**
 * Commits: pgbench's TPC-B on a compute with one and with three safekeepers, fsync on, against stock Postgres with fsync on: one whose
 * commits wait for one synchronous pg_receivewal, and one with the promise of three safekeepers, any two of three. And what a
 * transaction costs in CPU time, by process. `npm run bench -- commit [clients …]`, by default 1, 4 and 16.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { asUser, makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { postgresEnvironment } from "../../src/pg_install/initdb.ts";
import { postmasterPid } from "../../src/compute/postgres/postgres_process.ts";
import { checkPidFile } from "../../src/process/pid_file.ts";
import type { StockCluster } from "../harness/stock_cluster.ts";
import { ZenithEnv } from "../harness/zenith_env.ts";
import { type Comparison, percentile, report, summarize } from "./harness.ts";
import { cpuMs, treeCpuMs } from "./lib/cpu_time.ts";
import { ReplicatedCluster } from "./receiver.ts";

const CLIENTS = [1, 4, 16];
const SAFEKEEPERS = [1, 3];
/** Of the references: the archives that commits wait for, a majority of them. */
const RECEIVERS = [1, 3];
/** At least as many branches as clients, so that they don't wait for each other's rows. */
const SCALE = 16;
const RUN_S = 3;
const ROUNDS = 5;

/** One run of pgbench. Latencies in ms, of single transactions. */
interface Run {
  readonly transactions: number;
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
    return {
      transactions: latencies.length,
      tps,
      p50: percentile(latencies, 0.5),
      p99: percentile(latencies, 0.99),
    };
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

/** Something to run pgbench on. */
interface Subject {
  readonly name: string;
  readonly target: Target;
  /** CPU time of its processes so far, in ms. */
  cpu(): Record<string, number>;
}

async function filledEnvironment(pgbench: Pgbench, safekeepers: number): Promise<[ZenithEnv, Subject]> {
  const env = await ZenithEnv.create({ safekeepers });
  const compute = await env.startCompute();
  const target = { args: [], env: compute.libpq };
  await pgbench.fill(target);
  const supervisor = checkPidFile(compute.paths.pidFile);
  if (supervisor.state !== "running") throw new Error("the supervisor does not run");
  const cpu = () => ({
    Postgres: treeCpuMs(postmasterPid(compute.paths.pgdata)!),
    supervisor: cpuMs(supervisor.process.pid),
    safekeepers: sum(env.safekeepers.map(({ pid }) => cpuMs(pid))),
    "page server": cpuMs(env.pageserver.pid),
  });
  return [env, { name: safekeepers === 1 ? "1 safekeeper" : `${safekeepers} safekeepers`, target, cpu }];
}

async function filledReference(receivers: number): Promise<[ReplicatedCluster, Pgbench, Subject]> {
  const reference = await ReplicatedCluster.start(receivers);
  const { cluster, receiverPids } = reference;
  const target = { args: reference.target, env: {} };
  const pgbench = new Pgbench(cluster);
  await pgbench.fill(target);
  const cpu = () => ({
    Postgres: treeCpuMs(postmasterPid(cluster.dataDir)!),
    pg_receivewal: sum(receiverPids.map(cpuMs)),
  });
  const name = receivers === 1 ? "stock, 1" : `stock, ANY ${Math.floor(receivers / 2) + 1} of ${receivers}`;
  return [reference, pgbench, { name, target, cpu }];
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

export async function run(args: readonly string[]): Promise<void> {
  const clientCounts = args.length > 0 ? args.map(Number) : CLIENTS;
  await using disposed = new AsyncDisposableStack();
  const references: Subject[] = [];
  let pgbench: Pgbench | undefined;
  for (const count of RECEIVERS) {
    const [cluster, own, subject] = await filledReference(count);
    disposed.use(cluster);
    pgbench ??= own;
    references.push(subject);
  }
  const subjects: Subject[] = [];
  for (const count of SAFEKEEPERS) {
    const [env, subject] = await filledEnvironment(pgbench!, count);
    disposed.use(env);
    subjects.push(subject);
  }
  const comparisons: Comparison[] = [];
  for (const clients of clientCounts) {
    comparisons.push(...await measure(pgbench!, references, subjects, clients));
  }
  report("commit", comparisons);
}

/** What the runs of one subject have shown. */
interface Measured {
  readonly runs: Run[];
  /** In ms, by process. */
  readonly cpu: Record<string, number>;
}

/** All in turns: what the machine does beside this hits them alike. */
async function measure(
  pgbench: Pgbench,
  references: readonly Subject[],
  subjects: readonly Subject[],
  clients: number,
): Promise<Comparison[]> {
  const measured = new Map<Subject, Measured>();
  for (const subject of [...references, ...subjects]) measured.set(subject, { runs: [], cpu: {} });
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [subject, { runs, cpu }] of measured) {
      const before = subject.cpu();
      const run = await pgbench.run(subject.target, clients);
      // The first round only warms up.
      if (round === 0) continue;
      runs.push(run);
      for (const [process, ms] of Object.entries(subject.cpu())) {
        cpu[process] = (cpu[process] ?? 0) + ms - before[process]!;
      }
    }
  }
  printCpu(clients, measured);
  return subjects.flatMap((subject) =>
    references.flatMap((reference) =>
      FIGURES.map(([figure, unit]): Comparison => {
        const own = summarize(measured.get(subject)!.runs.map((run) => run[figure]));
        const others = summarize(measured.get(reference)!.runs.map((run) => run[figure]));
        const name = `${subject.name}, ${clients} clients, ${figure}, against ${reference.name}`;
        return { name, unit, subject: own, reference: others, ratio: own.median / others.median };
      })
    )
  );
}

function printCpu(clients: number, measured: ReadonlyMap<Subject, Measured>): void {
  console.log(`CPU time of a transaction in µs, ${clients} clients, without pgbench's:`);
  console.table(
    Object.fromEntries([...measured].map(([{ name }, { runs, cpu }]) => {
      const transactions = sum(runs.map((run) => run.transactions));
      const each = Object.entries(cpu).map((
        [process, ms],
      ) => [process, Math.round(ms * 1000 / transactions)]);
      return [name, {
        ...Object.fromEntries(each),
        all: Math.round(sum(Object.values(cpu)) * 1000 / transactions),
      }];
    })),
  );
}
