/**
 * Redo on entry tree pages, which hold index tuples under line pointers like any B-tree's.
 *
 * Record structs: src/include/access/ginxlog.h; replay: ginRedoInsertEntry in
 * src/backend/access/gin/ginxlog.c.
 */
import { RedoError } from "../page/errors.ts";
import { checkGinPageKind, GIN_DATA, GIN_LEAF } from "./gin_page.ts";
import { indexTupleSize, SIZE_OF_INDEX_TUPLE } from "../page/index_tuple.ts";
import { INVALID_OFFSET_NUMBER, setItemPointer } from "../page/item_pointer.ts";
import { itemAddress, itemId, lpLen, pageAddItem, pageIndexTupleDelete } from "../page/page.ts";
import { copy, PAGE, u16, W8 } from "../page/workspace.ts";

// ginxlogInsertEntry: OffsetNumber offset, bool isDelete, padding, IndexTupleData tuple
const IS_DELETE = 2;
const TUPLE = 4;

/**
 * Puts a tuple on a leaf page, in place of an older version of itself when the record says so.
 *
 * @param at a ginxlogInsertEntry of `length` bytes
 */
export function redoInsertLeafEntry(at: number, length: number): void {
  checkGinPageKind(GIN_DATA | GIN_LEAF, GIN_LEAF);
  checkLength(length);
  const offset = u16(at);
  if (W8[at + IS_DELETE] !== 0) pageIndexTupleDelete(PAGE, offset);
  addEntry(at, length, offset);
}

/**
 * A downlink goes into an internal page because the child has split: the tuple at the offset now
 * leads to the right half, the new one before it leads to the left half.
 *
 * @param at a ginxlogInsertEntry of `length` bytes
 * @param rightBlkno the right half
 */
export function redoInsertDownlink(at: number, length: number, rightBlkno: number): void {
  checkGinPageKind(GIN_DATA | GIN_LEAF, 0);
  checkLength(length);
  if (W8[at + IS_DELETE] !== 0) {
    throw new RedoError("an insertion into an internal page can't replace a tuple");
  }
  const offset = u16(at);
  const tuple = itemAddress(PAGE, offset);
  if (lpLen(itemId(PAGE, offset)) < SIZE_OF_INDEX_TUPLE) {
    throw new RedoError(`no index tuple at offset ${offset}`);
  }
  // GinSetDownlink: t_tid is the block's number
  setItemPointer(tuple, rightBlkno, INVALID_OFFSET_NUMBER);
  addEntry(at, length, offset);
}

function checkLength(length: number): void {
  if (length < TUPLE) throw new RedoError(`ginxlogInsertEntry of ${length} bytes`);
}

function addEntry(at: number, length: number, offset: number): void {
  const size = indexTupleSize(at + TUPLE, at + length);
  copy(pageAddItem(PAGE, size, offset), at + TUPLE, size);
}
