/**
 * Redo of B-tree deduplication. Replay in PostgreSQL: btree_xlog_dedup in
 * src/backend/access/nbtree/nbtxlog.c.
 */
import type { WalRecord } from "../../wal/record.ts";
import {
  BT_SPECIAL,
  btreeTuple,
  checkBtreePage,
  clearHasGarbage,
  firstDataKey,
  isRightmost,
  P_HIKEY,
  SIZE_OF_BT_PAGE_OPAQUE,
} from "./btree_page.ts";
import {
  isPosting,
  postingCount,
  postingOffset,
  postingTupleSize,
  setPosting,
  SIZE_OF_TID,
  tupleSize,
} from "./btree_posting.ts";
import { RedoError } from "../page/errors.ts";
import {
  itemAddress,
  itemId,
  lpLen,
  pageAddItem,
  pageInit,
  pageMaxOffset,
  pageSetLsn,
} from "../page/page.ts";
import { blockData, mainData } from "../page/record_data.ts";
import { BLCKSZ, copy, PAGE, SCRATCH, u16 } from "../page/workspace.ts";

/** xl_btree_dedup: nintervals. */
const SIZE_OF_BTREE_DEDUP = 2;
// BTDedupInterval, in the block's data: baseoff, the first tuple of a group, and nitems, how many
// tuples it has
const INTERVAL_NITEMS = 2;
const SIZE_OF_INTERVAL = 4;
/** BTMaxItemSize: three items and a high key with its heap item pointer fit a page. */
const BT_MAX_ITEM_SIZE = 2704;

const NEW_PAGE = SCRATCH;
/** Item pointers of the group that is being merged. */
const TIDS = SCRATCH + BLCKSZ;

/**
 * Applies XLOG_BTREE_DEDUP: builds the page anew, each group of tuples merged into one with a
 * posting list.
 * @throws {RedoError} when record and page don't fit together
 */
export function redoDedup(rec: WalRecord): void {
  const intervalCount = u16(mainData(rec, SIZE_OF_BTREE_DEDUP));
  let interval = blockData(rec, 0, intervalCount * SIZE_OF_INTERVAL);
  const intervalsEnd = interval + intervalCount * SIZE_OF_INTERVAL;
  checkBtreePage();
  const last = pageMaxOffset(PAGE);

  pageInit(NEW_PAGE, SIZE_OF_BT_PAGE_OPAQUE);
  copy(NEW_PAGE + BT_SPECIAL, PAGE + BT_SPECIAL, SIZE_OF_BT_PAGE_OPAQUE);
  let newOff = P_HIKEY;
  if (!isRightmost()) copyItem(P_HIKEY, newOff++);
  let off = firstDataKey();
  while (off <= last) {
    if (interval < intervalsEnd && off === u16(interval)) {
      const count = u16(interval + INTERVAL_NITEMS);
      if (count < 2 || off + count - 1 > last) {
        throw new RedoError(`group of ${count} tuples from offset number ${off} on a page with ${last}`);
      }
      addMerged(off, count, newOff++);
      off += count;
      interval += SIZE_OF_INTERVAL;
    } else {
      copyItem(off++, newOff++);
    }
  }
  if (interval !== intervalsEnd) {
    throw new RedoError(`the group from offset number ${u16(interval)} is out of order or off the page`);
  }
  copy(PAGE, NEW_PAGE, BLCKSZ);
  clearHasGarbage();
  pageSetLsn(PAGE, rec.endLsn);
}

/** The item at `off`, unchanged. */
function copyItem(off: number, newOff: number): void {
  const at = itemAddress(PAGE, off);
  const size = off === P_HIKEY && !isRightmost() ? lpLen(itemId(PAGE, off)) : tupleSize(btreeTuple(off));
  copy(pageAddItem(NEW_PAGE, size, newOff), at, size);
}

/** The key of the tuple at `off`, with the item pointers of `count` tuples starting there. */
function addMerged(off: number, count: number, newOff: number): void {
  const base = btreeTuple(off);
  const keySize = isPosting(base) ? postingOffset(base) : tupleSize(base);
  let tids = 0;
  for (let i = 0; i < count; i++) {
    const tuple = i === 0 ? base : btreeTuple(off + i);
    const posting = isPosting(tuple);
    const more = posting ? postingCount(tuple) : 1;
    if (postingTupleSize(keySize, tids + more) > BT_MAX_ITEM_SIZE) {
      throw new RedoError(`the group from offset number ${off} is more than fits a tuple`);
    }
    copy(TIDS + tids * SIZE_OF_TID, posting ? tuple + postingOffset(tuple) : tuple, more * SIZE_OF_TID);
    tids += more;
  }
  const merged = pageAddItem(NEW_PAGE, postingTupleSize(keySize, tids), newOff);
  copy(merged, base, keySize);
  copy(setPosting(merged, keySize, tids), TIDS, tids * SIZE_OF_TID);
}
