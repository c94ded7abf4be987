/**
 * How fast WAL becomes durable: one transaction that writes a lot of it, from its begin until its commit is acknowledged, with a
 * quorum of three safekeepers, fsync on, against a stock Postgres with fsync on and one synchronous pg_receivewal.
 * `npm run bench -- replication [MiB] [rounds]`, by default 128 MiB, five rounds.
 */
import { ZenithEnv } from "../harness/zenith_env.ts";
import { compare, report } from "./harness.ts";
import { ReplicatedCluster } from "./receiver.ts";

const MESSAGE_BYTES = 64 << 10;

/** Runs the transaction with any client. @returns MiB of WAL per second */
type Load = (statement: string) => Promise<Record<string, unknown>[]>;

async function throughput(run: Load, mebibytes: number): Promise<number> {
  const position = async () => String((await run("SELECT pg_current_wal_insert_lsn() AS lsn"))[0]["lsn"]);
  const before = await position();
  const messages = (mebibytes << 20) / MESSAGE_BYTES;
  const start = performance.now();
  await run(
    `SELECT count(pg_logical_emit_message(true, 'bench', repeat('x', ${MESSAGE_BYTES}))) FROM generate_series(1, ${messages})`,
  );
  const seconds = (performance.now() - start) / 1000;
  const [row] = await run(`SELECT pg_wal_lsn_diff('${await position()}', '${before}') AS bytes`);
  return Number(row!["bytes"]) / (1 << 20) / seconds;
}

export async function run(args: readonly string[]): Promise<void> {
  const mebibytes = Number(args[0] ?? 128);
  const rounds = Number(args[1] ?? 5);
  await using reference = await ReplicatedCluster.start();
  const { sql } = reference.cluster;
  await using env = await ZenithEnv.create({ safekeepers: 3 });
  const compute = await env.startCompute();
  await using session = await compute.connect();
  const zenith: Load = (statement) => session.query(statement);
  const stock: Load = async (statement) => [...await sql.unsafe<Record<string, unknown>[]>(statement)];
  const name = `${mebibytes} MiB to three safekeepers`;
  report("replication", [
    await compare(
      name,
      "MiB/s",
      () => throughput(zenith, mebibytes),
      () => throughput(stock, mebibytes),
      rounds,
    ),
  ]);
}
