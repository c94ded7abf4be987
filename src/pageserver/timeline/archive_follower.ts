/** Follows a foreign cluster by the WAL in its archive, and asks its servers for nothing. */
import { openArchive } from "../../archive/open_archive.ts";
import { type TimelineStretch, wayFrom } from "../../archive/timeline_history.ts";
import type { WalArchive } from "../../archive/wal_archive.ts";
import type { ArchiveLocation } from "../../common/archive_location.ts";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { INVALID_LSN, type Lsn } from "../../common/lsn.ts";
import { sleep } from "../../common/sleep.ts";
import type { SmallFile } from "../../common/small_file.ts";
import { unlessAborted } from "../../common/unless_aborted.ts";
import type { Logger } from "../../process/log.ts";
import {
  parseWalFileName,
  segmentStart,
  SIZE_OF_XLOG_LONG_PHD,
  walFileName,
  XLP_SYSID,
} from "../../postgres/wal/page_header.ts";
import { describeSource, type FollowState } from "./follow_state.ts";
import { type FollowerStatus, lagBehind, type RunningFollower, withHint } from "./follower.ts";
import { isAtItsEnd, putOnFirstTimeline } from "./leave_timeline.ts";
import type { Timeline } from "./timeline.ts";

/** The pause before the archive is looked at again. */
const POLL_MS = 1_000;

export class ArchiveFollower implements RunningFollower {
  readonly timeline: Timeline;
  readonly #location: ArchiveLocation;
  readonly #file: SmallFile<FollowState>;
  readonly #logger: Logger;
  readonly #abort = new AbortController();
  readonly ended: Promise<void>;
  #state: FollowState;
  #reading = false;
  #failure: string | null = null;
  #problem: string | null = null;
  /** The end of the newest segment that the archive had when it was last looked at. */
  #archiveEnd: Lsn = INVALID_LSN;

  /** Starts to follow. @param timeline held by the caller until {@link ended} */
  constructor(
    timeline: Timeline,
    location: ArchiveLocation,
    file: SmallFile<FollowState>,
    state: FollowState,
    logger: Logger,
  ) {
    this.timeline = timeline;
    this.#location = location;
    this.#file = file;
    this.#state = state;
    this.#logger = logger;
    this.ended = this.#run();
  }

  get state(): FollowState {
    return this.#state;
  }

  get status(): FollowerStatus {
    return {
      state: this.#failure !== null ? "failed" : this.#reading ? "reading" : "waiting",
      problem: this.#failure ?? this.#problem,
      ...lagBehind(this.#archiveEnd, this.timeline),
    };
  }

  async close(reason: string): Promise<void> {
    this.#abort.abort(new ZenithError("unavailable", reason));
    await this.ended;
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      try {
        await this.#follow();
      } catch (error) {
        if (signal.aborted) break;
        if (isFinal(error)) {
          this.#failure = withHint(error);
          this.#logger.error("following has ended", { source: this.#source, error: this.#failure });
          break;
        }
        this.#note(errorMessage(error));
      } finally {
        this.#reading = false;
      }
      await sleep(POLL_MS, signal);
    }
  }

  get #source(): string {
    return describeSource(this.#state.source);
  }

