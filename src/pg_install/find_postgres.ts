/**
 * Finds the PostgreSQL installations that computes run and that create new tenants, one for each
 * major. Zenith needs no patched PostgreSQL: the distribution's package, a user's own build, or the
 * npm package with the binaries will do.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { errorMessage, ZenithError } from "../common/errors.ts";
import { POSTGRES_MAJORS, postgresMajorsInWords } from "../common/postgres_major.ts";
import { prepareBuiltIn } from "./built_in_postgres.ts";
import { findEmbedded, prepareEmbedded } from "./embedded_postgres.ts";

/** Where distributions with Debian's layout put PostgreSQL, each major in its own directory. */
export const SYSTEM_ROOT = "/usr/lib/postgresql";

/** The possible names of a major's directory below the one that POSTGRES_DISTRIB_DIR names. */
const MAJOR_DIRECTORIES = [(major: number) => `v${major}`, (major: number) => String(major)];

/** Where a PostgreSQL installation is. */
export interface PostgresLocation {
  readonly major: number;
  /** The directory above `bin`. */
  readonly distribDir: string;
  readonly binDir: string;
  readonly source: "configured" | "system" | "built in" | "embedded";
  /** A description for messages. */
  readonly what: string;
}

/**
 * A PostgreSQL installation that has been checked: it can be run, and it has the expected major.
 */
export interface PostgresInstall extends PostgresLocation {
  /** As `postgres -V` prints it, e.g. `15.18`. */
  readonly version: string;
}

export interface FindPostgresOptions {
  /**
   * `--pg-distrib-dir`, or the setting in the environment's configuration. It takes precedence for
   * the majors that it has.
   */
  readonly distribDir?: string | undefined;
  /** Replaces `process.env`, for tests. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /**
   * Where to start looking for a `node_modules` upwards. Defaults to this executable, this source
   * file and the working directory.
   */
  readonly searchFrom?: readonly string[];
  /** Replaces `/usr/lib/postgresql`, for tests. */
  readonly systemRoot?: string;
}

/**
 * Finds an installation of a major. Looks in this order: `distribDir`, `$POSTGRES_DISTRIB_DIR`,
 * `/usr/lib/postgresql/<major>`, inside this executable, npm's packages in a `node_modules` above
 * the executable or the working directory. Each of the first two may be an installation, or may
 * have a directory for each major (`v17` or `17`). For a major that they don't have, the search
 * goes on.
 *
 * @throws {ZenithError} `not_found` when there is none, `invalid_argument` when a configured one is
 *   unusable
 */
export function findPostgres(major: number, options: FindPostgresOptions = {}): PostgresInstall {
  return inspect(locatePostgres(major, options));
}

/**
 * Like {@link findPostgres}, but doesn't run the program to check its version, which takes tens of
 * milliseconds. For callers whose Postgres itself notices a data directory of another major.
 *
 * @throws {ZenithError} `not_found`, `invalid_argument`
 */
export function locatePostgres(major: number, options: FindPostgresOptions = {}): PostgresLocation {
  assertKnown(major);
  const found = locateConfigured(major, options) ?? locateElsewhere(major, options);
  if (found !== undefined) return found;
  throw new ZenithError("not_found", `no PostgreSQL ${major} found: ${whereItIsNot(major, options)}`, {
    hint:
      `install PostgreSQL ${major} (Debian: postgresql-${major}), or set POSTGRES_DISTRIB_DIR to the directory above ` +
      `its bin/; in a checkout "npm run postgres" fetches every major, and "npm run build -- --with-postgres ${major}" makes ` +
      "an executable that needs none",
  });
}

/**
 * Finds the newest installation. A new tenant gets it when no major is given. A configured one
 * takes precedence over newer ones elsewhere.
 *
 * @throws {ZenithError} `not_found`, `invalid_argument`
 */
export function findNewestPostgres(options: FindPostgresOptions = {}): PostgresInstall {
  const newestFirst = [...POSTGRES_MAJORS].reverse();
  for (const locate of [locateConfigured, locateElsewhere]) {
    for (const major of newestFirst) {
      const found = locate(major, options);
      if (found !== undefined) return inspect(found);
    }
  }
  // Ask for the newest major: its message and hint are the right ones for a machine that has none.
  return findPostgres(newestFirst[0], options);
}

/**
 * Finds an installation of each major, oldest first. Leaves out majors that are not installed.
 *
 * @throws {ZenithError} `invalid_argument` when one is unusable
 */
export function findAllPostgres(options: FindPostgresOptions = {}): PostgresInstall[] {
  return POSTGRES_MAJORS.flatMap((major) => {
    const found = locateConfigured(major, options) ?? locateElsewhere(major, options);
    return found === undefined ? [] : [inspect(found)];
  });
}

/**
 * Returns the psql of the newest installation that has one. Undefined when none has, as is the case
 * for npm's packages.
 */
export function findPsql(options: FindPostgresOptions = {}): string | undefined {
  return findAllPostgres(options).map(({ binDir }) => join(binDir, "psql")).findLast((path) =>
    existsSync(path)
  );
}

function assertKnown(major: number): void {
  if (POSTGRES_MAJORS.includes(major)) return;
  throw new ZenithError("invalid_argument", `this Zenith does not run PostgreSQL ${major}`, {
    hint: `it runs ${postgresMajorsInWords()}`,
  });
}

/** A directory that a user has configured, and by what means. */
interface Configured {
  readonly dir: string;
  readonly what: string;
}

