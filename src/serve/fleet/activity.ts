/** Whether anybody uses a Postgres: by the proxy or past it. */
import { type Lsn, parseLsn } from "../../common/lsn.ts";
import type { ComputeInfo } from "../../control/computes.ts";
import { superuserOf } from "../../compute/postgres/postgres_conf.ts";
import { connectPrivately } from "../../compute/postgres/private_socket.ts";
import type { PgClient } from "../../pgwire/client.ts";
import { COMPUTE_NAME } from "../../protocol/wal_connection.ts";

const APPLICATION_NAME = "zenith serve";

/** What supervisors, and servers that read WAL, call their sessions besides. */
const SUPERVISORS = ["walproposer", "walproposer_fetch", "zenith_replica", "pageserver"];

/** Connects as the superuser, by the socket that needs no password. */
export function connectAsOperator(compute: ComputeInfo, database = "postgres"): Promise<PgClient> {
  return connectPrivately(
    { directory: compute.paths.socketDir, port: compute.address.port },
    { role: superuserOf(compute.paths.pgdata), database, applicationName: APPLICATION_NAME },
  );
}

/** Whether a session of `pg_stat_activity` is a server's own. */
const OWN = `(usesysid = 10 AND application_name IN (${
  [COMPUTE_NAME, APPLICATION_NAME, ...SUPERVISORS].map((name) => `'${name}'`).join(", ")
}))`;

/**
 * Sessions of clients and of replication, but for the supervisor's own, and commands that outlive
 * their client. A subscription's worker counts: it receives rows that nobody else would.
 */
const IN_USE = `
  SELECT count(*) FROM pg_stat_activity
  WHERE pid <> pg_backend_pid()
    AND (backend_type IN ('client backend', 'walsender', 'logical replication worker')
      OR backend_type LIKE 'logical replication %worker')
    AND NOT ${OWN}`;

export async function isInUse(compute: ComputeInfo): Promise<boolean> {
  const client = await connectAsOperator(compute);
  try {
    const { rows } = await client.query(IN_USE);
    return Number(rows[0]?.[0] ?? 0) > 0;
  } finally {
    await client.close();
  }
}

/** What a Postgres counts and holds now. Counts begin anew with it. */
export interface PostgresFigures {
  /** Committed and rolled back. */
  readonly transactions: number;
  readonly blocksHit: number;
  readonly blocksRead: number;
  readonly connections: {
    readonly active: number;
    readonly idle: number;
    readonly idleInTransaction: number;
    readonly max: number;
  };
  /** All before it is durable. */
  readonly flushLsn: Lsn;
  /** How long commits wait for the servers that make them durable; null while nobody commits. */
  readonly commitWaitMs: number | null;
}

const FIGURES = `
  SELECT d.transactions::text, d.hit::text, d.read::text, a.active::text, a.idle::text, a.waiting::text,
    current_setting('max_connections'),
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END::text,
    (SELECT max(extract(epoch FROM flush_lag) * 1000)::text FROM pg_stat_replication
      WHERE application_name = '${COMPUTE_NAME}')
  FROM (SELECT sum(xact_commit + xact_rollback) AS transactions, sum(blks_hit) AS hit, sum(blks_read) AS read
      FROM pg_stat_database) d,
    (SELECT count(*) FILTER (WHERE state = 'active') AS active, count(*) FILTER (WHERE state = 'idle') AS idle,
        count(*) FILTER (WHERE state LIKE 'idle in transaction%') AS waiting
      FROM pg_stat_activity
      WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND NOT ${OWN}) a`;

/** @throws {PgError} as Postgres does, or what keeps one from connecting */
export async function readFigures(compute: ComputeInfo): Promise<PostgresFigures> {
  const client = await connectAsOperator(compute);
  try {
    const [row = []] = (await client.query(FIGURES)).rows;
    const [transactions, hit, read, active, idle, idleInTransaction, max] = row.map(Number);
    const commitWait = row[8] ?? null;
    return {
      transactions: transactions!,
      blocksHit: hit!,
      blocksRead: read!,
      connections: { active: active!, idle: idle!, idleInTransaction: idleInTransaction!, max: max! },
      flushLsn: parseLsn(row[7]!),
      commitWaitMs: commitWait === null ? null : Number(commitWait),
    };
  } finally {
    await client.close();
  }
}
