/**
 * B-tree pages: special space, metapage, and building a page from a record's block data.
 *
 * Structs and flags: src/include/access/nbtree.h. Replay: src/backend/access/nbtree/nbtxlog.c.
 */
import type { WalRecord } from "../../wal/record.ts";
import { RedoError } from "../page/errors.ts";
import { indexTupleSize } from "../page/index_tuple.ts";
import {
  checkSpecial,
  itemAddress,
  itemId,
  LP_NORMAL,
  lpLen,
  makeItemId,
  maxAlign,
  pageInit,
  pageSetLsn,
  pdSpecial,
  setPdLower,
  setPdUpper,
  SIZE_OF_ITEM_ID,
  SIZE_OF_PAGE_HEADER,
} from "../page/page.ts";
import { blockData } from "../page/record_data.ts";
import { BLCKSZ, copy, PAGE, u32, W16, W32, W8 } from "../page/workspace.ts";

// BTPageOpaqueData: btpo_prev, btpo_next, btpo_level (32 bits each), btpo_flags, btpo_cycleid (16
// bits each)
export const SIZE_OF_BT_PAGE_OPAQUE = 16;
export const BT_SPECIAL = BLCKSZ - SIZE_OF_BT_PAGE_OPAQUE;
const BTPO_PREV = 0;
const BTPO_NEXT = 4;
const BTPO_LEVEL = 8;
const BTPO_FLAGS = 12;
const BTPO_CYCLEID = 14;

// btpo_flags
export const BTP_LEAF = 1 << 0;
export const BTP_ROOT = 1 << 1;
export const BTP_DELETED = 1 << 2;
export const BTP_META = 1 << 3;
export const BTP_HALF_DEAD = 1 << 4;
export const BTP_HAS_GARBAGE = 1 << 6;
export const BTP_INCOMPLETE_SPLIT = 1 << 7;
export const BTP_HAS_FULLXID = 1 << 8;

/** "No page" in btpo_prev and btpo_next. */
export const P_NONE = 0;
/** Offset number of the high key, on every page but the rightmost of its level. */
export const P_HIKEY = 1;

// BTMetaPageData, after the page header
const BTREE_MAGIC = 0x053162;
const BTM_MAGIC = 0;
const BTM_VERSION = 4;
const BTM_LAST_CLEANUP_NUM_HEAP_TUPLES = 32;
const BTM_ALLEQUALIMAGE = 40;
const SIZE_OF_BT_META_PAGE_DATA = 48;
/**
 * The high word of the double -1.0, "not known", which redo stores in
 * btm_last_cleanup_num_heap_tuples.
 */
const MINUS_ONE_HIGH_WORD = 0xbff00000;

// xl_btree_metadata: six 32-bit fields as BTMetaPageData has them from btm_version on, and a
// boolean
const METADATA_WORDS_SIZE = 24;
const METADATA_ALLEQUALIMAGE = 24;
const SIZE_OF_METADATA = 28;

/** @throws {RedoError} unless PAGE has a B-tree page's special space */
export function checkBtreePage(): void {
  checkSpecial(PAGE, BT_SPECIAL);
}

/** Makes PAGE an empty B-tree page (_bt_pageinit) with the given special space, btpo_cycleid 0. */
export function btreePageInit(prev: number, next: number, level: number, flags: number): void {
  pageInit(PAGE, SIZE_OF_BT_PAGE_OPAQUE);
  setPrev(prev);
  setNext(next);
  W32[(PAGE + BT_SPECIAL + BTPO_LEVEL) >> 2] = level;
  setBtreeFlags(flags);
}

export function setPrev(blkno: number): void {
  W32[(PAGE + BT_SPECIAL + BTPO_PREV) >> 2] = blkno;
}

export function setNext(blkno: number): void {
  W32[(PAGE + BT_SPECIAL + BTPO_NEXT) >> 2] = blkno;
}

/** P_RIGHTMOST */
export function isRightmost(): boolean {
  return W32[(PAGE + BT_SPECIAL + BTPO_NEXT) >> 2] === P_NONE;
}

/** P_FIRSTDATAKEY: the offset number after the high key, if there is one. */
export function firstDataKey(): number {
  return isRightmost() ? P_HIKEY : P_HIKEY + 1;
}

