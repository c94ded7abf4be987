/**
 * Encodes and decodes the messages between proposer and acceptor. The normative description is
 * `docs/formats/wal_acceptor_protocol.md`. Numbers are big-endian, like everything in the Postgres
 * wire protocol that carries them.
 */
import { Buffer } from "node:buffer";
import { putUint32, putUint64, uint32 } from "../common/big_endian.ts";
import { ZenithError } from "../common/errors.ts";
import { parseTenantId, parseTimelineId } from "../common/id.ts";
import { type Lsn, lsnFromHalves } from "../common/lsn.ts";
import {
  type AcceptorMessage,
  APPEND_MAX_BYTES,
  type AppendRequest,
  type ProposerMessage,
  WAL_ACCEPTOR_PROTOCOL_VERSION,
} from "./messages.ts";
import {
  checkTermHistory,
  TERM_HISTORY_MAX_LENGTH,
  type TermEntry,
  type TermHistory,
} from "./term_history.ts";

type Message = ProposerMessage | AcceptorMessage;

/**
 * One type of message: a tag byte, then its fields, which `put` and `take` go through in the same
 * order.
 */
interface Codec<M> {
  readonly tag: number;
  /** Bytes after the tag. */
  size(message: M): number;
  put(out: Writer, message: M): void;
  take(from: Reader): M;
}

const ID_BYTES = 16;
const HISTORY_ENTRY_BYTES = 16;

const APPEND_REQUEST_TAG = "a".charCodeAt(0);

/** Bytes of an AppendRequest before its WAL. */
export const APPEND_REQUEST_HEADER_BYTES = 1 + 5 * 8;

const CODECS: { readonly [T in Message["type"]]: Codec<Extract<Message, { type: T }>> } = {
  ServerInfo: {
    tag: "g".charCodeAt(0),
    size: () => 4 + 3 * ID_BYTES + 8 + 4 + 4,
    put(out, message) {
      out.u32(message.protocolVersion);
      out.id(message.tenantId);
      out.id(message.timelineId);
      out.u64(message.systemId);
      out.u32(message.pgVersion);
      out.u32(message.segmentSize);
      out.id(message.proposerId);
    },
    take: (from) => ({
      type: "ServerInfo",
      protocolVersion: checkProtocolVersion(from.u32("protocol version")),
      tenantId: parseTenantId(from.id("tenant id")),
      timelineId: parseTimelineId(from.id("timeline id")),
      systemId: from.u64("system id"),
      pgVersion: from.u32("Postgres version"),
      segmentSize: from.u32("segment size"),
      proposerId: from.id("proposer id"),
    }),
  },
  Greeting: {
    tag: "G".charCodeAt(0),
    size: () => 8 + 4,
    put(out, message) {
      out.number(message.term);
      out.u32(message.acceptorId);
    },
    take: (from) => ({ type: "Greeting", term: from.number("term"), acceptorId: from.u32("acceptor id") }),
  },
  VoteRequest: {
    tag: "v".charCodeAt(0),
    size: () => 8,
    put: (out, message) => out.number(message.term),
    take: (from) => ({ type: "VoteRequest", term: from.number("term") }),
  },
  VoteResponse: {
    tag: "V".charCodeAt(0),
    size: ({ history }) => 8 + 1 + 2 * 8 + historyBytes(history),
    put(out, message) {
      out.number(message.term);
      out.u8(message.granted ? 1 : 0);
      out.number(message.flushLsn);
      out.number(message.timelineStartLsn);
      out.history(message.history);
    },
    take: (from) => ({
      type: "VoteResponse",
      term: from.number("term"),
      granted: from.boolean("granted"),
      flushLsn: from.lsn("flush LSN"),
      timelineStartLsn: from.lsn("timeline start LSN"),
      history: from.history(),
    }),
  },
  ProposerElected: {
    tag: "e".charCodeAt(0),
    size: ({ history }) => 3 * 8 + historyBytes(history),
    put(out, message) {
      out.number(message.term);
      out.number(message.startLsn);
      out.number(message.timelineStartLsn);
      out.history(message.history);
    },
    take: (from) => ({
      type: "ProposerElected",
      term: from.number("term"),
      startLsn: from.lsn("start LSN"),
      timelineStartLsn: from.lsn("timeline start LSN"),
      history: from.history(),
    }),
  },
  AppendRequest: {
    tag: APPEND_REQUEST_TAG,
    size: ({ bytes }) => 5 * 8 + bytes.length,
    put(out, message) {
      putAppendHeader(out, message);
      out.rest(message.bytes);
    },
    take: (from) => ({
      type: "AppendRequest",
      term: from.number("term"),
      beginLsn: from.lsn("begin LSN"),
      commitLsn: from.lsn("commit LSN"),
      truncateLsn: from.lsn("truncate LSN"),
      remoteConsistentLsn: from.lsn("remote consistent LSN"),
      bytes: from.rest(APPEND_MAX_BYTES, "AppendRequest"),
    }),
  },
  AppendResponse: {
    tag: "A".charCodeAt(0),
    size: () => 6 * 8,
    put(out, message) {
      out.number(message.term);
      out.number(message.historyTerm);
      out.number(message.flushLsn);
      out.number(message.durableLsn);
      out.number(message.commitLsn);
      out.number(message.remoteConsistentLsn);
    },
    take: (from) => ({
      type: "AppendResponse",
      term: from.number("term"),
      historyTerm: from.number("history term"),
      flushLsn: from.lsn("flush LSN"),
      durableLsn: from.lsn("durable LSN"),
      commitLsn: from.lsn("commit LSN"),
      remoteConsistentLsn: from.lsn("remote consistent LSN"),
    }),
  },
};

