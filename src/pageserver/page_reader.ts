import { assert } from "../common/assert.ts";
import type { Lsn } from "../common/lsn.ts";
import { type TimelineStore, ValueChain } from "../pagestore/mod.ts";
import { BLCKSZ } from "../postgres/page_layout.ts";
import { finishPage, startPage } from "../postgres/redo/reconstruct.ts";
import { TAG_BYTES } from "./keys.ts";
import type { CachedPage, PageCache } from "./page_cache.ts";
import { applyOldest, applyRecords, type RelationBlocks } from "./rebuild_page.ts";

/** A relation fork, and the page store's number for it. */
export interface BlockSource extends RelationBlocks {
  readonly slot: number;
}

const TWO_POW_32 = 0x1_0000_0000;

/** Rebuilds pages of relations from what the page store has: an image and the WAL records since. */
export class PageReader {
  readonly #store: TimelineStore;
  readonly #cache: PageCache;
  /** slot · 2^32 + block → page. */
  readonly #pages = new Map<number, CachedPage>();
  #closed: Error | null = null;
  readonly #chain = new ValueChain();

  constructor(store: TimelineStore, cache: PageCache) {
    this.#store = store;
    this.#cache = cache;
  }

  /**
   * Puts the block as of `lsn` into `out[outOff..]`. A block that nothing was ever stored for is all zeros: Postgres
   * extends relations without logging it.
   *
   * @throws {ZenithError} `corrupt_data` when the history has no beginning, or a record can't be applied
   */
  readPage(source: BlockSource, block: number, lsn: Lsn | number, out: Uint8Array, outOff: number): void {
    if (this.#closed !== null) throw this.#closed;
    const chain = this.#chain;
    chain.clear();
    this.#store.collect(source.slot, block, lsn as Lsn, chain);
    if (chain.count === 0) {
      out.fill(0, outOff, outOff + BLCKSZ);
      return;
    }
    if (chain.count === 1 && chain.tag[0] === TAG_BYTES) {
      copyImage(chain, 0, out, outOff);
      return;
    }
    const key = source.slot * TWO_POW_32 + block;
    const newest = chain.lsn[0]!;
    const cached = this.#pages.get(key);
    if (cached !== undefined && cached.lsn === newest) {
      cached.used = true;
      out.set(cached.bytes, outOff);
      return;
    }
    let next = this.#applyCached(cached);
    if (next < 0) next = applyOldest(chain, source, block);
    applyRecords(chain, source, block, next);
    finishPage(out, outOff);
    if (cached === undefined || cached.lsn < newest) this.#cache.put(this.#pages, key, newest, out, outOff);
  }

  /** Starts from the cached version if it is one of the chain's. @returns the next value to apply, -1 if it is not */
  #applyCached(cached: CachedPage | undefined): number {
    if (cached === undefined || cached.lsn > this.#chain.lsn[0]!) return -1;
    for (let i = 1; i < this.#chain.count; i++) {
      if (this.#chain.lsn[i] === cached.lsn) {
        startPage(cached.bytes);
        return i - 1;
      }
    }
    return -1;
  }

  /** Forgets cached pages; the timeline is closing. Who reads on is told `why`. */
  close(why: Error): void {
    this.#closed = why;
    this.#cache.drop(this.#pages);
  }
}

function copyImage(chain: ValueChain, i: number, out: Uint8Array, outOff: number): void {
  const len = chain.len[i]!;
  if (len === 0) {
    out.fill(0, outOff, outOff + BLCKSZ);
    return;
  }
  assert(len === BLCKSZ, "a stored page is a whole page");
  const off = chain.off[i]!;
  out.set(chain.bytes[i]!.subarray(off, off + len), outOff);
}
