/**
 * Hands a token and certificates to Postgres's libpq: in files of Postgres's own user, because its
 * command line is for all to see.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { readTokenFile } from "../auth/private_file.ts";
import { withIoErrors } from "../common/errors.ts";
import { ForeignDirectory } from "../common/foreign_directory.ts";
import type { PgUser } from "../pg_install/pg_user.ts";

const PASSFILE = "pgpass";
const CA_FILE = "ca.pem";

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
  return write(directory, PASSFILE, new TextEncoder().encode(`*:*:*:*:${token}\n`), user);
}

/**
 * Copies the certificates by which servers are recognized. A missing file is left missing: without
 * it, libpq connects to no server that has to be recognized.
 *
 * @returns the copy's path
 * @throws {ZenithError} `io`
 */
export function copyAuthority(directory: string, caFile: string, user: PgUser | undefined): string {
  if (!existsSync(caFile)) return join(directory, CA_FILE);
  const certificates = withIoErrors("read", caFile, () => readFileSync(caFile));
  return write(directory, CA_FILE, certificates, user);
}

function write(directory: string, name: string, content: Uint8Array, user: PgUser | undefined): string {
  const path = join(directory, name);
  withIoErrors("write", path, () => {
    using opened = ForeignDirectory.open(directory);
    opened.replaceFile(name, content, MODE, user);
  });
  return path;
}
