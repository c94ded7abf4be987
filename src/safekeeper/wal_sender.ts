/**
 * Streams a timeline's WAL to its readers: page servers, standbys, archivers and other safekeepers.
 */
import { assert } from "../common/assert.ts";
import { ZenithError } from "../common/errors.ts";
import { formatLsn, type Lsn, minLsn } from "../common/lsn.ts";
import type { CopyBoth } from "../pgwire/copy_both.ts";
import { COPY_DATA_MAX_BYTES } from "../pgwire/limits.ts";
import {
  decodeStandbyMessage,
  encodeKeepalive,
  encodeXLogDataHeader,
  KEEPALIVE_BYTES,
  StandbyStatus,
  XLOG_DATA_HEADER_BYTES,
} from "../pgwire/replication.ts";
import { XLOG_BLCKSZ } from "../postgres/wal/page_header.ts";
import { leftAt } from "../postgres/wal/wal_timelines.ts";
import type { OlderWal } from "./older_wal.ts";
import type { SafekeeperTimeline } from "./timeline.ts";

/**
 * Whole pages, as PostgreSQL sends them. With the header, one page less than PostgreSQL's
 * MAX_SEND_SIZE fits a reused buffer.
 */
const MAX_SEND_BYTES = 15 * XLOG_BLCKSZ;
assert(MAX_SEND_BYTES + XLOG_DATA_HEADER_BYTES <= COPY_DATA_MAX_BYTES, "a reader accepts what is sent");

/** How often a silent stream sends a keepalive. */
const KEEPALIVE_INTERVAL_MS = 10_000;

/**
 * How long committed WAL waits for more when no commit waits for the reader. Under load, many
 * commits then share one message and one wakeup at both ends.
 */
const BATCH_DELAY_MS = 5;

/** Who reads. This decides up to where. */
export type WalReader =
  /**
   * A page server, standby or archiver, which reads committed WAL. `onFlush` hears what the reader
   * has made durable.
   */
  | {
    readonly kind: "committed";
    onFlush(lsn: Lsn): void;
    /** Whether the reader comes when called. If so, it needs no connection while nobody writes. */
    readonly comesWhenCalled: boolean;
  }
  /**
   * The elected proposer of `term`, on behalf of another acceptor. It reads all durable WAL, as
   * long as the term lasts.
   */
  | { readonly kind: "recovery"; readonly term: number };

/**
 * Returns what a standby is told that is at `lsn`, while the branch's acknowledged WAL ends at
 * `endLsn`.
 */
function aheadError(lsn: Lsn, endLsn: Lsn): ZenithError {
  return new ZenithError(
    "out_of_range",
    `this standby is ahead of the branch: it has WAL up to ${formatLsn(lsn)}, acknowledged is WAL up to ${
      formatLsn(endLsn)
    }`,
    {
      hint:
        "if it has followed a Postgres of the branch, that WAL was lost with it: make the standby anew, " +
        'by "zenith pg standby"; otherwise this safekeeper is behind the others, and it only has to wait',
    },
  );
}

/** Sends a timeline's WAL by PostgreSQL's replication protocol. */
export class WalSender {
  readonly #timeline: SafekeeperTimeline;
  readonly #copy: CopyBoth;
  readonly #reader: WalReader;
  readonly #older: OlderWal | null;
  /** The timeline of PostgreSQL that is sent, to where it was left. Undefined for all WAL. */
  readonly #tli: number | undefined;
  readonly #status = new StandbyStatus();
  #sentLsn: Lsn;
  /** What the reader has made durable. It may still need everything above. */
  #flushedLsn: Lsn;
  /** What the reader says that it has replayed, when that was not sent to it. */
  #aheadLsn: Lsn | undefined;
  #draining = false;
  #batchTimer: ReturnType<typeof setTimeout> | undefined;
  #reject!: (error: unknown) => void;

  /** @param older has WAL that was removed here. Null when the reader needs none */
  constructor(
    timeline: SafekeeperTimeline,
    copy: CopyBoth,
    reader: WalReader,
    { startLsn, tli }: { readonly startLsn: Lsn; readonly tli: number | undefined },
    older: OlderWal | null,
  ) {
    this.#tli = tli;
    this.#older = older;
    this.#timeline = timeline;
    this.#copy = copy;
    this.#reader = reader;
    this.#sentLsn = startLsn;
    this.#flushedLsn = startLsn;
  }

