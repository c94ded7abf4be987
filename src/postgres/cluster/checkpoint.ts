/**
 * The CheckPoint struct: body of checkpoint records, copied in pg_control.
 * src/include/catalog/pg_control.h
 */
import { assert } from "../../common/assert.ts";
import { ZenithError } from "../../common/errors.ts";
import { type Lsn, lsnFromHalves, lsnHigh, lsnLow } from "../../common/lsn.ts";

/** sizeof(CheckPoint). */
export const SIZE_OF_CHECKPOINT = 88;

export interface CheckPoint {
  /** Where redo would start; the record's own position for a shutdown checkpoint. */
  redo: Lsn;
  ThisTimeLineID: number;
  PrevTimeLineID: number;
  fullPageWrites: boolean;
  /** WAL_LEVEL_*, from PostgreSQL 17 on; padding before. */
  wal_level: number;
  /** FullTransactionId: epoch · 2^32 + xid of the next transaction. */
  nextXid: number;
  nextOid: number;
  nextMulti: number;
  nextMultiOffset: number;
  oldestXid: number;
  oldestXidDB: number;
  oldestMulti: number;
  oldestMultiDB: number;
  /** Seconds since the Unix epoch. */
  time: number;
  oldestCommitTsXid: number;
  newestCommitTsXid: number;
  /** 0 in a shutdown checkpoint. */
  oldestActiveXid: number;
}

// Offsets in CheckPoint.
const REDO = 0;
const THIS_TIMELINE_ID = 8;
const PREV_TIMELINE_ID = 12;
const FULL_PAGE_WRITES = 16;
const WAL_LEVEL = 20;
const NEXT_XID = 24;
const NEXT_OID = 32;
const NEXT_MULTI = 36;
const NEXT_MULTI_OFFSET = 40;
const OLDEST_XID = 44;
const OLDEST_XID_DB = 48;
const OLDEST_MULTI = 52;
const OLDEST_MULTI_DB = 56;
const TIME = 64;
const OLDEST_COMMIT_TS_XID = 72;
const NEWEST_COMMIT_TS_XID = 76;
const OLDEST_ACTIVE_XID = 80;

const TWO_POW_32 = 0x1_0000_0000;

/**
 * Reads the 88 bytes at `bytes[off..]`.
 *
 * @throws {ZenithError} `corrupt_data` when they are not all there, `out_of_range` when the LSN is
 *   beyond 2^53
 */
export function parseCheckpoint(bytes: Uint8Array, off = 0): CheckPoint {
  if (off < 0 || bytes.length - off < SIZE_OF_CHECKPOINT) {
    throw new ZenithError(
      "corrupt_data",
      `a CheckPoint has ${SIZE_OF_CHECKPOINT} bytes, there are ${bytes.length - off}`,
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset + off, SIZE_OF_CHECKPOINT);
  const u32 = (at: number) => view.getUint32(at, true);
  return {
    redo: lsnFromHalves(u32(REDO + 4), u32(REDO)),
    ThisTimeLineID: u32(THIS_TIMELINE_ID),
    PrevTimeLineID: u32(PREV_TIMELINE_ID),
    fullPageWrites: view.getUint8(FULL_PAGE_WRITES) !== 0,
    wal_level: u32(WAL_LEVEL),
    nextXid: u32(NEXT_XID + 4) * TWO_POW_32 + u32(NEXT_XID),
    nextOid: u32(NEXT_OID),
    nextMulti: u32(NEXT_MULTI),
    nextMultiOffset: u32(NEXT_MULTI_OFFSET),
    oldestXid: u32(OLDEST_XID),
    oldestXidDB: u32(OLDEST_XID_DB),
    oldestMulti: u32(OLDEST_MULTI),
    oldestMultiDB: u32(OLDEST_MULTI_DB),
    time: view.getInt32(TIME + 4, true) * TWO_POW_32 + u32(TIME),
    oldestCommitTsXid: u32(OLDEST_COMMIT_TS_XID),
    newestCommitTsXid: u32(NEWEST_COMMIT_TS_XID),
    oldestActiveXid: u32(OLDEST_ACTIVE_XID),
  };
}

/** The struct's 88 bytes. */
export function encodeCheckpoint(checkpoint: CheckPoint): Uint8Array {
  const bytes = new Uint8Array(SIZE_OF_CHECKPOINT);
  writeCheckpoint(checkpoint, bytes, 0);
  return bytes;
}

/** Writes the struct's 88 bytes to `bytes[off..]`, padding zeroed. */
export function writeCheckpoint(checkpoint: CheckPoint, bytes: Uint8Array, off: number): void {
  assert(off >= 0 && bytes.length - off >= SIZE_OF_CHECKPOINT, "there is room for a CheckPoint");
  assert(
    Number.isSafeInteger(checkpoint.nextXid) && Number.isSafeInteger(checkpoint.time),
    "64-bit fields are exact integers",
  );
  const view = new DataView(bytes.buffer, bytes.byteOffset + off, SIZE_OF_CHECKPOINT);
  const setU32 = (at: number, value: number) => view.setUint32(at, value, true);
  bytes.fill(0, off, off + SIZE_OF_CHECKPOINT);
  setU32(REDO, lsnLow(checkpoint.redo));
  setU32(REDO + 4, lsnHigh(checkpoint.redo));
  setU32(THIS_TIMELINE_ID, checkpoint.ThisTimeLineID);
  setU32(PREV_TIMELINE_ID, checkpoint.PrevTimeLineID);
  view.setUint8(FULL_PAGE_WRITES, checkpoint.fullPageWrites ? 1 : 0);
  setU32(WAL_LEVEL, checkpoint.wal_level);
  setU32(NEXT_XID, checkpoint.nextXid);
  setU32(NEXT_XID + 4, Math.floor(checkpoint.nextXid / TWO_POW_32));
  setU32(NEXT_OID, checkpoint.nextOid);
  setU32(NEXT_MULTI, checkpoint.nextMulti);
  setU32(NEXT_MULTI_OFFSET, checkpoint.nextMultiOffset);
  setU32(OLDEST_XID, checkpoint.oldestXid);
  setU32(OLDEST_XID_DB, checkpoint.oldestXidDB);
  setU32(OLDEST_MULTI, checkpoint.oldestMulti);
  setU32(OLDEST_MULTI_DB, checkpoint.oldestMultiDB);
  setU32(TIME, checkpoint.time);
  setU32(TIME + 4, Math.floor(checkpoint.time / TWO_POW_32));
  setU32(OLDEST_COMMIT_TS_XID, checkpoint.oldestCommitTsXid);
  setU32(NEWEST_COMMIT_TS_XID, checkpoint.newestCommitTsXid);
  setU32(OLDEST_ACTIVE_XID, checkpoint.oldestActiveXid);
}
