/**
 * Tries again when an object store is busy or does not answer, and counts what it is asked for.
 */
import { sleep } from "../common/sleep.ts";
import {
  type ByteRange,
  isFailure,
  type ListOptions,
  type ListPage,
  type ObjectStore,
} from "./object_store.ts";

const ATTEMPTS = 4;
/** The longest wait before the second attempt. It doubles with each further one. */
const FIRST_WAIT_MS = 200;

/** What a store was asked for since the process started. */
export interface StoreCounts {
  requests: number;
  retries: number;
  sentBytes: number;
  receivedBytes: number;
}

export interface RetryOptions {
  readonly attempts?: number;
  readonly firstWaitMs?: number;
}

/** A store whose requests are tried a few times, with growing random waits between. */
export class RetryingStore implements ObjectStore {
  readonly counts: StoreCounts = { requests: 0, retries: 0, sentBytes: 0, receivedBytes: 0 };
  readonly #store: ObjectStore;
  readonly #attempts: number;
  readonly #firstWaitMs: number;

  constructor(store: ObjectStore, options: RetryOptions = {}) {
    this.#store = store;
    this.#attempts = options.attempts ?? ATTEMPTS;
    this.#firstWaitMs = options.firstWaitMs ?? FIRST_WAIT_MS;
  }

  get url(): string {
    return this.#store.url;
  }

  async put(key: string, body: Uint8Array): Promise<void> {
    await this.#try(() => this.#store.put(key, body));
    this.counts.sentBytes += body.length;
  }

  /**
   * An answer may be lost after the store has done its work. The next attempt then finds the
   * object, and succeeds if it has exactly these bytes. So bodies must differ from those of others
   * who want the same key.
   */
  async putIfAbsent(key: string, body: Uint8Array): Promise<void> {
    let unsure = false;
    await this.#try(async () => {
      try {
        await this.#store.putIfAbsent(key, body);
      } catch (error) {
        if (isFailure(error, "unreachable")) unsure = true;
        if (!unsure || !isFailure(error, "precondition")) throw error;
        this.counts.requests++;
        const found = await this.#store.get(key);
        if (!isSame(found, body)) throw error;
      }
    });
    this.counts.sentBytes += body.length;
  }

  async get(key: string, range?: ByteRange): Promise<Uint8Array> {
    const bytes = await this.#try(() => this.#store.get(key, range));
    this.counts.receivedBytes += bytes.length;
    return bytes;
  }

  list(prefix: string, options?: ListOptions): Promise<ListPage> {
    return this.#try(() => this.#store.list(prefix, options));
  }

  async deleteMany(keys: readonly string[]): Promise<void> {
    await this.#try(() => this.#store.deleteMany(keys));
  }

  async #try<T>(request: () => Promise<T>): Promise<T> {
    for (let attempt = 1;; attempt++) {
      this.counts.requests++;
      try {
        return await request();
      } catch (error) {
        const mayPass = isFailure(error, "throttled") || isFailure(error, "unreachable");
        if (!mayPass || attempt >= this.#attempts) throw error;
        this.counts.retries++;
        await sleep(Math.random() * this.#firstWaitMs * 2 ** (attempt - 1));
      }
    }
  }
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
