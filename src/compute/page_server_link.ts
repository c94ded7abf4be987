/** A compute's requests to its page server. */
import { ZenithError } from "../common/errors.ts";
import { formatHostPort, type HostPort } from "../common/host_port.ts";
import type { TenantId, TimelineId } from "../common/id.ts";
import type { Lsn } from "../common/lsn.ts";
import { redactPasswords } from "../common/redact.ts";
import { inTime } from "../common/in_time.ts";
import type { PgClient } from "../pgwire/client.ts";
import { formatConnInfo } from "../pgwire/conninfo.ts";
import { call } from "../protocol/call.ts";
import { withConnection } from "../protocol/calls_in_a_row.ts";
import { connectServer, serverName, tokenOf } from "../protocol/connect.ts";
import {
  type BasebackupContent,
  PAGE_SERVER,
  type TakenSlots,
  type TimelineStatus,
} from "../protocol/management.ts";
import {
  type Args,
  type ArgValues,
  formatCommand,
  type Operation,
  type Reply,
  type Result,
} from "../protocol/operation.ts";
import { COMPUTE_NAME, SAFEKEEPER_USER, timelineOptions } from "../protocol/wal_connection.ts";
import type { LocalPostgres } from "./durability.ts";
import type { ComputeIdentity } from "./postgres/postgres_conf.ts";

/**
 * @throws {ZenithError} `protocol` when the answer makes no sense; otherwise the page server's own
 *   errors
 */
export async function fetchTimelineStatus(compute: ComputeIdentity): Promise<TimelineStatus> {
  return await callPageServer(compute, PAGE_SERVER.timelineStatus, timelineArgs(compute));
}

/**
 * @throws {ZenithError} `conflict` when other safekeepers than the compute's have WAL of the
 *   timeline: the compute would continue without the WAL that only they have
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

/**
 * Returns the WAL with which the branch goes over to the next of PostgreSQL's timelines at `lsn`.
 * The page server builds it when it has all WAL before.
 */
export async function fetchTimelineSwitch(
  compute: ComputeIdentity,
  lsn: Lsn,
): Promise<{ readonly lsn: Lsn; readonly bytes: Uint8Array }> {
  const found = await callPageServer(compute, PAGE_SERVER.timelineSwitch, { ...timelineArgs(compute), lsn });
  return { lsn: found.lsn, bytes: Uint8Array.from(Buffer.from(found.wal, "hex")) };
}

/** Makes the page server remember which safekeepers the compute writes to. */
export async function registerSafekeepers(compute: ComputeIdentity): Promise<void> {
  const args = { ...timelineArgs(compute), safekeepers: compute.walAcceptors };
  await callPageServer(compute, PAGE_SERVER.timelineSafekeepers, args);
}

/** Asks the page server to connect to the compute's Postgres and receive its WAL. */
export async function callMeMaybe(
  compute: ComputeIdentity,
  local: Pick<LocalPostgres, "address" | "role" | "password">,
): Promise<void> {
  await callTo(compute, localConnInfo(local));
}

/**
 * The connection string by which the page server connects to a compute. It must not contain blanks,
 * because they separate the command's words, even between quotes.
 */
function localConnInfo(
  { address, role, password }: Pick<LocalPostgres, "address" | "role" | "password">,
): string {
  if (!/[\s;]/.test(role + password)) return formatConnInfo({ ...address, user: role, password });
  return `postgresql://${encodeURIComponent(role)}:${encodeURIComponent(password)}@${
    formatHostPort(address)
  }`;
}

/** Returns the branch's settings at its end, packed. Null when it has none. */
export async function fetchSettings(compute: ComputeIdentity): Promise<string | null> {
  return (await callPageServer(compute, PAGE_SERVER.timelineSettings, timelineArgs(compute))).settings;
}

/** Sets the branch's settings, packed, from now on. */
export async function storeSettings(compute: ComputeIdentity, settings: string): Promise<void> {
  await callPageServer(compute, PAGE_SERVER.timelineSetSettings, { ...timelineArgs(compute), settings });
}

/** Returns the branch's replication slots. From now on only this compute can set them. */
export async function takeSlots(compute: ComputeIdentity): Promise<TakenSlots> {
  return await callPageServer(compute, PAGE_SERVER.timelineTakeSlots, timelineArgs(compute));
}

/**
 * Sets the branch's slots, packed, from now on. WAL is kept for them from `hold` on.
 *
 * @returns the LSN from where on WAL is there
 */