  #note(problem: string | null): void {
    if (problem !== null && problem !== this.#problem) {
      this.#logger.warn(`following is interrupted: ${problem}`, { source: this.#source });
    }
    this.#problem = problem;
  }

  /** Takes in one segment after the other, and waits for those that are not there yet. */
  async #follow(): Promise<void> {
    const { signal } = this.#abort;
    const archive = await openArchive(this.#location, String(this.timeline.systemIdentifier));
    let from = await this.timeline.restartReceiving();
    while (!signal.aborted) {
      const { tli } = this.#state;
      // What a history ends must not be read on, so the histories come before each segment.
      const way = await this.#way(archive);
      // Nothing is left over there: a timeline ends with a record.
      if (tli !== this.#state.tli) from = await this.timeline.restartReceiving();
      const found = await this.#find(archive, way, from);
      this.#reading = found !== null;
      if (found === null) await sleep(POLL_MS, signal);
      else {
        from = await this.#take(archive, found, from, way[0]!.leftAt);
        this.#note(null);
      }
    }
  }

  /** The way from here on. Goes on to the next timeline when the present one is complete. */
  async #way(archive: WalArchive): Promise<TimelineStretch[]> {
    const histories = await archive.histories();
    for (;;) {
      const { tli } = this.#state;
      const way = wayFrom(tli, histories);
      const [{ leftAt }, next] = way;
      if (leftAt === null || next === undefined) return way;
      if (!isAtItsEnd(this.timeline, tli, leftAt, this.#source)) return way;
      const state = { ...this.#state, tli: next.tli };
      await this.#file.write(state);
      this.#state = state;
      this.#logger.info("following the next timeline", { tli: next.tli });
    }
  }

  /** @returns null when the segment is not there, which {@link status} then explains */
  async #find(archive: WalArchive, way: readonly TimelineStretch[], from: Lsn): Promise<string | null> {
    const { walSegmentSize } = this.timeline;
    const start = segmentStart(from, walSegmentSize);
    await this.#lookForEnd(archive, way);
    const found = await archive.findOnWay(way, start, walSegmentSize);
    if (found !== null) return found.path;
    this.#note(await this.#whyMissing(archive, way, start));
    return null;
  }

  async #lookForEnd(archive: WalArchive, way: readonly TimelineStretch[]): Promise<void> {
    const { walSegmentSize } = this.timeline;
    for (const { tli } of way.toReversed()) {
      const last = (await archive.segmentsOf(tli))?.last;
      const segment = last === undefined ? undefined : parseWalFileName(last, walSegmentSize);
      if (segment === undefined) continue;
      this.#archiveEnd = (segment.lsn + walSegmentSize) as Lsn;
      return;
    }
  }

  /** Says why the next segment may never come. Null when it is only not there yet. */
  async #whyMissing(
    archive: WalArchive,
    way: readonly TimelineStretch[],
    start: Lsn,
  ): Promise<string | null> {
    const { walSegmentSize } = this.timeline;
    const { tli } = way[0]!;
    const name = walFileName(tli, start, walSegmentSize);
    const newer = await archive.find(walFileName(way.at(-1)!.tli + 1, start, walSegmentSize));
    if (newer !== null) {
      return `${newer} is of a timeline whose history file is not in the archive yet`;
    }
    if (this.#archiveEnd <= start + walSegmentSize) return null;
    const partial = await archive.hasPartial(name)
      ? `; what a failover left of it is there as ${name}.partial`
      : "";
    return `WAL segment ${name} is missing in the archive, though later ones are there${partial}: ` +
      "copy it there from the pg_wal of a server of that cluster, or follow anew from a later backup";
  }

  /**
   * Takes in a segment.
   *
   * @param leftAt where the timeline is left, beyond which this must not go; null for nowhere
   * @returns where what was taken in ends
   */
  async #take(archive: WalArchive, path: string, from: Lsn, leftAt: Lsn | null): Promise<Lsn> {
    const { timeline } = this;
    const { signal } = this.#abort;
    const start = segmentStart(from, timeline.walSegmentSize);
    const end = Math.min(leftAt ?? Infinity, start + timeline.walSegmentSize);
    if (from >= end) {
      throw new ZenithError("conflict", `the timeline that ${path} is of was left within a record`);
    }
    let at: number = start;
    for await (const piece of archive.read(path)) {
      signal.throwIfAborted();
      if (at === start) this.#assertSame(path, piece);
      if (at + piece.length > start + timeline.walSegmentSize) throw incomplete(path, "is too long");
      const skipped = Math.max(0, from - at);
      const used = Math.min(piece.length, end - at);
      if (used > skipped) {
        // It is rewritten, and the archive's own checksum is over what was read.
        const bytes = piece.slice(skipped, used);
        putOnFirstTimeline(at + skipped, bytes, 0, bytes.length);
        const taking = timeline.receive((at + skipped) as Lsn, bytes);
        if (taking !== undefined) await unlessAborted(taking, signal);
        if (timeline.congested) await unlessAborted(timeline.ready(), signal);
      }
      at += piece.length;
    }
    if (at !== start + timeline.walSegmentSize) throw incomplete(path, `has ${at - start} bytes`);
    await timeline.makeDurable();
    await timeline.trimWal();
    return end as Lsn;
  }

  #assertSame(path: string, first: Uint8Array): void {
    if (first.length < SIZE_OF_XLOG_LONG_PHD) throw incomplete(path, "is too short");
    const found = new DataView(first.buffer, first.byteOffset).getBigUint64(XLP_SYSID, true);
    const { systemIdentifier } = this.timeline;
    if (found === systemIdentifier) return;
    throw new ZenithError(
      "conflict",
      `${path} is of system ${found}, the branch follows ${systemIdentifier}: they are two clusters`,
    );
  }
}

/** It may be on its way into the archive. */
function incomplete(path: string, what: string): ZenithError {
  return new ZenithError("unavailable", `WAL segment ${path} is not complete: it ${what}`);
}

/** Whether looking again can't help. Files may still be on their way, or be put right. */
function isFinal(error: unknown): boolean {
  return error instanceof ZenithError && error.kind === "conflict";
}
