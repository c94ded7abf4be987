/** Tracks what the next checkpoint of a timeline would contain. */
import { type CheckPoint, encodeCheckpoint, parseCheckpoint } from "../../postgres/cluster/checkpoint.ts";
import {
  FIRST_MULTIXACT_ID,
  FIRST_NORMAL_XID,
  multiXactIdPrecedes,
  transactionIdPrecedes,
} from "../../postgres/cluster/slru.ts";
import { CHECKPOINT_KEY } from "./keys.ts";
import type { SingleValues } from "./single_values.ts";

/**
 * The next transaction id is stored rounded up to a multiple of this, so that it changes only once
 * per that many transactions, and with RUNNING_XACTS. A compute that starts there skips the ids in
 * between, none of which was ever used. The number divides the 32768 transactions of a pg_xact
 * page, so the page of the next id exists or is about to be created.
 */
const XID_GRANULARITY = 1024;

const TWO_POW_32 = 0x1_0000_0000;

/**
 * What the next checkpoint would contain: the counters and horizons that a compute needs to start
 * at the end of the timeline. They are kept up to date from the WAL, as recovery does it. Every
 * change becomes a version of {@link CHECKPOINT_KEY}.
 */
export class CheckpointTracker {
  readonly #values: SingleValues;
  readonly #state: CheckPoint;
  #dirty = false;
  /**
   * The low half of nextXid as a signed integer. A record's xid is compared with it modulo 2^32.
   */
  #nextXidLow: number;

  constructor(values: SingleValues, state: CheckPoint) {
    this.#values = values;
    this.#state = state;
    this.#nextXidLow = state.nextXid | 0;
  }

  /** Continues from what is stored at `lsn`. Returns null when nothing is. */
  static load(values: SingleValues, lsn: number): CheckpointTracker | null {
    const bytes = values.get(CHECKPOINT_KEY, lsn);
    return bytes === null ? null : new CheckpointTracker(values, parseCheckpoint(bytes, 0));
  }

  get state(): Readonly<CheckPoint> {
    return this.#state;
  }

