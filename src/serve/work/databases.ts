/** Databases, roles and the schema of a branch: what its Postgres says of them, or is told. */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { ZenithError } from "../../common/errors.ts";
import type { BranchName, TenantId } from "../../common/id.ts";
import type { Moment } from "../../common/moment.ts";
import { connectionEnvironment } from "../../compute/postgres/postgres_conf.ts";
import { KEPT_ROLES, scramVerifier, withPassword } from "../../compute/postgres/role_passwords.ts";
import { clientEnvironment } from "../../pg_install/client_environment.ts";
import { findPgDump } from "../../pg_install/find_pg_dump.ts";
import type { PgClient } from "../../pgwire/client.ts";
import { connectAsOperator } from "../fleet/activity.ts";
import type { KnownBranch } from "../state/directory.ts";
import { branchNameOf } from "./computes.ts";
import { withPageServer, type WorkContext } from "./context.ts";

export interface Database {
  readonly name: string;
  readonly owner: string;
}

/** Wakes the branch's Postgres, and runs `work` with a superuser's session there. */
async function onBranch<T>(
  context: WorkContext,
  known: KnownBranch,
  work: (client: PgClient) => Promise<T>,
): Promise<T> {
  using held = await context.fleet.hold(known.tenant, branchNameOf(known));
  const client = await connectAsOperator(held.compute);
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}

export async function listDatabases(context: WorkContext, known: KnownBranch): Promise<Database[]> {
  return await onBranch(context, known, async (client) => {
    const { rows } = await client.query(
      "SELECT datname, pg_get_userbyid(datdba) FROM pg_database WHERE NOT datistemplate ORDER BY datname",
    );
    return rows.map(([name, owner]) => ({ name: name!, owner: owner! }));
  });
}

/** @throws {PgError} as Postgres does */
export async function createDatabase(
  context: WorkContext,
  known: KnownBranch,
  { name, owner }: Database,
): Promise<Database> {
  await onBranch(
    context,
    known,
    (client) => client.query(`CREATE DATABASE ${quote(name)} OWNER ${quote(owner)}`),
  );
  return { name, owner };
}

export async function dropDatabase(context: WorkContext, known: KnownBranch, name: string): Promise<void> {
  await onBranch(context, known, (client) => client.query(`DROP DATABASE ${quote(name)} WITH (FORCE)`));
}

/**
 * The roles that people log in as or own things with: not PostgreSQL's own, nor the bootstrap
 * superuser, which is Zenith's.
 */
export async function listRoles(context: WorkContext, known: KnownBranch): Promise<string[]> {
  return await onBranch(context, known, async (client) => {
    const { rows } = await client.query(
      "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND oid <> 10 ORDER BY rolname",
    );
    return rows.map(([name]) => name!);
  });
}

const PASSWORD_BYTES = 24;

/** @returns the role's new password; undefined for one that can't log in */
export async function createRole(
  context: WorkContext,
  known: KnownBranch,
  name: string,
  canLogIn: boolean,
): Promise<string | undefined> {
  const password = randomBytes(PASSWORD_BYTES).toString("base64url");
  // Postgres gets the verifier: no log of its can have the password.
  const login = canLogIn ? `LOGIN PASSWORD '${scramVerifier(password)}'` : "NOLOGIN";
  await onBranch(context, known, (client) => client.query(`CREATE ROLE ${quote(name)} ${login}`));
  if (!canLogIn) return undefined;
  context.passwords.set(known.tenant, known.timeline, name, password);
  return password;
}

/** Gives a role a new password. @throws {ZenithError} `conflict` for a role of Zenith's own */
export async function resetPassword(context: WorkContext, known: KnownBranch, name: string): Promise<string> {
  assertOurs(name);
  const password = randomBytes(PASSWORD_BYTES).toString("base64url");
  const set = `ALTER ROLE ${quote(name)} PASSWORD '${scramVerifier(password)}'`;
  await onBranch(context, known, async (client) => {
    const { rows } = await client.query(
      "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND oid <> 10 AND NOT rolsuper",
    );
    if (!rows.some(([role]) => role === name)) throw noRole(name);
    await client.query(set);
  });
  context.passwords.set(known.tenant, known.timeline, name, password);
  return password;
}

export async function dropRole(context: WorkContext, known: KnownBranch, name: string): Promise<void> {
  assertOurs(name);
  await onBranch(context, known, (client) => client.query(`DROP ROLE ${quote(name)}`));
  context.passwords.forget(known.tenant, known.timeline, name);
}

function assertOurs(name: string): void {
  if (KEPT_ROLES.includes(name)) {
    throw new ZenithError("conflict", `role ${name} is Zenith's own, at each start`);
  }
}

export function noRole(name: string): ZenithError {
  return new ZenithError("not_found", `there is no role ${name}`);
}

/** An identifier. @throws {ZenithError} `invalid_argument` for what can be none */
function quote(name: string): string {
  if (name === "" || name.includes("\0") || Buffer.byteLength(name) > NAME_MAX_BYTES) {
    throw new ZenithError("invalid_argument", `${JSON.stringify(name.slice(0, 100))} is no name`);
  }
  return `"${name.replaceAll('"', '""')}"`;
}

/** NAMEDATALEN, without the zero byte. */
const NAME_MAX_BYTES = 63;

const DUMP_TIMEOUT_MS = 120_000;
const DUMP_MAX_BYTES = 32 << 20;

/** What pg_dump prints of a database's schema, now or at a moment. */
export async function schemaOf(
  context: WorkContext,
  tenant: TenantId,
  branch: BranchName,
  database: string,
  moment: Moment,
): Promise<string> {
  const major = await withPageServer(context, (client) => client.tenantMajor(tenant));
  const program = findPgDump(major, { distribDir: context.environment().config.pg_distrib_dir });
  using held = await context.fleet.hold(tenant, branch, moment);
  const session = withPassword(held.compute.paths, { database });
  return await run(program, ["--schema-only"], connectionEnvironment(held.address, session));
}

function run(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      env: clientEnvironment(env),
      stdio: ["ignore", "pipe", "pipe"],
      timeout: DUMP_TIMEOUT_MS,
    });
    const out: Buffer[] = [];
    let size = 0;
    let problem = "";
    child.stdout.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > DUMP_MAX_BYTES) child.kill("SIGKILL");
      else out.push(chunk);
    });
    child.stderr.on("data", (chunk: Buffer) => problem = (problem + chunk.toString()).slice(-1_000));
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve(Buffer.concat(out).toString("utf8"));
      else if (size > DUMP_MAX_BYTES) {
        reject(new ZenithError("out_of_range", `the schema is larger than ${DUMP_MAX_BYTES} bytes`));
      } else reject(new ZenithError("unavailable", `pg_dump: ${problem.trim() || `it ended with ${code}`}`));
    });
  });
}
