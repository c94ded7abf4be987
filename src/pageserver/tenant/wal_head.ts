/** Provides the beginning of the WAL segment that a compute starts in. */
import { withIoErrors, ZenithError } from "../../common/errors.ts";
import type { DiskFile } from "../../common/disk.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import { writeSegmentHead } from "../../postgres/segment_head.ts";
import { nextRecordLsn, segmentStart } from "../../postgres/wal/page_header.ts";
import { tliAt } from "../../postgres/wal/wal_timelines.ts";
import { writePageHeader } from "../../postgres/wal/write_page_header.ts";
import type { Timeline } from "../timeline/timeline.ts";
import type { TenantTimelines } from "./timelines.ts";

interface Part {
  readonly file: DiskFile;
  readonly from: Lsn;
  readonly to: Lsn;
}

/**
 * The WAL in a segment before an LSN. It is what a Postgres that starts there would have written
 * itself, had it never stopped. Archivers of the segment, and readers from its beginning, need it.
 *
 * It comes from the timeline's own WAL files as far back as they go, and before the branch point
 * from its ancestors' files. Where those are gone, or would show what a mask hides, the segment
 * begins with the rest of a record that nobody needs ({@link writeSegmentHead}).
 */
export class WalHead implements Disposable {
  readonly #timeline: Timeline;
  readonly #segmentStart: Lsn;
  readonly #end: Lsn;
  /**
   * Newest first. Each part ends where the next newer one begins, except for a page header between
   * them.
   */
  readonly #parts: Part[] = [];

  private constructor(timeline: Timeline, start: Lsn, end: Lsn) {
    this.#timeline = timeline;
    this.#segmentStart = start;
    this.#end = end;
  }

  /**
   * @param timeline held by the caller
   * @param end one of its record boundaries
   * @throws {ZenithError} `io`
   */
  static open(timelines: TenantTimelines, timeline: Timeline, end: Lsn): WalHead {
    return WalHead.#open(timelines, timeline, segmentStart(end, timeline.walSegmentSize), end);
  }

  /** Opens what the timeline itself has written, without its ancestors' WAL. */
  static openOwn(timeline: Timeline, end: Lsn): WalHead {
    return WalHead.#open(null, timeline, segmentStart(end, timeline.walSegmentSize), end);
  }

  /** Opens a segment that the timeline has written to its end, from its first byte on. */
  static openWhole(timelines: TenantTimelines, timeline: Timeline, start: Lsn): WalHead {
    return WalHead.#open(timelines, timeline, start, (start + timeline.walSegmentSize) as Lsn);
  }

  static #open(timelines: TenantTimelines | null, timeline: Timeline, start: Lsn, end: Lsn): WalHead {
    const head = new WalHead(timeline, start, end);
    try {
      let source = timeline;
      while (
        head.#add(source) && timelines !== null && source.ancestorId !== null && !source.beginsMasked
      ) {
        source = timelines.ancestorOf(source);
      }
      return head;
    } catch (error) {
      head[Symbol.dispose]();
      throw error;
    }
  }

  get segmentStart(): Lsn {
    return this.#segmentStart;
  }

  /** Where the available WAL begins. */
  get from(): Lsn {
    return this.#parts.at(-1)?.from ?? this.#end;
  }

  /** @returns whether the WAL before it belongs to that timeline's ancestor */
  #add({ wal }: Timeline): boolean {
    const to = Math.min(this.from, wal.writtenLsn) as Lsn;
    const from = Math.max(wal.startLsn, this.#segmentStart) as Lsn;
    const isMissing = nextRecordLsn(to, wal.segmentSize) < this.from;
    if (isMissing || this.from <= this.#segmentStart) return false;
    if (from < to) {
      const file = wal.openSegment(this.#segmentStart);
      if (file === null) return false;
      this.#parts.push({ file, from, to });
    }
    return wal.isFromStart;
  }

  /**
   * Where the available WAL ends. A page header that nobody has written may follow before the LSN.
   */
  get end(): Lsn {
    return this.#parts[0]?.to ?? this.#end;
  }

  /**
   * Reads `len` bytes at `lsn`, which must be a page's boundary, into `into[off..]`.
   *
   * @throws {ZenithError} `io`
   */
  read(lsn: number, into: Uint8Array, off: number, len: number): void {
    const { pg, walSegmentSize: segmentSize, systemIdentifier: systemId } = this.#timeline;
    const unknown = Math.min(len, this.from - lsn);
    if (unknown > 0) {
      writeSegmentHead(into, off, lsn, unknown, { pg, startLsn: this.from, segmentSize, systemId });
    }
    let later: Part | undefined;
    for (const part of this.#parts) {
      if (later !== undefined && part.to < later.from) this.#writeHeader(part.to, lsn, into, off, len);
      later = part;
      const from = Math.max(part.from, lsn);
      const count = Math.min(part.to, lsn + len) - from;
      if (count <= 0) continue;
      const position = from - this.#segmentStart;
      withIoErrors(
        "read WAL segment",
        part.file.path,
        () => part.file.readSync(into, off + from - lsn, count, position),
      );
    }
  }

  /** Writes a page header between a branch and its parent, which nobody has written. */
  #writeHeader(page: Lsn, lsn: number, into: Uint8Array, off: number, len: number): void {
    if (page < lsn || page >= lsn + len) return;
    const { pg, walSegmentSize: segmentSize, systemIdentifier } = this.#timeline;
    const tli = tliAt(this.#timeline.walTimelinesBefore(this.#end), page);
    const header = { pg, tli, systemIdentifier, segmentSize, remLen: 0 };
    writePageHeader(into, off + page - lsn, page, header);
  }

  [Symbol.dispose](): void {
    for (const { file } of this.#parts) file.closeSync();
    this.#parts.length = 0;
  }
}

/**
 * Iterates over the timeline's segments from the one that contains `from`, as far as they exist, to
 * the one before `to`'s segment.
 */
export function* segmentsBefore(
  timelines: TenantTimelines,
  timeline: Timeline,
  from: Lsn,
  to: Lsn,
): Generator<WalHead> {
  const { wal, walSegmentSize: size } = timeline;
  const end = segmentStart(to, size);
  for (let at = segmentStart(Math.max(from, wal.startLsn), size); at < end; at = (at + size) as Lsn) {
    using segment = WalHead.openWhole(timelines, timeline, at);
    yield segment;
  }
}

/**
 * Reads `into` full of WAL from a segment that {@link segmentsBefore} would iterate over.
 *
 * @param lsn a page's boundary
 * @throws {ZenithError} `not_found` when the segment was removed, `out_of_range` when it is not
 *   complete yet or ends before, `io`
 */
export function readSegmentBefore(
  timelines: TenantTimelines,
  timeline: Timeline,
  lsn: Lsn,
  into: Uint8Array,
): void {
  const { wal, walSegmentSize: size } = timeline;
  const start = segmentStart(lsn, size);
  const end = start + size;
  if (end <= wal.startLsn) {
    throw new ZenithError(
      "not_found",
      `WAL at ${formatLsn(lsn)} was removed: it begins at ${formatLsn(wal.startLsn)}`,
    );
  }
  if (lsn + into.length > end || end > wal.writtenLsn) {
    throw new ZenithError(
      "out_of_range",
      `${into.length} bytes of WAL at ${formatLsn(lsn)} are not in one segment that is complete`,
    );
  }
  using segment = WalHead.openWhole(timelines, timeline, start);
  segment.read(lsn, into, 0, into.length);
}
