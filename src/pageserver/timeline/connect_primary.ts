/** Connects to the walsender of a foreign primary. */
import type { PgClient } from "../../pgwire/client.ts";
import { connectForeignPrimary } from "../../protocol/connect.ts";

const CONNECT_TIMEOUT_MS = 10_000;

/**
 * @param source the primary's connection string
 * @param slot names the connection at the primary, if there is one
 * @throws {ZenithError} as `connectForeignPrimary`
 */
export function connectPrimary(source: string, slot: string | null, signal: AbortSignal): Promise<PgClient> {
  return connectForeignPrimary(source, {
    applicationName: slot ?? "zenith_follow",
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    signal,
  });
}