  /** The lowest position that this reader may request again. */
  get neededLsn(): Lsn {
    return this.#flushedLsn;
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

  /**
   * Sends WAL until the reader ends the stream or leaves.
   *
   * @throws {ZenithError} when the WAL can't be sent any more
   */
  async run(): Promise<void> {
    const failed = new Promise<never>((_resolve, reject) => this.#reject = reject);
    failed.catch(() => {});
    const running = this.#copy.run({ onData: (bytes, off, len) => this.#onMessage(bytes, off, len) });
    const unwatch = this.#timeline.watch(() => {
      this.#planSend();
      this.#endWhenDone();
    });
    const alive = setInterval(() => {
      this.#checkAhead();
      this.#keepalive(this.#aheadLsn !== undefined);
    }, KEEPALIVE_INTERVAL_MS);
    try {
      this.#send();
      await Promise.race([running, failed]);
    } finally {
      clearInterval(alive);
      clearTimeout(this.#batchTimer);
      unwatch();
    }
  }

  #onMessage(bytes: Uint8Array, off: number, len: number): void {
    if (!decodeStandbyMessage(this.#status, bytes, off, len)) return;
    const { replyRequested, apply } = this.#status;
    if (apply <= this.#timeline.state.commitLsn) this.#aheadLsn = undefined;
    else if (this.#reader.kind === "committed") this.#aheadLsn ??= apply;
    // A reader can't have what was not sent to it.
    const flush = minLsn(this.#status.flush, this.#sentLsn);
    if (flush > this.#flushedLsn) this.#flushedLsn = flush;
    if (this.#reader.kind === "committed" && flush > 0) this.#reader.onFlush(flush);
    this.#endWhenDone();
    if (replyRequested) this.#keepalive(false);
  }

  /**
   * Ends the stream once the reader has everything. Idle timelines then take no memory here, and
   * the reader sees that nobody writes.
   */
  #endWhenDone(): void {
    const { hasWriter, state, failure } = this.#timeline;
    if (this.#reader.kind !== "committed" || !this.#reader.comesWhenCalled) return;
    if (!hasWriter && failure === undefined && this.#flushedLsn >= state.commitLsn) this.#copy.end();
  }

  /**
   * Tells a standby that has replayed WAL which the branch does not have. It may also be that only
   * this safekeeper does not know yet that the WAL is committed, so it is told later, and may come
   * again.
   */
  #checkAhead(): void {
    const { commitLsn } = this.#timeline.state;
    if (this.#aheadLsn !== undefined && this.#aheadLsn > commitLsn) {
      this.#reject(aheadError(this.#aheadLsn, commitLsn));
    }
  }

  #planSend(): void {
    const { state, failure } = this.#timeline;
    const isUrgent = this.#reader.kind === "recovery" || failure !== undefined ||
      state.commitLsn - this.#sentLsn >= MAX_SEND_BYTES;
    if (isUrgent) this.#send();
    else if (state.commitLsn > this.#sentLsn) {
      this.#batchTimer ??= setTimeout(() => this.#send(), BATCH_DELAY_MS);
    }
  }

  /** Sends what may be sent now, as far as the reader keeps up. */
  #send(): void {
    clearTimeout(this.#batchTimer);
    this.#batchTimer = undefined;
    if (this.#draining || !this.#copy.sending) return;
    try {
      const endLsn = this.#endLsn();
      if (this.#older !== null && this.#sentLsn < Math.min(this.#timeline.walStore!.startLsn, endLsn)) {
        this.#sendOlder(this.#older).catch((error: unknown) => this.#reject(error));
        return;
      }
      while (this.#sentLsn < endLsn) {
        if (this.#copy.congested) {
          this.#waitForReader();
          return;
        }
        this.#sendPiece(endLsn);
      }
      if (this.isAtEnd) this.#copy.end();
    } catch (error) {
      this.#reject(error);
    }
  }

  /** Sends what was removed here, and then goes on with what is here. */
  async #sendOlder(older: OlderWal): Promise<void> {
    this.#draining = true;
    const untilLsn = minLsn(this.#timeline.walStore!.startLsn, this.#endLsn());
    for await (const bytes of older.read(this.#timeline.identity, this.#sentLsn, untilLsn)) {
      for (let at = 0; at < bytes.length;) {
        if (this.#copy.congested) await this.#copy.drained();
        if (!this.#copy.sending) return;
        const len = Math.min(bytes.length - at, MAX_SEND_BYTES);
        const to = this.#copy.reserve(XLOG_DATA_HEADER_BYTES + len);
        const body = encodeXLogDataHeader(this.#copy.buffer, to, this.#sentLsn, this.#endLsn());
        this.#copy.buffer.set(bytes.subarray(at, at + len), body);
        this.#sentLsn = (this.#sentLsn + len) as Lsn;
        at += len;
      }
    }
    if (this.#sentLsn < untilLsn) {
      throw new ZenithError("io", `the page server's WAL ended at ${formatLsn(this.#sentLsn)}`);
    }
    this.#draining = false;
    this.#send();
  }

  #sendPiece(endLsn: Lsn): void {
    let to: number = endLsn;
    if (to - this.#sentLsn > MAX_SEND_BYTES) {
      to = this.#sentLsn + MAX_SEND_BYTES;
      to -= to % XLOG_BLCKSZ;
    }
    const len = to - this.#sentLsn;
    const at = this.#copy.reserve(XLOG_DATA_HEADER_BYTES + len);
    const body = encodeXLogDataHeader(this.#copy.buffer, at, this.#sentLsn, endLsn);
    const got = this.#timeline.readSegments(this.#sentLsn, this.#copy.buffer, body, len);
    if (got !== len) {
      throw new ZenithError("io", `WAL at ${formatLsn(this.#sentLsn)} ended after ${got} bytes`);
    }
    this.#sentLsn = to as Lsn;
  }

  #endLsn(): Lsn {
    const { failure, state } = this.#timeline;
    if (failure !== undefined) throw failure;
    if (this.#reader.kind === "committed") {
      const left = this.#leftLsn;
      return left === null ? state.commitLsn : minLsn(left, state.commitLsn);
    }
    if (state.term !== this.#reader.term) {
      throw new ZenithError(
        "conflict",
        `this safekeeper is in term ${state.term} now, recovery was for term ${this.#reader.term}`,
      );
    }
    return state.durableLsn;
  }

  #waitForReader(): void {
    this.#draining = true;
    this.#copy.drained().then(() => {
      this.#draining = false;
      this.#send();
    });
  }

  #keepalive(replyRequested: boolean): void {
    if (!this.#copy.sending) return;
    const at = this.#copy.reserve(KEEPALIVE_BYTES);
    encodeKeepalive(this.#copy.buffer, at, this.#sentLsn, replyRequested);
  }
}
