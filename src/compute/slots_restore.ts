/** Puts a branch's replication slots into a new data directory. */
import { errorMessage, ZenithError } from "../common/errors.ts";
import type { Lsn } from "../common/lsn.ts";
import type { ComputePaths } from "../common/paths.ts";
import type { PgUser } from "../pg_install/pg_user.ts";
import { parseSlotState } from "../postgres/cluster/replication_slot.ts";
import { WalError } from "../postgres/wal/error.ts";
import { segmentStart } from "../postgres/wal/page_header.ts";
import type { Logger } from "../process/log.ts";
import { decodeSlots, slotNames, slotSnapshotPath, slotStatePath } from "../protocol/branch_slots.ts";
import type { TakenSlots } from "../protocol/management.ts";
import type { LazyWal } from "./lazy/pages/wal_reads.ts";
import type { Conditions } from "./postgres/conditions.ts";
import { logicalMappings, type MappingsOptions, writeMappings } from "./postgres/logical_mappings.ts";
import { holdsWal, namedSlots, type SlotFile, writeSlotFiles } from "./postgres/slot_files.ts";
import { hasSegment, linkSegments, noteArchived, type ReadWal, walFiles } from "./postgres/slot_wal.ts";
import { readControlFile } from "./postgres/tenant_file.ts";
import { readWalHistory } from "./postgres/wal_history.ts";
import type { Storage } from "./storage.ts";

const LOST_CONDITION = "lost slots";
const LOST_HINT = "create it again, and copy the subscriber's tables anew";
const PARENT_CONDITION = "parent's slots";

export interface RestoreSlotsOptions {
  readonly paths: ComputePaths;
  readonly user: PgUser | undefined;
  readonly conditions: Conditions;
  readonly log: Logger;
}

/** A branch's slots in a new data directory. */
export interface RestoredSlots {
  readonly slots: ReadonlyMap<string, SlotFile>;
  /** The WAL of slots that was not fetched. The data directory has links to it. */
  readonly wal: LazyWal | undefined;
}

/**
 * Puts the branch's slots into a data directory that was just fetched. Eager storage has fetched
 * the WAL from `hold_lsn` on with it; on lazy storage it is linked.
 *
 * @throws {ZenithError} `corrupt_data`, `io`
 */
export async function restoreSlots(
  options: RestoreSlotsOptions,
  taken: TakenSlots,
  mode: Storage["mode"],
): Promise<RestoredSlots> {
  const { paths: { pgdata, mount }, conditions, user, log } = options;
  sayWhatIsTheParents(options, taken);
  conditions.set(LOST_CONDITION, undefined);
  const stored = taken.slots === null ? new Map<string, SlotFile>() : slotsOf(decodeSlots(taken.slots));
  if (stored.size === 0) return { slots: stored, wal: undefined };
  const control = await readControlFile(pgdata);
  const { xlog_seg_size: segmentSize, checkPoint } = control;
  const start = segmentStart(checkPoint, segmentSize);
  const from = segmentStart(Math.max(taken.hold_lsn ?? start, taken.wal_from) as Lsn, segmentSize);
  const isLinked = mode === "lazy" && from < start;
  const range = { from, to: start, segmentSize, timelines: readWalHistory(pgdata) };
  if (isLinked) linkSegments(pgdata, mount, range);
  noteArchived(pgdata, start, segmentSize, user);
  const lost: string[] = [];
  const slots = new Map<string, SlotFile>();
  for (const [name, slot] of stored) {
    // A physical slot's consumer itself says where it continues.
    const needsWal = slot.state.isLogical && !slot.state.isInvalidated;
    if (needsWal && !hasSegment(pgdata, slot.state.restartLsn, segmentSize)) lost.push(name);
    else slots.set(name, slot);
  }
  if (lost.length > 0) {
    const text = `it has lost ${namedSlots(lost)}: the WAL that is needed is no longer there`;
    log.error(text);
    conditions.set(LOST_CONDITION, text, { hint: LOST_HINT, down: false });
  }
  for (const { files } of slots.values()) writeSlotFiles(pgdata, files, user);
  const files = walFiles(pgdata, segmentSize);
  const decoded = [...slots.values()].filter(({ state }) => state.isLogical && holdsWal(state))
    .map(({ state }) => state.restartLsn);
  const decodedFrom = Math.min(...decoded) as Lsn;
  const restoreMappings = (mappingsFrom: Lsn, read: ReadWal): Promise<void> => {
    const wal = { read, pg: control.pg, segmentSize, from: mappingsFrom, to: checkPoint as Lsn };
    return restoreMappingsFrom(options, wal);
  };
  const isFetchedLater = isLinked && decodedFrom < start;
  if (decoded.length > 0) await restoreMappings(isFetchedLater ? start : decodedFrom, files);
  log.info("replication slots are there again", { slots: [...slots.keys()] });
  if (!isLinked) return { slots, wal: undefined };
  // What the older WAL says about catalogs is needed by nobody who does not read that WAL.
  const prepare = async (fetch: ReadWal): Promise<void> => {
    if (!isFetchedLater) return;
    await restoreMappings(
      decodedFrom,
      (lsn, length) => lsn < start ? fetch(lsn, length) : files(lsn, length),
    );
  };
  return { slots, wal: { range, prepare } };
}

/** @throws {ZenithError} when the WAL can't be read */
async function restoreMappingsFrom(
  { paths: { pgdata }, user, conditions, log }: RestoreSlotsOptions,
  wal: MappingsOptions,
): Promise<void> {
  try {
    writeMappings(pgdata, await logicalMappings(wal), user);
  } catch (error) {
    // What reads that WAL will fail too. Everything else can still work.
    if (!(error instanceof WalError)) throw error;
    const text = `the WAL that its logical replication slots need is damaged: ${errorMessage(error)}`;
    log.error(text);
    conditions.set(LOST_CONDITION, text, { hint: LOST_HINT, down: false });
  }
}

/**
 * Reports slots that were left with the parent. Their consumers follow the parent, not this branch.
 */
function sayWhatIsTheParents({ conditions, log }: RestoreSlotsOptions, { parent_slots }: TakenSlots): void {
  const parents = parent_slots === null ? [] : slotNames(decodeSlots(parent_slots));
  if (parents.length === 0) {
    conditions.set(PARENT_CONDITION, undefined);
    return;
  }
  const text = `it began without its parent's ${namedSlots(parents)}: what is to follow it needs its own`;
  log.info(text);
  conditions.set(PARENT_CONDITION, text);
}

/** Groups the page server's files by slot. */
function slotsOf(files: ReadonlyMap<string, Uint8Array>): Map<string, SlotFile> {
  const slots = new Map<string, SlotFile>();
  for (const name of slotNames(files)) {
    const path = slotStatePath(name);
    const bytes = files.get(path)!;
    const state = parseSlotState(bytes);
    if (state === null) {
      throw new ZenithError("corrupt_data", `the state of replication slot ${name} is damaged`);
    }
    const own = new Map([[path, bytes]]);
    const snapshot = slotSnapshotPath(state.restartLsn);
    if (state.isLogical && files.has(snapshot)) own.set(snapshot, files.get(snapshot)!);
    slots.set(name, { state, files: own });
  }
  return slots;
}
