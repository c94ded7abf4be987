/** Index tuples as they come in records. Layout: IndexTupleData in src/include/access/itup.h. */
import { RedoError } from "./errors.ts";
import { copy, u16 } from "./workspace.ts";
import { pageAddItem } from "./page.ts";

/** sizeof(IndexTupleData): ItemPointerData t_tid, unsigned short t_info. */
export const SIZE_OF_INDEX_TUPLE = 8;
const T_INFO = 6;
/** The part of t_info that is the tuple's size. */
const INDEX_SIZE_MASK = 0x1fff;

/**
 * Size in bytes of the index tuple at workspace address `at`, at any alignment.
 *
 * @throws {RedoError} when it does not end at or before `end`
 */
export function indexTupleSize(at: number, end: number): number {
  if (at + SIZE_OF_INDEX_TUPLE > end) {
    throw new RedoError(
      `index tuple is cut off: ${end - at} bytes left, its header takes ${SIZE_OF_INDEX_TUPLE}`,
    );
  }
  const size = u16(at + T_INFO) & INDEX_SIZE_MASK;
  if (size < SIZE_OF_INDEX_TUPLE || at + size > end) {
    throw new RedoError(`index tuple of ${size} bytes, with ${end - at} bytes left`);
  }
  return size;
}

/**
 * Adds the index tuples that fill `at` to `end`, one after the other, to a page from offset number
 * `off` on.
 *
 * @returns how many there were
 * @throws {RedoError} when one is malformed or does not fit
 */
export function addIndexTuples(page: number, off: number, at: number, end: number): number {
  let count = 0;
  for (let tuple = at; tuple < end; count++) {
    const size = indexTupleSize(tuple, end);
    copy(pageAddItem(page, size, off + count), tuple, size);
    tuple += size;
  }
  return count;
}
