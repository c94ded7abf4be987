/**
 * Runs one timeline at a safekeeper: carries out what its acceptor decides, on the real disk and
 * the real connections.
 *
 * Events are handled one at a time. Each event and all its effects are handled in the task in which
 * the event arrives, unless an effect has to wait for the disk. Only then are messages copied and
 * queued. Syncs run in the background: everything written during one sync shares the next.
 */
import { assert } from "../common/assert.ts";
import { type Disk, replaceFileSync, settleDirectorySync } from "../common/disk.ts";
import { errorMessage, ioError, ZenithError } from "../common/errors.ts";
import { nextTurn } from "../common/event_loop.ts";
import type { Logger } from "../process/log.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../common/lsn.ts";
import type { SafekeeperPaths } from "../common/paths.ts";
import {
  type AcceptorEffect,
  type AcceptorEvent,
  type AcceptorState,
  controlOf,
  newAcceptorControl,
  startAcceptor,
  stepAcceptor,
} from "../consensus/acceptor.ts";
import type { AcceptorMessage, ProposerMessage, TimelineIdentity } from "../consensus/messages.ts";
import {
  checkWalSegmentSize,
  endBeforeHeader,
  isRecordPosition,
  pageOffset,
  segmentStart,
  XLOG_BLCKSZ,
  XLP_TLI,
} from "../postgres/wal/page_header.ts";
import { findCutWal, keepCutWal } from "../wal_store/cut_wal.ts";
import { findEndOfWal } from "../wal_store/find_end_of_wal.ts";
import { pgVersion } from "../postgres/versions/find_version.ts";
import type { PgVersion } from "../postgres/versions/pg_version.ts";
import { WalStore } from "../wal_store/wal_store.ts";
import { decodeControlFile, encodeControlFile } from "./control_file.ts";
import type { OlderWal } from "./older_wal.ts";
import { RecordTracker } from "./record_tracker.ts";
import { StandbySlots } from "./standby_slots.ts";
import { readWalTimelines, writeWalTimelines } from "./wal_timelines_file.ts";
import { writeSegmentHead } from "../postgres/segment_head.ts";
import type { WalRecord } from "../postgres/wal/record.ts";
import { parseTimelineSwitch } from "../postgres/wal/timeline_switch.ts";
import {
  FIRST_TIMELINE,
  newestTli,
  timelinesBefore,
  type WalTimelines,
} from "../postgres/wal/wal_timelines.ts";

/** The control file's lower bounds are updated at least once per this much WAL. */
const CONTROL_LAG_MAX_BYTES = 16 << 20;

/**
 * Up to this much is synced in this thread, if no other timeline is being written. That covers
 * commits, but not bulk loads.
 */
const SYNC_HERE_MAX_BYTES = 128 << 10;

/** How often the page server's progress is passed on to the proposer and the other safekeepers. */
const FEEDBACK_INTERVAL_MS = 500;

/**
 * How long the beginning of a record waits for the rest before it is synced and confirmed on its
 * own.
 */
const QUIET_MS = 1_000;

/**
 * While a log is followed again from its last whole record, other work gets its turn after this
 * much.
 */
const PAUSE_EVERY_BYTES = 4 << 20;

/** A proposer's connection, to which a timeline's messages go. */
export interface ProposerLink {
  send(message: AcceptorMessage): void;
  /** Tells the proposer why it is refused, and ends its connection. */
  refuse(error: unknown): void;
}

export interface TimelineOptions {
  readonly paths: SafekeeperPaths;
  readonly disk: Disk;
  /** This safekeeper's number. */
  readonly id: number;
  /** False skips all syncs. Only for tests on slow disks. */
  readonly sync: boolean;
  readonly logger: Logger;
  /**
   * After a failure, only WAL up to this record boundary is known to be durable. WAL found after it
   * may exist only in the kernel's memory, whatever a read says.
   */
  readonly trustedEndLsn?: Lsn;
  /** Whether no other timeline of this process is being written. */
  isOnlyWritten(): boolean;
  /** The timeline can't continue and must be opened anew. Its connections are already refused. */
  onFailed(timeline: SafekeeperTimeline, error: unknown): void;
}

