/**
 * Redo of B-tree insertions. Replay in PostgreSQL: btree_xlog_insert in
 * src/backend/access/nbtree/nbtxlog.c.
 */
import type { WalRecord } from "../../wal/record.ts";
import { btreeTuple, checkBtreePage } from "./btree_page.ts";
import { swapPosting } from "./btree_posting.ts";
import { indexTupleSize, SIZE_OF_INDEX_TUPLE } from "../page/index_tuple.ts";
import { RedoError } from "../page/errors.ts";
import { pageAddItem, pageSetLsn } from "../page/page.ts";
import { blockData, mainData } from "../page/record_data.ts";
import { copy, PAGE, SCRATCH, u16 } from "../page/workspace.ts";

/** xl_btree_insert: the offset number. */
const SIZE_OF_BTREE_INSERT = 2;
/** Precedes the new tuple when it splits a posting list: where it splits it. */
const SIZE_OF_POSTING_OFFSET = 2;

/**
 * Adds the tuple that is block 0's data. @throws {RedoError} when record and page don't fit
 * together
 */
export function insertTuple(rec: WalRecord): void {
  const off = u16(mainData(rec, SIZE_OF_BTREE_INSERT));
  checkBtreePage();
  const data = blockData(rec, 0, SIZE_OF_INDEX_TUPLE);
  const size = rec.dataLen[0];
  copy(pageAddItem(PAGE, size, off), data, size);
  pageSetLsn(PAGE, rec.endLsn);
}

/**
 * Adds a tuple that splits the posting list of the tuple before it.
 * @throws {RedoError} when record and page don't fit together
 */
export function insertTupleSplittingPosting(rec: WalRecord): void {
  const off = u16(mainData(rec, SIZE_OF_BTREE_INSERT));
  checkBtreePage();
  const data = blockData(rec, 0, SIZE_OF_POSTING_OFFSET + SIZE_OF_INDEX_TUPLE);
  const logged = data + SIZE_OF_POSTING_OFFSET;
  const size = rec.dataLen[0] - SIZE_OF_POSTING_OFFSET;
  if (indexTupleSize(logged, logged + size) !== size) {
    throw new RedoError(`the new tuple is not as long as the ${size} bytes it comes in`);
  }
  const newTuple = SCRATCH;
  copy(newTuple, logged, size);
  swapPosting(newTuple, btreeTuple(off - 1), u16(data));
  copy(pageAddItem(PAGE, size, off), newTuple, size);
  pageSetLsn(PAGE, rec.endLsn);
}
