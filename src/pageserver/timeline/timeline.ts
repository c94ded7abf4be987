/** Implements one timeline, which takes in WAL and answers reads at any LSN. */
import { assert } from "../../common/assert.ts";
import type { BufferPool } from "../../common/buffer_pool.ts";
import type { Disk } from "../../common/disk.ts";
import { nextTurn } from "../../common/event_loop.ts";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import type { TenantId, TimelineId } from "../../common/id.ts";
import type { Logger } from "../../process/log.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../../common/lsn.ts";
import { formatTimestamp } from "../../common/timestamp.ts";
import { AbsentBytes, type TimelineStore, whenPresent } from "../../pagestore/mod.ts";
import { parseControlFile } from "../../postgres/control_file.ts";
import { BLCKSZ } from "../../postgres/cluster/page_layout.ts";
import type { PgVersion } from "../../postgres/versions/pg_version.ts";
import { WalDecoder } from "../../postgres/wal/decoder.ts";
import { WalError } from "../../postgres/wal/error.ts";
import {
  endBeforeHeader,
  nextRecordLsn,
  pageHeaderSize,
  pageOffset,
} from "../../postgres/wal/page_header.ts";
import { endOfSwitch } from "../../postgres/wal/timeline_switch.ts";
import {
  decodeTimelines,
  FIRST_TIMELINE,
  timelinesBefore,
  type WalTimelines,
} from "../../postgres/wal/wal_timelines.ts";
import { WalRecord } from "../../postgres/wal/record.ts";
import { RM_LOGICALMSG_ID } from "../../postgres/wal/rmgr.ts";
import { findCutWal, keepCutWal } from "../../wal_store/cut_wal.ts";
import type { WalStore } from "../../wal_store/wal_store.ts";
import { Backpressure } from "./backpressure.ts";
import { CheckpointTracker } from "../content/checkpoint_tracker.ts";
import { CommitTimes, SET_BACK_MIN_US } from "../content/commit_times.ts";
import type { Preparation } from "../ingest/database_copy.ts";
import { Ingest } from "../ingest/ingest.ts";
import { CHECKPOINT_KEY, CONTROL_KEY, WAL_TIMELINES_KEY } from "../content/keys.ts";
import type { LayerRoom } from "./layer_room.ts";
import type { Leases } from "./leases.ts";
import type { TimelineSafekeepers } from "./safekeepers.ts";
import type { TimelineSettings } from "./settings.ts";
import type { TimelineSlots } from "./slots.ts";
import type { PageCache } from "../content/page_cache.ts";
import type { MountedBackup } from "./mounted_backup.ts";
import { PageReader } from "../content/page_reader.ts";
import { RelationForks } from "../content/relation_forks.ts";
import { type TimelineContent, TimelineView } from "../content/timeline_view.ts";
import { SingleValues } from "../content/single_values.ts";
import { SlruPages } from "../content/slru_pages.ts";
import type { UploadedLsn } from "./uploaded.ts";
import { LsnWaiters } from "./waiters.ts";

/**
 * A record boundary: where the next record starts or would start, and where the previous record
 * starts.
 */
export interface RecordBoundary {
  readonly lsn: Lsn;
  readonly prev: Lsn;
}

export interface TimelineParts {
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
  readonly ancestorId: TimelineId | null;
  /** Whether nothing before its beginning can be read by way of it. */
  readonly beginsMasked: boolean;
  /** The timeline to fall back to. It is held open as long as this one. */
  readonly ancestor: Timeline | null;
  readonly store: TimelineStore;
  /** The backup that it began with, while not all of it is copied. */
  readonly mount?: MountedBackup | null;
  readonly leases: Leases;
  readonly safekeepers: TimelineSafekeepers;
  readonly settings: TimelineSettings;
  readonly slots: TimelineSlots;
  readonly uploaded: UploadedLsn;
  readonly room: LayerRoom;
  /** Opens the timeline's own WAL store. */
  readonly openWal: (segmentSize: number) => Promise<WalStore>;
  /** Where damaged WAL is kept. */
  readonly disk: Disk;
  readonly pageCache: PageCache;
  /** The memory that holds WAL. */
  readonly walBuffers: BufferPool;
  readonly logger: Logger;
}

