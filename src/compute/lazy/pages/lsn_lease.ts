/**
 * Protects the LSN at which pages are read against garbage collection, for as long as the compute
 * runs.
 */
import { randomBytes } from "node:crypto";
import { errorMessage, ZenithError } from "../../../common/errors.ts";
import type { TenantId, TimelineId } from "../../../common/id.ts";
import type { Logger } from "../../../process/log.ts";
import { formatLsn, type Lsn } from "../../../common/lsn.ts";
import { sleep } from "../../../common/sleep.ts";
import { call } from "../../../protocol/call.ts";
import { withConnection } from "../../../protocol/calls_in_a_row.ts";
import { connectServer, type ServerAddress, serverName } from "../../../protocol/connect.ts";
import { PAGE_SERVER } from "../../../protocol/management.ts";
import { COMPUTE_NAME } from "../../../protocol/wal_connection.ts";

export interface LsnLeaseOptions {
  readonly pageServer: ServerAddress;
  readonly tenant: TenantId;
  readonly timeline: TimelineId;
  readonly lsn: Lsn;
  readonly log: Logger;
  /** Called when the pages as of the LSN are gone. */
  readonly onLost: (error: ZenithError) => void;
  /** Defaults to {@link RENEW_MS}. */
  readonly renewMs?: number;
}

/** Long enough for a page server to go away and come back. */
const DURATION_MS = 60 * 60_000;
const RENEW_MS = 5 * 60_000;
/** The pause after a failure. */
const RETRY_MS = 10_000;

/**
 * A lease that nobody releases expires by itself, so a stop does not wait longer for a page server
 * that is away.
 */
const RELEASE_TIMEOUT_MS = 2_000;

/** Takes the lease now, renews it until `signal` is aborted, then releases it. Never rejects. */
export async function keepLsnLeased(options: LsnLeaseOptions, signal: AbortSignal): Promise<void> {
  const holder = randomBytes(16).toString("hex");
  await renewUntil(options, holder, signal);
  if (!signal.aborted) return;
  try {
    await releaseLease(options, holder);
  } catch (error) {
    options.log.info(
      `the lease on ${formatLsn(options.lsn)} is not given up before its end: ${errorMessage(error)}`,
    );
  }
}

async function renewUntil(options: LsnLeaseOptions, holder: string, signal: AbortSignal): Promise<void> {
  const { log, onLost, renewMs = RENEW_MS } = options;
  while (!signal.aborted) {
    let nextMs = renewMs;
    try {
      await takeLease(options, holder, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ZenithError && isFinal(error)) {
        onLost(error);
        return;
      }
      log.warn(`could not renew the lease on ${formatLsn(options.lsn)}: ${errorMessage(error)}`);
      nextMs = Math.min(RETRY_MS, renewMs);
    }
    await sleep(nextMs, signal);
  }
}

/** Whether the page server has refused the lease, as opposed to not answering. */
function isFinal(error: ZenithError): boolean {
  return error.kind === "out_of_range" || error.kind === "not_found";
}

async function takeLease(options: LsnLeaseOptions, holder: string, signal: AbortSignal): Promise<void> {
  const { pageServer, tenant, timeline, lsn } = options;
  const args = { tenant, timeline, lsn, duration: DURATION_MS, holder };
  const lease = await withConnection(
    "page server",
    pageServer,
    { applicationName: COMPUTE_NAME, signal },
    (client) => call(client, serverName("page server", pageServer), PAGE_SERVER.leaseLsn, args),
  );
  if (lease.lsn === lsn) return;
  throw new ZenithError(
    "out_of_range",
    `asked for a lease on ${formatLsn(lsn)}, got one on ${formatLsn(lease.lsn)}`,
  );
}

async function releaseLease(
  { pageServer, tenant, timeline, lsn }: LsnLeaseOptions,
  holder: string,
): Promise<void> {
  await using client = await connectServer("page server", pageServer, {
    applicationName: COMPUTE_NAME,
    signal: AbortSignal.timeout(RELEASE_TIMEOUT_MS),
  });
  const server = serverName("page server", pageServer);
  await call(client, server, PAGE_SERVER.leaseRelease, { tenant, timeline, lsn, holder });
}
