/**
 * Tablespaces where their users said. `pg_tblspc` has a link with that location, as SQL shows it
 * and a dump needs it. Postgres alone finds at the location what this compute has of the
 * tablespace: it runs in a mount namespace of its own, where that covers whatever is there for all
 * others. So two computes of one branch's history never write to one directory.
 */
import { spawnSync } from "node:child_process";
import {
  mkdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, isAbsolute, join } from "node:path";
import { errorMessage, ioError, systemErrorCode } from "../../common/errors.ts";
import { ForeignDirectory, removeForeignTree } from "../../common/foreign_directory.ts";
import type { ComputePaths } from "../../common/paths.ts";
import { asUser, type PgUser } from "../../pg_install/pg_user.ts";
import { tablespaceVersionDirectory } from "../../postgres/cluster/cluster_format.ts";
import { pgVersion } from "../../postgres/versions/find_version.ts";
import { findProgram } from "../../process/find_program.ts";
import type { Logger } from "../../process/log.ts";
import { decodeTablespaceMap, TABLESPACE_MAP_FILE } from "../../protocol/tablespace_map.ts";

/** A location that Postgres finds covered by a directory of this compute. */
export interface Cover {
  readonly source: string;
  /** Without links in it. */
  readonly location: string;
}

/** Where a tablespace's user has put it. */
interface Location {
  /** As SQL has it. */
  readonly given: string;
  /** Without links in it. */
  readonly real: string;
}

/** The locations of tablespaces that are to be covered, by their OIDs. */
export type Locations = ReadonlyMap<number, Location>;

const TABLESPACES = "pg_tblspc";
const MAP_MAX_BYTES = 1 << 20;
const PROGRAMS = ["unshare", "setpriv", "mount", "sh", "readlink", "stat", "rm"];

/** Reads a basebackup's list, and removes it. */
export function takeTablespaceMap(pgdata: string): ReadonlyMap<number, string> {
  using directory = ForeignDirectory.open(pgdata);
  if (directory.lstat(TABLESPACE_MAP_FILE) === undefined) return new Map();
  const locations = decodeTablespaceMap(directory.read(TABLESPACE_MAP_FILE, MAP_MAX_BYTES));
  directory.remove(TABLESPACE_MAP_FILE);
  return locations;
}

/**
 * The locations, if all of them can be covered; else why not, as a clause: the tablespaces are
 * directories below `pg_tblspc` then.
 *
 * @param needed directories that Postgres must find as they are
 */
export function chooseLocations(
  given: ReadonlyMap<number, string>,
  user: PgUser | undefined,
  needed: readonly string[],
): Locations | string {
  if (user === undefined) return "only root may cover a directory";
  const found = new Map<number, Location>();
  if (given.size === 0) return found;
  const why = whyNoNamespace(needed[0]);
  if (why !== undefined) return why;
  for (const [oid, location] of given) {
    const real = ownDirectory(location, user);
    // What CREATE TABLESPACE asks for. Whoever may write it covers nothing that others rely on.
    if (real === undefined) return `"${location}" is no directory of ${user.name}'s`;
    found.set(oid, { given: location, real });
  }
  const all = Array.from(found.values(), ({ real }) => real);
  const others = needed.map((path) => realpathSync(path));
  for (const real of all) {
    if (others.some((other) => isWithin(other, real) || isWithin(real, other))) {
      return `${real} has to do with what Postgres itself needs`;
    }
    if (all.filter((other) => isWithin(other, real)).length > 1) return `others are within ${real}`;
  }
  return found;
}

/** Containers may keep root from it. @param directory any */
function whyNoNamespace(directory: string): string | undefined {
  const missing = PROGRAMS.find((name) => findProgram(name) === undefined);
  if (missing !== undefined) return `there is no ${missing} program`;
  const args = ["--mount", "--propagation", "slave", "mount", "--bind", directory, directory];
  const run = spawnSync("unshare", args, { encoding: "utf8" });
  return run.status === 0 ? undefined : `unshare and mount: ${(run.stderr ?? "").trim().split("\n")[0]}`;
}

function ownDirectory(location: string, user: PgUser): string | undefined {
  const real = realLocation(location);
  if (real === undefined) return undefined;
  const stat = statSync(real, { throwIfNoEntry: false });
  return stat?.isDirectory() === true && stat.uid === user.uid ? real : undefined;
}

function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory.endsWith("/") ? directory : `${directory}/`);
}

/**
 * Puts links in the place of an eager compute's tablespaces, whose content moves to what covers
 * their locations.
 */
export function linkTablespaces(paths: ComputePaths, locations: Locations): Cover[] {
  const covers: Cover[] = [];
  try {
    mkdirSync(paths.tablespaces, { recursive: true, mode: 0o700 });
    using pgdata = ForeignDirectory.open(paths.pgdata);
    using tablespaces = pgdata.directory(TABLESPACES);
    for (const [oid, { given, real }] of locations) {
      const source = join(realpathSync(paths.tablespaces), String(oid));
      tablespaces.moveTo(String(oid), source);
      tablespaces.link(String(oid), given);
      covers.push({ source, location: real });
    }
  } catch (error) {
    throw ioError("set up", paths.tablespaces, error);
  }
  noteCovered(paths, covers);
  return covers;
}

