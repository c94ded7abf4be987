/** Redo of the rmgr Heap2. Replay in PostgreSQL: heap2_redo in src/backend/access/heap/heapam.c. */
import type { WalRecord } from "../../wal/record.ts";
import { RM_HEAP2_ID } from "../../wal/rmgr.ts";
import { RedoError } from "../page/errors.ts";
import {
  FREEZE_NTUPLES,
  FREEZE_TUPLE_FRZFLAGS,
  FREEZE_TUPLE_INFOMASK,
  FREEZE_TUPLE_INFOMASK2,
  FREEZE_TUPLE_OFFSET,
  FREEZE_TUPLE_XMAX,
  LOCK_INFOBITS_SET,
  LOCK_OFFNUM,
  LOCK_XMAX,
  MULTI_INSERT_FLAGS,
  MULTI_INSERT_NTUPLES,
  MULTI_INSERT_TUPLE_DATALEN,
  MULTI_INSERT_TUPLE_HEADER,
  PRUNE_NDEAD,
  PRUNE_NREDIRECTED,
  SIZE_OF_FREEZE_TUPLE,
  SIZE_OF_HEAP_FREEZE_PAGE,
  SIZE_OF_HEAP_LOCK,
  SIZE_OF_HEAP_MULTI_INSERT,
  SIZE_OF_HEAP_PRUNE,
  SIZE_OF_HEAP_VACUUM,
  SIZE_OF_MULTI_INSERT_TUPLE,
  VISIBLE_HEAP_BLOCK,
  VISIBLE_VM_BLOCK,
  XLH_INSERT_ALL_FROZEN_SET,
  XLH_INSERT_ALL_VISIBLE_CLEARED,
  XLOG_HEAP2_FREEZE_PAGE,
  XLOG_HEAP2_LOCK_UPDATED,
  XLOG_HEAP2_MULTI_INSERT,
  XLOG_HEAP2_VACUUM,
  XLOG_HEAP2_VISIBLE,
  XLOG_HEAP_INIT_PAGE,
  XLOG_HEAP_OPMASK,
} from "./heap_record.ts";
import {
  freezeTuple,
  heapTuple,
  pageClearAllVisible,
  pageSetAllVisible,
  setNewTupleHeader,
  setXmax,
  setXmaxInfobits,
  SIZE_OF_HEAP_TUPLE_HEADER,
} from "./heap_tuple.ts";
import {
  LP_DEAD,
  LP_REDIRECT,
  makeItemId,
  pageAddHeapTuple,
  pageInit,
  pageRepairFragmentation,
  pageRepairFragmentationKeepingLines,
  pageSetLsn,
  pageTruncateLinePointers,
  setItemId,
} from "../page/page.ts";
import { blockData, mainData, unexpectedBlock } from "../page/record_data.ts";
import { redoClearedInMap, redoVisibleInMap } from "./visibility_map.ts";
import { copy, PAGE, u16, u32, W8 } from "../page/workspace.ts";

/**
 * Applies a Heap2 record to the page in the workspace.
 * @param blk which of the record's block references that page is
 * @throws {RedoError} when record and page don't fit together
 */
export function redoHeap2(rec: WalRecord, blk: number): void {
  const op = rec.xl_info & XLOG_HEAP_OPMASK;
  if (op === XLOG_HEAP2_VISIBLE) return redoVisible(rec, blk);
  if (blk !== 0) return redoClearedInMap(rec, blk);
  switch (op) {
    case XLOG_HEAP2_VACUUM:
      return redoVacuum(rec);
    case XLOG_HEAP2_FREEZE_PAGE:
      return redoFreezePage(rec);
    case XLOG_HEAP2_MULTI_INSERT:
      return redoMultiInsert(rec);
    case XLOG_HEAP2_LOCK_UPDATED:
      return redoLockUpdated(rec);
    default:
      // XLOG_HEAP2_NEW_CID and XLOG_HEAP2_REWRITE, for logical decoding, refer to no block.
      throw unexpectedBlock(blk);
  }
}

/**
 * XLOG_HEAP2_PRUNE. Block data: pairs (from, to) of line pointers to redirect, then those that are
 * dead, then those that are unused.
 */
function changeLinePointers(rec: WalRecord): void {
  const main = mainData(rec, SIZE_OF_HEAP_PRUNE);
  const redirected = u16(main + PRUNE_NREDIRECTED);
  const dead = u16(main + PRUNE_NDEAD);
  let at = blockData(rec, 0, 2 * (2 * redirected + dead));
  const end = at + (rec.dataLen[0] & ~1);
  for (let i = 0; i < redirected; i++, at += 4) {
    setItemId(PAGE, u16(at), makeItemId(u16(at + 2) & 0x7fff, LP_REDIRECT, 0));
  }
  for (let i = 0; i < dead; i++, at += 2) setItemId(PAGE, u16(at), makeItemId(0, LP_DEAD, 0));
  for (; at < end; at += 2) setItemId(PAGE, u16(at), 0);
}

/**
 * Applies XLOG_HEAP2_PRUNE, from PostgreSQL 15 on. @throws {RedoError} when record and page don't
 * fit together
 */
export function redoPrune(rec: WalRecord, blk: number): void {
  if (blk !== 0) throw unexpectedBlock(blk);
  changeLinePointers(rec);
  pageRepairFragmentation(PAGE);
  pageSetLsn(PAGE, rec.endLsn);
}

/**
 * Applies XLOG_HEAP2_PRUNE of PostgreSQL 14. @throws {RedoError} when record and page don't fit
 * together
 */
