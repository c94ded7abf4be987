import {
  maskLpFlags,
  maskPageContent,
  maskPageHintBits,
  maskPageLsnAndChecksum,
  maskUnusedSpace,
  pdSpecial,
  readU16,
  writeU16,
} from "./common.ts";

// HashPageOpaqueData, src/include/access/hash.h
const HASHO_FLAG = 12;
const LH_OVERFLOW_PAGE = 1 << 0;
const LH_BUCKET_PAGE = 1 << 1;
const LH_BITMAP_PAGE = 1 << 2;
const LH_META_PAGE = 1 << 3;
const LH_PAGE_TYPE = LH_OVERFLOW_PAGE | LH_BUCKET_PAGE | LH_BITMAP_PAGE | LH_META_PAGE;
const LH_PAGE_HAS_DEAD_TUPLES = 1 << 7;

/** hash_mask, src/backend/access/hash/hash_xlog.c: a scan marks dead tuples without telling the WAL. */
export function maskHash(page: Uint8Array, _blkno: number): void {
  maskPageLsnAndChecksum(page);
  maskPageHintBits(page);
  maskUnusedSpace(page);

  const flagAt = pdSpecial(page) + HASHO_FLAG;
  const type = readU16(page, flagAt) & LH_PAGE_TYPE;
  if (type === 0) maskPageContent(page);
  else if (type === LH_BUCKET_PAGE || type === LH_OVERFLOW_PAGE) maskLpFlags(page);
  writeU16(page, flagAt, readU16(page, flagAt) & ~LH_PAGE_HAS_DEAD_TUPLES);
}
