/**
 * Masks a whole cluster: runs the user's SQL, and then rewrites everything, so that no page has
 * anything left of the rows as they were. Rows that were updated or deleted stay in their pages as
 * long as nothing else needs the space, where pageinspect shows them; so do the values of columns
 * that were dropped, and the samples that statistics are made of.
 */
import { ZenithError } from "../common/errors.ts";
import type { MaskFile } from "../common/mask_file.ts";
import type { PgClient } from "../pgwire/client.ts";

/** @param database null for the database `postgres`, or any other if there is none */
export type PrivateConnect = (database: string | null) => Promise<PgClient>;

/**
 * Settings of the Postgres that it runs on. Nothing else may hold a snapshot there: VACUUM FULL
 * would take along what that can see.
 */
export const MASK_SETTINGS: Readonly<Record<string, string>> = {
  autovacuum: "off",
  // With autovacuum off, this is what starts it all the same.
  autovacuum_freeze_max_age: "2000000000",
  autovacuum_multixact_freeze_max_age: "2000000000",
  // Those of extensions.
  max_worker_processes: "0",
};

/** The only database that nobody has ever connected to. */
const UNUSED_DATABASE = "template0";

/**
 * Runs SQL that this start depends on.
 *
 * @param what the SQL's name for the user
 * @throws {ZenithError} `invalid_argument`, with PostgreSQL's message
 */
export async function runSql(client: PgClient, sql: string, what: string): Promise<void> {
  try {
    await client.query(sql);
  } catch (error) {
    throw new ZenithError(
      "invalid_argument",
      `${what}: ${error instanceof Error ? error.message : String(error)}`,
      { hint: "nothing of it was kept: this start has not happened", cause: error },
    );
  }
}

/**
 * @param connect to a Postgres that nobody else can reach
 * @throws {ZenithError} `invalid_argument`, with PostgreSQL's message about the SQL; `conflict`
 *   when something keeps rows that were updated or deleted
 */
export async function maskCluster(
  connect: PrivateConnect,
  files: readonly (MaskFile & { readonly sql: string })[],
): Promise<void> {
  for (const { database, file, sql } of files) {
    await using client = await open(connect, database);
    await runSql(client, sql, file);
  }
  const databases = await ready(connect);
  for (const database of databases) {
    await using client = await open(connect, database);
    await rewrite(client, database);
  }
}

/** @returns the databases to rewrite @throws {ZenithError} `conflict` */
async function ready(connect: PrivateConnect): Promise<string[]> {
  await using client = await open(connect, null);
  const prepared = await column(client, "SELECT gid FROM pg_prepared_xacts ORDER BY gid");
  if (prepared.length > 0) {
    throw new ZenithError(
      "conflict",
      `prepared transactions keep the rows as they were before the mask: ${prepared.join(", ")}`,
      { hint: `end them in the mask's SQL: ROLLBACK PREPARED '${prepared[0]}'` },
    );
  }
  const closed = await column(
    client,
    `SELECT datname FROM pg_database WHERE NOT datallowconn AND datname <> '${UNUSED_DATABASE}' ORDER BY 1`,
  );
  if (closed.length > 0) {
    throw new ZenithError(
      "conflict",
      `nobody may connect to database ${closed.join(", ")}: it can't be masked`,
      { hint: `in the mask's SQL, drop it, or ALTER DATABASE "${closed[0]}" ALLOW_CONNECTIONS true` },
    );
  }
  return await column(client, "SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname");
}

/**
 * Rewrites all tables of a database with their indexes. The catalogs come once more at the end:
 * rewriting tables changes them, and leaves rows behind in those that were rewritten first.
 */
async function rewrite(client: PgClient, database: string): Promise<void> {
  const what = `rewriting database ${database}`;
  for (const catalog of ["pg_statistic", "pg_statistic_ext_data"]) {
    await runSql(client, `DELETE FROM pg_catalog.${catalog}`, what);
  }
  await runSql(client, "VACUUM (FULL)", what);
  await runSql(client, "ANALYZE", what);
  const catalogs = await column(
    client,
    `SELECT oid::regclass::text FROM pg_catalog.pg_class
      WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r' ORDER BY oid`,
  );
  for (const catalog of catalogs) await runSql(client, `VACUUM (FULL) ${catalog}`, what);
}

/** The first column of a query's rows, as text. */
async function column(client: PgClient, sql: string): Promise<string[]> {
  const { rows } = await client.query(sql);
  return rows.map(([value]) => String(value));
}

/** What roles and databases may have set that would keep the work from being done. */
const SESSION = `SELECT set_config(name, CASE WHEN vartype = 'bool' THEN 'off' ELSE '0' END, false)
  FROM pg_catalog.pg_settings
  WHERE name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout', 'idle_session_timeout',
    'idle_in_transaction_session_timeout', 'default_transaction_read_only')`;

async function open(connect: PrivateConnect, database: string | null): Promise<PgClient> {
  const client = await connect(database);
  await client.query(SESSION);
  return client;
}
