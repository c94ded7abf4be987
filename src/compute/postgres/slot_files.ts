/** Reads and writes a branch's replication slots as files of a data directory. */
import { closeSync, writeSync } from "node:fs";
import { ZenithError } from "../../common/errors.ts";
import { ForeignDirectory } from "../../common/foreign_directory.ts";
import { INVALID_LSN } from "../../common/lsn.ts";
import type { PgUser } from "../../pg_install/pg_user.ts";
import {
  isSlotName,
  parseSlotState,
  SLOT_STATE_MAX_BYTES,
  type SlotState,
} from "../../postgres/cluster/replication_slot.ts";
import { type SlotFiles, slotSnapshotPath, slotStatePath } from "../../protocol/branch_slots.ts";
import { WAL_PROPOSER_SLOT, WAL_RECEIVER_NAME } from "../../protocol/wal_connection.ts";

const SLOTS = "pg_replslot";
const STATE = "state";
const FILE_MODE = 0o600;
/** The limit for a snapshot, which has a few bytes for every transaction that was running. */
const SNAPSHOT_MAX_BYTES = 1 << 20;

/** The slots of the parties that make commits durable. Each start creates these itself. */
const OURS = new Set([WAL_PROPOSER_SLOT, WAL_RECEIVER_NAME]);

/** A slot that outlives a restart, with the files that it needs to continue. */
export interface SlotFile {
  readonly state: SlotState;
  readonly files: SlotFiles;
}

/** The names of the directories of users' slots. */
function names(slots: ForeignDirectory): string[] {
  return slots.names().filter((name) => isSlotName(name) && !OURS.has(name)).sort();
}

/** Returns a text that changes whenever a slot does. Reads no file. */
export function slotsSignature(pgdata: string): string {
  using root = ForeignDirectory.open(pgdata);
  using slots = root.directory(SLOTS);
  return names(slots).map((name) => {
    // The slot may be dropped meanwhile. The next look will notice.
    try {
      using slot = slots.directory(name);
      const found = slot.lstat(STATE);
      return `${name} ${found?.ino} ${found?.mtimeMs} ${found?.ctimeMs}`;
    } catch {
      return `${name} -`;
    }
  }).join("\n");
}

/**
 * Reads the slots that exist, by name. Returns null when one changed at the same time.
 *
 * @throws {ZenithError} `io`, `corrupt_data`
 */
export function readSlots(pgdata: string): Map<string, SlotFile> | null {
  const before = slotsSignature(pgdata);
  const found = new Map<string, SlotFile>();
  try {
    using root = ForeignDirectory.open(pgdata);
    using slots = root.directory(SLOTS);
    for (const name of names(slots)) {
      using slot = slots.directory(name);
      // A slot that is being created or dropped has no state file.
      if (!slot.lstat(STATE)?.isFile()) continue;
      const bytes = slot.read(STATE, SLOT_STATE_MAX_BYTES);
      const state = parseSlotState(bytes);
      if (state === null) {
        throw new ZenithError("corrupt_data", `the state of replication slot ${name} is damaged`);
      }
      if (state.name !== name || !state.isPersistent) continue;
      const files = new Map([[slotStatePath(name), bytes]]);
      if (state.isLogical) readSnapshot(root, state, files);
      found.set(name, { state, files });
    }
  } catch (error) {
    if (slotsSignature(pgdata) !== before) return null;
    throw error;
  }
  return slotsSignature(pgdata) === before ? found : null;
}

/**
 * Reads the snapshot with which decoding starts at the slot's restart position, if there is one.
 * Later snapshots are created again from the WAL.
 */
function readSnapshot(
  root: ForeignDirectory,
  { restartLsn }: SlotState,
  files: Map<string, Uint8Array>,
): void {
  const path = slotSnapshotPath(restartLsn);
  const name = path.slice(path.lastIndexOf("/") + 1);
  using logical = root.directory("pg_logical");
  using snapshots = logical.directory("snapshots");
  if (!snapshots.lstat(name)?.isFile()) return;
  files.set(path, snapshots.read(name, SNAPSHOT_MAX_BYTES));
}

/** Puts files into a data directory in which no Postgres has run yet. @throws {ZenithError} `io` */
export function writeSlotFiles(pgdata: string, files: SlotFiles, user: PgUser | undefined): void {
  using root = ForeignDirectory.open(pgdata);
  for (const [path, bytes] of files) {
    const parts = path.split("/");
    const name = parts.pop()!;
    using first = root.makeDirectory(parts[0], user);
    using directory = first.makeDirectory(parts[1], user);
    directory.remove(name);
    const fd = directory.createFile(name, FILE_MODE, user);
    try {
      for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
    } finally {
      closeSync(fd);
    }
  }
}

/** Names slots in a sentence. */
export function namedSlots(slots: readonly string[]): string {
  return `replication slot${slots.length === 1 ? "" : "s"} ${slots.join(", ")}`;
}

/** Whether WAL is kept for the slot. */
export function holdsWal({ isInvalidated, restartLsn }: SlotState): boolean {
  return !isInvalidated && restartLsn !== INVALID_LSN;
}
