/** Finds a pg_dump that can dump a server. One of an older major than the server refuses to. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ZenithError } from "../common/errors.ts";
import { POSTGRES_MAJORS } from "../common/postgres_major.ts";
import { findProgram } from "../process/find_program.ts";
import { findAllPostgres, type FindPostgresOptions, SYSTEM_ROOT } from "./find_postgres.ts";

/**
 * Returns the path of a pg_dump of this major, or else of the nearest newer one. Looks beside each
 * PostgreSQL that Zenith finds, in the directories of Debian's client packages, and on `$PATH`.
 *
 * @throws {ZenithError} `not_found`
 */
export function findPgDump(major: number, options: FindPostgresOptions = {}): string {
  const system = options.systemRoot ?? SYSTEM_ROOT;
  const onPath = findProgram("pg_dump");
  const paths = [
    ...findAllPostgres(options).map(({ binDir }) => join(binDir, "pg_dump")),
    ...POSTGRES_MAJORS.map((other) => join(system, String(other), "bin", "pg_dump")),
    ...(onPath === undefined ? [] : [onPath]),
  ];
  const found = [...new Set(paths)].filter((path) => existsSync(path))
    .map((path) => ({ path, major: majorOf(path) }));
  const fit = found.filter((program) => program.major >= major).sort((x, y) => x.major - y.major);
  if (fit.length > 0) return fit[0].path;
  const others = found.filter((program) => program.major > 0)
    .map((program) => `${program.path} is of ${program.major}`);
  throw new ZenithError(
    "not_found",
    `there is no pg_dump for PostgreSQL ${major}${others.length === 0 ? "" : `: ${others.join(", ")}`}`,
    { hint: `install one of ${major} or newer (Debian: postgresql-client-${major})` },
  );
}

/** Returns 0 when it can't be run. */
function majorOf(path: string): number {
  const run = spawnSync(path, ["--version"], { encoding: "utf8" });
  return Number(/\(PostgreSQL\) (\d+)/.exec(run.stdout ?? "")?.[1] ?? 0);
}
