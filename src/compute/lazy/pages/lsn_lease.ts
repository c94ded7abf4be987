/** Keeps the LSN that pages are read at from being garbage collected, for as long as the compute runs. */
import { errorMessage, ZenithError } from "../../../common/errors.ts";
import type { HostPort } from "../../../common/host_port.ts";
import type { TenantId, TimelineId } from "../../../common/id.ts";
import type { Logger } from "../../../process/log.ts";
import { formatLsn, type Lsn, parseLsn } from "../../../common/lsn.ts";
import { sleep } from "../../../common/sleep.ts";
import { PgClient } from "../../../pgwire/client.ts";

export interface LsnLeaseOptions {
  readonly pageServer: HostPort;
  readonly user: string;
  readonly tenant: TenantId;
  readonly timeline: TimelineId;
  readonly lsn: Lsn;
  readonly log: Logger;
  /** Pages as of the LSN are gone. */
  readonly onLost: (error: ZenithError) => void;
  /** By default {@link RENEW_MS}. */
  readonly renewMs?: number;
}

/** What a lease is taken for, as `lease_lsn` reads it: long enough for a page server to be away and come back. */
const DURATION = "1h";
const RENEW_MS = 5 * 60_000;
/** After a failure. */
const RETRY_MS = 10_000;

/** Takes the lease now and then again and again, until `signal` is aborted. Never rejects. */
export async function keepLsnLeased(options: LsnLeaseOptions, signal: AbortSignal): Promise<void> {
  const { log, onLost, renewMs = RENEW_MS } = options;
  while (!signal.aborted) {
    let nextMs = renewMs;
    try {
      await takeLease(options, signal);
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

/** The page server has said no, rather than nothing. */
function isFinal(error: ZenithError): boolean {
  return error.kind === "out_of_range" || error.kind === "not_found";
}

async function takeLease(options: LsnLeaseOptions, signal: AbortSignal): Promise<void> {
  const { pageServer, user, tenant, timeline, lsn } = options;
  await using client = await PgClient.connect({
    ...pageServer,
    user,
    database: "zenith",
    applicationName: "zenith_compute",
    signal,
  });
  const { rows } = await client.query(`lease_lsn ${tenant} ${timeline} ${formatLsn(lsn)} ${DURATION}`);
  const answer: unknown = JSON.parse(rows[0]?.[0] ?? "null");
  const leased = typeof answer === "object" && answer !== null && "lsn" in answer ? String(answer.lsn) : "";
  if (leased === "" || parseLsn(leased) !== lsn) {
    throw new ZenithError("out_of_range", `asked for a lease on ${formatLsn(lsn)}, got one on "${leased}"`);
  }
}
