/** Reads the objects that consist of a single value. */
import { type ObjectId, type TimelineStore, ValueChain } from "../../pagestore/mod.ts";
import { TAG_BYTES, VALUE_BLOCK } from "./keys.ts";

const NO_BYTES = new Uint8Array(0);

/** Objects with one value each: relation maps, two-phase files, the checkpoint, tablespaces. */
export class SingleValues {
  readonly #store: TimelineStore;
  readonly #chain = new ValueChain();

  constructor(store: TimelineStore) {
    this.#store = store;
  }

  /** Returns a copy of the value as of `lsn`, or null when it is absent. */
  get(key: ObjectId, lsn: number): Uint8Array | null {
    return this.newest(key, lsn)?.value ?? null;
  }

  /** Like {@link get}, with the LSN since which it has that value. */
  newest(key: ObjectId, lsn: number): { readonly value: Uint8Array; readonly lsn: number } | null {
    const chain = this.#chain;
    chain.clear();
    this.#store.collect(this.#store.slot(key), VALUE_BLOCK, lsn, chain);
    if (chain.count === 0 || chain.len[0] === 0) return null;
    const off = chain.off[0];
    return { value: chain.bytes[0].slice(off, off + chain.len[0]), lsn: chain.lsn[0] };
  }

  put(key: ObjectId, lsn: number, value: Uint8Array): void {
    this.#store.putValue(this.#store.slot(key), VALUE_BLOCK, lsn, value, TAG_BYTES, true);
  }

  remove(key: ObjectId, lsn: number): void {
    this.put(key, lsn, NO_BYTES);
  }

  /** The objects of a kind (and prefix) that exist at `lsn`, in key order. */
  *present(filter: { kind: number; a?: number; b?: number }, lsn: number): Iterable<[ObjectId, Uint8Array]> {
    for (const key of this.#store.objects(filter, lsn)) {
      const value = this.get(key, lsn);
      if (value !== null) yield [key, value];
    }
  }
}
