/**
 * What two images of a page may differ in without either being wrong, set to zero: the helpers of
 * src/backend/access/common/bufmask.c. A page is 8192 bytes; its masks change it in place.
 */
import assert from "node:assert/strict";

const BLCKSZ = 8192;

// PageHeaderData
const PD_CHECKSUM = 8;
const PD_FLAGS = 10;
const PD_LOWER = 12;
const PD_UPPER = 14;
const PD_SPECIAL = 16;
const PD_PRUNE_XID = 20;
const SIZE_OF_PAGE_HEADER = 24;

const PD_HAS_FREE_LINES = 0x0001;
const PD_PAGE_FULL = 0x0002;
const PD_ALL_VISIBLE = 0x0004;

export function readU16(page: Uint8Array, at: number): number {
  return page[at] | (page[at + 1] << 8);
}

export function writeU16(page: Uint8Array, at: number, value: number): void {
  page[at] = value;
  page[at + 1] = value >>> 8;
}

export function pdLower(page: Uint8Array): number {
  return readU16(page, PD_LOWER);
}

export function pdSpecial(page: Uint8Array): number {
  return readU16(page, PD_SPECIAL);
}

/** mask_page_lsn_and_checksum */
export function maskPageLsnAndChecksum(page: Uint8Array): void {
  page.fill(0, 0, PD_CHECKSUM + 2);
}

/** mask_page_hint_bits: pd_prune_xid and three flags */
export function maskPageHintBits(page: Uint8Array): void {
  page.fill(0, PD_PRUNE_XID, PD_PRUNE_XID + 4);
  writeU16(
    page,
    PD_FLAGS,
    readU16(page, PD_FLAGS) & ~(PD_HAS_FREE_LINES | PD_PAGE_FULL | PD_ALL_VISIBLE),
  );
}

/** mask_unused_space: between pd_lower and pd_upper */
export function maskUnusedSpace(page: Uint8Array): void {
  const lower = pdLower(page);
  const upper = readU16(page, PD_UPPER);
  const special = pdSpecial(page);
  assert(
    lower >= SIZE_OF_PAGE_HEADER && lower <= upper && upper <= special && special <= BLCKSZ,
    `invalid page: pd_lower ${lower}, pd_upper ${upper}, pd_special ${special}`,
  );
  page.fill(0, lower, upper);
}

/** mask_lp_flags: of every line pointer that is in use */
export function maskLpFlags(page: Uint8Array): void {
  const lower = Math.min(pdLower(page), BLCKSZ);
  for (let at = SIZE_OF_PAGE_HEADER; at + 4 <= lower; at += 4) {
    // lp_flags are bits 15 and 16 of the line pointer
    page[at + 1] &= 0x7f;
    page[at + 2] &= 0xfe;
  }
}

/** mask_page_content: everything but the header, and of that pd_lower and pd_upper */
export function maskPageContent(page: Uint8Array): void {
  page.fill(0, SIZE_OF_PAGE_HEADER);
  writeU16(page, PD_LOWER, 0);
  writeU16(page, PD_UPPER, 0);
}
