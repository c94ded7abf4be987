/**
 * Pruning and freezing in one record, from PostgreSQL 17 on: by a query, or by the first or second
 * pass of VACUUM. Replay in PostgreSQL: heap_xlog_prune_freeze in src/backend/access/heap/heapam.c
 * (18: heapam_xlog.c).
 */
import type { WalRecord } from "../../wal/record.ts";
import { RedoError } from "../page/errors.ts";
import {
  LP_DEAD,
  LP_REDIRECT,
  makeItemId,
  pageRepairFragmentation,
  pageSetLsn,
  pageTruncateLinePointers,
  setItemId,
} from "../page/page.ts";
import { blockData, mainData, unexpectedBlock } from "../page/record_data.ts";
import { PAGE, u16, W8 } from "../page/workspace.ts";
import { executeFreezePlans, SIZE_OF_FREEZE_PLAN } from "./freeze_plans.ts";

// Heap2
export const XLOG_HEAP2_PRUNE_ON_ACCESS = 0x10;
export const XLOG_HEAP2_PRUNE_VACUUM_SCAN = 0x20;
export const XLOG_HEAP2_PRUNE_VACUUM_CLEANUP = 0x30;

// xl_heap_prune: uint8 reason, uint8 flags, and the conflict horizon, if there is one
const PRUNE_FLAGS = 1;
const SIZE_OF_PRUNE = 2;
const SIZE_OF_CONFLICT_HORIZON = 4;

// flags; the parts of the block's data come in the order of their bits
const XLHP_IS_CATALOG_REL = 1 << 1;
const XLHP_CLEANUP_LOCK = 1 << 2;
const XLHP_HAS_CONFLICT_HORIZON = 1 << 3;
const XLHP_HAS_FREEZE_PLANS = 1 << 4;
const XLHP_HAS_REDIRECTIONS = 1 << 5;
const XLHP_HAS_DEAD_ITEMS = 1 << 6;
const XLHP_HAS_NOW_UNUSED_ITEMS = 1 << 7;
const XLHP_CHANGES_LINE_POINTERS = XLHP_HAS_REDIRECTIONS | XLHP_HAS_DEAD_ITEMS | XLHP_HAS_NOW_UNUSED_ITEMS;
const XLHP_ALL = XLHP_IS_CATALOG_REL | XLHP_CLEANUP_LOCK | XLHP_HAS_CONFLICT_HORIZON |
  XLHP_HAS_FREEZE_PLANS | XLHP_CHANGES_LINE_POINTERS;

/** xlhp_freeze_plans: uint16 nplans and padding, then the plans. */
const FREEZE_PLANS_HEADER = 4;
/** xlhp_prune_items: uint16 ntargets, then the offset numbers. */
const PRUNE_ITEMS_HEADER = 2;

/**
 * Applies any of the three types of record. @throws {RedoError} when record and page don't fit
 * together
 */
export function redoPruneFreeze(rec: WalRecord, blk: number): void {
  if (blk !== 0) throw unexpectedBlock(blk);
  const flags = W8[mainData(rec, SIZE_OF_PRUNE) + PRUNE_FLAGS];
  if ((flags & ~XLHP_ALL) !== 0) throw new RedoError(`unknown flags 0x${(flags & ~XLHP_ALL).toString(16)}`);
  checkMainLength(rec, flags);
  let at = blockData(rec, 0, 0);
  const end = at + rec.dataLen[0];

  let plans = 0;
  let nplans = 0;
  if ((flags & XLHP_HAS_FREEZE_PLANS) !== 0) {
    nplans = count(at, end);
    plans = at + FREEZE_PLANS_HEADER;
    at = partEnd(plans, nplans * SIZE_OF_FREEZE_PLAN, end);
  }
  if ((flags & XLHP_HAS_REDIRECTIONS) !== 0) {
    const first = at + PRUNE_ITEMS_HEADER;
    const last = partEnd(first, 4 * count(at, end), end);
    for (at = first; at < last; at += 4) {
      setItemId(PAGE, u16(at), makeItemId(u16(at + 2) & 0x7fff, LP_REDIRECT, 0));
    }
  }
  if ((flags & XLHP_HAS_DEAD_ITEMS) !== 0) at = setItems(at, end, makeItemId(0, LP_DEAD, 0));
  if ((flags & XLHP_HAS_NOW_UNUSED_ITEMS) !== 0) at = setItems(at, end, 0);
  if ((flags & XLHP_CHANGES_LINE_POINTERS) !== 0) {
    // Only line pointers at the end can go without the lock that allows tuples to move.
    if ((flags & XLHP_CLEANUP_LOCK) !== 0) pageRepairFragmentation(PAGE);
    else pageTruncateLinePointers(PAGE);
  }
  executeFreezePlans(plans, nplans, at, end);
  pageSetLsn(PAGE, rec.endLsn);
}

/** @throws {RedoError} when the main data is longer or shorter than the flags say */
function checkMainLength(rec: WalRecord, flags: number): void {
  const horizon = (flags & XLHP_HAS_CONFLICT_HORIZON) !== 0 ? SIZE_OF_CONFLICT_HORIZON : 0;
  if (rec.mainLen !== SIZE_OF_PRUNE + horizon) {
    throw new RedoError(`main data has ${rec.mainLen} bytes, expected ${SIZE_OF_PRUNE + horizon}`);
  }
}

/** Sets the line pointers in the xlhp_prune_items at `at` to `raw`. Returns where that ends. */
function setItems(at: number, end: number, raw: number): number {
  const first = at + PRUNE_ITEMS_HEADER;
  const last = partEnd(first, 2 * count(at, end), end);
  for (let item = first; item < last; item += 2) setItemId(PAGE, u16(item), raw);
  return last;
}

function count(at: number, end: number): number {
  partEnd(at, PRUNE_ITEMS_HEADER, end);
  return u16(at);
}

/** @throws {RedoError} when `size` bytes from `at` go beyond `end` */
function partEnd(at: number, size: number, end: number): number {
  if (at + size > end) {
    throw new RedoError(`a part of ${size} bytes where ${end - at} of the block's data are left`);
  }
  return at + size;
}
