/**
 * Sends a timeline's WAL to pg_basebackup and pg_receivewal. It looks for more from time to time:
 * standbys follow safekeepers, which send WAL as it comes.
 */
import { ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import { sleep } from "../../common/sleep.ts";
import { whenPresent } from "../../pagestore/mod.ts";
import type { CopyBoth } from "../../pgwire/copy_both.ts";
import {
  decodeStandbyMessage,
  encodeKeepalive,
  encodeXLogDataHeader,
  KEEPALIVE_BYTES,
  StandbyStatus,
  XLOG_DATA_HEADER_BYTES,
} from "../../pgwire/replication.ts";
import type { Session } from "../../pgwire/session.ts";
import { CHECKPOINT_RECORD_LENGTH } from "../../postgres/initial_segment.ts";
import { recordEndLsn, segmentOffset, segmentStart, XLOG_BLCKSZ } from "../../postgres/wal/page_header.ts";
import { leftAt } from "../../postgres/wal/wal_timelines.ts";
import type { TenantTimelines } from "../tenant/timelines.ts";
import { WalHead } from "../tenant/wal_head.ts";
import type { RecordBoundary, Timeline } from "../timeline/timeline.ts";
import { stoppedWal } from "./basebackup.ts";

const PIECE_BYTES = 8 * XLOG_BLCKSZ;
const LOOK_MS = 50;
const KEEPALIVE_INTERVAL_MS = 10_000;

export class BackupWalSender {
  readonly #timelines: TenantTimelines;
  readonly #timeline: Timeline;
  readonly #stopped: RecordBoundary | undefined;
  readonly #tli: number | undefined;
  #sentLsn: Lsn;

  /**
   * @param startLsn where a segment begins
   * @param tli the timeline of PostgreSQL that is sent, to where it was left; undefined for all WAL
   * @param stopped where a backup ends that was made while nobody wrote to the timeline: its
   *   shutdown checkpoint follows there, if still nobody has
   * @throws {ZenithError} `out_of_range`
   */
  constructor(
    timelines: TenantTimelines,
    timeline: Timeline,
    { startLsn, tli }: { readonly startLsn: Lsn; readonly tli: number | undefined },
    stopped: RecordBoundary | undefined,
  ) {
    if (segmentOffset(startLsn, timeline.walSegmentSize) !== 0) {
      throw new ZenithError("out_of_range", `${formatLsn(startLsn)} is not the beginning of a WAL segment`);
    }
    assertHere(timeline, startLsn);
    this.#timelines = timelines;
    this.#timeline = timeline;
    this.#stopped = stopped;
    this.#tli = tli;
    this.#sentLsn = startLsn;
  }

  /** Whether all of a timeline was sent that was left. */
  get isAtEnd(): boolean {
    const left = this.#leftLsn;
    return left !== null && this.#sentLsn >= left;
  }

  /** Where the timeline was left that is sent; null when it was not. */
  get #leftLsn(): Lsn | null {
    return this.#tli === undefined ? null : leftAt(this.#timeline.walTimelines, this.#tli);
  }

  /** Sends until the client has enough. */
  async run(session: Session): Promise<void> {
    const copy = session.copyBoth();
    const status = new StandbyStatus();
    let isOver = false;
    const running = copy.run({
      onData: (bytes, off, len) => {
        if (decodeStandbyMessage(status, bytes, off, len) && status.replyRequested) this.#keepalive(copy);
      },
    }).finally(() => isOver = true);
    running.catch(() => {});
    let told = performance.now();
    while (!isOver && copy.sending) {
      const before = this.#sentLsn;
      await this.#send(copy, () => !isOver && copy.sending);
      if (performance.now() - told > KEEPALIVE_INTERVAL_MS) {
        this.#keepalive(copy);
        told = performance.now();
      }
      if (this.#sentLsn === before) await sleep(LOOK_MS, session.signal).catch(() => {});
    }
    await running;
  }

  async #send(copy: CopyBoth, mayGoOn: () => boolean): Promise<void> {
    const { wal, walSegmentSize: size } = this.#timeline;
    this.#timeline.assertPresent();
    if (wal.writtenLsn > this.#sentLsn) {
      const durable = await this.#timeline.makeDurable();
      const end = Math.min(durable, wal.writtenLsn, this.#leftLsn ?? Infinity) as Lsn;
      while (this.#sentLsn < end && mayGoOn()) {
        // Who has no slot may come too late for it.
        assertHere(this.#timeline, this.#sentLsn);
        const start = segmentStart(this.#sentLsn, size);
        const segmentEnd = (start + size) as Lsn;
        using head = end >= segmentEnd
          ? WalHead.openWhole(this.#timelines, this.#timeline, start)
          : WalHead.open(this.#timelines, this.#timeline, end);
        while (this.#sentLsn < Math.min(end, segmentEnd) && mayGoOn()) {
          const to = Math.min(end, segmentEnd, this.#sentLsn + PIECE_BYTES) as Lsn;
          this.#piece(copy, to, (buffer, off, len) => head.read(this.#sentLsn, buffer, off, len));
          if (copy.congested) await copy.drained();
        }
      }
    }
    if (this.isAtEnd) copy.end();
    else if (mayGoOn()) await this.#sendCheckpoint(copy);
  }

  /** Sends the checkpoint of a backup that is a stopped cluster. */
  async #sendCheckpoint(copy: CopyBoth): Promise<void> {
    const stopped = this.#stopped;
    if (stopped === undefined || this.#timeline.position !== stopped.lsn) return;
    const { walSegmentSize: size, wal } = this.#timeline;
    if (this.#sentLsn < Math.min(stopped.lsn, wal.writtenLsn)) return;
    const end = recordEndLsn(stopped.lsn, CHECKPOINT_RECORD_LENGTH, size);
    const pages = await whenPresent(() => stoppedWal(this.#timeline, stopped));
    if (!copy.sending) return;
    for (const { segmentStart: start, offset, bytes } of pages) {
      const from = start + offset;
      const to = Math.min(end, from + bytes.length) as Lsn;
      if (to <= this.#sentLsn) continue;
      const at = this.#sentLsn - from;
      this.#piece(copy, to, (buffer, off, len) => buffer.set(bytes.subarray(at, at + len), off));
    }
  }

  #piece(copy: CopyBoth, to: Lsn, fill: (buffer: Uint8Array, off: number, len: number) => void): void {
    const len = to - this.#sentLsn;
    const at = copy.reserve(XLOG_DATA_HEADER_BYTES + len);
    const body = encodeXLogDataHeader(copy.buffer, at, this.#sentLsn, to);
    fill(copy.buffer, body, len);
    this.#sentLsn = to;
  }

  #keepalive(copy: CopyBoth): void {
    if (!copy.sending) return;
    const at = copy.reserve(KEEPALIVE_BYTES);
    encodeKeepalive(copy.buffer, at, this.#sentLsn, false);
  }
}

/** @throws {ZenithError} `out_of_range` when the timeline does not have the WAL from `lsn` on */
function assertHere({ wal, walSegmentSize: size, position }: Timeline, lsn: Lsn): void {
  if (lsn >= segmentStart(wal.startLsn, size) && lsn <= position) return;
  throw new ZenithError(
    "out_of_range",
    `WAL from ${formatLsn(lsn)} on is not here: the page server has ${formatLsn(wal.startLsn)} to ${
      formatLsn(position)
    }`,
  );
}
