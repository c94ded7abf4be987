/** An object store in memory that fails when told to, before or after it has done its work. */
import {
  checkKey,
  type ListOptions,
  type ListPage,
  type ObjectStore,
  ObjectStoreError,
} from "../../src/object_store/object_store.ts";

/** What happens at a request that was chosen to fail. */
export type StoreFault =
  /** The store is busy, and does nothing. */
  | "throttled"
  /** The store does its work, and its answer is lost. */
  | "lostAnswer"
  /** This request and all later ones get no answer; this one does its work. */
  | "gone";

export type StoreRequest = Exclude<keyof ObjectStore, "url">;

export class MemoryStore implements ObjectStore {
  readonly url = "memory:";
  readonly objects = new Map<string, Uint8Array>();
  /** The store's clock. */
  nowMs = 0;
  readonly #modifiedMs = new Map<string, number>();
  /** What listings show, when they lag behind. */
  #listed: readonly string[] | null = null;
  /** Requests so far. */
  requests = 0;
  /** What each of them was. */
  readonly asked: StoreRequest[] = [];
  #faultAt = Infinity;
  #fault: StoreFault = "throttled";
  #isGone = false;

  /** Another store with the same objects. */
  clone(): MemoryStore {
    const copy = new MemoryStore();
    copy.nowMs = this.nowMs;
    for (const [key, body] of this.objects) copy.objects.set(key, body);
    for (const [key, ms] of this.#modifiedMs) copy.#modifiedMs.set(key, ms);
    return copy;
  }

  /** From now on, listings lack what is written, or no longer do. */
  lag(lags: boolean): void {
    this.#listed = lags ? [...this.objects.keys()] : null;
  }

  /** Makes the n-th request from now fail, counted from 0. */
  failAt(n: number, fault: StoreFault): void {
    this.#faultAt = this.requests + n;
    this.#fault = fault;
  }

  /** Ends all faults. */
  heal(): void {
    this.#faultAt = Infinity;
    this.#isGone = false;
  }

  put(key: string, body: Uint8Array): Promise<void> {
    checkKey(key);
    const copy = body.slice();
    return this.#request("put", () => this.#set(key, copy));
  }

  putIfAbsent(key: string, body: Uint8Array): Promise<void> {
    checkKey(key);
    const copy = body.slice();
    return this.#request("putIfAbsent", () => {
      if (this.objects.has(key)) throw new ObjectStoreError("precondition", `${key} exists`);
      this.#set(key, copy);
    });
  }

  #set(key: string, copy: Uint8Array): void {
    this.objects.set(key, copy);
    this.#modifiedMs.set(key, this.nowMs);
  }

  get(key: string, range?: { start: number; end: number }): Promise<Uint8Array> {
    return this.#request("get", () => {
      const body = this.objects.get(key);
      if (body === undefined) throw new ObjectStoreError("absent", `there is no ${key}`);
      return body.slice(range?.start, range?.end);
    });
  }

  list(prefix: string, options: ListOptions = {}): Promise<ListPage> {
    const { shallow = false, from = "", limit = 1_000 } = options;
    return this.#request("list", () => {
      const names = new Set<string>();
      for (const key of this.#listed ?? this.objects.keys()) {
        if (!key.startsWith(prefix) || !this.objects.has(key)) continue;
        const end = shallow ? key.indexOf("/", prefix.length) : -1;
        names.add(end < 0 ? key : key.slice(0, end + 1));
      }
      const after = [...names].sort().filter((name) => name > from);
      const page = after.slice(0, limit);
      return {
        objects: page.filter((name) => !name.endsWith("/")).map((key) => ({
          key,
          sizeBytes: this.objects.get(key)!.length,
          modifiedMs: this.#modifiedMs.get(key) ?? 0,
        })),
        folders: page.filter((name) => name.endsWith("/")),
        next: after.length > limit ? page.at(-1)! : null,
      };
    });
  }

  deleteMany(keys: readonly string[]): Promise<void> {
    return this.#request("deleteMany", () => {
      for (const key of keys) this.objects.delete(key);
    });
  }

  async #request<T>(asked: StoreRequest, work: () => T): Promise<T> {
    const at = this.requests++;
    this.asked.push(asked);
    // Nobody may rely on an answer in the same task.
    await Promise.resolve();
    if (this.#isGone) throw new ObjectStoreError("unreachable", "the store is gone");
    if (at !== this.#faultAt) return work();
    if (this.#fault === "throttled") throw new ObjectStoreError("throttled", "the store is busy");
    if (this.#fault === "gone") this.#isGone = true;
    try {
      work();
    } catch {
      // The answer is lost, whatever it was.
    }
    throw new ObjectStoreError("unreachable", "the answer was lost");
  }
}
