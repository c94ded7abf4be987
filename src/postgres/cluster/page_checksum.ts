/**
 * Data page checksums: 32 FNV-1a-like sums side by side over the page's 32-bit words, folded to 16
 * bits.
 *
 * Algorithm: src/include/storage/checksum_impl.h.
 */
import { BLCKSZ, isPageNew } from "./page_layout.ts";
import { assert } from "../../common/assert.ts";

/** pd_checksum in PageHeaderData: counted as zero. */
const PD_CHECKSUM = 8;

const N_SUMS = 32;
const ROWS = BLCKSZ / (4 * N_SUMS);
const FNV_PRIME = 16777619;

/** Where the 32 sums start; PostgreSQL's random choice, part of the format. */
// deno-fmt-ignore
const BASE_OFFSETS = new Int32Array([
  0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a, 0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c,
  0xf8d4474f, 0xe39eb970, 0x42c6ae16, 0x993216fa, 0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb,
  0xe58f764b, 0x187636bc, 0x5d7b3bb1, 0xe73de7de, 0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4,
  0x783125bb, 0x6ca8eaa2, 0xe407eac6, 0x4b5cfc3e, 0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756,
]);

const sums = new Int32Array(N_SUMS);

/**
 * The checksum, 1..65535, of the page at `page[off..off+8192)` as block `blkno` of its fork. The
 * stored checksum is left out. A page that was never initialised has none: see {@link isPageNew}.
 */
export function pageChecksum(page: Uint8Array, blkno: number, off = 0): number {
  assert(off >= 0 && page.length - off >= BLCKSZ, "the page is whole");
  const view = new DataView(page.buffer, page.byteOffset + off, BLCKSZ);
  sums.set(BASE_OFFSETS);
  let at = 0;
  for (let row = 0; row < ROWS; row++) {
    for (let column = 0; column < N_SUMS; column++, at += 4) {
      // The stored checksum is the low half of this word.
      const word = at === PD_CHECKSUM ? view.getUint16(at + 2, true) << 16 : view.getInt32(at, true);
      const mixed = sums[column] ^ word;
      sums[column] = Math.imul(mixed, FNV_PRIME) ^ (mixed >>> 17);
    }
  }
  let result = 0;
  for (let column = 0; column < N_SUMS; column++) {
    let sum = sums[column];
    // Two rounds of zeros, so that the bits of the last word spread too.
    sum = Math.imul(sum, FNV_PRIME) ^ (sum >>> 17);
    sum = Math.imul(sum, FNV_PRIME) ^ (sum >>> 17);
    result ^= sum;
  }
  // The block number is mixed in, so that a page in the wrong place is noticed. The result is never
  // zero, so that a missing checksum is noticed too.
  return ((result ^ blkno) >>> 0) % 65535 + 1;
}

/** The checksum stored on the page. */
export function storedPageChecksum(page: Uint8Array, off = 0): number {
  return page[off + PD_CHECKSUM] | (page[off + PD_CHECKSUM + 1] << 8);
}

/**
 * Computes and stores the checksum. A page that was never initialised stays unchanged
 * (PageSetChecksumInplace).
 */
export function setPageChecksum(page: Uint8Array, blkno: number, off = 0): void {
  if (isPageNew(page, off)) return;
  const checksum = pageChecksum(page, blkno, off);
  page[off + PD_CHECKSUM] = checksum;
  page[off + PD_CHECKSUM + 1] = checksum >>> 8;
}
