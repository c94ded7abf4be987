/**
 * The passwords of the roles that Zenith keeps in every Postgres of a tenant. They are in one file
 * beside the tenant's computes, which libpq can read as a password file.
 */
import { createHash, createHmac, pbkdf2Sync, randomBytes } from "node:crypto";
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { ioError, systemErrorCode } from "../../common/errors.ts";
import type { ComputePaths } from "../../common/paths.ts";
import { ZENITH_OWNER, ZENITH_SUPERUSER } from "../../pg_install/initdb.ts";
import { type Session, superuserOf } from "./postgres_conf.ts";

/** The roles whose passwords Zenith makes and sets. */
export const KEPT_ROLES: readonly string[] = [ZENITH_SUPERUSER, ZENITH_OWNER];

export interface RolePassword {
  readonly password: string;
  /** What `pg_authid` has for it: `SCRAM-SHA-256$4096:<salt>$<StoredKey>:<ServerKey>`. */
  readonly verifier: string;
}

export type RolePasswords = ReadonlyMap<string, RolePassword>;

const FILE_MODE = 0o600;
/** Written in base64url, the password needs no escape in a URI or a password file. */
const PASSWORD_BYTES = 24;
/** What PostgreSQL itself uses: SCRAM_DEFAULT_SALT_LEN and SCRAM_SHA_256_DEFAULT_ITERATIONS. */
const SALT_BYTES = 16;
const ITERATIONS = 4096;
const KEY_BYTES = 32;

const HEADER =
  `# The passwords of the roles that Zenith keeps in this tenant's Postgres. A password file of libpq.
# You may change one: each Postgres has it from its next start on. Without this file, new ones are made.
`;

/** Returns what PostgreSQL stores of a password. It normalizes by SASLprep, this by NFKC. */
export function scramVerifier(password: string, salt: Uint8Array = randomBytes(SALT_BYTES)): string {
  const salted = pbkdf2Sync(password.normalize("NFKC"), salt, ITERATIONS, KEY_BYTES, "sha256");
  const key = (name: string): Buffer => createHmac("sha256", salted).update(name).digest();
  const storedKey = createHash("sha256").update(key("Client Key")).digest("base64");
  const saltText = Buffer.from(salt).toString("base64");
  return `SCRAM-SHA-256$${ITERATIONS}:${saltText}$${storedKey}:${key("Server Key").toString("base64")}`;
}

/**
 * Returns the passwords in `file`, and makes what is missing there.
 *
 * @throws {ZenithError} `io`, `disk_full`
 */
export function rolePasswords(file: string): RolePasswords {
  try {
    const text = readIfThere(file);
    const { passwords, isComplete } = parse(text ?? "");
    return isComplete ? passwords : write(file, passwords, text === undefined);
  } catch (error) {
    throw ioError("read or write", file, error);
  }
}

/**
 * Completes a session: a role, if it names none, and that role's password, if Zenith keeps it. The
 * superuser of a cluster that was imported has the password of Zenith's own.
 *
 * @throws {ZenithError} `io`, `disk_full`
 */
export function withPassword({ pgpass, pgdata }: ComputePaths, session: Session = {}): Session {
  const superuser = superuserOf(pgdata);
  const user = session.user ?? superuser;
  const kept = user === superuser ? ZENITH_SUPERUSER : user;
  return { ...session, user, password: rolePasswords(pgpass).get(kept)?.password };
}

/** Returns passwords that nobody has, for a Postgres that nobody is to connect to. */
export function unknownPasswords(): RolePasswords {
  return new Map(KEPT_ROLES.map((role) => [role, makePassword()]));
}

function makePassword(): RolePassword {
  const password = randomBytes(PASSWORD_BYTES).toString("base64url");
  return { password, verifier: scramVerifier(password) };
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

/**
 * A verifier's line: the role, and the digest of the password that the verifier is for. PBKDF2 need
 * not run at every start, and a password that somebody has changed gets a new verifier.
 */
const VERIFIER_LINE = /^# verifier (\S+) ([0-9a-f]{64}) (SCRAM-SHA-256\$\S+)$/;

/** @returns whether the text itself had all of it; what it lacked is new */
function parse(text: string): { passwords: RolePasswords; isComplete: boolean } {
  const lines = text.split("\n");
  const verifiers = new Map<string, string>();
  for (const line of lines) {
    const [, role, digest, verifier] = VERIFIER_LINE.exec(line) ?? [];
    if (role !== undefined) verifiers.set(`${role} ${digest}`, verifier);
  }
  let isComplete = true;
  const passwords = new Map<string, RolePassword>();
  for (const line of lines) {
    const [, role, escaped] = /^\*:\*:\*:([^:\\]+):(.+)$/.exec(line) ?? [];
    if (role === undefined || passwords.has(role)) continue;
    const password = escaped.replace(/\\(.)/g, "$1");
    const verifier = verifiers.get(`${role} ${digestOf(password)}`);
    isComplete &&= verifier !== undefined;
    passwords.set(role, { password, verifier: verifier ?? scramVerifier(password) });
  }
  for (const role of KEPT_ROLES) {
    if (passwords.has(role)) continue;
    isComplete = false;
    passwords.set(role, makePassword());
  }
  return { passwords, isComplete };
}

function format(passwords: RolePasswords): string {
  const lines = [...passwords].map(([role, { password, verifier }]) =>
    `*:*:*:${role}:${password.replace(/[\\:]/g, "\\$&")}\n# verifier ${role} ${
      digestOf(password)
    } ${verifier}\n`
  );
  return HEADER + lines.join("");
}

function digestOf(password: string): string {
  return createHash("sha256").update(password).digest("hex");
}

/** Of several processes that make the first file at once, all get that of the first. */
function write(file: string, passwords: RolePasswords, isFirst: boolean): RolePasswords {
  const temporary = `${file}.${process.pid}.tmp`;
  mkdirSync(dirname(file), { recursive: true, mode: 0o755 });
  writeFileSync(temporary, format(passwords), { mode: FILE_MODE, flush: true });
  try {
    if (isFirst) linkSync(temporary, file);
    else renameSync(temporary, file);
    return passwords;
  } catch (error) {
    if (systemErrorCode(error) === "EEXIST") return parse(readFileSync(file, "utf8")).passwords;
    throw error;
  } finally {
    rmSync(temporary, { force: true });
  }
}
