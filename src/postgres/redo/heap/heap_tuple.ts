/**
 * Heap tuples on a page. Layout and flags: HeapTupleHeaderData in
 * src/include/access/htup_details.h.
 */
import { RedoError } from "../page/errors.ts";
import { XLH_FREEZE_XVAC, XLH_INVALID_XVAC } from "./heap_record.ts";
import {
  itemAddress,
  itemId,
  LP_NORMAL,
  lpFlags,
  lpLen,
  PD_ALL_VISIBLE,
  PD_PRUNE_XID,
  pdFlags,
  setPdFlags,
  setPdPruneXid,
} from "../page/page.ts";
import { W16, W32, W8 } from "../page/workspace.ts";

/** SizeofHeapTupleHeader: the fixed part, up to the null bitmap. */
export const SIZE_OF_HEAP_TUPLE_HEADER = 23;

// HeapTupleHeaderData: byte offsets
export const T_XMIN = 0;
export const T_XMAX = 4;
/** t_cid, and in tuples from before 9.0 t_xvac. */
export const T_FIELD3 = 8;
export const T_CTID = 12;
export const T_INFOMASK2 = 18;
export const T_INFOMASK = 20;
export const T_HOFF = 22;

// t_infomask
export const HEAP_XMAX_KEYSHR_LOCK = 0x0010;
export const HEAP_COMBOCID = 0x0020;
export const HEAP_XMAX_EXCL_LOCK = 0x0040;
export const HEAP_XMAX_LOCK_ONLY = 0x0080;
export const HEAP_LOCK_MASK = HEAP_XMAX_EXCL_LOCK | HEAP_XMAX_KEYSHR_LOCK;
export const HEAP_XMAX_COMMITTED = 0x0400;
export const HEAP_XMAX_INVALID = 0x0800;
export const HEAP_XMAX_IS_MULTI = 0x1000;
export const HEAP_MOVED = 0xc000;
/** The bits that an operation on t_xmax clears first. */
const HEAP_XMAX_BITS = HEAP_XMAX_COMMITTED | HEAP_XMAX_INVALID | HEAP_XMAX_IS_MULTI | HEAP_LOCK_MASK |
  HEAP_XMAX_LOCK_ONLY;

// t_infomask2
export const HEAP_KEYS_UPDATED = 0x2000;
export const HEAP_HOT_UPDATED = 0x4000;

// infobits_set of heap records, src/include/access/heapam_xlog.h
const XLHL_XMAX_IS_MULTI = 0x01;
const XLHL_XMAX_LOCK_ONLY = 0x02;
const XLHL_XMAX_EXCL_LOCK = 0x04;
const XLHL_XMAX_KEYSHR_LOCK = 0x08;
const XLHL_KEYS_UPDATED = 0x10;

const FIRST_NORMAL_XID = 3;

// t_ctid of a tuple that moved to another partition (ItemPointerSetMovedPartitions)
const MOVED_PARTITIONS_BLOCK_NUMBER = 0xffffffff;
const MOVED_PARTITIONS_OFFSET_NUMBER = 0xfffd;

/**
 * The workspace address of the tuple at offset number `off`, which is aligned and has at least its
 * fixed header.
 * @throws {RedoError} when that line pointer does not belong to a tuple
 */
export function heapTuple(page: number, off: number): number {
  const raw = itemId(page, off);
  if (lpFlags(raw) !== LP_NORMAL || lpLen(raw) < SIZE_OF_HEAP_TUPLE_HEADER) {
    throw new RedoError(
      `line pointer ${off} is not a tuple's: lp_flags ${lpFlags(raw)}, lp_len ${lpLen(raw)}`,
    );
  }
  const tuple = itemAddress(page, off);
  if ((tuple & 7) !== 0) throw new RedoError(`the tuple at line pointer ${off} is not aligned`);
  return tuple;
}

/**
 * Fills the header of a tuple that a record inserts, as its transaction's first command would have.
 * @param header address of t_infomask2, t_infomask and t_hoff as records store them
 *   (xl_heap_header), at any alignment
 */
export function setNewTupleHeader(
  tuple: number,
  xmin: number,
  xmax: number,
  blkno: number,
  off: number,
  header: number,
): void {
  W32[(tuple + T_XMIN) >> 2] = xmin;
  W32[(tuple + T_XMAX) >> 2] = xmax;
  W32[(tuple + T_FIELD3) >> 2] = 0;
  setCtid(tuple, blkno, off);
  W8[tuple + T_INFOMASK2] = W8[header];
  W8[tuple + T_INFOMASK2 + 1] = W8[header + 1];
  W8[tuple + T_INFOMASK] = W8[header + 2] & ~HEAP_COMBOCID;
  W8[tuple + T_INFOMASK + 1] = W8[header + 3];
  W8[tuple + T_HOFF] = W8[header + 4];
}

