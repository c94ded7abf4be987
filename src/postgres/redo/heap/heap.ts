/** Redo of the rmgr Heap. Replay in PostgreSQL: heap_redo in src/backend/access/heap/heapam.c. */
import type { WalRecord } from "../../wal/record.ts";
import { RedoError } from "../page/errors.ts";
import {
  DELETE_FLAGS,
  DELETE_INFOBITS_SET,
  DELETE_OFFNUM,
  DELETE_XMAX,
  INSERT_FLAGS,
  INSERT_OFFNUM,
  LOCK_INFOBITS_SET,
  LOCK_OFFNUM,
  LOCK_XMAX,
  SIZE_OF_HEAP_CONFIRM,
  SIZE_OF_HEAP_DELETE,
  SIZE_OF_HEAP_HEADER,
  SIZE_OF_HEAP_INPLACE,
  SIZE_OF_HEAP_INSERT,
  SIZE_OF_HEAP_LOCK,
  XLH_DELETE_ALL_VISIBLE_CLEARED,
  XLH_DELETE_IS_PARTITION_MOVE,
  XLH_DELETE_IS_SUPER,
  XLH_INSERT_ALL_VISIBLE_CLEARED,
  XLOG_HEAP_CONFIRM,
  XLOG_HEAP_DELETE,
  XLOG_HEAP_HOT_UPDATE,
  XLOG_HEAP_INIT_PAGE,
  XLOG_HEAP_INPLACE,
  XLOG_HEAP_INSERT,
  XLOG_HEAP_LOCK,
  XLOG_HEAP_OPMASK,
  XLOG_HEAP_UPDATE,
} from "./heap_record.ts";
import {
  heapTuple,
  isLockedOnly,
  pageClearAllVisible,
  pageSetPrunable,
  resetCmax,
  setCtid,
  setHotUpdated,
  setMovedPartitions,
  setNewTupleHeader,
  setXmax,
  setXmaxInfobits,
  SIZE_OF_HEAP_TUPLE_HEADER,
  T_HOFF,
  T_XMIN,
} from "./heap_tuple.ts";
import { redoHeapUpdate } from "./heap_update.ts";
import { itemId, lpLen, pageAddHeapTuple, pageInit, pageSetLsn } from "../page/page.ts";
import { blockData, mainData, unexpectedBlock } from "../page/record_data.ts";
import { redoClearedInMap } from "./visibility_map.ts";
import { copy, PAGE, u16, u32, W32, W8 } from "../page/workspace.ts";

/**
 * Applies a Heap record to the page in the workspace.
 * @param blk which of the record's block references that page is
 * @throws {RedoError} when record and page don't fit together
 */
export function redoHeap(rec: WalRecord, blk: number): void {
  const op = rec.xl_info & XLOG_HEAP_OPMASK;
  if (op === XLOG_HEAP_UPDATE) return redoHeapUpdate(rec, blk, false);
  if (op === XLOG_HEAP_HOT_UPDATE) return redoHeapUpdate(rec, blk, true);
  if (blk !== 0) return redoClearedInMap(rec, blk);
  switch (op) {
    case XLOG_HEAP_INSERT:
      return redoInsert(rec);
    case XLOG_HEAP_DELETE:
      return redoDelete(rec);
    case XLOG_HEAP_CONFIRM:
      return redoConfirm(rec);
    case XLOG_HEAP_LOCK:
      return redoLock(rec);
    case XLOG_HEAP_INPLACE:
      return redoInplace(rec);
    default:
      // XLOG_HEAP_TRUNCATE, for logical decoding, refers to no block.
      throw unexpectedBlock(blk);
  }
}

function redoInsert(rec: WalRecord): void {
  const main = mainData(rec, SIZE_OF_HEAP_INSERT);
  const off = u16(main + INSERT_OFFNUM);
  const data = blockData(rec, 0, SIZE_OF_HEAP_HEADER);
  const length = rec.dataLen[0] - SIZE_OF_HEAP_HEADER;

  if ((rec.xl_info & XLOG_HEAP_INIT_PAGE) !== 0) pageInit(PAGE, 0);
  const tuple = pageAddHeapTuple(PAGE, SIZE_OF_HEAP_TUPLE_HEADER + length, off);
  setNewTupleHeader(tuple, rec.xl_xid, 0, rec.blkno[0], off, data);
  copy(tuple + SIZE_OF_HEAP_TUPLE_HEADER, data + SIZE_OF_HEAP_HEADER, length);
  if ((W8[main + INSERT_FLAGS] & XLH_INSERT_ALL_VISIBLE_CLEARED) !== 0) pageClearAllVisible(PAGE);
  pageSetLsn(PAGE, rec.endLsn);
}

function redoDelete(rec: WalRecord): void {
  const main = mainData(rec, SIZE_OF_HEAP_DELETE);
  const off = u16(main + DELETE_OFFNUM);
  const flags = W8[main + DELETE_FLAGS];

  const tuple = heapTuple(PAGE, off);
  setXmaxInfobits(tuple, W8[main + DELETE_INFOBITS_SET]);
  setHotUpdated(tuple, false);
  if ((flags & XLH_DELETE_IS_SUPER) !== 0) W32[(tuple + T_XMIN) >> 2] = 0;
  else setXmax(tuple, u32(main + DELETE_XMAX));
  resetCmax(tuple);
  if ((flags & XLH_DELETE_IS_PARTITION_MOVE) !== 0) setMovedPartitions(tuple);
  else setCtid(tuple, rec.blkno[0], off);
  pageSetPrunable(PAGE, rec.xl_xid);
  if ((flags & XLH_DELETE_ALL_VISIBLE_CLEARED) !== 0) pageClearAllVisible(PAGE);
  pageSetLsn(PAGE, rec.endLsn);
}

/**
 * A speculative insertion is confirmed: t_ctid, which held its token, now points to the tuple
 * itself.
 */
function redoConfirm(rec: WalRecord): void {
  const off = u16(mainData(rec, SIZE_OF_HEAP_CONFIRM));
  setCtid(heapTuple(PAGE, off), rec.blkno[0], off);
  pageSetLsn(PAGE, rec.endLsn);
}

function redoLock(rec: WalRecord): void {
  const main = mainData(rec, SIZE_OF_HEAP_LOCK);
  const off = u16(main + LOCK_OFFNUM);
  const tuple = heapTuple(PAGE, off);
  setXmaxInfobits(tuple, W8[main + LOCK_INFOBITS_SET]);
  // Only a tuple without an update in t_xmax ends its update chain.
  if (isLockedOnly(tuple)) {
    setHotUpdated(tuple, false);
    setCtid(tuple, rec.blkno[0], off);
  }
  setXmax(tuple, u32(main + LOCK_XMAX));
  resetCmax(tuple);
  pageSetLsn(PAGE, rec.endLsn);
}

function redoInplace(rec: WalRecord): void {
  const off = u16(mainData(rec, SIZE_OF_HEAP_INPLACE));
  const tuple = heapTuple(PAGE, off);
  const hoff = W8[tuple + T_HOFF];
  const length = rec.dataLen[0];
  const found = lpLen(itemId(PAGE, off)) - hoff;
  if (found !== length) {
    throw new RedoError(`in-place update of ${found} bytes at line pointer ${off} with ${length} bytes`);
  }
  copy(tuple + hoff, blockData(rec, 0, length), length);
  pageSetLsn(PAGE, rec.endLsn);
}