  /** Returns the state in its stored form. */
  encode(): Uint8Array {
    return encodeCheckpoint(this.#state);
  }

  /** Notes that the current state has been stored. */
  noteSaved(): void {
    this.#dirty = false;
  }

  /** Stores the state as of `lsn` if it has changed. Call this after each record. */
  save(lsn: number): void {
    if (!this.#dirty) return;
    this.#dirty = false;
    this.#values.put(CHECKPOINT_KEY, lsn, encodeCheckpoint(this.#state));
  }

  /** AdvanceNextFullTransactionIdPastXid. Hot: called for every record. */
  noteXid(xid: number): void {
    if (((xid | 0) - this.#nextXidLow | 0) >= 0 && xid >= FIRST_NORMAL_XID) this.#advancePast(xid);
  }

  #advancePast(xid: number): void {
    const next = this.#state.nextXid;
    const epoch = Math.floor(next / TWO_POW_32);
    // An id that follows the next one but is smaller has wrapped around.
    const full = xid >= next >>> 0 ? epoch * TWO_POW_32 + xid : (epoch + 1) * TWO_POW_32 + xid;
    let rounded = Math.ceil((full + 1) / XID_GRANULARITY) * XID_GRANULARITY;
    if (rounded % TWO_POW_32 < FIRST_NORMAL_XID) rounded += FIRST_NORMAL_XID;
    this.#set("nextXid", rounded);
    this.#nextXidLow = rounded | 0;
  }

  /**
   * Applies RUNNING_XACTS: the stored id, which was rounded up, becomes the exact one until the
   * next transaction. LogStandbySnapshot holds XidGenLock until it has logged the record, so no id
   * from `nextXid` on is in any record before it.
   *
   * @param nextXid the low half
   */
  noteRunning(nextXid: number): void {
    const ahead = this.#nextXidLow - (nextXid | 0) | 0;
    if (ahead <= 0 || ahead >= XID_GRANULARITY || nextXid < FIRST_NORMAL_XID) return;
    this.#set("nextXid", this.#state.nextXid - ahead);
    this.#nextXidLow = this.#state.nextXid | 0;
  }

  /** Applies XLOG_NEXTOID. */
  setNextOid(oid: number): void {
    this.#set("nextOid", oid);
  }

  /** MultiXactAdvanceNextMXact. Ids and member offsets compare modulo 2^32. */
  noteMultiXact(multi: number, offset: number, members: number): void {
    let next = (multi + 1) >>> 0;
    if (next < FIRST_MULTIXACT_ID) next = FIRST_MULTIXACT_ID;
    if (multiXactIdPrecedes(this.#state.nextMulti, next)) this.#set("nextMulti", next);
    const nextOffset = (offset + members) >>> 0;
    if (multiXactIdPrecedes(this.#state.nextMultiOffset, nextOffset)) {
      this.#set("nextMultiOffset", nextOffset);
    }
  }

  setOldestMulti(multi: number, db: number): void {
    if (!multiXactIdPrecedes(this.#state.oldestMulti, multi)) return;
    this.#set("oldestMulti", multi);
    this.#set("oldestMultiDB", db);
  }

  setOldestXid(xid: number, db: number): void {
    if (!transactionIdPrecedes(this.#state.oldestXid, xid)) return;
    this.#set("oldestXid", xid);
    this.#set("oldestXidDB", db);
  }

  /**
   * Notes that a commit timestamp exists for `xid`. Extends the range of such ids, from the oldest
   * to the newest.
   */
  noteCommitTs(xid: number): void {
    if (this.#state.oldestCommitTsXid === 0) {
      this.#set("oldestCommitTsXid", xid);
      this.#set("newestCommitTsXid", xid);
    } else if (transactionIdPrecedes(this.#state.newestCommitTsXid, xid)) {
      this.#set("newestCommitTsXid", xid);
    }
  }

  setOldestCommitTs(xid: number): void {
    if (transactionIdPrecedes(this.#state.oldestCommitTsXid, xid)) this.#set("oldestCommitTsXid", xid);
  }

  /** Notes that commit timestamps were switched off, so that none are left. */
  forgetCommitTs(): void {
    this.#set("oldestCommitTsXid", 0);
    this.#set("newestCommitTsXid", 0);
  }

  /**
   * Applies a checkpoint record. An online checkpoint's counters and horizons date from its
   * beginning. What was seen since may be ahead of them, and nothing moves backwards.
   */
  noteCheckpoint(record: CheckPoint, shutdown: boolean): void {
    const nextXid = shutdown ? record.nextXid : Math.max(record.nextXid, this.#state.nextXid);
    for (const field of TAKEN_FROM_CHECKPOINT) this.#set(field, record[field]);
    if (shutdown) {
      for (const field of TAKEN_FROM_SHUTDOWN_CHECKPOINT) this.#set(field, record[field]);
    } else {
      this.noteMultiXact(record.nextMulti - 1, record.nextMultiOffset, 0);
      this.setOldestMulti(record.oldestMulti, record.oldestMultiDB);
      this.setOldestXid(record.oldestXid, record.oldestXidDB);
    }
    this.#set("nextXid", nextXid);
    this.#nextXidLow = nextXid | 0;
  }

  /** Notes that the WAL goes on on another of PostgreSQL's timelines. */
  setTimeline(tli: number): void {
    this.#set("ThisTimeLineID", tli);
    this.#set("PrevTimeLineID", tli);
  }

  #set<Field extends keyof CheckPoint>(field: Field, value: CheckPoint[Field]): void {
    if (this.#state[field] === value) return;
    this.#state[field] = value;
    this.#dirty = true;
  }
}

/**
 * Not the timeline: WAL that another cluster wrote becomes WAL of timeline 1. The WAL of computes
 * goes over to another timeline by a record of its own.
 */
const TAKEN_FROM_CHECKPOINT = [
  "redo",
  "fullPageWrites",
  "wal_level",
  "time",
] as const;

const TAKEN_FROM_SHUTDOWN_CHECKPOINT = [
  "nextOid",
  "nextMulti",
  "nextMultiOffset",
  "oldestXid",
  "oldestXidDB",
  "oldestMulti",
  "oldestMultiDB",
  "oldestCommitTsXid",
  "newestCommitTsXid",
] as const;
