/** The page cache: rebuilt pages of all timelines. */
import { BLCKSZ } from "../../postgres/cluster/page_layout.ts";

/** One rebuilt page: block `key` of the owner of `pages`, as of its version `lsn`. */
export interface CachedPage {
  readonly bytes: Uint8Array;
  lsn: number;
  key: number;
  /** The owner's map that this entry is in. */
  pages: Map<number, CachedPage> | null;
  /** Used since the clock hand last passed. */
  used: boolean;
}

/**
 * Rebuilt pages of all timelines, bounded in bytes. Each timeline finds its pages in a map of its
 * own; the clock algorithm chooses over all of them which page to evict.
 */
export class PageCache {
  readonly #capacity: number;
  readonly #entries: CachedPage[] = [];
  #hand = 0;

  /** @param maxBytes of page content; 0 caches nothing */
  constructor(maxBytes: number) {
    this.#capacity = Math.floor(maxBytes / BLCKSZ);
  }

  /** Bytes of page content held. */
  get bytes(): number {
    return this.#entries.length * BLCKSZ;
  }

  /**
   * Keeps a copy of a page in `pages`, in place of an older version or of a page that was not used
   * for long.
   */
  put(
    pages: Map<number, CachedPage>,
    key: number,
    lsn: number,
    page: Uint8Array,
    pageOff: number,
  ): void {
    if (this.#capacity === 0) return;
    let entry = pages.get(key);
    if (entry === undefined) {
      entry = this.#take();
      entry.key = key;
      entry.pages = pages;
      pages.set(key, entry);
    }
    entry.lsn = lsn;
    entry.used = true;
    entry.bytes.set(page.subarray(pageOff, pageOff + BLCKSZ));
  }

  /** Forgets all pages of an owner. */
  drop(pages: Map<number, CachedPage>): void {
    for (const entry of pages.values()) {
      entry.pages = null;
      entry.used = false;
    }
    pages.clear();
  }

  #take(): CachedPage {
    if (this.#entries.length < this.#capacity) {
      const entry = { bytes: new Uint8Array(BLCKSZ), lsn: 0, key: 0, pages: null, used: false };
      this.#entries.push(entry);
      return entry;
    }
    for (;;) {
      const entry = this.#entries[this.#hand];
      this.#hand = (this.#hand + 1) % this.#entries.length;
      if (entry.used) {
        entry.used = false;
        continue;
      }
      entry.pages?.delete(entry.key);
      return entry;
    }
  }
}
