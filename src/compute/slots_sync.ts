/**
 * Keeps a compute's replication slots with its branch at the page server. Each start gets a new
 * data directory, and gets the slots, and the WAL that they need, from there.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { errorMessage, ZenithError } from "../common/errors.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../common/lsn.ts";
import type { ComputePaths } from "../common/paths.ts";
import { sleep } from "../common/sleep.ts";
import type { PgUser } from "../pg_install/pg_user.ts";
import { CONTROL_FILE_PATH, parseControlFile } from "../postgres/control_file.ts";
import { parseSlotState, type SlotState } from "../postgres/cluster/replication_slot.ts";
import { WalError } from "../postgres/wal/error.ts";
import { WAL_TLI, walFileName } from "../postgres/wal/page_header.ts";
import type { Logger } from "../process/log.ts";
import {
  decodeSlots,
  encodeSlots,
  slotNames,
  slotSnapshotPath,
  slotStatePath,
} from "../protocol/branch_slots.ts";
import type { TakenSlots } from "../protocol/management.ts";
import type { Durability } from "./durability.ts";
import { storeSlots } from "./page_server_link.ts";
import type { Conditions } from "./postgres/conditions.ts";
import { logicalMappings } from "./postgres/logical_mappings.ts";
import type { ComputeIdentity } from "./postgres/postgres_conf.ts";
import { readSlots, type SlotFile, slotsSignature, writeSlotFiles } from "./postgres/slot_files.ts";
import { readTenantFile } from "./postgres/tenant_file.ts";

/** How soon a change is noticed. */
const LOOK_MS = 500;

/** How many looks pass between two checks of how much WAL the slots hold back. */
const LOOKS_PER_SIZE = 10;
/**
 * A slot that holds back more than this share of the limit, or more than these bytes, is a problem.
 */
const MUCH_SHARE = 0.5;
const MUCH_BYTES = 1 << 30;

const KEPT_CONDITION = "slots";
const LOST_CONDITION = "lost slots";
const LOST_HINT = "create it again, and copy the subscriber's tables anew";
const PARENT_CONDITION = "parent's slots";
const WAL_CONDITION = "WAL of slots";
const SIZE_CONDITION = "much WAL of slots";

export interface SlotsSyncOptions {
  readonly compute: ComputeIdentity;
  readonly paths: ComputePaths;
  readonly user: PgUser | undefined;
  readonly durability: Durability;
  readonly conditions: Conditions;
  readonly log: Logger;
}

/**
 * Puts the branch's slots into a data directory that was just fetched with the WAL from `hold_lsn`
 * on.
 *
 * @returns the restored slots, by name
 * @throws {ZenithError} `corrupt_data`, `io`
 */
export async function restoreSlots(
  options: SlotsSyncOptions,
  taken: TakenSlots,
): Promise<Map<string, SlotFile>> {
  const { paths: { pgdata }, conditions, user, log } = options;
  const slots = new Map<string, SlotFile>();
  sayWhatIsTheParents(options, taken);
  conditions.set(LOST_CONDITION, undefined);
  if (taken.slots === null) return slots;
  const stored = slotsOf(decodeSlots(taken.slots));
  if (stored.size === 0) return slots;
  const { pg, xlog_seg_size: segmentSize, checkPoint } = parseControlFile(
    await readTenantFile(join(pgdata, CONTROL_FILE_PATH)),
  );
  const lost: string[] = [];
  for (const [name, slot] of stored) {
    // A physical slot's consumer itself says where it continues.
    const needsWal = slot.state.isLogical && !slot.state.isInvalidated;
    const segment = join(pgdata, "pg_wal", walFileName(WAL_TLI, slot.state.restartLsn, segmentSize));
    if (needsWal && !existsSync(segment)) lost.push(name);
    else slots.set(name, slot);
  }
  if (lost.length > 0) {
    const text = `it has lost ${named(lost)}: the WAL that is needed is no longer there`;
    log.error(text);
    conditions.set(LOST_CONDITION, text, { hint: LOST_HINT, down: false });
  }
  for (const { files } of slots.values()) writeSlotFiles(pgdata, files, user);
  const logical = [...slots.values()].map(({ state }) => state).filter((state) =>
    state.isLogical && needs(state)
  );
  if (logical.length > 0) {
    const from = Math.min(...logical.map(({ restartLsn }) => restartLsn)) as Lsn;
    try {
      const mappings = await logicalMappings({ pgdata, pg, segmentSize, from, to: checkPoint as Lsn });
      writeSlotFiles(pgdata, mappings, user);
    } catch (error) {
      // What reads that WAL will fail too. Everything else can still work.
      if (!(error instanceof WalError)) throw error;
      const text = `the WAL that its logical replication slots need is damaged: ${errorMessage(error)}`;
      log.error(text);
      conditions.set(LOST_CONDITION, text, { hint: LOST_HINT, down: false });
    }
  }
  log.info("replication slots are there again", { slots: [...slots.keys()] });
  return slots;
}

/**
 * Reports slots that were left with the parent. Their consumers follow the parent, not this branch.
 */
function sayWhatIsTheParents({ conditions, log }: SlotsSyncOptions, { parent_slots }: TakenSlots): void {
  const parents = parent_slots === null ? [] : slotNames(decodeSlots(parent_slots));
  if (parents.length === 0) {
    conditions.set(PARENT_CONDITION, undefined);
    return;
  }
  const text = `it began without its parent's ${named(parents)}: what is to follow it needs its own`;
  log.info(text);
  conditions.set(PARENT_CONDITION, text);
}

