/**
 * Redo of SP-GiST's splits: a leaf page's tuples are spread out below a new inner tuple
 * (spgRedoPickSplit).
 */
import type { WalRecord } from "../../wal/record.ts";
import { RedoError } from "../page/errors.ts";
import { INVALID_BLOCK_NUMBER, INVALID_OFFSET_NUMBER } from "../page/item_pointer.ts";
import { blockNumber, mainData, unexpectedBlock } from "../page/record_data.ts";
import {
  addOrReplaceTuple,
  innerTupleSize,
  leafTupleSize,
  replaceByDeadTuples,
  SIZE_OF_OFFSET_NUMBER,
  SPGIST_LEAF,
  SPGIST_NULLS,
  SPGIST_PLACEHOLDER,
  SPGIST_REDIRECT,
  spgistPageInit,
  updateNodeLink,
} from "./spgist_page.ts";
import { u16, u32, W8 } from "../page/workspace.ts";

// spgxlogPickSplit, followed by nDelete offset numbers to delete, nInsert offset numbers of the
// inserted leaf tuples, nInsert bytes that say on which page each goes (0: the source), the inner
// tuple, and the leaf tuples
const IS_ROOT_SPLIT = 0;
const N_DELETE = 2;
const N_INSERT = 4;
const INIT_SRC = 6;
const INIT_DEST = 7;
const OFFNUM_INNER = 8;
const INIT_INNER = 10;
const STORES_NULLS = 11;
const INNER_IS_PARENT = 12;
const OFFNUM_PARENT = 14;
const NODE_I = 16;
const MY_XID = 20;
const IS_BUILD = 24;
const SIZE_OF_PICK_SPLIT = 28;

// block references
const SRC = 0;
const DEST = 1;
const INNER = 2;
const PARENT = 3;

/**
 * Block 0: the leaf page that is split, unless it is the root; 1: another leaf page that takes
 * tuples, if any; 2: the page of the new inner tuple (the root, when that is split); 3: the page of
 * the parent, if it is another.
 *
 * @throws {RedoError} when the record or the page is malformed
 */
export function redoPickSplit(rec: WalRecord, blk: number): void {
  const xlrec = mainData(rec, SIZE_OF_PICK_SPLIT);
  const nulls = W8[xlrec + STORES_NULLS] !== 0 ? SPGIST_NULLS : 0;
  switch (blk) {
    case SRC:
      if (W8[xlrec + IS_ROOT_SPLIT] !== 0) throw unexpectedBlock(blk);
      if (W8[xlrec + INIT_SRC] !== 0) spgistPageInit(SPGIST_LEAF | nulls);
      else deleteSplitTuples(rec, xlrec);
      insertLeafTuples(rec, xlrec, SRC);
      break;
    case DEST:
      if (W8[xlrec + INIT_DEST] !== 0) spgistPageInit(SPGIST_LEAF | nulls);
      insertLeafTuples(rec, xlrec, DEST);
      break;
    case INNER: {
      if (W8[xlrec + INIT_INNER] !== 0) spgistPageInit(nulls);
      const tuple = innerTupleAddress(rec, xlrec);
      addOrReplaceTuple(
        tuple,
        innerTupleSize(tuple, rec.mainOff + rec.mainLen),
        u16(xlrec + OFFNUM_INNER),
      );
      if (W8[xlrec + INNER_IS_PARENT] !== 0) linkInnerTuple(rec, xlrec);
      break;
    }
    case PARENT:
      linkInnerTuple(rec, xlrec);
      break;
    default:
      throw unexpectedBlock(blk);
  }
}

/**
 * Readers on their way to the deleted leaf tuples are redirected to the inner tuple; an index build
 * has no such readers.
 */
function deleteSplitTuples(rec: WalRecord, xlrec: number): void {
  const nDelete = u16(xlrec + N_DELETE);
  mainData(rec, SIZE_OF_PICK_SPLIT + nDelete * SIZE_OF_OFFSET_NUMBER);
  const isBuild = W8[xlrec + IS_BUILD] !== 0;
  replaceByDeadTuples(
    xlrec + SIZE_OF_PICK_SPLIT,
    nDelete,
    isBuild ? SPGIST_PLACEHOLDER : SPGIST_REDIRECT,
    SPGIST_PLACEHOLDER,
    isBuild ? INVALID_BLOCK_NUMBER : blockNumber(rec, INNER),
    isBuild ? INVALID_OFFSET_NUMBER : u16(xlrec + OFFNUM_INNER),
    u32(xlrec + MY_XID),
  );
}

/**
 * Inserts the leaf tuples that the record assigns to the page: the source page or the other one.
 */
function insertLeafTuples(rec: WalRecord, xlrec: number, page: typeof SRC | typeof DEST): void {
  const nInsert = u16(xlrec + N_INSERT);
  const select = innerTupleAddress(rec, xlrec) - nInsert;
  const toInsert = select - nInsert * SIZE_OF_OFFSET_NUMBER;
  const end = rec.mainOff + rec.mainLen;
  const inner = select + nInsert;
  let tuple = inner + innerTupleSize(inner, end);
  for (let i = 0; i < nInsert; i++) {
    const size = leafTupleSize(tuple, end);
    const selected = W8[select + i] !== 0 ? DEST : SRC;
    if (selected === page) addOrReplaceTuple(tuple, size, u16(toInsert + i * SIZE_OF_OFFSET_NUMBER));
    tuple += size;
  }
  if (tuple !== end) throw new RedoError(`${end - tuple} bytes are left behind the ${nInsert} leaf tuples`);
}

function innerTupleAddress(rec: WalRecord, xlrec: number): number {
  const nDelete = u16(xlrec + N_DELETE);
  const nInsert = u16(xlrec + N_INSERT);
  const before = SIZE_OF_PICK_SPLIT + (nDelete + nInsert) * SIZE_OF_OFFSET_NUMBER + nInsert;
  return mainData(rec, before) + before;
}

function linkInnerTuple(rec: WalRecord, xlrec: number): void {
  updateNodeLink(
    u16(xlrec + OFFNUM_PARENT),
    u16(xlrec + NODE_I),
    blockNumber(rec, INNER),
    u16(xlrec + OFFNUM_INNER),
  );
}
