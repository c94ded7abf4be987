/**
 * PostgreSQL refuses to run as root. When Zenith runs as root, Postgres and initdb run as an
 * unprivileged user and the directories they write are that user's.
 */
import { spawnSync } from "node:child_process";
import { lchownSync, lstatSync, mkdirSync, readdirSync, readFileSync, realpathSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { ioError, ZenithError } from "../common/errors.ts";
import { ForeignDirectory } from "../common/foreign_directory.ts";

export interface PgUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Options for `node:child_process` that make a child run as `user`; empty when it is to run as
 * ourselves.
 */
export function asUser(user: PgUser | undefined): { uid?: number; gid?: number } {
  return user === undefined ? {} : { uid: user.uid, gid: user.gid };
}

/**
 * The user that Postgres runs as, or undefined when that is ourselves, because we aren't root.
 * `$ZENITH_PG_USER`, else `postgres` if there is such a user, else `nobody`.
 *
 * @throws {ZenithError} `not_found` when the user does not exist, `invalid_argument` when it is
 *   root
 */
export function pgUser(env: Readonly<Record<string, string | undefined>> = process.env): PgUser | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const wanted = env["ZENITH_PG_USER"];
  const candidates = wanted !== undefined && wanted !== "" ? [wanted] : ["postgres", "nobody"];
  for (const name of candidates) {
    const user = lookUp(name);
    if (user === undefined) continue;
    if (user.uid === 0) {
      throw new ZenithError(
        "invalid_argument",
        `ZENITH_PG_USER is ${name}, which is root: PostgreSQL refuses to run as root`,
      );
    }
    return user;
  }
  throw new ZenithError(
    "not_found",
    `PostgreSQL can't run as root and the user ${candidates.join(" or ")} does not exist`,
    { hint: "set ZENITH_PG_USER to an unprivileged user" },
  );
}

/** Users that systems have, and that nothing runs as where Postgres runs as another. */
const QUIET_USERS = ["nobody", "daemon", "bin"];

/**
 * Who makes the files that new tenants begin with. Every tenant's superuser acts as {@link pgUser}:
 * while initdb runs, that user must not be able to change its files, nor look into its process.
 *
 * @param directories that it must be able to reach: where initdb is, and where the files are made
 * @returns `undefined` for ourselves; the Postgres user where there is no other one that can
 */
export function initdbUser(directories: readonly string[]): PgUser | undefined {
  const postgres = pgUser();
  if (postgres === undefined) return undefined;
  const others = QUIET_USERS.map(lookUp).filter((user) => user !== undefined);
  const isFit = (user: PgUser): boolean =>
    user.uid !== ROOT_UID && user.uid !== postgres.uid && directories.every((dir) => isReachable(dir, user));
  return others.find(isFit) ?? postgres;
}

function lookUp(name: string): PgUser | undefined {
  const fields = localUsers().split("\n").map((line) => line.split(":")).find((fields) => fields[0] === name);
  // id(1) finds users from other sources, such as LDAP.
  const uid = fields === undefined ? numericId("-u", name) : Number(fields[2]);
  const gid = fields === undefined ? numericId("-g", name) : Number(fields[3]);
  return uid === undefined || gid === undefined ? undefined : { name, uid, gid };
}

/** passwd(5): `name:password:uid:gid:…` in each line. */
function localUsers(): string {
  try {
    return readFileSync("/etc/passwd", "utf8");
  } catch {
    return "";
  }
}

function numericId(flag: "-u" | "-g", name: string): number | undefined {
  const run = spawnSync("id", [flag, "--", name], { encoding: "utf8" });
  if (run.status !== 0) return undefined;
  const id = Number.parseInt(run.stdout, 10);
  return Number.isInteger(id) ? id : undefined;
}

/**
 * Makes `dir`, its parents too. The last one is made owner-only and `user`'s, as PostgreSQL demands
 * of a data directory; parents that had to be made stay ours but can be passed through. Of what is
 * in it, the former owner's goes along: Postgres may have run as another user before, nobody, say,
 * until a package made the user postgres.
 *
 * @throws {ZenithError} when it can't be made, or `user` can't get to it
 */
