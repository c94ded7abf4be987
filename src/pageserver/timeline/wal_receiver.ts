/** Receives a timeline's WAL by physical replication. */
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import { redactPasswords } from "../../common/redact.ts";
import type { Logger } from "../../process/log.ts";
import { sleep } from "../../common/sleep.ts";
import type { PgClient } from "../../pgwire/client.ts";
import { parseConnInfo } from "../../pgwire/conninfo.ts";
import {
  createPhysicalSlot,
  identifySystem,
  type ReplicationHandler,
  type ReplicationStream,
  startReplication,
} from "../../pgwire/replication.ts";
import { TIMELINE_OPTION, WAL_RECEIVER_NAME } from "../../protocol/wal_connection.ts";
import type { Timeline } from "./timeline.ts";
import { connectWalSource, type Credentials } from "../../protocol/connect.ts";

/**
 * If a safekeeper sends nothing for this long while another one calls, it is assumed to have
 * nothing new.
 */
const STALL_MS = 3_000;

/**
 * The same while the object store lacks WAL that is here. Safekeepers call because of that WAL too,
 * and changing between them would not help.
 */
const STALL_WHILE_UPLOADING_MS = 60_000;

/**
 * How long WAL from a safekeeper collects before it is synced. A compute waits for what is durable
 * here. A safekeeper already has the WAL durably, and only keeps it longer.
 */
const SAFEKEEPER_SYNC_INTERVAL_MS = 200;

/**
 * How often a paused source gets a report. This is well within PostgreSQL's wal_sender_timeout of
 * 60 s.
 */
const HELD_REPORT_INTERVAL_MS = 10_000;

/**
 * An unfinished record is synced whenever it has grown by this much, so that its end does not need
 * a long sync of many files.
 */
const PART_SYNC_BYTES = 16 << 20;

const CONNECT_TIMEOUT_MS = 10_000;

export interface WalReceiverSource {
  readonly connInfo: string;
  /** By which the page server and safekeepers recognize each other. */
  readonly credentials: Credentials | undefined;
  /** Whether the source may see our token. It does, unless the connection string has a password. */
  readonly showsToken: boolean;
  /** Told of the bytes that have come in, it says for how long to take no more, in milliseconds. */
  paceMs?(bytes: number): number;
}

/**
 * Pulls a timeline's WAL by physical replication, from a compute as its synchronous standby or from
 * a safekeeper. What the receiver reports as flushed survives a kill -9 here: on that report, the
 * compute tells clients that they have committed, and safekeepers remove WAL.
 *
 * The receiver ends when the connection does. The other end then asks again (`callmemaybe`).
 */
export class WalReceiver {
  /** The connection string that it receives from, with passwords removed. */
  readonly source: string;
  readonly #connInfo: string;
  readonly #credentials: Credentials | undefined;
  readonly #showsToken: boolean;
  readonly #paceMs: WalReceiverSource["paceMs"];
  readonly isFromSafekeeper: boolean;
  /** Settles when the receiver has ended. Never rejects. */
  readonly ended: Promise<void>;
  readonly #timeline: Timeline;
  readonly #logger: Logger;
  readonly #abort = new AbortController();
  #client: PgClient | null = null;
  #intake: WalIntake | null = null;
  #error: string | null = null;
  #streaming = false;
  #running = true;

  /**
   * Starts once `after` has resolved, which means that the previous receiver has released the
   * timeline.
   *
   * @throws {ZenithError} `invalid_argument` when `connInfo` is not a connection string
   */
  constructor(
    timeline: Timeline,
    { connInfo, credentials, showsToken, paceMs }: WalReceiverSource,
    logger: Logger,
    after: Promise<void>,
  ) {
    this.#connInfo = connInfo;
    this.#credentials = credentials;
    this.#showsToken = showsToken;
    this.#paceMs = paceMs;
    this.source = redactPasswords(connInfo);
    this.isFromSafekeeper = namesSafekeeper(connInfo);
    this.#timeline = timeline;
    this.#logger = logger;
    this.ended = this.#run(after);
  }

  /** Whether the receiver is still running. */
  get running(): boolean {
    return this.#running;
  }

