/** What a stock standby of a branch needs: where its base and its WAL come from. */
import { withPassword } from "../compute/postgres/role_passwords.ts";
import { ZENITH_SUPERUSER } from "../pg_install/initdb.ts";
import { formatConnInfo } from "../pgwire/conninfo.ts";
import { standbyConnInfo } from "../protocol/wal_connection.ts";
import type { ComputeInfo } from "./computes.ts";

/**
 * Returns the arguments of the command that takes a standby's base. The password is not among them.
 */
export function standbyBaseBackup({ address }: ComputeInfo, directory: string): string[] {
  const { host, port } = address;
  const connection = ["-h", host, "-p", String(port), "-U", ZENITH_SUPERUSER];
  return ["pg_basebackup", ...connection, "-c", "fast", "-D", directory];
}

/**
 * Returns a standby's `primary_conninfo`. Without safekeepers, only the branch's Postgres itself
 * has WAL to send.
 */
export function primaryConnInfo({ tenant, identity, address, paths }: ComputeInfo): string {
  const { walAcceptors, timeline } = identity;
  return walAcceptors.length > 0
    ? standbyConnInfo(walAcceptors, tenant, timeline)
    : formatConnInfo({ ...address, user: ZENITH_SUPERUSER, password: withPassword(paths).password });
}
