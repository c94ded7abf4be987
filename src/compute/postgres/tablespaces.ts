/**
 * Shows tablespaces at the locations that their users gave. `pg_tblspc` has a link to the location,
 * as SQL shows it and a dump needs it. Only Postgres finds this compute's content of the tablespace
 * there: it runs in its own mount namespace, in which that content covers what everybody else sees.
 * So two computes on one branch's history never write to the same directory.
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

/** A location that is covered, for Postgres, by a directory of this compute. */
export interface Cover {
  readonly source: string;
  /** A path without links. */
  readonly location: string;
}

/** The location that a user gave a tablespace. */
interface Location {
  /** The path as SQL has it. */
  readonly given: string;
  /** The path without links. */
  readonly real: string;
}

/** The locations of tablespaces to cover, by the tablespaces' OIDs. */
export type Locations = ReadonlyMap<number, Location>;

const TABLESPACES = "pg_tblspc";
const MAP_MAX_BYTES = 1 << 20;
const PROGRAMS = ["unshare", "setpriv", "mount", "sh", "readlink", "stat", "rm"];

/** Reads the list of tablespaces that a basebackup has brought, and removes it. */
export function takeTablespaceMap(pgdata: string): ReadonlyMap<number, string> {
  using directory = ForeignDirectory.open(pgdata);
  if (directory.lstat(TABLESPACE_MAP_FILE) === undefined) return new Map();
  const locations = decodeTablespaceMap(directory.read(TABLESPACE_MAP_FILE, MAP_MAX_BYTES));
  directory.remove(TABLESPACE_MAP_FILE);
  return locations;
}

/**
 * Returns the locations if all of them can be covered. Otherwise returns the reason why not, as a
 * clause, and the tablespaces are directories below `pg_tblspc`.
 *
 * @param needed directories that Postgres must find uncovered
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
    // CREATE TABLESPACE requires this too. A user who may write to the directory covers nothing
    // that others rely on.
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

/**
 * Returns why we can't have a mount namespace: containers may forbid it even to root.
 *
 * @param directory any directory
 */
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
 * Replaces an eager compute's tablespaces with links. Their content moves to the directories that
 * cover their locations.
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
 * Creates the `pg_tblspc` of a lazy compute, whose tablespaces are in the mount.
 *
 * @param pgdata does not have one yet
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

/**
 * Records which locations are covered. This must happen before Postgres can create anything at a
 * location: at these locations, it is created in their covers.
 */
function noteCovered(paths: ComputePaths, covers: readonly Cover[]): void {
  if (covers.length === 0) return;
  try {
    writeFileSync(paths.coveredLocations, `${JSON.stringify(covers.map(({ location }) => location))}\n`);
  } catch (error) {
    throw ioError("write", paths.coveredLocations, error);
  }
}

/**
 * Covers each location with its source, then becomes the program. It opens and checks both paths
 * first, because those from whom we protect others can change them.
 */
const COVER_SCRIPT = `
uid=$1
if [ -n "$2" ]; then mount --bind "$2" /etc/passwd || exit 1; fi
shift 2
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

/**
 * Wraps a command so that it runs as a user and finds the covers in place.
 *
 * @param passwd a file that it finds as `/etc/passwd`
 */
export function inNamespace(
  covers: readonly Cover[],
  user: PgUser | undefined,
  command: { readonly file: string; readonly args: readonly string[] },
  passwd?: string,
): { file: string; args: string[]; user: PgUser | undefined } {
  if (covers.length === 0 && passwd === undefined || user === undefined) {
    return { ...command, args: [...command.args], user };
  }
  const mounts = covers.flatMap(({ source, location }) => [source, location]);
  const drop = ["setpriv", "--reuid", String(user.uid), "--regid", String(user.gid), "--clear-groups", "--"];
  return {
    file: "unshare",
    args: [
      ...[
        "--mount",
        "--propagation",
        "slave",
        "sh",
        "-c",
        COVER_SCRIPT,
        "sh",
        String(user.uid),
        passwd ?? "",
      ],
      ...[...mounts, "--", ...drop, command.file, ...command.args],
    ],
    user: undefined,
  };
}

/**
 * Removes what a Postgres that has ended left at the locations of the tablespaces that it created.
 * That belongs to this run alone, and the page server has all of it. It is removed as the user that
 * Postgres ran as, because that user determines the locations. The links are removed too: nobody
 * must follow them once it is forgotten which locations were covered.
 */
export function removeLeftTablespaces(paths: ComputePaths, user: PgUser | undefined, log: Logger): void {
  try {
    using pgdata = ForeignDirectory.open(paths.pgdata);
    // If it is a link, it leads into a mount.
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