/** Replay reads WAL in pieces of this many bytes and yields the thread between them. */
const REPLAY_PIECE_BYTES = 256 << 10;

/**
 * One line of history: takes in WAL and answers reads at any of its LSNs. It has one writer (a WAL
 * receiver, or the replay at startup) and any number of readers.
 */
export class Timeline {
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
  /** The major version of the cluster. */
  readonly pg: PgVersion;
  readonly ancestorId: TimelineId | null;
  /** Whether nothing before its beginning can be read by way of it. */
  readonly beginsMasked: boolean;
  /**
   * The end of the mask that the timeline's history begins with: nothing below can be read by way
   * of it. 0 when it comes from no mask.
   */
  readonly maskedFrom: Lsn;
  readonly store: TimelineStore;
  /** The backup that it began with, copied or not. Null when it was copied before it was opened. */
  readonly mount: MountedBackup | null;
  readonly commitTimes: CommitTimes;
  readonly leases: Leases;
  readonly safekeepers: TimelineSafekeepers;
  readonly settings: TimelineSettings;
  readonly slots: TimelineSlots;
  readonly uploaded: UploadedLsn;
  readonly #room: LayerRoom;
  readonly backpressure: Backpressure;
  /** The cluster's system identifier, fixed by its initdb. */
  readonly systemIdentifier: bigint;
  readonly walSegmentSize: number;

  readonly #content: TimelineContent;
  readonly #logger: Logger;
  readonly #ingest: Ingest;
  readonly #walBuffers: BufferPool;
  readonly #disk: Disk;
  readonly #record = new WalRecord();
  readonly #waiters = new LsnWaiters();
  #decoder: WalDecoder;
  /**
   * Where the timeline ends while the decoder's last record is being prepared, and after that
   * record could not be ingested.
   */
  #before: { readonly end: Lsn; readonly position: Lsn; readonly lastStart: Lsn } | null = null;
  /** Settles when the record under preparation is installed or has failed. */
  #taking: Promise<void> | null = null;
  /** Aborted to leave the record under preparation to the next start. */
  readonly #closing = new AbortController();
  #wal: WalStore | null = null;
  /** From where on base backups need WAL. */
  readonly #walHolds = new Set<{ readonly lsn: Lsn }>();
  /**
   * Set when a record could not be ingested: the timeline ends before that record and takes no more
   * WAL.
   */
  #failure: ZenithError | null = null;
  /** Why the timeline can't be used any more. Set once. */
  #gone: Error | null = null;
  readonly #leaving = new AbortController();