export class SafekeeperTimeline {
  readonly identity: TimelineIdentity;
  readonly slots: StandbySlots;
  readonly #pg: PgVersion;
  readonly #options: TimelineOptions;
  readonly #dir: string;
  readonly #logger: Logger;
  readonly #state: AcceptorState;
  #store: WalStore | undefined;
  #tracker: RecordTracker | undefined;
  /** Up to the end of the WAL. */
  #walTimelines: WalTimelines;

  readonly #links = new Map<number, ProposerLink>();
  #nextSession = 1;
  /** Callbacks of the WAL senders, called when more WAL may be read. */
  readonly #watchers = new Set<() => void>();

  readonly #queue: AcceptorEvent[] = [];
  #busy = false;
  #waiting: Promise<void> = Promise.resolve();
  #idlePlanned = false;
  #persistedCommitLsn: Lsn;
  #feedbackLsn: Lsn;
  #feedbackTimer: ReturnType<typeof setTimeout> | undefined;
  #quietTimer: ReturnType<typeof setTimeout> | undefined;
  #failure: unknown;
  #closed = false;

  private constructor(
    identity: TimelineIdentity,
    state: AcceptorState,
    store: WalStore | undefined,
    options: TimelineOptions,
    walTimelines: WalTimelines = FIRST_TIMELINE,
  ) {
    this.#walTimelines = walTimelines;
    this.identity = identity;
    this.#pg = pgVersion(identity.pgVersion);
    this.#options = options;
    this.slots = new StandbySlots(
      options.disk,
      options.paths.standbySlots(identity.tenantId, identity.timelineId),
    );
    this.#dir = options.paths.timeline(identity.tenantId, identity.timelineId);
    this.#logger = options.logger.child({ tenant: identity.tenantId, timeline: identity.timelineId });
    const damage = this.slots.damage();
    if (damage !== null) {
      this.#logger.error(`${damage}: make the slots again by "zenith pg standby", then remove it`);
    }
    this.#state = state;
    this.#store = store;
    this.#persistedCommitLsn = state.commitLsn;
    this.#feedbackLsn = state.remoteConsistentLsn;
    if (store !== undefined) this.#tracker = this.#newTracker(state.recordEndLsn);
  }

  /**
   * Creates the timeline on disk, empty and durable.
   *
   * @throws {ZenithError} `invalid_argument`, `io`, `disk_full`
   */
  static create(identity: TimelineIdentity, options: TimelineOptions): SafekeeperTimeline {
    checkWalSegmentSize(identity.segmentSize);
    const { paths, disk } = options;
    const dir = paths.timeline(identity.tenantId, identity.timelineId);
    const control = newAcceptorControl();
    try {
      disk.mkdirsSync(dir);
      if (options.sync) {
        disk.fsyncDirSync(paths.workdir);
        disk.fsyncDirSync(paths.tenant(identity.tenantId));
      }
      writeControl(options, identity, encodeControlFile(identity, control));
    } catch (error) {
      throw ioError("create timeline", dir, error);
    }
    return new SafekeeperTimeline(
      identity,
      startAcceptor(control, identity, options.id, INVALID_LSN),
      undefined,
      options,
    );
  }

