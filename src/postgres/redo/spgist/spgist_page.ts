/**
 * Pages and tuples of an SP-GiST index in the workspace. Structs:
 * src/include/access/spgist_private.h; operations: src/backend/access/spgist/spgxlog.c,
 * spgdoinsert.c, spgutils.c.
 */
import { RedoError } from "../page/errors.ts";
import { INVALID_BLOCK_NUMBER, INVALID_OFFSET_NUMBER, setItemPointer } from "../page/item_pointer.ts";
import {
  checkSpecial,
  itemAddress,
  itemId,
  lpLen,
  pageAddItem,
  pageIndexMultiDelete,
  pageIndexTupleDelete,
  pageInit,
  pageMaxOffset,
} from "../page/page.ts";
import { BLCKSZ, copy, PAGE, SCRATCH, setU16, setU32, u16, u32 } from "../page/workspace.ts";

// SpGistPageOpaqueData
const SPGIST_OPAQUE_SIZE = 8;
const SPGIST_OPAQUE = BLCKSZ - SPGIST_OPAQUE_SIZE;
const FLAGS = SPGIST_OPAQUE + 0;
const N_REDIRECTION = SPGIST_OPAQUE + 2;
const N_PLACEHOLDER = SPGIST_OPAQUE + 4;
const SPGIST_PAGE_ID_AT = SPGIST_OPAQUE + 6;
const SPGIST_PAGE_ID = 0xff82;

// flags
export const SPGIST_LEAF = 1 << 2;
export const SPGIST_NULLS = 1 << 3;

// tupstate: the low two bits of every tuple
const TUPSTATE_MASK = 3;
export const SPGIST_REDIRECT = 1;
export const SPGIST_DEAD = 2;
export const SPGIST_PLACEHOLDER = 3;

// SpGistInnerTupleData: tupstate 2 bits, allTheSame 1, nNodes 13, prefixSize 16; then size
const INNER_NODES_SHIFT = 3;
const INNER_NODES_MASK = 0x1fff;
const INNER_PREFIX_SIZE = 2;
const INNER_SIZE = 4;
const SIZE_OF_INNER_HEADER = 8;

// SpGistNodeTuple is an index tuple: t_tid, then t_info with the size in the low 13 bits
const NODE_INFO = 6;
const NODE_SIZE_MASK = 0x1fff;
const SIZE_OF_NODE_HEADER = 8;

// SpGistLeafTupleData and SpGistDeadTupleData: tupstate 2 bits, size 30; then t_info, then an item
// pointer
const LEAF_SIZE_SHIFT = 2;
const LEAF_INFO = 4;
const LEAF_NEXT_OFFSET_MASK = 0x3fff;
const DEAD_POINTER = 6;
const DEAD_XID = 12;
/** SGDTSIZE. A leaf tuple is at least as large, so that a dead one can take its place. */
const SIZE_OF_DEAD_TUPLE = 16;

/** MaxIndexTuplesPerPage: the most tuples that a list of offset numbers can name. */
const MAX_INDEX_TUPLES_PER_PAGE = 408;
export const SIZE_OF_OFFSET_NUMBER = 2;
/** Where a list of offset numbers is sorted. */
const SORTED = SCRATCH;

/** @throws {RedoError} unless PAGE has an SP-GiST page's special space */
export function checkSpgistPage(): void {
  checkSpecial(PAGE, SPGIST_OPAQUE);
}

/** SpGistInitPage */
export function spgistPageInit(flags: number): void {
  pageInit(PAGE, SPGIST_OPAQUE_SIZE);
  setU16(PAGE + FLAGS, flags);
  setU16(PAGE + SPGIST_PAGE_ID_AT, SPGIST_PAGE_ID);
}

export function addRedirections(count: number): void {
  setU16(PAGE + N_REDIRECTION, u16(PAGE + N_REDIRECTION) + count);
}

export function addPlaceholders(count: number): void {
  setU16(PAGE + N_PLACEHOLDER, u16(PAGE + N_PLACEHOLDER) + count);
}

/**
 * Size of the leaf tuple at workspace address `at`, any alignment.
 * @throws {RedoError} when it does not end at or before `end`
 */
