/**
 * The role as which the supervisor and the page server connect to Postgres: the one that initdb
 * created, whatever SQL has done to it since. Its name is read from the catalog's pages before
 * Postgres runs. The connections only need a physical walsender, which no database and no setting
 * of a role or database affects.
 */
import { spawn } from "node:child_process";
import { closeSync, openSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { errorMessage, systemErrorCode, ZenithError } from "../../common/errors.ts";
import type { PostgresLocation } from "../../pg_install/find_postgres.ts";
import { postgresEnvironment, ZENITH_SUPERUSER } from "../../pg_install/initdb.ts";
import { asUser, type PgUser } from "../../pg_install/pg_user.ts";
import { type Committed, heapRows } from "../../postgres/heap_rows.ts";
import { BLCKSZ } from "../../postgres/cluster/page_layout.ts";
import { parseRelationMap, SHARED_RELATION_MAP_PATH } from "../../postgres/cluster/relation_map.ts";
import { MAIN_FORKNUM, relationFileName } from "../../postgres/cluster/relfile.ts";
import {
  clogByte,
  clogShift,
  SLRU_CLOG,
  SLRU_PAGES_PER_SEGMENT,
  slruPage,
  slruSegment,
  slruSegmentPath,
  TRANSACTION_STATUS_COMMITTED,
} from "../../postgres/cluster/slru.ts";
import type { Logger } from "../../process/log.ts";
import { forcedSettings } from "./postgres_conf.ts";
import { LOG_MODE } from "./postgres_process.ts";
import { type Cover, inNamespace } from "./tablespaces.ts";
import { readTenantFile } from "./tenant_file.ts";

// AuthIdRelationId and DatabaseRelationId; src/include/catalog/pg_authid.h, pg_database.h
const PG_AUTHID = 1260;
const PG_DATABASE = 1262;
/** BOOTSTRAP_SUPERUSERID. It can't be dropped. */
const BOOTSTRAP_SUPERUSER = 10;
/** CLOG_XACT_BITMASK */
const CLOG_STATUS_MASK = 3;
/** NAMEDATALEN */
const NAME_BYTES = 64;
// Columns of FormData_pg_authid.
const ROLNAME = 4;
const ROLSUPER = 68;
const ROLCANLOGIN = 72;
const ROLREPLICATION = 73;
const ROLCONNLIMIT = 76;
/** Where it is unless it is null; what is there then can't be taken for a password. */
const ROLPASSWORD = 80;
const VARHDRSZ = 4;
/** DT_NOEND, of `VALID UNTIL 'infinity'`. */
const TIMESTAMP_INFINITY = 0x7fff_ffff_ffff_ffffn;
// A column of FormData_pg_database.
const DATNAME = 4;

/** In a `pg_hba.conf`, a line ends here, and from 16 on such a name is a regular expression. */
const UNNAMEABLE = /[\r\n]|^\//;

export interface AccessOptions {
  readonly install: PostgresLocation;
  /** A complete data directory on which no Postgres runs. */
  readonly pgdata: string;
  readonly user: PgUser | undefined;
  readonly covers: readonly Cover[];
  readonly logFile: string;
  readonly log: Logger;
}

/** The role that has the bootstrap superuser's OID. */
interface Role {
  /** Undefined when it is not UTF-8, or when no rule in a `pg_hba.conf` could name it. */
  readonly name: string | undefined;
  readonly isSuperuser: boolean;
  readonly canReplicate: boolean;
  /** All roles. */
  readonly rows: readonly DataView[];
}

/** The role as which the supervisor connects. */
export interface AccessRole {
  readonly name: string;
  readonly isSuperuser: boolean;
  /** Whether a role has the password of this verifier, and for ever. */
  passwordOf(role: string, verifier: string): "set" | "differs" | "missing";
}

/**
 * Returns a role that a walsender accepts. If SQL has taken away what that needs, such as the right
 * to log in, a Postgres in single-user mode gives it back, and the log says so.
 *
 * @throws {ZenithError} when that does not help
 */
export async function prepareAccessRole(options: AccessOptions): Promise<AccessRole> {
  const { pgdata, log } = options;
  const role = await readRole(pgdata);
  if (role.name !== undefined && role.canReplicate) return accessRole(role.name, role);
  const newName = role.name === undefined ? await freeName(pgdata) : undefined;
  await giveBack(options, newName, await anyDatabase(pgdata));
  const mended = await readRole(pgdata);
  if (mended.name === undefined || !mended.canReplicate) {
    throw new ZenithError("conflict", `the role of OID ${BOOTSTRAP_SUPERUSER} can't be connected as`, {
      hint: `see the end of ${options.logFile}`,
    });
  }
  log.warn(`role ${mended.name} was given back what the supervisor needs of it: LOGIN and REPLICATION`);
  return accessRole(mended.name, mended);
}

function accessRole(name: string, { isSuperuser, rows }: Role): AccessRole {
  return {
    name,
    isSuperuser,
    passwordOf(role, verifier) {
      const row = rows.find((row) => nameAt(row, ROLNAME) === role);
      return row === undefined ? "missing" : hasPassword(row, verifier) ? "set" : "differs";
    },
  };
}

/**
 * Whether a role's row ends with this password and without a time at which it expires. A verifier
 * is long enough for a header of four bytes, and too short to be compressed: varatt.h.
 */
function hasPassword(row: DataView, verifier: string): boolean {
  const expected = Buffer.from(verifier);
  const length = VARHDRSZ + expected.length;
  const expiry = (ROLPASSWORD + length + 7) & ~7;
  const neverExpires = row.byteLength === ROLPASSWORD + length ||
    row.byteLength >= expiry + 8 && row.getBigInt64(expiry, true) === TIMESTAMP_INFINITY;
  return neverExpires && row.getUint32(ROLPASSWORD, true) === length << 2 &&
    expected.equals(new Uint8Array(row.buffer, row.byteOffset + ROLPASSWORD + VARHDRSZ, expected.length));
}

async function readRole(pgdata: string): Promise<Role> {
  const rows = await catalogRows(pgdata, PG_AUTHID);
  for (const row of rows) {
    if (row.getUint32(0, true) !== BOOTSTRAP_SUPERUSER) continue;
    const isSuperuser = row.getUint8(ROLSUPER) !== 0;
    const mayReplicate = isSuperuser ||
      row.getUint8(ROLREPLICATION) !== 0 && row.getInt32(ROLCONNLIMIT, true) < 0;
    const name = nameAt(row, ROLNAME);
    return {
      name: name === undefined || UNNAMEABLE.test(name) ? undefined : name,
      isSuperuser,
      canReplicate: row.getUint8(ROLCANLOGIN) !== 0 && mayReplicate,
      rows,
    };
  }
  return { name: ZENITH_SUPERUSER, isSuperuser: true, canReplicate: true, rows };
}

/** Returns a name for the role that no other role has. */
async function freeName(pgdata: string): Promise<string> {
  const taken = new Set((await catalogRows(pgdata, PG_AUTHID)).map((row) => nameAt(row, ROLNAME)));
  let name: string = ZENITH_SUPERUSER;
  for (let n = 1; taken.has(name); n++) name = `${ZENITH_SUPERUSER}_${n}`;
  return name;
}

/**
 * Returns a database to connect to. All of those that initdb creates can be dropped once there are
 * others.
 */
export async function anyDatabase(
  pgdata: string,
  preferred: readonly string[] = ["template1", "postgres"],
): Promise<string> {
  const names = (await databaseNames(pgdata))
    // On a command line, such a name would be taken for an option.
    .filter((name) => !name.startsWith("-"));
  const found = preferred.find((name) => names.includes(name)) ?? names[0];
  if (found === undefined) throw new ZenithError("not_found", `there is no database in ${pgdata}`);
  return found;
}

export async function databaseNames(pgdata: string): Promise<string[]> {
  return (await catalogRows(pgdata, PG_DATABASE)).map((row) => nameAt(row, DATNAME))
    .filter((name) => name !== undefined);
}

/**
 * Returns the rows of a shared catalog, which are the same for all databases. @throws {ZenithError}
 * `io`
 */
export async function catalogRows(pgdata: string, catalog: number): Promise<DataView[]> {
  try {
    const relNode = parseRelationMap(await readTenantFile(join(pgdata, SHARED_RELATION_MAP_PATH))).get(
      catalog,
    );
    if (relNode === undefined) throw new ZenithError("corrupt_data", `it does not map catalog ${catalog}`);
    const path = join(pgdata, dirname(SHARED_RELATION_MAP_PATH), relationFileName(relNode, MAIN_FORKNUM));
    return await visibleRows(pgdata, await readTenantFile(path));
  } catch (error) {
    throw new ZenithError("io", `could not read catalog ${catalog} of ${pgdata}: ${errorMessage(error)}`, {
      cause: error,
    });
  }
}

function nameAt(row: DataView, off: number): string | undefined {
  const bytes = new Uint8Array(row.buffer, row.byteOffset + off, NAME_BYTES);
  const end = bytes.indexOf(0);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, end < 0 ? NAME_BYTES : end));
  } catch {
    return undefined;
  }
}

