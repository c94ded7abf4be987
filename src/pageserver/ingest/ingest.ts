/** Ingests WAL records: stores each record under the keys that it changes. */
import { assert } from "../../common/assert.ts";
import type { TimelineId } from "../../common/id.ts";
import type { Lsn } from "../../common/lsn.ts";
import type { TimelineStore } from "../../pagestore/mod.ts";
import { isInitialising } from "../../postgres/redo/reconstruct.ts";
import { movesLsnWithHints } from "../../postgres/redo/heap/heap2.ts";
import {
  VisibilityMapChanges,
  visibilityMapChanges,
} from "../../postgres/redo/heap/visibility_map_changes.ts";
import { encodeControlFile } from "../../postgres/control_file.ts";
import { FSM_FORKNUM, VISIBILITYMAP_FORKNUM } from "../../postgres/cluster/relfile.ts";
import { BKPBLOCK_FORK_MASK, type WalRecord, XLR_RMGR_INFO_MASK } from "../../postgres/wal/record.ts";
import {
  RM_CLOG_ID,
  RM_COMMIT_TS_ID,
  RM_DBASE_ID,
  RM_HEAP2_ID,
  RM_HEAP_ID,
  RM_MULTIXACT_ID,
  RM_RELMAP_ID,
  RM_REPLORIGIN_ID,
  RM_SMGR_ID,
  RM_STANDBY_ID,
  RM_TBLSPC_ID,
  RM_XACT_ID,
  RM_XLOG_ID,
} from "../../postgres/wal/rmgr.ts";
import {
  type ParameterChange,
  parseCheckpointRecord,
  parseNextOid,
  parseParameterChange,
  XLOG_CHECKPOINT_ONLINE,
  XLOG_CHECKPOINT_SHUTDOWN,
  XLOG_END_OF_RECOVERY,
  XLOG_NEXTOID,
  XLOG_PARAMETER_CHANGE,
} from "../../postgres/wal/records/xlog.ts";
import { parseTimelineSwitch } from "../../postgres/wal/timeline_switch.ts";
import { encodeTimelines, newestTli, type WalTimelines } from "../../postgres/wal/wal_timelines.ts";
import type { PgVersion } from "../../postgres/versions/pg_version.ts";
import { parseDbase } from "../../postgres/wal/records/dbase.ts";
import { parseRunningNextXid, XLOG_RUNNING_XACTS } from "../../postgres/wal/records/standby.ts";
import type { CheckpointTracker } from "../content/checkpoint_tracker.ts";
import type { CommitTimes } from "../content/commit_times.ts";
import { DatabaseCopies, type Preparation } from "./database_copy.ts";
import { FileIngest } from "./files.ts";
import type { IngestParts } from "./parts.ts";
import { TransactionIngest } from "./transactions.ts";
import { CONTROL_KEY, TAG_RECORD, TAG_RECORD_MOVING_LSN, WAL_TIMELINES_KEY } from "../content/keys.ts";
import type { RelationFork, RelationForks } from "../content/relation_forks.ts";
import type { SingleValues } from "../content/single_values.ts";

/**
 * Stores each WAL record under the keys that it changes. A record may change blocks that it refers
 * to, blocks that it doesn't mention (the visibility map), SLRU pages, or whole databases.
 *
 * Cost: one `put` per block reference. The record's bytes stay where the decoder put them.
 */
export class Ingest {
  readonly #store: TimelineStore;
  readonly #forks: RelationForks;
  readonly #values: SingleValues;
  readonly #checkpoint: CheckpointTracker;
  readonly #transactions: TransactionIngest;
  readonly #commitTimes: CommitTimes;
  readonly #files: FileIngest;
  readonly #copies: DatabaseCopies;
  readonly #pg: PgVersion;
  readonly #timelineId: TimelineId;
  readonly #walSegmentSize: number;
  #walTimelines: WalTimelines;
  readonly #checksums: boolean;
  /** XLogHintBitIsNeeded of the server that writes the WAL. */
  #logsHints: boolean;
  readonly #vm = new VisibilityMapChanges();

