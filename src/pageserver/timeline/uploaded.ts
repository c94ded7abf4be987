/** Tells how far a timeline's history is in the object store. */
import { INVALID_LSN, type Lsn, minLsn } from "../../common/lsn.ts";

/** Up to where a timeline can be restored from the object store alone. */
export class UploadedLsn {
  #lsn: Lsn | null;
  readonly #watchers = new Set<() => void>();

  /** @param hasStore whether there is an object store; without one, nothing is ever waited for */
  constructor(hasStore: boolean) {
    this.#lsn = hasStore ? INVALID_LSN : null;
  }

  /** Null without an object store. */
  get lsn(): Lsn | null {
    return this.#lsn;
  }

  advance(lsn: Lsn): void {
    if (this.#lsn === null || lsn <= this.#lsn) return;
    this.#lsn = lsn;
    for (const onMore of this.#watchers) onMore();
  }

  /** Up to where others may forget WAL that is durable here up to `durable`. */
  limit(durable: Lsn): Lsn {
    return this.#lsn === null ? durable : minLsn(durable, this.#lsn);
  }

  /** @returns a function that ends the calls */
  watch(onMore: () => void): () => void {
    this.#watchers.add(onMore);
    return () => this.#watchers.delete(onMore);
  }
}
