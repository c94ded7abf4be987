/**
 * The state file of a replication slot: ReplicationSlotOnDisk and ReplicationSlotPersistentData,
 * src/backend/replication/slot.c and src/include/replication/slot.h. What majors differ in comes
 * after the fields that are read here.
 */
import { crc32c } from "../../common/crc32c.ts";
import { INVALID_LSN, type Lsn } from "../../common/lsn.ts";

/** SLOT_MAGIC */
const MAGIC = 0x1051ca1;

// ReplicationSlotOnDisk
const CHECKSUM = 4;
/** What the checksum covers begins here, with the version. */
const CHECKSUMMED = 8;
const LENGTH = 12;
const DATA = 16;

// ReplicationSlotPersistentData
const NAME_BYTES = 64;
const DATABASE = DATA + 64;
const PERSISTENCY = DATA + 68;
const RESTART_LSN = DATA + 80;
/** 14 and 15: where the WAL was lost; from 16 on, why the slot was invalidated. */
const INVALIDATED = DATA + 88;
const CONFIRMED_FLUSH = DATA + 96;
const DATA_MIN_BYTES = 104;

/** RS_PERSISTENT */
const PERSISTENT = 0;

/** A file is not larger than this. */
export const SLOT_STATE_MAX_BYTES = 4096;

/** ReplicationSlotValidateName */
const SLOT_NAME = /^[a-z0-9_]{1,63}$/;

export function isSlotName(name: string): boolean {
  return SLOT_NAME.test(name);
}

export interface SlotState {
  readonly name: string;
  readonly isLogical: boolean;
  /** Whether it outlives a restart: it is neither temporary nor still being created. */
  readonly isPersistent: boolean;
  /** Whether PostgreSQL has given it up. */
  readonly isInvalidated: boolean;
  /** The oldest WAL that it needs; 0 when it needs none. */
  readonly restartLsn: Lsn;
  /** What its consumer has confirmed, of a logical slot; else 0. */
  readonly confirmedLsn: Lsn;
}

/** null when it is not a whole state file. */
export function parseSlotState(bytes: Uint8Array): SlotState | null {
  if (bytes.length < DATA + DATA_MIN_BYTES) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const length = view.getUint32(LENGTH, true);
  const isWhole = view.getUint32(0, true) === MAGIC && DATA + length === bytes.length &&
    view.getUint32(CHECKSUM, true) === crc32c(bytes, CHECKSUMMED, bytes.length - CHECKSUMMED);
  if (!isWhole) return null;
  const end = bytes.indexOf(0, DATA);
  const name = new TextDecoder().decode(bytes.subarray(DATA, Math.min(end, DATA + NAME_BYTES)));
  if (end < 0 || !isSlotName(name)) return null;
  const lsn = (at: number): Lsn => Number(view.getBigUint64(at, true)) as Lsn;
  const isLogical = view.getUint32(DATABASE, true) !== 0;
  return {
    name,
    isLogical,
    isPersistent: view.getUint32(PERSISTENCY, true) === PERSISTENT,
    isInvalidated: view.getUint32(INVALIDATED, true) !== 0,
    restartLsn: lsn(RESTART_LSN),
    confirmedLsn: isLogical ? lsn(CONFIRMED_FLUSH) : INVALID_LSN,
  };
}
