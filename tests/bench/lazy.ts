/**
 * What fetching pages and the mount cost a running Postgres: a lazy compute against an eager one with the same data, both followed by
 * the same page server. `npm run bench -- lazy [pgbench scale]`.
 */
import { spawnSync } from "node:child_process";
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { findPostgres } from "../../src/pg_install/find_postgres.ts";
import { dropPageCache } from "../harness/lazy_files.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";
import { compare, report } from "./harness.ts";

const DEFAULT_SCALE = 10;
const ROUNDS = 5;
const SECONDS_PER_ROUND = "5";
const CLIENTS = "4";

function pgbench(compute: Compute, ...args: string[]): string {
  const { host, port } = compute.address;
  const run = spawnSync(
    join(findPostgres().binDir, "pgbench"),
    ["-h", host, "-p", String(port), "-U", "zenith_admin", ...args, "postgres"],
    { encoding: "utf8" },
  );
  if (run.status !== 0) throw new Error(run.stderr);
  return run.stdout;
}

async function transactionsPerSecond(compute: Compute, ...args: string[]): Promise<number> {
  const output = pgbench(compute, "-n", "-c", CLIENTS, "-T", SECONDS_PER_ROUND, ...args);
  return Number(/^tps = ([0-9.]+)/m.exec(output)?.[1]);
}

async function scanMs(compute: Compute): Promise<number> {
  await using connection = await compute.connect();
  await connection.query("SET max_parallel_workers_per_gather = 0");
  const start = performance.now();
  await connection.query("SELECT sum(abalance) FROM pgbench_accounts");
  return performance.now() - start;
}

/** A compute whose pages nobody has read yet. */
async function freshlyStarted(env: ZenithEnv, compute: Compute, storage: string): Promise<Compute> {
  await compute.stop();
  await env.zenith("pg", "start", compute.branch, "--storage", storage);
  return compute;
}

export async function run(args: readonly string[]): Promise<void> {
  await using env = await ZenithEnv.create();
  const main = await env.startCompute("main");
  pgbench(main, "-i", "-q", "-s", String(args[0] ?? DEFAULT_SCALE));
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
        await freshlyStarted(env, eager, "eager");
        return await scanMs(eager);
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
  ]);
}
