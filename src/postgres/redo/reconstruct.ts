/**
 * Rebuilds one page from an older version of it and the records since. Nothing is allocated per
 * record.
 *
 * Either {@link reconstructPage} does it all, or a caller that has versions of several kinds goes
 * step by step: {@link startPage}, {@link applyRecordTo} once per record, {@link finishPage}. The
 * page is in the workspace in between.
 */
import type { RedoFormat } from "./redo_table.ts";
import { parseRecord } from "../wal/parse.ts";
import { VISIBILITYMAP_FORKNUM } from "../cluster/relfile.ts";
import { BKPBLOCK_FORK_MASK, WalRecord } from "../wal/record.ts";
import { RedoError } from "./page/errors.ts";
import { pageSetLsn } from "./page/page.ts";
import { redoRecordToBlock, redoRecordToVisibilityMap } from "./redo.ts";
import { BLCKSZ, PAGE, RECORD, RECORD_CAPACITY, W8 } from "./page/workspace.ts";

export { isInitialising } from "./redo.ts";

/** The block to rebuild: PostgreSQL's RelFileNode, fork and block number. */
export interface BlockTarget {
  readonly spcNode: number;
  readonly dbNode: number;
  readonly relNode: number;
  readonly fork: number;
  readonly blkno: number;
}

/**
 * Records as parallel arrays, newest first: record `i` is `len[i]` bytes at `off[i]` in `bytes[i]`
 * and ends at `lsn[i]`.
 */
export interface RecordChain {
  readonly lsn: ArrayLike<number>;
  readonly bytes: readonly Uint8Array[];
  readonly off: ArrayLike<number>;
  readonly len: ArrayLike<number>;
}

const record = new WalRecord();

/**
 * Rebuilds `target` into `out[outOff..]`.
 *
 * @param pg the major that wrote the records
 * @param base the page before the records, 8192 bytes; null for a page of zeros
 * @param chain the first `count` entries are the records to apply, newest first. Each changes
 *   `target`; they may be cut down to what it needs (cut_record.ts)
 * @throws {RedoError} when a record does not change `target` or can't be applied
 * @throws {WalError} when a record is malformed
 */
export function reconstructPage(
  pg: RedoFormat,
  base: Uint8Array | null,
  chain: RecordChain,
  count: number,
  target: BlockTarget,
  out: Uint8Array,
  outOff = 0,
): void {
  startPage(base);
  for (let i = count - 1; i >= 0; i--) {
    applyRecordTo(pg, target, chain.bytes[i], chain.off[i], chain.len[i], chain.lsn[i]);
  }
  finishPage(out, outOff);
}

/** Begins with `base`, 8192 bytes at `baseOff`; null for a page of zeros. */
export function startPage(base: Uint8Array | null, baseOff = 0): void {
  if (base === null) W8.fill(0, PAGE, PAGE + BLCKSZ);
  else W8.set(base.subarray(baseOff, baseOff + BLCKSZ), PAGE);
}

/**
 * Applies the record of `len` bytes at `off` in `bytes`, which ends at `endLsn`, to the page in the
 * workspace.
 *
 * @throws {RedoError} when the record does not change `target` or can't be applied
 * @throws {WalError} when the record is malformed
 */
export function applyRecordTo(
  pg: RedoFormat,
  target: BlockTarget,
  bytes: Uint8Array,
  off: number,
  len: number,
  endLsn: number,
): void {
  if (len > RECORD_CAPACITY) {
    throw new RedoError(
      `a record of ${len} bytes is longer than redo's ${RECORD_CAPACITY}: cut it down first`,
    );
  }
  copyRecord(bytes, off, len);
  // Only the end is known; it is what errors name.
  record.lsn = endLsn;
  record.endLsn = endLsn;
  parseRecord(record, W8, RECORD, pg);
  const blk = findBlock(record, target);
  if (blk >= 0) {
    redoRecordToBlock(record, blk, pg);
  } else if (target.fork === VISIBILITYMAP_FORKNUM) {
    redoRecordToVisibilityMap(record, target.blkno, pg);
  } else {
    throw new RedoError(
      `the record that ends at ${endLsn} does not refer to block ${target.blkno} of relation ` +
        `${target.spcNode}/${target.dbNode}/${target.relNode}, fork ${target.fork}`,
    );
  }
}

/** Sets the LSN of the page in the workspace. */
export function movePageLsn(lsn: number): void {
  pageSetLsn(PAGE, lsn);
}

/** Copies the page in the workspace to `out[outOff..]`. */
export function finishPage(out: Uint8Array, outOff = 0): void {
  out.set(W8.subarray(PAGE, PAGE + BLCKSZ), outOff);
}

/** Which of the record's block references is `target`; -1 when none is. */
export function findBlock(rec: WalRecord, target: BlockTarget): number {
  for (let i = 0; i < rec.blockCount; i++) {
    if (
      rec.blockInUse[i] === 1 && rec.blkno[i] === target.blkno && rec.relNode[i] === target.relNode &&
      (rec.blockFlags[i] & BKPBLOCK_FORK_MASK) === target.fork && rec.dbNode[i] === target.dbNode &&
      rec.spcNode[i] === target.spcNode
    ) return i;
  }
  return -1;
}

/** Up to this length a loop is faster than the view that `set` needs. */
const LOOP_COPY = 192;

function copyRecord(bytes: Uint8Array, off: number, len: number): void {
  if (len > LOOP_COPY) W8.set(bytes.subarray(off, off + len), RECORD);
  else for (let i = 0; i < len; i++) W8[RECORD + i] = bytes[off + i];
}
