import type { Lsn } from "../common/lsn.ts";
import { pageHeaderSize, segmentStart, WAL_TLI, XLOG_BLCKSZ } from "../postgres/wal/page_header.ts";
import { pgVersion } from "../postgres/versions/find_version.ts";
import { writePageHeader } from "../postgres/wal/write_page_header.ts";

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
    const payload = Math.min(page + XLOG_BLCKSZ, startLsn) - page - pageHeaderSize(page, segmentSize);
    // Within a header no record starts; the proposer's own WAL brings the rest of it.
    if (payload < 0) continue;
    rest += payload;
    writePageHeader(head, page - segment, page, {
      pg: pgVersion(15),
      tli: WAL_TLI,
      systemIdentifier: systemId,
      segmentSize,
      remLen: rest,
    });
  }
  return head;
}
