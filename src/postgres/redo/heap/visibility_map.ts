/**
 * The visibility map: two bits per heap block, all-visible and all-frozen, after the page header.
 *
 * Layout and replay: src/backend/access/heap/visibilitymap.c. Bits are set by a record that refers
 * to the map's page. They are cleared by heap records that have a flag for it, and refer to the
 * map's page only if a newer minor release wrote them: see visibility_map_changes.ts.
 */
import { RM_HEAP_ID } from "../../wal/rmgr.ts";
import { VISIBILITYMAP_FORKNUM } from "../../cluster/relfile.ts";
import { BKPBLOCK_FORK_MASK, type WalRecord } from "../../wal/record.ts";
import { RedoError } from "../page/errors.ts";
import {
  SIZE_OF_HEAP_VISIBLE,
  VISIBLE_FLAGS,
  VISIBLE_HEAP_BLOCK,
  VISIBLE_VM_BLOCK,
  XLOG_HEAP2_LOCK_UPDATED,
  XLOG_HEAP_LOCK,
  XLOG_HEAP_OPMASK,
} from "./heap_record.ts";
import { pageInit, pageIsNew, pageSetLsn, SIZE_OF_PAGE_HEADER } from "../page/page.ts";
import { blockNumber, mainData, unexpectedBlock } from "../page/record_data.ts";
import {
  clearedEntries,
  CLEARS_0,
  CLEARS_1,
  HEAPBLOCKS_PER_MAP_PAGE,
  visibilityMapBlock,
} from "./visibility_map_changes.ts";
import { BLCKSZ, PAGE, W8 } from "../page/workspace.ts";

const VISIBILITYMAP_ALL_FROZEN = 0x02;
const VISIBILITYMAP_VALID_BITS = 0x03;
const HEAPBLOCKS_PER_BYTE = 4;

/**
 * Applies to block `vmBlock` of a visibility map, in the workspace, what the heap record clears in
 * it without referring to it. As in PostgreSQL, the page keeps its LSN.
 * @throws {RedoError} when the record clears nothing there
 */
export function redoVisibilityMap(rec: WalRecord, vmBlock: number): void {
  if (!coversClearedEntry(rec, vmBlock)) {
    throw new RedoError(`the record clears nothing in block ${vmBlock} of a visibility map`);
  }
  initIfNew();
  clearEntries(rec, vmBlock);
}

/**
 * Applies a heap record to the page of its block reference `blk`, which is one of the visibility
 * map: newer minor releases refer to the pages in which they clear bits. The page's LSN moves when
 * bits change.
 * @throws {RedoError} when `blk` is another page, or none in which the record clears bits
 */
export function redoClearedInMap(rec: WalRecord, blk: number): void {
  const vmBlock = rec.blkno[blk];
  const isMap = (rec.blockFlags[blk] & BKPBLOCK_FORK_MASK) === VISIBILITYMAP_FORKNUM;
  if (!isMap || !coversClearedEntry(rec, vmBlock)) throw unexpectedBlock(blk);
  initIfNew();
  if (clearEntries(rec, vmBlock)) pageSetLsn(PAGE, rec.endLsn);
}

/**
 * Whether the record clears the entry of one of its heap blocks in block `vmBlock` of their
 * visibility map.
 */
function coversClearedEntry(rec: WalRecord, vmBlock: number): boolean {
  const refs = clearedEntries(rec);
  return ((refs & CLEARS_0) !== 0 && visibilityMapBlock(rec.blkno[0]) === vmBlock) ||
    ((refs & CLEARS_1) !== 0 && visibilityMapBlock(rec.blkno[1]) === vmBlock);
}

/**
 * Clears the entries of the record's heap blocks that are on the page. Returns whether that has
 * changed any.
 */
