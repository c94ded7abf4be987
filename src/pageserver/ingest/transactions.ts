/** Ingests WAL records about transactions. */
import {
  commitTsEntry,
  FIRST_MULTIXACT_ID,
  FIRST_NORMAL_XID,
  multixactMemberFlags,
  multixactMemberXid,
  multixactOffsetEntry,
  multixactOffsetsCutoffPage,
  SLRU_CLOG,
  SLRU_COMMIT_TS,
  SLRU_MULTIXACT_MEMBERS,
  SLRU_MULTIXACT_OFFSETS,
  slruMayDeleteSegment,
  slruPage,
  TRANSACTION_STATUS_ABORTED,
  TRANSACTION_STATUS_COMMITTED,
  truncatedMemberSegments,
} from "../../postgres/cluster/slru.ts";
import type { PgVersion } from "../../postgres/versions/pg_version.ts";
import { type WalRecord, XLR_RMGR_INFO_MASK } from "../../postgres/wal/record.ts";
import {
  CLOG_TRUNCATE,
  CLOG_ZEROPAGE,
  parseClogTruncate,
  parseClogZeroPage,
} from "../../postgres/wal/records/clog.ts";
import {
  COMMIT_TS_TRUNCATE,
  COMMIT_TS_ZEROPAGE,
  parseCommitTsTruncate,
  parseCommitTsZeroPage,
} from "../../postgres/wal/records/commit_ts.ts";
import {
  type MultixactCreate,
  type MultixactTruncate,
  parseMultixactCreate,
  parseMultixactTruncate,
  parseMultixactZeroPage,
  XLOG_MULTIXACT_CREATE_ID,
  XLOG_MULTIXACT_TRUNCATE_ID,
  XLOG_MULTIXACT_ZERO_MEM_PAGE,
  XLOG_MULTIXACT_ZERO_OFF_PAGE,
} from "../../postgres/wal/records/multixact.ts";
import {
  parseReploriginDrop,
  parseReploriginSet,
  XLOG_REPLORIGIN_DROP,
  XLOG_REPLORIGIN_SET,
} from "../../postgres/wal/records/replorigin.ts";
import {
  RM_CLOG_ID,
  RM_COMMIT_TS_ID,
  RM_MULTIXACT_ID,
  RM_REPLORIGIN_ID,
  RM_XACT_ID,
  XLOG_XACT_OPMASK,
} from "../../postgres/wal/rmgr.ts";
import {
  parseAbort,
  parseCommit,
  twophaseFileContent,
  XACT_XINFO_HAS_ORIGIN,
  type XactEnd,
  XLOG_XACT_ABORT,
  XLOG_XACT_ABORT_PREPARED,
  XLOG_XACT_COMMIT,
  XLOG_XACT_COMMIT_PREPARED,
  XLOG_XACT_PREPARE,
} from "../../postgres/wal/xact.ts";
import type { CheckpointTracker } from "../content/checkpoint_tracker.ts";
import type { CommitTimes } from "../content/commit_times.ts";
import type { IngestParts } from "./parts.ts";
import { reploriginKey, twophaseKey } from "../content/keys.ts";
import type { RelationForks } from "../content/relation_forks.ts";
import type { SingleValues } from "../content/single_values.ts";
import { type SlruPages, SlruPatch } from "../content/slru_pages.ts";

const NO_PAGE = -1;

/**
 * Ingests what transactions change besides relation blocks: transaction status, commit timestamps,
 * multixacts, prepared transactions, dropped files, and the progress of replication origins.
 */
export class TransactionIngest {
  readonly #pg: PgVersion;
  readonly #slru: SlruPages;
  readonly #values: SingleValues;
  readonly #forks: RelationForks;
  readonly #checkpoint: CheckpointTracker;
  readonly #commitTimes: CommitTimes;
  readonly #patch = new SlruPatch();
  /**
   * The pg_multixact/offsets page that was created early, for the id after the last one. The page's
   * own ZERO_OFF_PAGE record must not clear it.
   */
  #preInitializedOffsetsPage = NO_PAGE;

