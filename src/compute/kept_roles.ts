/**
 * The roles that Zenith keeps in every Postgres: the superuser, and one for people who need not be
 * that. Makes the second, and gives both their passwords.
 */
import { errorMessage, ZenithError } from "../common/errors.ts";
import { ZENITH_OWNER } from "../pg_install/initdb.ts";
import type { PgClient } from "../pgwire/client.ts";
import { COMPUTE_NAME } from "../protocol/wal_connection.ts";
import type { LocalPostgres } from "./durability.ts";
import { type AccessRole, databaseNames } from "./postgres/access_role.ts";

/**
 * Settings that win over those of roles and databases. A verifier must get into no log. The commit
 * waits for nobody: whoever makes it durable connects later.
 */
const SESSION = [
  "default_transaction_read_only=off",
  "log_min_duration_statement=-1",
  "log_min_error_statement=panic",
  "log_statement=none",
  "role=none",
  "session_preload_libraries=",
  "statement_timeout=0",
  "synchronous_commit=off",
].map((setting) => `-c ${setting}`).join(" ");

/** From this major on, a role with CREATEROLE can grant only what it was given to grant. */
const CREATEROLE_FROM = 16;

/**
 * The predefined roles that the owner is given, with the majors that have them. It may grant them.
 * None leads out of the database: not those that read, write or execute files of the server.
 */
const GRANTED: readonly (readonly [role: string, since: number])[] = [
  ["pg_monitor", 14],
  ["pg_read_all_data", 14],
  ["pg_signal_backend", 14],
  ["pg_write_all_data", 14],
  ["pg_checkpoint", 15],
  ["pg_create_subscription", 16],
  ["pg_use_reserved_connections", 16],
  ["pg_maintain", 17],
  ["pg_signal_autovacuum_worker", 18],
];

export interface KeepRolesOptions {
  readonly local: Pick<LocalPostgres, "connect">;
  /** The role as which that connects. */
  readonly access: AccessRole;
  readonly major: number;
  readonly pgdata: string;
  /** What `pg_authid` is to have as the passwords. */
  readonly verifiers: { readonly superuser: string; readonly owner: string };
  readonly signal: AbortSignal;
}

/**
 * Makes and changes what differs. Does nothing, without a connection, where nothing does; otherwise
 * it writes WAL.
 *
 * @throws {ZenithError} `conflict` when no database lets the supervisor in; PostgreSQL's own error
 */
export async function keepRoles(options: KeepRolesOptions): Promise<void> {
  const statements = whatDiffers(options);
  if (statements.length === 0) return;
  const client = await connectAnywhere(options);
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    client.destroy();
  }
}

function whatDiffers({ access, major, verifiers }: KeepRolesOptions): string[] {
  const statements: string[] = [];
  if (access.passwordOf(access.name, verifiers.superuser) !== "set") {
    // A role that SQL has made no superuser may set only its own password.
    const valid = access.isSuperuser ? " VALID UNTIL 'infinity'" : "";
    const name = `"${access.name.replaceAll('"', '""')}"`;
    statements.push(`ALTER ROLE ${name} PASSWORD '${verifiers.superuser}'${valid}`);
  }
  if (!access.isSuperuser) return statements;
  const owner = access.passwordOf(ZENITH_OWNER, verifiers.owner);
  if (owner === "missing") statements.push(creation(major, verifiers.owner));
  else if (owner === "differs") {
    statements.push(`ALTER ROLE ${ZENITH_OWNER} PASSWORD '${verifiers.owner}' VALID UNTIL 'infinity'`);
  }
  return statements;
}

/** Several statements, which are one transaction. */
function creation(major: number, verifier: string): string {
  const mayMakeRoles = major >= CREATEROLE_FROM;
  const granted = GRANTED.filter(([, since]) => major >= since).map(([role]) => role).join(", ");
  return [
    `CREATE ROLE ${ZENITH_OWNER} LOGIN CREATEDB REPLICATION ${mayMakeRoles ? "CREATEROLE " : ""}` +
    `PASSWORD '${verifier}'`,
    `GRANT ${granted} TO ${ZENITH_OWNER} WITH ADMIN OPTION`,
    // Who makes a role can then act as it.
    ...(mayMakeRoles ? [`ALTER ROLE ${ZENITH_OWNER} SET createrole_self_grant = 'set, inherit'`] : []),
    // The owner of a database may make schemas and trusted extensions there.
    "DO $$ BEGIN IF EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = 'postgres' AND datdba = 10) " +
    `THEN ALTER DATABASE postgres OWNER TO ${ZENITH_OWNER}; END IF; END $$`,
  ].join("; ");
}

/** Connects to any database: SQL may have closed some. */
async function connectAnywhere(
  { local, access, pgdata, signal }: KeepRolesOptions,
): Promise<PgClient> {
  const names = new Set(["postgres", "template1", ...await databaseNames(pgdata)]);
  let last: unknown;
  for (const database of names) {
    try {
      return await local.connect({
        database,
        applicationName: COMPUTE_NAME,
        options: SESSION,
        signal,
      });
    } catch (error) {
      signal.throwIfAborted();
      last = error;
    }
  }
  throw new ZenithError("conflict", `no database lets ${access.name} in: ${errorMessage(last)}`, {
    cause: last,
  });
}
