/**
 * What a proposer and an acceptor say to each other, and how it looks as bytes. The normative description is
 * `docs/formats/wal_acceptor_protocol.md`. Numbers are big-endian, as everything in the Postgres wire protocol that carries them.
 */
import { Buffer } from "node:buffer";
import { ZenithError } from "../common/errors.ts";
import { parseTenantId, parseTimelineId, type TenantId, type TimelineId } from "../common/id.ts";
import { type Lsn, lsnFromHalves } from "../common/lsn.ts";
import {
  checkTermHistory,
  TERM_HISTORY_MAX_LENGTH,
  type TermEntry,
  type TermHistory,
} from "./term_history.ts";

/** Goes up with every incompatible change; an acceptor refuses what it does not know. */
export const WAL_ACCEPTOR_PROTOCOL_VERSION = 1;

/** What a timeline's WAL is, fixed for its life. */
export interface TimelineIdentity {
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
  /** pg_control's system identifier, 64 bits unsigned. */
  readonly systemId: bigint;
  /** Postgres major version, e.g. 15. */
  readonly pgVersion: number;
  /** wal_segment_size in bytes. */
  readonly segmentSize: number;
}

export interface ServerInfo extends TimelineIdentity {
  readonly type: "ServerInfo";
  readonly protocolVersion: number;
  /** Random, one per run of a proposer; for logs. */
  readonly proposerId: string;
}

export interface Greeting {
  readonly type: "Greeting";
  readonly term: number;
  /** The safekeeper's configured number; for logs. */
  readonly acceptorId: number;
}

export interface VoteRequest {
  readonly type: "VoteRequest";
  readonly term: number;
}

export interface VoteResponse {
  readonly type: "VoteResponse";
  /** The acceptor's term, after the request. */
  readonly term: number;
  readonly granted: boolean;
  readonly flushLsn: Lsn;
  /** 0/0 while the acceptor has never had a log. */
  readonly timelineStartLsn: Lsn;
  readonly history: TermHistory;
}

export interface ProposerElected {
  readonly type: "ProposerElected";
  readonly term: number;
  /** Up to here at least this acceptor has the proposer's log, as far as its vote has told. */
  readonly startLsn: Lsn;
  readonly timelineStartLsn: Lsn;
  readonly history: TermHistory;
}

export interface AppendRequest {
  readonly type: "AppendRequest";
  readonly term: number;
  /** Position of the first byte of `bytes`. */
  readonly beginLsn: Lsn;
  readonly commitLsn: Lsn;
  /** No acceptor needs WAL below this from another one. */
  readonly truncateLsn: Lsn;
  /** What the page server has made durable, as far as any acceptor knows. */
  readonly remoteConsistentLsn: Lsn;
  /** May end in the middle of a record. Empty: only the other fields are news. */
  readonly bytes: Uint8Array;
}

export interface AppendResponse {
  readonly type: "AppendResponse";
  readonly term: number;
  /** The newest term of the acceptor's history. When it is the proposer's, the acceptor's log is a prefix of the proposer's. */
  readonly historyTerm: number;
  readonly flushLsn: Lsn;
  readonly commitLsn: Lsn;
  /** What the page server has made durable, as far as this acceptor knows. */
  readonly remoteConsistentLsn: Lsn;
}

export type ProposerMessage = ServerInfo | VoteRequest | ProposerElected | AppendRequest;
export type AcceptorMessage = Greeting | VoteResponse | AppendResponse;

const TAG_SERVER_INFO = "g".charCodeAt(0);
const TAG_VOTE_REQUEST = "v".charCodeAt(0);
const TAG_PROPOSER_ELECTED = "e".charCodeAt(0);
const TAG_APPEND_REQUEST = "a".charCodeAt(0);
const TAG_GREETING = "G".charCodeAt(0);
const TAG_VOTE_RESPONSE = "V".charCodeAt(0);
const TAG_APPEND_RESPONSE = "A".charCodeAt(0);