function named(slots: readonly string[]): string {
  return `replication slot${slots.length === 1 ? "" : "s"} ${slots.join(", ")}`;
}

function needs({ isInvalidated, restartLsn }: SlotState): boolean {
  return !isInvalidated && restartLsn !== INVALID_LSN;
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

function pack(slots: ReadonlyMap<string, SlotFile>): string {
  return encodeSlots(new Map([...slots.values()].flatMap(({ files }) => [...files])));
}

function holdOf(slots: ReadonlyMap<string, SlotFile>): Lsn | undefined {
  const lsns = [...slots.values()].filter(({ state }) => needs(state)).map(({ state }) => state.restartLsn);
  return lsns.length === 0 ? undefined : Math.min(...lsns) as Lsn;
}

/**
 * Stores slots that have changed with the branch, while Postgres runs and once more when `signal`
 * is aborted.
 *
 * @param restored the slots that this Postgres started with
 */
export async function followSlots(
  options: SlotsSyncOptions,
  { generation, slots: atPageServer, hold_max_bytes: maxBytes }: TakenSlots,
  restored: ReadonlyMap<string, SlotFile>,
  signal: AbortSignal,
): Promise<void> {
  const { compute, paths, durability, conditions } = options;
  let known: string | undefined;
  let stored = restored;
  let word = atPageServer ?? pack(stored);
  let isLast = false;
  for (let look = 1; !isLast; look++) {
    await sleep(LOOK_MS, signal);
    isLast = signal.aborted;
    try {
      if (look % LOOKS_PER_SIZE === 0) await sayWhatHoldsBack(options, stored, maxBytes);
      const signature = slotsSignature(paths.pgdata);
      if (signature === known) continue;
      const found = readSlots(paths.pgdata);
      if (found === null) continue;
      const { slots, isAll } = await acknowledged(found, stored, durability);
      const next = pack(slots);
      if (next !== word) {
        const walFrom = await storeSlots(compute, { generation, slots: next, hold: holdOf(slots) });
        stored = slots;
        word = next;
        sayWhatLacksWal(conditions, slots, walFrom);
      }
      if (isAll) known = signature;
      conditions.set(KEPT_CONDITION, undefined);
    } catch (error) {
      const text = `its replication slots are not kept with the branch: ${errorMessage(error)}`;
      conditions.set(KEPT_CONDITION, text, { hint: "they are lost if it ends before", down: false });
    }
  }
}

/**
 * Returns the slots in states that may be stored. A consumer may confirm WAL that only this
 * Postgres's disk has. If that WAL is lost, the slot must not skip the WAL that takes its place. So
 * a state is stored only once its WAL is durable; until then, the slot's previous state is kept.
 */
async function acknowledged(
  found: ReadonlyMap<string, SlotFile>,
  stored: ReadonlyMap<string, SlotFile>,
  durability: Durability,
): Promise<{ slots: Map<string, SlotFile>; isAll: boolean }> {
  const durableLsn = found.size === 0 ? INVALID_LSN : await durability.durableLsn() ?? INVALID_LSN;
  const slots = new Map<string, SlotFile>();
  let isAll = true;
  for (const [name, slot] of found) {
    const isDurable = Math.max(slot.state.restartLsn, slot.state.confirmedLsn) <= durableLsn;
    const kept = isDurable ? slot : stored.get(name);
    if (kept !== undefined) slots.set(name, kept);
    isAll &&= isDurable;
  }
  return { slots, isAll };
}

function sayWhatLacksWal(conditions: Conditions, slots: ReadonlyMap<string, SlotFile>, walFrom: Lsn): void {
  const lacking = [...slots].filter(([, { state }]) => state.isLogical && needs(state))
    .filter(([, { state }]) => state.restartLsn < walFrom)
    .map(([name]) => name);
  const text = lacking.length === 0
    ? undefined
    : `${named(lacking)} would be lost with this Postgres: WAL before ${
      formatLsn(walFrom)
    } was given up before the slot was known`;
  conditions.set(WAL_CONDITION, text, { hint: "let its consumer connect and catch up", down: false });
}

/**
 * Reports slots that hold back much WAL. They fill the page server's disk, and are lost at the
 * limit.
 */
async function sayWhatHoldsBack(
  { durability, conditions }: SlotsSyncOptions,
  slots: ReadonlyMap<string, SlotFile>,
  maxBytes: number,
): Promise<void> {
  const hold = holdOf(slots);
  const end = hold === undefined ? null : await durability.durableLsn();
  const much = Math.min(MUCH_BYTES, maxBytes * MUCH_SHARE);
  if (hold === undefined || end === null || end - hold < much) {
    conditions.set(SIZE_CONDITION, undefined);
    return;
  }
  const lagging = [...slots].filter(([, { state }]) => needs(state) && end - state.restartLsn >= much);
  const names = lagging.map(([name]) => name);
  conditions.set(SIZE_CONDITION, `${named(names)} held back ${mib(much)} of WAL and more`, {
    hint: `let its consumer catch up, or drop it: SELECT pg_drop_replication_slot('${names[0]}'); ` +
      `more than ${mib(maxBytes)} is not kept, and a slot that needs more is lost at the next start`,
    down: false,
  });
}

function mib(bytes: number): string {
  return `${Math.round(bytes / (1 << 20))} MiB`;
}
