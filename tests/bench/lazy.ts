/**
 * What fetching pages and the mount cost a running Postgres: a lazy compute against an eager one with the same data, both followed by
 * the same page server. `npm run bench -- lazy [pgbench scale [seconds per round]]`.
 */
import { spawnSync } from "node:child_process";
import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { checkPidFile } from "../../src/process/pid_file.ts";
import { Random } from "../harness/random.ts";
import { dropPageCache } from "../harness/lazy_files.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";
import { compare, report, useExecutable } from "./harness.ts";
import { clientProgram } from "../harness/postgres_major.ts";

const DEFAULT_SCALE = 10;
const ROUNDS = 5;
let secondsPerRound = 5;
const CLIENTS = "4";
const ACCOUNTS_PER_SCALE = 100_000;
const RANDOM_READS = 2000;
/** USER_HZ is 100 on every Linux that we run on. */
const MS_PER_TICK = 10;

function pgbench(compute: Compute, ...args: string[]): string {
  const run = spawnSync(
    clientProgram("pgbench"),
    args,
    { env: { ...process.env, ...compute.libpq }, encoding: "utf8" },
  );
  if (run.status !== 0) throw new Error(run.stderr);
  return run.stdout;
}

async function transactionsPerSecond(compute: Compute, ...args: string[]): Promise<number> {
  const output = pgbench(compute, "-n", "-c", CLIENTS, "-T", String(secondsPerRound), ...args);
  return Number(/^tps = ([0-9.]+)/m.exec(output)?.[1]);
}

async function scanMs(compute: Compute): Promise<number> {
  await using connection = await compute.connect();
  await connection.query("SET max_parallel_workers_per_gather = 0");
  const start = performance.now();
  await connection.query("SELECT sum(abalance) FROM pgbench_accounts");
  return performance.now() - start;
}

/** CPU time that the compute's supervisor has taken, in ms: user and system, fields 14 and 15 of proc_pid_stat(5). */
function supervisorCpuMs(compute: Compute): number {
  const found = checkPidFile(compute.paths.pidFile);
  if (found.state !== "running") throw new Error("the supervisor is not running");
  const stat = readFileSync(`/proc/${found.process.pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK;
}

/** What a thousand transactions cost the supervisor, in ms of CPU time. */
async function supervisorCpuPer1000(compute: Compute, ...args: string[]): Promise<number> {
  const before = supervisorCpuMs(compute);
  const tps = await transactionsPerSecond(compute, ...args);
  return 1000 * (supervisorCpuMs(compute) - before) / (tps * secondsPerRound);
}

async function randomReadsMs(compute: Compute, rows: number): Promise<number> {
  await using connection = await compute.connect();
  // Catalogs and the index's upper pages are nobody's cold reads.
  await connection.query("SELECT abalance FROM pgbench_accounts WHERE aid = 1");
  const random = new Random(1);
  const start = performance.now();
  for (let i = 0; i < RANDOM_READS; i++) {
    await connection.query(`SELECT abalance FROM pgbench_accounts WHERE aid = ${1 + random.int(rows)}`);
  }
  return performance.now() - start;
}

/** Makes the next reads of an eager compute's files come from the disk. */
function dropFiles(compute: Compute): void {
  spawnSync("sync");
  const run = spawnSync(
    "find",
    [
      compute.paths.pgdata,
      "-type",
      "f",
      "-exec",
      "dd",
      "if={}",
      "iflag=nocache",
      "count=0",
      "status=none",
      ";",
    ],
    { encoding: "utf8" },
  );
  if (run.status !== 0) throw new Error(run.stderr);
}

/** A compute whose pages nobody has read yet. */
async function freshlyStarted(env: ZenithEnv, compute: Compute, storage: string): Promise<Compute> {
  await compute.stop();
  await env.zenith("pg", "start", compute.branch, "--storage", storage);
  return compute;
}

export async function run(args: readonly string[]): Promise<void> {
  useExecutable();
  secondsPerRound = Number(args[1] ?? secondsPerRound);
  await using env = await ZenithEnv.create();
  const main = await env.startCompute("main");
  const scale = Number(args[0] ?? DEFAULT_SCALE);
  pgbench(main, "-i", "-q", "-s", String(scale));
  await main.stop();
  const computes: Compute[] = [];
  for (const storage of ["lazy", "eager"]) {
    await env.branch(storage, "main");
    const compute = await env.createCompute(storage);
    appendFileSync(join(compute.paths.pgdata, "postgresql.conf"), "max_wal_size = '4GB'\nautovacuum = off\n");
    await env.zenith("pg", "start", storage, "--storage", storage);
    computes.push(compute);
  }
  const [lazy, eager] = computes as [Compute, Compute];
  report("lazy", [
    await compare(
      "cold sequential scan",
      "ms",
      async () => scanMs(await freshlyStarted(env, lazy, "lazy")),
      async () => {
        dropFiles(await freshlyStarted(env, eager, "eager"));
        return await scanMs(eager);
      },
      ROUNDS,
    ),
    await compare(
      "cold random reads",
      "ms",
      async () => randomReadsMs(await freshlyStarted(env, lazy, "lazy"), scale * ACCOUNTS_PER_SCALE),
      async () => {
        dropFiles(await freshlyStarted(env, eager, "eager"));
        return await randomReadsMs(eager, scale * ACCOUNTS_PER_SCALE);
      },
      ROUNDS,
    ),
    await compare("warm scan", "ms", () => scanMs(lazy), () => scanMs(eager), ROUNDS),
    await compare(
      "scan from the overlay",
      "ms",
      async () => {
        dropPageCache(lazy.paths);
        return await scanMs(lazy);
      },
      () => scanMs(eager),
      ROUNDS,
    ),
    await compare(
      "SELECT only",
      "tps",
      () => transactionsPerSecond(lazy, "-S"),
      () => transactionsPerSecond(eager, "-S"),
      ROUNDS,
    ),
    await compare(
      "TPC-B",
      "tps",
      () => transactionsPerSecond(lazy),
      () => transactionsPerSecond(eager),
      ROUNDS,
    ),
    await compare(
      "supervisor, 1000 TPC-B",
      "ms CPU",
      () => supervisorCpuPer1000(lazy),
      () => supervisorCpuPer1000(eager),
      ROUNDS,
    ),
  ]);
}
