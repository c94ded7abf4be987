/** What a compute asks its page server for. */
import { number, object, parse, string } from "valibot";
import { errorMessage, ZenithError } from "../common/errors.ts";
import type { HostPort } from "../common/host_port.ts";
import { formatLsn, type Lsn, parseLsn } from "../common/lsn.ts";
import { POSTGRES_MAJOR } from "../pg_install/find_postgres.ts";
import { ZENITH_SUPERUSER } from "../pg_install/initdb.ts";
import { PgClient } from "../pgwire/client.ts";
import { formatConnInfo } from "../pgwire/conninfo.ts";
import type { BasebackupContent } from "./data_directory.ts";
import type { ComputeIdentity } from "./postgres_conf.ts";

const CONNECT_TIMEOUT_MS = 10_000;

const StatusSchema = object({ system_id: string(), wal_segment_size: number(), wal_position: string() });

/** A timeline as the page server has it. */
export interface TimelineStatus {
  readonly systemId: bigint;
  readonly pgVersion: number;
  /** wal_segment_size in bytes. */
  readonly segmentSize: number;
  /** Where the next record goes; everything before is durable there. */
  readonly position: Lsn;
}

/** @throws {ZenithError} `protocol` when the answer makes no sense; else the page server's own errors */
export async function fetchTimelineStatus(compute: ComputeIdentity): Promise<TimelineStatus> {
  await using pageServer = await connectPageServer(compute);
  const { rows } = await pageServer.query(`timeline_status ${compute.tenant} ${compute.timeline}`);
  try {
    const { system_id, wal_segment_size, wal_position } = parse(StatusSchema, JSON.parse(rows[0]?.[0] ?? ""));
    return {
      systemId: BigInt(system_id),
      pgVersion: POSTGRES_MAJOR,
      segmentSize: wal_segment_size,
      position: parseLsn(wal_position),
    };
  } catch (error) {
    throw new ZenithError("protocol", `the page server's answer to timeline_status: ${errorMessage(error)}`, {
      cause: error,
    });
  }
}

/** Asks the page server to connect to `address` and receive. */
export async function callMeMaybe(compute: ComputeIdentity, address: HostPort): Promise<void> {
  const connstr = formatConnInfo({ ...address, user: ZENITH_SUPERUSER });
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
  return await PgClient.connect({
    ...compute.pageServer,
    user: ZENITH_SUPERUSER,
    database: "zenith",
    applicationName: "zenith_compute",
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    ...(signal === undefined ? {} : { signal }),
  });
}
