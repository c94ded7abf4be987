/**
 * The file with the keys that the tenants' data keys are encrypted with. Whoever runs a page server
 * keeps it, and a copy elsewhere: without it, an encrypted store is lost.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, statSync } from "node:fs";
import { ioError, systemErrorCode, ZenithError } from "../common/errors.ts";
import { replaceTextFile } from "../common/text_file.ts";

export interface StoreKey {
  /** Derived from the key. It tells keys apart, and says nothing of them. */
  readonly id: string;
  /** 32 bytes. */
  readonly secret: Uint8Array<ArrayBuffer>;
}

/** The first one encrypts; the others only decrypt what has not been encrypted anew. */
export type StoreKeys = readonly [StoreKey, ...StoreKey[]];

const SECRET_BYTES = 32;
const ID_DIGITS = 16;
const MODE = 0o600;
/** What nobody but the owner may have. */
const OTHERS = 0o077;
const LINE = /^([0-9a-f]{16}) ([A-Za-z0-9+/]{43}=)$/;

const EXPLANATION = "# Keys of an object store of Zenith: without them, what is in it can't be read.\n" +
  "# Keep a copy elsewhere. The first one encrypts; the others are of before.\n";

function storeKey(secret: Uint8Array<ArrayBuffer>): StoreKey {
  const digest = createHash("sha256").update("zenith object store key\n").update(secret).digest("hex");
  return { id: digest.slice(0, ID_DIGITS), secret };
}

export function generateStoreKey(): StoreKey {
  return storeKey(crypto.getRandomValues(new Uint8Array(SECRET_BYTES)));
}

/**
 * Reads a key file.
 *
 * @throws {ZenithError} `forbidden` when others may read it; `invalid_argument` when there is none,
 *   it is something else, or a key was mistyped; `io`
 */
export function readKeyFile(path: string): StoreKeys {
  let text: string;
  try {
    if ((statSync(path).mode & OTHERS) !== 0) {
      throw new ZenithError("forbidden", `others than its owner may read the keys in ${path}`, {
        hint:
          `do "chmod 600 ${path}"; if somebody may have read it, "zenith object-store rotate-key" after that`,
      });
    }
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof ZenithError) throw error;
    if (systemErrorCode(error) !== "ENOENT") throw ioError("read", path, error);
    throw new ZenithError("invalid_argument", `there is no file ${path} with the object store's key`, {
      hint: "put the copy there that was kept of it",
    });
  }
  const lines = text.split("\n").map((line) => line.trim()).filter((line) => line !== "" && line[0] !== "#");
  const [first, ...others] = lines.map((line) => parseLine(path, line));
  if (first === undefined) throw new ZenithError("invalid_argument", `${path} has no key in it`);
  return [first, ...others];
}

function parseLine(path: string, line: string): StoreKey {
  const match = LINE.exec(line);
  if (match === null) {
    throw new ZenithError("invalid_argument", `a line of ${path} is not a key: expected an id and a key`);
  }
  const key = storeKey(new Uint8Array(Buffer.from(match[2]!, "base64")));
  if (key.id === match[1]) return key;
  throw new ZenithError("invalid_argument", `key ${match[1]} in ${path} is not the one that it says it is`, {
    hint: "copy the line again from where the key is kept",
  });
}

/** Replaces a key file, or makes it. @throws {ZenithError} `io`, `disk_full` */
export function writeKeyFile(path: string, keys: StoreKeys): void {
  const lines = keys.map(({ id, secret }) => `${id} ${Buffer.from(secret).toString("base64")}\n`);
  replaceTextFile(path, EXPLANATION + lines.join(""), MODE);
}

/**
 * Reads a key file, or makes one with a new key.
 *
 * @throws {ZenithError} as {@link readKeyFile}, `disk_full`
 */
export function readOrMakeKeyFile(path: string): { readonly keys: StoreKeys; readonly isNew: boolean } {
  const isNew = !existsSync(path);
  if (isNew) writeKeyFile(path, [generateStoreKey()]);
  return { keys: readKeyFile(path), isNew };
}
