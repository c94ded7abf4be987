/**
 * The WAL that stock Postgres needs to start at any record boundary: a segment file with a shutdown
 * checkpoint there. With a control file that points at it, Postgres starts as after a clean
 * shutdown.
 */
import { ZenithError } from "../common/errors.ts";
import { formatLsn, type Lsn } from "../common/lsn.ts";
import { type CheckPoint, SIZE_OF_CHECKPOINT, writeCheckpoint } from "./cluster/checkpoint.ts";
import type { PgVersion } from "./versions/pg_version.ts";
import {
  checkWalSegmentSize,
  isRecordPosition,
  nextRecordLsn,
  pageHeaderSize,
  pageOffset,
  recordEndLsn,
  segmentStart,
  XLOG_BLCKSZ,
} from "./wal/page_header.ts";
import { XLR_BLOCK_ID_DATA_SHORT } from "./wal/parse.ts";
import { SIZE_OF_XLOG_RECORD } from "./wal/record.ts";
import { XLOG_CHECKPOINT_SHUTDOWN } from "./wal/records/xlog.ts";
import { RM_XLOG_ID } from "./wal/rmgr.ts";
import { writePageHeader } from "./wal/write_page_header.ts";
import { writeRecordHeader } from "./wal/write_record.ts";

/** The id and the length byte before short main data (XLogRecordDataHeaderShort). */
const SHORT_DATA_HEADER = 2;

/** Length in bytes of a checkpoint record. */
export const CHECKPOINT_RECORD_LENGTH = SIZE_OF_XLOG_RECORD + SHORT_DATA_HEADER + SIZE_OF_CHECKPOINT;

export interface ShutdownCheckpoint {
  /** Where the record starts: after its page's header (nextRecordLsn). */
  lsn: Lsn;
  /** Where the record before it starts. */
  prev: Lsn;
  segmentSize: number;
  /**
   * `redo` and `oldestActiveXid` are written as a shutdown checkpoint at `lsn` has them, whatever
   * is given here.
   */
  checkpoint: CheckPoint;
}

export interface InitialSegmentOptions extends ShutdownCheckpoint {
  pg: PgVersion;
  systemIdentifier: bigint;
}

/** The pages that the checkpoint occupies in one segment. */
export interface CheckpointPages {
  /** LSN of the segment's first byte. */
  segmentStart: Lsn;
  /** Where in the segment the pages begin. */
  offset: number;
  /** Whole pages; the rest of the segment is zeros. */
  bytes: Uint8Array;
}

/**
 * The bytes of a shutdown checkpoint record, without the page headers that may fall inside it.
 *
 * @throws {ZenithError} `invalid_argument` when no record can start at `lsn`, or `prev` is not
 *   before it
 */
function buildShutdownCheckpointRecord(options: ShutdownCheckpoint): Uint8Array {
  const { lsn, prev, segmentSize, checkpoint } = options;
  checkWalSegmentSize(segmentSize);
  if (!isRecordPosition(lsn, segmentSize) || lsn !== nextRecordLsn(lsn, segmentSize)) {
    throw new ZenithError("invalid_argument", `no WAL record can start at ${formatLsn(lsn)}`);
  }
  if (prev >= lsn) {
    throw new ZenithError(
      "invalid_argument",
      `the record at ${formatLsn(prev)} is not before a checkpoint at ${formatLsn(lsn)}`,
    );
  }
  const bytes = new Uint8Array(CHECKPOINT_RECORD_LENGTH);
  bytes[SIZE_OF_XLOG_RECORD] = XLR_BLOCK_ID_DATA_SHORT;
  bytes[SIZE_OF_XLOG_RECORD + 1] = SIZE_OF_CHECKPOINT;
  const body = { ...checkpoint, redo: lsn, oldestActiveXid: 0 };
  writeCheckpoint(body, bytes, SIZE_OF_XLOG_RECORD + SHORT_DATA_HEADER);
  writeRecordHeader(bytes, { prev, rmid: RM_XLOG_ID, info: XLOG_CHECKPOINT_SHUTDOWN });
  return bytes;
}

/**
 * The pages that hold the checkpoint at `lsn`: of one segment, or of two if the record crosses the
 * end of the first. Bytes before it on its page are zeros. Of the earlier pages Postgres needs the
 * segment's first, for its header.
 *
 * @throws {ZenithError} `invalid_argument` when no record can start at `lsn`, or `prev` is not
 *   before it
 */
export function buildCheckpointPages(options: InitialSegmentOptions): CheckpointPages[] {
  const { pg, lsn, segmentSize, systemIdentifier } = options;
  const record = buildShutdownCheckpointRecord(options);
  const tli = options.checkpoint.ThisTimeLineID;
  const endLsn = recordEndLsn(lsn, record.length, segmentSize);
  const endOfLastPage = endLsn + (XLOG_BLCKSZ - pageOffset(endLsn)) % XLOG_BLCKSZ;

  const start = segmentStart(lsn, segmentSize);
  let page = lsn - pageOffset(lsn);
  let segmentEnd = start + segmentSize;
  // LSN of `bytes[0]`.
  let from = page;
  let bytes = new Uint8Array(Math.min(endOfLastPage, segmentEnd) - from);
  const found: CheckpointPages[] = [{ segmentStart: start, offset: from - start, bytes }];
  writePageHeader(bytes, 0, page, { pg, tli, systemIdentifier, segmentSize, remLen: 0 });
  let at: number = lsn;
  let done = 0;
  for (;;) {
    const count = Math.min(record.length - done, page + XLOG_BLCKSZ - at);
    bytes.set(record.subarray(done, done + count), at - from);
    done += count;
    if (done === record.length) return found;
    page += XLOG_BLCKSZ;
    if (page === segmentEnd) {
      from = page;
      segmentEnd += segmentSize;
      bytes = new Uint8Array(XLOG_BLCKSZ);
      found.push({ segmentStart: page as Lsn, offset: 0, bytes });
    }
    const remLen = record.length - done;
    writePageHeader(bytes, page - from, page, { pg, tli, systemIdentifier, segmentSize, remLen });
    at = page + pageHeaderSize(page, segmentSize);
  }
}
