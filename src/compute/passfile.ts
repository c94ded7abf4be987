/** Hands a token to Postgres's libpq: in a file, because its command line is for all to see. */
import { join } from "node:path";
import { readTokenFile } from "../auth/private_file.ts";
import { ioError, ZenithError } from "../common/errors.ts";
import { ForeignDirectory } from "../common/foreign_directory.ts";
import type { PgUser } from "../pg_install/pg_user.ts";

const NAME = "pgpass";

/** libpq ignores a password file that others may read. */
const MODE = 0o600;

/**
 * Writes a password file (libpq's fe-connect.c passwordFromFile) with a token for all servers.
 *
 * @param directory belongs to the user that Postgres runs as
 * @returns its path; undefined when there is no token
 * @throws {ZenithError} `io`; `invalid_argument` when `tokenFile` has something else
 */
export function writePassfile(
  directory: string,
  tokenFile: string,
  user: PgUser | undefined,
): string | undefined {
  const token = readTokenFile(tokenFile);
  if (token === undefined) return undefined;
  try {
    using opened = ForeignDirectory.open(directory);
    opened.replaceFile(NAME, new TextEncoder().encode(`*:*:*:*:${token}\n`), MODE, user);
  } catch (error) {
    throw error instanceof ZenithError ? error : ioError("write", join(directory, NAME), error);
  }
  return join(directory, NAME);
}
