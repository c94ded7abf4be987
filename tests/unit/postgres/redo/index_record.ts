/** What tests of GIN and GiST redo have in common: index tuples, and a watch over memory that redo must not touch. */
import assert from "node:assert/strict";
import type { WalRecord } from "../../../../src/postgres/wal/record.ts";
import { RedoError } from "../../../../src/postgres/redo/page/errors.ts";
import { BLCKSZ, RECORD, SCRATCH, W8 } from "../../../../src/postgres/redo/page/workspace.ts";
import { bytes, makeRecord, u16 } from "./record_fixture.ts";

/** An index tuple that points to (`blkno`, `off`), with `key` behind its header, padded to 8 bytes. */
export function indexTuple(blkno: number, off: number, key: number[]): number[] {
  const size = (8 + key.length + 7) & ~7;
  const tuple = [...u16(blkno >>> 16, blkno & 0xffff, off, size), ...key];
  while (tuple.length < size) tuple.push(0);
  return tuple;
}

export interface IndexBlock {
  blkno: number;
  data?: number[];
}

/** {@link makeRecord} of parts that are lists of bytes. */
export function makeIndexRecord(info: number, main: number[], blocks: (IndexBlock | undefined)[]): WalRecord {
  return makeRecord(
    info,
    bytes(main),
    blocks.map((block) => block && { blkno: block.blkno, data: bytes(block.data ?? []) }),
  );
}

/** Scratch pages that redo of GIN and GiST has no use for. */
const UNUSED_SCRATCH = [SCRATCH + 2 * BLCKSZ, SCRATCH + 14 * BLCKSZ] as const;
/** The record and what lies behind it. */
const RECORD_AREA = [RECORD, RECORD + 2 * BLCKSZ] as const;

/**
 * Applies a record that may be damaged to a page that may be: it can be refused with a {@link RedoError}, and must leave all
 * memory alone but the page and its own scratch pages.
 */
export function applyDamaged(redo: (rec: WalRecord, blk: number) => void, rec: WalRecord, blk: number): void {
  const scratch = Buffer.from(W8.slice(...UNUSED_SCRATCH));
  const record = Buffer.from(W8.slice(...RECORD_AREA));
  try {
    redo(rec, blk);
  } catch (error) {
    if (!(error instanceof RedoError)) throw error;
  }
  assert.ok(record.equals(W8.subarray(...RECORD_AREA)), "the record is as before");
  assert.ok(scratch.equals(W8.subarray(...UNUSED_SCRATCH)), "unused scratch pages are as before");
}
