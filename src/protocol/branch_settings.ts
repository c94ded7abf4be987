/**
 * A branch's settings, in the form that a compute and the page server exchange and store: its
 * configuration files in one word. docs/formats/branch_settings.md is the specification.
 */
import { createHash } from "node:crypto";
import { canonicalFiles, type FileMap, PACKED_WORD, packFiles, unpackFiles } from "./packed_files.ts";

/** Contents by name. The files are directly in a data directory. */
export type SettingsFiles = FileMap;

export const SETTINGS_WORD = PACKED_WORD;

/** A name that can't lead out of the directory, and is not hidden. */
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$/;

/** Whether a file of this name can belong to a branch's settings. */
export function isSettingsName(name: string): boolean {
  return NAME.test(name);
}

/** A hash that tells settings apart. */
export function settingsHash(files: SettingsFiles): string {
  return createHash("sha256").update(canonicalFiles(files)).digest("hex");
}

/** @throws {ZenithError} `invalid_argument` when the files are too large to be stored */
export function encodeSettings(files: SettingsFiles): string {
  return packFiles(
    files,
    "configuration files",
    "take files out of the data directory that are no configuration",
  );
}

/** @throws {ZenithError} `corrupt_data` */
export function decodeSettings(word: string): Map<string, Uint8Array> {
  return unpackFiles(word, isSettingsName, "settings");
}