  constructor(parts: IngestParts) {
    this.#pg = parts.pg;
    this.#slru = parts.slru;
    this.#values = parts.values;
    this.#forks = parts.forks;
    this.#checkpoint = parts.checkpoint;
    this.#commitTimes = parts.commitTimes;
  }

  /**
   * Ingests `rec`, a record of the resource manager Transaction, CLOG, MultiXact, CommitTs or
   * ReplicationOrigin.
   */
  apply(rec: WalRecord): void {
    switch (rec.xl_rmid) {
      case RM_XACT_ID:
        this.#applyXact(rec);
        break;
      case RM_CLOG_ID:
        this.#applyClog(rec);
        break;
      case RM_MULTIXACT_ID:
        this.#applyMultiXact(rec);
        break;
      case RM_COMMIT_TS_ID:
        this.#applyCommitTs(rec);
        break;
      case RM_REPLORIGIN_ID:
        this.#applyReplOrigin(rec);
        break;
    }
  }

  #applyXact(rec: WalRecord): void {
    switch (rec.xl_info & XLOG_XACT_OPMASK) {
      case XLOG_XACT_COMMIT:
      case XLOG_XACT_COMMIT_PREPARED: {
        const commit = parseCommit(rec, this.#pg);
        this.#finish(commit, TRANSACTION_STATUS_COMMITTED, rec);
        this.#commitTimes.note(commit.xact_time, rec.endLsn);
        const hasOrigin = (commit.xinfo & XACT_XINFO_HAS_ORIGIN) !== 0;
        this.#recordCommitTs(commit, hasOrigin ? commit.origin_timestamp : commit.xact_time, rec);
        break;
      }
      case XLOG_XACT_ABORT:
      case XLOG_XACT_ABORT_PREPARED:
        this.#finish(parseAbort(rec, this.#pg), TRANSACTION_STATUS_ABORTED, rec);
        break;
      case XLOG_XACT_PREPARE:
        this.#values.put(twophaseKey(rec.xl_xid), rec.endLsn, twophaseFileContent(rec));
        break;
    }
  }