const ID_BYTES = 16;
const HISTORY_ENTRY_BYTES = 16;
const TWO_POW_32 = 0x1_0000_0000;

/** Bytes of an AppendRequest before its WAL. */
export const APPEND_REQUEST_HEADER_BYTES = 1 + 5 * 8;

/** The most WAL that one AppendRequest carries. */
export const APPEND_MAX_BYTES = 1 << 20;

/** A message as the bytes of one CopyData. */
export function encodeMessage(message: ProposerMessage | AcceptorMessage): Uint8Array {
  switch (message.type) {
    case "ServerInfo": {
      const out = new Writer(TAG_SERVER_INFO, 4 + 3 * ID_BYTES + 8 + 4 + 4);
      out.u32(message.protocolVersion);
      out.id(message.tenantId);
      out.id(message.timelineId);
      out.u64(message.systemId);
      out.u32(message.pgVersion);
      out.u32(message.segmentSize);
      out.id(message.proposerId);
      return out.bytes;
    }
    case "Greeting": {
      const out = new Writer(TAG_GREETING, 8 + 4);
      out.number(message.term);
      out.u32(message.acceptorId);
      return out.bytes;
    }
    case "VoteRequest": {
      const out = new Writer(TAG_VOTE_REQUEST, 8);
      out.number(message.term);
      return out.bytes;
    }
    case "VoteResponse": {
      const out = new Writer(TAG_VOTE_RESPONSE, 8 + 1 + 2 * 8 + historyBytes(message.history));
      out.number(message.term);
      out.u8(message.granted ? 1 : 0);
      out.number(message.flushLsn);
      out.number(message.timelineStartLsn);
      out.history(message.history);
      return out.bytes;
    }
    case "ProposerElected": {
      const out = new Writer(TAG_PROPOSER_ELECTED, 3 * 8 + historyBytes(message.history));
      out.number(message.term);
      out.number(message.startLsn);
      out.number(message.timelineStartLsn);
      out.history(message.history);
      return out.bytes;
    }
    case "AppendRequest": {
      const bytes = new Uint8Array(APPEND_REQUEST_HEADER_BYTES + message.bytes.length);
      const off = encodeAppendRequestHeader(bytes, 0, message);
      bytes.set(message.bytes, off);
      return bytes;
    }
    case "AppendResponse": {
      const out = new Writer(TAG_APPEND_RESPONSE, 5 * 8);
      out.number(message.term);
      out.number(message.historyTerm);
      out.number(message.flushLsn);
      out.number(message.commitLsn);
      out.number(message.remoteConsistentLsn);
      return out.bytes;
    }
  }
}

/** Writes what comes before an AppendRequest's WAL, for senders that hold the WAL elsewhere. @returns the WAL's offset */
export function encodeAppendRequestHeader(
  bytes: Uint8Array,
  off: number,
  header: Pick<AppendRequest, "term" | "beginLsn" | "commitLsn" | "truncateLsn" | "remoteConsistentLsn">,
): number {
  bytes[off] = TAG_APPEND_REQUEST;
  putNumber(bytes, off + 1, header.term);
  putNumber(bytes, off + 9, header.beginLsn);
  putNumber(bytes, off + 17, header.commitLsn);
  putNumber(bytes, off + 25, header.truncateLsn);
  putNumber(bytes, off + 33, header.remoteConsistentLsn);
  return off + APPEND_REQUEST_HEADER_BYTES;
}

/**
 * Reads what a proposer sent. An AppendRequest's `bytes` refer to the input.
 *
 * @throws {ZenithError} `protocol` on anything malformed, naming what
 */