export function redoPruneKeepingLines(rec: WalRecord, blk: number): void {
  if (blk !== 0) throw unexpectedBlock(blk);
  changeLinePointers(rec);
  pageRepairFragmentationKeepingLines(PAGE);
  pageSetLsn(PAGE, rec.endLsn);
}

/** Block data: the line pointers, dead so far, that no index refers to any more. */
function redoVacuum(rec: WalRecord): void {
  const unused = u16(mainData(rec, SIZE_OF_HEAP_VACUUM));
  const at = blockData(rec, 0, 2 * unused);
  for (let i = 0; i < unused; i++) setItemId(PAGE, u16(at + 2 * i), 0);
  pageTruncateLinePointers(PAGE);
  pageSetLsn(PAGE, rec.endLsn);
}

function redoFreezePage(rec: WalRecord): void {
  const count = u16(mainData(rec, SIZE_OF_HEAP_FREEZE_PAGE) + FREEZE_NTUPLES);
  let at = blockData(rec, 0, count * SIZE_OF_FREEZE_TUPLE);
  for (let i = 0; i < count; i++, at += SIZE_OF_FREEZE_TUPLE) {
    const tuple = heapTuple(PAGE, u16(at + FREEZE_TUPLE_OFFSET));
    freezeTuple(
      tuple,
      u32(at + FREEZE_TUPLE_XMAX),
      u16(at + FREEZE_TUPLE_INFOMASK2),
      u16(at + FREEZE_TUPLE_INFOMASK),
      W8[at + FREEZE_TUPLE_FRZFLAGS],
    );
  }
  pageSetLsn(PAGE, rec.endLsn);
}

function redoMultiInsert(rec: WalRecord): void {
  const init = (rec.xl_info & XLOG_HEAP_INIT_PAGE) !== 0;
  const main = mainData(rec, SIZE_OF_HEAP_MULTI_INSERT);
  const flags = W8[main + MULTI_INSERT_FLAGS];
  const count = u16(main + MULTI_INSERT_NTUPLES);
  const offsets = init ? 0 : mainData(rec, SIZE_OF_HEAP_MULTI_INSERT + 2 * count) + SIZE_OF_HEAP_MULTI_INSERT;
  const start = blockData(rec, 0, 0);
  const end = start + rec.dataLen[0];

  if (init) pageInit(PAGE, 0);
  let at = start;
  for (let i = 0; i < count; i++) {
    at += (at - start) & 1;
    const data = at + SIZE_OF_MULTI_INSERT_TUPLE;
    if (data > end || data + u16(at + MULTI_INSERT_TUPLE_DATALEN) > end) {
      throw new RedoError(`tuple ${i} of ${count} goes beyond the block's data`);
    }
    const length = u16(at + MULTI_INSERT_TUPLE_DATALEN);
    const off = init ? i + 1 : u16(offsets + 2 * i);
    const tuple = pageAddHeapTuple(PAGE, SIZE_OF_HEAP_TUPLE_HEADER + length, off);
    setNewTupleHeader(tuple, rec.xl_xid, 0, rec.blkno[0], off, at + MULTI_INSERT_TUPLE_HEADER);
    copy(tuple + SIZE_OF_HEAP_TUPLE_HEADER, data, length);
    at = data + length;
  }
  if (at !== end) throw new RedoError(`${count} tuples leave ${end - at} bytes of the block's data`);
  if ((flags & XLH_INSERT_ALL_VISIBLE_CLEARED) !== 0) pageClearAllVisible(PAGE);
  if ((flags & XLH_INSERT_ALL_FROZEN_SET) !== 0) pageSetAllVisible(PAGE);
  pageSetLsn(PAGE, rec.endLsn);
}

/**
 * Locks a later version of a row; unlike XLOG_HEAP_LOCK it leaves t_cid, t_ctid and
 * HEAP_HOT_UPDATED alone.
 */
function redoLockUpdated(rec: WalRecord): void {
  const main = mainData(rec, SIZE_OF_HEAP_LOCK);
  const tuple = heapTuple(PAGE, u16(main + LOCK_OFFNUM));
  setXmaxInfobits(tuple, W8[main + LOCK_INFOBITS_SET]);
  setXmax(tuple, u32(main + LOCK_XMAX));
  pageSetLsn(PAGE, rec.endLsn);
}

/**
 * The heap page keeps its LSN, as in a cluster without checksums and wal_log_hints. In one with
 * them PostgreSQL moves it: the record does not tell which it is, so that is up to whoever knows
 * the cluster ({@link movesLsnWithHints}).
 */
function redoVisible(rec: WalRecord, blk: number): void {
  if (blk === VISIBLE_VM_BLOCK) redoVisibleInMap(rec);
  else if (blk === VISIBLE_HEAP_BLOCK) pageSetAllVisible(PAGE);
  else throw unexpectedBlock(blk);
}

/**
 * Whether the record sets the LSN of the page of block reference `blk` only in a cluster that logs
 * hint bits, one with data checksums or wal_log_hints (XLogHintBitIsNeeded). Of all that PostgreSQL
 * replays only this depends on that: {@link XLOG_HEAP2_VISIBLE}, whose heap page the server has to
 * guard against a torn write there, in every major.
 */
export function movesLsnWithHints(rec: WalRecord, blk: number): boolean {
  return rec.xl_rmid === RM_HEAP2_ID && blk === VISIBLE_HEAP_BLOCK &&
    (rec.xl_info & XLOG_HEAP_OPMASK) === XLOG_HEAP2_VISIBLE;
}