export function makeOwnedDirectory(dir: string, user: PgUser | undefined): void {
  try {
    mkdirSync(dirname(dir), { recursive: true, mode: 0o755 });
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    if (user !== undefined) {
      using directory = ForeignDirectory.open(realpathSync(dir));
      handOver(directory, user);
    }
  } catch (error) {
    throw error instanceof ZenithError ? error : ioError("create directory", dir, error);
  }
  assertReachable(dir, user);
}

const ROOT_UID = 0;

/**
 * What is in a directory of `formerUid`'s goes along with it; not what is in one of root's: that
 * may be anything.
 */
function handOver(directory: ForeignDirectory, user: PgUser): void {
  const formerUid = directory.stat().uid;
  if (formerUid === user.uid) return;
  if (formerUid === ROOT_UID) directory.setOwner(user);
  else directory.handOver(formerUid, user);
}

/**
 * PostgreSQL starts on no directory that others may read or its owner may not; a restored copy may
 * be either.
 */
const OPEN_TO_OTHERS = 0o027;
const OPEN_TO_OWNER = 0o700;

/** Gives a data directory the mode that PostgreSQL demands of it, should it have another. */
export function closeToOthers(dir: string): void {
  try {
    using directory = ForeignDirectory.open(realpathSync(dir));
    const { mode } = directory.stat();
    if ((mode & OPEN_TO_OTHERS) !== 0 || (mode & OPEN_TO_OWNER) !== OPEN_TO_OWNER) {
      directory.setMode(OPEN_TO_OWNER);
    }
  } catch (error) {
    throw error instanceof ZenithError ? error : ioError("set the mode of", dir, error);
  }
}

/**
 * Gives `path` and all below it to `user`; does nothing when there is no such user to care for.
 * Only for trees that nobody else can write meanwhile; {@link ForeignDirectory} is for the others.
 */
export function chownRecursive(path: string, user: PgUser | undefined): void {
  if (user === undefined) return;
  lchownSync(path, user.uid, user.gid);
  if (!lstatSync(path).isDirectory()) return;
  for (const name of readdirSync(path)) chownRecursive(join(path, name), user);
}

/** Whether `user` may pass through every directory down to `dir`. */
export function isReachable(dir: string, user: PgUser | undefined): boolean {
  return user === undefined || mayEnter(dir, user);
}

/**
 * @throws {ZenithError} `io` naming the first directory on the way to `dir` that `user` may not
 *   enter: under root's home directory, typically
 */
export function assertReachable(dir: string, user: PgUser | undefined): void {
  if (user === undefined || mayEnter(dir, user)) return;
  const ancestors: string[] = [];
  for (let path = resolve(dir);; path = dirname(path)) {
    ancestors.unshift(path);
    if (dirname(path) === path) break;
  }
  const closed = ancestors.find((path) => !mayEnter(path, user)) ?? dir;
  throw new ZenithError(
    "io",
    `user ${user.name}, whom PostgreSQL runs as, can't reach ${dir}: ${closed} is closed to it`,
    {
      hint: `run "chmod a+x ${closed}", or choose a place that is open to that user (ZENITH_REPO_DIR)`,
    },
  );
}

function mayEnter(dir: string, user: PgUser): boolean {
  if (isPlainlyOpen(dir, user)) return true;
  // Access lists and groups are the kernel's to judge.
  return spawnSync("test", ["-x", dir], { ...asUser(user), stdio: "ignore", cwd: "/" }).status === 0;
}

const EXECUTE_BY_OWNER = 0o100;
const EXECUTE_BY_OTHERS = 0o001;

/**
 * Whether mode bits alone say that `user` may enter `dir` and all above it: a process need not be
 * started to find out.
 */
function isPlainlyOpen(dir: string, user: PgUser): boolean {
  try {
    for (let path = realpathSync(dir);; path = dirname(path)) {
      const { uid, gid, mode } = statSync(path);
      if (
        uid === user.uid
          ? (mode & EXECUTE_BY_OWNER) === 0
          : gid === user.gid || (mode & EXECUTE_BY_OTHERS) === 0
      ) {
        return false;
      }
      if (dirname(path) === path) return true;
    }
  } catch {
    return false;
  }
}
