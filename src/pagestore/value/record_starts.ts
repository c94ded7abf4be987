/**
 * Stores where WAL records start, in about one byte each, so that any LSN in history can be turned
 * into a record boundary without the WAL.
 *
 * A start is stored as its distance from the previous one, as a varint. Distances are nearly always
 * multiples of 8 (PostgreSQL's MAXALIGN). So a multiple is stored as an eighth of itself, with the
 * lowest bit clear; other distances are stored whole, with that bit set.
 */

/**
 * How many starts lie between two entries of the sparse index, and in one block of a layer file.
 */
export const STARTS_PER_BLOCK = 4096;

const ALIGNMENT = 8;
const INITIAL_BYTES = 1024;
/** A varint of 2^53 has eight bytes. */
const VARINT_MAX_BYTES = 8;

/** The greatest record start at or below an LSN, and the one before it; -1 where there is none. */
export interface FoundStart {
  start: number;
  prev: number;
}

/**
 * A list of starts in blocks, in the form that {@link findStart} reads: each block is its first
 * start and the distances after it.
 */
export type StartBlocks = readonly StartBlock[];

export interface StartBlock {
  readonly first: number;
  readonly last: number;
  readonly distances: Uint8Array;
}

/** An ascending list that grows. */
export class RecordStarts {
  count = 0;
  /** The first and last start. They mean nothing while {@link count} is 0. */
  first = 0;
  last = 0;

  #bytes = new Uint8Array(INITIAL_BYTES);
  #length = 0;
  /**
   * For each block of STARTS_PER_BLOCK starts: its first start, and where the distances after it
   * begin.
   */
  #blockFirst: number[] = [];
  #blockLast: number[] = [];
  #blockOffset: number[] = [];

  /** Adds a start, which must be above the last one. */
  add(start: number): void {
    if (this.count % STARTS_PER_BLOCK === 0) {
      if (this.count === 0) this.first = start;
      else this.#blockLast.push(this.last);
      this.#blockFirst.push(start);
      this.#blockOffset.push(this.#length);
    } else {
      if (this.#length + VARINT_MAX_BYTES > this.#bytes.length) this.#grow();
      const distance = start - this.last;
      let rest = distance % ALIGNMENT === 0 ? distance / (ALIGNMENT / 2) : 2 * distance + 1;
      while (rest >= 0x80) {
        this.#bytes[this.#length++] = (rest % 0x80) | 0x80;
        rest = Math.floor(rest / 0x80);
      }
      this.#bytes[this.#length++] = rest;
    }
    this.last = start;
    this.count++;
  }

  get memoryBytes(): number {
    return this.#bytes.length;
  }

  /**
   * Returns the whole list, for a file. The bytes belong to this list and are valid until the next
   * {@link add}.
   */
  blocks(): StartBlock[] {
    return this.#blockFirst.map((first, block) => ({
      first,
      last: block < this.#blockLast.length ? this.#blockLast[block] : this.last,
      distances: this.#distances(block),
    }));
  }

  /** @returns false when every start is above `lsn`; otherwise `found` is filled */
  find(lsn: number, found: FoundStart): boolean {
    if (this.count === 0 || lsn < this.first) return false;
    const block = lastAtOrBelow(this.#blockFirst, lsn);
    findStart(this.#blockFirst[block], this.#distances(block), lsn, found);
    if (found.prev < 0 && block > 0) found.prev = this.#blockLast[block - 1];
    return true;
  }

  #distances(block: number): Uint8Array {
    const end = block + 1 < this.#blockOffset.length ? this.#blockOffset[block + 1] : this.#length;
    return this.#bytes.subarray(this.#blockOffset[block], end);
  }

  #grow(): void {
    const bytes = new Uint8Array(2 * this.#bytes.length);
    bytes.set(this.#bytes);
    this.#bytes = bytes;
  }
}

/**
 * Returns the index of the last element at or below `value` in an ascending list; -1 when all are
 * above.
 */
export function lastAtOrBelow(ascending: ArrayLike<number>, value: number): number {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ascending[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/**
 * Searches one block: `first` and the distances after it. `lsn` must not be below `first`.
 * `found.prev` is -1 when the start found is the block's first.
 */
export function findStart(first: number, distances: Uint8Array, lsn: number, found: FoundStart): void {
  found.start = first;
  found.prev = -1;
  forEachStart(first, distances, (start) => {
    if (start > lsn) return false;
    if (start !== first) found.prev = found.start;
    found.start = start;
    return true;
  });
}

/** Calls `visit` with every start of a block, ascending, until it returns false. */
export function forEachStart(first: number, distances: Uint8Array, visit: (start: number) => boolean): void {
  let start = first;
  if (!visit(start)) return;
  let at = 0;
  while (at < distances.length) {
    let value = 0;
    let scale = 1;
    let byte: number;
    do {
      byte = distances[at++];
      value += (byte & 0x7f) * scale;
      scale *= 0x80;
    } while (byte >= 0x80 && at < distances.length);
    start += value % 2 === 0 ? value * (ALIGNMENT / 2) : (value - 1) / 2;
    if (!visit(start)) return;
  }
}