  constructor(parts: IngestParts) {
    this.#store = parts.store;
    this.#forks = parts.forks;
    this.#values = parts.values;
    this.#checkpoint = parts.checkpoint;
    this.#commitTimes = parts.commitTimes;
    this.#transactions = new TransactionIngest(parts);
    this.#files = new FileIngest(parts);
    this.#copies = new DatabaseCopies(parts);
    this.#pg = parts.pg;
    this.#timelineId = parts.timelineId;
    this.#walSegmentSize = parts.walSegmentSize;
    this.#walTimelines = parts.walTimelines;
    this.#checksums = parts.hints.data_checksum_version !== 0;
    this.#logsHints = this.#checksums || parts.hints.wal_log_hints;
  }

  /** The timelines of PostgreSQL that the WAL has run through so far. */
  get walTimelines(): WalTimelines {
    return this.#walTimelines;
  }

  /**
   * Returns how to prepare a record whose data may not fit in memory. The preparation reads what
   * the record needs and writes its data to files before anything is stored. The record is then
   * installed. {@link apply} ingests all other records.
   *
   * @returns null for a record that needs no preparation. Run the preparation once all earlier
   *   records are readable; the record's buffer may be reused by then
   */
  preparation(rec: WalRecord): Preparation | null {
    if (rec.xl_rmid !== RM_DBASE_ID) return null;
    const copy = parseDbase(rec, this.#pg);
    if (copy.kind !== "create_file_copy") return null;
    const record = { copy, lsn: rec.lsn as Lsn, endLsn: rec.endLsn as Lsn, xid: rec.xl_xid };
    return (signal) => this.#copies.prepare(record, signal);
  }

  /**
   * Ingests one record. Records must come in WAL order.
   *
   * @throws {AbsentBytes} when something has to be fetched for it. {@link takeBack} what is stored
   *   of it then, and apply it again
   */
  apply(rec: WalRecord): void {
    assert(rec.isWhole || rec.blockCount === 0, "what changes a page is kept whole");
    this.#checkpoint.noteXid(rec.xl_xid);
    if (rec.blockCount > 0) this.#applyBlocks(rec);
    switch (rec.xl_rmid) {
      case RM_HEAP_ID:
      case RM_HEAP2_ID:
        this.#applyVisibilityMap(rec);
        break;
      case RM_XACT_ID:
      case RM_CLOG_ID:
      case RM_MULTIXACT_ID:
      case RM_COMMIT_TS_ID:
      case RM_REPLORIGIN_ID:
        this.#transactions.apply(rec);
        break;
      case RM_SMGR_ID:
      case RM_DBASE_ID:
      case RM_TBLSPC_ID:
      case RM_RELMAP_ID:
        this.#files.apply(rec);
        break;
      case RM_XLOG_ID:
        this.#applyXlog(rec);
        break;
      case RM_STANDBY_ID:
        // One of many thousand transactions is not kept whole; it would only make an id exact.
        if (rec.isWhole && (rec.xl_info & XLR_RMGR_INFO_MASK) === XLOG_RUNNING_XACTS) {
          this.#checkpoint.noteRunning(parseRunningNextXid(rec));
        }
        break;
      default:
        // All other records change only the blocks that they refer to, or nothing that is stored
        // here.
        break;
    }
    this.#forks.save(rec.endLsn);
    this.#checkpoint.save(rec.endLsn);
    this.#store.noteRecord(rec.lsn as Lsn);
  }

  /** Takes back what {@link apply} has stored of the record after `end`, where it threw. */
  takeBack(end: Lsn): void {
    this.#store.takeBack(end);
    this.#forks.takeBack(end);
    this.#commitTimes.takeBack(end);
  }

  #applyBlocks(rec: WalRecord): void {
    for (let i = 0; i < rec.blockCount; i++) {
      if (rec.blockInUse[i] === 0) continue;
      const forkNumber = rec.blockFlags[i] & BKPBLOCK_FORK_MASK;
      // PostgreSQL doesn't WAL-log the free space map, except for stray images. Zenith rebuilds it
      // from the pages: docs/decisions.
      if (forkNumber === FSM_FORKNUM) continue;
      const fork = this.#forks.get(rec.spcNode[i], rec.dbNode[i], rec.relNode[i], forkNumber);
      const tag = this.#logsHints && movesLsnWithHints(rec, i) ? TAG_RECORD_MOVING_LSN : TAG_RECORD;
      this.#putRecord(fork, rec.blkno[i], rec, tag, isInitialising(rec, i));
    }
  }