  #finish(end: XactEnd, status: number, rec: WalRecord): void {
    this.#setStatus(end.xid, end.subxacts, status, rec.endLsn);
    for (const { spcNode, dbNode, relNode } of end.xnodes) {
      this.#forks.dropRelation(spcNode, dbNode, relNode, rec.endLsn);
    }
    if (end.twophase_xid !== 0) this.#values.remove(twophaseKey(end.twophase_xid), rec.endLsn);
    if ((end.xinfo & XACT_XINFO_HAS_ORIGIN) !== 0) {
      this.#advanceOrigin(rec.originId, end.origin_lsn, rec.endLsn);
    }
  }

  /** Sets the status of a transaction and its subtransactions, one page of pg_xact at a time. */
  #setStatus(xid: number, subxacts: readonly number[], status: number, lsn: number): void {
    if (xid < FIRST_NORMAL_XID) return;
    this.#checkpoint.noteXid(xid);
    let page = slruPage(SLRU_CLOG, xid);
    let group = [xid];
    for (const subxact of subxacts) {
      this.#checkpoint.noteXid(subxact);
      const subxactPage = slruPage(SLRU_CLOG, subxact);
      if (subxactPage !== page) {
        this.#slru.setXactStatus(SLRU_CLOG, page, lsn, status, group);
        page = subxactPage;
        group = [];
      }
      group.push(subxact);
    }
    this.#slru.setXactStatus(SLRU_CLOG, page, lsn, status, group);
  }

  #advanceOrigin(origin: number, remoteLsn: bigint, lsn: number): void {
    const value = new Uint8Array(8);
    new DataView(value.buffer).setBigUint64(0, remoteLsn, true);
    this.#values.put(reploriginKey(origin), lsn, value);
  }

  #applyClog(rec: WalRecord): void {
    switch (rec.xl_info & XLR_RMGR_INFO_MASK) {
      case CLOG_ZEROPAGE:
        this.#slru.zeroPage(SLRU_CLOG, parseClogZeroPage(rec, this.#pg), rec.endLsn);
        break;
      case CLOG_TRUNCATE: {
        const { pageno, oldestXact, oldestXactDb } = parseClogTruncate(rec, this.#pg);
        this.#checkpoint.setOldestXid(oldestXact, oldestXactDb);
        this.#truncateBefore(SLRU_CLOG, pageno, rec.endLsn);
        break;
      }
    }
  }

  /** SimpleLruTruncate: removes the segments that lie wholly before page `cutoff`. */
  #truncateBefore(slru: number, cutoff: number, lsn: number): void {
    for (const { segment } of this.#slru.segments(slru, lsn)) {
      if (slruMayDeleteSegment(slru, segment, cutoff)) this.#slru.removeSegment(slru, segment, lsn);
    }
  }

  #applyMultiXact(rec: WalRecord): void {
    const lsn = rec.endLsn;
    switch (rec.xl_info & XLR_RMGR_INFO_MASK) {
      case XLOG_MULTIXACT_ZERO_OFF_PAGE: {
        const page = parseMultixactZeroPage(rec, this.#pg);
        if (page !== this.#preInitializedOffsetsPage) this.#slru.zeroPage(SLRU_MULTIXACT_OFFSETS, page, lsn);
        this.#preInitializedOffsetsPage = NO_PAGE;
        break;
      }
      case XLOG_MULTIXACT_ZERO_MEM_PAGE:
        this.#slru.zeroPage(SLRU_MULTIXACT_MEMBERS, parseMultixactZeroPage(rec, this.#pg), lsn);
        break;
      case XLOG_MULTIXACT_CREATE_ID:
        this.#createMultiXact(parseMultixactCreate(rec), lsn);
        break;
      case XLOG_MULTIXACT_TRUNCATE_ID:
        this.#truncateMultiXact(parseMultixactTruncate(rec), lsn);
        break;
    }
  }

  /**
   * RecordNewMultiXact: stores where the multixact's members start, where the next id's members
   * will start, and the members themselves.
   */
  #createMultiXact(create: MultixactCreate, lsn: number): void {
    const { mid, moff, members } = create;
    const next = Math.max((mid + 1) >>> 0, FIRST_MULTIXACT_ID);
    const page = slruPage(SLRU_MULTIXACT_OFFSETS, mid);
    const nextPage = slruPage(SLRU_MULTIXACT_OFFSETS, next);
    // Before 15.15, Postgres created the next page only when it reached that page.
    if (nextPage !== page && !this.#slru.exists(SLRU_MULTIXACT_OFFSETS, nextPage, lsn)) {
      this.#slru.zeroPage(SLRU_MULTIXACT_OFFSETS, nextPage, lsn);
      this.#preInitializedOffsetsPage = nextPage;
    }
    this.#setOffset(mid, moff, lsn);
    // Offset 0 means "not set yet", so no multixact starts there.
    this.#setOffset(next, Math.max((moff + members.length) >>> 0, 1), lsn);

    const patch = this.#patch;
    patch.clear();
    let memberPage = NO_PAGE;
    members.forEach((member, i) => {
      const offset = (moff + i) >>> 0;
      const pageOfMember = slruPage(SLRU_MULTIXACT_MEMBERS, offset);
      if (pageOfMember !== memberPage && memberPage !== NO_PAGE) {
        this.#slru.patch(SLRU_MULTIXACT_MEMBERS, memberPage, lsn, patch);
        patch.clear();
      }
      memberPage = pageOfMember;
      patch.u8(multixactMemberFlags(offset), member.status);
      patch.u32(multixactMemberXid(offset), member.xid);
      this.#checkpoint.noteXid(member.xid);
    });
    if (memberPage !== NO_PAGE) this.#slru.patch(SLRU_MULTIXACT_MEMBERS, memberPage, lsn, patch);
    this.#checkpoint.noteMultiXact(mid, moff, members.length);
  }

  #setOffset(multi: number, offset: number, lsn: number): void {
    this.#patch.clear();
    this.#patch.u32(multixactOffsetEntry(multi), offset);
    this.#slru.patch(SLRU_MULTIXACT_OFFSETS, slruPage(SLRU_MULTIXACT_OFFSETS, multi), lsn, this.#patch);
  }

  /** PerformMembersTruncation and PerformOffsetsTruncation. */
  #truncateMultiXact(truncate: MultixactTruncate, lsn: number): void {
    const { oldestMultiDB, endTruncOff, startTruncMemb, endTruncMemb } = truncate;
    this.#checkpoint.setOldestMulti(endTruncOff, oldestMultiDB);

    for (const segment of truncatedMemberSegments(startTruncMemb, endTruncMemb)) {
      this.#slru.removeSegment(SLRU_MULTIXACT_MEMBERS, segment, lsn);
    }
    this.#truncateBefore(SLRU_MULTIXACT_OFFSETS, multixactOffsetsCutoffPage(endTruncOff), lsn);
  }

  #applyCommitTs(rec: WalRecord): void {
    switch (rec.xl_info & XLR_RMGR_INFO_MASK) {
      case COMMIT_TS_ZEROPAGE:
        this.#slru.zeroPage(SLRU_COMMIT_TS, parseCommitTsZeroPage(rec, this.#pg), rec.endLsn);
        break;
      case COMMIT_TS_TRUNCATE: {
        const { pageno, oldestXid } = parseCommitTsTruncate(rec, this.#pg);
        this.#checkpoint.setOldestCommitTs(oldestXid);
        this.#truncateBefore(SLRU_COMMIT_TS, pageno, rec.endLsn);
        break;
      }
    }
  }

  /**
   * Handles track_commit_timestamp being switched on or off. When it is switched on, Postgres
   * creates the first page without logging it.
   */
  setCommitTsTracking(on: boolean, lsn: number): void {
    const active = this.#checkpoint.state.oldestCommitTsXid !== 0;
    if (on) {
      const nextXid = this.#checkpoint.state.nextXid >>> 0;
      const page = slruPage(SLRU_COMMIT_TS, nextXid);
      if (!this.#slru.exists(SLRU_COMMIT_TS, page, lsn)) this.#slru.zeroPage(SLRU_COMMIT_TS, page, lsn);
      if (!active) this.#checkpoint.noteCommitTs(nextXid);
    } else if (active) {
      for (const { segment } of this.#slru.segments(SLRU_COMMIT_TS, lsn)) {
        this.#slru.removeSegment(SLRU_COMMIT_TS, segment, lsn);
      }
      this.#checkpoint.forgetCommitTs();
    }
  }

  #recordCommitTs(commit: XactEnd, time: number, rec: WalRecord): void {
    const { xid, subxacts } = commit;
    if (this.#checkpoint.state.oldestCommitTsXid === 0 || xid < FIRST_NORMAL_XID) return;
    this.#setCommitTs(xid, time, rec);
    for (const subxact of subxacts) this.#setCommitTs(subxact, time, rec);
    this.#checkpoint.noteCommitTs(subxacts.at(-1) ?? xid);
  }

  /** CommitTimestampEntry: the time, then the replication origin, unaligned. */
  #setCommitTs(xid: number, time: number, rec: WalRecord): void {
    const at = commitTsEntry(xid);
    this.#patch.clear();
    this.#patch.i64(at, time);
    this.#patch.u16(at + 8, rec.originId);
    this.#slru.patch(SLRU_COMMIT_TS, slruPage(SLRU_COMMIT_TS, xid), rec.endLsn, this.#patch);
  }

  #applyReplOrigin(rec: WalRecord): void {
    switch (rec.xl_info & XLR_RMGR_INFO_MASK) {
      case XLOG_REPLORIGIN_SET: {
        const { node_id, remote_lsn } = parseReploriginSet(rec);
        this.#advanceOrigin(node_id, remote_lsn, rec.endLsn);
        break;
      }
      case XLOG_REPLORIGIN_DROP:
        this.#values.remove(reploriginKey(parseReploriginDrop(rec)), rec.endLsn);
        break;
    }
  }
}