  private constructor(parts: TimelineParts) {
    this.tenantId = parts.tenantId;
    this.timelineId = parts.timelineId;
    this.store = parts.store;
    this.mount = parts.mount ?? null;
    this.ancestorId = parts.ancestorId;
    this.leases = parts.leases;
    this.safekeepers = parts.safekeepers;
    this.settings = parts.settings;
    this.slots = parts.slots;
    this.uploaded = parts.uploaded;
    this.#room = parts.room;
    this.#logger = parts.logger;
    this.backpressure = new Backpressure(parts.logger, () => performance.now());
    this.#walBuffers = parts.walBuffers;
    this.#disk = parts.disk;
    this.commitTimes = new CommitTimes(parts.store);

    const { store, ancestor } = parts;
    this.beginsMasked = parts.beginsMasked;
    this.maskedFrom = parts.beginsMasked
      ? (store.ancestorLsn ?? store.startLsn) as Lsn
      : ancestor?.maskedFrom ?? INVALID_LSN;
    const end = store.lastLsn;
    const values = new SingleValues(store);
    const control = values.get(CONTROL_KEY, end);
    const checkpoint = CheckpointTracker.load(values, end);
    if (control === null || checkpoint === null) {
      throw new ZenithError(
        "corrupt_data",
        `timeline ${this.timelineId} of tenant ${this.tenantId} has no control file at ${formatLsn(end)}`,
      );
    }
    const fields = parseControlFile(control);
    const { pg, system_identifier, xlog_seg_size } = fields;
    this.pg = pg;
    this.systemIdentifier = system_identifier;
    this.walSegmentSize = xlog_seg_size;
    this.#content = {
      store,
      values,
      forks: new RelationForks(store),
      slru: new SlruPages(store),
      reader: new PageReader(pg, store, parts.pageCache, ancestor === null ? null : ancestor.#content.reader),
    };
    const timelines = values.get(WAL_TIMELINES_KEY, end);
    this.#ingest = new Ingest({
      pg,
      timelineId: this.timelineId,
      walSegmentSize: xlog_seg_size,
      walTimelines: timelines === null ? FIRST_TIMELINE : decodeTimelines(timelines),
      hints: fields,
      ...this.#content,
      checkpoint,
      commitTimes: this.commitTimes,
    });
    // The WAL store preallocates its files, so zeros follow the last write.
    this.#decoder = this.#newDecoder(nextRecordLsn(end, xlog_seg_size), this.#lastRecordStart(end), true);
  }

  /**
   * Opens the timeline and ingests the WAL that the store has beyond the layers.
   *
   * @param signal cancels the opening; the promise then rejects with the signal's reason
   */
  static async open(parts: TimelineParts, signal: AbortSignal): Promise<Timeline> {
    const timeline = await whenPresent(() => new Timeline(parts), signal);
    timeline.#wal = await parts.openWal(timeline.walSegmentSize);
    try {
      await timeline.#replay(signal);
    } catch (error) {
      await timeline.#wal.close();
      throw error;
    }
    return timeline;
  }

  /** The timeline's own WAL, starting no later than where its layers end. */
  get wal(): WalStore {
    assert(this.#wal !== null, "an open timeline has its WAL store");
    return this.#wal;
  }

  #newDecoder(startLsn: Lsn, prevLsn: Lsn, zerosAreEnd: boolean): WalDecoder {
    return new WalDecoder({
      pg: this.pg,
      startLsn,
      prevLsn,
      segmentSize: this.walSegmentSize,
      systemId: this.systemIdentifier,
      knownTypesOnly: true,
      zerosAreEnd,
      buffers: this.#walBuffers,
      passesOver: (rmid) => rmid === RM_LOGICALMSG_ID,
    });
  }

  /**
   * Returns the start of the last record that ends at or before `end`. `end` is the end of a
   * record.
   */
  #lastRecordStart(end: Lsn): Lsn {
    const position = nextRecordLsn(end, this.walSegmentSize);
    const boundary = this.store.recordBoundary(position);
    if (boundary === null) {
      throw new ZenithError(
        "corrupt_data",
        `timeline ${this.timelineId} knows no record before ${formatLsn(end)}`,
      );
    }
    // An ancestor may have continued with a record at exactly this position.
    return boundary.start === position ? boundary.prev : boundary.start;
  }

  async #replay(signal: AbortSignal): Promise<void> {
    const from = this.position;
    const piece = new Uint8Array(REPLAY_PIECE_BYTES);
    for (let at = from; at < this.wal.writtenLsn && !this.#decoder.ended;) {
      signal.throwIfAborted();
      const length = this.wal.read(at, piece, 0, piece.length);
      if (!await this.#replayPiece(at, piece.subarray(0, length))) break;
      at = (at + length) as Lsn;
      await this.store.ready();
      await nextTurn();
    }
    if (this.position > from) {
      this.#logger.info("replayed WAL", { from: formatLsn(from), to: formatLsn(this.position) });
    }
    if (this.#failure === null) await this.restartReceiving();
    // Keep the WAL: a later Zenith may know the record.
    else await this.wal.truncate(this.wal.writtenLsn);
  }

  /**
   * Keeps WAL that is cut off because of damage before it. It may be the only copy, because
   * safekeepers remove what is durable here.
   */
  async #keepWhatIsCut(): Promise<void> {
    const from = this.position;
    const to = await findCutWal(this.pg, this.wal, from);
    if (to === null) return;
    const { directory } = await keepCutWal(this.#disk, this.wal, from, to);
    this.#logger.error("damaged WAL is cut off, with whole records behind it", {
      from: formatLsn(from),
      to: formatLsn(to),
      kept: directory,
    });
  }

  /**
   * Replays one piece of WAL.
   *
   * @returns false when the WAL ends in this piece: the rest was incomplete when the server
   *   stopped, or is a record that can't be ingested. History before that record can be read
   */
  async #replayPiece(at: Lsn, bytes: Uint8Array): Promise<boolean> {
    try {
      await this.#take(at, bytes);
      return true;
    } catch (error) {
      if (error === this.#failure && this.#failure?.kind === "corrupt_data") {
        this.#logger.error("the timeline can be read and takes no more WAL", { error: this.#failure });
        return false;
      }
      if (!(error instanceof WalError)) throw error;
      this.#logger.info("WAL ends", { at: formatLsn(this.position), why: error.message });
      await this.#keepWhatIsCut();
      return false;
    }
  }

  /** The end of the last ingested record. */
  get lastRecordLsn(): Lsn {
    return this.#before?.end ?? this.#decoder.endLsn;
  }

  /**
   * Where the next record starts: the position to request from the WAL source, and where a compute
   * can start.
   */
  get position(): Lsn {
    return this.#before?.position ?? this.#decoder.position;
  }

  /**
   * Returns the timelines of PostgreSQL that the WAL before `lsn` has run through, on the way to
   * this timeline.
   */
  walTimelinesBefore(lsn: Lsn): WalTimelines {
    // A timeline that begins with a page begins before the page's header.
    return timelinesBefore(this.#ingest.walTimelines, endBeforeHeader(lsn, this.walSegmentSize));
  }

  /** Those up to its end. */
  get walTimelines(): WalTimelines {
    return this.walTimelinesBefore(this.position);
  }

  /**
   * Whether the timeline is a branch without any record of its own, except those that only go over
   * to another of PostgreSQL's timelines.
   */
  get untouched(): boolean {
    return this.store.ancestorLsn !== null && this.position <= this.#endOfSwitches;
  }

  /** Whether there is WAL that was written to this timeline itself. */
  get written(): boolean {
    return !this.wal.isFromStart || this.position > nextRecordLsn(this.wal.startLsn, this.walSegmentSize);
  }

  /** Where the timeline's own WAL ends if it has nothing but switches to others of PostgreSQL's. */
  get #endOfSwitches(): Lsn {
    let end = this.store.ancestorLsn as Lsn;
    this.#ingest.walTimelines.forEach((begin, i) => {
      if (begin === endBeforeHeader(end, this.walSegmentSize)) {
        end = endOfSwitch(begin, i + 1, this.walSegmentSize);
      }
    });
    return nextRecordLsn(end, this.walSegmentSize);
  }

  /** The start of the last ingested record. */
  get #lastStart(): Lsn {
    const start = this.#before?.lastStart ?? this.#decoder.lastRecordLsn;
    assert(start !== undefined, "a timeline's decoder knows where its last record started");
    return start;
  }

  /** The timeline as of `lsn`. @throws as {@link assertUnmasked} */
  at(lsn: Lsn): TimelineView {
    this.assertUnmasked(lsn);
    return new TimelineView(this.#content, lsn);
  }

  /** @throws {ZenithError} `out_of_range` for what was before the mask that it comes from */
  assertUnmasked(lsn: Lsn): void {
    if (lsn >= this.maskedFrom) return;
    throw new ZenithError(
      "out_of_range",
      `LSN ${formatLsn(lsn)} is before the mask that timeline ${this.timelineId} comes from: its history ` +
        `begins at ${formatLsn(this.maskedFrom)}`,
    );
  }

  /**
   * Prepares for a new WAL source. Discards the last source's partial record.
   *
   * @returns where the source must send from: {@link position}, or the start of its page if the
   *   last record ended at the page boundary and the page header has not arrived yet
   */
  async restartReceiving(): Promise<Lsn> {
    await this.#taking?.catch(() => {});
    if (this.#failure !== null) throw this.#failure;
    const position = this.position;
    const prev = this.#lastStart;
    const from = this.#endOfWal();
    await this.wal.truncate(from);
    this.#decoder = this.#newDecoder(position, prev, false);
    this.#before = null;
    return from;
  }

  /**
   * Returns where the WAL here ends: at {@link position}, or at the start of its page when the
   * page's header is not here. After a start the WAL store does not know that, because its files
   * are allocated whole. Without the header, a later start would find the WAL's end there.
   */
  #endOfWal(): Lsn {
    const { position, wal } = this;
    const page = (position - pageOffset(position)) as Lsn;
    const isBehindHeader = position === page + pageHeaderSize(page, this.walSegmentSize);
    if (!isBehindHeader || page < wal.startLsn || wal.writtenLsn <= page) {
      return Math.min(position, wal.writtenLsn) as Lsn;
    }
    const header = new Uint8Array(position - page);
    const length = wal.read(page, header, 0, header.length);
    return length === header.length && header.some((byte) => byte !== 0) ? position : page;
  }

  /**
   * Receives WAL that continues what came before, stores its records and makes them visible to
   * readers. It is not durable until {@link makeDurable} resolves. `bytes` may be reused at once.
   *
   * @returns a promise when a record needs preparation. Pass no more WAL before it resolves. It
   *   rejects with what this throws; the timeline then ends before that record, and continues after
   *   {@link restartReceiving}
   * @throws {ZenithError} `corrupt_data` when the WAL is not valid, or does not continue the last
   *   record
   */
  receive(at: Lsn, bytes: Uint8Array): Promise<void> | undefined {
    this.assertPresent();
    if (this.#failure !== null) throw this.#failure;
    assert(this.#before === null, "no WAL comes while a record is being prepared");
    this.wal.write(at, bytes, 0, bytes.length);
    return this.#take(at, bytes);
  }

  #take(at: Lsn, bytes: Uint8Array): Promise<void> | undefined {
    this.#decoder.feed(bytes, at);
    return this.#takeRecords();
  }

  /** Ingests the decoder's records: at once, or with a wait when one needs preparation. */
  #takeRecords(): Promise<void> | undefined {
    const decoder = this.#decoder;
    const record = this.#record;
    let end = this.lastRecordLsn;
    try {
      while (decoder.next(record)) {
        const prepare = this.#ingest.preparation(record);
        if (prepare !== null) return this.#takePrepared(record, end, prepare);
        const absent = this.#apply(record, end);
        if (absent !== null) return this.#takePrepared(record, end, this.#applyLater(record, end, absent));
        end = record.endLsn as Lsn;
      }
    } finally {
      // Records before an invalid one are valid.
      if (this.#failure === null) this.#advance(this.lastRecordLsn);
    }
    return undefined;
  }

  #advance(end: Lsn): void {
    if (end <= this.store.lastLsn) return;
    this.store.advance(end);
    // The position may lie after a page header. Whoever waits for it has everything before it.
    this.#waiters.reached(this.position);
  }

  /**
   * @param end the end of the previous record, where the timeline ends until this record is
   *   installed
   */
  #takePrepared(record: WalRecord, end: Lsn, prepare: Preparation): Promise<void> {
    const position = nextRecordLsn(end, this.walSegmentSize);
    this.#before = { end, position, lastStart: record.xl_prev as Lsn };
    this.#advance(end);
    const taking = this.#install(prepare).finally(() => {
      if (this.#taking === taking) this.#taking = null;
    });
    this.#taking = taking;
    taking.catch(() => {});
    return taking;
  }

  async #install(prepare: Preparation): Promise<void> {
    const prepared = await prepare(this.#closing.signal);
    await prepared.install();
    this.#before = null;
    this.#advance(this.lastRecordLsn);
    this.#waiters.reached(this.position);
    await this.#takeRecords();
  }

  /** Fetches what a record needs, and then applies it. */
  #applyLater(record: WalRecord, end: Lsn, absent: AbsentBytes): Preparation {
    return async (signal) => {
      for (let needed: AbsentBytes | null = absent; needed !== null;) {
        await needed.arrive(signal);
        signal.throwIfAborted();
        needed = this.#apply(record, end);
      }
      return { install: () => Promise.resolve() };
    };
  }

  /**
   * @param end the end of the previous record, where the timeline ends if this record can't be
   *   ingested
   * @returns what has to be fetched before the record can be applied; null when it is applied
   */
  #apply(record: WalRecord, end: Lsn): AbsentBytes | null {
    try {
      this.#ingest.apply(record);
      return null;
    } catch (error) {
      if (error instanceof AbsentBytes) {
        this.#ingest.takeBack(end);
        return error;
      }
      // Part of the record may be stored already. A second attempt would apply that part twice, so
      // only a fresh start from the layers can continue.
      this.#failure = new ZenithError(
        // A failing disk says nothing about the record.
        error instanceof ZenithError ? error.kind : "corrupt_data",
        `timeline ${this.timelineId} can't take in the record at ${formatLsn(record.lsn as Lsn)}: ${
          errorMessage(error)
        }`,
        { cause: error },
      );
      const position = nextRecordLsn(end, this.walSegmentSize);
      this.#before = { end, position, lastStart: record.xl_prev as Lsn };
      // Earlier records are valid. If part of this record is stored among them, they can only be
      // read.
      if (this.store.lastPutLsn <= end) this.#advance(end);
      this.#waiters.reached(position);
      throw this.#failure;
    }
  }

  /** Whether {@link ready} would wait. */
  get congested(): boolean {
    return this.store.congested || this.#room.isFull;
  }

  /** Resolves when more WAL may be passed. @throws as {@link TimelineStore.ready} */
  ready(): Promise<void> {
    const ready = Promise.all([this.store.ready(), this.#room.free()]).then(() => {});
    return this.backpressure.hold(ready, this.store.sizes().frozenBytes);
  }

  /**
   * Bytes that were received but are not durable: up to a gigabyte while a long record is still
   * incomplete.
   */
  get unsyncedBytes(): number {
    return this.wal.writtenLsn - this.wal.syncedLsn;
  }

  /** Makes received WAL durable. @returns the record boundary up to which WAL survives a crash */
  async makeDurable(): Promise<Lsn> {
    const synced = await this.wal.sync();
    return Math.min(synced, this.position) as Lsn;
  }

  /**
   * Resolves when records up to `lsn` can be read.
   *
   * @param signal ends the wait when the client is gone
   */
  async waitFor(lsn: Lsn, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    this.assertPresent();
    if (lsn <= this.position) return;
    await this.#waiters.wait(
      lsn,
      timeoutMs,
      () => `timeline ${this.timelineId} ends at ${formatLsn(this.lastRecordLsn)}`,
      signal,
    );
  }

  /**
   * Returns the record boundary for `lsn`: the end of the last record that ends at or before it.
   * Users may name any LSN, even inside a page header or a record. null means the end of the
   * timeline.
   *
   * @throws {ZenithError} `out_of_range` when the LSN is in the future or before the history begins
   */
  boundary(lsn: Lsn | null): RecordBoundary {
    this.assertPresent();
    const position = this.position;
    const wanted = lsn === null ? position : nextRecordLsn(lsn, this.walSegmentSize);
    if (wanted > position) {
      throw new ZenithError(
        "out_of_range",
        `LSN ${formatLsn(lsn ?? wanted)} is in the future: timeline ${this.timelineId} ends at ${
          formatLsn(this.lastRecordLsn)
        }`,
      );
    }
    if (wanted === position) {
      return { lsn: position, prev: this.#lastStart };
    }
    this.assertUnmasked(wanted);
    const found = wanted < this.store.startLsn ? null : this.store.recordBoundary(wanted);
    // This throws when that history has been removed.
    if (found === null && wanted > this.store.startLsn) this.#content.values.get(CHECKPOINT_KEY, wanted);
    if (found === null || this.#content.values.get(CHECKPOINT_KEY, found.start) === null) {
      throw new ZenithError(
        "out_of_range",
        `LSN ${formatLsn(wanted)} is before the beginning of timeline ${this.timelineId} at ${
          formatLsn(this.store.startLsn)
        }`,
      );
    }
    return { lsn: found.start, prev: found.prev };
  }

  /**
   * Returns the LSN that includes everything committed at or before `timestamp`, and nothing
   * committed later. It is exact to the millisecond; docs/branches.md explains what happens when a
   * clock is set back. The LSN may belong to an ancestor's part of the history.
   *
   * @param timestamp microseconds since 2000
   * @param now the current time, in the same unit
   * @throws {ZenithError} `out_of_range` when the timestamp is in the future or before the history
   *   begins; `conflict` when the moment exists twice because a clock was set back
   */
  lsnAt(timestamp: number, now: number): Lsn {
    const found = this.commitTimes.find(timestamp);
    if (found.where === "within") {
      this.#assertUnique(timestamp, now);
      return found.lsn;
    }
    if (found.where === "before") {
      throw new ZenithError(
        "out_of_range",
        `${formatTimestamp(timestamp)} is before the history of timeline ${this.timelineId} begins, at ${
          formatTimestamp(found.beginning)
        }`,
        { hint: "name a later moment" },
      );
    }
    // The compute's clock may be ahead of ours. What it has committed is in the past.
    if (timestamp > now && timestamp > (this.commitTimes.newest ?? now)) {
      throw new ZenithError(
        "out_of_range",
        `${formatTimestamp(timestamp)} is in the future: it is ${formatTimestamp(now)}`,
      );
    }
    return this.lastRecordLsn;
  }

  /**
   * Refuses a moment that exists twice because a clock was set back. Commits made since then count
   * as made before, so a branch from such a moment, or from now, would silently lack them.
   *
   * @throws {ZenithError} `conflict`
   */
  #assertUnique(timestamp: number, now: number): void {
    const { newest, setBack } = this.commitTimes;
    const isTwice = setBack !== null && timestamp >= setBack.to;
    // Nothing was committed since the clock was set back, or this machine's clock differs from the
    // compute's.
    const isPresent = newest !== null && newest > now + SET_BACK_MIN_US && timestamp > now - SET_BACK_MIN_US;
    if (!isTwice && !isPresent) return;
    throw new ZenithError(
      "conflict",
      `${formatTimestamp(timestamp)} is not one moment of timeline ${this.timelineId}: it is ${
        formatTimestamp(now)
      }, but the newest commit is of ${formatTimestamp(newest ?? timestamp)}; a clock was set back`,
      { hint: "for the newest, name the branch without a time; for another moment, name its LSN" },
    );
  }

  /**
   * Returns an LSN such that everything committed at or before `timestamp` is at or below it; 0
   * when the history does not go back that far.
   */
  committedBy(timestamp: number): Lsn {
    const found = this.commitTimes.find(timestamp);
    if (found.where === "end") return this.lastRecordLsn;
    return found.where === "within" ? found.lsn : INVALID_LSN;
  }

  /**
   * What is wrong with the timeline although it is usable, and what to do about it; null when no
   * damage is known.
   */
  damage(): ReturnType<typeof damageOf> {
    return damageOf(this.safekeepers, this.leases) ?? this.settings.damage() ?? this.slots.damage();
  }

  /**
   * Sizes in bytes: of all relations at the end of the timeline, as PostgreSQL would report it, and
   * of the timeline on disk.
   */
  sizes(): { logical: number; physical: number } {
    return {
      logical: this.#content.forks.totalBlocks() * BLCKSZ,
      physical: this.store.sizes().layerBytes + this.wal.sizes().bytes,
    };
  }

  /** Does periodic maintenance. Call it from time to time. */
  maintain(): void {
    this.store.maintain();
  }

  /**
   * Marks the timeline as gone. Its users and those that wait for it get `why` as the error from
   * now on. {@link close} comes next.
   */
  retire(why: Error): void {
    this.#gone = why;
    this.#waiters.abandon(why);
    if (why instanceof ZenithError && why.kind === "unavailable") this.#leaving.abort(why);
  }

  /**
   * Aborted, with the reason, when the timeline can be used at another page server from now on.
   * Whoever is connected is to look for it there.
   */
  get leaving(): AbortSignal {
    return this.#leaving.signal;
  }

  get isGone(): boolean {
    return this.#gone !== null;
  }

  /** @throws the reason why the timeline is gone */
  assertPresent(): void {
    if (this.#gone !== null) throw this.#gone;
  }

  /** Keeps WAL from `lsn` on until the result is disposed of. */
  holdWal(lsn: Lsn): Disposable {
    const hold = { lsn };
    this.#walHolds.add(hold);
    return { [Symbol.dispose]: () => void this.#walHolds.delete(hold) };
  }

  /**
   * Removes WAL that is in layers and that neither a replication slot, a backup nor the object
   * store needs.
   */
  async trimWal(): Promise<void> {
    const held = [...this.#walHolds].map(({ lsn }) => lsn);
    const keepFrom = Math.min(this.slots.keepFrom(this.lastRecordLsn), this.uploaded.keptFrom, ...held);
    await this.wal.removeBefore(Math.min(this.store.diskConsistentLsn, keepFrom) as Lsn);
  }

  /** Writes everything to layers before shutdown, so that the next start is quick. */
  async flush(): Promise<void> {
    await this.#leaveRecord();
    this.#waiters.abandon(shuttingDown());
    await this.store.flush();
    await this.trimWal();
  }

  /**
   * Writes everything to layers while the timeline stays in use; its users notice nothing.
   *
   * @returns whether everything received is in layers and no record is being ingested
   * @throws as {@link TimelineStore.flush}
   */
  async putInLayers(): Promise<boolean> {
    if (this.#before !== null || this.#failure !== null) return false;
    await this.store.flush();
    await this.trimWal();
    return this.#before === null && this.store.diskConsistentLsn >= this.lastRecordLsn;
  }

  async #leaveRecord(): Promise<void> {
    this.#closing.abort(this.#gone ?? shuttingDown());
    await this.#taking?.catch(() => {});
  }

  /** Closes the files. */
  async close(): Promise<void> {
    await this.mount?.close();
    await this.#leaveRecord();
    await this.wal.close();
    await this.store.close();
    this.#content.reader.close(
      this.#gone ?? shuttingDown(),
    );
  }
}

/**
 * What is wrong with a timeline's small files and what to do about it; null when no damage is
 * known.
 */
export function damageOf(
  { damage }: TimelineSafekeepers,
  leases: Leases,
): { readonly what: string; readonly hint: string } | null {
  return damage === null
    ? leases.damage()
    : { what: damage.message, hint: damage.hint ?? "put the file back from a copy" };
}

function shuttingDown(): ZenithError {
  return new ZenithError("unavailable", "the page server is shutting down");
}