export function decodeProposerMessage(bytes: Uint8Array, off: number, len: number): ProposerMessage {
  const reader = new Reader(bytes, off, len);
  const tag = reader.u8("message tag");
  let message: ProposerMessage;
  switch (tag) {
    case TAG_SERVER_INFO: {
      const protocolVersion = reader.u32("protocol version");
      if (protocolVersion !== WAL_ACCEPTOR_PROTOCOL_VERSION) {
        throw new ZenithError(
          "protocol",
          `the proposer speaks protocol version ${protocolVersion}, this safekeeper ${WAL_ACCEPTOR_PROTOCOL_VERSION}`,
          { hint: "run the same release of zenith on both sides" },
        );
      }
      message = {
        type: "ServerInfo",
        protocolVersion,
        tenantId: parseTenantId(reader.id("tenant id")),
        timelineId: parseTimelineId(reader.id("timeline id")),
        systemId: reader.u64("system id"),
        pgVersion: reader.u32("Postgres version"),
        segmentSize: reader.u32("segment size"),
        proposerId: reader.id("proposer id"),
      };
      break;
    }
    case TAG_VOTE_REQUEST:
      message = { type: "VoteRequest", term: reader.number("term") };
      break;
    case TAG_PROPOSER_ELECTED:
      message = {
        type: "ProposerElected",
        term: reader.number("term"),
        startLsn: reader.number("start LSN") as Lsn,
        timelineStartLsn: reader.number("timeline start LSN") as Lsn,
        history: reader.history(),
      };
      break;
    case TAG_APPEND_REQUEST:
      message = {
        type: "AppendRequest",
        term: reader.number("term"),
        beginLsn: reader.number("begin LSN") as Lsn,
        commitLsn: reader.number("commit LSN") as Lsn,
        truncateLsn: reader.number("truncate LSN") as Lsn,
        remoteConsistentLsn: reader.number("remote consistent LSN") as Lsn,
        bytes: reader.rest(),
      };
      if (message.bytes.length > APPEND_MAX_BYTES) {
        throw new ZenithError(
          "protocol",
          `AppendRequest with ${message.bytes.length} bytes, the limit is ${APPEND_MAX_BYTES}`,
        );
      }
      break;
    default:
      throw new ZenithError("protocol", `unknown message of a proposer: tag ${tag}`);
  }
  reader.end(message.type);
  return message;
}

/**
 * Reads what an acceptor sent.
 *
 * @throws {ZenithError} `protocol` on anything malformed, naming what
 */
export function decodeAcceptorMessage(bytes: Uint8Array, off: number, len: number): AcceptorMessage {
  const reader = new Reader(bytes, off, len);
  const tag = reader.u8("message tag");
  let message: AcceptorMessage;
  switch (tag) {
    case TAG_GREETING:
      message = { type: "Greeting", term: reader.number("term"), acceptorId: reader.u32("acceptor id") };
      break;
    case TAG_VOTE_RESPONSE:
      message = {
        type: "VoteResponse",
        term: reader.number("term"),
        granted: reader.boolean("granted"),
        flushLsn: reader.number("flush LSN") as Lsn,
        timelineStartLsn: reader.number("timeline start LSN") as Lsn,
        history: reader.history(),
      };
      break;
    case TAG_APPEND_RESPONSE:
      message = {
        type: "AppendResponse",
        term: reader.number("term"),
        historyTerm: reader.number("history term"),
        flushLsn: reader.number("flush LSN") as Lsn,
        commitLsn: reader.number("commit LSN") as Lsn,
        remoteConsistentLsn: reader.number("remote consistent LSN") as Lsn,
      };
      break;
    default:
      throw new ZenithError("protocol", `unknown message of an acceptor: tag ${tag}`);
  }
  reader.end(message.type);
  return message;
}

function historyBytes(history: TermHistory): number {
  return 4 + history.length * HISTORY_ENTRY_BYTES;
}

/** Terms and LSNs: 64 bits on the wire, 53 of them used. */
function putNumber(bytes: Uint8Array, off: number, value: number): void {
  putU32(bytes, off, Math.floor(value / TWO_POW_32));
  putU32(bytes, off + 4, value % TWO_POW_32);
}

