/**
 * A branch's settings as they travel between a compute and the page server, and rest there: its
 * configuration files in one word. docs/formats/branch_settings.md is the specification.
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { deflateRawSync, inflateRawSync } from "node:zlib";
import { array, parse, string, tuple } from "valibot";
import { errorMessage, ZenithError } from "../common/errors.ts";

/** Content by name, of files that lie in a data directory itself. */
export type SettingsFiles = ReadonlyMap<string, Uint8Array>;

/** What the word may be at most: it has to fit a command, of 64 KiB. */
export const SETTINGS_WORD_MAX = 60_000;
/** What it may become. */
const UNPACKED_MAX_BYTES = 4 << 20;

export const SETTINGS_WORD = /^[A-Za-z0-9+/]+={0,2}$/;

/** No way out of the directory, and nothing hidden. */
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$/;

const FilesSchema = array(tuple([string(), string()]));

/** Whether a file of that name can be a branch's. */
export function isSettingsName(name: string): boolean {
  return NAME.test(name);
}

function canonical(files: SettingsFiles): string {
  const entries = [...files].sort(([a], [b]) => a < b ? -1 : 1);
  return JSON.stringify(entries.map(([name, bytes]) => [name, Buffer.from(bytes).toString("base64")]));
}

/** Tells settings apart. */
export function settingsHash(files: SettingsFiles): string {
  return createHash("sha256").update(canonical(files)).digest("hex");
}

/** @throws {ZenithError} `invalid_argument` when they are too large to be kept */
export function encodeSettings(files: SettingsFiles): string {
  const word = deflateRawSync(canonical(files)).toString("base64");
  if (word.length <= SETTINGS_WORD_MAX) return word;
  throw new ZenithError(
    "invalid_argument",
    `the configuration files of this branch take ${word.length} bytes packed, more than ${SETTINGS_WORD_MAX}`,
    { hint: "take files out of the data directory that are no configuration" },
  );
}

/** @throws {ZenithError} `corrupt_data` */
export function decodeSettings(word: string): Map<string, Uint8Array> {
  try {
    const text = inflateRawSync(Buffer.from(word, "base64"), { maxOutputLength: UNPACKED_MAX_BYTES });
    const entries = parse(FilesSchema, JSON.parse(text.toString()));
    const wrong = entries.find(([name]) => !isSettingsName(name));
    if (wrong !== undefined) throw new Error(`"${wrong[0]}" is no name of a file`);
    return new Map(
      entries.map(([name, base64]) => [name, new Uint8Array(Buffer.from(base64, "base64"))]),
    );
  } catch (error) {
    throw new ZenithError("corrupt_data", `invalid settings of a branch: ${errorMessage(error)}`, {
      cause: error,
    });
  }
}