  /** Heap records that clear bits in the visibility map don't refer to its blocks. */
  #applyVisibilityMap(rec: WalRecord): void {
    const vm = this.#vm;
    visibilityMapChanges(rec, vm);
    for (let i = 0; i < vm.count; i++) {
      const ref = vm.blockReference[i];
      const fork = this.#forks.get(
        rec.spcNode[ref],
        rec.dbNode[ref],
        rec.relNode[ref],
        VISIBILITYMAP_FORKNUM,
      );
      this.#putRecord(fork, vm.vmBlock[i], rec, TAG_RECORD, false);
    }
  }

  /**
   * Stores a record that changes this block. As in recovery, a block beyond the fork's end extends
   * the fork.
   */
  #putRecord(fork: RelationFork, blkno: number, rec: WalRecord, tag: number, willInit: boolean): void {
    this.#store.put(fork.slot, blkno, rec.endLsn, rec.bytes, rec.off, rec.xl_tot_len, tag, willInit);
    if (blkno >= fork.blocks) this.#forks.extend(fork, blkno + 1, rec.endLsn);
  }

  /**
   * Stores changed parameters. Postgres logs its parameters only when they differ from those in its
   * control file, so the next compute's control file must have them. Otherwise a change back to the
   * original values would go unnoticed.
   */
  #noteParameters(parameters: ParameterChange, lsn: number): void {
    // Read before anything is changed: it may have to be fetched, and the record applied again.
    const control = this.#values.get(CONTROL_KEY, lsn);
    this.#transactions.setCommitTsTracking(parameters.track_commit_timestamp, lsn);
    this.#logsHints = this.#checksums || parameters.wal_log_hints;
    assert(control !== null, "every timeline has the control file of its initdb");
    this.#values.put(CONTROL_KEY, lsn, encodeControlFile(control, parameters));
  }

  #applyXlog(rec: WalRecord): void {
    switch (rec.xl_info & XLR_RMGR_INFO_MASK) {
      case XLOG_CHECKPOINT_SHUTDOWN:
        this.#checkpoint.noteCheckpoint(parseCheckpointRecord(rec), true);
        break;
      case XLOG_CHECKPOINT_ONLINE:
        this.#checkpoint.noteCheckpoint(parseCheckpointRecord(rec), false);
        break;
      case XLOG_NEXTOID:
        this.#checkpoint.setNextOid(parseNextOid(rec));
        break;
      case XLOG_PARAMETER_CHANGE:
        this.#noteParameters(parseParameterChange(rec), rec.endLsn);
        break;
      case XLOG_END_OF_RECOVERY:
        this.#noteTimelines(rec);
        break;
      default:
        break;
    }
  }

  #noteTimelines(rec: WalRecord): void {
    const timelines = parseTimelineSwitch(rec, this.#timelineId, this.#walSegmentSize);
    if (timelines === null) return;
    this.#values.put(WAL_TIMELINES_KEY, rec.endLsn, encodeTimelines(timelines));
    this.#checkpoint.setTimeline(newestTli(timelines));
    this.#walTimelines = timelines;
  }
}
