/** Reads objects that never change from a store, each once. */
import type { ListOptions, ListPage } from "../../object_store/object_store.ts";
import type { StoreReader } from "./remote_state.ts";

/** For whoever looks at a tenant, takes it over, and has to look again. */
export class ReadOnce implements StoreReader {
  readonly #store: StoreReader;
  readonly #read = new Map<string, Promise<Uint8Array>>();

  constructor(store: StoreReader) {
    this.#store = store;
  }

  get url(): string {
    return this.#store.url;
  }

  list(prefix: string, options?: ListOptions): Promise<ListPage> {
    return this.#store.list(prefix, options);
  }

  /** @param key of an object that is never replaced, such as a manifest or an index */
  get(key: string): Promise<Uint8Array> {
    let reading = this.#read.get(key);
    if (reading === undefined) {
      reading = this.#store.get(key);
      this.#read.set(key, reading);
      // The next one who asks tries again.
      reading.catch(() => this.#read.delete(key));
    }
    return reading;
  }
}
