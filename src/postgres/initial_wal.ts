/**
 * The WAL that stock Postgres needs to start at any record boundary: one segment file that holds nothing but a
 * shutdown checkpoint there. With a control file that points at it, Postgres starts as after a clean shutdown.
 */
import { assert } from "../common/assert.ts";
import { crc32c } from "../common/crc32c.ts";
import { ZenithError } from "../common/errors.ts";
import { formatLsn, type Lsn, lsnHigh, lsnLow } from "../common/lsn.ts";
import { type CheckPoint, SIZE_OF_CHECKPOINT, writeCheckpoint } from "./checkpoint.ts";
import { XLOG_PAGE_MAGIC } from "./versions/v15.ts";
import {
  checkWalSegmentSize,
  isRecordPosition,
  nextRecordLsn,
  pageHeaderSize,
  pageOffset,
  recordEndLsn,
  segmentStart,
  SIZE_OF_XLOG_LONG_PHD,
  XLOG_BLCKSZ,
  XLP_FIRST_IS_CONTRECORD,
  XLP_INFO,
  XLP_LONG_HEADER,
  XLP_MAGIC,
  XLP_PAGEADDR,
  XLP_REM_LEN,
  XLP_SEG_SIZE,
  XLP_SYSID,
  XLP_TLI,
  XLP_XLOG_BLCKSZ,
} from "./wal/page_header.ts";
import { XL_CRC, XL_INFO, XL_PREV, XL_RMID, XL_TOT_LEN, XLR_BLOCK_ID_DATA_SHORT } from "./wal/parse.ts";
import { SIZE_OF_XLOG_RECORD } from "./wal/record.ts";
import { XLOG_CHECKPOINT_SHUTDOWN } from "./wal/records/xlog.ts";
import { RM_XLOG_ID } from "./wal/rmgr.ts";

/** The id and the length byte before short main data (XLogRecordDataHeaderShort). */
const SHORT_DATA_HEADER = 2;

/** Length in bytes of a checkpoint record. */
export const CHECKPOINT_RECORD_LENGTH = SIZE_OF_XLOG_RECORD + SHORT_DATA_HEADER + SIZE_OF_CHECKPOINT;

export interface ShutdownCheckpoint {
  /** Where the record starts; a page boundary means behind the page's header. */
  lsn: Lsn;
  /** Where the record before it starts. */
  prev: Lsn;
  segmentSize: number;
  /** `redo` and `oldestActiveXid` are set as a shutdown checkpoint at `lsn` has them. */
  checkpoint: CheckPoint;
}

export interface InitialSegmentOptions extends ShutdownCheckpoint {
  systemId: bigint;
}

export interface WalSegmentStart {
  /** LSN of the segment's first byte. */
  segmentStart: Lsn;
  /** The segment's beginning, whole pages; what follows to the segment's end is zeros. */
  bytes: Uint8Array;
}

export interface InitialSegment extends WalSegmentStart {
  /** Where the checkpoint record starts. */
  recordLsn: Lsn;
  /** Where it ends: Postgres goes on writing here. */
  endLsn: Lsn;
  /** The checkpoint as written. */
  checkpoint: CheckPoint;
  /** Where the record continues, when it crosses the end of the segment. */
  next: WalSegmentStart | undefined;
}

/**
 * The bytes of a shutdown checkpoint record, without the page headers that may come to lie in between.
 *
 * @throws {ZenithError} `invalid_argument` when no record can start at `lsn`, or `prev` is not before it
 */
export function buildShutdownCheckpointRecord(options: ShutdownCheckpoint): Uint8Array {
  const { prev } = options;
  const checkpoint = shutdownCheckpoint(options);
  if (prev >= checkpoint.redo) {
    throw new ZenithError(
      "invalid_argument",
      `the record at ${formatLsn(prev)} is not before a checkpoint at ${formatLsn(checkpoint.redo)}`,
    );
  }
  const bytes = new Uint8Array(CHECKPOINT_RECORD_LENGTH);
  const view = new DataView(bytes.buffer);
  view.setUint32(XL_TOT_LEN, CHECKPOINT_RECORD_LENGTH, true);
  view.setUint32(XL_PREV, lsnLow(prev), true);
  view.setUint32(XL_PREV + 4, lsnHigh(prev), true);
  view.setUint8(XL_INFO, XLOG_CHECKPOINT_SHUTDOWN);
  view.setUint8(XL_RMID, RM_XLOG_ID);
  bytes[SIZE_OF_XLOG_RECORD] = XLR_BLOCK_ID_DATA_SHORT;
  bytes[SIZE_OF_XLOG_RECORD + 1] = SIZE_OF_CHECKPOINT;
  writeCheckpoint(checkpoint, bytes, SIZE_OF_XLOG_RECORD + SHORT_DATA_HEADER);
  const bodyCrc = crc32c(bytes, SIZE_OF_XLOG_RECORD, bytes.length - SIZE_OF_XLOG_RECORD);
  view.setUint32(XL_CRC, crc32c(bytes, 0, XL_CRC, bodyCrc), true);
  return bytes;
}