export async function storeSlots(
  compute: ComputeIdentity,
  slots: { readonly generation: number; readonly slots: string; readonly hold: Lsn | undefined },
): Promise<Lsn> {
  const args = { ...timelineArgs(compute), ...slots };
  return (await callPageServer(compute, PAGE_SERVER.timelineSetSlots, args)).wal_from;
}

/** The state of the page server's receiver of a compute's WAL. */
export interface ReceiverStatus {
  readonly streaming: boolean;
  /** Why the receiver has ended. Null when it has not, or never existed. */
  readonly error: string | null;
}

/** For requests that the page server can answer at once. */
const ANSWER_TIMEOUT_MS = 3_000;
const LATE = `the page server has not answered for ${ANSWER_TIMEOUT_MS / 1000} s`;

/**
 * Asks repeatedly whether the page server receives a timeline. Uses one connection for as long as
 * it lasts.
 */
export class ReceiverWatch {
  readonly #compute: ComputeIdentity;
  #client: PgClient | undefined;

  constructor(compute: ComputeIdentity) {
    this.#compute = compute;
  }

  /** @throws {ZenithError} when the page server does not answer in time */
  async status(local: LocalPostgres, signal: AbortSignal): Promise<ReceiverStatus> {
    try {
      this.#client ??= await connectPageServer(this.#compute, signal);
      const server = serverName("page server", this.#compute.pageServer);
      const answer = call(this.#client, server, PAGE_SERVER.receiverStatus, timelineArgs(this.#compute));
      const { source, streaming, error } = await inTime(answer, ANSWER_TIMEOUT_MS, LATE);
      return {
        streaming: streaming && source === redactPasswords(localConnInfo(local)),
        error,
      };
    } catch (error) {
      this.close();
      throw error;
    }
  }

  close(): void {
    this.#client?.destroy();
    this.#client = undefined;
  }
}

/**
 * Asks the page server to read from this safekeeper now, instead of when the safekeeper itself
 * asks.
 */
export async function callToSafekeeper(compute: ComputeIdentity, safekeeper: HostPort): Promise<void> {
  const options = timelineOptions(compute.tenant, compute.timeline);
  const { host, port } = safekeeper;
  // The page server doesn't show its own token to an address that a compute names.
  const password = tokenOf(compute.pageServer.credentials);
  await callTo(compute, formatConnInfo({ host, port, user: SAFEKEEPER_USER, password, options }));
}

async function callTo(compute: ComputeIdentity, conninfo: string): Promise<void> {
  await callPageServer(compute, PAGE_SERVER.callmemaybe, { ...timelineArgs(compute), conninfo });
}

/**
 * @param lsn null for the end of the timeline; the page server waits for an LSN that it does not
 *   have yet
 * @param walFrom where the WAL in pg_wal should begin, if it still exists; null for only what a
 *   start needs
 */
export async function fetchBasebackup<T>(
  compute: ComputeIdentity,
  lsn: Lsn | null,
  walFrom: Lsn | null,
  content: BasebackupContent,
  signal: AbortSignal,
  unpack: (tar: AsyncIterable<Uint8Array>) => Promise<T>,
): Promise<T> {
  const command = formatCommand(PAGE_SERVER.basebackup, {
    ...timelineArgs(compute),
    lsn: lsn ?? undefined,
    wal_from: walFrom ?? undefined,
    lazy: content === "lazy",
    own_wal: content === "lazy",
  });
  return await withConnection(
    "page server",
    compute.pageServer,
    { applicationName: COMPUTE_NAME, signal },
    (client) => unpack(client.copyOut(command)),
  );
}

/** The arguments that name the compute's timeline. */
export function timelineArgs(
  { tenant, timeline }: ComputeIdentity,
): { tenant: TenantId; timeline: TimelineId } {
  return { tenant, timeline };
}

/** Makes one call. The calls of a start, which follow each other, share a connection. */
async function callPageServer<A extends Args, R extends Reply>(
  compute: ComputeIdentity,
  operation: Operation<A, R>,
  args: ArgValues<A>,
): Promise<Result<R>> {
  const { pageServer } = compute;
  return await withConnection(
    "page server",
    pageServer,
    { applicationName: COMPUTE_NAME },
    (client) => call(client, serverName("page server", pageServer), operation, args),
  );
}

/**
 * @throws {ZenithError} `unavailable` when the page server does not run; its own error when it
 *   refuses
 */
export function connectPageServer(compute: ComputeIdentity, signal?: AbortSignal): Promise<PgClient> {
  return connectServer("page server", compute.pageServer, { applicationName: COMPUTE_NAME, signal });
}
