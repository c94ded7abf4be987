/** Whether anybody uses a Postgres: by the proxy or past it. */
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

/**
 * Sessions of clients and of replication, but for the supervisor's own, and commands that outlive
 * their client. A subscription's worker counts: it receives rows that nobody else would.
 */
const IN_USE = `
  SELECT count(*) FROM pg_stat_activity
  WHERE pid <> pg_backend_pid()
    AND (backend_type IN ('client backend', 'walsender', 'logical replication worker')
      OR backend_type LIKE 'logical replication %worker')
    AND NOT (usesysid = 10 AND application_name IN (${
  [COMPUTE_NAME, APPLICATION_NAME, ...SUPERVISORS].map((name) => `'${name}'`).join(", ")
}))`;

export async function isInUse(compute: ComputeInfo): Promise<boolean> {
  const client = await connectAsOperator(compute);
  try {
    const { rows } = await client.query(IN_USE);
    return Number(rows[0]?.[0] ?? 0) > 0;
  } finally {
    await client.close();
  }
}
