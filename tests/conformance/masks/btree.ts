/** btree_mask in src/backend/access/nbtree/nbtxlog.c. Special space: src/include/access/nbtree.h. */
import {
  maskLpFlags,
  maskPageHintBits,
  maskPageLsnAndChecksum,
  maskUnusedSpace,
  pdSpecial,
  readU16,
  writeU16,
} from "./common.ts";

// BTPageOpaqueData
const BTPO_FLAGS = 12;
const BTPO_CYCLEID = 14;

const BTP_LEAF = 1 << 0;
const BTP_SPLIT_END = 1 << 5;
const BTP_HAS_GARBAGE = 1 << 6;

/** Tuples marked dead on leaves, and flags that are hints or VACUUM's. */
export function maskBtree(page: Uint8Array, _blkno: number): void {
  maskPageLsnAndChecksum(page);
  maskPageHintBits(page);
  maskUnusedSpace(page);
  const opaque = pdSpecial(page);
  const flags = readU16(page, opaque + BTPO_FLAGS);
  if ((flags & BTP_LEAF) !== 0) maskLpFlags(page);
  writeU16(page, opaque + BTPO_FLAGS, flags & ~(BTP_HAS_GARBAGE | BTP_SPLIT_END));
  writeU16(page, opaque + BTPO_CYCLEID, 0);
}
