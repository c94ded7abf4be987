/** Reads pages of relations as of an LSN. */
import { assert } from "../../common/assert.ts";
import type { Lsn } from "../../common/lsn.ts";
import { type TimelineStore, ValueChain } from "../../pagestore/mod.ts";
import { BLCKSZ } from "../../postgres/cluster/page_layout.ts";
import { finishPage, startPage } from "../../postgres/redo/reconstruct.ts";
import type { PgVersion } from "../../postgres/versions/pg_version.ts";
import { TAG_BYTES } from "./keys.ts";
import type { PageCache } from "./page_cache.ts";
import { applyOldest, applyRecords, type RelationBlocks } from "./rebuild_page.ts";
import { TimelinePages } from "./timeline_pages.ts";

/** A relation fork, and its number in the page store. */
export interface BlockSource extends RelationBlocks {
  readonly slot: number;
}

const TWO_POW_32 = 0x1_0000_0000;

/**
 * Rebuilds pages of relations from an image and the WAL records after it, which the page store has.
 */
export class PageReader {
  readonly #pg: PgVersion;
  readonly #store: TimelineStore;
  /** Pages by slot · 2^32 + block. A slot is the same in a timeline's ancestors and branches. */
  readonly #pages: TimelinePages;
  #closed: Error | null = null;
  readonly #chain = new ValueChain();

  /** @param ancestor the reader of the timeline that `store` falls back to */
  constructor(pg: PgVersion, store: TimelineStore, cache: PageCache, ancestor: PageReader | null) {
    this.#pg = pg;
    this.#store = store;
    const { ancestorLsn } = store;
    assert((ancestor === null) === (ancestorLsn === null), "a branch reads beside its ancestor");
    this.#pages = new TimelinePages(
      cache,
      ancestor === null || ancestorLsn === null ? null : { pages: ancestor.#pages, lsn: ancestorLsn },
    );
  }

  /**
   * Writes the block as of `lsn` to `out[outOff..]`. A block for which nothing was ever stored is
   * all zeros, because Postgres extends relations without logging it.
   *
   * @param keep whether caches are to keep the page, and what it is made of; false for one-time
   *   reads
   * @throws {ZenithError} `corrupt_data` when the history has no beginning, or a record can't be
   *   applied
   */
  readPage(
    source: BlockSource,
    block: number,
    lsn: Lsn | number,
    out: Uint8Array,
    outOff: number,
    keep = true,
  ): void {
    if (this.#closed !== null) throw this.#closed;
    const chain = this.#chain;
    const key = source.slot * TWO_POW_32 + block;
    const cached = this.#pages.find(key, lsn);
    // Versions older than the cached one need not be looked up.
    if (keep) this.#store.collect(source.slot, block, lsn, chain, cached?.lsn);
    else this.#store.collectOnce(source.slot, block, lsn, chain, cached?.lsn);
    if (chain.count === 0) {
      out.fill(0, outOff, outOff + BLCKSZ);
      return;
    }
    if (chain.count === 1 && chain.tag[0] === TAG_BYTES) {
      copyImage(chain, 0, out, outOff);
      return;
    }
    const newest = chain.lsn[0];
    if (cached !== undefined && cached.lsn === newest) {
      cached.used = true;
      out.set(cached.bytes, outOff);
      return;
    }
    let next = chain.count - 2;
    if (cached !== undefined && chain.lsn[chain.count - 1] <= cached.lsn) startPage(cached.bytes);
    else next = applyOldest(chain, source, block);
    applyRecords(this.#pg, chain, source, block, next);
    finishPage(out, outOff);
    if (keep) this.#pages.put(key, newest, out, outOff);
  }

  /** Forgets cached pages, because the timeline is closing. Later readers get the error `why`. */
  close(why: Error): void {
    this.#closed = why;
    this.#pages.drop();
  }
}

function copyImage(chain: ValueChain, i: number, out: Uint8Array, outOff: number): void {
  const len = chain.len[i];
  if (len === 0) {
    out.fill(0, outOff, outOff + BLCKSZ);
    return;
  }
  assert(len === BLCKSZ, "a stored page is a whole page");
  const off = chain.off[i];
  out.set(chain.bytes[i].subarray(off, off + len), outOff);
}
