/** Finds standbys of a compute that have WAL which its branch does not have. */
import { ZenithError } from "../common/errors.ts";
import { inTime } from "../common/in_time.ts";
import { type Lsn, parseLsn } from "../common/lsn.ts";
import { superuserOf } from "../compute/postgres/postgres_conf.ts";
import { withPassword } from "../compute/postgres/role_passwords.ts";
import { PgClient } from "../pgwire/client.ts";
import { PgError } from "../pgwire/sqlstate.ts";
import type { ComputeInfo } from "./computes.ts";

const ANSWER_TIMEOUT_MS = 3_000;

/** A standby that streams from a Postgres and is ahead of it. */
export interface StandbyAhead {
  /** Its application_name. */
  readonly name: string;
  readonly replayLsn: Lsn;
  /** Where the Postgres's own WAL ends. */
  readonly endLsn: Lsn;
}

/**
 * Asks a compute for its standbys that are ahead of it. Postgres itself tells neither them nor
 * anybody else. Returns none when the compute does not answer.
 */
export async function standbysAhead({ address, paths }: ComputeInfo): Promise<readonly StandbyAhead[]> {
  const asking = async (): Promise<StandbyAhead[]> => {
    await using client = await PgClient.connect({
      ...address,
      user: superuserOf(paths.pgdata),
      password: withPassword(paths).password,
      database: "postgres",
      connectTimeoutMs: ANSWER_TIMEOUT_MS,
    });
    const { rows } = await client.query(
      "SELECT application_name, replay_lsn, pg_catalog.pg_current_wal_flush_lsn() " +
        "FROM pg_catalog.pg_stat_replication " +
        "WHERE replay_lsn OPERATOR(pg_catalog.>) pg_catalog.pg_current_wal_flush_lsn()",
    );
    return rows.map(([name, replay, end]) => ({
      name: name!,
      replayLsn: parseLsn(replay!),
      endLsn: parseLsn(end!),
    }));
  };
  try {
    return await inTime(asking(), ANSWER_TIMEOUT_MS, "no answer");
  } catch (error) {
    if (error instanceof ZenithError || error instanceof PgError) return [];
    throw error;
  }
}
