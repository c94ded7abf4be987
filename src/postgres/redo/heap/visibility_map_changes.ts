/**
 * Which blocks of visibility maps heap records change without referring to them: an insert, delete,
 * update or lock on a page that was all-visible clears the page's entry and only has a flag that
 * says so.
 *
 * Newer minor releases (18.6) refer to the map's block instead, and then nothing is left to be
 * derived from the flag.
 *
 * Replay in PostgreSQL: the calls of visibilitymap_clear in src/backend/access/heap/heapam.c.
 */
import { RM_HEAP2_ID, RM_HEAP_ID } from "../../wal/rmgr.ts";
import { VISIBILITYMAP_FORKNUM } from "../../cluster/relfile.ts";
import { BKPBLOCK_FORK_MASK, type WalRecord } from "../../wal/record.ts";
import {
  DELETE_FLAGS,
  INSERT_FLAGS,
  LOCK_FLAGS,
  MULTI_INSERT_FLAGS,
  UPDATE_FLAGS,
  XLH_DELETE_ALL_VISIBLE_CLEARED,
  XLH_INSERT_ALL_VISIBLE_CLEARED,
  XLH_LOCK_ALL_FROZEN_CLEARED,
  XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED,
  XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED,
  XLOG_HEAP2_LOCK_UPDATED,
  XLOG_HEAP2_MULTI_INSERT,
  XLOG_HEAP_DELETE,
  XLOG_HEAP_HOT_UPDATE,
  XLOG_HEAP_INSERT,
  XLOG_HEAP_LOCK,
  XLOG_HEAP_OPMASK,
  XLOG_HEAP_UPDATE,
} from "./heap_record.ts";

/**
 * The entries on one page after its header, two bits each (HEAPBLOCKS_PER_PAGE in visibilitymap.c).
 */
export const HEAPBLOCKS_PER_MAP_PAGE = 32672;

/** The block of a visibility map that holds a heap block's entry. */
export function visibilityMapBlock(heapBlock: number): number {
  return Math.floor(heapBlock / HEAPBLOCKS_PER_MAP_PAGE);
}

/** Which blocks of visibility maps a record clears bits in: `count` of them, at most two. */
export class VisibilityMapChanges {
  count = 0;
  /** The record's block reference whose relation it is. */
  readonly blockReference: Uint8Array = new Uint8Array(2);
  /** Block number in the relation's visibility map fork. */
  readonly vmBlock: Uint32Array = new Uint32Array(2);
}

// What a record clears, as bits: in the entry of its block reference 0 and 1
export const CLEARS_0 = 1;
export const CLEARS_1 = 2;

/**
 * Which block references' entries the record clears, whether it refers to the map's blocks or not.
 * It runs for every incoming record, so it works on a record in any buffer, and on one whose main
 * data is too short, which clears nothing.
 */
export function clearedEntries(rec: WalRecord): number {
  if (rec.blockCount === 0) return 0;
  const op = rec.xl_info & XLOG_HEAP_OPMASK;
  if (rec.xl_rmid === RM_HEAP_ID) {
    switch (op) {
      case XLOG_HEAP_INSERT:
        return mainFlags(rec, INSERT_FLAGS) & XLH_INSERT_ALL_VISIBLE_CLEARED ? CLEARS_0 : 0;
      case XLOG_HEAP_DELETE:
        return mainFlags(rec, DELETE_FLAGS) & XLH_DELETE_ALL_VISIBLE_CLEARED ? CLEARS_0 : 0;
      case XLOG_HEAP_LOCK:
        return mainFlags(rec, LOCK_FLAGS) & XLH_LOCK_ALL_FROZEN_CLEARED ? CLEARS_0 : 0;
      case XLOG_HEAP_UPDATE:
      case XLOG_HEAP_HOT_UPDATE: {
        const flags = mainFlags(rec, UPDATE_FLAGS);
        const oldRef = rec.blockCount > 1 && rec.blockInUse[1] === 1 ? CLEARS_1 : CLEARS_0;
        return (flags & XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED ? oldRef : 0) |
          (flags & XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED ? CLEARS_0 : 0);
      }
    }
  } else if (rec.xl_rmid === RM_HEAP2_ID) {
    if (op === XLOG_HEAP2_MULTI_INSERT) {
      return mainFlags(rec, MULTI_INSERT_FLAGS) & XLH_INSERT_ALL_VISIBLE_CLEARED ? CLEARS_0 : 0;
    }
    if (op === XLOG_HEAP2_LOCK_UPDATED) {
      return mainFlags(rec, LOCK_FLAGS) & XLH_LOCK_ALL_FROZEN_CLEARED ? CLEARS_0 : 0;
    }
  }
  return 0;
}

/**
 * Whether the record refers to the blocks of the visibility map in which it clears bits. Then it
 * refers to all of them: a block that it leaves out had no bits to clear.
 */
function refersToMap(rec: WalRecord): boolean {
  for (let i = 1; i < rec.blockCount; i++) {
    if (rec.blockInUse[i] === 1 && (rec.blockFlags[i] & BKPBLOCK_FORK_MASK) === VISIBILITYMAP_FORKNUM) {
      return true;
    }
  }
  return false;
}

function mainFlags(rec: WalRecord, at: number): number {
  return at < rec.mainLen ? rec.bytes[rec.mainOff + at] : 0;
}

/**
 * Finds the blocks of visibility maps in which `rec` clears bits without referring to them. `rec`
 * may lie in any buffer.
 * @returns how many there are, which is `out.count` too
 */
export function visibilityMapChanges(rec: WalRecord, out: VisibilityMapChanges): number {
  out.count = 0;
  const refs = clearedEntries(rec);
  if (refs === 0 || refersToMap(rec)) return 0;
  if ((refs & CLEARS_0) !== 0) {
    out.blockReference[0] = 0;
    out.vmBlock[0] = visibilityMapBlock(rec.blkno[0]);
    out.count = 1;
  }
  if ((refs & CLEARS_1) !== 0) {
    const vmBlock = visibilityMapBlock(rec.blkno[1]);
    if (out.count === 0 || out.vmBlock[0] !== vmBlock) {
      out.blockReference[out.count] = 1;
      out.vmBlock[out.count] = vmBlock;
      out.count++;
    }
  }
  return out.count;
}
