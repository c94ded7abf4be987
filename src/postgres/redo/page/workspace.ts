/**
 * The memory in which redo works: one page, the record that is applied to it, and scratch room, in
 * one buffer.
 *
 * One buffer, because `copyWithin` inside it costs 10-13 ns where a copy between buffers costs 50,
 * and because views that are module constants compile to plain loads. Redo is synchronous, so one
 * workspace per thread is enough; every Worker that imports this module has its own.
 *
 * Addresses below are byte offsets into it. PAGE, SCRATCH and RECORD are 8-byte aligned, and tuples
 * on a page are too.
 */

import { BLCKSZ } from "../../cluster/page_layout.ts";

export { BLCKSZ };

/** The page that is being rebuilt. */
export const PAGE = 0;
/**
 * Scratch pages for redo routines that build a page elsewhere first. Nothing in them survives from
 * one record to the next.
 */
export const SCRATCH = BLCKSZ;
export const SCRATCH_SIZE = 15 * BLCKSZ;
/** The record that is being applied. */
export const RECORD = SCRATCH + SCRATCH_SIZE;
/**
 * 33 block references with 64 KiB of data and an image each, and main data. The store keeps a
 * record cut down to one block's part, so real ones are far smaller; untouched pages of this buffer
 * cost nothing.
 */
export const RECORD_CAPACITY = 4 << 20;

const buffer = new ArrayBuffer(RECORD + RECORD_CAPACITY);

/**
 * The workspace as bytes, 16-bit and 32-bit words (little endian, as Postgres on every platform we
 * run on).
 */
export const W8: Uint8Array = new Uint8Array(buffer);
export const W16: Uint16Array = new Uint16Array(buffer);
export const W32: Int32Array = new Int32Array(buffer);

/** Reads an unsigned 16-bit value at any alignment. */
export function u16(at: number): number {
  return W8[at] | (W8[at + 1] << 8);
}

/** Reads a 32-bit value at any alignment, as a signed integer. */
export function i32(at: number): number {
  return W8[at] | (W8[at + 1] << 8) | (W8[at + 2] << 16) | (W8[at + 3] << 24);
}

/** Reads an unsigned 32-bit value at any alignment. */
export function u32(at: number): number {
  return i32(at) >>> 0;
}

/** Writes 16 bits at any alignment. */
export function setU16(at: number, value: number): void {
  W8[at] = value;
  W8[at + 1] = value >>> 8;
}

/** Writes 32 bits at any alignment. */
export function setU32(at: number, value: number): void {
  W8[at] = value;
  W8[at + 1] = value >>> 8;
  W8[at + 2] = value >>> 16;
  W8[at + 3] = value >>> 24;
}

/** Below this a byte loop beats the call into `copyWithin`. */
const SHORT_COPY = 16;

/**
 * memmove: copies `length` bytes from `from` to `to` within the workspace; the ranges may overlap.
 */
export function copy(to: number, from: number, length: number): void {
  if (length <= SHORT_COPY && (to <= from || to >= from + length)) {
    for (let i = 0; i < length; i++) W8[to + i] = W8[from + i];
  } else {
    W8.copyWithin(to, from, from + length);
  }
}
