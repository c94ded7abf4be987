/**
 * Encrypted objects. An object is sealed in chunks that can be read one by one; a chunk says by
 * itself what it needs to be opened, and opens only under the name and at the place it was made
 * for. docs/formats/sealed_object.md is the specification.
 */
import { assert } from "../common/assert.ts";
import { errorMessage, ZenithError } from "../common/errors.ts";
import type { ByteRange } from "./object_store.ts";

/** How many bytes a chunk holds. Only the last one of an object may hold fewer. */
export const SEALED_CHUNK_BYTES = 256 << 10;

const MAGIC = "ZNSEAL\0\0";
const VERSION = 1;
const VERSION_AT = 8;
const LENGTH_AT = 12;
const IS_LAST_AT = 16;
const SALT_AT = 24;
const SALT_BYTES = 24;
const HEAD_BYTES = SALT_AT + SALT_BYTES;
const TAG_BYTES = 16;
const NONCE_BYTES = 12;
/** What a chunk takes on top of what it holds. */
const OVERHEAD_BYTES = HEAD_BYTES + TAG_BYTES;
const SEALED_BYTES = SEALED_CHUNK_BYTES + OVERHEAD_BYTES;

const DERIVED = "zenith sealed object 1\n";

/** A key from which each object's own is derived. */
export type ObjectKey = CryptoKey & { readonly __brand: "ObjectKey" };

/** @param secret 32 random bytes */
export async function importObjectKey(secret: Uint8Array<ArrayBuffer>): Promise<ObjectKey> {
  return await crypto.subtle.importKey("raw", secret, "HKDF", false, ["deriveKey"]) as ObjectKey;
}

/** Each object has a key of its own, and so has each object that replaces one. */
function deriveKey(key: ObjectKey, name: string, salt: Uint8Array<ArrayBuffer>): Promise<CryptoKey> {
  const info = new TextEncoder().encode(DERIVED + name);
  return crypto.subtle.deriveKey(
    { name: "HKDF", hash: "SHA-256", salt, info },
    key,
    { name: "AES-GCM", length: 256 },
    false,
    ["encrypt", "decrypt"],
  );
}

/** The place of a chunk in its object is its nonce. */
function cipher(chunk: number, head: Uint8Array<ArrayBuffer>): AesGcmParams {
  const iv = new Uint8Array(NONCE_BYTES);
  new DataView(iv.buffer).setBigUint64(0, BigInt(chunk), true);
  return { name: "AES-GCM", iv, additionalData: head, tagLength: TAG_BYTES * 8 };
}

/**
 * Encrypts an object.
 *
 * @param name what it can be opened as
 */
export async function sealObject(key: ObjectKey, name: string, body: Uint8Array): Promise<Uint8Array> {
  const salt = crypto.getRandomValues(new Uint8Array(SALT_BYTES));
  const derived = await deriveKey(key, name, salt);
  const chunks = Math.max(1, Math.ceil(body.length / SEALED_CHUNK_BYTES));
  const sealed = new Uint8Array(body.length + chunks * OVERHEAD_BYTES);
  for (let chunk = 0; chunk < chunks; chunk++) {
    const from = chunk * SEALED_CHUNK_BYTES;
    const plain = ownMemory(body.subarray(from, from + SEALED_CHUNK_BYTES));
    const head = encodeHead({ length: plain.length, isLast: chunk === chunks - 1, salt });
    const at = chunk * SEALED_BYTES;
    sealed.set(head, at);
    const encrypted = await crypto.subtle.encrypt(cipher(chunk, head), derived, plain);
    sealed.set(new Uint8Array(encrypted), at + HEAD_BYTES);
  }
  return sealed;
}

/** WebCrypto refuses shared memory. */
function ownMemory(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes.buffer instanceof ArrayBuffer ? bytes as Uint8Array<ArrayBuffer> : bytes.slice();
}

interface Head {
  /** How many bytes the chunk holds. */
  readonly length: number;
  readonly isLast: boolean;
  readonly salt: Uint8Array<ArrayBuffer>;
}

function encodeHead({ length, isLast, salt }: Head): Uint8Array<ArrayBuffer> {
  const head = new Uint8Array(HEAD_BYTES);
  const view = new DataView(head.buffer);
  new TextEncoder().encodeInto(MAGIC, head);
  view.setUint32(VERSION_AT, VERSION, true);
  view.setUint32(LENGTH_AT, length, true);
  view.setUint32(IS_LAST_AT, isLast ? 1 : 0, true);
  head.set(salt, SALT_AT);
  return head;
}

