/**
 * The record with which the WAL of a branch goes over to its next timeline: XLOG_END_OF_RECOVERY,
 * as a promotion writes it (xl_end_of_recovery in src/include/access/xlog_internal.h,
 * CreateEndOfRecoveryRecord in src/backend/access/transam/xlog.c). PostgreSQL reads the front of
 * its data. What follows is Zenith's: whose WAL it is, and where all its timelines begin. So
 * whoever meets the record knows the timelines of everything before.
 */
import type { TimelineId } from "../../common/id.ts";
import type { Lsn } from "../../common/lsn.ts";
import type { WalFormat } from "./wal_format.ts";
import { WalError } from "./error.ts";
import {
  endBeforeHeader,
  nextRecordLsn,
  pageHeaderSize,
  pageOffset,
  recordEndLsn,
  XLOG_BLCKSZ,
} from "./page_header.ts";
import { XLR_BLOCK_ID_DATA_LONG } from "./parse.ts";
import { SIZE_OF_XLOG_RECORD, type WalRecord, XLR_RMGR_INFO_MASK } from "./record.ts";
import { XLOG_END_OF_RECOVERY } from "./records/xlog.ts";
import { RM_XLOG_ID } from "./rmgr.ts";
import {
  decodeTimelines,
  encodedTimelinesBytes,
  encodeTimelines,
  newestTli,
  type WalTimelines,
} from "./wal_timelines.ts";
import { writePageHeader } from "./write_page_header.ts";
import { writeRecordHeader } from "./write_record.ts";

/** The id and the length before long main data (XLogRecordDataHeaderLong). */
const LONG_DATA_HEADER = 5;

// Offsets in xl_end_of_recovery. 14 to 16 end before wal_level.
const END_TIME = 0;
const THIS_TIMELINE_ID = 8;
const PREV_TIMELINE_ID = 12;
const WAL_LEVEL = 16;
/** sizeof(xl_end_of_recovery) in 17 and later, where it is longest. */
const SIZE_OF_END_OF_RECOVERY = 24;

/** Zenith's part: `ZenTLI`, a zero and the version. */
const MAGIC = Uint8Array.of(0x5a, 0x65, 0x6e, 0x54, 0x4c, 0x49, 0, 1);
const TIMELINE_ID_BYTES = 16;
const TIMELINES = SIZE_OF_END_OF_RECOVERY + MAGIC.length + TIMELINE_ID_BYTES;

export interface TimelineSwitch {
  readonly pg: WalFormat;
  readonly systemIdentifier: bigint;
  readonly segmentSize: number;
  /** Whose WAL it is. */
  readonly timelineId: TimelineId;
  /** A record boundary: where the record starts. */
  readonly lsn: Lsn;
  /** Where the record before starts. */
  readonly prev: Lsn;
  /** The timelines up to now. */
  readonly timelines: WalTimelines;
  readonly wal_level: number;
  /** Microseconds since 2000-01-01. */
  readonly endTime: bigint;
}

/** The WAL of a switch. */
export interface SwitchWal {
  /** Where {@link bytes} begin: at a page's header when the record is the first of its page. */
  readonly lsn: Lsn;
  readonly bytes: Uint8Array;
}

export function buildTimelineSwitch(options: TimelineSwitch): SwitchWal {
  const { lsn, segmentSize } = options;
  const begin = endBeforeHeader(lsn, segmentSize);
  const timelines = [...options.timelines, begin];
  const record = buildRecord(options, timelines);
  const start = nextRecordLsn(begin, segmentSize);
  const bytes = new Uint8Array(recordEndLsn(start, record.length, segmentSize) - begin);
  const header = { ...options, tli: newestTli(timelines) };
  const page = (pageLsn: number, remLen: number): void =>
    writePageHeader(bytes, pageLsn - begin, pageLsn, { ...header, remLen });
  if (begin < start) page(begin, 0);
  let at: number = start;
  for (let done = 0; done < record.length;) {
    if (pageOffset(at) === 0) {
      page(at, record.length - done);
      at += pageHeaderSize(at, segmentSize);
    }
    const count = Math.min(record.length - done, XLOG_BLCKSZ - pageOffset(at));
    bytes.set(record.subarray(done, done + count), at - begin);
    done += count;
    at += count;
  }
  return { lsn: begin, bytes };
}

/**
 * Returns the end of the record that goes over to a timeline.
 *
 * @param begin where the timeline begins
 * @param count how many timelines the record names
 */
export function endOfSwitch(begin: Lsn, count: number, segmentSize: number): Lsn {
  const length = SIZE_OF_XLOG_RECORD + LONG_DATA_HEADER + TIMELINES + encodedTimelinesBytes(count);
  return recordEndLsn(nextRecordLsn(begin, segmentSize), length, segmentSize);
}

function buildRecord(
  { prev, timelineId, wal_level, endTime }: TimelineSwitch,
  timelines: WalTimelines,
): Uint8Array {
  const list = encodeTimelines(timelines);
  const data = SIZE_OF_XLOG_RECORD + LONG_DATA_HEADER;
  const bytes = new Uint8Array(data + TIMELINES + list.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(SIZE_OF_XLOG_RECORD, XLR_BLOCK_ID_DATA_LONG);
  view.setUint32(SIZE_OF_XLOG_RECORD + 1, TIMELINES + list.length, true);
  view.setBigInt64(data + END_TIME, endTime, true);
  view.setUint32(data + THIS_TIMELINE_ID, newestTli(timelines), true);
  view.setUint32(data + PREV_TIMELINE_ID, newestTli(timelines) - 1, true);
  view.setInt32(data + WAL_LEVEL, wal_level, true);
  bytes.set(MAGIC, data + SIZE_OF_END_OF_RECOVERY);
  bytes.set(Buffer.from(timelineId, "hex"), data + SIZE_OF_END_OF_RECOVERY + MAGIC.length);
  bytes.set(list, data + TIMELINES);
  writeRecordHeader(bytes, { prev, rmid: RM_XLOG_ID, info: XLOG_END_OF_RECOVERY });
  return bytes;
}

/** Whether the record may be one that {@link parseTimelineSwitch} reads. */
export function isEndOfRecovery(rec: WalRecord): boolean {
  return rec.xl_rmid === RM_XLOG_ID && (rec.xl_info & XLR_RMGR_INFO_MASK) === XLOG_END_OF_RECOVERY;
}

/**
 * Returns the timelines of a branch's WAL from this XLOG_END_OF_RECOVERY record on. Null when it is
 * of another branch, or of a PostgreSQL that was promoted.
 *
 * @throws {WalError} when it is a branch's and makes no sense
 */
export function parseTimelineSwitch(
  rec: WalRecord,
  timelineId: TimelineId,
  segmentSize: number,
): WalTimelines | null {
  if (!rec.isWhole || rec.mainLen < TIMELINES) return null;
  const data = rec.bytes.subarray(rec.mainOff, rec.mainOff + rec.mainLen);
  if (MAGIC.some((byte, i) => data[SIZE_OF_END_OF_RECOVERY + i] !== byte)) return null;
  const id = data.subarray(SIZE_OF_END_OF_RECOVERY + MAGIC.length, TIMELINES);
  if (!Buffer.from(timelineId, "hex").equals(id)) return null;
  const timelines = decodeTimelines(data.subarray(TIMELINES));
  if (timelines.at(-1) !== endBeforeHeader(rec.lsn as Lsn, segmentSize)) {
    throw new WalError(rec.lsn, "a switch to another timeline that is not where it says");
  }
  return timelines;
}