/**
 * Makes the `pg_tblspc` of a lazy compute, whose tablespaces are in the mount.
 *
 * @param pgdata has none yet
 */
export function linkMountedTablespaces(
  paths: ComputePaths,
  pgdata: ForeignDirectory,
  locations: Locations,
  user: PgUser | undefined,
): Cover[] {
  using tablespaces = pgdata.makeDirectory(TABLESPACES, user);
  const mount = join(realpathSync(paths.dir), basename(paths.mount));
  const covers: Cover[] = [];
  for (const [oid, { given, real }] of locations) {
    tablespaces.link(String(oid), given);
    covers.push({ source: join(mount, TABLESPACES, String(oid)), location: real });
  }
  noteCovered(paths, covers);
  return covers;
}

/** Before Postgres can make anything at a location: what it makes at these is in their covers. */
function noteCovered(paths: ComputePaths, covers: readonly Cover[]): void {
  if (covers.length === 0) return;
  try {
    writeFileSync(paths.coveredLocations, `${JSON.stringify(covers.map(({ location }) => location))}\n`);
  } catch (error) {
    throw ioError("write", paths.coveredLocations, error);
  }
}

/**
 * Covers each location with its source, and becomes the program. Both are opened and looked at
 * first, because they can be changed by whom we protect others from.
 */
const COVER_SCRIPT = `
uid=$1; shift
while [ "$1" != -- ]; do
  exec 3< "$1" 4< "$2" || exit 1
  if [ "$(readlink /proc/self/fd/3)" != "$1" ] || [ "$(readlink /proc/self/fd/4)" != "$2" ] ||
    [ "$(stat -L -c %u /proc/self/fd/4)" != "$uid" ]; then
    echo "FATAL:  the location $2 of a tablespace was changed while Postgres started" >&2
    exit 1
  fi
  mount --no-canonicalize --bind /proc/self/fd/3 /proc/self/fd/4 || exit 1
  exec 3<&- 4<&-
  shift 2
done
shift
exec "$@"`;

/** How to run a program as a user who finds the covers in place. */
export function inNamespace(
  covers: readonly Cover[],
  user: PgUser | undefined,
  command: { readonly file: string; readonly args: readonly string[] },
): { file: string; args: string[]; user: PgUser | undefined } {
  if (covers.length === 0 || user === undefined) return { ...command, args: [...command.args], user };
  const mounts = covers.flatMap(({ source, location }) => [source, location]);
  const drop = ["setpriv", "--reuid", String(user.uid), "--regid", String(user.gid), "--clear-groups", "--"];
  return {
    file: "unshare",
    args: [
      ...["--mount", "--propagation", "slave", "sh", "-c", COVER_SCRIPT, "sh", String(user.uid)],
      ...[...mounts, "--", ...drop, command.file, ...command.args],
    ],
    user: undefined,
  };
}

/**
 * Removes what a Postgres that has ended has left at the locations of the tablespaces that it made:
 * they are this run's, and everything is at the page server. As the user that Postgres ran as, who
 * says where they are. The links go too: nobody may find them once it is forgotten what was
 * covered.
 */
export function removeLeftTablespaces(paths: ComputePaths, user: PgUser | undefined, log: Logger): void {
  try {
    using pgdata = ForeignDirectory.open(paths.pgdata);
    // A link is a mount's.
    if (pgdata.lstat(TABLESPACES)?.isDirectory() === true && pgdata.lstat("PG_VERSION") !== undefined) {
      const major = Number(new TextDecoder().decode(pgdata.read("PG_VERSION", 16)).trim());
      const version = tablespaceVersionDirectory(pgVersion(major));
      const covered = readCovered(paths);
      using tablespaces = pgdata.directory(TABLESPACES);
      for (const name of tablespaces.names()) {
        if (tablespaces.lstat(name)?.isSymbolicLink() !== true) continue;
        const location = realLocation(readlinkSync(`${tablespaces.descriptorPath}/${name}`));
        if (location !== undefined && !covered.some((directory) => isWithin(location, directory))) {
          removeAs(user, join(location, version), log);
        }
        tablespaces.remove(name);
      }
    }
    rmSync(paths.coveredLocations, { force: true });
    removeForeignTree(paths.tablespaces);
  } catch (error) {
    log.warn(`could not remove what tablespaces have left behind: ${errorMessage(error)}`, { err: error });
  }
}

function removeAs(user: PgUser | undefined, directory: string, log: Logger): void {
  const run = spawnSync("rm", ["-rf", "--", directory], { ...asUser(user), cwd: "/", encoding: "utf8" });
  if (run.status !== 0) log.warn(`could not remove ${directory}: ${run.stderr ?? run.error}`);
}

function realLocation(location: string): string | undefined {
  try {
    return isAbsolute(location) ? realpathSync(location) : undefined;
  } catch {
    return undefined;
  }
}

function readCovered(paths: ComputePaths): string[] {
  try {
    return JSON.parse(readFileSync(paths.coveredLocations, "utf8"));
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return [];
    throw ioError("read", paths.coveredLocations, error);
  }
}