export function setCtid(tuple: number, blkno: number, off: number): void {
  const at = (tuple + T_CTID) >> 1;
  W16[at] = blkno >>> 16;
  W16[at + 1] = blkno;
  W16[at + 2] = off;
}

/** HeapTupleHeaderSetMovedPartitions. */
export function setMovedPartitions(tuple: number): void {
  setCtid(tuple, MOVED_PARTITIONS_BLOCK_NUMBER, MOVED_PARTITIONS_OFFSET_NUMBER);
}

export function setXmax(tuple: number, xmax: number): void {
  W32[(tuple + T_XMAX) >> 2] = xmax;
}

/**
 * HeapTupleHeaderSetCmax(FirstCommandId). Heap records carry no command id: only running
 * transactions need it.
 */
export function resetCmax(tuple: number): void {
  W32[(tuple + T_FIELD3) >> 2] = 0;
  const at = (tuple + T_INFOMASK) >> 1;
  W16[at] = W16[at] & ~HEAP_COMBOCID;
}

/**
 * Replaces everything that the infomasks say about t_xmax with what a record's `infobits_set` says
 * (fix_infomask_from_infobits in src/backend/access/heap/heapam.c).
 */
export function setXmaxInfobits(tuple: number, infobits: number): void {
  let infomask = W16[(tuple + T_INFOMASK) >> 1] & ~(HEAP_XMAX_BITS | HEAP_MOVED);
  let infomask2 = W16[(tuple + T_INFOMASK2) >> 1] & ~HEAP_KEYS_UPDATED;
  if ((infobits & XLHL_XMAX_IS_MULTI) !== 0) infomask |= HEAP_XMAX_IS_MULTI;
  if ((infobits & XLHL_XMAX_LOCK_ONLY) !== 0) infomask |= HEAP_XMAX_LOCK_ONLY;
  if ((infobits & XLHL_XMAX_EXCL_LOCK) !== 0) infomask |= HEAP_XMAX_EXCL_LOCK;
  if ((infobits & XLHL_XMAX_KEYSHR_LOCK) !== 0) infomask |= HEAP_XMAX_KEYSHR_LOCK;
  if ((infobits & XLHL_KEYS_UPDATED) !== 0) infomask2 |= HEAP_KEYS_UPDATED;
  W16[(tuple + T_INFOMASK) >> 1] = infomask;
  W16[(tuple + T_INFOMASK2) >> 1] = infomask2;
}

/**
 * HEAP_XMAX_IS_LOCKED_ONLY: t_xmax does not delete or update. Tuples from before 9.3 have the
 * second form.
 */
export function isLockedOnly(tuple: number): boolean {
  const infomask = W16[(tuple + T_INFOMASK) >> 1];
  return (infomask & HEAP_XMAX_LOCK_ONLY) !== 0 ||
    (infomask & (HEAP_XMAX_IS_MULTI | HEAP_LOCK_MASK)) === HEAP_XMAX_EXCL_LOCK;
}

export function setHotUpdated(tuple: number, hot: boolean): void {
  const at = (tuple + T_INFOMASK2) >> 1;
  W16[at] = hot ? W16[at] | HEAP_HOT_UPDATED : W16[at] & ~HEAP_HOT_UPDATED;
}

/** PageSetPrunable: `xid` left something to prune, unless an older transaction has already. */
export function pageSetPrunable(page: number, xid: number): void {
  const found = W32[(page + PD_PRUNE_XID) >> 2] >>> 0;
  if (found === 0 || xidPrecedes(xid, found)) setPdPruneXid(page, xid);
}

/** TransactionIdPrecedes: modulo 2^32, except for the special ones below 3. */
function xidPrecedes(a: number, b: number): boolean {
  if (a < FIRST_NORMAL_XID || b < FIRST_NORMAL_XID) return a < b;
  return ((a - b) | 0) < 0;
}

/** FrozenTransactionId. */
const FROZEN_TRANSACTION_ID = 2;

/**
 * heap_execute_freeze_tuple: gives the tuple new infomasks and t_xmax; `flags` are XLH_FREEZE_XVAC,
 * XLH_INVALID_XVAC.
 */
export function freezeTuple(
  tuple: number,
  xmax: number,
  infomask2: number,
  infomask: number,
  flags: number,
): void {
  setXmax(tuple, xmax);
  if ((flags & XLH_FREEZE_XVAC) !== 0) W32[(tuple + T_FIELD3) >> 2] = FROZEN_TRANSACTION_ID;
  if ((flags & XLH_INVALID_XVAC) !== 0) W32[(tuple + T_FIELD3) >> 2] = 0;
  W16[(tuple + T_INFOMASK) >> 1] = infomask;
  W16[(tuple + T_INFOMASK2) >> 1] = infomask2;
}

export function pageSetAllVisible(page: number): void {
  setPdFlags(page, pdFlags(page) | PD_ALL_VISIBLE);
}

export function pageClearAllVisible(page: number): void {
  setPdFlags(page, pdFlags(page) & ~PD_ALL_VISIBLE);
}
