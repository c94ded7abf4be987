/** Log sequence numbers: positions in the WAL, and their text form. */
import { ZenithError } from "./errors.ts";

/**
 * A position in the WAL, in bytes since its beginning. It is a branded `number`: 2^53 bytes (9 PB)
 * of WAL fit, and on the decode path a number is six times cheaper than a bigint. A larger value is
 * an error and is never rounded.
 */
export type Lsn = number & { readonly __brand: "Lsn" };

/** PostgreSQL's InvalidXLogRecPtr, `0/0`: "no position". */
export const INVALID_LSN = 0 as Lsn;

/** The largest LSN that can be represented exactly. */
export const MAX_LSN = Number.MAX_SAFE_INTEGER as Lsn;

const TWO_POW_32 = 0x1_0000_0000;

/**
 * Brands a number that is a position. @throws {ZenithError} when it is not an integer in 0..2^53-1
 */
export function lsn(value: number): Lsn {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new ZenithError("out_of_range", `LSN ${value} is outside 0/0..${formatLsn(MAX_LSN)}`);
  }
  return value as Lsn;
}

/** Joins two unsigned 32-bit halves. @throws {ZenithError} when the result is above 2^53-1 */
export function lsnFromHalves(high: number, low: number): Lsn {
  const value = (high >>> 0) * TWO_POW_32 + (low >>> 0);
  if (value > Number.MAX_SAFE_INTEGER) {
    throw new ZenithError(
      "out_of_range",
      `LSN ${(high >>> 0).toString(16)}/${(low >>> 0).toString(16)} is beyond 2^53`,
    );
  }
  return value as Lsn;
}

/** The upper 32 bits, unsigned. */
export function lsnHigh(value: Lsn): number {
  return Math.floor(value / TWO_POW_32);
}

/** The lower 32 bits, unsigned. */
export function lsnLow(value: Lsn): number {
  return value >>> 0;
}

/** Prints an LSN as PostgreSQL does: `0/16B5A50`. */
export function formatLsn(value: Lsn): string {
  return `${lsnHigh(value).toString(16).toUpperCase()}/${lsnLow(value).toString(16).toUpperCase()}`;
}

/** Parses `0/16B5A50`. @throws {ZenithError} `invalid_argument` when the text is anything else */
export function parseLsn(text: string): Lsn {
  const match = /^([0-9a-fA-F]{1,8})\/([0-9a-fA-F]{1,8})$/.exec(text);
  if (match === null) {
    throw new ZenithError(
      "invalid_argument",
      `"${text}" is not an LSN: expected two hex numbers like 0/16B5A50`,
    );
  }
  return lsnFromHalves(parseInt(match[1], 16), parseInt(match[2], 16));
}

export function minLsn(a: Lsn, b: Lsn): Lsn {
  return a < b ? a : b;
}

export function maxLsn(a: Lsn, b: Lsn): Lsn {
  return a > b ? a : b;
}