const PROPOSER_CODECS: readonly Codec<ProposerMessage>[] = [
  CODECS.AppendRequest,
  CODECS.ServerInfo,
  CODECS.VoteRequest,
  CODECS.ProposerElected,
];
const ACCEPTOR_CODECS: readonly Codec<AcceptorMessage>[] = [
  CODECS.AppendResponse,
  CODECS.Greeting,
  CODECS.VoteResponse,
];

/** Encodes a message as the bytes of one CopyData. */
export function encodeMessage(message: Message): Uint8Array {
  const codec: Codec<Message> = CODECS[message.type];
  const out = new Writer(new Uint8Array(1 + codec.size(message)), 0);
  out.u8(codec.tag);
  codec.put(out, message);
  return out.bytes;
}

/**
 * Writes what comes before an AppendRequest's WAL, for senders that hold the WAL elsewhere.
 * @returns the offset of the WAL
 */
export function encodeAppendRequestHeader(bytes: Uint8Array, off: number, header: AppendHeader): number {
  const out = new Writer(bytes, off);
  out.u8(APPEND_REQUEST_TAG);
  putAppendHeader(out, header);
  return off + APPEND_REQUEST_HEADER_BYTES;
}

type AppendHeader = Omit<AppendRequest, "type" | "bytes">;

function putAppendHeader(out: Writer, header: AppendHeader): void {
  out.number(header.term);
  out.number(header.beginLsn);
  out.number(header.commitLsn);
  out.number(header.truncateLsn);
  out.number(header.remoteConsistentLsn);
}

/**
 * Reads what a proposer sent: `bytes[off, off + len)`. The `bytes` of an AppendRequest refer to
 * them.
 *
 * @throws {ZenithError} `protocol` on anything malformed, with its name
 */
export function decodeProposerMessage(bytes: Uint8Array, off: number, len: number): ProposerMessage {
  return decode(PROPOSER_CODECS, "a proposer", new Reader(bytes, off, len));
}

/**
 * Reads what an acceptor sent: `bytes[off, off + len)`.
 *
 * @throws {ZenithError} `protocol` on anything malformed, with its name
 */
export function decodeAcceptorMessage(bytes: Uint8Array, off: number, len: number): AcceptorMessage {
  return decode(ACCEPTOR_CODECS, "an acceptor", new Reader(bytes, off, len));
}

function decode<M extends Message>(codecs: readonly Codec<M>[], sender: string, from: Reader): M {
  const tag = from.u8("message tag");
  for (const codec of codecs) {
    if (codec.tag !== tag) continue;
    const message = codec.take(from);
    from.end(message.type);
    return message;
  }
  throw new ZenithError("protocol", `unknown message of ${sender}: tag ${tag}`);
}

function checkProtocolVersion(version: number): number {
  if (version === WAL_ACCEPTOR_PROTOCOL_VERSION) return version;
  throw new ZenithError(
    "protocol",
    `the proposer speaks protocol version ${version}, this safekeeper ${WAL_ACCEPTOR_PROTOCOL_VERSION}`,
    { hint: "run the same release of zenith on both sides" },
  );
}

function historyBytes(history: TermHistory): number {
  return 4 + history.length * HISTORY_ENTRY_BYTES;
}

/** Fills a message's bytes from the start. */
class Writer {
  readonly bytes: Uint8Array;
  #at: number;

  constructor(bytes: Uint8Array, at: number) {
    this.bytes = bytes;
    this.#at = at;
  }

  u8(value: number): void {
    this.bytes[this.#at++] = value;
  }

  u32(value: number): void {
    putUint32(this.bytes, this.#at, value);
    this.#at += 4;
  }

  u64(value: bigint): void {
    this.u32(Number(value >> 32n));
    this.u32(Number(value & 0xffff_ffffn));
  }

  /** A term or an LSN. */
  number(value: number): void {
    putUint64(this.bytes, this.#at, value);
    this.#at += 8;
  }

  id(hex: string): void {
    this.bytes.set(Buffer.from(hex, "hex"), this.#at);
    this.#at += ID_BYTES;
  }

  rest(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  history(history: TermHistory): void {
    this.u32(history.length);
    for (const { term, startLsn } of history) {
      this.number(term);
      this.number(startLsn);
    }
  }
}

/**
 * Reads a message's bytes from the start. @throws {ZenithError} `protocol`, at every step, when a
 * field is missing or makes no sense
 */
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
    return this.#bytes[this.#take(1, what)];
  }

  boolean(what: string): boolean {
    const value = this.u8(what);
    if (value > 1) {
      throw new ZenithError("protocol", `malformed message: ${what} is ${value}, expected 0 or 1`);
    }
    return value === 1;
  }

  u32(what: string): number {
    return uint32(this.#bytes, this.#take(4, what));
  }

  u64(what: string): bigint {
    const off = this.#take(8, what);
    return (BigInt(uint32(this.#bytes, off)) << 32n) | BigInt(uint32(this.#bytes, off + 4));
  }

  /** A term or an LSN. @throws {ZenithError} `out_of_range` beyond 2^53 */
  number(what: string): number {
    const off = this.#take(8, what);
    return lsnFromHalves(uint32(this.#bytes, off), uint32(this.#bytes, off + 4));
  }

  lsn(what: string): Lsn {
    return this.number(what) as Lsn;
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
      entries.push({ term: this.number("history term"), startLsn: this.lsn("history LSN") });
    }
    checkTermHistory(entries);
    return entries;
  }

  rest(maxBytes: number, type: string): Uint8Array {
    const bytes = this.#bytes.subarray(this.#at, this.#end);
    if (bytes.length > maxBytes) {
      throw new ZenithError("protocol", `${type} with ${bytes.length} bytes, the limit is ${maxBytes}`);
    }
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
}
