import {
  maskLpFlags,
  maskPageHintBits,
  maskPageLsnAndChecksum,
  maskUnusedSpace,
  pdSpecial,
  readU16,
  writeU16,
} from "./common.ts";

// GISTPageOpaqueData
const OPAQUE_NSN = 0;
const SIZE_OF_NSN = 8;
const OPAQUE_FLAGS = 12;
const F_LEAF = 1 << 0;
const F_TUPLES_DELETED = 1 << 2;
const F_FOLLOW_RIGHT = 1 << 3;
const F_HAS_GARBAGE = 1 << 4;

/** gist_mask, src/backend/access/gist/gistxlog.c: clears what redo does not have to rebuild. Works in place. */
export function maskGist(page: Uint8Array, _blkno: number): void {
  maskPageLsnAndChecksum(page);
  maskPageHintBits(page);
  maskUnusedSpace(page);
  const special = pdSpecial(page);
  const flags = readU16(page, special + OPAQUE_FLAGS);
  // The NSN is the LSN of a split; it and F_FOLLOW_RIGHT change on the left child after the record's images are taken.
  page.fill(0, special + OPAQUE_NSN, special + OPAQUE_NSN + SIZE_OF_NSN);
  // Scans set LP_DEAD and F_HAS_GARBAGE without WAL.
  if ((flags & F_LEAF) !== 0) maskLpFlags(page);
  // PostgreSQL masks F_TUPLES_DELETED nowhere; some minor versions set it, others don't, and none reads it.
  writeU16(page, special + OPAQUE_FLAGS, (flags | F_FOLLOW_RIGHT) & ~(F_HAS_GARBAGE | F_TUPLES_DELETED));
}
