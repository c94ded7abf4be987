/**
 * Packs small files into one word, in which a compute and the page server exchange and store them.
 * docs/formats/branch_settings.md is the specification.
 */
import { Buffer } from "node:buffer";
import { deflateRawSync, inflateRawSync } from "node:zlib";
import { array, parse, string, tuple } from "valibot";

/** Contents by name. */
export type FileMap = ReadonlyMap<string, Uint8Array>;

/** The longest word allowed: it has to fit into a command of 64 KiB. */
export const PACKED_WORD_MAX = 60_000;
/** The most bytes that a word may unpack to. */
const UNPACKED_MAX_BYTES = 4 << 20;

export const PACKED_WORD = /^[A-Za-z0-9+/]+={0,2}$/;

const FilesSchema = array(tuple([string(), string()]));

/** A text that is the same for the same files in any order. */
export function canonicalFiles(files: FileMap): string {
  const entries = [...files].sort(([a], [b]) => a < b ? -1 : 1);
  return JSON.stringify(entries.map(([name, bytes]) => [name, Buffer.from(bytes).toString("base64")]));
}

/** The word may be longer than {@link PACKED_WORD_MAX}. */
export function packFiles(files: FileMap): string {
  return deflateRawSync(canonicalFiles(files)).toString("base64");
}

/**
 * @param isName whether a file may have this name
 * @throws when {@link packFiles} can't have packed such files into this word
 */
export function unpackFiles(word: string, isName: (name: string) => boolean): Map<string, Uint8Array> {
  const text = inflateRawSync(Buffer.from(word, "base64"), { maxOutputLength: UNPACKED_MAX_BYTES });
  const entries = parse(FilesSchema, JSON.parse(text.toString()));
  const wrong = entries.find(([name]) => !isName(name));
  if (wrong !== undefined) throw new Error(`"${wrong[0]}" is no name of a file`);
  return new Map(entries.map(([name, base64]) => [name, new Uint8Array(Buffer.from(base64, "base64"))]));
}
