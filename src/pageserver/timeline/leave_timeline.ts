/** What a follower does where its source has left a timeline of PostgreSQL's. */
import { ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import { nextRecordLsn, WAL_TLI, XLOG_BLCKSZ, XLP_TLI } from "../../postgres/wal/page_header.ts";
import type { Timeline } from "./timeline.ts";

const TLI_BYTES = 4;

/**
 * Whether all WAL of a timeline is here that the source's history has of it.
 *
 * @param leftAt where the next timeline leaves it
 * @throws {ZenithError} `conflict` when what is here goes beyond that
 */
export function isAtItsEnd(timeline: Timeline, tli: number, leftAt: Lsn, source: string): boolean {
  const { position } = timeline;
  const end = nextRecordLsn(leftAt, timeline.walSegmentSize);
  if (position <= end) return position === end;
  throw new ZenithError(
    "conflict",
    `the branch has WAL of timeline ${tli} up to ${formatLsn(position)}, but ${source} left that timeline ` +
      `at ${formatLsn(leftAt)}: what followed was lost in its failover`,
    {
      hint: `follow it anew under another name; branches from before ${formatLsn(leftAt)} are as they were`,
    },
  );
}

/**
 * Makes WAL of any timeline WAL of timeline 1, the only one that Zenith's computes write. It is in
 * each page's header, which no checksum covers, and which may come in two pieces.
 */
export function putOnFirstTimeline(lsn: number, bytes: Uint8Array, off: number, len: number): void {
  const end = lsn + len;
  for (let page = lsn - lsn % XLOG_BLCKSZ; page < end; page += XLOG_BLCKSZ) {
    for (let i = 0; i < TLI_BYTES; i++) {
      const at = page + XLP_TLI + i;
      if (at >= lsn && at < end) bytes[off + at - lsn] = WAL_TLI >>> (8 * i) & 0xff;
    }
  }
}
