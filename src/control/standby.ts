/** What a stock standby of a branch needs: where its base and its WAL come from. */
import type { HostPort } from "../common/host_port.ts";
import { ZENITH_SUPERUSER } from "../pg_install/initdb.ts";
import { formatConnInfo } from "../pgwire/conninfo.ts";
import { SAFEKEEPER_USER, timelineOptions } from "../protocol/wal_connection.ts";
import type { ComputeInfo } from "./computes.ts";

/** After this, libpq tries the next safekeeper. */
const CONNECT_TIMEOUT_MS = 5_000;

/** Returns the arguments of the command that takes a standby's base. */
export function standbyBaseBackup({ address }: ComputeInfo, directory: string): string[] {
  const { host, port } = address;
  const connection = ["-h", host, "-p", String(port), "-U", ZENITH_SUPERUSER];
  return ["pg_basebackup", ...connection, "-c", "fast", "-D", directory];
}

/**
 * Returns a standby's `primary_conninfo`. It gets committed WAL from any of the safekeepers, which
 * send nothing else. Without safekeepers, only the branch's Postgres itself has WAL to send.
 */
export function standbyConnInfo({ tenant, identity, address }: ComputeInfo): string {
  const { walAcceptors, timeline } = identity;
  const [sources, user, options] = walAcceptors.length > 0
    ? [walAcceptors, SAFEKEEPER_USER, timelineOptions(tenant, timeline)]
    : [[address], ZENITH_SUPERUSER, undefined];
  const where = `host=${list(sources, "host")} port=${list(sources, "port")}`;
  return `${where} ${formatConnInfo({ user, options, connectTimeoutMs: CONNECT_TIMEOUT_MS })}`;
}

function list(addresses: readonly HostPort[], part: keyof HostPort): string {
  return addresses.map((address) => address[part]).join(",");
}
