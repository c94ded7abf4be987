/**
 * Keeps a compute's replication slots with its branch at the page server. Each start gets a new
 * data directory, and the slots from there.
 */
import { errorMessage } from "../common/errors.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../common/lsn.ts";
import { sleep } from "../common/sleep.ts";
import { encodeSlots } from "../protocol/branch_slots.ts";
import type { TakenSlots } from "../protocol/management.ts";
import type { Durability } from "./durability.ts";
import { storeSlots } from "./page_server_link.ts";
import type { Conditions } from "./postgres/conditions.ts";
import type { ComputeIdentity } from "./postgres/postgres_conf.ts";
import { holdsWal, namedSlots, readSlots, type SlotFile, slotsSignature } from "./postgres/slot_files.ts";
import type { RestoreSlotsOptions } from "./slots_restore.ts";

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
const WAL_CONDITION = "WAL of slots";
const SIZE_CONDITION = "much WAL of slots";

export interface SlotsSyncOptions extends RestoreSlotsOptions {
  readonly compute: ComputeIdentity;
  readonly durability: Durability;
}

function pack(slots: ReadonlyMap<string, SlotFile>): string {
  return encodeSlots(new Map([...slots.values()].flatMap(({ files }) => [...files])));
}

function holdOf(slots: ReadonlyMap<string, SlotFile>): Lsn | undefined {
  const lsns = [...slots.values()].filter(({ state }) => holdsWal(state)).map(({ state }) =>
    state.restartLsn
  );
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
  const lacking = [...slots].filter(([, { state }]) => state.isLogical && holdsWal(state))
    .filter(([, { state }]) => state.restartLsn < walFrom)
    .map(([name]) => name);
  const text = lacking.length === 0
    ? undefined
    : `${namedSlots(lacking)} would be lost with this Postgres: WAL before ${
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
  const lagging = [...slots].filter(([, { state }]) => holdsWal(state) && end - state.restartLsn >= much);
  const names = lagging.map(([name]) => name);
  conditions.set(SIZE_CONDITION, `${namedSlots(names)} held back ${mib(much)} of WAL and more`, {
    hint: `let its consumer catch up, or drop it: SELECT pg_drop_replication_slot('${names[0]}'); ` +
      `more than ${mib(maxBytes)} is not kept, and a slot that needs more is lost at the next start`,
    down: false,
  });
}

function mib(bytes: number): string {
  return `${Math.round(bytes / (1 << 20))} MiB`;
}