function btreeFlags(): number {
  return W16[(PAGE + BT_SPECIAL + BTPO_FLAGS) >> 1];
}

export function setBtreeFlags(flags: number): void {
  W16[(PAGE + BT_SPECIAL + BTPO_FLAGS) >> 1] = flags;
}

export function clearCycleId(): void {
  W16[(PAGE + BT_SPECIAL + BTPO_CYCLEID) >> 1] = 0;
}

/** BTP_HAS_GARBAGE is cleared with the tuples that were known to be dead. */
export function clearHasGarbage(): void {
  setBtreeFlags(btreeFlags() & ~BTP_HAS_GARBAGE);
}

/**
 * The address of an index tuple on PAGE whose size is within its item. @throws {RedoError} when
 * there is none
 */
export function btreeTuple(off: number): number {
  const at = itemAddress(PAGE, off);
  indexTupleSize(at, at + lpLen(itemId(PAGE, off)));
  return at;
}

/**
 * The downlink to the right half of a split has been inserted in the parent
 * (_bt_clear_incomplete_split).
 */
export function clearIncompleteSplit(rec: WalRecord): void {
  checkBtreePage();
  setBtreeFlags(btreeFlags() & ~BTP_INCOMPLETE_SPLIT);
  pageSetLsn(PAGE, rec.endLsn);
}

/**
 * Builds the metapage from block `blk`'s data (_bt_restore_meta). @throws {RedoError} when that is
 * too short
 */
export function restoreMeta(rec: WalRecord, blk: number): void {
  const data = blockData(rec, blk, SIZE_OF_METADATA);
  btreePageInit(P_NONE, P_NONE, 0, BTP_META);
  const meta = PAGE + SIZE_OF_PAGE_HEADER;
  W32[(meta + BTM_MAGIC) >> 2] = BTREE_MAGIC;
  for (let at = 0; at < METADATA_WORDS_SIZE; at += 4) W32[(meta + BTM_VERSION + at) >> 2] = u32(data + at);
  W32[(meta + BTM_LAST_CLEANUP_NUM_HEAP_TUPLES + 4) >> 2] = MINUS_ONE_HIGH_WORD;
  W8[meta + BTM_ALLEQUALIMAGE] = W8[data + METADATA_ALLEQUALIMAGE];
  // The metadata is not an item, but pd_lower points after it: otherwise it would be in the hole of
  // a full-page image.
  setPdLower(PAGE, SIZE_OF_PAGE_HEADER + SIZE_OF_BT_META_PAGE_DATA);
  pageSetLsn(PAGE, rec.endLsn);
}

/** Where each tuple of the block data starts, while a page is built from them. */
const starts = new Uint16Array(BLCKSZ / 8);

/**
 * Fills the empty PAGE with the tuples in block `blk`'s data, which is the tuple space of the
 * original page: the tuple with the highest offset number comes first (_bt_restore_page).
 * @throws {RedoError} when they are malformed or don't fit
 */
export function restoreTuples(rec: WalRecord, blk: number): void {
  const length = rec.dataLen[blk];
  const data = blockData(rec, blk, 0);
  const upper = pdSpecial(PAGE) - length;
  let count = 0;
  let at = 0;
  while (at < length) {
    if (count === starts.length) throw new RedoError(`more than ${count} tuples for one page`);
    starts[count++] = at;
    at += maxAlign(indexTupleSize(data + at, data + length));
  }
  const lower = SIZE_OF_PAGE_HEADER + count * SIZE_OF_ITEM_ID;
  if (at !== length || lower > upper) {
    throw new RedoError(`${count} tuples in ${length} bytes don't make up a page's tuple space`);
  }
  copy(PAGE + upper, data, length);
  let end = length;
  for (let i = count - 1; i >= 0; i--) {
    const start = starts[i];
    W32[((PAGE + SIZE_OF_PAGE_HEADER) >> 2) + count - 1 - i] = makeItemId(
      upper + start,
      LP_NORMAL,
      end - start,
    );
    end = start;
  }
  setPdLower(PAGE, lower);
  setPdUpper(PAGE, upper);
}
