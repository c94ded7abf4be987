/**
 * Redo of heap updates. Replay in PostgreSQL: heap_xlog_update in src/backend/access/heap/heapam.c.
 */
import type { WalRecord } from "../../wal/record.ts";
import { RedoError } from "../page/errors.ts";
import {
  SIZE_OF_HEAP_HEADER,
  SIZE_OF_HEAP_UPDATE,
  UPDATE_FLAGS,
  UPDATE_NEW_OFFNUM,
  UPDATE_NEW_XMAX,
  UPDATE_OLD_INFOBITS_SET,
  UPDATE_OLD_OFFNUM,
  UPDATE_OLD_XMAX,
  XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED,
  XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED,
  XLH_UPDATE_PREFIX_FROM_OLD,
  XLH_UPDATE_SUFFIX_FROM_OLD,
  XLOG_HEAP_INIT_PAGE,
} from "./heap_record.ts";
import {
  heapTuple,
  pageClearAllVisible,
  pageSetPrunable,
  resetCmax,
  setCtid,
  setHotUpdated,
  setNewTupleHeader,
  setXmax,
  setXmaxInfobits,
  SIZE_OF_HEAP_TUPLE_HEADER,
  T_HOFF,
} from "./heap_tuple.ts";
import { itemId, lpLen, pageAddHeapTuple, pageInit, pageSetLsn } from "../page/page.ts";
import { blockData, mainData, unexpectedBlock } from "../page/record_data.ts";
import { redoClearedInMap } from "./visibility_map.ts";
import { copy, PAGE, u16, u32, W8 } from "../page/workspace.ts";

/** The block that gets the new tuple. Without an {@link OLD_BLOCK}, the old tuple is on it too. */
const NEW_BLOCK = 0;
const OLD_BLOCK = 1;
/** From here on, blocks of the visibility map. */
const FIRST_MAP_BLOCK = 2;

/**
 * Applies XLOG_HEAP_UPDATE or XLOG_HEAP_HOT_UPDATE to the page that is the record's block reference
 * `blk`.
 * @throws {RedoError} when record and page don't fit together
 */
export function redoHeapUpdate(rec: WalRecord, blk: number, hot: boolean): void {
  if (blk >= FIRST_MAP_BLOCK) return redoClearedInMap(rec, blk);
  const main = mainData(rec, SIZE_OF_HEAP_UPDATE);
  const samePage = rec.blockCount <= OLD_BLOCK || rec.blockInUse[OLD_BLOCK] !== 1;
  if (blk === OLD_BLOCK && !samePage) {
    updateOldTuple(rec, main, hot);
  } else if (blk === NEW_BLOCK) {
    if (samePage) {
      const old = updateOldTuple(rec, main, hot);
      addNewTuple(rec, main, old, lpLen(itemId(PAGE, u16(main + UPDATE_OLD_OFFNUM))));
    } else {
      if ((rec.xl_info & XLOG_HEAP_INIT_PAGE) !== 0) pageInit(PAGE, 0);
      addNewTuple(rec, main, 0, 0);
    }
  } else {
    throw unexpectedBlock(blk);
  }
  pageSetLsn(PAGE, rec.endLsn);
}

/** Marks the old tuple as updated. Returns its address. */
function updateOldTuple(rec: WalRecord, main: number, hot: boolean): number {
  const old = heapTuple(PAGE, u16(main + UPDATE_OLD_OFFNUM));
  setXmaxInfobits(old, W8[main + UPDATE_OLD_INFOBITS_SET]);
  setHotUpdated(old, hot);
  setXmax(old, u32(main + UPDATE_OLD_XMAX));
  resetCmax(old);
  setCtid(old, rec.blkno[NEW_BLOCK], u16(main + UPDATE_NEW_OFFNUM));
  pageSetPrunable(PAGE, rec.xl_xid);
  if ((W8[main + UPDATE_FLAGS] & XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED) !== 0) pageClearAllVisible(PAGE);
  return old;
}

/**
 * Adds the new tuple. The record may leave out its first and last bytes where they equal the old
 * tuple's.
 * @param old the old tuple's address, 0 when it is on another page
 */
function addNewTuple(rec: WalRecord, main: number, old: number, oldLength: number): void {
  const flags = W8[main + UPDATE_FLAGS];
  const off = u16(main + UPDATE_NEW_OFFNUM);
  const hasPrefix = (flags & XLH_UPDATE_PREFIX_FROM_OLD) !== 0;
  const hasSuffix = (flags & XLH_UPDATE_SUFFIX_FROM_OLD) !== 0;
  const lengths = (hasPrefix ? 2 : 0) + (hasSuffix ? 2 : 0);
  let data = blockData(rec, NEW_BLOCK, lengths + SIZE_OF_HEAP_HEADER);
  const end = data + rec.dataLen[NEW_BLOCK];
  const prefix = hasPrefix ? u16(data) : 0;
  const suffix = hasSuffix ? u16(data + lengths - 2) : 0;
  const header = data + lengths;
  data = header + SIZE_OF_HEAP_HEADER;
  const length = end - data;
  const bitmap = W8[header + 4] - SIZE_OF_HEAP_TUPLE_HEADER;
  if (prefix + suffix > 0) checkOldTuple(old, oldLength, prefix, suffix, bitmap, length);

  const tuple = pageAddHeapTuple(PAGE, SIZE_OF_HEAP_TUPLE_HEADER + prefix + length + suffix, off);
  setNewTupleHeader(tuple, rec.xl_xid, u32(main + UPDATE_NEW_XMAX), rec.blkno[NEW_BLOCK], off, header);
  let to = tuple + SIZE_OF_HEAP_TUPLE_HEADER;
  if (prefix > 0) {
    // The null bitmap and its padding precede the prefix.
    copy(to, data, bitmap);
    copy(to + bitmap, old + W8[old + T_HOFF], prefix);
    copy(to + bitmap + prefix, data + bitmap, length - bitmap);
  } else {
    copy(to, data, length);
  }
  to += prefix + length;
  if (suffix > 0) copy(to, old + oldLength - suffix, suffix);
  if ((flags & XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED) !== 0) pageClearAllVisible(PAGE);
}

/** @throws {RedoError} unless the old tuple has the parts that the record leaves out */
function checkOldTuple(
  old: number,
  oldLength: number,
  prefix: number,
  suffix: number,
  bitmap: number,
  length: number,
): void {
  if (old === 0) throw new RedoError("the new tuple takes bytes from the old one, which is on another page");
  const oldData = oldLength - W8[old + T_HOFF];
  if (prefix > oldData || suffix > oldData || bitmap < 0 || bitmap > length) {
    throw new RedoError(
      `the new tuple takes ${prefix} and ${suffix} bytes from an old one with ${oldData}, its bitmap has ${bitmap} of ${length}`,
    );
  }
}
