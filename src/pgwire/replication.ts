/**
 * Implements physical replication: its commands, and its messages in both directions ("Streaming
 * Replication Protocol").
 */
import { putUint64, uint32 } from "../common/big_endian.ts";
import { ZenithError } from "../common/errors.ts";
import { formatLsn, type Lsn, lsnFromHalves, parseLsn } from "../common/lsn.ts";
import type { PgClient } from "./client.ts";
import { bareCommand } from "./command_text.ts";
import type { CopyBoth } from "./copy_both.ts";
import { ProtocolError } from "./sqlstate.ts";

const XLOG_DATA = "w".charCodeAt(0);
const KEEPALIVE = "k".charCodeAt(0);
const STANDBY_STATUS_UPDATE = "r".charCodeAt(0);
const HOT_STANDBY_FEEDBACK = "h".charCodeAt(0);

/** XLogData header: tag, start of the WAL, end of WAL at the server, send time. */
export const XLOG_DATA_HEADER_BYTES = 25;
/** Primary keepalive: tag, end of WAL, send time, reply requested. */
export const KEEPALIVE_BYTES = 18;
/** Standby status update: tag, written, flushed, applied, send time, reply requested. */
export const STANDBY_STATUS_BYTES = 34;

/** Microseconds between the Unix epoch and PostgreSQL's, 2000-01-01. */
const POSTGRES_EPOCH_MICROSECONDS = 946_684_800_000_000;

export interface SystemIdentity {
  /** A 64-bit number, as text because a JavaScript number can't hold it. */
  systemId: string;
  timeline: number;
  /** The server's flush position. */
  xlogpos: Lsn;
  /** Null on a connection with `replication=true`. */
  dbname: string | null;
}

/** @throws {ProtocolError} when the answer is not one row of at least three columns */
export async function identifySystem(client: PgClient): Promise<SystemIdentity> {
  const { rows } = await client.query("IDENTIFY_SYSTEM");
  const [systemId, timeline, xlogpos, dbname] = rows[0] ?? [];
  if (!systemId || !timeline || !xlogpos) throw new ProtocolError("malformed answer to IDENTIFY_SYSTEM");
  return { systemId, timeline: Number(timeline), xlogpos: parseLsn(xlogpos), dbname: dbname ?? null };
}

/**
 * Creates a physical slot that keeps WAL from now on. An existing slot is left as it is.
 *
 * @throws {ZenithError} `invalid_argument` when the name is not valid for a slot
 */
export async function createPhysicalSlot(client: PgClient, slot: string): Promise<void> {
  checkSlotName(slot);
  try {
    await client.query(`CREATE_REPLICATION_SLOT ${slot} PHYSICAL RESERVE_WAL`);
  } catch (error) {
    if (!(error instanceof ZenithError && error.kind === "already_exists")) throw error;
  }
}

export interface ReplicationHandler {
  /**
   * Receives WAL from `lsn` on: `bytes[off, off + len)`. The bytes are overwritten after the call
   * returns.
   */
  onWal(lsn: Lsn, bytes: Uint8Array, off: number, len: number): void;
  /**
   * There is no new WAL up to `endLsn`. If `replyRequested` is set, the server hangs up unless it
   * soon gets a status update.
   */
  onKeepalive(endLsn: Lsn, replyRequested: boolean): void;
  /** The server sends no more: it is shutting down, or the timeline ends here. */
  onEnd?(): void;
}

export interface ReplicationStart {
  slot?: string;
  startLsn: Lsn;
  timeline?: number;
}

/** A running START_REPLICATION at the client. */
export class ReplicationStream {
  /** The underlying stream, which can be paused and resumed. */
  readonly copy: CopyBoth;

  constructor(copy: CopyBoth) {
    this.copy = copy;
  }

  /**
   * Receives until the server ends the stream or the connection is closed.
   *
   * @throws what the server reports, and what `handler` throws
   */
  run(handler: ReplicationHandler): Promise<void> {
    return this.copy.run({
      onData: (bytes, off, len) => {
        const tag = len > 0 ? bytes[off] : 0;
        if (tag === XLOG_DATA && len >= XLOG_DATA_HEADER_BYTES) {
          handler.onWal(
            readLsn(bytes, off + 1),
            bytes,
            off + XLOG_DATA_HEADER_BYTES,
            len - XLOG_DATA_HEADER_BYTES,
          );
        } else if (tag === KEEPALIVE && len === KEEPALIVE_BYTES) {
          handler.onKeepalive(readLsn(bytes, off + 1), bytes[off + KEEPALIVE_BYTES - 1] !== 0);
        } else {
          throw new ProtocolError(`unknown replication message: tag ${tag}, ${len} bytes`);
        }
      },
      onEnd: () => {
        handler.onEnd?.();
        this.copy.end();
      },
    });
  }

  /**
   * Tells the server how far WAL has been written, made durable and applied here. Does nothing once
   * this end's direction has ended, even though WAL may still arrive.
   */
  standbyStatusUpdate(write: Lsn, flush: Lsn, apply: Lsn, replyRequested = false): void {
    if (!this.copy.sending) return;
    const at = this.copy.reserve(STANDBY_STATUS_BYTES);
    encodeStandbyStatusUpdate(this.copy.buffer, at, write, flush, apply, replyRequested);
  }