function putU32(bytes: Uint8Array, off: number, value: number): void {
  bytes[off] = value >>> 24;
  bytes[off + 1] = value >>> 16;
  bytes[off + 2] = value >>> 8;
  bytes[off + 3] = value;
}

class Writer {
  readonly bytes: Uint8Array;
  #at = 0;

  constructor(tag: number, bodyBytes: number) {
    this.bytes = new Uint8Array(1 + bodyBytes);
    this.u8(tag);
  }

  u8(value: number): void {
    this.bytes[this.#at++] = value;
  }

  u32(value: number): void {
    putU32(this.bytes, this.#at, value);
    this.#at += 4;
  }

  u64(value: bigint): void {
    this.u32(Number(value >> 32n));
    this.u32(Number(value & 0xffff_ffffn));
  }

  number(value: number): void {
    putNumber(this.bytes, this.#at, value);
    this.#at += 8;
  }

  id(hex: string): void {
    this.bytes.set(Buffer.from(hex, "hex"), this.#at);
    this.#at += ID_BYTES;
  }

  history(history: TermHistory): void {
    this.u32(history.length);
    for (const { term, startLsn } of history) {
      this.number(term);
      this.number(startLsn);
    }
  }
}

class Reader {
  readonly #bytes: Uint8Array;
  readonly #end: number;
  #at: number;

  constructor(bytes: Uint8Array, off: number, len: number) {
    this.#bytes = bytes;
    this.#at = off;
    this.#end = off + len;
  }

  u8(what: string): number {
    return this.#bytes[this.#take(1, what)]!;
  }

  boolean(what: string): boolean {
    const value = this.u8(what);
    if (value > 1) {
      throw new ZenithError("protocol", `malformed message: ${what} is ${value}, expected 0 or 1`);
    }
    return value === 1;
  }

  u32(what: string): number {
    return this.#u32(this.#take(4, what));
  }

  u64(what: string): bigint {
    const off = this.#take(8, what);
    return (BigInt(this.#u32(off)) << 32n) | BigInt(this.#u32(off + 4));
  }

  number(what: string): number {
    const off = this.#take(8, what);
    return lsnFromHalves(this.#u32(off), this.#u32(off + 4));
  }

  id(what: string): string {
    const off = this.#take(ID_BYTES, what);
    return Buffer.from(this.#bytes.subarray(off, off + ID_BYTES)).toString("hex");
  }

  history(): TermHistory {
    const count = this.u32("history length");
    if (count > TERM_HISTORY_MAX_LENGTH || count * HISTORY_ENTRY_BYTES > this.#end - this.#at) {
      throw new ZenithError("protocol", `malformed message: a term history of ${count} entries does not fit`);
    }
    const entries: TermEntry[] = [];
    for (let i = 0; i < count; i++) {
      entries.push({ term: this.number("history term"), startLsn: this.number("history LSN") as Lsn });
    }
    checkTermHistory(entries);
    return entries;
  }

  rest(): Uint8Array {
    const bytes = this.#bytes.subarray(this.#at, this.#end);
    this.#at = this.#end;
    return bytes;
  }

  end(type: string): void {
    if (this.#at !== this.#end) {
      throw new ZenithError("protocol", `malformed ${type}: ${this.#end - this.#at} bytes too many`);
    }
  }

  #take(count: number, what: string): number {
    const off = this.#at;
    if (count > this.#end - off) {
      throw new ZenithError("protocol", `malformed message: it ends before its ${what}`);
    }
    this.#at += count;
    return off;
  }

  #u32(off: number): number {
    const bytes = this.#bytes;
    return ((bytes[off]! << 24) | (bytes[off + 1]! << 16) | (bytes[off + 2]! << 8) | bytes[off + 3]!) >>> 0;
  }
}