/** @throws {ZenithError} `corrupt_data` */
function decodeHead(bytes: Uint8Array, where: string): Head {
  const magic = new TextDecoder().decode(bytes.subarray(0, VERSION_AT));
  if (bytes.length < HEAD_BYTES || magic !== MAGIC) throw damaged(where, "is not encrypted, and should be");
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEAD_BYTES);
  const version = view.getUint32(VERSION_AT, true);
  if (version !== VERSION) throw damaged(where, `has version ${version}, expected ${VERSION}`);
  const length = view.getUint32(LENGTH_AT, true);
  const isLast = view.getUint32(IS_LAST_AT, true) !== 0;
  if (length > SEALED_CHUNK_BYTES || (!isLast && length !== SEALED_CHUNK_BYTES)) {
    throw damaged(where, `says that it holds ${length} bytes`);
  }
  return { length, isLast, salt: bytes.slice(SALT_AT, HEAD_BYTES) };
}

function damaged(where: string, what: string, cause?: unknown): ZenithError {
  return new ZenithError("corrupt_data", `${where} ${what}`, { cause });
}

/**
 * Decrypts a whole object.
 *
 * @param where it is, for messages
 * @throws {ZenithError} `corrupt_data` when anything of it was changed, is missing, or was sealed
 *   under another key or name
 */
export async function openObject(
  key: ObjectKey,
  name: string,
  sealed: Uint8Array,
  where: string,
): Promise<Uint8Array> {
  const opened = await openChunks(key, name, sealed, 0, where);
  if (!opened.isToEnd) throw damaged(where, "ends before its last chunk");
  return opened.bytes;
}

interface Opened {
  readonly bytes: Uint8Array;
  /** Whether the object's last chunk is among them. */
  readonly isToEnd: boolean;
}

/** @param sealed whole chunks, from `first` on */
async function openChunks(
  key: ObjectKey,
  name: string,
  sealed: Uint8Array,
  first: number,
  where: string,
): Promise<Opened> {
  const chunks = Math.ceil(sealed.length / SEALED_BYTES);
  const rest = sealed.length % SEALED_BYTES;
  if (rest !== 0 && rest < OVERHEAD_BYTES) throw damaged(where, "ends within the head of a chunk");
  const bytes = new Uint8Array(sealed.length - chunks * OVERHEAD_BYTES);
  let derived: CryptoKey | null = null;
  let salt: Uint8Array | null = null;
  let length = 0;
  let isToEnd = false;
  for (let i = 0; i < chunks; i++) {
    const from = ownMemory(sealed.subarray(i * SEALED_BYTES, (i + 1) * SEALED_BYTES));
    const chunk = `${where}, chunk ${first + i},`;
    const head = decodeHead(from, chunk);
    if (isToEnd) throw damaged(chunk, "follows the last one");
    if (from.length !== head.length + OVERHEAD_BYTES) {
      throw damaged(chunk, `holds ${from.length - OVERHEAD_BYTES} bytes of ${head.length}`);
    }
    if (salt !== null && Buffer.compare(salt, head.salt) !== 0) throw damaged(chunk, "is of another object");
    salt = head.salt;
    derived ??= await deriveKey(key, name, head.salt);
    const params = cipher(first + i, from.slice(0, HEAD_BYTES));
    let plain: ArrayBuffer;
    try {
      plain = await crypto.subtle.decrypt(params, derived, from.subarray(HEAD_BYTES));
    } catch (error) {
      throw damaged(chunk, `is damaged, or of another object or key: ${errorMessage(error)}`, error);
    }
    bytes.set(new Uint8Array(plain), length);
    length += plain.byteLength;
    isToEnd = head.isLast;
  }
  return { bytes, isToEnd };
}

/**
 * Decrypts a part of an object. The chunks that it touches are read and checked as a whole. One
 * request is made, and two when the part ends neither with a chunk nor with the object.
 *
 * @param read reads bytes of the sealed object, which must be there
 * @throws {ZenithError} as {@link openObject}, and what `read` throws
 */
export async function openRange(
  key: ObjectKey,
  name: string,
  { start, end }: ByteRange,
  read: (range: ByteRange) => Promise<Uint8Array>,
  where: string,
): Promise<Uint8Array> {
  assert(start >= 0 && start <= end, "a range has a beginning and an end");
  if (start === end) return new Uint8Array();
  const first = Math.floor(start / SEALED_CHUNK_BYTES);
  const last = Math.floor((end - 1) / SEALED_CHUNK_BYTES);
  const from = first * SEALED_BYTES;
  const lastFrom = last * SEALED_BYTES;
  const held = end - last * SEALED_CHUNK_BYTES;
  let sealed = await read({ start: from, end: lastFrom + held + OVERHEAD_BYTES });
  const { length } = decodeHead(sealed.subarray(lastFrom - from), `${where}, chunk ${last},`);
  if (length > held) {
    const rest = { start: from + sealed.length, end: lastFrom + length + OVERHEAD_BYTES };
    sealed = Buffer.concat([sealed, await read(rest)]);
  }
  const { bytes } = await openChunks(key, name, sealed, first, where);
  const at = start - first * SEALED_CHUNK_BYTES;
  if (bytes.length < at + (end - start)) throw damaged(where, `ends before byte ${end}`);
  return bytes.subarray(at, at + (end - start));
}
