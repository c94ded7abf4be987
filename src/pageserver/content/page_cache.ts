/** The page cache: rebuilt pages of all timelines. */
import { BLCKSZ } from "../../postgres/cluster/page_layout.ts";

/** One rebuilt page: block `key` of `owner`, as of its version `lsn`. */
export interface CachedPage {
  readonly bytes: Uint8Array;
  lsn: number;
  key: number;
  /** Whose version it is; null when nobody can find the page any more. */
  owner: PageOwner | null;
  /** The owner's, to find pages. */
  next: CachedPage | null;
  /** Used since the clock hand last passed. */
  used: boolean;
}

export interface PageOwner {
  /** One of its pages is about to become another one. */
  forget(page: CachedPage): void;
}

/**
 * Rebuilt pages of all timelines, bounded in bytes. Their owners find them; the clock algorithm
 * chooses over all of them which page to evict.
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
   * A page to fill, in place of one that was not used for long; null when nothing is cached.
   *
   * @param owner of the new one
   */
  take(owner: PageOwner): CachedPage | null {
    if (this.#capacity === 0) return null;
    const entry = this.#free();
    entry.owner = owner;
    entry.next = null;
    return entry;
  }

  #free(): CachedPage {
    if (this.#entries.length < this.#capacity) {
      const entry = {
        bytes: new Uint8Array(BLCKSZ),
        lsn: 0,
        key: 0,
        owner: null,
        next: null,
        used: false,
      };
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
      entry.owner?.forget(entry);
      return entry;
    }
  }
}
