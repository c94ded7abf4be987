/** Bounds-checked access to the parts of the record in the workspace. */
import type { WalRecord } from "../../wal/record.ts";
import { RedoError } from "./errors.ts";

/** Address of the record's main data. @throws {RedoError} when it is shorter than `size` bytes */
export function mainData(rec: WalRecord, size: number): number {
  if (rec.mainLen < size) {
    throw new RedoError(`main data has ${rec.mainLen} bytes, expected at least ${size}`);
  }
  return rec.mainOff;
}

/** Address of block `blk`'s data. @throws {RedoError} when it is shorter than `size` bytes */
export function blockData(rec: WalRecord, blk: number, size: number): number {
  const length = rec.dataLen[blk];
  if (length < size) throw new RedoError(`block data has ${length} bytes, expected at least ${size}`);
  return rec.dataOff[blk];
}

/**
 * Whether the record refers to a block `blk`. Entries of a WalRecord from blockCount on are left
 * over from earlier records.
 */
export function hasBlock(rec: WalRecord, blk: number): boolean {
  return blk < rec.blockCount && rec.blockInUse[blk] === 1;
}

/**
 * Block number of the other block `blk` that the record refers to. @throws {RedoError} when it
 * refers to none
 */
export function blockNumber(rec: WalRecord, blk: number): number {
  if (!hasBlock(rec, blk)) throw new RedoError(`the record has no block reference ${blk}`);
  return rec.blkno[blk];
}

/** For a block reference that this type of record never has. */
export function unexpectedBlock(blk: number): RedoError {
  return new RedoError(`block reference ${blk} does not belong to this type of record`);
}