  /** Ends the stream from this end. {@link run} returns when the server has answered. */
  end(): void {
    this.copy.end();
  }
}

/**
 * Starts physical replication at `startLsn`, on a connection with `replication: true`.
 *
 * @throws {PgError} e.g. when that WAL has been removed
 */
export async function startReplication(
  client: PgClient,
  start: ReplicationStart,
): Promise<ReplicationStream> {
  let sql = "START_REPLICATION";
  if (start.slot !== undefined) {
    checkSlotName(start.slot);
    sql += ` SLOT ${start.slot}`;
  }
  sql += ` PHYSICAL ${formatLsn(start.startLsn)}`;
  if (start.timeline !== undefined) sql += ` TIMELINE ${start.timeline}`;
  return new ReplicationStream(await client.copyBoth(sql));
}

/**
 * Parses what a START_REPLICATION command asks of a server.
 *
 * @throws {ZenithError} `invalid_argument` on anything but physical replication
 */
export function parseStartReplication(sql: string): ReplicationStart {
  const match =
    /^START_REPLICATION(?:\s+SLOT\s+"?([a-z0-9_]+)"?)?(?:\s+PHYSICAL)?\s+([0-9A-F]+\/[0-9A-F]+)(?:\s+TIMELINE\s+(\d{1,10}))?$/i
      .exec(bareCommand(sql));
  if (match === null) {
    throw new ZenithError(
      "invalid_argument",
      `could not read "${
        sql.slice(0, 100)
      }": expected START_REPLICATION [SLOT name] PHYSICAL x/x [TIMELINE n]`,
    );
  }
  const [, slot, startLsn, timeline] = match;
  return {
    startLsn: parseLsn(startLsn),
    ...(slot === undefined ? {} : { slot }),
    ...(timeline === undefined ? {} : { timeline: Number(timeline) }),
  };
}

/**
 * Writes an XLogData header of XLOG_DATA_HEADER_BYTES. The WAL follows it. @returns the offset of
 * the WAL
 */
export function encodeXLogDataHeader(bytes: Uint8Array, off: number, startLsn: Lsn, endLsn: Lsn): number {
  bytes[off] = XLOG_DATA;
  putUint64(bytes, off + 1, startLsn);
  putUint64(bytes, off + 9, endLsn);
  putNow(bytes, off + 17);
  return off + XLOG_DATA_HEADER_BYTES;
}

/** Writes a keepalive of KEEPALIVE_BYTES. */
export function encodeKeepalive(bytes: Uint8Array, off: number, endLsn: Lsn, replyRequested: boolean): void {
  bytes[off] = KEEPALIVE;
  putUint64(bytes, off + 1, endLsn);
  putNow(bytes, off + 9);
  bytes[off + 17] = replyRequested ? 1 : 0;
}

/** Writes a standby status update of STANDBY_STATUS_BYTES. */
export function encodeStandbyStatusUpdate(
  bytes: Uint8Array,
  off: number,
  write: Lsn,
  flush: Lsn,
  apply: Lsn,
  replyRequested: boolean,
): void {
  bytes[off] = STANDBY_STATUS_UPDATE;
  putUint64(bytes, off + 1, write);
  putUint64(bytes, off + 9, flush);
  putUint64(bytes, off + 17, apply);
  putNow(bytes, off + 25);
  bytes[off + 33] = replyRequested ? 1 : 0;
}

/** A standby status update. The object is reused. */
export class StandbyStatus {
  write = 0 as Lsn;
  flush = 0 as Lsn;
  apply = 0 as Lsn;
  replyRequested = false;
}

/**
 * Decodes a standby's message to a walsender into `status`.
 *
 * @returns false for hot standby feedback, which changes nothing
 * @throws {ProtocolError} on anything else
 */
export function decodeStandbyMessage(
  status: StandbyStatus,
  bytes: Uint8Array,
  off: number,
  len: number,
): boolean {
  const tag = len > 0 ? bytes[off] : 0;
  if (tag === HOT_STANDBY_FEEDBACK) return false;
  if (tag !== STANDBY_STATUS_UPDATE || len !== STANDBY_STATUS_BYTES) {
    throw new ProtocolError(`unknown message of a standby: tag ${tag}, ${len} bytes`);
  }
  status.write = readLsn(bytes, off + 1);
  status.flush = readLsn(bytes, off + 9);
  status.apply = readLsn(bytes, off + 17);
  status.replyRequested = bytes[off + 33] !== 0;
  return true;
}

/**
 * ReplicationSlotValidateName (replication/slot.c). The check is needed because names go into
 * commands unquoted.
 */
export function checkSlotName(slot: string): void {
  if (!/^[a-z0-9_]{1,63}$/.test(slot)) {
    throw new ZenithError(
      "invalid_argument",
      `"${slot}" is not a replication slot name: expected 1 to 63 lower-case letters, digits or "_"`,
    );
  }
}

/** Writes the current time in microseconds since 2000-01-01, as Postgres sends it. */
function putNow(bytes: Uint8Array, off: number): void {
  const microseconds = Date.now() * 1000 - POSTGRES_EPOCH_MICROSECONDS;
  putUint64(bytes, off, microseconds);
}

function readLsn(bytes: Uint8Array, off: number): Lsn {
  return lsnFromHalves(uint32(bytes, off), uint32(bytes, off + 4));
}
