/** Tells how far a timeline's history is in the object store. */
import { INVALID_LSN, type Lsn, minLsn } from "../../common/lsn.ts";

/** Up to where a timeline can be restored from the object store alone. */
export class UploadedLsn {
  #lsn: Lsn | null;
  readonly #watchers = new Set<() => void>();

  readonly #keepsWal: boolean;

  /**
   * @param hasStore whether there is an object store; without one, nothing is ever waited for
   * @param keepsWal whether the store is to have all WAL
   */
  constructor(hasStore: boolean, keepsWal = false) {
    this.#lsn = hasStore ? INVALID_LSN : null;
    this.#keepsWal = keepsWal;
  }

  /** From where on WAL must stay here because the store is to have it. */
  get keptFrom(): number {
    return this.#keepsWal && this.#lsn !== null ? this.#lsn : Infinity;
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
