/** Builds the beginning of a WAL segment whose WAL is only known from some LSN on. */
import type { Lsn } from "../common/lsn.ts";
import {
  pageHeaderSize,
  pageOffset,
  segmentStart,
  SIZE_OF_XLOG_SHORT_PHD,
  WAL_TLI,
  XLOG_BLCKSZ,
} from "./wal/page_header.ts";
import type { WalFormat } from "./wal/wal_format.ts";
import { writePageHeader } from "./wal/write_page_header.ts";

/**
 * The content of a segment before `startLsn` when the WAL before it is not known: zeros, with the
 * page headers of a record that began in an earlier segment and ends there. Programs that look for
 * the segment's first record, such as pg_waldump and standbys, skip such a remainder and find the
 * record at `startLsn`.
 */
export function buildSegmentHead(
  pg: WalFormat,
  startLsn: Lsn,
  segmentSize: number,
  systemId: bigint,
): Uint8Array {
  const start = segmentStart(startLsn, segmentSize);
  const head = new Uint8Array(startLsn - start);
  writeSegmentHead(head, 0, start, head.length, { pg, startLsn, segmentSize, systemId });
  return head;
}

export interface SegmentHead {
  readonly pg: WalFormat;
  readonly startLsn: Lsn;
  readonly segmentSize: number;
  readonly systemId: bigint;
}

/**
 * Writes part of such a head, which ends at `startLsn`: the `len` bytes at `lsn`, a page boundary,
 * to `into[off..]`.
 */
export function writeSegmentHead(
  into: Uint8Array,
  off: number,
  lsn: number,
  len: number,
  { pg, startLsn, segmentSize, systemId }: SegmentHead,
): void {
  into.fill(0, off, off + len);
  // No record starts within a header; the code that writes the record there writes the rest of the
  // header.
  const inPage = pageOffset(startLsn);
  const isInHeader = inPage < pageHeaderSize(startLsn - inPage, segmentSize);
  const end = isInHeader ? startLsn - inPage : startLsn;
  for (let page = lsn; page < Math.min(lsn + len, end); page += XLOG_BLCKSZ) {
    const laterPages = Math.ceil((end - page) / XLOG_BLCKSZ) - 1;
    const remLen = end - page - pageHeaderSize(page, segmentSize) - laterPages * SIZE_OF_XLOG_SHORT_PHD;
    const header = { pg, tli: WAL_TLI, systemIdentifier: systemId, segmentSize, remLen };
    writePageHeader(into, off + page - lsn, page, header);
  }
}
