/** What a stock standby of a branch needs: where its base and its WAL come from. */
import { superuserOf } from "../compute/postgres/postgres_conf.ts";
import { withPassword } from "../compute/postgres/role_passwords.ts";
import { formatConnInfo } from "../pgwire/conninfo.ts";
import { existsSync, readFileSync } from "node:fs";
import { withIoErrors } from "../common/errors.ts";
import { isLoopback } from "../common/host_port.ts";
import { signingKeyId } from "../auth/key_files.ts";
import { standbyConnInfo } from "../protocol/wal_connection.ts";
import type { ComputeInfo } from "./computes.ts";
import { authorityFile, type Environment } from "./environment.ts";
import { createToken } from "./tokens.ts";

/** Where a standby has the certificates of the safekeepers' authority: in its data directory. */
export const STANDBY_CA_FILE = "zenith_ca.pem";

/** The content of that file. Null when the safekeepers are on this machine alone. */
export function standbyAuthority(environment: Environment, { identity }: ComputeInfo): string | null {
  const file = authorityFile(environment);
  if (identity.walAcceptors.every(({ host }) => isLoopback(host)) || !existsSync(file)) return null;
  return withIoErrors("read", file, () => readFileSync(file, "utf8"));
}

/**
 * Returns the arguments of the command that takes a standby's base. The password is not among them.
 */
export function standbyBaseBackup({ address, paths }: ComputeInfo, directory: string): string[] {
  const { host, port } = address;
  const connection = ["-h", host, "-p", String(port), "-U", superuserOf(paths.pgdata)];
  return ["pg_basebackup", ...connection, "-c", "fast", "-D", directory];
}

/**
 * Makes a token by which a standby reads the branch's WAL from the safekeepers. Undefined when they
 * ask for none, or when another environment would have to make it.
 */
export async function standbyToken(
  environment: Environment,
  { name, tenant, identity: { timeline, walAcceptors } }: ComputeInfo,
): Promise<string | undefined> {
  const { auth } = environment.paths;
  if (walAcceptors.length === 0 || signingKeyId(auth) === undefined) return undefined;
  const grant = { scope: "read", tenant, timeline } as const;
  return (await createToken(auth, `a standby of ${name}`, grant, undefined)).text;
}

/**
 * Returns a standby's `primary_conninfo`. Without safekeepers, only the branch's Postgres itself
 * has WAL to send.
 *
 * @param token for the safekeepers
 */
export function primaryConnInfo(
  { tenant, identity, address, paths }: ComputeInfo,
  token: string | undefined,
): string {
  const { walAcceptors, timeline } = identity;
  const { user, password } = withPassword(paths);
  return walAcceptors.length > 0
    ? standbyConnInfo(walAcceptors, tenant, timeline, { password: token, caFile: STANDBY_CA_FILE })
    : formatConnInfo({ ...address, user: user!, password });
}
