/**
 * Transaction records: what a commit, an abort and a prepared transaction contain.
 *
 * Layout: src/include/access/xact.h; src/backend/access/rmgrdesc/xactdesc.c.
 */
import { crc32c } from "../../common/crc32c.ts";
import type { RelFileNode } from "../cluster/rel_file_node.ts";
import type { WalFormat } from "./wal_format.ts";
import { WalError } from "./error.ts";
import { MainData } from "./main_data.ts";
import type { WalRecord } from "./record.ts";

// Record types: xl_info & XLOG_XACT_OPMASK (rmgr.ts).
export const XLOG_XACT_COMMIT = 0x00;
export const XLOG_XACT_PREPARE = 0x10;
export const XLOG_XACT_ABORT = 0x20;
export const XLOG_XACT_COMMIT_PREPARED = 0x30;
export const XLOG_XACT_ABORT_PREPARED = 0x40;
export const XLOG_XACT_ASSIGNMENT = 0x50;
export const XLOG_XACT_INVALIDATIONS = 0x60;

/** In xl_info: the main data has an xinfo. */
export const XLOG_XACT_HAS_INFO = 0x80;

export const XACT_XINFO_HAS_DBINFO = 1 << 0;
export const XACT_XINFO_HAS_SUBXACTS = 1 << 1;
export const XACT_XINFO_HAS_RELFILENODES = 1 << 2;
export const XACT_XINFO_HAS_INVALS = 1 << 3;
export const XACT_XINFO_HAS_TWOPHASE = 1 << 4;
export const XACT_XINFO_HAS_ORIGIN = 1 << 5;
export const XACT_XINFO_HAS_AE_LOCKS = 1 << 6;
export const XACT_XINFO_HAS_GID = 1 << 7;
export const XACT_XINFO_HAS_DROPPED_STATS = 1 << 8;
export const XACT_COMPLETION_APPLY_FEEDBACK = 1 << 29;
export const XACT_COMPLETION_UPDATE_RELCACHE_FILE = 1 << 30;
export const XACT_COMPLETION_FORCE_SYNC_COMMIT = 1 << 31;

/** GIDSIZE: a global transaction id with its ending zero. */
const GID_SIZE = 200;
/** sizeof(SharedInvalidationMessage). */
const INVALIDATION_SIZE = 16;
const RELFILENODE_SIZE = 12;
const XID_SIZE = 4;

const CRC_SIZE = 4;
/** Hex digits of a TransactionId. */
const XID_DIGITS = 8;
const TWO_POW_32 = 0x1_0000_0000;
/** sizeof(xl_xact_stats_item) with an Oid as the object's id. */
export const STATS_ITEM_WITH_OID = 12;
/** The same with 64 bits. */
export const STATS_ITEM_WITH_OBJID = 16;

/** A statistics entry that is dropped at the end of the transaction. */
export interface StatsItem {
  kind: number;
  dboid: number;
  /** An Oid; from PostgreSQL 18 on any 64-bit value. */
  objid: bigint;
}

/** The end of a transaction, by commit or abort. */
export interface XactEnd {
  /** TimestampTz: microseconds since 2000-01-01. */
  xact_time: number;
  /** XACT_XINFO_* bits, unsigned; 0 when the record has none. */
  xinfo: number;
  /**
   * The transaction that ended: the record's xid, or the prepared transaction's for the _PREPARED
   * types, whose own xid is 0.
   */
  xid: number;
  /** 0 when the record doesn't say. */
  dbId: number;
  tsId: number;
  subxacts: readonly number[];
  /** Relations whose files are removed. */
  xnodes: readonly RelFileNode[];
  stats: readonly StatsItem[];
  /** Cache invalidation messages, commits only. */
  nmsgs: number;
  /** 0 unless a prepared transaction has ended. */
  twophase_xid: number;
  twophase_gid: string;
  /** The position at replication origin `rec.originId`; 0n when the record has none. */
  origin_lsn: bigint;
  origin_timestamp: number;
}

const NO_XIDS: readonly number[] = [];
const NO_RELS: readonly RelFileNode[] = [];
const NO_STATS: readonly StatsItem[] = [];

/**
 * The main data of a COMMIT or COMMIT_PREPARED record (ParseCommitRecord).
 *
 * @throws {WalError} when the record is too short for what it announces
 */
export function parseCommit(rec: WalRecord, pg: WalFormat): XactEnd {
  return parseXactEnd(rec, pg, true);
}

/**
 * The main data of an ABORT or ABORT_PREPARED record (ParseAbortRecord).
 *
 * @throws {WalError} when the record is too short for what it announces
 */
