/**
 * Redo of deletions of B-tree tuples, by VACUUM or on the fly. Replay in PostgreSQL:
 * btree_xlog_vacuum, btree_xlog_delete and btree_xlog_updates in
 * src/backend/access/nbtree/nbtxlog.c; _bt_update_posting in nbtdedup.c.
 */
import type { WalRecord } from "../../wal/record.ts";
import { btreeTuple, checkBtreePage, clearCycleId, clearHasGarbage } from "./btree_page.ts";
import {
  isPosting,
  postingCount,
  postingOffset,
  postingTupleSize,
  setPosting,
  SIZE_OF_TID,
} from "./btree_posting.ts";
import { RedoError } from "../page/errors.ts";
import { maxAlign, pageIndexMultiDelete, pageIndexTupleOverwrite, pageSetLsn } from "../page/page.ts";
import { blockData, mainData, unexpectedBlock } from "../page/record_data.ts";
import { copy, PAGE, SCRATCH, u16 } from "../page/workspace.ts";

// xl_btree_vacuum: ndeleted, nupdated; in xl_btree_delete latestRemovedXid precedes them.
const SIZE_OF_BTREE_VACUUM = 4;
const SIZE_OF_LATEST_REMOVED_XID = 4;

const UPDATED_TUPLE = SCRATCH;

/** Applies XLOG_BTREE_VACUUM. @throws {RedoError} when record and page don't fit together */
export function redoVacuum(rec: WalRecord): void {
  deleteTuples(rec, mainData(rec, SIZE_OF_BTREE_VACUUM));
}

/**
 * Applies XLOG_BTREE_VACUUM, from PostgreSQL 18 on. @throws {RedoError} when record and page don't
 * fit together
 */
export function redoVacuum18(rec: WalRecord, blk: number): void {
  if (blk !== 0) throw unexpectedBlock(blk);
  redoVacuum(rec);
  clearCycleId();
}

/** Applies XLOG_BTREE_DELETE. @throws {RedoError} when record and page don't fit together */
export function redoDelete(rec: WalRecord): void {
  const main = mainData(rec, SIZE_OF_LATEST_REMOVED_XID + SIZE_OF_BTREE_VACUUM);
  deleteTuples(rec, main + SIZE_OF_LATEST_REMOVED_XID);
}

/**
 * Block data: offset numbers of tuples to delete; those of tuples that lose some of their item
 * pointers; for each of these (xl_btree_update) how many, and which.
 */
function deleteTuples(rec: WalRecord, counts: number): void {
  const deleted = u16(counts);
  const updated = u16(counts + 2);
  checkBtreePage();
  const deletedOffsets = blockData(rec, 0, 2 * (deleted + updated));
  const end = deletedOffsets + rec.dataLen[0];
  const updatedOffsets = deletedOffsets + 2 * deleted;
  let update = updatedOffsets + 2 * updated;
  for (let i = 0; i < updated; i++) {
    if (update + 2 > end || update + 2 + 2 * u16(update) > end) {
      throw new RedoError(`update ${i} of ${updated} goes beyond the block's data`);
    }
    const count = u16(update);
    removeItemPointers(u16(updatedOffsets + 2 * i), update + 2, count);
    update += 2 + 2 * count;
  }
  if (deleted > 0) pageIndexMultiDelete(PAGE, deletedOffsets, deleted);
  clearHasGarbage();
  pageSetLsn(PAGE, rec.endLsn);
}

/**
 * Removes from the posting list at `off` the `count` item pointers whose positions, ascending, are
 * at `positions`.
 */
function removeItemPointers(off: number, positions: number, count: number): void {
  const tuple = btreeTuple(off);
  const total = isPosting(tuple) ? postingCount(tuple) : 0;
  const left = total - count;
  if (left < 1) {
    throw new RedoError(`${count} of ${total} item pointers to be removed at offset number ${off}`);
  }
  const keySize = postingOffset(tuple);
  copy(UPDATED_TUPLE, tuple, keySize);
  let to = setPosting(UPDATED_TUPLE, keySize, left);
  const toEnd = to + left * SIZE_OF_TID;
  let removed = 0;
  for (let i = 0; i < total; i++) {
    if (removed < count && u16(positions + 2 * removed) === i) {
      removed++;
    } else if (to < toEnd) {
      copy(to, tuple + keySize + i * SIZE_OF_TID, SIZE_OF_TID);
      to += SIZE_OF_TID;
    }
  }
  if (removed !== count) throw new RedoError(`item pointers to be removed at ${off} are out of order`);
  pageIndexTupleOverwrite(PAGE, off, UPDATED_TUPLE, maxAlign(postingTupleSize(keySize, left)));
}