function clearEntries(rec: WalRecord, vmBlock: number): boolean {
  const refs = clearedEntries(rec);
  // A lock only removes the row's all-frozen guarantee: it is still visible to all.
  const op = rec.xl_info & XLOG_HEAP_OPMASK;
  const isLock = rec.xl_rmid === RM_HEAP_ID ? op === XLOG_HEAP_LOCK : op === XLOG_HEAP2_LOCK_UPDATED;
  const bits = isLock ? VISIBILITYMAP_ALL_FROZEN : VISIBILITYMAP_VALID_BITS;
  let changed = false;
  if ((refs & CLEARS_0) !== 0 && visibilityMapBlock(rec.blkno[0]) === vmBlock) {
    changed = clearEntry(rec.blkno[0], bits);
  }
  if ((refs & CLEARS_1) !== 0 && visibilityMapBlock(rec.blkno[1]) === vmBlock) {
    changed = clearEntry(rec.blkno[1], bits) || changed;
  }
  return changed;
}

/**
 * Applies XLOG_HEAP2_VISIBLE to the map's page. Its LSN moves only when bits change.
 * @throws {RedoError} when the record's heap block is not one that this block of the map covers
 */
export function redoVisibleInMap(rec: WalRecord): void {
  const flags = W8[mainData(rec, SIZE_OF_HEAP_VISIBLE) + VISIBLE_FLAGS] & VISIBILITYMAP_VALID_BITS;
  const heapBlock = blockNumber(rec, VISIBLE_HEAP_BLOCK);
  if (visibilityMapBlock(heapBlock) !== rec.blkno[VISIBLE_VM_BLOCK]) {
    throw new RedoError(
      `block ${rec.blkno[VISIBLE_VM_BLOCK]} of the map does not cover heap block ${heapBlock}`,
    );
  }
  initIfNew();
  const at = entryByte(heapBlock);
  const shift = entryShift(heapBlock);
  if (((W8[at] >> shift) & VISIBILITYMAP_VALID_BITS) === flags) return;
  W8[at] = W8[at] | (flags << shift);
  pageSetLsn(PAGE, rec.endLsn);
}

/**
 * Applies the truncation of a heap to `newHeapBlocks` blocks (XLOG_SMGR_TRUNCATE with
 * SMGR_TRUNCATE_VM) to block `vmBlock` of its visibility map: clears entries of blocks that are
 * gone. Blocks of the map from {@link visibilityMapBlocksAfterTruncate} on are gone themselves.
 */
export function redoTruncateVisibilityMap(newHeapBlocks: number, vmBlock: number): void {
  initIfNew();
  const first = Math.max(0, newHeapBlocks - vmBlock * HEAPBLOCKS_PER_MAP_PAGE);
  if (first >= HEAPBLOCKS_PER_MAP_PAGE) return;
  const at = PAGE + SIZE_OF_PAGE_HEADER + Math.floor(first / HEAPBLOCKS_PER_BYTE);
  W8[at] = W8[at] & ((1 << entryShift(first)) - 1);
  W8.fill(0, at + 1, PAGE + BLCKSZ);
}

/** How many blocks the visibility map of a heap with `heapBlocks` blocks has at most. */
export function visibilityMapBlocksAfterTruncate(heapBlocks: number): number {
  return Math.ceil(heapBlocks / HEAPBLOCKS_PER_MAP_PAGE);
}

function entryByte(heapBlock: number): number {
  return PAGE + SIZE_OF_PAGE_HEADER + Math.floor((heapBlock % HEAPBLOCKS_PER_MAP_PAGE) / HEAPBLOCKS_PER_BYTE);
}

function entryShift(heapBlock: number): number {
  return (heapBlock % HEAPBLOCKS_PER_BYTE) * 2;
}

/** Returns whether any of the bits was set. */
function clearEntry(heapBlock: number, bits: number): boolean {
  const at = entryByte(heapBlock);
  const mask = bits << entryShift(heapBlock);
  const changed = (W8[at] & mask) !== 0;
  W8[at] = W8[at] & ~mask;
  return changed;
}

/** A map grows by zero pages; the first access initialises them. */
function initIfNew(): void {
  if (pageIsNew(PAGE)) pageInit(PAGE, 0);
}
