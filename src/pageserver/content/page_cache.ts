/** The page cache: rebuilt pages of all timelines. */
import { BLCKSZ } from "../../postgres/cluster/page_layout.ts";

/** One rebuilt page: block `key` of `owner`, as of its version `lsn`. */
export interface CachedPage {
  readonly bytes: Uint8Array;
  lsn: number;
  key: number;
  /** The owner of that version. Null when nobody can find the page any more. */
  owner: PageOwner | null;
  /** The next page in the owner's list. Only the owner uses it. */
  next: CachedPage | null;
  /** Whether it was used since the clock hand last passed. */
  used: boolean;
}

export interface PageOwner {
  /** Called when one of its pages is about to be reused for another one. */
  forget(page: CachedPage): void;
}

/**
 * Rebuilt pages of all timelines, limited in bytes. Their owners find them. The clock algorithm
 * chooses the page to evict among all of them.
 */
export class PageCache {
  readonly #capacity: number;
  readonly #entries: CachedPage[] = [];
  #hand = 0;

  /** @param maxBytes the limit for page content; 0 caches nothing */
  constructor(maxBytes: number) {
    this.#capacity = Math.floor(maxBytes / BLCKSZ);
  }

  /** How many bytes of page content are cached. */
  get bytes(): number {
    return this.#entries.length * BLCKSZ;
  }

  /**
   * Returns a page to fill, in place of one that was not used for a long time. Null when nothing is
   * cached.
   *
   * @param owner the new page's owner
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
