/** What a compute asks its page server for. */
import { array, number, object, parse, string } from "valibot";
import { errorMessage, ZenithError } from "../common/errors.ts";
import { formatHostPort, type HostPort, parseHostPort } from "../common/host_port.ts";
import { formatLsn, type Lsn, parseLsn } from "../common/lsn.ts";
import { POSTGRES_MAJOR } from "../pg_install/find_postgres.ts";
import { ZENITH_SUPERUSER } from "../pg_install/initdb.ts";
import { PgClient } from "../pgwire/client.ts";
import { formatConnInfo } from "../pgwire/conninfo.ts";
import { SAFEKEEPER_USER, timelineOptions } from "../protocol/wal_connection.ts";
import type { BasebackupContent } from "./postgres/data_directory.ts";
import type { ComputeIdentity } from "./postgres/postgres_conf.ts";

const CONNECT_TIMEOUT_MS = 10_000;

const StatusSchema = object({
  system_id: string(),
  wal_segment_size: number(),
  wal_position: string(),
  safekeepers: array(string()),
});

/** A timeline as the page server has it. */
export interface TimelineStatus {
  readonly systemId: bigint;
  readonly pgVersion: number;
  /** wal_segment_size in bytes. */
  readonly segmentSize: number;
  /** Where the next record goes; everything before is durable there. */
  readonly position: Lsn;
  /** Who has WAL of it that may not be there yet, as its last compute has said. */
  readonly safekeepers: readonly HostPort[];
}

/** @throws {ZenithError} `protocol` when the answer makes no sense; else the page server's own errors */
export async function fetchTimelineStatus(compute: ComputeIdentity): Promise<TimelineStatus> {
  await using pageServer = await connectPageServer(compute);
  const { rows } = await pageServer.query(`timeline_status ${compute.tenant} ${compute.timeline}`);
  try {
    const status = parse(StatusSchema, JSON.parse(rows[0]?.[0] ?? ""));
    const { system_id, wal_segment_size, wal_position, safekeepers } = status;
    return {
      systemId: BigInt(system_id),
      pgVersion: POSTGRES_MAJOR,
      segmentSize: wal_segment_size,
      position: parseLsn(wal_position),
      safekeepers: safekeepers.map(parseHostPort),
    };
  } catch (error) {
    throw new ZenithError("protocol", `the page server's answer to timeline_status: ${errorMessage(error)}`, {
      cause: error,
    });
  }
}

/**
 * @throws {ZenithError} `conflict` when others than the compute's safekeepers have WAL of the timeline: it would go on without what is
 * only there
 */
export function assertSameSafekeepers(
  { walAcceptors, timeline }: ComputeIdentity,
  known: TimelineStatus,
): void {
  const sorted = (list: readonly HostPort[]) => list.map(formatHostPort).sort().join(", ");
  const before = sorted(known.safekeepers);
  const now = sorted(walAcceptors);
  if (before === "" || before === now) return;
  throw new ZenithError(
    "conflict",
    `the WAL of timeline ${timeline} is at the safekeepers ${before}, but zenith.wal_acceptors names ${
      now === "" ? "none" : now
    }`,
    { hint: 'name those, or take the branch from them first with "zenith safekeeper release <branch>"' },
  );
}

/** Has the page server remember which safekeepers the compute writes to. */
export async function registerSafekeepers(compute: ComputeIdentity): Promise<void> {
  const list = compute.walAcceptors.map(formatHostPort).join(",");
  await using pageServer = await connectPageServer(compute);
  await pageServer.query(`timeline_safekeepers ${compute.tenant} ${compute.timeline} ${list}`);
}

/** Asks the page server to connect to the compute's Postgres at `address` and receive. */
export async function callMeMaybe(compute: ComputeIdentity, address: HostPort): Promise<void> {
  await callTo(compute, formatConnInfo({ ...address, user: ZENITH_SUPERUSER }));
}

/** Asks the page server to read from that safekeeper now, rather than when the safekeeper itself asks for it. */
export async function callToSafekeeper(compute: ComputeIdentity, safekeeper: HostPort): Promise<void> {
  const options = timelineOptions(compute.tenant, compute.timeline);
  await callTo(compute, formatConnInfo({ ...safekeeper, user: SAFEKEEPER_USER, options }));
}

async function callTo(compute: ComputeIdentity, connstr: string): Promise<void> {
  await using pageServer = await connectPageServer(compute);
  await pageServer.query(`callmemaybe ${compute.tenant} ${compute.timeline} ${connstr}`);
}

/** @param lsn null for the end of the timeline; the page server waits for one that it does not have yet */
export async function fetchBasebackup<T>(
  compute: ComputeIdentity,
  lsn: Lsn | null,
  content: BasebackupContent,
  signal: AbortSignal,
  unpack: (tar: AsyncIterable<Uint8Array>) => Promise<T>,
): Promise<T> {
  const at = lsn === null ? "" : ` ${formatLsn(lsn)}`;
  const command = `basebackup ${compute.tenant} ${compute.timeline}${at}${content === "lazy" ? " lazy" : ""}`;
  await using pageServer = await connectPageServer(compute, signal);
  return await unpack(pageServer.copyOut(command));
}

/**
 * The `postgres` package would do but for COPY OUT: when the last chunk fills its buffer it never reads on, and the
 * connection stays busy for good.
 */
export async function connectPageServer(compute: ComputeIdentity, signal?: AbortSignal): Promise<PgClient> {
  try {
    return await PgClient.connect({
      ...compute.pageServer,
      user: ZENITH_SUPERUSER,
      database: "zenith",
      applicationName: "zenith_compute",
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      ...(signal === undefined ? {} : { signal }),
    });
  } catch (error) {
    if (!(error instanceof ZenithError) || error.kind !== "unavailable" && error.kind !== "timeout") {
      throw error;
    }
    throw new ZenithError(error.kind, `the page server does not answer: ${error.message}`, {
      hint: 'start it with "zenith start"; "zenith status" shows what runs',
      cause: error,
    });
  }
}