  /**
   * Whether this receiver should give way to one from `connInfo`. A compute that calls is the
   * timeline's only source. All safekeepers have the same WAL, so one that keeps sending it does
   * not give way to another.
   */
  yieldsTo(connInfo: string): boolean {
    const callerIsSafekeeper = namesSafekeeper(connInfo);
    if (this.isFromSafekeeper && callerIsSafekeeper) {
      return this.#intake !== null && this.#intake.isStalled();
    }
    return this.#connInfo !== connInfo;
  }

  get state(): { readonly source: string; readonly streaming: boolean; readonly error: string | null } {
    return { source: this.source, streaming: this.#streaming, error: this.#error };
  }

  /** Resolves when the receiver has ended. */
  async stop(reason: string): Promise<void> {
    this.#abort.abort(new ZenithError("unavailable", reason));
    this.#client?.destroy();
    await this.ended;
  }

  async #run(after: Promise<void>): Promise<void> {
    await after;
    try {
      this.#abort.signal.throwIfAborted();
      this.#client = await connectWalSource(this.#connInfo, {
        applicationName: WAL_RECEIVER_NAME,
        connectTimeoutMs: CONNECT_TIMEOUT_MS,
        signal: this.#abort.signal,
        credentials: this.#credentials,
        showsToken: this.#showsToken,
      });
      await this.#receive(this.#client);
      this.#logger.info("WAL source closed the connection", { source: this.source });
    } catch (error) {
      if (!this.#abort.signal.aborted) {
        this.#error = errorMessage(error);
        this.#logger.warn(`WAL receiver ended: ${this.#error}`, { source: this.source, err: error });
      }
    } finally {
      this.#intake?.stop();
      this.#client?.destroy();
      this.#streaming = false;
      this.#running = false;
    }
  }

  async #receive(client: PgClient): Promise<void> {
    const system = await identifySystem(client);
    if (system.systemId !== String(this.#timeline.systemIdentifier)) {
      throw new ZenithError(
        "conflict",
        `${this.source} is system ${system.systemId}, timeline ${this.#timeline.timelineId} belongs to ` +
          `${this.#timeline.systemIdentifier}: it is another cluster`,
      );
    }
    // The slot makes the compute keep WAL while this receiver is away. Safekeepers keep what is not
    // durable here even without a slot.
    const slot = this.isFromSafekeeper ? {} : { slot: WAL_RECEIVER_NAME };
    if (!this.isFromSafekeeper) await createPhysicalSlot(client, WAL_RECEIVER_NAME);
    const startLsn = await this.#timeline.restartReceiving();
    const stream = await startReplication(client, { ...slot, startLsn });
    this.#streaming = true;
    this.#logger.info("receiving WAL", { source: this.source, lsn: formatLsn(startLsn) });
    const intake = new WalIntake(this.#timeline, stream, this.isFromSafekeeper, this.#paceMs);
    this.#intake = intake;
    intake.announce();
    await Promise.race([stream.run(intake), intake.failed]);
  }
}

/** Connection strings of safekeepers name the timeline; a compute has only one. */
export function namesSafekeeper(connInfo: string): boolean {
  return parseConnInfo(connInfo).options?.includes(TIMELINE_OPTION) ?? false;
}

/** Takes in WAL from a stream, makes it durable in the background and reports the position. */
export class WalIntake implements ReplicationHandler {
  /** Rejects when WAL can't be made durable or written out. */
  readonly failed: Promise<never>;
  readonly #timeline: Timeline;
  readonly #stream: ReplicationStream;
  /** The least time for which arriving WAL collects before it is synced. */
  readonly #syncIntervalMs: number;
  #written: Lsn;
  #durable: Lsn;
  #syncing = false;
  #flushing = false;
  #stopped = false;
  #progressAt = performance.now();
  readonly #isFromSafekeeper: boolean;
  readonly #paceMs: NonNullable<WalReceiverSource["paceMs"]>;
  readonly #unwatch: () => void;
  #fail!: (error: unknown) => void;

