import {
  maskPageHintBits,
  maskPageLsnAndChecksum,
  maskUnusedSpace,
  pdLower,
  pdSpecial,
  readU16,
  writeU16,
} from "./common.ts";

const SIZE_OF_PAGE_HEADER = 24;

// BrinSpecialSpace, src/include/access/brin_page.h: flags and type are its last two words
const BRIN_FLAGS = 4;
const BRIN_TYPE = 6;
const BRIN_PAGETYPE_META = 0xf091;
const BRIN_PAGETYPE_REGULAR = 0xf093;
const BRIN_EVACUATE_PAGE = 1 << 0;

/**
 * brin_mask, src/backend/access/brin/brin_xlog.c: revmap pages keep their entries in what the header calls unused space;
 * that a page is being evacuated is not logged.
 */
export function maskBrin(page: Uint8Array, _blkno: number): void {
  maskPageLsnAndChecksum(page);
  maskPageHintBits(page);

  const special = pdSpecial(page);
  const type = readU16(page, special + BRIN_TYPE);
  if (
    type === BRIN_PAGETYPE_REGULAR || (type === BRIN_PAGETYPE_META && pdLower(page) > SIZE_OF_PAGE_HEADER)
  ) {
    maskUnusedSpace(page);
  }
  const flagsAt = special + BRIN_FLAGS;
  writeU16(page, flagsAt, readU16(page, flagsAt) & ~BRIN_EVACUATE_PAGE);
}
