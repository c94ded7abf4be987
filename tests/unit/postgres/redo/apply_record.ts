import type { PgVersion } from "../../../../src/postgres/versions/pg_version.ts";
/** Applies records to pages the way the page server does, and reads from the pages that result. */
import { V15 } from "../../../../src/postgres/versions/v15.ts";
import assert from "node:assert/strict";
import {
  applyRecordTo,
  type BlockTarget,
  finishPage,
  startPage,
} from "../../../../src/postgres/redo/reconstruct.ts";
import { WalRecord } from "../../../../src/postgres/wal/record.ts";
import { parseRecord } from "../../../../src/postgres/wal/parse.ts";
import { cutRecord, NO_BLOCK } from "../../../../src/postgres/wal/cut_record.ts";
import { findBlock } from "../../../../src/postgres/redo/reconstruct.ts";
import { encodeRecord, type RecordSpec } from "../../../harness/wal_builder.ts";
import { END_LSN } from "./record_fixture.ts";

/** The relation that all records here are about. */
export const REL = [1663, 5, 16384] as const;
const PAGE_SIZE = 8192;

export function blockOf(blkno: number, fork = 0): BlockTarget {
  return { spcNode: REL[0], dbNode: REL[1], relNode: REL[2], fork, blkno };
}

/** The page that `spec`, a record that ends at END_LSN, makes of `base`. The record cut down to the block must do the same. */
export function applyRecord(
  base: Uint8Array | null,
  spec: RecordSpec,
  blkno: number,
  fork = 0,
  pg: PgVersion = V15,
): Uint8Array {
  const target = blockOf(blkno, fork);
  const bytes = encodeRecord(spec, 0);
  startPage(base);
  applyRecordTo(pg, target, bytes, 0, bytes.length, END_LSN);
  const page = new Uint8Array(PAGE_SIZE);
  finishPage(page);

  const rec = new WalRecord();
  parseRecord(rec, bytes, 0, pg);
  const block = findBlock(rec, target);
  const cut = new Uint8Array(bytes.length);
  const length = cutRecord(rec, block < 0 ? NO_BLOCK : block, cut, 0);
  startPage(base);
  applyRecordTo(pg, target, cut, 0, length, END_LSN);
  const fromCut = new Uint8Array(PAGE_SIZE);
  finishPage(fromCut);
  assert.ok(Buffer.from(page).equals(fromCut), "the record cut down to the block makes the same page");
  return page;
}

export function lsnOf(page: Uint8Array): number {
  const view = new DataView(page.buffer, page.byteOffset);
  return view.getUint32(0, true) * 2 ** 32 + view.getUint32(4, true);
}

export function read16(page: Uint8Array, at: number): number {
  return page[at] | (page[at + 1] << 8);
}

export function read32(page: Uint8Array, at: number): number {
  return (read16(page, at) | (read16(page, at + 2) << 16)) >>> 0;
}

/** A page's line pointer: lp_off, lp_flags, lp_len. */
export function linePointer(page: Uint8Array, off: number): { off: number; flags: number; len: number } {
  const raw = read32(page, 24 + 4 * (off - 1));
  return { off: raw & 0x7fff, flags: (raw >>> 15) & 3, len: raw >>> 17 };
}

/** How many line pointers the page has. */
export function linePointerCount(page: Uint8Array): number {
  return (read16(page, 12) - 24) / 4;
}

/** The bytes of the item at `off`. */
export function item(page: Uint8Array, off: number): Uint8Array {
  const lp = linePointer(page, off);
  return page.slice(lp.off, lp.off + lp.len);
}

export function items(page: Uint8Array): Uint8Array[] {
  return Array.from({ length: linePointerCount(page) }, (_, i) => item(page, i + 1));
}
