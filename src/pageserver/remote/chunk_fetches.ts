/** Fetches chunks of layers from the object store into the cache on this disk. */
import { ZenithError } from "../../common/errors.ts";
import { nextTurn } from "../../common/event_loop.ts";
import { isFailure, type ObjectStore } from "../../object_store/object_store.ts";
import { CHUNK_BYTES, type ChunkCache } from "./chunk_cache.ts";

/** How many requests run at the same time. */
const REQUESTS = 16;
/** The most chunks of one request. */
const CHUNKS_PER_REQUEST = 8;
/** How often a request is repeated whose answer has the wrong length. */
const ATTEMPTS = 3;

/** A layer in the store. */
export interface RemoteObject {
  /** Its name in the cache. */
  readonly name: string;
  /** Its key in the store. */
  readonly key: string;
  readonly sizeBytes: number;
}

export class ChunkFetches {
  readonly #store: ObjectStore;
  readonly #cache: ChunkCache;
  /** By layer and chunk. */
  readonly #running = new Map<string, Promise<void>>();
  readonly #waiting: (() => void)[] = [];
  #requests = 0;

  constructor(store: ObjectStore, cache: ChunkCache) {
    this.#store = store;
    this.#cache = cache;
  }

  /** The store's URL, for messages. */
  get url(): string {
    return this.#store.url;
  }

  /**
   * Fetches chunks that are not here, each once, however many ask for it.
   *
   * @param chunks ascending
   * @throws {ZenithError} `unavailable` when the store does not answer; `corrupt_data` when it does
   *   not have the layer; `disk_full`, `io`
   */
  async fetch(object: RemoteObject, chunks: readonly number[]): Promise<void> {
    const all: Promise<void>[] = [];
    let run: number[] = [];
    const end = (): void => {
      if (run.length > 0) all.push(this.#start(object, run));
      run = [];
    };
    for (const chunk of chunks) {
      const running = this.#running.get(`${object.name}.${chunk}`);
      if (running !== undefined) all.push(running);
      if (running !== undefined || this.#cache.has(object.name, chunk)) continue;
      if (run.length === CHUNKS_PER_REQUEST || (run.length > 0 && run.at(-1) !== chunk - 1)) end();
      run.push(chunk);
    }
    end();
    await Promise.all(all);
  }

  #start(object: RemoteObject, run: readonly number[]): Promise<void> {
    const fetching = this.#run(object, run).finally(() => {
      for (const chunk of run) this.#running.delete(`${object.name}.${chunk}`);
    });
    for (const chunk of run) this.#running.set(`${object.name}.${chunk}`, fetching);
    return fetching;
  }

  async #run(object: RemoteObject, run: readonly number[]): Promise<void> {
    const start = run[0]! * CHUNK_BYTES;
    const end = Math.min(object.sizeBytes, (run.at(-1)! + 1) * CHUNK_BYTES);
    const bytes = await this.#get(object, start, end);
    for (const chunk of run) {
      const at = chunk * CHUNK_BYTES - start;
      this.#cache.add(object.name, chunk, bytes.subarray(at, at + CHUNK_BYTES));
      if (run.length > 1) await nextTurn();
    }
  }

  async #get({ key }: RemoteObject, start: number, end: number): Promise<Uint8Array> {
    while (this.#requests >= REQUESTS) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#requests++;
    try {
      for (let attempt = 1;; attempt++) {
        const bytes = await this.#store.get(key, { start, end });
        if (bytes.length === end - start) return bytes;
        if (attempt < ATTEMPTS) continue;
        throw new ZenithError(
          "corrupt_data",
          `${this.#store.url}/${key} has ${bytes.length} bytes from ${start} on, expected ${end - start}`,
        );
      }
    } catch (error) {
      if (!isFailure(error, "absent")) throw error;
      throw new ZenithError(
        "corrupt_data",
        `${this.#store.url}/${key} is missing, and the layer is not here`,
        {
          hint: "put the object back: what is in it can't be read until then",
          cause: error,
        },
      );
    } finally {
      this.#requests--;
      this.#waiting.shift()?.();
    }
  }
}
