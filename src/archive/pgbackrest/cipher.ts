/**
 * Decrypts a pgBackRest repository's files: AES-256-CBC as `openssl enc` has it, with a key by
 * EVP_BytesToKey from SHA-1, one round. Source: src/common/crypto/cipherBlock.c of pgBackRest.
 */
import { createDecipheriv, createHash } from "node:crypto";
import { ZenithError } from "../../common/errors.ts";

const MAGIC = "Salted__";
const SALT_BYTES = 8;
const KEY_BYTES = 32;
const IV_BYTES = 16;

/**
 * @param isRaw whether it begins with the salt, without the magic, as in bundles
 * @param where what it is, for messages
 * @throws {ZenithError} `invalid_argument` when it was not encrypted by that passphrase;
 *   `corrupt_data` when it is cut short
 */
export async function* decrypt(
  source: AsyncIterable<Uint8Array>,
  passphrase: string,
  isRaw: boolean,
  where: string,
): AsyncGenerator<Uint8Array> {
  const headerBytes = (isRaw ? 0 : MAGIC.length) + SALT_BYTES;
  let header: Buffer = Buffer.alloc(0);
  let decipher: ReturnType<typeof createDecipheriv> | null = null;
  for await (const bytes of source) {
    if (decipher !== null) {
      yield decipher.update(bytes);
      continue;
    }
    header = Buffer.concat([header, bytes]);
    if (header.length < headerBytes) continue;
    if (!isRaw && header.toString("latin1", 0, MAGIC.length) !== MAGIC) {
      throw new ZenithError("corrupt_data", `${where} is not encrypted, though its repository is`);
    }
    const { key, iv } = keyOf(passphrase, header.subarray(headerBytes - SALT_BYTES, headerBytes));
    decipher = createDecipheriv("aes-256-cbc", key, iv);
    yield decipher.update(header.subarray(headerBytes));
  }
  if (decipher === null) throw new ZenithError("corrupt_data", `${where} is cut short`);
  let last: Buffer;
  try {
    last = decipher.final();
  } catch (error) {
    throw new ZenithError("invalid_argument", `${where} can't be decrypted`, {
      hint: "is the passphrase right? It is the repository's repo1-cipher-pass",
      cause: error,
    });
  }
  yield last;
}

/** Whether these are the first bytes of an encrypted file. */
export function isEncrypted(first: Uint8Array): boolean {
  return String.fromCharCode(...first.subarray(0, MAGIC.length)) === MAGIC;
}

function keyOf(passphrase: string, salt: Uint8Array): { readonly key: Buffer; readonly iv: Buffer } {
  let made: Buffer = Buffer.alloc(0);
  let last: Buffer = Buffer.alloc(0);
  while (made.length < KEY_BYTES + IV_BYTES) {
    last = createHash("sha1").update(last).update(passphrase).update(salt).digest();
    made = Buffer.concat([made, last]);
  }
  return { key: made.subarray(0, KEY_BYTES), iv: made.subarray(KEY_BYTES, KEY_BYTES + IV_BYTES) };
}
