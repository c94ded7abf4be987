/**
 * Posting list tuples: one key and the sorted item pointers of all its rows. The item pointer in
 * the tuple's header says how many they are and where in the tuple they start.
 *
 * Format: src/include/access/nbtree.h; the operations: src/backend/access/nbtree/nbtdedup.c.
 */
import { RedoError } from "../page/errors.ts";
import { maxAlign } from "../page/page.ts";
import { copy, setU16, u16, W8 } from "../page/workspace.ts";

/** sizeof(ItemPointerData) */
export const SIZE_OF_TID = 6;

// IndexTupleData: ItemPointerData t_tid (bi_hi, bi_lo, ip_posid), uint16 t_info
const T_TID_POSID = 4;
const T_INFO = 6;
export const INDEX_SIZE_MASK = 0x1fff;
export const INDEX_ALT_TID_MASK = 0x2000;

// ip_posid of a tuple with INDEX_ALT_TID_MASK
const BT_OFFSET_MASK = 0x0fff;
const BT_IS_POSTING = 0x2000;

/** IndexTupleSize */
export function tupleSize(tuple: number): number {
  return u16(tuple + T_INFO) & INDEX_SIZE_MASK;
}

/** BTreeTupleIsPosting */
export function isPosting(tuple: number): boolean {
  return (u16(tuple + T_INFO) & INDEX_ALT_TID_MASK) !== 0 && (u16(tuple + T_TID_POSID) & BT_IS_POSTING) !== 0;
}

/** How many item pointers a posting list tuple has. */
export function postingCount(tuple: number): number {
  return u16(tuple + T_TID_POSID) & BT_OFFSET_MASK;
}

/**
 * Where in the tuple the item pointers start, which is the size of its header and key.
 * @throws {RedoError} when they are not inside the tuple
 */
export function postingOffset(tuple: number): number {
  const at = ((u16(tuple) << 16) | u16(tuple + 2)) >>> 0;
  const size = tupleSize(tuple);
  if (at < T_INFO + 2 || at + postingCount(tuple) * SIZE_OF_TID > size) {
    throw new RedoError(
      `posting list of ${postingCount(tuple)} item pointers at ${at} in a tuple of ${size} bytes`,
    );
  }
  return at;
}

/**
 * Makes the tuple at `tuple` one with a posting list of `count` item pointers that starts at
 * `keySize`, or, for one item pointer, a plain one. The caller writes the item pointers to the
 * address that is returned.
 */
export function setPosting(tuple: number, keySize: number, count: number): number {
  const info = u16(tuple + T_INFO) & ~(INDEX_SIZE_MASK | INDEX_ALT_TID_MASK);
  if (count === 1) {
    setU16(tuple + T_INFO, info | keySize);
    return tuple;
  }
  const size = postingTupleSize(keySize, count);
  setU16(tuple + T_INFO, info | size | INDEX_ALT_TID_MASK);
  setU16(tuple, keySize >>> 16);
  setU16(tuple + 2, keySize);
  setU16(tuple + T_TID_POSID, count | BT_IS_POSTING);
  const end = keySize + count * SIZE_OF_TID;
  W8.fill(0, tuple + end, tuple + size);
  return tuple + keySize;
}

/** The aligned size of a tuple with `count` item pointers. */
export function postingTupleSize(keySize: number, count: number): number {
  return count > 1 ? maxAlign(keySize + count * SIZE_OF_TID) : keySize;
}

/**
 * Splits a posting list where a new tuple's item pointer falls inside it: the new one takes its
 * place in the list, the list's last one moves to the new tuple (_bt_swap_posting). Changes both
 * tuples in place; neither changes its size.
 * @param before how many of the list's item pointers come before the new one
 * @throws {RedoError} when `posting` has no posting list that can be split there
 */
export function swapPosting(newTuple: number, posting: number, before: number): void {
  const count = isPosting(posting) ? postingCount(posting) : 0;
  if (before < 1 || before >= count) {
    throw new RedoError(`posting list of ${count} item pointers can't be split at ${before}`);
  }
  const list = posting + postingOffset(posting);
  const gap = list + before * SIZE_OF_TID;
  const last = list + (count - 1) * SIZE_OF_TID;
  const lastHigh = u16(last);
  const lastLow = u16(last + 2);
  const lastOff = u16(last + 4);
  copy(gap + SIZE_OF_TID, gap, last - gap);
  copy(gap, newTuple, SIZE_OF_TID);
  setU16(newTuple, lastHigh);
  setU16(newTuple + 2, lastLow);
  setU16(newTuple + 4, lastOff);
}
