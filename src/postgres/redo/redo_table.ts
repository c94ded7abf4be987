/** Which function applies which type of record: a table for each major. */
import { RM_MAX_BUILTIN_ID } from "../wal/rmgr.ts";
import type { WalFormat } from "../wal/wal_format.ts";
import type { WalRecord } from "../wal/record.ts";

/**
 * Applies the record in the workspace to the page in the workspace, which is the record's block
 * reference `blk`. Never called for a block with an image that redo restores.
 */
export type RedoFunction = (rec: WalRecord, blk: number) => void;

/**
 * Redo functions by {@link recordTypeIndex}; undefined where no record of that type changes a
 * block.
 */
export type RedoTable = readonly (RedoFunction | undefined)[];

export interface RedoFormat extends WalFormat {
  readonly redo: RedoTable;
}

const TYPES_PER_RMGR = 16;

/** Where a type of record is in a {@link RedoTable}. The low four bits of `info` don't matter. */
export function recordTypeIndex(rmid: number, info: number): number {
  return rmid * TYPES_PER_RMGR + (info >> 4);
}

/** A table with one redo function for all record types of each resource manager. */
export function redoTable(byRmgr: readonly (readonly [rmid: number, redo: RedoFunction])[]): RedoTable {
  const size = (RM_MAX_BUILTIN_ID + 1) * TYPES_PER_RMGR;
  const table = new Array<RedoFunction | undefined>(size).fill(undefined);
  for (const [rmid, redo] of byRmgr) {
    const first = recordTypeIndex(rmid, 0);
    table.fill(redo, first, first + TYPES_PER_RMGR);
  }
  return table;
}

/** A copy of `table` with different functions for some types of record. */
export function replaceRedo(
  table: RedoTable,
  replacements: readonly (readonly [rmid: number, info: number, redo: RedoFunction])[],
): RedoTable {
  const copy = [...table];
  for (const [rmid, info, redo] of replacements) copy[recordTypeIndex(rmid, info)] = redo;
  return copy;
}
