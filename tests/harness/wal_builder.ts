/** Writes WAL by hand, for tests: any records, in any place, well-formed unless asked otherwise. */
import { V15 } from "../../src/postgres/versions/v15.ts";
import type { WalFormat } from "../../src/postgres/wal/wal_format.ts";
import { crc32c } from "../../src/common/crc32c.ts";
import type { Lsn } from "../../src/common/lsn.ts";
import { nextRecordLsn } from "../../src/postgres/wal/page_header.ts";

const PAGE = 8192;
const RECORD_HEADER = 24;
const SHORT_HEADER = 24;
const LONG_HEADER = 40;
const CONTRECORD = 1;
const LONG = 2;
const OVERWRITE_CONTRECORD = 8;
const TWO_POW_32 = 0x1_0000_0000;

export interface BlockSpec {
  id: number;
  /** Low four bits of fork_flags; the rest follows from what is given. */
  fork?: number;
  willInit?: boolean;
  /** Undefined: the same relation as the block before. */
  rel?: readonly [spc: number, db: number, rel: number];
  blkno: number;
  data?: Uint8Array;
  image?: {
    bytes: Uint8Array;
    info: number;
    holeOff?: number;
    holeLen?: number;
    /** Whether the length of the hole is written; by default as PostgreSQL 15's flags say. */
    compressed?: boolean;
  };
}

export interface RecordSpec {
  rmid?: number;
  info?: number;
  xid?: number;
  main?: Uint8Array;
  blocks?: readonly BlockSpec[];
  origin?: number;
  toplevelXid?: number;
  /** Everything behind the header, instead of what the fields above make. */
  body?: Uint8Array;
  prev?: number;
}

export interface BuiltRecord {
  lsn: Lsn;
  endLsn: Lsn;
  prev: number;
  bytes: Uint8Array;
}

export interface WalBuilderOptions {
  /** The major whose pages it writes: 15 when left out. */
  pg?: WalFormat;
  /** The first record's position; a page boundary means behind its header. */
  startLsn: number;
  segmentSize?: number;
  systemId?: bigint;
  tli?: number;
  prev?: number;
  /** Begin with this many bytes of the end of a record that started earlier; needs a page boundary as startLsn. */
  leftover?: number;
}

/** Where the last of the records starts that end at these positions: behind the header where its page begins with it. */
export function lastRecord(ends: readonly Lsn[], segmentSize: number): Lsn | undefined {
  const before = ends.at(-2);
  return before === undefined ? undefined : nextRecordLsn(before, segmentSize);
}

export class WalBuilder {
  readonly segmentSize: number;
  readonly systemId: bigint;
  readonly records: BuiltRecord[] = [];
  /** LSN of the first byte of {@link bytes}: a page boundary. */
  readonly from: Lsn;
  readonly #magic: number;
  #tli: number;
  #prev: number;
  #buffer = new Uint8Array(1 << 16);
  #lsn: number;

  constructor(options: WalBuilderOptions) {
    this.segmentSize = options.segmentSize ?? 1 << 20;
    this.systemId = options.systemId ?? 7000000000000000001n;
    this.#magic = (options.pg ?? V15).walPageMagic;
    this.#tli = options.tli ?? 1;
    this.#prev = options.prev ?? 0;
    this.from = (options.startLsn - options.startLsn % PAGE) as Lsn;
    this.#lsn = this.from;
    const leftover = options.leftover ?? 0;
    if (leftover > 0) {
      this.#put(new Uint8Array(leftover).fill(0xee), leftover);
      this.#align();
    } else if (options.startLsn !== this.from) {
      this.#header(0, 0);
      this.#lsn = options.startLsn;
    }
  }

  /** Where the next byte goes. */
  get lsn(): Lsn {
    return this.#lsn as Lsn;
  }

  /** All WAL so far, page headers included, from {@link from} on. */
  get bytes(): Uint8Array {
    return this.#room(0).subarray(0, this.#lsn - this.from);
  }

  record(spec: RecordSpec = {}): BuiltRecord {
    const bytes = encodeRecord(spec, spec.prev ?? this.#prev);
    return this.#append(bytes);
  }

  /** An XLOG_SWITCH record, and zeros to the end of the segment. */
  switchSegment(): BuiltRecord {
    const built = this.#append(encodeRecord({ rmid: 0, info: 0x40, body: new Uint8Array(0) }, this.#prev));
    const rest = this.#lsn % this.segmentSize;
    if (rest !== 0) {
      const zeros = this.segmentSize - rest;
      this.#room(zeros);
      this.#lsn += zeros;
      built.endLsn = this.#lsn as Lsn;
    }
    return built;
  }

