/** Fetches WAL that the proposer no longer has in memory. */
import { assert } from "../../common/assert.ts";
import { ZenithError } from "../../common/errors.ts";
import type { TenantId, TimelineId } from "../../common/id.ts";
import type { Lsn } from "../../common/lsn.ts";
import type { PgClient } from "../../pgwire/client.ts";
import { startReplication } from "../../pgwire/replication.ts";
import { RECOVERY_TERM_OPTION, timelineOptions } from "../../protocol/wal_connection.ts";
import { WAL_PROPOSER_NAME } from "./wal_source.ts";
import { connectServer, type ServerAddress } from "../../protocol/connect.ts";
import type { ConnectLocally } from "../postgres/private_socket.ts";

const TIMEOUT_MS = 10_000;

/** A name of its own, so that Postgres doesn't mistake a fetch for its synchronous standby. */
const FETCH_NAME = "walproposer_fetch";

/** WAL to read: [from, to). */
export interface FetchRange {
  readonly from: Lsn;
  readonly to: Lsn;
  readonly signal: AbortSignal;
}

export interface FetchSource {
  readonly safekeeper: ServerAddress;
  readonly tenant: TenantId;
  readonly timeline: TimelineId;
  /** The safekeeper answers only while this is its term. */
  readonly term: number;
}

/**
 * Reads WAL of a term from one safekeeper, for another that lacks it.
 *
 * @returns WAL from `from` on: at least a byte, and less than up to `to` if the connection ends
 *   early
 * @throws {ZenithError} when nothing arrives within 10 s; the safekeeper's own error when it
 *   refuses; `signal`'s reason
 */
export function fetchFromSafekeeper(source: FetchSource, range: FetchRange): Promise<Uint8Array> {
  const { safekeeper, tenant, timeline, term } = source;
  return fetch(range, (signal) =>
    connectServer("safekeeper", safekeeper, {
      replication: true,
      applicationName: WAL_PROPOSER_NAME,
      options: `${timelineOptions(tenant, timeline)} -c ${RECOVERY_TERM_OPTION}=${term}`,
      signal,
    }));
}

/**
 * Reads uncommitted WAL from the local Postgres, for a safekeeper that lacks it.
 *
 * @param connect connects to Postgres
 * @returns as {@link fetchFromSafekeeper}
 * @throws {ZenithError} as {@link fetchFromSafekeeper}
 */
export function fetchFromPostgres(connect: ConnectLocally, range: FetchRange): Promise<Uint8Array> {
  return fetch(range, (signal) => connect({ applicationName: FETCH_NAME, replication: true, signal }));
}

async function fetch(
  range: FetchRange,
  connect: (signal: AbortSignal) => Promise<PgClient>,
): Promise<Uint8Array> {
  const { from, to } = range;
  const signal = AbortSignal.any([range.signal, AbortSignal.timeout(TIMEOUT_MS)]);
  const client = await connect(signal);
  try {
    const stream = await startReplication(client, { startLsn: from });
    const bytes = new Uint8Array(to - from);
    let got = 0;
    await new Promise<void>((resolve) => {
      stream.run({
        onWal(lsn, wal, off, len) {
          assert(lsn === from + got, "replication has no gaps");
          const count = Math.min(len, bytes.length - got);
          bytes.set(wal.subarray(off, off + count), got);
          got += count;
          if (got === bytes.length) resolve();
        },
        onKeepalive() {},
      }).then(resolve, () => resolve());
    });
    if (got === 0) throw signal.reason ?? new ZenithError("unavailable", "nothing was sent");
    return bytes.subarray(0, got);
  } finally {
    client.destroy();
  }
}
