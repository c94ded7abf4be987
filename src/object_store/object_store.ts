/**
 * The interface of an object store: a place that outlives this machine. Every backend implements
 * it, and one suite of tests runs over all of them.
 *
 * Keys are paths below the store's prefix: parts of letters, digits and `._-`, joined by `/`. As
 * with files, no key is the folder of another.
 */
import { assert } from "../common/assert.ts";
import { type ErrorKind, type ErrorOptionsExtra, ZenithError } from "../common/errors.ts";

/**
 * Why a store did not do what it was asked for.
 * - `absent`: there is no such object.
 * - `denied`: the store refuses these credentials, or there is no such bucket.
 * - `precondition`: an object of that name exists.
 * - `throttled`: the store is busy; it did nothing.
 * - `unreachable`: no answer. The store may have done what it was asked for.
 */
export type StoreFailure = "absent" | "denied" | "precondition" | "throttled" | "unreachable";

const KIND: Readonly<Record<StoreFailure, ErrorKind>> = {
  absent: "not_found",
  denied: "invalid_argument",
  precondition: "already_exists",
  throttled: "unavailable",
  unreachable: "unavailable",
};

export class ObjectStoreError extends ZenithError {
  override name = "ObjectStoreError";
  readonly failure: StoreFailure;

  constructor(failure: StoreFailure, message: string, options: ErrorOptionsExtra = {}) {
    super(KIND[failure], message, options);
    this.failure = failure;
  }
}

/** Whether the store failed in this way. */
export function isFailure(error: unknown, failure: StoreFailure): boolean {
  return error instanceof ObjectStoreError && error.failure === failure;
}

/** Bytes `start` to `end` of an object, without the byte at `end`. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

export interface ObjectInfo {
  readonly key: string;
  readonly sizeBytes: number;
  /** By the store's clock, in milliseconds since 1970. */
  readonly modifiedMs: number;
}

export interface ListOptions {
  /** Lists what lies directly below the prefix, and the folders there. */
  readonly shallow?: boolean;
  /** {@link ListPage.next} of the page before. */
  readonly from?: string;
  /** At most this many objects and folders. The store may return fewer on a page. */
  readonly limit?: number;
}

export interface ListPage {
  /** In ascending order of their keys. */
  readonly objects: readonly ObjectInfo[];
  /** Keys that end with `/`. Always empty unless the listing is shallow. */
  readonly folders: readonly string[];
  /** Where the next page begins. Null after the last one. */
  readonly next: string | null;
}

/**
 * All methods throw {@link ObjectStoreError}. A store on a disk also throws {@link ZenithError}
 * `disk_full` and `io`.
 */
export interface ObjectStore {
  /** The store's URL, without secrets, for messages. */
  readonly url: string;
  /** Creates or replaces an object. It is durable when this resolves. */
  put(key: string, body: Uint8Array): Promise<void>;
  /**
   * Like {@link put}, but fails with `precondition` when the object exists. Of several that try at
   * the same time, exactly one succeeds.
   */
  putIfAbsent(key: string, body: Uint8Array): Promise<void>;
  /** @param range lies inside the object. Without one, the whole object is returned */
  get(key: string, range?: ByteRange): Promise<Uint8Array>;
  list(prefix: string, options?: ListOptions): Promise<ListPage>;
  /** Removes objects. Those that don't exist are no error. */
  deleteMany(keys: readonly string[]): Promise<void>;
}

/** The most keys that one request to S3 lists or deletes. */
export const KEYS_PER_REQUEST = 1_000;

const KEY = /^[A-Za-z0-9_-][A-Za-z0-9._-]*(?:\/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$/;

/** Names that could lead out of the store, or that a backend would have to escape, are bugs. */
export function checkKey(key: string): void {
  assert(KEY.test(key), "an object's key has only plain characters");
}

/** Yields all objects below a prefix, in ascending order of their keys. */
export async function* listAll(store: Pick<ObjectStore, "list">, prefix: string): AsyncGenerator<ObjectInfo> {
  let from: string | null = null;
  do {
    const page: ListPage = await store.list(prefix, from === null ? {} : { from });
    yield* page.objects;
    from = page.next;
  } while (from !== null);
}