  /**
   * The beginning of a record, up to the end of its `pages`-th page, that never gets finished; the next page says so,
   * and begins with an OVERWRITE_CONTRECORD record. Returns where the lost record started.
   */
  abortedRecord(spec: RecordSpec, pages = 1, overwrite: RecordSpec | undefined = undefined): Lsn {
    const bytes = encodeRecord(spec, this.#prev);
    if (this.#lsn % PAGE === 0) this.#header(0, 0);
    const lsn = this.#lsn as Lsn;
    let done = 0;
    for (let page = 0; page < pages; page++) {
      if (page > 0) this.#header(bytes.length - done, CONTRECORD);
      const count = PAGE - this.#lsn % PAGE;
      if (done + count >= bytes.length) throw new Error("the record is too short to be cut there");
      this.#raw(bytes.subarray(done, done + count));
      done += count;
    }
    this.#header(0, OVERWRITE_CONTRECORD);
    const main = new Uint8Array(16);
    new DataView(main.buffer).setBigUint64(0, BigInt(lsn), true);
    this.#append(encodeRecord(overwrite ?? { rmid: 0, info: 0xd0, main }, this.#prev));
    return lsn;
  }

  /** Zeros up to a length that is a multiple of `unit`. */
  zeros(unit: number): void {
    const rest = (this.#lsn - this.from) % unit;
    if (rest === 0) return;
    this.#room(unit - rest);
    this.#lsn += unit - rest;
  }

  #append(bytes: Uint8Array): BuiltRecord {
    if (this.#lsn % PAGE === 0) this.#header(0, 0);
    const lsn = this.#lsn as Lsn;
    this.#put(bytes, 0);
    this.#align();
    const prev = this.#prev;
    this.#prev = lsn;
    const built = { lsn, endLsn: this.#lsn as Lsn, prev, bytes };
    this.records.push(built);
    return built;
  }

  /** Writes bytes of one record across pages. `remaining` is what the first page says when it begins with them. */
  #put(bytes: Uint8Array, remaining: number): void {
    let done = 0;
    if (this.#lsn % PAGE === 0) this.#header(remaining, remaining > 0 ? CONTRECORD : 0);
    for (;;) {
      const count = Math.min(bytes.length - done, PAGE - this.#lsn % PAGE);
      this.#raw(bytes.subarray(done, done + count));
      done += count;
      if (done === bytes.length) return;
      this.#header(bytes.length - done, CONTRECORD);
    }
  }

  #align(): void {
    const rest = this.#lsn % 8;
    if (rest !== 0) {
      this.#room(8 - rest);
      this.#lsn += 8 - rest;
    }
  }

  #raw(bytes: Uint8Array): void {
    this.#room(bytes.length).set(bytes, this.#lsn - this.from);
    this.#lsn += bytes.length;
  }

  #header(remLen: number, flags: number): void {
    const isLong = this.#lsn % this.segmentSize === 0;
    const bytes = new Uint8Array(isLong ? LONG_HEADER : SHORT_HEADER);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, this.#magic, true);
    view.setUint16(2, flags | (isLong ? LONG : 0), true);
    view.setUint32(4, this.#tli, true);
    view.setBigUint64(8, BigInt(this.#lsn), true);
    view.setUint32(16, remLen, true);
    if (isLong) {
      view.setBigUint64(24, this.systemId, true);
      view.setUint32(32, this.segmentSize, true);
      view.setUint32(36, PAGE, true);
    }
    this.#raw(bytes);
  }

  #room(length: number): Uint8Array {
    const need = this.#lsn - this.from + length;
    if (need > this.#buffer.length) {
      const larger = new Uint8Array(Math.max(need, this.#buffer.length * 2));
      larger.set(this.#buffer);
      this.#buffer = larger;
    }
    return this.#buffer;
  }
}

/** One record, contiguous, with its checksum. */
export function encodeRecord(spec: RecordSpec, prev: number): Uint8Array {
  const body = spec.body ?? encodeBody(spec);
  const bytes = new Uint8Array(RECORD_HEADER + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint32(4, spec.xid ?? 0, true);
  view.setUint32(8, prev % TWO_POW_32, true);
  view.setUint32(12, Math.floor(prev / TWO_POW_32), true);
  bytes[16] = spec.info ?? 0x20;
  bytes[17] = spec.rmid ?? 0;
  bytes.set(body, RECORD_HEADER);
  sealRecord(bytes);
  return bytes;
}

/** Puts the right checksum into a contiguous record. */
export function sealRecord(bytes: Uint8Array): void {
  const crc = crc32c(bytes, 0, 20, crc32c(bytes, RECORD_HEADER, bytes.length - RECORD_HEADER));
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(20, crc, true);
}

function encodeBody(spec: RecordSpec): Uint8Array {
  const headers: number[] = [];
  const payload: Uint8Array[] = [];
  const u16 = (value: number) => headers.push(value & 0xff, value >>> 8);
  const u32 = (value: number) => {
    headers.push(value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24);
  };
  for (const block of spec.blocks ?? []) {
    const data = block.data ?? new Uint8Array(0);
    const flags = (block.fork ?? 0) | (block.image === undefined ? 0 : 0x10) | (data.length > 0 ? 0x20 : 0) |
      (block.willInit === true ? 0x40 : 0) | (block.rel === undefined ? 0x80 : 0);
    headers.push(block.id, flags);
    u16(data.length);
    if (block.image !== undefined) {
      u16(block.image.bytes.length);
      u16(block.image.holeOff ?? 0);
      headers.push(block.image.info);
      const compressed = block.image.compressed ?? (block.image.info & 0x1c) !== 0;
      if (compressed && (block.image.info & 1) !== 0) u16(block.image.holeLen ?? 0);
      payload.push(block.image.bytes);
    }
    for (const oid of block.rel ?? []) u32(oid);
    u32(block.blkno);
    payload.push(data);
  }
  if (spec.origin !== undefined) {
    headers.push(253);
    u16(spec.origin);
  }
  if (spec.toplevelXid !== undefined) {
    headers.push(252);
    u32(spec.toplevelXid);
  }
  const main = spec.main ?? new Uint8Array(0);
  if (main.length > 255) {
    headers.push(254);
    u32(main.length);
  } else if (main.length > 0) {
    headers.push(255, main.length);
  }
  payload.push(main);
  const size = payload.reduce((sum, part) => sum + part.length, headers.length);
  const body = new Uint8Array(size);
  body.set(headers);
  let at = headers.length;
  for (const part of payload) {
    body.set(part, at);
    at += part.length;
  }
  return body;
}