  /**
   * Opens a timeline that {@link create} has made: finds the end of its WAL and cuts there.
   *
   * @param names the tenant and timeline, which locate the files
   * @throws {ZenithError} `corrupt_data`, `io`
   */
  static async open(
    names: Pick<TimelineIdentity, "tenantId" | "timelineId">,
    options: TimelineOptions,
  ): Promise<SafekeeperTimeline> {
    const { paths, disk } = options;
    const path = paths.controlFile(names.tenantId, names.timelineId);
    let content: Uint8Array;
    try {
      // A killed process may have written a vote that a power failure can still undo. Such a vote
      // must not count as given.
      if (options.sync) settleDirectorySync(disk, paths.timeline(names.tenantId, names.timelineId));
      content = disk.readFileSync(path);
    } catch (error) {
      throw ioError("read", path, error);
    }
    const { identity, control } = decodeControlFile(content, path);
    if (identity.tenantId !== names.tenantId || identity.timelineId !== names.timelineId) {
      throw new ZenithError(
        "corrupt_data",
        `${path} belongs to timeline ${identity.timelineId} of tenant ${identity.tenantId}`,
      );
    }
    if (control.timelineStartLsn === INVALID_LSN) {
      const state = startAcceptor(control, identity, options.id, INVALID_LSN);
      return new SafekeeperTimeline(identity, state, undefined, options);
    }
    const store = await openStore(identity, control.timelineStartLsn, options);
    try {
      // All committed WAL is known to be here and durable, so the scan can start after it.
      const from = Math.max(control.commitLsn, control.timelineStartLsn) as Lsn;
      let end = store.writtenLsn;
      if (!store.isEndKnown) {
        end = await findEndOfWal(pgVersion(identity.pgVersion), store, from);
        await keepWhatIsCut(identity, store, end, options);
      }
      if (options.trustedEndLsn !== undefined) end = Math.min(end, options.trustedEndLsn) as Lsn;
      await store.truncate(end);
      const state = startAcceptor(control, identity, options.id, end);
      const file = paths.walTimelines(names.tenantId, names.timelineId);
      const written = readWalTimelines(disk, file, options.logger);
      const timelines = timelinesBefore(written, endBeforeHeader(end, identity.segmentSize));
      if (timelines !== written) writeWalTimelines(disk, file, timelines);
      return new SafekeeperTimeline(identity, state, store, options, timelines);
    } catch (error) {
      await store.close();
      throw error;
    }
  }

  /** For reading only. */
  get state(): Readonly<AcceptorState> {
    return this.#state;
  }

  get walStore(): WalStore | undefined {
    return this.#store;
  }

  /**
   * Reads as {@link WalStore.readSegments} does. What precedes the timeline's WAL in its first
   * segment is the rest of a record that nobody needs ({@link writeSegmentHead}). The file has
   * little of it.
   */
  readSegments(lsn: Lsn, into: Uint8Array, off: number, len: number): number {
    const got = this.#store!.readSegments(lsn, into, off, len);
    const startLsn = this.#state.timelineStartLsn;
    const unknown = Math.min(got, startLsn - lsn);
    if (unknown <= 0) return got;
    const inPage = pageOffset(lsn);
    const pages = Math.ceil((inPage + unknown) / XLOG_BLCKSZ) * XLOG_BLCKSZ;
    const head = new Uint8Array(Math.min(pages, startLsn - (lsn - inPage)));
    this.#writeSegmentHead((lsn - inPage) as Lsn, startLsn, head, 0, head.length);
    into.set(head.subarray(inPage, inPage + unknown), off);
    return got;
  }

  /** The timelines of PostgreSQL that the committed WAL has run through. */
  get walTimelines(): WalTimelines {
    return timelinesBefore(
      this.#walTimelines,
      endBeforeHeader(this.#state.commitLsn, this.identity.segmentSize),
    );
  }

  /**
   * Asks the page server for them if the WAL here begins after the last of them, and does not say.
   *
   * @param older null when there is no page server to ask
   * @throws {ZenithError} what the page server answers, or why it can't be reached
   */
  async learnWalTimelines(older: OlderWal | null): Promise<void> {
    if (older === null || this.#lastPagesTli() <= newestTli(this.#walTimelines)) return;
    const known = timelinesBefore(await older.timelines(this.identity), this.#state.commitLsn);
    if (known.length > this.#walTimelines.length) this.#setWalTimelines(known);
  }

  /** The timeline of the last page whose header is here; 1 when there is none. */
  #lastPagesTli(): number {
    const store = this.#store;
    const { commitLsn } = this.#state;
    const header = new Uint8Array(XLP_TLI + 4);
    const last = commitLsn - header.length;
    const page = (last - pageOffset(last)) as Lsn;
    if (store === undefined || page < store.startLsn) return 1;
    if (store.read(page, header, 0, header.length) < header.length) return 1;
    return new DataView(header.buffer).getUint32(XLP_TLI, true);
  }

  #setWalTimelines(timelines: WalTimelines): void {
    const { tenantId, timelineId } = this.identity;
    const { disk, paths } = this.#options;
    writeWalTimelines(disk, paths.walTimelines(tenantId, timelineId), timelines);
    this.#walTimelines = timelines;
  }

  /** Called before the WAL is written that has the record. */
  #noteEndOfRecovery(record: WalRecord): void {
    const timelines = parseTimelineSwitch(record, this.identity.timelineId, this.identity.segmentSize);
    if (timelines === null || timelines.join() === this.#walTimelines.join()) return;
    this.#setWalTimelines(timelines);
    this.#logger.info("the WAL goes on on another timeline", {
      tli: newestTli(timelines),
      lsn: formatLsn(timelines.at(-1)!),
    });
  }

