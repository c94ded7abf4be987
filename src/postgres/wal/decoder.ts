/**
 * Turns WAL as it is on disk or on a replication connection into records.
 *
 * Page headers are checked and left out, so that every record is contiguous and 8-byte aligned in a
 * chunk of memory that the decoder writes once: references into a chunk stay valid. Bytes move from
 * the input to a chunk only as records are asked for, a page at a time. That lets XLOG_SWITCH skip
 * the rest of a segment unread, and lets an aborted record be dropped at the page that says so.
 *
 * The rules are those of src/backend/access/transam/xlogreader.c.
 */
import { assert } from "../../common/assert.ts";
import { type BufferPool, sharedBytes } from "../../common/buffer_pool.ts";
import { crc32c } from "../../common/crc32c.ts";
import { ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import type { WalFormat } from "./wal_format.ts";
import { WalError } from "./error.ts";
import {
  alignRecordLength,
  checkWalSegmentSize,
  isRecordPosition,
  nextRecordLsn,
  pageHeaderSize,
  pageOffset,
  recordEndLsn,
  segmentOffset,
  SIZE_OF_XLOG_LONG_PHD,
  SIZE_OF_XLOG_SHORT_PHD,
  XLOG_BLCKSZ,
  XLP_FIRST_IS_CONTRECORD,
  XLP_FIRST_IS_OVERWRITE_CONTRECORD,
  XLP_INFO,
  XLP_REM_LEN,
} from "./page_header.ts";
import { PageHeaderCheck } from "./page_header_check.ts";
import { parseRecord, XL_CRC, XL_INFO, XL_PREV, XL_RMID } from "./parse.ts";
import { XLOG_OVERWRITE_CONTRECORD, XLOG_SWITCH } from "./records/xlog.ts";
import { SIZE_OF_XLOG_RECORD, type WalRecord, XLR_RMGR_INFO_MASK } from "./record.ts";
import { isKnownRecordType, isValidRmgrId, RM_XLOG_ID, rmgrName } from "./rmgr.ts";

/** MaxAllocSize: PostgreSQL can't assemble a longer record. */
const MAX_RECORD_LENGTH = 0x3fff_ffff;

// A decoder that has little to do (an idle timeline) holds little memory.
const FIRST_CHUNK_SIZE = 64 << 10;
/**
 * A busy decoder has such a chunk of its own, however little of it is used: with hundreds of
 * timelines this must not add up to hundreds of megabytes.
 */
export const CHUNK_SIZE = 256 << 10;

/**
 * The checksum of a longer record is computed as its bytes arrive, so that its end takes no longer
 * than any other's.
 */
const LONG_RECORD_BYTES = 128 << 10;
/** This much of a long record is added to its checksum at once. */
const CHECK_STEP_BYTES = 32 << 10;
/**
 * The beginning of a record that is passed over is kept until its end: it holds the headers of all
 * its parts.
 */
const KEPT_HEAD_BYTES = 2 << 10;

assert(FIRST_CHUNK_SIZE <= CHUNK_SIZE, "a chunk grows to its full size");
assert(CHECK_STEP_BYTES <= LONG_RECORD_BYTES, "a long record has at least one step of its checksum");
assert(LONG_RECORD_BYTES < CHUNK_SIZE, "a record that is no long one fits a chunk");
assert(KEPT_HEAD_BYTES <= CHECK_STEP_BYTES, "the head of a long record has come with its first step");

const TWO_POW_32 = 0x1_0000_0000;
/** xl_prev is not known yet, so the chain can't be checked. */
const UNKNOWN_PREV = -1;

export interface WalDecoderOptions {
  /** The major that wrote the WAL. */
  pg: WalFormat;
  /**
   * Where the first record starts. A page boundary means the first record after that page's header.
   */
  startLsn: Lsn;
  /** wal_segment_size in bytes. */
  segmentSize: number;
  /** Checked against each segment's first page when given. */
  systemId?: bigint;
  /** The xl_prev that the first record must have, where it is known. */
  prevLsn?: Lsn;
  /**
   * `startLsn` may be any position; the first record is the first one that starts at or after it.
   * The input must begin at or before the boundary of the page that holds `startLsn`.
   */
  findFirst?: boolean;
  /**
   * Zeros where a record or a page header should start mark the end of the WAL, as in a
   * preallocated file. In a stream, where they are impossible, they are an error.
   */
  zerosAreEnd?: boolean;
  /**
   * A record of a type that the major does not have is an error: replay would miss what it changes.
   * Without this option, only the record's parts have to be valid.
   */
  knownTypesOnly?: boolean;
  /**
   * Where chunks of {@link CHUNK_SIZE} bytes come from. A caller that keeps references to records
   * after the next call of {@link WalDecoder.next} must retain their chunk.
   */
  buffers?: BufferPool;
  /**
   * Says whether nobody looks into the records of a resource manager. A long one is then checked
   * like any other, but its data is not kept ({@link WalRecord.isWhole}): up to 1 GiB that takes no
   * memory.
   */
  passesOver?(rmid: number): boolean;
}

assert(KEPT_HEAD_BYTES % 8 === 0, "what follows the head keeps its alignment");
assert(KEPT_HEAD_BYTES + XLOG_BLCKSZ < FIRST_CHUNK_SIZE, "any chunk has room for the head and more");

export class WalDecoder {
  readonly segmentSize: number;
  readonly #pg: WalFormat;
  readonly #headerCheck: PageHeaderCheck;
  readonly #zerosAreEnd: boolean;
  readonly #knownTypesOnly: boolean;
  readonly #buffers: BufferPool | undefined;

  // Input not yet taken over: in[inOff..] starts at inLsn, then come the pieces of the queue,
  // without gaps.
  #in: Uint8Array = NO_BYTES;
  #inOff = 0;
  #inLsn: number;
  readonly #queue: Uint8Array[] = [];
  #fedLsn: number;
  /** Input below this is passed over. */
  #skipTo: number;

  // The current chunk: [rd, wr) is WAL without page headers that no returned record covers. rd may
  // be ahead of wr by a record's padding that has not arrived yet.
  #chunk: Uint8Array = NO_BYTES;
  #words: Uint32Array = new Uint32Array(0);
  #rd = 0;
  #wr = 0;

  // The long record under way: its length (0 when there is none), how much of it is in its
  // checksum, and how much of that was dropped after its head.
  #longLength = 0;
  #checked = 0;
  #bodyCrc = 0;
  #dropped = 0;
  #passing = false;
  readonly #passesOver: ((rmid: number) => boolean) | undefined;

  /** End of the last record; the next one starts here, or after the page header here. */
  #endLsn: number;
  #prevLsn: number;
  /** Records that start below this are decoded but not returned. */
  readonly #firstLsn: number;
  /** No record boundary is known yet: the next page header tells where the first record starts. */
  #searching: boolean;
  /** Bytes of a record whose beginning was not seen, still to be passed over. */
  #passOver = 0;
  /** Start of a record that a page header declared aborted; the next record must say so too. */
  #abortedLsn = 0;

  readonly #header = new Uint8Array(SIZE_OF_XLOG_LONG_PHD);
  readonly #headerView = new DataView(this.#header.buffer);
  #ended = false;
  #failure: WalError | undefined;

  /**
   * @throws {ZenithError} `invalid_argument` when no record can start at `startLsn`, or on a bad
   *   segment size
   */
  constructor(options: WalDecoderOptions) {
    checkWalSegmentSize(options.segmentSize);
    this.#pg = options.pg;
    this.segmentSize = options.segmentSize;
    this.#headerCheck = new PageHeaderCheck(options.pg, options.segmentSize, options.systemId);
    this.#zerosAreEnd = options.zerosAreEnd ?? false;
    this.#knownTypesOnly = options.knownTypesOnly ?? false;
    this.#buffers = options.buffers;
    this.#passesOver = options.passesOver;
    this.#prevLsn = options.prevLsn ?? UNKNOWN_PREV;
    this.#searching = options.findFirst ?? false;
    const start = options.startLsn;
    if (!this.#searching && !isRecordPosition(start, this.segmentSize)) {
      throw new ZenithError("invalid_argument", `no WAL record can start at ${formatLsn(start)}`);
    }
    this.#firstLsn = start;
    // The header of the first record's page matters when it tells where that record is.
    const from = this.#searching || start === nextRecordLsn(start - pageOffset(start), this.segmentSize)
      ? start - pageOffset(start)
      : start;
    this.#endLsn = from;
    this.#inLsn = from;
    this.#fedLsn = from;
    this.#skipTo = from;
  }

  /**
   * Adds WAL with its page headers, in pieces of any size. Pieces may overlap: bytes below what was
   * fed before are ignored. `bytes` is not copied, and must not change until {@link next} has
   * returned false.
   *
   * @param lsn position of `bytes[0]`
   * @throws {ZenithError} `invalid_argument` when there is a gap between what was fed before and
   *   `lsn`
   */
  feed(bytes: Uint8Array, lsn: Lsn): void {
    if (lsn > this.#fedLsn) {
      // The first page's header is not needed to start after it.
      const atStart = this.#fedLsn === this.#inLsn && this.#wr === 0 && !this.#searching;
      if (!atStart || lsn !== nextRecordLsn(this.#fedLsn, this.segmentSize)) {
        throw new ZenithError(
          "invalid_argument",
          `WAL from ${formatLsn(lsn)} does not follow on ${formatLsn(this.#fedLsn as Lsn)}`,
        );
      }
      this.#inLsn = lsn;
      this.#fedLsn = lsn;
    }
    const known = this.#fedLsn - lsn;
    if (known >= bytes.length) return;
    this.#queue.push(known === 0 ? bytes : bytes.subarray(known));
    this.#fedLsn = lsn + bytes.length;
  }

  /**
   * Fills `rec` with the next record. Returns false when everything fed is used up: feed more (or
   * see {@link ended}).
   *
   * After an error the decoder stays where it is, and every further call throws the same error.
   *
   * @throws {WalError} when the WAL is not valid
   */
  next(rec: WalRecord): boolean {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      while (this.#decode(rec)) {
        if (rec.lsn >= this.#firstLsn) return true;
      }
      return false;
    } catch (error) {
      if (error instanceof WalError) this.#failure = error;
      throw error;
    }
  }

  /**
   * Where the next record starts or will start: after a page header, never at one. A compute can
   * start here.
   */
  get position(): Lsn {
    return nextRecordLsn(this.#endLsn, this.segmentSize);
  }

  /**
   * End of the last record that was decoded (its EndRecPtr); the start position before there was
   * one.
   */
  get endLsn(): Lsn {
    return this.#endLsn as Lsn;
  }

  /**
   * Start of the last decoded record, which the next one has in xl_prev. Undefined while unknown.
   */
  get lastRecordLsn(): Lsn | undefined {
    return this.#prevLsn === UNKNOWN_PREV ? undefined : this.#prevLsn as Lsn;
  }

  /** Up to where WAL was fed. */
  get fedLsn(): Lsn {
    return this.#fedLsn as Lsn;
  }

  /**
   * Whether the beginning of a record was fed whose rest is missing. Valid after {@link next} has
   * returned false.
   */
  get hasPartialRecord(): boolean {
    return this.#wr > this.#rd;
  }

  /** Zeros were found that mark the end of the WAL; see {@link WalDecoderOptions.zerosAreEnd}. */
  get ended(): boolean {
    return this.#ended;
  }

  #decode(rec: WalRecord): boolean {
    let need = SIZE_OF_XLOG_RECORD;
    while (this.#wr - this.#rd < need) {
      if (this.#ended || !this.#pull()) return false;
      // An impossible length must not make us wait for a second page.
      if (this.#wr - this.#rd >= 8 && !this.#checkLength()) return false;
    }
    if (!this.#checkLength()) return false;
    need = this.#words[this.#rd >> 2];
    const lsn = nextRecordLsn(this.#endLsn, this.segmentSize);
    const prev = this.#checkHeader(lsn);
    if (need > LONG_RECORD_BYTES) return this.#decodeLong(rec, lsn, prev, need);
    while (this.#wr - this.#rd < need) {
      if (!this.#pull()) return false;
      // The record was dropped at a page that overwrites it, or the file ends in its middle.
      if (this.#ended) return false;
      if (this.#endLsn > lsn) return this.#decode(rec);
    }

    const bodyCrc = crc32c(this.#chunk, this.#rd + SIZE_OF_XLOG_RECORD, need - SIZE_OF_XLOG_RECORD);
    this.#finish(rec, lsn, prev, need, bodyCrc);
    return true;
  }

  /**
   * The rest of {@link #decode} for a record that comes in many pieces: each is checked when it
   * arrives, and dropped if nobody wants it.
   */
  #decodeLong(rec: WalRecord, lsn: Lsn, prev: number, need: number): boolean {
    if (this.#longLength === 0) {
      this.#longLength = need;
      this.#checked = SIZE_OF_XLOG_RECORD;
      this.#passing = this.#passesOver?.(this.#chunk[this.#rd + XL_RMID]) ?? false;
    }
    while (this.#pending < need) {
      if (!this.#pull()) return false;
      if (this.#ended) return false;
      // The record was dropped at a page that overwrites it.
      if (this.#endLsn > lsn) return this.#decode(rec);
      if (this.#pending - this.#checked >= CHECK_STEP_BYTES) this.#checkLong();
    }
    this.#checkLong();
    this.#finish(rec, lsn, prev, need, this.#bodyCrc);
    return true;
  }

  /** Bytes of the record at rd that have arrived. */
  get #pending(): number {
    return this.#wr - this.#rd + this.#dropped;
  }

  /** Adds what has arrived of the long record to its checksum. */
  #checkLong(): void {
    const to = Math.min(this.#pending, this.#longLength);
    const from = this.#rd + this.#checked - this.#dropped;
    this.#bodyCrc = crc32c(this.#chunk, from, to - this.#checked, this.#bodyCrc);
    this.#checked = to;
  }

  /**
   * Forgets what has arrived of the record that is passed over, except its head. Returns false when
   * there is too little.
   */
  #dropMiddle(): boolean {
    const headEnd = this.#rd + KEPT_HEAD_BYTES;
    if (!this.#passing || this.#wr <= headEnd) return false;
    this.#checkLong();
    this.#dropped += this.#wr - headEnd;
    this.#wr = headEnd;
    return true;
  }

  #forgetLong(): void {
    this.#longLength = 0;
    this.#checked = 0;
    this.#bodyCrc = 0;
    this.#dropped = 0;
    this.#passing = false;
  }

  /** All of the record has arrived; `bodyCrc` is the checksum of everything after its header. */
  #finish(rec: WalRecord, lsn: Lsn, prev: number, need: number, bodyCrc: number): void {
    const off = this.#rd;
    const bytes = this.#chunk;
    if (crc32c(bytes, off, XL_CRC, bodyCrc) !== this.#words[(off + XL_CRC) >> 2]) {
      throw new WalError(lsn, `checksum mismatch in a record of ${need} bytes`);
    }
    rec.lsn = lsn;
    rec.xl_prev = prev;
    parseRecord(rec, bytes, off, this.#pg, this.#dropped);
    if (this.#knownTypesOnly && !isKnownRecordType(this.#pg, rec.xl_rmid, rec.xl_info)) {
      throw new WalError(
        lsn,
        `PostgreSQL ${this.#pg.major} has no ${rmgrName(rec.xl_rmid)} record of type 0x${
          rec.xl_info.toString(16)
        }`,
      );
    }
    this.#rd = off + alignRecordLength(need) - this.#dropped;
    if (this.#longLength !== 0) this.#forgetLong();
    this.#prevLsn = lsn;
    this.#endLsn = recordEndLsn(lsn, need, this.segmentSize);
    if (rec.xl_rmid === RM_XLOG_ID) this.#noteXlogRecord(rec);
    else if (this.#abortedLsn !== 0) this.#checkOverwrite(rec);
    rec.endLsn = this.#endLsn;
  }

  /** Checks the length of the record at rd. Returns false for the zero that ends the WAL. */
  #checkLength(): boolean {
    const length = this.#words[this.#rd >> 2];
    if (length >= SIZE_OF_XLOG_RECORD && length <= MAX_RECORD_LENGTH) return true;
    if (length === 0 && this.#zerosAreEnd) {
      this.#ended = true;
      this.#rd = this.#wr;
      return false;
    }
    throw new WalError(
      this.position,
      `record length ${length} is outside ${SIZE_OF_XLOG_RECORD}..${MAX_RECORD_LENGTH}`,
    );
  }

  /**
   * Checks the header of the record at rd as far as possible without its body; returns its xl_prev.
   */
  #checkHeader(lsn: number): number {
    const word = this.#rd >> 2;
    const prev = this.#words[(this.#rd + XL_PREV + 4) >> 2] * TWO_POW_32 + this.#words[word + 2];
    if (this.#prevLsn === UNKNOWN_PREV ? prev >= lsn : prev !== this.#prevLsn) {
      const expected = this.#prevLsn === UNKNOWN_PREV
        ? "an LSN below the record's own"
        : formatLsn(this.#prevLsn as Lsn);
      throw new WalError(
        lsn,
        `xl_prev is ${prev <= Number.MAX_SAFE_INTEGER ? formatLsn(prev as Lsn) : prev}, expected ${expected}`,
      );
    }
    const rmid = this.#chunk[this.#rd + XL_RMID];
    if (!isValidRmgrId(rmid)) throw new WalError(lsn, `invalid resource manager id ${rmid}`);
    return prev;
  }

  #noteXlogRecord(rec: WalRecord): void {
    if (this.#abortedLsn !== 0) this.#checkOverwrite(rec);
    if ((rec.xl_info & XLR_RMGR_INFO_MASK) !== XLOG_SWITCH) return;
    // The record counts as reaching to the end of its segment, whatever is there.
    const beyond = segmentOffset(this.#endLsn, this.segmentSize);
    if (beyond !== 0) this.#endLsn += this.segmentSize - beyond;
    this.#skipTo = this.#endLsn;
    this.#rd = alignRecordLength(Math.max(this.#rd, this.#wr));
    this.#wr = this.#rd;
  }

  /** An aborted record must be followed by the record that names it (VerifyOverwriteContrecord). */
  #checkOverwrite(rec: WalRecord): void {
    const aborted = this.#abortedLsn;
    this.#abortedLsn = 0;
    const isOverwrite = rec.xl_rmid === RM_XLOG_ID &&
      (rec.xl_info & XLR_RMGR_INFO_MASK) === XLOG_OVERWRITE_CONTRECORD && rec.mainLen >= 8 &&
      rec.isWhole;
    if (!isOverwrite) {
      throw new WalError(
        rec.lsn,
        `expected OVERWRITE_CONTRECORD after the aborted record at ${formatLsn(aborted as Lsn)}, ` +
          `found rmgr ${rec.xl_rmid} info 0x${this.#chunk[rec.off + XL_INFO].toString(16)}`,
      );
    }
    const view = new DataView(rec.bytes.buffer, rec.bytes.byteOffset + rec.mainOff, 8);
    const named = view.getUint32(4, true) * TWO_POW_32 + view.getUint32(0, true);
    if (named !== aborted) {
      throw new WalError(
        rec.lsn,
        `OVERWRITE_CONTRECORD names 0x${named.toString(16)}, the aborted record is at ${
          formatLsn(aborted as Lsn)
        }`,
      );
    }
  }

  /**
   * Takes over input up to the end of a page at most. Returns false when none is left, and true
   * when something has changed, which may not be enough.
   */
  #pull(): boolean {
    for (;;) {
      let available = this.#in.length - this.#inOff;
      if (available === 0) {
        const piece = this.#queue.shift();
        this.#in = piece ?? NO_BYTES;
        this.#inOff = 0;
        if (piece === undefined) return false;
        available = piece.length;
      }
      if (this.#inLsn < this.#skipTo) {
        this.#consume(Math.min(available, this.#skipTo - this.#inLsn));
        continue;
      }
      const offset = pageOffset(this.#inLsn);
      const pageLsn = this.#inLsn - offset;
      const headerSize = pageHeaderSize(pageLsn, this.segmentSize);
      if (offset < headerSize) {
        const count = Math.min(available, headerSize - offset);
        for (let i = 0; i < count; i++) this.#header[offset + i] = this.#in[this.#inOff + i];
        this.#consume(count);
        if (offset + count === headerSize) {
          this.#acceptPage(pageLsn, headerSize);
          if (this.#ended) return true;
        }
        continue;
      }
      const inPage = Math.min(available, XLOG_BLCKSZ - offset);
      if (this.#passOver > 0) {
        const count = Math.min(inPage, this.#passOver);
        this.#passOver -= count;
        this.#consume(count);
        continue;
      }
      if (this.#wr === this.#chunk.length && !this.#dropMiddle()) this.#nextChunk();
      const count = Math.min(inPage, this.#chunk.length - this.#wr);
      this.#chunk.set(this.#in.subarray(this.#inOff, this.#inOff + count), this.#wr);
      this.#wr += count;
      this.#consume(count);
      return true;
    }
  }

  #consume(count: number): void {
    this.#inOff += count;
    this.#inLsn += count;
  }

  /** Checks the header of a page and what it says about the record that reaches into it. */
  #acceptPage(pageLsn: number, headerSize: number): void {
    const view = this.#headerView;
    if (this.#zerosAreEnd && this.#isZeroHeader()) {
      this.#ended = true;
      return;
    }
    const info = view.getUint16(XLP_INFO, true);
    this.#headerCheck.check(view, pageLsn, headerSize);
    const remLen = view.getUint32(XLP_REM_LEN, true);
    const continues = (info & XLP_FIRST_IS_CONTRECORD) !== 0;
    if (this.#searching) {
      this.#findFirstInPage(pageLsn, headerSize, continues ? remLen : 0);
      return;
    }
    const pending = this.#pending;
    if (pending <= 0) {
      if (continues) throw new WalError(pageLsn, "a continuation record where a new one should start");
      return;
    }
    const recordLsn = this.position;
    if ((info & XLP_FIRST_IS_OVERWRITE_CONTRECORD) !== 0) {
      this.#abortedLsn = recordLsn;
      this.#rd = this.#wr;
      this.#endLsn = pageLsn;
      this.#forgetLong();
      return;
    }
    if (!continues) {
      throw new WalError(recordLsn, `the record is not continued at ${formatLsn(pageLsn as Lsn)}`);
    }
    const expected = this.#words[this.#rd >> 2] - pending;
    if (remLen !== expected) {
      throw new WalError(
        recordLsn,
        `${expected} bytes are missing, but the page at ${
          formatLsn(pageLsn as Lsn)
        } continues with ${remLen}`,
      );
    }
  }

  #isZeroHeader(): boolean {
    for (let i = 0; i < SIZE_OF_XLOG_SHORT_PHD; i++) {
      if (this.#header[i] !== 0) return false;
    }
    return true;
  }

  /**
   * Passes over the end of a record that began earlier; the first record starts after it
   * (XLogFindNextRecord).
   */
  #findFirstInPage(pageLsn: number, headerSize: number, remLen: number): void {
    const rest = alignRecordLength(remLen);
    const payload = XLOG_BLCKSZ - headerSize;
    if (rest >= payload) {
      this.#passOver = payload;
      this.#endLsn = pageLsn + XLOG_BLCKSZ;
      return;
    }
    this.#passOver = rest;
    this.#endLsn = pageLsn + headerSize + rest;
    this.#searching = false;
  }

  /**
   * Continues in a new chunk, and moves the beginning of an unfinished record there. A chunk grows
   * with the bytes that have arrived, not with the length that a record claims.
   */
  #nextChunk(): void {
    const pending = Math.max(0, this.#wr - this.#rd);
    assert(this.#rd <= this.#wr, "a full chunk ends at a multiple of the alignment");
    const grown = this.#chunk.length === 0
      ? FIRST_CHUNK_SIZE
      : Math.min(CHUNK_SIZE, Math.max(FIRST_CHUNK_SIZE, this.#chunk.length * 2));
    const wanted = pending === 0 ? 0 : Math.min(pending * 2, this.#words[this.#rd >> 2]);
    const next = this.#newChunk(Math.max(grown, alignRecordLength(wanted)));
    next.set(this.#chunk.subarray(this.#rd, this.#wr));
    this.#buffers?.release(this.#chunk);
    this.#chunk = next;
    this.#words = new Uint32Array(next.buffer);
    this.#rd = 0;
    this.#wr = pending;
  }

  #newChunk(size: number): Uint8Array {
    return size === this.#buffers?.bufferBytes ? this.#buffers.take() : sharedBytes(size);
  }
}

const NO_BYTES = new Uint8Array(0);