function configured({ distribDir, env = process.env }: FindPostgresOptions): Configured[] {
  const named: Configured[] = [];
  if (distribDir !== undefined && distribDir !== "") {
    named.push({ dir: resolve(distribDir), what: "the configured pg_distrib_dir" });
  }
  const fromEnv = env["POSTGRES_DISTRIB_DIR"];
  if (fromEnv !== undefined && fromEnv !== "") {
    named.push({ dir: resolve(fromEnv), what: "POSTGRES_DISTRIB_DIR" });
  }
  return named;
}

function locateConfigured(major: number, options: FindPostgresOptions): PostgresLocation | undefined {
  for (const { dir, what } of configured(options)) {
    const found = locateIn(dir, major, what);
    if (found !== undefined) return found;
  }
  return undefined;
}

/**
 * @throws {ZenithError} `invalid_argument` when the directory has no PostgreSQL that Zenith runs
 */
function locateIn(dir: string, major: number, what: string): PostgresLocation | undefined {
  if (isInstallation(dir)) {
    const location = at(dir, major, "configured", what);
    const version = askVersion(location);
    if (majorOf(version) === major) return location;
    if (POSTGRES_MAJORS.includes(majorOf(version))) return undefined;
    throw new ZenithError(
      "invalid_argument",
      `${what}, ${dir}, is PostgreSQL ${version}: this Zenith runs PostgreSQL ${postgresMajorsInWords()}`,
      { hint: "set POSTGRES_DISTRIB_DIR or --pg-distrib-dir to one of those, or leave it out" },
    );
  }
  for (const name of MAJOR_DIRECTORIES) {
    const below = join(dir, name(major));
    if (isInstallation(below)) return at(below, major, "configured", what);
  }
  const hasAny = POSTGRES_MAJORS.some((any) =>
    MAJOR_DIRECTORIES.some((name) => isInstallation(join(dir, name(any))))
  );
  if (hasAny) return undefined;
  const lack = existsSync(dir) ? `has no bin/${missingProgram(dir)}` : "does not exist";
  throw new ZenithError("invalid_argument", `${what}, ${dir}, ${lack}`, {
    hint:
      "name the directory above bin/ of a PostgreSQL server installation, or one that has a directory for each " +
      "major (v17 or 17), or leave it out: one that is installed is found by itself",
  });
}

function locateElsewhere(major: number, options: FindPostgresOptions): PostgresLocation | undefined {
  const systemDir = join(options.systemRoot ?? SYSTEM_ROOT, String(major));
  if (isInstallation(systemDir)) return at(systemDir, major, "system", "the installed PostgreSQL");
  const builtIn = prepareBuiltIn(major);
  if (builtIn !== undefined) return at(builtIn, major, "built in", "the built-in PostgreSQL");
  const embedded = findEmbedded(major, options.searchFrom);
  if (embedded === undefined) return undefined;
  return at(prepareEmbedded(embedded), major, "embedded", "the embedded PostgreSQL");
}

const PROGRAMS = ["postgres", "initdb"];

function missingProgram(dir: string): string | undefined {
  return PROGRAMS.find((program) => !existsSync(join(dir, "bin", program)));
}

function isInstallation(dir: string): boolean {
  return missingProgram(dir) === undefined;
}

function at(
  distribDir: string,
  major: number,
  source: PostgresLocation["source"],
  what: string,
): PostgresLocation {
  return { major, distribDir, binDir: join(distribDir, "bin"), source, what };
}

/** Lists the places that were searched, with what is there instead. */
function whereItIsNot(major: number, options: FindPostgresOptions): string {
  const named = configured(options).map(({ dir, what }) => {
    if (!isInstallation(dir)) return `${what}, ${dir}, has no v${major} or ${major}`;
    return `${what}, ${dir}, is PostgreSQL ${askVersion(at(dir, major, "configured", what))}`;
  });
  const systemDir = join(options.systemRoot ?? SYSTEM_ROOT, String(major));
  return [
    ...(named.length > 0 ? named : ["POSTGRES_DISTRIB_DIR is not set"]),
    `${systemDir} has none`,
    "npm's package of it is not installed",
  ].join(", ");
}

/**
 * Returns the version that `postgres -V` prints. @throws {ZenithError} `invalid_argument` when it
 * can't be run
 */
function askVersion({ binDir, distribDir, what }: PostgresLocation): string {
  const run = spawnSync(join(binDir, "postgres"), ["-V"], { encoding: "utf8" });
  if (run.error !== undefined || run.status !== 0) {
    const why = run.error !== undefined ? errorMessage(run.error) : run.stderr.trim();
    throw new ZenithError("invalid_argument", `${what}, ${distribDir}, can't be run: ${why}`);
  }
  const version = parsePostgresVersion(run.stdout);
  if (version !== undefined) return version;
  throw new ZenithError(
    "invalid_argument",
    `${what}, ${distribDir}, printed "${run.stdout.trim()}" where a version was expected`,
  );
}

function majorOf(version: string): number {
  return Number.parseInt(version, 10);
}

function inspect(location: PostgresLocation): PostgresInstall {
  const { major, distribDir, what } = location;
  const version = askVersion(location);
  if (majorOf(version) !== major) {
    throw new ZenithError(
      "invalid_argument",
      `${what}, ${distribDir}, is PostgreSQL ${version}: its place is that of PostgreSQL ${major}`,
      { hint: `put a PostgreSQL ${major} there, or set POSTGRES_DISTRIB_DIR or --pg-distrib-dir to one` },
    );
  }
  return { ...location, version };
}

/** `postgres (PostgreSQL) 15.18 (Debian …)` → `15.18`; also `16beta1`, `17devel`. */
export function parsePostgresVersion(output: string): string | undefined {
  return /\(PostgreSQL\)\s+(\d+(?:\.\d+)*[a-z0-9]*)/.exec(output)?.[1];
}
