/**
 * WAL pages and segments: where headers are, and what that means for LSN arithmetic.
 *
 * Layout: XLogPageHeaderData and XLogLongPageHeaderData in src/include/access/xlog_internal.h.
 */
import { ZenithError } from "../../common/errors.ts";
import type { Lsn } from "../../common/lsn.ts";

export const XLOG_BLCKSZ = 8192;

/** SizeOfXLogShortPHD: the header of every page but a segment's first. */
export const SIZE_OF_XLOG_SHORT_PHD = 24;
/** SizeOfXLogLongPHD: the header of a segment's first page. */
export const SIZE_OF_XLOG_LONG_PHD = 40;

// Field offsets in the header.
export const XLP_MAGIC = 0;
export const XLP_INFO = 2;
export const XLP_TLI = 4;
export const XLP_PAGEADDR = 8;
export const XLP_REM_LEN = 16;
export const XLP_SYSID = 24;
export const XLP_SEG_SIZE = 32;
export const XLP_XLOG_BLCKSZ = 36;

// Flags of xlp_info.
export const XLP_FIRST_IS_CONTRECORD = 0x0001;
export const XLP_LONG_HEADER = 0x0002;
export const XLP_BKP_REMOVABLE = 0x0004;
export const XLP_FIRST_IS_OVERWRITE_CONTRECORD = 0x0008;
export const XLP_ALL_FLAGS = 0x000f;

const WAL_SEGMENT_SIZE_MIN = 1 << 20;
const WAL_SEGMENT_SIZE_MAX = 1 << 30;
export const WAL_SEGMENT_SIZE_DEFAULT = 16 << 20;

/**
 * PostgreSQL's timeline on which a branch's WAL begins, and under which Zenith's own files of WAL
 * have their names, whatever timelines are in them.
 */
export const WAL_TLI = 1;

/** Records start at multiples of this (MAXIMUM_ALIGNOF). */
const RECORD_ALIGNMENT = 8;

/** MAXALIGN of a length. */
export function alignRecordLength(length: number): number {
  return (length + (RECORD_ALIGNMENT - 1)) & -RECORD_ALIGNMENT;
}

/** Whether PostgreSQL takes this wal_segment_size: a power of two from 1 MiB to 1 GiB. */
export function isWalSegmentSize(segmentSize: number): boolean {
  return Number.isInteger(segmentSize) && segmentSize >= WAL_SEGMENT_SIZE_MIN &&
    segmentSize <= WAL_SEGMENT_SIZE_MAX && (segmentSize & (segmentSize - 1)) === 0;
}

/** @throws {ZenithError} `invalid_argument` when {@link isWalSegmentSize} says no */
export function checkWalSegmentSize(segmentSize: number): void {
  if (!isWalSegmentSize(segmentSize)) {
    throw new ZenithError(
      "invalid_argument",
      `wal_segment_size ${segmentSize} is not a power of two from 1 MiB to 1 GiB`,
    );
  }
}

/**
 * Bytes since the start of the page. The masks below are right for any LSN: they only look at the
 * low bits.
 */
export function pageOffset(lsn: number): number {
  return lsn & (XLOG_BLCKSZ - 1);
}

/** Bytes since the start of the segment. */
export function segmentOffset(lsn: number, segmentSize: number): number {
  return lsn & (segmentSize - 1);
}

/** The first LSN of the segment that holds `lsn`. */
export function segmentStart(lsn: number, segmentSize: number): Lsn {
  return (lsn - segmentOffset(lsn, segmentSize)) as Lsn;
}

/** Size in bytes of the header of the page that starts at `pageLsn`. */
export function pageHeaderSize(pageLsn: number, segmentSize: number): number {
  return segmentOffset(pageLsn, segmentSize) === 0 ? SIZE_OF_XLOG_LONG_PHD : SIZE_OF_XLOG_SHORT_PHD;
}

/**
 * Where the record that follows a record with end `lsn` starts: after the page header when `lsn` is
 * at a page boundary, else `lsn` itself.
 */
export function nextRecordLsn(lsn: number, segmentSize: number): Lsn {
  return (pageOffset(lsn) === 0 ? lsn + pageHeaderSize(lsn, segmentSize) : lsn) as Lsn;
}

/**
 * Whether a record can start at `lsn`: aligned, and not inside a page header. A page boundary
 * counts.
 */
export function isRecordPosition(lsn: number, segmentSize: number): boolean {
  const offset = pageOffset(lsn);
  if (lsn <= 0 || offset % RECORD_ALIGNMENT !== 0) return false;
  return offset === 0 || offset >= pageHeaderSize(lsn - offset, segmentSize);
}

/**
 * The end (PostgreSQL's EndRecPtr, aligned) of a record of `length` bytes that starts at `lsn`,
 * including page headers in between. The end of an XLOG_SWITCH record is the end of its segment
 * instead.
 */
export function recordEndLsn(lsn: number, length: number, segmentSize: number): Lsn {
  let at = lsn;
  let left = alignRecordLength(length);
  for (;;) {
    const room = XLOG_BLCKSZ - pageOffset(at);
    if (left <= room) return (at + left) as Lsn;
    at += room;
    left -= room;
    at += pageHeaderSize(at, segmentSize);
  }
}

/** The file of the segment that holds `lsn` on timeline `tli`: 24 hex digits (XLogFileName). */
export function walFileName(tli: number, lsn: number, segmentSize: number): string {
  const segmentsPerXLogId = 0x1_0000_0000 / segmentSize;
  const segno = Math.floor(lsn / segmentSize);
  return hex8(tli) + hex8(Math.floor(segno / segmentsPerXLogId)) + hex8(segno % segmentsPerXLogId);
}

export interface WalFilePosition {
  tli: number;
  /** The segment's first byte. */
  lsn: Lsn;
}

/**
 * Splits a segment's file name; undefined when it isn't one, or lies beyond what an LSN can hold.
 */
export function parseWalFileName(name: string, segmentSize: number): WalFilePosition | undefined {
  const match = /^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})$/.exec(name);
  if (match === null) return undefined;
  const segmentsPerXLogId = 0x1_0000_0000 / segmentSize;
  const low = parseInt(match[3], 16);
  if (low >= segmentsPerXLogId) return undefined;
  const lsn = (parseInt(match[2], 16) * segmentsPerXLogId + low) * segmentSize;
  return Number.isSafeInteger(lsn) ? { tli: parseInt(match[1], 16), lsn: lsn as Lsn } : undefined;
}

function hex8(value: number): string {
  return value.toString(16).toUpperCase().padStart(8, "0");
}

/** A record that ends with its page ends where the next page begins, not behind its header. */
export function endBeforeHeader(lsn: Lsn, segmentSize: number): Lsn {
  const header = pageHeaderSize(lsn - pageOffset(lsn), segmentSize);
  return (pageOffset(lsn) === header ? lsn - header : lsn) as Lsn;
}
