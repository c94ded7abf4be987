/**
 * The data keys of tenants. Each tenant's objects are encrypted with a key of its own, which lies
 * beside them, encrypted with a key from the page server's key file. A tenant's newest record
 * counts; each change creates the next one and removes those before it.
 */
import { ZenithError } from "../../common/errors.ts";
import { parseTenantId, type TenantId } from "../../common/id.ts";
import { decodeSmallFile, encodeSmallFile, type SmallFormat } from "../../common/small_file.ts";
import type { StoreKey, StoreKeys } from "../../object_store/key_file.ts";
import { isFailure, listAll, type ObjectStore } from "../../object_store/object_store.ts";
import { importObjectKey, type ObjectKey } from "../../object_store/sealed_object.ts";
import { parseDataKey, TenantKeys } from "./keys.ts";

/** How often a record is looked for again that was replaced meanwhile. */
const ATTEMPTS = 10;
const SECRET_BYTES = 32;
const NONCE_BYTES = 12;
const BOUND = "zenith tenant key 1\n";

/** What a tenant's newest record says. */
export interface DataKey {
  /** Objects of this generation and of later ones are encrypted; those before it are not. */
  readonly fromGeneration: number;
  /** Null when the tenant was deleted: then objects from `fromGeneration` on are not encrypted. */
  readonly key: ObjectKey | null;
  /** When the key was destroyed, in RFC 3339. Null when it is there. */
  readonly destroyed: string | null;
}

interface DataKeyRecord {
  readonly tenantId: TenantId;
  readonly fromGeneration: number;
  /** Null when it is destroyed. */
  readonly wrapped: { readonly keyId: string; readonly bytes: Uint8Array<ArrayBuffer> } | null;
  readonly destroyed: string | null;
}

const FORMAT: SmallFormat<DataKeyRecord> = {
  title: "zenith tenant key",
  encode: ({ tenantId, fromGeneration, wrapped, destroyed }) => [
    `tenant ${tenantId}`,
    `from ${fromGeneration}`,
    wrapped === null
      ? `destroyed ${destroyed}`
      : `wrapped ${wrapped.keyId} ${Buffer.from(wrapped.bytes).toString("base64")}`,
  ],
  decode: (lines) => {
    const [, tenant, from, id, bytes, destroyed] = RECORD.exec(lines.join("\n")) ?? [];
    if (tenant === undefined) throw new ZenithError("corrupt_data", "its lines are no record of a key");
    return {
      tenantId: parseTenantId(tenant),
      fromGeneration: Number(from),
      wrapped: id === undefined ? null : { keyId: id, bytes: new Uint8Array(Buffer.from(bytes!, "base64")) },
      destroyed: destroyed ?? null,
    };
  },
};

const RECORD =
  /^tenant (\w+)\nfrom (\d{1,10})\n(?:wrapped ([0-9a-f]{16}) ([A-Za-z0-9+/=]{80})|destroyed ([\d:.TZ-]+))$/;

interface Found {
  readonly seq: number;
  readonly record: DataKeyRecord;
  /** The records before it, which should be gone. */
  readonly older: readonly string[];
}

export class DataKeys {
  readonly #store: ObjectStore;
  readonly #keys: (() => StoreKeys) | null;

  /** @param keys reads the key file. Null when none is configured */
  constructor(store: ObjectStore, keys: (() => StoreKeys) | null) {
    this.#store = store;
    this.#keys = keys;
  }

  /**
   * Returns a tenant's data key. Null when the tenant never had one.
   *
   * @throws {ZenithError} `forbidden` when the key that it is encrypted with is not here;
   *   `corrupt_data`, and the store's errors
   */
  async find(tenantId: TenantId): Promise<DataKey | null> {
    const found = await this.#newest(tenantId);
    return found === null ? null : await this.#open(found.record);
  }

  /**
   * Makes a data key for a tenant that has none, when a key file is configured.
   *
   * @param generation which has just begun. Its objects are the first that are encrypted
   * @throws {ZenithError} as {@link find}
   */
  async ensure(tenantId: TenantId, generation: number): Promise<DataKey | null> {
    for (let attempt = 1;; attempt++) {
      const found = await this.#newest(tenantId);
      if (found !== null && found.record.wrapped !== null) return await this.#open(found.record);
      const keys = this.#keys?.();
      if (keys === undefined) return found === null ? null : await this.#open(found.record);
      const secret = crypto.getRandomValues(new Uint8Array(SECRET_BYTES));
      const record = await wrap(keys[0], tenantId, generation, secret);
      if (await this.#add(record, found, attempt)) {
        // The key file may have got a new key since, and all records but this one with it.
        await this.rewrap(tenantId);
        return await this.#open(record);
      }
    }
  }

