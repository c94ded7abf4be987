/**
 * Lists the timelines that a branch falls back to, nearest first, with a filter that says which of
 * them may have a block. A read at the end of a long chain of branches then looks only where
 * something may be. What an ancestor has at or below the branch point never grows, so a filter
 * stays valid once it is made.
 *
 * The filter is a table of bits, with a row per hash of (object, block) and a column per ancestor.
 * An ancestor may have a block if its bit is set in both of the block's rows. An ancestor with more
 * keys than the table has rows is not entered: it may have anything.
 */
import type { BlockCache } from "./layer/block_cache.ts";

/** With no more ancestors than this, asking all of them is faster than the filter. */
const FILTER_FROM_ANCESTORS = 4;

const MIN_ROWS = 256;
const MAX_ROWS = 1 << 15;

/** No filter is made that would take up more than this part of the cache. */
const MAX_CACHE_PART = 8;

/** One of a branch's ancestors. */
export interface Ancestor<Store extends AncestorStore> {
  readonly store: Store;
  /** The branch reads from the ancestor at or below this LSN. */
  readonly limit: number;
}

export interface AncestorStore {
  /** Returns an upper bound of the number of keys. It is cheap, and not far above the number. */
  keyCount(): number;
  /** Visits every key, some perhaps more than once. @throws {ZenithError} `corrupt_data`, `io` */
  forEachKey(visit: (slot: number, block: number) => void): void;
}

export class Ancestry<Store extends AncestorStore> {
  /** The ancestors, nearest first. */
  readonly ancestors: readonly Ancestor<Store>[];
  readonly #cache: BlockCache;
  readonly #cacheId: number;

  constructor(ancestors: readonly Ancestor<Store>[], cache: BlockCache) {
    this.ancestors = ancestors;
    this.#cache = cache;
    this.#cacheId = cache.newLayerId();
  }

  /**
   * Returns the first ancestor, from number `from` on, that may have the block; -1 when there is
   * none.
   *
   * @param filter from {@link filter}
   */
  next(filter: AncestryFilter | null, slot: number, block: number, from: number): number {
    if (filter !== null) return filter.next(slot, block, from);
    return from < this.ancestors.length ? from : -1;
  }

  /**
   * Returns null when asking all ancestors is as good. Get the filter anew for every read: the
   * cache may evict it. @throws as forEachKey
   */
  filter(): AncestryFilter | null {
    const { ancestors } = this;
    if (ancestors.length < FILTER_FROM_ANCESTORS) return null;
    const cached = this.#cache.get(this.#cacheId, FILTER_BLOCK);
    if (cached instanceof AncestryFilter) return cached;
    if (AncestryFilter.bytes(MIN_ROWS, ancestors.length) * MAX_CACHE_PART > this.#cache.capacityBytes) {
      return null;
    }
    const maxRows = this.#cache.capacityBytes / MAX_CACHE_PART / AncestryFilter.bytes(1, ancestors.length);
    const filter = AncestryFilter.of(ancestors.map(({ store }) => store), Math.min(MAX_ROWS, maxRows));
    this.#cache.put(this.#cacheId, FILTER_BLOCK, filter, filter.sizeBytes);
    return filter;
  }
}

/** The filter's number among the cached blocks of an ancestry. */
const FILTER_BLOCK = 0;

class AncestryFilter {
  readonly #mask: number;
  /** How many 32-bit words a row has. */
  readonly #words: number;
  readonly #count: number;
  readonly #bits: Int32Array;
  /** A row with the ancestors that may have anything. */
  readonly #always: Int32Array;

  private constructor(rows: number, count: number) {
    this.#mask = rows - 1;
    this.#count = count;
    this.#words = Math.ceil(count / 32);
    this.#bits = new Int32Array(rows * this.#words);
    this.#always = new Int32Array(this.#words);
  }

  static of(stores: readonly AncestorStore[], maxRows: number): AncestryFilter {
    let most = MIN_ROWS;
    for (const store of stores) {
      const keys = store.keyCount();
      // A rare large ancestor must not make the table large for all.
      if (4 * keys <= maxRows) most = Math.max(most, 4 * keys);
    }
    let rows = MIN_ROWS;
    while (rows < most) rows *= 2;
    const filter = new AncestryFilter(rows, stores.length);
    for (const [i, store] of stores.entries()) {
      if (store.keyCount() > rows) filter.#always[i >>> 5] |= 1 << (i & 31);
      else store.forEachKey((slot, block) => filter.#add(i, slot, block));
    }
    return filter;
  }

  static bytes(rows: number, ancestors: number): number {
    return 4 * rows * Math.ceil(ancestors / 32);
  }

  get sizeBytes(): number {
    return this.#bits.byteLength;
  }

  next(slot: number, block: number, from: number): number {
    if (from >= this.#count) return -1;
    const hash = hashOf(slot, block);
    const words = this.#words;
    const first = (hash & this.#mask) * words;
    const second = (otherHash(hash) & this.#mask) * words;
    let mask = -1 << (from & 31);
    for (let word = from >>> 5; word < words; word++) {
      const found = ((this.#bits[first + word] & this.#bits[second + word]) | this.#always[word]) & mask;
      if (found !== 0) return 32 * word + 31 - Math.clz32(found & -found);
      mask = -1;
    }
    return -1;
  }

  #add(ancestor: number, slot: number, block: number): void {
    const hash = hashOf(slot, block);
    const word = ancestor >>> 5;
    const bit = 1 << (ancestor & 31);
    this.#bits[(hash & this.#mask) * this.#words + word] |= bit;
    this.#bits[(otherHash(hash) & this.#mask) * this.#words + word] |= bit;
  }
}

/** Multiply-and-mix. Any odd constants with well-spread bits will do. */
function hashOf(slot: number, block: number): number {
  const h = Math.imul(Math.imul(slot, 0x9e3779b1) ^ block, 0x85ebca6b);
  return Math.imul(h ^ (h >>> 15), 0xc2b2ae35);
}

function otherHash(hash: number): number {
  const h = Math.imul(hash ^ (hash >>> 16), 0x27d4eb2d);
  return h ^ (h >>> 13);
}
