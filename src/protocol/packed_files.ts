/**
 * Packs small files into one word, in which a compute and the page server exchange and store them.
 * docs/formats/branch_settings.md is the specification.
 */
import { Buffer } from "node:buffer";
import { deflateRawSync, inflateRawSync } from "node:zlib";
import { array, parse, string, tuple } from "valibot";
import { errorMessage, ZenithError } from "../common/errors.ts";

/** Contents by name. */
export type FileMap = ReadonlyMap<string, Uint8Array>;

/** The longest word allowed: it has to fit into a command of 64 KiB. */
const PACKED_WORD_MAX = 60_000;
/** The most bytes that a word may unpack to. */
const UNPACKED_MAX_BYTES = 4 << 20;

export const PACKED_WORD = /^[A-Za-z0-9+/]+={0,2}$/;

const FilesSchema = array(tuple([string(), string()]));

/** A text that is the same for the same files in any order. */
export function canonicalFiles(files: FileMap): string {
  const entries = [...files].sort(([a], [b]) => a < b ? -1 : 1);
  return JSON.stringify(entries.map(([name, bytes]) => [name, Buffer.from(bytes).toString("base64")]));
}

/**
 * @param what the files are, for the error. @param hint how to make them fewer
 * @throws {ZenithError} `invalid_argument` when the files are too large to be stored
 */
export function packFiles(files: FileMap, what: string, hint: string): string {
  const word = deflateRawSync(canonicalFiles(files)).toString("base64");
  if (word.length <= PACKED_WORD_MAX) return word;
  throw new ZenithError(
    "invalid_argument",
    `the ${what} of this branch take ${word.length} bytes packed, more than ${PACKED_WORD_MAX}`,
    { hint },
  );
}

/**
 * @param isName whether a file may have this name. @param what the files are, for the error
 * @throws {ZenithError} `corrupt_data` when {@link packFiles} can't have packed such files into
 *   this word
 */
export function unpackFiles(
  word: string,
  isName: (name: string) => boolean,
  what: string,
): Map<string, Uint8Array> {
  try {
    const text = inflateRawSync(Buffer.from(word, "base64"), { maxOutputLength: UNPACKED_MAX_BYTES });
    const entries = parse(FilesSchema, JSON.parse(text.toString()));
    const wrong = entries.find(([name]) => !isName(name));
    if (wrong !== undefined) throw new Error(`"${wrong[0]}" is no name of a file`);
    return new Map(entries.map(([name, base64]) => [name, new Uint8Array(Buffer.from(base64, "base64"))]));
  } catch (error) {
    throw new ZenithError("corrupt_data", `invalid ${what} of a branch: ${errorMessage(error)}`, {
      cause: error,
    });
  }
}