  /**
   * Encrypts a tenant's data key with the first key of the file, unless it is.
   *
   * @returns whether the tenant has a data key
   * @throws {ZenithError} as {@link find}
   */
  async rewrap(tenantId: TenantId): Promise<boolean> {
    for (let attempt = 1;; attempt++) {
      const found = await this.#newest(tenantId);
      if (found === null || found.record.wrapped === null) return false;
      const { record, older } = found;
      const key = this.#keys?.()[0];
      if (key === undefined || record.wrapped!.keyId === key.id) {
        await this.#store.deleteMany(older);
        return true;
      }
      const next = await wrap(key, tenantId, record.fromGeneration, await this.#unwrap(record));
      if (await this.#add(next, found, attempt)) return true;
    }
  }

  /**
   * Destroys a tenant's data key, so that nobody can read what it has in the store, or in a copy of
   * it. Does nothing for a tenant that has none.
   *
   * @param generation which has just begun. Its objects are not encrypted
   */
  async destroy(tenantId: TenantId, generation: number, nowMs: number): Promise<void> {
    for (let attempt = 1;; attempt++) {
      const found = await this.#newest(tenantId);
      if (found === null) return;
      if (found.record.wrapped === null) return await this.#store.deleteMany(found.older);
      const destroyed = new Date(nowMs).toISOString();
      const record = { tenantId, fromGeneration: generation, wrapped: null, destroyed };
      if (await this.#add(record, found, attempt)) return;
    }
  }

  /**
   * Creates the next record, and removes those before it.
   *
   * @returns false when somebody else has created it
   */
  async #add(record: DataKeyRecord, before: Found | null, attempt: number): Promise<boolean> {
    const keys = new TenantKeys(record.tenantId);
    try {
      const key = keys.dataKey((before?.seq ?? 0) + 1);
      await this.#store.putIfAbsent(key, encodeSmallFile(FORMAT, record));
    } catch (error) {
      if (!isFailure(error, "precondition") || attempt === ATTEMPTS) throw error;
      return false;
    }
    if (before !== null) await this.#store.deleteMany([...before.older, keys.dataKey(before.seq)]);
    return true;
  }

  async #newest(tenantId: TenantId): Promise<Found | null> {
    const keys = new TenantKeys(tenantId);
    for (let attempt = 1;; attempt++) {
      const seqs: number[] = [];
      for await (const { key } of listAll(this.#store, keys.dataKeys)) {
        const seq = parseDataKey(key);
        if (seq !== null) seqs.push(seq);
      }
      const seq = seqs.pop();
      if (seq === undefined) return null;
      const key = keys.dataKey(seq);
      try {
        const record = decodeSmallFile(FORMAT, await this.#store.get(key), `${this.#store.url}/${key}`);
        return { seq, record, older: seqs.map((older) => keys.dataKey(older)) };
      } catch (error) {
        if (!isFailure(error, "absent") || attempt === ATTEMPTS) throw error;
      }
    }
  }

  async #open(record: DataKeyRecord): Promise<DataKey> {
    const { fromGeneration, wrapped, destroyed } = record;
    const key = wrapped === null ? null : await importObjectKey(await this.#unwrap(record));
    return { fromGeneration, key, destroyed };
  }

  async #unwrap({ tenantId, fromGeneration, wrapped }: DataKeyRecord): Promise<Uint8Array<ArrayBuffer>> {
    const { keyId, bytes } = wrapped!;
    const keys = this.#keys?.() ?? [];
    const key = keys.find(({ id }) => id === keyId);
    if (key === undefined) {
      const here = keys.length === 0
        ? "no key is configured"
        : `there are only ${keys.map(({ id }) => id).join(", ")}`;
      throw new ZenithError(
        "forbidden",
        `tenant ${tenantId} in ${this.#store.url} is encrypted with key ${keyId}, and ${here}`,
        {
          hint: "name the file with that key: --key-file of init and object-store set, " +
            "or object_store_key_file in pageserver.toml",
        },
      );
    }
    try {
      const aes = await importWrappingKey(key);
      const algorithm = wrapping(tenantId, fromGeneration, bytes.slice(0, NONCE_BYTES));
      return new Uint8Array(await crypto.subtle.decrypt(algorithm, aes, bytes.subarray(NONCE_BYTES)));
    } catch (error) {
      throw new ZenithError(
        "corrupt_data",
        `the key of tenant ${tenantId} in ${this.#store.url} is damaged, or was made for something else`,
        { cause: error },
      );
    }
  }
}

function importWrappingKey({ secret }: StoreKey): Promise<CryptoKey> {
  return crypto.subtle.importKey("raw", secret, "AES-GCM", false, ["encrypt", "decrypt"]);
}

/** A data key is bound to its tenant, and to what it is for. */
function wrapping(tenantId: TenantId, fromGeneration: number, iv: Uint8Array<ArrayBuffer>): AesGcmParams {
  const additionalData = new TextEncoder().encode(`${BOUND}${tenantId} ${fromGeneration}\n`);
  return { name: "AES-GCM", iv, additionalData };
}

async function wrap(
  key: StoreKey,
  tenantId: TenantId,
  fromGeneration: number,
  secret: Uint8Array<ArrayBuffer>,
): Promise<DataKeyRecord> {
  const nonce = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
  const algorithm = wrapping(tenantId, fromGeneration, nonce);
  const encrypted = await crypto.subtle.encrypt(algorithm, await importWrappingKey(key), secret);
  const bytes = new Uint8Array(Buffer.concat([nonce, new Uint8Array(encrypted)]));
  return { tenantId, fromGeneration, wrapped: { keyId: key.id, bytes }, destroyed: null };
}
