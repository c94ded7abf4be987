/**
 * The keys that sign and verify tokens, as PEM files. Servers need only the public ones. Several
 * are valid at once, so that a new one can be distributed before the old one goes.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { exportPKCS8, exportSPKI, generateKeyPair, importPKCS8, importSPKI } from "jose";
import { ioError, systemErrorCode, ZenithError } from "../common/errors.ts";
import type { AuthPaths } from "../common/paths.ts";
import { forbidCoreDumps } from "../process/core_dumps.ts";
import { writePrivateFile } from "./private_file.ts";

/** Ed25519, as RFC 8037 names it in a token's header. */
export const ALGORITHM = "EdDSA";

type Key = Awaited<ReturnType<typeof importSPKI>>;

const SUFFIX = ".pem";

/** A number that orders the keys by age, and letters that tell it from another installation's. */
const KEY_ID = /^(\d{4,9})-[0-9a-f]{8}$/;

const DIRECTORY_MODE = 0o700;

/** The ids of the keys in a directory, oldest first. An absent directory has none. */
function keyIds(directory: string): string[] {
  let names: string[];
  try {
    names = readdirSync(directory);
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return [];
    throw ioError("read", directory, error);
  }
  return names.filter((name) => name.endsWith(SUFFIX))
    .map((name) => name.slice(0, -SUFFIX.length))
    .filter((id) => KEY_ID.test(id))
    .sort((a, b) => Number(KEY_ID.exec(a)![1]) - Number(KEY_ID.exec(b)![1]));
}

/** Whether there is a key to verify tokens with. */
export function hasKeys(paths: AuthPaths): boolean {
  return keyIds(paths.trusted).length > 0;
}

/** The id of the key that signs tokens. Undefined where there are only public keys, or none. */
export function signingKeyId(paths: AuthPaths): string | undefined {
  return keyIds(paths.signing).at(-1);
}

/**
 * Makes a new key, which signs tokens from now on. Older ones stay trusted.
 *
 * @returns its id
 * @throws {ZenithError} `io`, `disk_full`
 */
export async function makeKey(paths: AuthPaths): Promise<string> {
  makeAuthDirectories(paths);
  const last = keyIds(paths.trusted).at(-1);
  const number = (last === undefined ? 0 : Number(KEY_ID.exec(last)![1])) + 1;
  const id = `${String(number).padStart(4, "0")}-${crypto.randomUUID().slice(0, 8)}`;
  const { privateKey, publicKey } = await generateKeyPair(ALGORITHM, { extractable: true });
  // Whoever finds the private key must find the public one too.
  writePrivateFile(join(paths.trusted, id + SUFFIX), await exportSPKI(publicKey));
  writePrivateFile(join(paths.signing, id + SUFFIX), await exportPKCS8(privateKey));
  return id;
}

/** Removes all keys but the newest. @returns the ids of those that were removed */
export function retireKeys(paths: AuthPaths): string[] {
  const newest = signingKeyId(paths);
  const old = keyIds(paths.trusted).filter((id) => id !== newest);
  for (const id of old) {
    rmSync(join(paths.trusted, id + SUFFIX), { force: true });
    rmSync(join(paths.signing, id + SUFFIX), { force: true });
  }
  return old;
}

/** Creates the directories that nobody else may look into. @throws {ZenithError} `io` */
export function makeAuthDirectories(paths: AuthPaths): void {
  for (const directory of [paths.dir, paths.trusted, paths.signing, paths.tokens, paths.tls]) {
    if (existsSync(directory)) continue;
    try {
      mkdirSync(directory, { recursive: true, mode: DIRECTORY_MODE });
    } catch (error) {
      throw ioError("create", directory, error);
    }
  }
}

/** @throws {ZenithError} `invalid_argument`, naming the file, when it is no such key */
export async function readSigningKey(paths: AuthPaths, id: string): Promise<Key> {
  forbidCoreDumps();
  return await read(join(paths.signing, id + SUFFIX), importPKCS8);
}

/** Reads all keys that verify tokens. @throws {ZenithError} as {@link readSigningKey} */
export async function readTrustedKeys(paths: AuthPaths): Promise<Map<string, Key>> {
  const keys = new Map<string, Key>();
  for (const id of keyIds(paths.trusted)) {
    keys.set(id, await read(join(paths.trusted, id + SUFFIX), importSPKI));
  }
  return keys;
}

async function read(path: string, parse: (pem: string, algorithm: string) => Promise<Key>): Promise<Key> {
  let pem: string;
  try {
    pem = readFileSync(path, "utf8");
  } catch (error) {
    throw ioError("read", path, error);
  }
  try {
    return await parse(pem, ALGORITHM);
  } catch (error) {
    throw new ZenithError("invalid_argument", `${path} is not an Ed25519 key in PEM form`, { cause: error });
  }
}
