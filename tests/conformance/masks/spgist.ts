import { maskPageHintBits, maskPageLsnAndChecksum, maskUnusedSpace, pdLower } from "./common.ts";

const SIZE_OF_PAGE_HEADER = 24;

/** spg_mask, src/backend/access/spgist/spgxlog.c */
export function maskSpgist(page: Uint8Array, _blkno: number): void {
  maskPageLsnAndChecksum(page);
  maskPageHintBits(page);
  // A metapage from before v11 has no valid pd_lower.
  if (pdLower(page) >= SIZE_OF_PAGE_HEADER) maskUnusedSpace(page);
}