/**
 * The segment file, or two, that Postgres starts from at `lsn`. Pages before the record's are zeros but for the segment's
 * first, which is the only other one that Postgres reads.
 *
 * @throws {ZenithError} `invalid_argument` when no record can start at `lsn`, or `prev` is not before it
 */
export function buildInitialSegment(options: InitialSegmentOptions): InitialSegment {
  const { systemId, segmentSize } = options;
  const record = buildShutdownCheckpointRecord(options);
  const checkpoint = shutdownCheckpoint(options);
  const recordLsn = checkpoint.redo;
  const endLsn = recordEndLsn(recordLsn, record.length, segmentSize);
  const tli = checkpoint.ThisTimeLineID;

  const first = segmentStart(recordLsn, segmentSize);
  const afterLastPage = endLsn + (XLOG_BLCKSZ - pageOffset(endLsn)) % XLOG_BLCKSZ;
  const bytes = new Uint8Array(Math.min(afterLastPage, first + segmentSize) - first);
  let next: WalSegmentStart | undefined;
  writePageHeader(bytes, 0, first, { tli, systemId, segmentSize, remLen: 0 });

  let page = recordLsn - pageOffset(recordLsn);
  if (page !== first) writePageHeader(bytes, page - first, page, { tli, systemId, segmentSize, remLen: 0 });
  let target = bytes;
  let targetStart: Lsn = first;
  let at: number = recordLsn;
  let done = 0;
  for (;;) {
    const count = Math.min(record.length - done, page + XLOG_BLCKSZ - at);
    target.set(record.subarray(done, done + count), at - targetStart);
    done += count;
    if (done === record.length) break;
    page += XLOG_BLCKSZ;
    if (page === first + segmentSize) {
      target = new Uint8Array(XLOG_BLCKSZ);
      targetStart = page as Lsn;
      next = { segmentStart: targetStart, bytes: target };
    }
    writePageHeader(target, page - targetStart, page, {
      tli,
      systemId,
      segmentSize,
      remLen: record.length - done,
    });
    at = page + pageHeaderSize(page, segmentSize);
  }
  assert(pageOffset(endLsn - 1) >= pageOffset(at), "the record ends on the page that was written last");
  return { segmentStart: first, bytes, recordLsn, endLsn, checkpoint, next };
}

function shutdownCheckpoint(options: ShutdownCheckpoint): CheckPoint {
  checkWalSegmentSize(options.segmentSize);
  if (!isRecordPosition(options.lsn, options.segmentSize)) {
    throw new ZenithError("invalid_argument", `no WAL record can start at ${formatLsn(options.lsn)}`);
  }
  const redo = nextRecordLsn(options.lsn, options.segmentSize);
  return { ...options.checkpoint, redo, oldestActiveXid: 0 };
}

interface PageHeader {
  tli: number;
  systemId: bigint;
  segmentSize: number;
  /** Bytes of a record from an earlier page that are still to come; 0: a record starts here. */
  remLen: number;
}

function writePageHeader(bytes: Uint8Array, off: number, pageLsn: number, header: PageHeader): void {
  const isLong = pageHeaderSize(pageLsn, header.segmentSize) === SIZE_OF_XLOG_LONG_PHD;
  const view = new DataView(bytes.buffer, bytes.byteOffset + off);
  const info = (isLong ? XLP_LONG_HEADER : 0) | (header.remLen > 0 ? XLP_FIRST_IS_CONTRECORD : 0);
  view.setUint16(XLP_MAGIC, XLOG_PAGE_MAGIC, true);
  view.setUint16(XLP_INFO, info, true);
  view.setUint32(XLP_TLI, header.tli, true);
  view.setUint32(XLP_PAGEADDR, lsnLow(pageLsn as Lsn), true);
  view.setUint32(XLP_PAGEADDR + 4, lsnHigh(pageLsn as Lsn), true);
  view.setUint32(XLP_REM_LEN, header.remLen, true);
  if (!isLong) return;
  view.setBigUint64(XLP_SYSID, header.systemId, true);
  view.setUint32(XLP_SEG_SIZE, header.segmentSize, true);
  view.setUint32(XLP_XLOG_BLCKSZ, XLOG_BLCKSZ, true);
}