export function parseAbort(rec: WalRecord, pg: WalFormat): XactEnd {
  return parseXactEnd(rec, pg, false);
}

function parseXactEnd(rec: WalRecord, pg: WalFormat, isCommit: boolean): XactEnd {
  const data = new MainData(rec);
  const end: XactEnd = {
    xact_time: data.i64(),
    xinfo: 0,
    xid: rec.xl_xid,
    dbId: 0,
    tsId: 0,
    subxacts: NO_XIDS,
    xnodes: NO_RELS,
    stats: NO_STATS,
    nmsgs: 0,
    twophase_xid: 0,
    twophase_gid: "",
    origin_lsn: 0n,
    origin_timestamp: 0,
  };
  if ((rec.xl_info & XLOG_XACT_HAS_INFO) === 0) return end;
  const xinfo = data.u32();
  if ((xinfo & ~pg.xinfoBits) !== 0) {
    throw new WalError(
      rec.lsn,
      `xinfo 0x${xinfo.toString(16)} has bits that PostgreSQL ${pg.major} does not know`,
    );
  }
  end.xinfo = xinfo;
  if ((xinfo & XACT_XINFO_HAS_DBINFO) !== 0) {
    end.dbId = data.u32();
    end.tsId = data.u32();
  }
  if ((xinfo & XACT_XINFO_HAS_SUBXACTS) !== 0) end.subxacts = data.u32s(data.count(XID_SIZE));
  if ((xinfo & XACT_XINFO_HAS_RELFILENODES) !== 0) {
    end.xnodes = data.relFileNodes(data.count(RELFILENODE_SIZE));
  }
  if ((xinfo & XACT_XINFO_HAS_DROPPED_STATS) !== 0) {
    end.stats = statsItems(data, data.count(pg.statsItemBytes), pg.statsItemBytes);
  }
  if (isCommit && (xinfo & XACT_XINFO_HAS_INVALS) !== 0) {
    end.nmsgs = data.count(INVALIDATION_SIZE);
    data.skip(end.nmsgs * INVALIDATION_SIZE);
  }
  if ((xinfo & XACT_XINFO_HAS_TWOPHASE) !== 0) {
    end.twophase_xid = data.u32();
    end.xid = end.twophase_xid;
    if ((xinfo & XACT_XINFO_HAS_GID) !== 0) end.twophase_gid = data.cString(GID_SIZE);
  }
  // From here on nothing is aligned.
  if ((xinfo & XACT_XINFO_HAS_ORIGIN) !== 0) {
    end.origin_lsn = data.u64();
    end.origin_timestamp = data.i64();
  }
  return end;
}

/**
 * The name of the file in `pg_twophase` that holds a prepared transaction's state.
 *
 * @param nextXid the next transaction's full xid, which gives the epoch of `xid`, which is below it
 */
export function twophaseFileName(pg: WalFormat, xid: number, nextXid: number): string {
  return twophaseNumber(pg, xid, nextXid).toString(16).toUpperCase().padStart(pg.twophaseNameDigits, "0");
}

/**
 * The xid, or the full one (AdjustToFullTransactionId in src/backend/access/transam/twophase.c).
 */
function twophaseNumber(pg: WalFormat, xid: number, nextXid: number): number {
  if (pg.twophaseNameDigits === XID_DIGITS) return xid;
  const epoch = Math.floor(nextXid / TWO_POW_32);
  // An xid above the low half of the next xid is from before the wraparound.
  return (xid > nextXid % TWO_POW_32 ? epoch - 1 : epoch) * TWO_POW_32 + xid;
}

/**
 * The content of that file: the main data of its PREPARE record, and the CRC-32C of that
 * (RecreateTwoPhaseFile).
 */
export function twophaseFileContent(rec: WalRecord): Uint8Array {
  const content = new Uint8Array(rec.mainLen + CRC_SIZE);
  content.set(rec.bytes.subarray(rec.mainOff, rec.mainOff + rec.mainLen));
  new DataView(content.buffer).setUint32(rec.mainLen, crc32c(content, 0, rec.mainLen), true);
  return content;
}

function statsItems(data: MainData, count: number, itemBytes: number): StatsItem[] {
  const items: StatsItem[] = [];
  for (let i = 0; i < count; i++) {
    const kind = data.i32();
    const dboid = data.u32();
    const objid = itemBytes === STATS_ITEM_WITH_OBJID ? data.u64() : BigInt(data.u32());
    items.push({ kind, dboid, objid });
  }
  return items;
}