  /** Forgets the timelines of WAL that is no longer here. */
  #cutWalTimelines(end: Lsn): void {
    const kept = timelinesBefore(this.#walTimelines, endBeforeHeader(end, this.identity.segmentSize));
    if (kept !== this.#walTimelines) this.#setWalTimelines(kept);
  }

  /** Whether nobody is connected and no event waits. */
  get isIdle(): boolean {
    return this.#links.size === 0 && this.#watchers.size === 0 && !this.#busy &&
      this.#state.syncingTo === INVALID_LSN;
  }

  /** Whether a proposer is connected. */
  get hasWriter(): boolean {
    return this.#links.size > 0;
  }

  /** Why the timeline can't continue; undefined while it can. */
  get failure(): unknown {
    return this.#failure ?? (this.#closed ? closedError() : undefined);
  }

  /**
   * Registers a proposer's connection. @returns its session, to pass along with each of its
   * messages
   */
  attach(link: ProposerLink): number {
    if (this.failure !== undefined) throw this.failure;
    const session = this.#nextSession++;
    this.#links.set(session, link);
    return session;
  }

  detach(session: number): void {
    if (!this.#links.delete(session)) return;
    this.#handle({ type: "closed", session });
    this.#notify();
  }

  /**
   * Handles a proposer's message. An AppendRequest's bytes may be overwritten once this returns.
   */
  receive(session: number, message: ProposerMessage): void {
    const problem = this.#startProblem(message);
    if (problem !== undefined) {
      this.#refuse(session, problem);
      return;
    }
    if (this.#busy && message.type === "AppendRequest") {
      message = { ...message, bytes: message.bytes.slice() };
    }
    this.#handle({ type: "message", session, message });
  }

  /** Returns the error for a log that begins where no record can; undefined when there is none. */
  #startProblem(message: ProposerMessage): ZenithError | undefined {
    if (message.type !== "ProposerElected" || this.#state.timelineStartLsn !== INVALID_LSN) return undefined;
    const { timelineStartLsn } = message;
    if (isRecordPosition(timelineStartLsn, this.identity.segmentSize)) return undefined;
    return new ZenithError("protocol", `no WAL can begin at ${formatLsn(timelineStartLsn)}`);
  }

  /**
   * Lowers a term that was driven up.
   *
   * @throws {ZenithError} `conflict` while a compute is connected, or when there is a log of a
   *   newer term; `io`
   */
  lowerTerm(term: number): void {
    if (this.failure !== undefined) throw this.failure;
    if (this.#busy) {
      throw new ZenithError("unavailable", `timeline ${this.identity.timelineId} is busy`, {
        hint: "try again",
      });
    }
    const before = this.#state.term;
    this.#carryOut(stepAcceptor(this.#state, { type: "lowerTerm", term }), 0);
    this.#logger.warn("the term was set back", { from: before, to: term });
  }

  /**
   * Notes that the page server has made WAL up to `lsn` durable. The page server reports this many
   * times a second, so it is passed on only from time to time.
   */
  feedback(lsn: Lsn): void {
    if (lsn > this.#state.commitLsn || lsn <= this.#feedbackLsn) return;
    this.#feedbackLsn = lsn;
    this.#feedbackTimer ??= setTimeout(() => {
      this.#feedbackTimer = undefined;
      this.#handle({ type: "feedback", remoteConsistentLsn: this.#feedbackLsn });
    }, FEEDBACK_INTERVAL_MS);
  }

  /**
   * Calls `onMore` when more WAL is committed or durable, when the term changes, when a writer
   * leaves, and when the timeline fails.
   */
  watch(onMore: () => void): () => void {
    this.#watchers.add(onMore);
    return () => this.#watchers.delete(onMore);
  }

  /**
   * Removes WAL that nobody needs: WAL below `keepFrom` that the page server has made durable and
   * every acceptor has.
   *
   * @returns how many segments were removed
   */
  async trim(keepFrom: Lsn): Promise<number> {
    const store = this.#store;
    if (store === undefined || this.#busy || this.#failure !== undefined || this.#closed) return 0;
    const { remoteConsistentLsn, truncateLsn, commitLsn } = this.#state;
    const below = Math.min(remoteConsistentLsn, truncateLsn, commitLsn, keepFrom) as Lsn;
    if (below <= store.startLsn) return 0;
    // After a start, the scan begins at the persisted commit position, which must stay readable.
    if (this.#persistedCommitLsn < commitLsn) this.#persist(controlOf(this.#state));
    const removed = await store.removeBefore(below);
    if (removed > 0) this.#logger.info("removed WAL segments", { removed, below: formatLsn(below) });
    return removed;
  }

  /** Writes the current lower bounds to the control file and closes what is open. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#feedbackTimer);
    clearTimeout(this.#quietTimer);
    for (const link of this.#links.values()) {
      link.refuse(closedError());
    }
    this.#links.clear();
    await this.#waiting;
    await this.#store?.close();
    if (this.#failure === undefined && !this.#busy && this.#persistedCommitLsn < this.#state.commitLsn) {
      this.#persist(controlOf(this.#state));
    }
    this.#notify();
  }

  #handle(event: AcceptorEvent): void {
    if (this.#failure !== undefined || this.#closed) return;
    if (this.#busy) {
      this.#queue.push(event);
      return;
    }
    this.#step(event);
  }

  #step(event: AcceptorEvent): void {
    try {
      const waiting = this.#carryOut(stepAcceptor(this.#state, event), 0);
      if (waiting === undefined) {
        this.#planIdle();
        return;
      }
      this.#busy = true;
      this.#waiting = waiting.then(() => this.#resume(), (error) => this.#fail(error));
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Handles the events that arrived while an effect was waiting. */
  #resume(): void {
    this.#busy = false;
    this.#planIdle();
    while (!this.#busy && this.#failure === undefined) {
      const event = this.#queue.shift();
      if (event === undefined) return;
      this.#step(event);
    }
  }

  /**
   * Plans the idle event for the end of the running task. Everything from one read of the socket
   * has been handled by then, so a sync is worth its cost.
   */
  #planIdle(): void {
    if (this.#idlePlanned) return;
    this.#idlePlanned = true;
    queueMicrotask(() => {
      this.#idlePlanned = false;
      if (!this.#busy && this.#failure === undefined && !this.#closed) this.#idle();
    });
  }

  #idle(): void {
    try {
      this.#carryOut(stepAcceptor(this.#state, { type: "idle" }), 0);
      this.#watchQuiet();
      const { commitLsn } = this.#state;
      // After a start, standbys are to see the newest timeline at once.
      const isNewTimeline = this.walTimelines.some((begin) => begin >= this.#persistedCommitLsn);
      if (isNewTimeline || commitLsn - this.#persistedCommitLsn >= CONTROL_LAG_MAX_BYTES) {
        this.#persist(controlOf(this.#state));
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  #watchQuiet(): void {
    const { writtenLsn, durableLsn, syncingTo } = this.#state;
    if (writtenLsn === durableLsn || syncingTo !== INVALID_LSN || this.#quietTimer !== undefined) return;
    this.#quietTimer = setTimeout(() => {
      this.#quietTimer = undefined;
      this.#handle({ type: "quiet" });
    }, QUIET_MS);
  }

  /** @returns a promise when an effect has to wait; the remaining effects follow after it */
  #carryOut(effects: readonly AcceptorEffect[], from: number): Promise<void> | undefined {
    for (let i = from; i < effects.length; i++) {
      const waiting = this.#effect(effects[i]);
      if (waiting !== undefined) {
        return waiting.then(() => this.#carryOut(effects, i + 1));
      }
    }
    return undefined;
  }

  #effect(effect: AcceptorEffect): Promise<void> | undefined {
    switch (effect.type) {
      case "persist":
        this.#persist(effect.control);
        this.#notify();
        return undefined;
      case "init":
        return this.#init(effect.startLsn);
      case "truncate":
        return this.#truncate(effect.lsn);
      case "write":
        return this.#write(effect.lsn, effect.bytes, effect.off);
      case "sync":
        this.#sync(effect.cuts);
        return undefined;
      case "send":
        this.#links.get(effect.session)?.send(effect.message);
        return undefined;
      case "refuse":
        this.#refuse(effect.session, effect.error);
        return undefined;
      case "committed":
        this.#notify();
        return undefined;
    }
  }

  #persist(control: ReturnType<typeof controlOf>): void {
    writeControl(this.#options, this.identity, encodeControlFile(this.identity, control));
    this.#persistedCommitLsn = control.commitLsn;
  }

  async #init(startLsn: Lsn): Promise<void> {
    // Nobody was ever promised what an earlier attempt left behind.
    await this.#store?.close();
    const { disk } = this.#options;
    const left = disk.readdirSync(this.#dir).filter((name) => /^[0-9A-F]{24}$/.test(name));
    for (const name of left) disk.unlinkSync(`${this.#dir}/${name}`);
    // None of the removed segments may reappear beside those of this attempt.
    if (this.#options.sync && left.length > 0) disk.fsyncDirSync(this.#dir);
    this.#cutWalTimelines(INVALID_LSN);
    this.#store = await openStore(this.identity, startLsn, this.#options, true);
    const { segmentSize } = this.identity;
    const segment = segmentStart(startLsn, segmentSize);
    // Only the pages that pg_waldump needs to start at `startLsn`: all of them are up to 16 MB, for
    // whose sync the election would wait.
    for (const page of new Set([segment, startLsn - pageOffset(startLsn)])) {
      const bytes = new Uint8Array(Math.min(XLOG_BLCKSZ, startLsn - page));
      this.#writeSegmentHead(page as Lsn, startLsn, bytes, 0, bytes.length);
      this.#store.writeHead(page as Lsn, bytes);
    }
    this.#tracker = this.#newTracker(startLsn);
    this.#logger.info("WAL starts", { lsn: formatLsn(startLsn) });
  }

  #writeSegmentHead(lsn: Lsn, startLsn: Lsn, into: Uint8Array, off: number, len: number): void {
    const { segmentSize, systemId } = this.identity;
    writeSegmentHead(into, off, lsn, len, { pg: this.#pg, startLsn, segmentSize, systemId });
  }

  async #truncate(lsn: Lsn): Promise<void> {
    const store = this.#store!;
    this.#logger.info("cutting WAL that is not in the elected proposer's log", {
      from: formatLsn(store.writtenLsn),
      to: formatLsn(lsn),
    });
    await store.truncate(lsn);
    this.#cutWalTimelines(lsn);
    this.#tracker = this.#newTracker(lsn);
  }

  #write(lsn: Lsn, bytes: Uint8Array, off: number): Promise<void> | undefined {
    const store = this.#store!;
    assert(lsn === store.writtenLsn, "the acceptor and its store agree on the end");
    const session = this.#state.appender;
    try {
      this.#tracker!.feed(lsn, bytes.subarray(off));
      store.write(lsn, bytes, off, bytes.length - off);
    } catch (error) {
      if (!(error instanceof ZenithError) || (error.kind !== "corrupt_data" && error.kind !== "disk_full")) {
        throw error;
      }
      // Neither error damages what is here. The proposer has to leave, and may come again.
      return this.#rebuildTracker().then(() => {
        this.#refuse(session, error);
        this.#noteWritten();
      });
    }
    this.#noteWritten();
    return undefined;
  }

  #noteWritten(): void {
    const { writtenLsn } = this.#store!;
    const { recordEndLsn } = this.#tracker!;
    this.#carryOut(stepAcceptor(this.#state, { type: "written", writtenLsn, recordEndLsn }), 0);
  }

  #sync(cuts: number): void {
    const done = (): void => this.#handle({ type: "synced", cuts });
    if (this.#options.isOnlyWritten() && this.#store!.syncHere(SYNC_HERE_MAX_BYTES)) queueMicrotask(done);
    else this.#store!.sync().then(done, (error) => this.#fail(error));
  }

  /** Builds a tracker for a log that ends where the store's does. */
  async #rebuildTracker(): Promise<void> {
    const store = this.#store!;
    const from = this.#state.recordEndLsn;
    const tracker = this.#newTracker(from);
    let pausedAt = from;
    for (const { lsn, bytes } of store.iterate(from, store.writtenLsn)) {
      tracker.feed(lsn, bytes);
      if (lsn - pausedAt < PAUSE_EVERY_BYTES) continue;
      pausedAt = lsn;
      await nextTurn();
    }
    this.#tracker = tracker;
  }

  #newTracker(startLsn: Lsn): RecordTracker {
    const { segmentSize, systemId } = this.identity;
    return new RecordTracker(
      this.#pg,
      startLsn,
      segmentSize,
      systemId,
      (record) => this.#noteEndOfRecovery(record),
    );
  }

  #refuse(session: number, error: unknown): void {
    const link = this.#links.get(session);
    if (link === undefined) return;
    this.#logger.warn(`refused a proposer: ${errorMessage(error)}`, { session });
    link.refuse(error);
  }

  #notify(): void {
    for (const onMore of this.#watchers) onMore();
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined || this.#closed) return;
    this.#failure = error;
    this.#logger.error(`timeline failed: ${errorMessage(error)}`, { err: error });
    for (const link of this.#links.values()) link.refuse(error);
    this.#links.clear();
    this.#queue.length = 0;
    this.#notify();
    this.#options.onFailed(this, error);
  }
}

