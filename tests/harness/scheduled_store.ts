/** An object store whose requests wait until a test lets them happen, one at a time, in any order. */
import type { ByteRange, ListOptions, ListPage, ObjectStore } from "../../src/object_store/object_store.ts";
import type { MemoryStore } from "./memory_store.ts";
import type { Random } from "./random.ts";

/** How many turns of the event loop everybody gets to come to the next request. */
const TURNS = 3;

export class ScheduledStore implements ObjectStore {
  readonly url: string;
  readonly #store: MemoryStore;
  readonly #random: Random;
  readonly #waiting: (() => void)[] = [];

  constructor(store: MemoryStore, random: Random) {
    this.url = store.url;
    this.#store = store;
    this.#random = random;
  }

  /** Lets requests happen until all of this has ended. @throws what one of it throws */
  async run(work: readonly Promise<unknown>[]): Promise<void> {
    let isRunning = true;
    const all = Promise.all(work).finally(() => isRunning = false);
    all.catch(() => {});
    while (isRunning) {
      for (let turn = 0; turn < TURNS; turn++) await new Promise((resolve) => setImmediate(resolve));
      if (this.#waiting.length === 0) continue;
      const [next] = this.#waiting.splice(this.#random.int(this.#waiting.length), 1);
      next!();
    }
    await all;
  }

  put(key: string, body: Uint8Array): Promise<void> {
    return this.#inTurn(() => this.#store.put(key, body));
  }

  putIfAbsent(key: string, body: Uint8Array): Promise<void> {
    return this.#inTurn(() => this.#store.putIfAbsent(key, body));
  }

  get(key: string, range?: ByteRange): Promise<Uint8Array> {
    return this.#inTurn(() => this.#store.get(key, range));
  }

  list(prefix: string, options?: ListOptions): Promise<ListPage> {
    return this.#inTurn(() => this.#store.list(prefix, options));
  }

  deleteMany(keys: readonly string[]): Promise<void> {
    return this.#inTurn(() => this.#store.deleteMany(keys));
  }

  async #inTurn<T>(request: () => Promise<T>): Promise<T> {
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return await request();
  }
}
