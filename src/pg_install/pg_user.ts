/**
 * The users that PostgreSQL's programs run as. PostgreSQL refuses to run as root. When Zenith runs
 * as root, Postgres and initdb run as an unprivileged user, who owns the directories that they
 * write.
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
  /** The user is not in `/etc/passwd`. Postgres needs its name only in single-user mode. */
  readonly isNameless?: true;
}

/**
 * Options for `node:child_process` that make a child run as `user`. Empty when it should run as our
 * own user.
 */
export function asUser(user: PgUser | undefined): { uid?: number; gid?: number } {
  return user === undefined ? {} : { uid: user.uid, gid: user.gid };
}

/**
 * Returns the user that Postgres runs as: `$ZENITH_PG_USER`, or else `postgres` if that user
 * exists, or else `nobody`. Undefined when we aren't root, because Postgres then runs as our own
 * user.
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

/** Users that exist on every system. Nothing runs as one of them where Postgres runs as another. */
const QUIET_USERS = ["nobody", "daemon", "bin"];

/**
 * Returns the user that runs initdb, which makes the files of new tenants. It should not be
 * {@link pgUser}, as which every tenant's superuser can act: while initdb runs, that user must not
 * be able to change its files or look into its process.
 *
 * @param directories the directories that the user must be able to reach: initdb's own, and the one
 *   for the files
 * @returns `undefined` for our own user; the Postgres user if no other one will do
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

/** Returns the name of the user that this process runs as; undefined when that has none. */
export function ownUserName(): string | undefined {
  return userName(process.getuid!());
}

/** Returns a user's name; undefined when that has none. */
export function userName(uid: number): string | undefined {
  const fields = localUsers().split("\n").map((line) => line.split(":"))
    .find((fields) => fields[2] === String(uid));
  if (fields !== undefined) return fields[0];
  // id(1) finds users from other sources, such as LDAP.
  const run = spawnSync("id", ["-un", "--", String(uid)], { encoding: "utf8" });
  return run.status === 0 ? run.stdout.trim() : undefined;
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
 * Creates `dir` and its missing parents. `dir` becomes owner-only and `user`'s, as PostgreSQL
 * requires of a data directory. New parents remain ours, but others can pass through them. What the
 * former owner of `dir` owns inside it becomes `user`'s too: Postgres may have run as another user
 * before, such as nobody, until a package created the user postgres.
 *
 * @throws {ZenithError} when it can't be created, or `user` can't reach it
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
 * Gives a directory to `user`, with what its former owner owns inside it. If that was root, only
 * the directory itself: anything may be inside it.
 */
function handOver(directory: ForeignDirectory, user: PgUser): void {
  const formerUid = directory.stat().uid;
  if (formerUid === user.uid) return;
  if (formerUid === ROOT_UID) directory.setOwner(user);
  else directory.handOver(formerUid, user);
}

/**
 * PostgreSQL does not start on a directory that others may read, or that its owner may not. A
 * restored copy may be either.
 */
const OPEN_TO_OTHERS = 0o027;
const OPEN_TO_OWNER = 0o700;

/** Gives a data directory the mode that PostgreSQL requires, unless it has it already. */
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
 * Gives `path` and everything below it to `user`. Does nothing when `user` is undefined. Use it
 * only on trees that nobody else can write meanwhile, and {@link ForeignDirectory} on others.
 */
export function chownRecursive(path: string, user: Pick<PgUser, "uid" | "gid"> | undefined): void {
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
 * @throws {ZenithError} `io`, naming the first directory on the way to `dir` that `user` may not
 *   enter: typically one under root's home directory
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
  // Only the kernel can judge access lists and groups.
  return spawnSync("test", ["-x", dir], { ...asUser(user), stdio: "ignore", cwd: "/" }).status === 0;
}

const EXECUTE_BY_OWNER = 0o100;
const EXECUTE_BY_GROUP = 0o010;
const EXECUTE_BY_OTHERS = 0o001;

/**
 * Whether the mode bits alone show that `user` may enter `dir` and everything above it. This avoids
 * starting a process to find out.
 */
function isPlainlyOpen(dir: string, user: PgUser): boolean {
  try {
    for (let path = realpathSync(dir);; path = dirname(path)) {
      const { uid, gid, mode } = statSync(path);
      if (
        uid === user.uid
          ? (mode & EXECUTE_BY_OWNER) === 0
          : (mode & (gid === user.gid ? EXECUTE_BY_GROUP : EXECUTE_BY_OTHERS)) === 0
      ) {
        return false;
      }
      if (dirname(path) === path) return true;
    }
  } catch {
    return false;
  }
}