  /** @param paceMs as {@link WalReceiverSource.paceMs} */
  constructor(
    timeline: Timeline,
    stream: ReplicationStream,
    isFromSafekeeper: boolean,
    paceMs: WalReceiverSource["paceMs"] = () => 0,
  ) {
    this.#paceMs = paceMs;
    this.#isFromSafekeeper = isFromSafekeeper;
    this.#syncIntervalMs = isFromSafekeeper ? SAFEKEEPER_SYNC_INTERVAL_MS : 0;
    this.#timeline = timeline;
    this.#stream = stream;
    this.#written = timeline.position;
    this.#durable = timeline.position;
    this.failed = new Promise((_resolve, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => {});
    this.#unwatch = timeline.uploaded.watch(() => {
      if (isFromSafekeeper && !this.#stopped) this.#report();
    });
  }

  /** Reports the timeline's position. A source with nothing more to send gets no other report. */
  async announce(): Promise<void> {
    try {
      await this.#timeline.makeDurable();
      this.#report();
    } catch (error) {
      this.#fail(error);
    }
  }

  onWal(lsn: Lsn, bytes: Uint8Array, off: number, len: number): void {
    const taking = this.#timeline.receive(lsn, bytes.subarray(off, off + len));
    this.#written = (lsn + len) as Lsn;
    this.#progressAt = performance.now();
    this.#sync();
    if (taking !== undefined) this.#hold(taking);
    else if (this.#timeline.congested) this.#hold(this.#timeline.ready());
    else {
      const pauseMs = this.#paceMs(len);
      if (pauseMs > 0) this.#hold(sleep(pauseMs));
    }
  }

  onKeepalive(_endLsn: Lsn, replyRequested: boolean): void {
    if (replyRequested) this.#report();
  }

  /**
   * Whether nothing has arrived for some time, and everything that arrived before has been
   * processed.
   */
  isStalled(): boolean {
    const isUploading = this.#timeline.uploaded.limit(this.#durable) < this.#durable;
    const ms = isUploading ? STALL_WHILE_UPLOADING_MS : STALL_MS;
    return !this.#syncing && !this.#flushing && performance.now() - this.#progressAt >= ms;
  }

  /** Stops reporting. The next stream sends WAL that is not durable yet again. */
  stop(): void {
    this.#stopped = true;
    this.#unwatch();
  }

  /**
   * Pauses the source until `ready`: until a long record is installed, flushes have caught up, or
   * the tenant may send more.
   */
  #hold(ready: Promise<void>): void {
    this.#flushing = true;
    this.#stream.copy.pause();
    // Without reports, the source would assume that this end is dead.
    const alive = setInterval(() => {
      if (!this.#stopped) this.#report();
    }, HELD_REPORT_INTERVAL_MS);
    ready.then(() => {
      this.#flushing = false;
      this.#progressAt = performance.now();
      this.#sync();
      this.#stream.copy.resume();
    }, (error) => this.#fail(error)).finally(() => clearInterval(alive));
  }

  /** Runs one sync at a time. WAL that arrives during a sync shares the next one. */
  async #sync(): Promise<void> {
    if (this.#syncing) return;
    this.#syncing = true;
    try {
      while (this.#durable < this.#timeline.position || this.#timeline.unsyncedBytes >= PART_SYNC_BYTES) {
        if (this.#syncIntervalMs > 0) {
          await sleep(this.#syncIntervalMs);
          if (this.#stopped) return;
        }
        const before = this.#durable;
        const wasUnsynced = this.#timeline.unsyncedBytes;
        this.#durable = await this.#timeline.makeDurable();
        this.#report();
        // Don't wait for a partial record; the rest of it will come.
        if (this.#durable === before && wasUnsynced < PART_SYNC_BYTES) break;
      }
      this.#timeline.trimWal().catch((error) => this.#fail(error));
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#syncing = false;
    }
  }

  /**
   * A compute's commits wait for what is durable here. A safekeeper forgets what is reported to it,
   * so it hears of what the object store has.
   */
  #report(): void {
    const { uploaded, lastRecordLsn } = this.#timeline;
    const flushed = this.#isFromSafekeeper ? uploaded.limit(this.#durable) : this.#durable;
    this.#stream.standbyStatusUpdate(this.#written, flushed, lastRecordLsn);
  }
}