export function leafTupleSize(at: number, end: number): number {
  const left = end - at;
  const size = left < SIZE_OF_DEAD_TUPLE ? 0 : u32(at) >>> LEAF_SIZE_SHIFT;
  if (size < SIZE_OF_DEAD_TUPLE || size > left) {
    throw new RedoError(`leaf tuple of ${size} bytes, with ${left} bytes left`);
  }
  return size;
}

/**
 * Size of the inner tuple at workspace address `at`, any alignment.
 * @throws {RedoError} when it does not end at or before `end`
 */
export function innerTupleSize(at: number, end: number): number {
  const left = end - at;
  const size = left < SIZE_OF_INNER_HEADER ? 0 : u16(at + INNER_SIZE);
  if (size < SIZE_OF_INNER_HEADER || size > left) {
    throw new RedoError(`inner tuple of ${size} bytes, with ${left} bytes left`);
  }
  return size;
}

/** Puts a tuple at offset number `off`; the line pointers from there on move up by one. */
function addTuple(tuple: number, size: number, off: number): void {
  copy(pageAddItem(PAGE, size, off), tuple, size);
}

/** Replaces the tuple at offset number `off`. */
export function replaceTuple(tuple: number, size: number, off: number): void {
  pageIndexTupleDelete(PAGE, off);
  addTuple(tuple, size, off);
}

/**
 * addOrReplaceTuple: puts a tuple at offset number `off`, which is the next one or that of a
 * placeholder.
 * @throws {RedoError} when there is another tuple, or no room
 */
export function addOrReplaceTuple(tuple: number, size: number, off: number): void {
  checkSpgistPage();
  if (off > pageMaxOffset(PAGE)) {
    addTuple(tuple, size, off);
    return;
  }
  const state = u32(tupleAddress(off, SIZE_OF_INNER_HEADER)) & TUPSTATE_MASK;
  if (state !== SPGIST_PLACEHOLDER) {
    throw new RedoError(
      `the tuple at offset ${off} is to be replaced, but its state is ${state}, no placeholder`,
    );
  }
  addPlaceholders(-1);
  replaceTuple(tuple, size, off);
}

/**
 * Links the leaf tuple at offset number `off` to the one at `next`, in the chain of its parent's
 * node.
 */
export function setNextOffset(off: number, next: number): void {
  const info = tupleAddress(off, SIZE_OF_DEAD_TUPLE) + LEAF_INFO;
  setU16(info, (u16(info) & ~LEAF_NEXT_OFFSET_MASK) | (next & LEAF_NEXT_OFFSET_MASK));
}

/**
 * spgUpdateNodeLink: lets node `node` of the inner tuple at offset number `off` point to
 * (`childBlkno`, `childOff`).
 * @throws {RedoError} when there is no such tuple or node
 */
export function updateNodeLink(off: number, node: number, childBlkno: number, childOff: number): void {
  const tuple = tupleAddress(off, SIZE_OF_INNER_HEADER);
  const end = tuple + lpLen(itemId(PAGE, off));
  const nNodes = (u32(tuple) >>> INNER_NODES_SHIFT) & INNER_NODES_MASK;
  if (node >= nNodes) {
    throw new RedoError(`the inner tuple at offset ${off} has ${nNodes} nodes, none with number ${node}`);
  }
  let at = tuple + SIZE_OF_INNER_HEADER + u16(tuple + INNER_PREFIX_SIZE);
  for (let i = 0; at + SIZE_OF_NODE_HEADER <= end; i++) {
    if (i === node) {
      setItemPointer(at, childBlkno, childOff);
      return;
    }
    at += u16(at + NODE_INFO) & NODE_SIZE_MASK;
  }
  throw new RedoError(`node ${node} of the inner tuple at offset ${off} is beyond the tuple's end`);
}

/**
 * spgPageIndexMultiDelete: replaces the `count` tuples whose offset numbers are at workspace
 * address `offsets` (in any order and alignment) with dead ones, so that no other tuple's offset
 * number changes. The first of them gets `firstState`, the others `restState`. A redirection leads
 * to (`blkno`, `off`) and carries `xid`.
 */
