import type { Lsn } from "../common/lsn.ts";
import { XLOG_PAGE_MAGIC } from "../postgres/versions/v15.ts";
import {
  pageHeaderSize,
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
} from "../postgres/wal/page_header.ts";
import { WAL_TLI } from "../wal_store/wal_store.ts";

/**
 * What stands in a timeline's first segment before its WAL starts at `startLsn`: zeros, but with the page headers of a record that
 * began in an earlier segment and ends there. Whoever looks for the first record of the segment, as pg_waldump and
 * standbys do, passes over such a rest and finds the record at `startLsn`.
 */
export function buildSegmentHead(startLsn: Lsn, segmentSize: number, systemId: bigint): Uint8Array {
  const segment = segmentStart(startLsn, segmentSize);
  const head = new Uint8Array(startLsn - segment);
  let rest = 0;
  // From the last page to the first: how much of the record is left at each.
  for (let page = startLsn - 1 - (startLsn - 1) % XLOG_BLCKSZ; page >= segment; page -= XLOG_BLCKSZ) {
    const size = pageHeaderSize(page, segmentSize);
    const payload = Math.min(page + XLOG_BLCKSZ, startLsn) - page - size;
    // Within a header no record starts; the proposer's own WAL brings the rest of it.
    if (payload < 0) continue;
    rest += payload;
    const isLong = size === SIZE_OF_XLOG_LONG_PHD;
    const view = new DataView(head.buffer, page - segment, size);
    view.setUint16(XLP_MAGIC, XLOG_PAGE_MAGIC, true);
    view.setUint16(
      XLP_INFO,
      (isLong ? XLP_LONG_HEADER : 0) | (rest > 0 ? XLP_FIRST_IS_CONTRECORD : 0),
      true,
    );
    view.setUint32(XLP_TLI, WAL_TLI, true);
    view.setBigUint64(XLP_PAGEADDR, BigInt(page), true);
    view.setUint32(XLP_REM_LEN, rest, true);
    if (!isLong) continue;
    view.setBigUint64(XLP_SYSID, systemId, true);
    view.setUint32(XLP_SEG_SIZE, segmentSize, true);
    view.setUint32(XLP_XLOG_BLCKSZ, XLOG_BLCKSZ, true);
  }
  return head;
}
