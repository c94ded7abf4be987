/**
 * The cached pages that a timeline can use: its own, and those of the timelines that it comes from.
 */
import type { Lsn } from "../../common/lsn.ts";
import { BLCKSZ } from "../../postgres/cluster/page_layout.ts";
import type { CachedPage, PageCache, PageOwner } from "./page_cache.ts";

/** The point where a timeline leaves another one. */
export interface PagesBranchPoint {
  readonly pages: TimelinePages;
  /** The timeline has what the other one has at or below this LSN. */
  readonly lsn: Lsn;
}

/**
 * A timeline's view of the cached pages. A page belongs to the timeline that holds its newest
 * version. It is the same for every timeline that leaves that one at or above the version, so a new
 * branch finds what was rebuilt for its parent or for another branch. A timeline and all its
 * descendants share one map of blocks. The versions of a block that several of them have form a
 * list.
 */
export class TimelinePages implements PageOwner {
  readonly #cache: PageCache;
  readonly #parent: PagesBranchPoint | null;
  /** Maps a block to the first page of its list. */
  readonly #blocks: Map<number, CachedPage>;
  /** Made only when it is needed, because most of many branches are never read. */
  #ancestors: Ancestors | null = null;
  /** How many pages this timeline owns. */
  #count = 0;

  constructor(cache: PageCache, parent: PagesBranchPoint | null) {
    this.#cache = cache;
    this.#parent = parent;
    this.#blocks = parent === null ? new Map() : parent.pages.#blocks;
  }

  /** Returns the newest cached version of the block at or below `lsn`. */
  find(key: number, lsn: number): CachedPage | undefined {
    let best: CachedPage | undefined;
    for (let page = this.#blocks.get(key) ?? null; page !== null; page = page.next) {
      if (page.lsn > lsn || page.lsn <= (best?.lsn ?? -1)) continue;
      // No ancestor has a newer version.
      if (page.owner === this) return page;
      if (page.lsn <= this.#limitOf(page.owner)) best = page;
    }
    return best;
  }

  /**
   * Caches a copy of a page whose newest version is at `lsn`, in place of the owner's older one. A
   * newer one stays, because others read at the end.
   */
  put(key: number, lsn: number, page: Uint8Array, off: number): void {
    const owner = this.#ownerOf(lsn);
    let entry = owner.#own(key);
    if (entry === null) {
      entry = this.#cache.take(owner);
      if (entry === null) return;
      entry.key = key;
      entry.next = this.#blocks.get(key) ?? null;
      this.#blocks.set(key, entry);
      owner.#count++;
    } else if (entry.lsn > lsn) return;
    entry.lsn = lsn;
    entry.used = true;
    entry.bytes.set(page.subarray(off, off + BLCKSZ));
  }

  forget(page: CachedPage): void {
    const first = this.#blocks.get(page.key);
    if (first === page) {
      if (page.next === null) this.#blocks.delete(page.key);
      else this.#blocks.set(page.key, page.next);
    } else {
      let before = first;
      while (before !== undefined && before.next !== page) before = before.next ?? undefined;
      if (before !== undefined) before.next = page.next;
    }
    page.owner = null;
    page.next = null;
    page.used = false;
    this.#count--;
  }

  /** Forgets the timeline's own pages, because it is closing. */
  drop(): void {
    if (this.#count === 0) return;
    for (const first of [...this.#blocks.values()]) {
      for (let page: CachedPage | null = first; page !== null;) {
        const { next }: CachedPage = page;
        if (page.owner === this) this.forget(page);
        page = next;
      }
    }
  }

  #own(key: number): CachedPage | null {
    let page = this.#blocks.get(key) ?? null;
    while (page !== null && page.owner !== this) page = page.next;
    return page;
  }

  /** Returns the timeline that holds the version at `lsn` which is seen from here. */
  #ownerOf(lsn: number): TimelinePages {
    if (this.#parent === null || lsn > this.#parent.lsn) return this;
    const { nearestFirst, limits } = this.#ancestors ??= this.#findAncestors();
    // Limits never rise on the way up. The owner is the last ancestor that is seen up to `lsn`.
    let [seen, unseen] = [0, nearestFirst.length];
    while (unseen - seen > 1) {
      const middle = (seen + unseen) >>> 1;
      if (limits.get(nearestFirst[middle])! >= lsn) seen = middle;
      else unseen = middle;
    }
    return nearestFirst[seen];
  }

  #limitOf(owner: PageOwner | null): number {
    if (owner === null) return -1;
    this.#ancestors ??= this.#findAncestors();
    return this.#ancestors.limits.get(owner) ?? -1;
  }

  #findAncestors(): Ancestors {
    const nearestFirst: TimelinePages[] = [];
    const limits = new Map<PageOwner, number>();
    let limit = Infinity;
    for (let point = this.#parent; point !== null; point = point.pages.#parent) {
      limit = Math.min(limit, point.lsn);
      nearestFirst.push(point.pages);
      limits.set(point.pages, limit);
    }
    return { nearestFirst, limits };
  }
}

/** The timelines that one comes from. */
interface Ancestors {
  readonly nearestFirst: readonly TimelinePages[];
  /** The LSN up to which the versions of each can be seen. */
  readonly limits: ReadonlyMap<PageOwner, number>;
}
