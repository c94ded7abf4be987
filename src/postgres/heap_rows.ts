/**
 * The rows of a heap as a server that starts now would see them: for reading a catalog without a
 * server.
 */
import {
  HEAP_LOCK_MASK,
  HEAP_XMAX_COMMITTED,
  HEAP_XMAX_EXCL_LOCK,
  HEAP_XMAX_INVALID,
  HEAP_XMAX_IS_MULTI,
  HEAP_XMAX_LOCK_ONLY,
  SIZE_OF_HEAP_TUPLE_HEADER,
  T_HOFF,
  T_INFOMASK,
  T_XMAX,
  T_XMIN,
} from "./redo/heap/heap_tuple.ts";
import { BLCKSZ, isPageNew, SIZE_OF_PAGE_HEADER } from "./cluster/page_layout.ts";

// src/include/access/htup_details.h, src/include/access/transam.h
const HEAP_XMIN_COMMITTED = 0x0100;
const HEAP_XMIN_INVALID = 0x0200;
const FIRST_NORMAL_TRANSACTION_ID = 3;

const PD_LOWER = 12;
const SIZE_OF_ITEM_ID = 4;
const LP_NORMAL = 1;

/**
 * Whether a transaction has committed, by pg_xact. A transaction that pg_xact does not cover has
 * not.
 */
export type Committed = (xid: number) => boolean;

/**
 * The bytes of the columns of each row that is visible once no transaction runs any more.
 *
 * A row whose deleter is a multixact counts as deleted if a member of it has updated the row.
 */
export function* heapRows(heap: Uint8Array, committed: Committed): Generator<DataView> {
  for (let page = 0; page + BLCKSZ <= heap.length; page += BLCKSZ) {
    if (isPageNew(heap, page)) continue;
    const view = new DataView(heap.buffer, heap.byteOffset + page, BLCKSZ);
    const lower = Math.min(view.getUint16(PD_LOWER, true), BLCKSZ);
    for (let at = SIZE_OF_PAGE_HEADER; at + SIZE_OF_ITEM_ID <= lower; at += SIZE_OF_ITEM_ID) {
      const item = view.getUint32(at, true);
      const off = item & 0x7fff;
      const length = item >>> 17;
      if ((item >>> 15 & 3) !== LP_NORMAL || length < SIZE_OF_HEAP_TUPLE_HEADER || off + length > BLCKSZ) {
        continue;
      }
      if (!isThere(view, off, committed)) continue;
      const header = view.getUint8(off + T_HOFF);
      if (header <= length) {
        yield new DataView(heap.buffer, heap.byteOffset + page + off + header, length - header);
      }
    }
  }
}

/** HeapTupleSatisfiesMVCC for a snapshot in which everything that has not committed has failed. */
function isThere(view: DataView, tuple: number, committed: Committed): boolean {
  const mask = view.getUint16(tuple + T_INFOMASK, true);
  const xmin = view.getUint32(tuple + T_XMIN, true);
  const isFrozen = (mask & HEAP_XMIN_COMMITTED) !== 0;
  if (!isFrozen && ((mask & HEAP_XMIN_INVALID) !== 0 || !hasCommitted(xmin, committed))) return false;
  if ((mask & HEAP_XMAX_INVALID) !== 0 || isLockedOnly(mask)) return true;
  if ((mask & HEAP_XMAX_IS_MULTI) !== 0) return false;
  const xmax = view.getUint32(tuple + T_XMAX, true);
  return (mask & HEAP_XMAX_COMMITTED) === 0 && !hasCommitted(xmax, committed);
}

/** HEAP_XMAX_IS_LOCKED_ONLY */
function isLockedOnly(mask: number): boolean {
  return (mask & HEAP_XMAX_LOCK_ONLY) !== 0 ||
    (mask & (HEAP_XMAX_IS_MULTI | HEAP_LOCK_MASK)) === HEAP_XMAX_EXCL_LOCK;
}

/** Transactions below the first normal xid are initdb's, or frozen. */
function hasCommitted(xid: number, committed: Committed): boolean {
  return xid < FIRST_NORMAL_TRANSACTION_ID ? xid !== 0 : committed(xid);
}