/**
 * Returns the visible rows of a catalog's file, according to `pg_xact`. A transaction that is
 * missing there has not committed.
 */
async function visibleRows(pgdata: string, heap: Uint8Array): Promise<DataView[]> {
  const segments = new Map<string, Uint8Array>();
  for (;;) {
    let missing: string | undefined;
    const committed: Committed = (xid) => {
      const page = slruPage(SLRU_CLOG, xid);
      const path = join(pgdata, slruSegmentPath(SLRU_CLOG, slruSegment(page)));
      const segment = segments.get(path);
      if (segment === undefined) missing ??= path;
      const byte = segment?.[(page % SLRU_PAGES_PER_SEGMENT) * BLCKSZ + clogByte(xid)] ?? 0;
      return (byte >>> clogShift(xid) & CLOG_STATUS_MASK) === TRANSACTION_STATUS_COMMITTED;
    };
    const rows = [...heapRows(heap, committed)];
    if (missing === undefined) return rows;
    segments.set(missing, await readSegment(missing));
  }
}

async function readSegment(path: string): Promise<Uint8Array> {
  try {
    return await readTenantFile(path);
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return new Uint8Array(0);
    throw error;
  }
}

/**
 * Settings for a Postgres in single-user mode, so that no configuration keeps it from changing one
 * row.
 */