export function replaceByDeadTuples(
  offsets: number,
  count: number,
  firstState: number,
  restState: number,
  blkno: number,
  off: number,
  xid: number,
): void {
  if (count === 0) return;
  checkSpgistPage();
  sortOffsets(offsets, count);
  pageIndexMultiDelete(PAGE, SORTED, count);
  const first = u16(offsets);
  for (let i = 0; i < count; i++) {
    const deleted = u16(SORTED + i * SIZE_OF_OFFSET_NUMBER);
    addDeadTuple(deleted, deleted === first ? firstState : restState, blkno, off, xid);
  }
}

/** Adds a dead tuple of a given state at offset number `at` (spgFormDeadTuple) and counts it. */
export function addDeadTuple(at: number, state: number, blkno: number, off: number, xid: number): void {
  const redirects = state === SPGIST_REDIRECT;
  const tuple = pageAddItem(PAGE, SIZE_OF_DEAD_TUPLE, at);
  setU32(tuple, state | (SIZE_OF_DEAD_TUPLE << LEAF_SIZE_SHIFT));
  setU16(tuple + LEAF_INFO, 0);
  setItemPointer(
    tuple + DEAD_POINTER,
    redirects ? blkno : INVALID_BLOCK_NUMBER,
    redirects ? off : INVALID_OFFSET_NUMBER,
  );
  setU32(tuple + DEAD_XID, redirects ? xid : 0);
  if (redirects) addRedirections(1);
  else if (state === SPGIST_PLACEHOLDER) addPlaceholders(1);
}

/** Turns the redirection at offset number `off` into a placeholder; its xid and the counts stay. */
export function redirectToPlaceholder(off: number): void {
  const tuple = tupleAddress(off, SIZE_OF_DEAD_TUPLE);
  setU32(tuple, (u32(tuple) & ~TUPSTATE_MASK) | SPGIST_PLACEHOLDER);
  setItemPointer(tuple + DEAD_POINTER, INVALID_BLOCK_NUMBER, INVALID_OFFSET_NUMBER);
}

/** Deletes the tuples at offset numbers `first` to the last one. */
export function deleteFrom(first: number): void {
  const count = pageMaxOffset(PAGE) - first + 1;
  if (count < 0 || count > MAX_INDEX_TUPLES_PER_PAGE) {
    throw new RedoError(
      `tuples from offset ${first} on are to be removed, the page has ${first + count - 1}`,
    );
  }
  for (let i = 0; i < count; i++) setU16(SORTED + i * SIZE_OF_OFFSET_NUMBER, first + i);
  addPlaceholders(-count);
  pageIndexMultiDelete(PAGE, SORTED, count);
}

/** Copies a list of offset numbers to {@link SORTED}, in ascending order. */
function sortOffsets(offsets: number, count: number): void {
  if (count > MAX_INDEX_TUPLES_PER_PAGE) {
    throw new RedoError(`${count} tuples of one page, which holds at most ${MAX_INDEX_TUPLES_PER_PAGE}`);
  }
  // Insertion: the lists are short, and mostly in order or nearly so.
  for (let i = 0; i < count; i++) {
    const off = u16(offsets + i * SIZE_OF_OFFSET_NUMBER);
    let at = SORTED + i * SIZE_OF_OFFSET_NUMBER;
    for (; at > SORTED && u16(at - SIZE_OF_OFFSET_NUMBER) > off; at -= SIZE_OF_OFFSET_NUMBER) {
      setU16(at, u16(at - SIZE_OF_OFFSET_NUMBER));
    }
    setU16(at, off);
  }
}

/**
 * Address of the tuple at offset number `off`. @throws {RedoError} when it has fewer than `minSize`
 * bytes
 */
function tupleAddress(off: number, minSize: number): number {
  const size = lpLen(itemId(PAGE, off));
  if (size < minSize) {
    throw new RedoError(`the tuple at offset ${off} has ${size} bytes, expected at least ${minSize}`);
  }
  return itemAddress(PAGE, off);
}
