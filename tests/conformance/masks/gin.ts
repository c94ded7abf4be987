import {
  maskPageContent,
  maskPageHintBits,
  maskPageLsnAndChecksum,
  maskUnusedSpace,
  pdLower,
  pdSpecial,
  readU16,
} from "./common.ts";

const SIZE_OF_PAGE_HEADER = 24;
/** GinPageOpaqueData.flags. */
const OPAQUE_FLAGS = 6;
const GIN_DELETED = 1 << 2;

/** gin_mask, src/backend/access/gin/ginxlog.c: clears what redo does not have to rebuild. Works in place. */
export function maskGin(page: Uint8Array, _blkno: number): void {
  maskPageLsnAndChecksum(page);
  const flags = readU16(page, pdSpecial(page) + OPAQUE_FLAGS);
  maskPageHintBits(page);
  if ((flags & GIN_DELETED) !== 0) {
    // Redo may have made it an empty page.
    maskPageContent(page);
  } else if (pdLower(page) > SIZE_OF_PAGE_HEADER) {
    maskUnusedSpace(page);
  }
}