/** Keeps the WAL that is about to be cut off, and logs it. It may have been acknowledged. */
async function keepWhatIsCut(
  { tenantId: tenant, timelineId: timeline, pgVersion: version }: TimelineIdentity,
  store: WalStore,
  end: Lsn,
  { disk, logger }: TimelineOptions,
): Promise<void> {
  const to = await findCutWal(pgVersion(version), store, end);
  if (to === null) return;
  const { directory } = await keepCutWal(disk, store, end, to);
  logger.error("damaged WAL is cut off, with whole records behind it", {
    tenant,
    timeline,
    from: formatLsn(end),
    to: formatLsn(to),
    kept: directory,
  });
}

function closedError(): ZenithError {
  return new ZenithError("unavailable", "the safekeeper has closed the timeline", { hint: "connect again" });
}

/** @param isSettled whether what is in the directory is known to be durable */
function openStore(
  identity: TimelineIdentity,
  startLsn: Lsn,
  options: TimelineOptions,
  isSettled = false,
): Promise<WalStore> {
  return WalStore.open(options.paths.timeline(identity.tenantId, identity.timelineId), {
    segmentSize: identity.segmentSize,
    disk: options.disk,
    startLsn,
    sync: options.sync,
    isSettled,
  });
}

function writeControl(options: TimelineOptions, identity: TimelineIdentity, content: Uint8Array): void {
  const { paths, disk } = options;
  const path = paths.controlFile(identity.tenantId, identity.timelineId);
  try {
    replaceFileSync(disk, paths.timeline(identity.tenantId, identity.timelineId), path, content);
  } catch (error) {
    throw ioError("replace", path, error);
  }
}
