/** Which PostgreSQL the tests run. Existing tests, and programs that only Debian's packages have, are of 15. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parsePostgresMajor } from "../../src/common/postgres_major.ts";
import { findAllPostgres, findPostgres, type PostgresInstall } from "../../src/pg_install/find_postgres.ts";

const VARIABLE = "ZENITH_TEST_PG_VERSION";
const DEFAULT_MAJOR = "15";

/** `$ZENITH_TEST_PG_VERSION`, else 15. */
export const TEST_PG_MAJOR = parsePostgresMajor(process.env[VARIABLE] || DEFAULT_MAJOR, VARIABLE);

/** For pg_ctl's -t: a recovery takes its time on a machine that has other things to do. */
export const PG_CTL_TIMEOUT_S = "300";

/** The installation of that major. */
export function testPostgres(): PostgresInstall {
  return findPostgres(TEST_PG_MAJOR);
}

/**
 * A client program: beside that installation's server, else the newest that there is. npm's packages have none, and psql,
 * pgbench and pg_amcheck of one major speak to all others.
 *
 * @throws {Error} when no installation has it
 */
export function clientProgram(name: string): string {
  const candidates = [testPostgres(), ...findAllPostgres().reverse()].map(({ binDir }) => join(binDir, name));
  const found = candidates.find((path) => existsSync(path));
  if (found === undefined) throw new Error(`no PostgreSQL here has ${name}`);
  return found;
}
