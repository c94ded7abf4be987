/**
 * An object store in which tenants' objects are encrypted, each tenant's with a key of its own.
 * Names stay readable, and so do the objects of generations, which say which page server has a
 * tenant. A tenant's objects are encrypted from the first generation on that begins while a key
 * file is configured. Their names tell the generation, so nobody can pass off a plain object as one
 * that was encrypted.
 */
import { assert } from "../../common/assert.ts";
import { ZenithError } from "../../common/errors.ts";
import type { TenantId } from "../../common/id.ts";
import { readKeyFile } from "../../object_store/key_file.ts";
import type { ByteRange, ListOptions, ListPage, ObjectStore } from "../../object_store/object_store.ts";
import { openObjectStore } from "../../object_store/open_store.ts";
import type { RetryingStore } from "../../object_store/retrying.ts";
import { type ObjectKey, openObject, openRange, sealObject } from "../../object_store/sealed_object.ts";
import { type DataKey, DataKeys } from "./data_keys.ts";
import { parseStoreKey, type TenantObject } from "./keys.ts";

/** How often an object is read that can't be opened: it may have been damaged on the way. */
const READS = 3;

/** A tenant's key, as known at a generation. */
interface Known {
  /** The latest generation whose objects it can be used for. */
  readonly through: number;
  readonly key: Promise<DataKey | null>;
}

export class EncryptedStore<S extends ObjectStore = ObjectStore> implements ObjectStore {
  /** The store without encryption. */
  readonly raw: S;
  readonly dataKeys: DataKeys;
  /** Null when no key is configured. */
  readonly keyFile: string | null;
  readonly #known = new Map<TenantId, Known>();
  /** From which generation on tenants are encrypted, as far as it is known. */
  readonly #encryptedFrom = new Map<TenantId, number>();

  /** @param keyFile is read each time a key is needed */
  constructor(raw: S, keyFile: string | null) {
    this.raw = raw;
    this.keyFile = keyFile;
    this.dataKeys = new DataKeys(raw, keyFile === null ? null : () => readKeyFile(keyFile));
  }

  get url(): string {
    return this.raw.url;
  }

  /** The first encrypted generation of a tenant that is in use. Null when it is not encrypted. */
  encryptedFrom(tenantId: TenantId): number | null {
    return this.#encryptedFrom.get(tenantId) ?? null;
  }

  async put(key: string, body: Uint8Array): Promise<void> {
    await this.raw.put(key, await this.#seal(key, body));
  }

  async putIfAbsent(key: string, body: Uint8Array): Promise<void> {
    const parsed = parseStoreKey(key);
    if (parsed?.object.kind !== "generation") {
      return await this.raw.putIfAbsent(key, await this.#seal(key, body));
    }
    const { tenantId, object: { generation } } = parsed;
    // Whoever lacks the key must not take the tenant from those who have it.
    const before = await this.dataKeys.find(tenantId);
    await this.raw.putIfAbsent(key, body);
    const isSettled = this.keyFile === null || (before !== null && before.key !== null);
    const now = isSettled ? Promise.resolve(before) : this.dataKeys.ensure(tenantId, generation);
    await this.#remember(tenantId, generation, now);
  }

  async get(key: string, range?: ByteRange): Promise<Uint8Array> {
    const encrypted = await this.#encrypted(key);
    if (encrypted === null) return await this.raw.get(key, range);
    const where = `${this.url}/${key}`;
    for (let read = 1;; read++) {
      try {
        if (range === undefined) return await openObject(encrypted, key, await this.raw.get(key), where);
        return await openRange(encrypted, key, range, (part) => this.raw.get(key, part), where);
      } catch (error) {
        const isDamaged = error instanceof ZenithError && error.kind === "corrupt_data";
        if (!isDamaged || read === READS) throw error;
      }
    }
  }

  /** Sizes are those of the encrypted objects. */
  list(prefix: string, options?: ListOptions): Promise<ListPage> {
    return this.raw.list(prefix, options);
  }

  deleteMany(keys: readonly string[]): Promise<void> {
    return this.raw.deleteMany(keys);
  }

  /**
   * Destroys a tenant's key, if it has one.
   *
   * @param generation which has just begun. What it writes is not encrypted
   */
  async destroyKey(tenantId: TenantId, generation: number, nowMs: number): Promise<void> {
    await this.dataKeys.destroy(tenantId, generation, nowMs);
    await this.#remember(tenantId, generation, this.dataKeys.find(tenantId));
  }

  async #seal(key: string, body: Uint8Array): Promise<Uint8Array> {
    const encrypted = await this.#encrypted(key, true);
    return encrypted === null ? body : await sealObject(encrypted, key, body);
  }

  /**
   * The key that an object is encrypted with. Null for one that is not.
   *
   * @throws {ZenithError} `not_found` when the key was destroyed; `conflict` when this is a write
   *   for a generation that another page server has ended
   */
  async #encrypted(key: string, isWrite = false): Promise<ObjectKey | null> {
    const parsed = parseStoreKey(key);
    if (parsed === null || parsed.object.kind === "generation") return null;
    const { tenantId, object } = parsed;
    const generation = generationOf(object);
    const found = await this.#keyOf(tenantId, generation);
    assert(found !== null || !isWrite || this.keyFile === null, "a tenant has its key before its objects");
    if (found === null) return null;
    if (generation >= found.fromGeneration) return found.key;
    if (isWrite) {
      throw new ZenithError("conflict", `${this.url} has a later generation of tenant ${tenantId}`);
    }
    if (found.destroyed === null) return null;
    throw new ZenithError(
      "not_found",
      `tenant ${tenantId} was deleted at ${found.destroyed}, and its key destroyed`,
    );
  }

  /** A key that was looked for when an earlier generation was the last may be out of date. */
  async #keyOf(tenantId: TenantId, generation: number): Promise<DataKey | null> {
    const known = this.#known.get(tenantId);
    if (known !== undefined && known.through >= generation) return await known.key;
    return await this.#remember(tenantId, generation, this.dataKeys.find(tenantId));
  }

  async #remember(
    tenantId: TenantId,
    through: number,
    key: Promise<DataKey | null>,
  ): Promise<DataKey | null> {
    const known = { through, key };
    this.#known.set(tenantId, known);
    try {
      const found = await key;
      if (found === null || found.key === null) this.#encryptedFrom.delete(tenantId);
      else this.#encryptedFrom.set(tenantId, found.fromGeneration);
      return found;
    } catch (error) {
      if (this.#known.get(tenantId) === known) this.#known.delete(tenantId);
      throw error;
    }
  }
}

function generationOf(object: Exclude<TenantObject, { kind: "generation" }>): number {
  switch (object.kind) {
    case "manifest":
    case "index":
      return object.version.generation;
    case "layer":
    case "wal":
      return object.name.generation;
  }
}

/**
 * Opens an object store by its URL.
 *
 * @param keyFile encrypts what is written, and is needed to read what was encrypted
 * @throws {ZenithError} `invalid_argument` when `url` is not an object store's; `forbidden` or
 *   `invalid_argument` when the key file can't be used; `io`
 */
export function openEncryptedStore(url: string, keyFile: string | null): EncryptedStore<RetryingStore> {
  if (keyFile !== null) readKeyFile(keyFile);
  return new EncryptedStore(openObjectStore(url), keyFile);
}
