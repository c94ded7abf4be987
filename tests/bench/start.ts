/**
 * From "not running" to the first answer: `zenith pg start` on a branch, against `pg_ctl start` of a cluster with the same data on
 * plain disk. `npm run bench -- start [MB …]`, by default 10 and 1000 MB.
 */
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { Connection } from "../harness/connection.ts";
import { StockCluster } from "../harness/stock_cluster.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";
import { compare, type Comparison, report, useExecutable } from "./harness.ts";

const DEFAULT_SIZES_MB = [10, 1000];
const ROUNDS = 5;
/** Of a row, its header and its index entry. */
const BYTES_PER_ROW = 1000;
const FIRST_QUERY = "SELECT filler FROM rows WHERE id = 1";

function fillStatements(megabytes: number): string[] {
  const rows = Math.floor(megabytes * 1e6 / BYTES_PER_ROW);
  return [
    "CREATE TABLE rows (id int PRIMARY KEY, filler text)",
    `INSERT INTO rows SELECT n, repeat('x', ${BYTES_PER_ROW - 80}) FROM generate_series(1, ${rows}) n`,
    "ALTER TABLE rows ALTER filler SET STORAGE plain",
    "VACUUM ANALYZE rows",
    "CHECKPOINT",
  ];
}

async function timed(run: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await run();
  return performance.now() - start;
}

async function startLazily(env: ZenithEnv, compute: Compute): Promise<number> {
  let connection: Connection | undefined;
  const elapsed = await timed(async () => {
    await env.zenith("pg", "start", compute.branch, "--storage", "lazy");
    // As the reference's client: connects, asks, and stays.
    connection = await Connection.open(compute.address, { password: compute.password }, FIRST_QUERY);
  });
  await connection?.close();
  await compute.stop();
  return elapsed;
}

async function startStock(cluster: StockCluster): Promise<number> {
  const elapsed = await timed(async () => {
    cluster.startPostgres();
    await cluster.sql.unsafe(FIRST_QUERY);
  });
  await cluster.stopPostgres();
  return elapsed;
}

async function measure(megabytes: number): Promise<Comparison> {
  await using env = await ZenithEnv.create();
  const compute = await env.createCompute("main");
  appendFileSync(join(compute.paths.pgdata, "postgresql.conf"), "max_wal_size = '4GB'\n");
  await compute.start();
  for (const statement of fillStatements(megabytes)) await compute.query(statement);
  await compute.stop();
  await using cluster = await StockCluster.start({ settings: { max_wal_size: "'4GB'" } });
  for (const statement of fillStatements(megabytes)) await cluster.sql.unsafe(statement);
  await cluster.stopPostgres();
  return await compare(
    `first query, ${megabytes} MB`,
    "ms",
    () => startLazily(env, compute),
    () => startStock(cluster),
    ROUNDS,
  );
}

export async function run(args: readonly string[]): Promise<void> {
  const sizes = args.length > 0 ? args.map(Number) : DEFAULT_SIZES_MB;
  useExecutable();
  const comparisons: Comparison[] = [];
  for (const megabytes of sizes) comparisons.push(await measure(megabytes));
  report("start", comparisons);
}
