/**
 * Freezing by plans: tuples that get the same header share one plan, and their offset numbers
 * follow in arrays. Replay in PostgreSQL: heap_xlog_freeze_page in src/backend/access/heap/heapam.c
 * of 16; in 17 it became part of pruning.
 */
import type { WalRecord } from "../../wal/record.ts";
import { RedoError } from "../page/errors.ts";
import { pageSetLsn } from "../page/page.ts";
import { blockData, mainData, unexpectedBlock } from "../page/record_data.ts";
import { PAGE, u16, u32, W8 } from "../page/workspace.ts";
import { freezeTuple, heapTuple } from "./heap_tuple.ts";

// xl_heap_freeze_page: TransactionId snapshotConflictHorizon, uint16 nplans, bool isCatalogRel
const FREEZE_NPLANS = 4;
const SIZE_OF_FREEZE_PAGE = 7;

// xl_heap_freeze_plan, xlhp_freeze_plan
const PLAN_XMAX = 0;
const PLAN_INFOMASK2 = 4;
const PLAN_INFOMASK = 6;
const PLAN_FRZFLAGS = 8;
const PLAN_NTUPLES = 10;
export const SIZE_OF_FREEZE_PLAN = 12;

/**
 * Applies XLOG_HEAP2_FREEZE_PAGE of PostgreSQL 16. @throws {RedoError} when record and page don't
 * fit together
 */
export function redoFreezePage16(rec: WalRecord, blk: number): void {
  if (blk !== 0) throw unexpectedBlock(blk);
  const nplans = u16(mainData(rec, SIZE_OF_FREEZE_PAGE) + FREEZE_NPLANS);
  const plans = blockData(rec, 0, nplans * SIZE_OF_FREEZE_PLAN);
  const end = plans + rec.dataLen[0];
  executeFreezePlans(plans, nplans, plans + nplans * SIZE_OF_FREEZE_PLAN, end);
  pageSetLsn(PAGE, rec.endLsn);
}

/**
 * Freezes tuples on PAGE.
 *
 * @param offsets where the plans' offset numbers start, those of the first plan first
 * @param end where they end: their number must match the plans
 * @throws {RedoError} when it does not, or one isn't a tuple's
 */
export function executeFreezePlans(plans: number, nplans: number, offsets: number, end: number): void {
  let at = offsets;
  for (let i = 0; i < nplans; i++) {
    const plan = plans + i * SIZE_OF_FREEZE_PLAN;
    const xmax = u32(plan + PLAN_XMAX);
    const infomask2 = u16(plan + PLAN_INFOMASK2);
    const infomask = u16(plan + PLAN_INFOMASK);
    const flags = W8[plan + PLAN_FRZFLAGS];
    const planEnd = at + 2 * u16(plan + PLAN_NTUPLES);
    if (planEnd > end) throw new RedoError(`freeze plan ${i} of ${nplans} goes beyond the block's data`);
    for (; at < planEnd; at += 2) freezeTuple(heapTuple(PAGE, u16(at)), xmax, infomask2, infomask, flags);
  }
  if (at !== end) throw new RedoError(`${nplans} freeze plans leave ${end - at} bytes of the block's data`);
}
