/**
 * A branch's replication slots, in the form that a compute and the page server exchange and store:
 * files of a data directory in one word. docs/formats/branch_slots.md is the specification.
 */
import { type FileMap, PACKED_WORD, packFiles, unpackFiles } from "./packed_files.ts";

/** Contents by path in a data directory. */
export type SlotFiles = FileMap;

export const SLOTS_WORD = PACKED_WORD;

/** A slot's state, or a snapshot that a logical slot starts from. */
const PATH =
  /^(?:pg_replslot\/([a-z0-9_]{1,63})\/state|pg_logical\/snapshots\/[0-9A-F]{1,8}-[0-9A-F]{1,8}\.snap)$/;

export function slotStatePath(slot: string): string {
  return `pg_replslot/${slot}/state`;
}

/** The path of a snapshot's file, whose name contains `lsn`. */
export function slotSnapshotPath(lsn: number): string {
  const hex = (half: number): string => half.toString(16).toUpperCase();
  return `pg_logical/snapshots/${hex(Math.floor(lsn / 2 ** 32))}-${hex(lsn % 2 ** 32)}.snap`;
}

/** @throws {ZenithError} `invalid_argument` when the files are too large to be stored */
export function encodeSlots(files: SlotFiles): string {
  return packFiles(files, "replication slots", "drop slots that nobody uses");
}

/** @throws {ZenithError} `corrupt_data` */
export function decodeSlots(word: string): Map<string, Uint8Array> {
  return unpackFiles(word, (name) => PATH.test(name), "replication slots");
}

/** The names of the slots, sorted. */
export function slotNames(files: SlotFiles): string[] {
  return [...files.keys()].flatMap((path) => PATH.exec(path)?.[1] ?? []).sort();
}
