import { until } from "./zenith_env.ts";

/** A connection, or a compute that makes one per statement. */
interface Session {
  value(sql: string): Promise<unknown>;
  query(sql: string): Promise<unknown>;
}

/**
 * Vacuums a table when what was deleted before can really be removed. VACUUM keeps rows that somebody's snapshot may still see, and
 * other sessions (the supervisor's look at replication, autovacuum's ANALYZE) take snapshots whenever they like.
 */
export async function vacuumAll(pg: Session, table: string): Promise<void> {
  const xid = await pg.value("SELECT pg_current_xact_id()::text");
  await until(
    `no snapshot is older than transaction ${xid}`,
    async () =>
      await pg.value(`
        SELECT count(*) FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND age(backend_xmin) > age('${xid}'::xid)`) === "0",
  );
  await pg.query(`VACUUM (TRUNCATE) ${table}`);
}
