/**
 * Redo of B-tree page splits. Replay in PostgreSQL: btree_xlog_split in
 * src/backend/access/nbtree/nbtxlog.c.
 */
import type { WalRecord } from "../../wal/record.ts";
import {
  BT_SPECIAL,
  BTP_INCOMPLETE_SPLIT,
  BTP_LEAF,
  btreePageInit,
  btreeTuple,
  checkBtreePage,
  clearCycleId,
  clearIncompleteSplit,
  firstDataKey,
  P_HIKEY,
  P_NONE,
  restoreTuples,
  setBtreeFlags,
  setNext,
  setPrev,
  SIZE_OF_BT_PAGE_OPAQUE,
} from "./btree_page.ts";
import { swapPosting, tupleSize } from "./btree_posting.ts";
import { RedoError } from "../page/errors.ts";
import { indexTupleSize } from "../page/index_tuple.ts";
import { itemAddress, itemId, lpLen, maxAlign, pageAddItem, pageInit, pageSetLsn } from "../page/page.ts";
import { blockData, blockNumber, mainData, unexpectedBlock } from "../page/record_data.ts";
import { BLCKSZ, copy, PAGE, SCRATCH, u16, u32 } from "../page/workspace.ts";

// xl_btree_split
const SPLIT_LEVEL = 0;
const SPLIT_FIRSTRIGHTOFF = 4;
const SPLIT_NEWITEMOFF = 6;
const SPLIT_POSTINGOFF = 8;
const SIZE_OF_BTREE_SPLIT = 10;

// Block references
const LEFT_BLOCK = 0;
const RIGHT_BLOCK = 1;
/** The page that was to the right of the one that is split, if any. */
const NEXT_BLOCK = 2;
/**
 * One level down, above the leaves: its split is finished by the downlink that is inserted here.
 */
const CHILD_BLOCK = 3;

/**
 * The left page is built here, tuple by tuple, so that tuples get the order that PostgreSQL gives
 * them.
 */
const LEFT_PAGE = SCRATCH;
const NEW_TUPLE = SCRATCH + BLCKSZ;
const POSTING_TUPLE = SCRATCH + 2 * BLCKSZ;

/**
 * Applies XLOG_BTREE_SPLIT_L (`newItemOnLeft`) or XLOG_BTREE_SPLIT_R.
 * @throws {RedoError} when record and page don't fit together
 */
export function redoSplit(rec: WalRecord, blk: number, newItemOnLeft: boolean): void {
  const main = mainData(rec, SIZE_OF_BTREE_SPLIT);
  switch (blk) {
    case LEFT_BLOCK:
      return splitLeft(rec, main, newItemOnLeft);
    case RIGHT_BLOCK:
      return splitRight(rec, main);
    case NEXT_BLOCK:
      checkBtreePage();
      setPrev(blockNumber(rec, RIGHT_BLOCK));
      return pageSetLsn(PAGE, rec.endLsn);
    case CHILD_BLOCK:
      return clearIncompleteSplit(rec);
    default:
      throw unexpectedBlock(blk);
  }
}

function splitRight(rec: WalRecord, main: number): void {
  const level = u32(main + SPLIT_LEVEL);
  const hasNext = rec.blockCount > NEXT_BLOCK && rec.blockInUse[NEXT_BLOCK] === 1;
  const next = hasNext ? rec.blkno[NEXT_BLOCK] : P_NONE;
  btreePageInit(blockNumber(rec, LEFT_BLOCK), next, level, level === 0 ? BTP_LEAF : 0);
  restoreTuples(rec, RIGHT_BLOCK);
  pageSetLsn(PAGE, rec.endLsn);
}

/**
 * Block data: the new tuple if it goes to the left or splits a posting list, then the new high key.
 */
function splitLeft(rec: WalRecord, main: number, newItemOnLeft: boolean): void {
  const firstRight = u16(main + SPLIT_FIRSTRIGHTOFF);
  const newItemOff = u16(main + SPLIT_NEWITEMOFF);
  const postingOff = u16(main + SPLIT_POSTINGOFF);
  const splitsPosting = postingOff !== 0;
  checkBtreePage();
  let data = blockData(rec, LEFT_BLOCK, 0);
  const end = data + rec.dataLen[LEFT_BLOCK];

  let newSize = 0;
  if (newItemOnLeft || splitsPosting) {
    newSize = maxAlign(indexTupleSize(data, end));
    copy(NEW_TUPLE, data, newSize);
    data += newSize;
  }
  // The posting list that the new tuple splits is in the tuple before it.
  let replacedOff = 0;
  if (splitsPosting) {
    replacedOff = newItemOff - 1;
    const old = btreeTuple(replacedOff);
    copy(POSTING_TUPLE, old, maxAlign(tupleSize(old)));
    swapPosting(NEW_TUPLE, POSTING_TUPLE, postingOff);
  }
  const highKeySize = maxAlign(indexTupleSize(data, end));
  if (data + highKeySize !== end) throw new RedoError(`the high key is not the end of the block's data`);

  pageInit(LEFT_PAGE, SIZE_OF_BT_PAGE_OPAQUE);
  copy(LEFT_PAGE + BT_SPECIAL, PAGE + BT_SPECIAL, SIZE_OF_BT_PAGE_OPAQUE);
  let leftOff = P_HIKEY;
  copy(pageAddItem(LEFT_PAGE, highKeySize, leftOff++), data, highKeySize);
  let off = firstDataKey();
  for (; off < firstRight; off++) {
    if (off === replacedOff) {
      const size = maxAlign(tupleSize(POSTING_TUPLE));
      copy(pageAddItem(LEFT_PAGE, size, leftOff++), POSTING_TUPLE, size);
      continue;
    }
    if (newItemOnLeft && off === newItemOff) {
      copy(pageAddItem(LEFT_PAGE, newSize, leftOff++), NEW_TUPLE, newSize);
    }
    const at = itemAddress(PAGE, off);
    const size = lpLen(itemId(PAGE, off));
    copy(pageAddItem(LEFT_PAGE, size, leftOff++), at, size);
  }
  if (newItemOnLeft && off === newItemOff) {
    copy(pageAddItem(LEFT_PAGE, newSize, leftOff), NEW_TUPLE, newSize);
  }

  copy(PAGE, LEFT_PAGE, BLCKSZ);
  setBtreeFlags(u32(main + SPLIT_LEVEL) === 0 ? BTP_INCOMPLETE_SPLIT | BTP_LEAF : BTP_INCOMPLETE_SPLIT);
  setNext(blockNumber(rec, RIGHT_BLOCK));
  clearCycleId();
  pageSetLsn(PAGE, rec.endLsn);
}