const SINGLE_USER_SETTINGS: Readonly<Record<string, string>> = {
  default_transaction_read_only: "off",
  session_preload_libraries: "",
  shared_preload_libraries: "",
  statement_timeout: "0",
  synchronous_standby_names: "",
  // The WAL that is written now is streamed later, once there is a slot.
  wal_keep_size: "1024",
};

/**
 * Gives the role its rights back, in single-user mode. The session is the bootstrap superuser's
 * there without a look at the catalog, and no setting of a role or database applies.
 */
async function giveBack(
  options: AccessOptions,
  newName: string | undefined,
  database: string,
): Promise<void> {
  const { install, pgdata, logFile } = options;
  const settings = Object.entries({ ...forcedSettings(install.major), ...SINGLE_USER_SETTINGS })
    .flatMap(([key, value]) => ["-c", `${key}=${value}`]);
  const passwd = options.user?.isNameless === true ? writePasswd(pgdata, options.user) : undefined;
  const logFd = openSync(logFile, "a", LOG_MODE);
  try {
    const program = join(install.binDir, "postgres");
    const single = { file: program, args: ["--single", "-D", pgdata, ...settings, database] };
    const { file, args, user } = inNamespace(options.covers, options.user, single, passwd);
    const child = spawn(file, args, {
      ...asUser(user),
      cwd: pgdata,
      env: postgresEnvironment(),
      stdio: ["pipe", logFd, logFd],
    });
    const ended = new Promise<void>((resolve, reject) => {
      child.on("error", reject);
      child.on("exit", () => resolve());
    });
    child.stdin!.on("error", () => {});
    const rename = newName === undefined ? "" : `rolname = '${newName}', `;
    // One line, because the end of the line ends the statement.
    child.stdin!.end(
      `UPDATE pg_catalog.pg_authid SET ${rename}rolcanlogin = true, rolreplication = true, rolconnlimit = -1, ` +
        `rolvaliduntil = NULL WHERE oid OPERATOR(pg_catalog.=) ${BOOTSTRAP_SUPERUSER}\n`,
    );
    await ended;
  } catch (error) {
    throw new ZenithError("io", `could not run Postgres in single-user mode: ${errorMessage(error)}`, {
      cause: error,
    });
  } finally {
    closeSync(logFd);
    if (passwd !== undefined) rmSync(passwd, { force: true });
  }
}

/** Writes a passwd(5) beside the data directory, with a name for a user who has none. */
function writePasswd(pgdata: string, { uid, gid }: PgUser): string {
  const path = join(dirname(pgdata), "passwd");
  writeFileSync(path, `zenith:x:${uid}:${gid}::/:/bin/false\n`, { mode: 0o644 });
  return path;
}
