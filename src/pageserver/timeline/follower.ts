/** Follows a foreign primary: receives its WAL by physical replication, as a standby does. */
import { parseHistory } from "../../archive/timeline_history.ts";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../../common/lsn.ts";
import { sleep } from "../../common/sleep.ts";
import type { SmallFile } from "../../common/small_file.ts";
import { timestampOfMs } from "../../common/timestamp.ts";
import type { Logger } from "../../process/log.ts";
import type { PgClient } from "../../pgwire/client.ts";
import {
  identifySystem,
  type ReplicationHandler,
  type ReplicationStream,
  startReplication,
  type SystemIdentity,
} from "../../pgwire/replication.ts";
import { PgError } from "../../pgwire/sqlstate.ts";
import { connectPrimary } from "./connect_primary.ts";
import { describeSource, type FollowState } from "./follow_state.ts";
import { isAtItsEnd, putOnFirstTimeline } from "./leave_timeline.ts";
import type { Timeline } from "./timeline.ts";
import { WalIntake } from "./wal_receiver.ts";

/** The pause before a connection is tried again grows from the first to the second. */
const FIRST_PAUSE_MS = 100;
const PAUSE_MAX_MS = 5_000;

/** What `follow list` shows. */
export interface FollowerStatus {
  /**
   * `waiting`: all that the archive has is here. `failed`: only a person can go on from there. The
   * first two are of a primary, the next two of an archive.
   */
  readonly state: "streaming" | "connecting" | "reading" | "waiting" | "failed";
  /** Why no WAL comes, or what somebody should know though it does. */
  readonly problem: string | null;
  /** How much of the primary's WAL is not here yet. Null while that is not known. */
  readonly lagBytes: number | null;
  /** How old the newest commit here is, in seconds, while some are missing; 0 while none is. */
  readonly lagS: number | null;
}

/** Brings a timeline the WAL of a foreign cluster. */
export interface RunningFollower {
  readonly timeline: Timeline;
  /** Settles when no more WAL comes in. */
  readonly ended: Promise<void>;
  readonly state: FollowState;
  readonly status: FollowerStatus;
  /** Resolves when no more WAL comes in. */
  close(reason: string): Promise<void>;
}

export class Follower implements RunningFollower {
  readonly timeline: Timeline;
  readonly #file: SmallFile<FollowState>;
  readonly #logger: Logger;
  readonly #abort = new AbortController();
  /** Resolves when {@link close} is called. */
  readonly #aborted = new Promise<void>((resolve) => {
    this.#abort.signal.addEventListener("abort", () => resolve());
  });
  /** Settles when no more WAL comes in. */
  readonly ended: Promise<void>;
  #state: FollowState;
  #streaming = false;
  #failure: string | null = null;
  #problem: string | null = null;
  /** Where the primary's WAL ended when it last said so. */
  #sourceEnd: Lsn = INVALID_LSN;

  readonly #connInfo: string;

  /** Starts to follow. @param timeline held by the caller until {@link ended} */
  constructor(
    timeline: Timeline,
    connInfo: string,
    file: SmallFile<FollowState>,
    state: FollowState,
    logger: Logger,
  ) {
    this.timeline = timeline;
    this.#connInfo = connInfo;
    this.#file = file;
    this.#state = state;
    this.#logger = logger;
    this.ended = this.#run();
  }

  get state(): FollowState {
    return this.#state;
  }

  get status(): FollowerStatus {
    const { lagBytes, lagS } = lagBehind(this.#sourceEnd, this.timeline);
    return {
      state: this.#failure !== null ? "failed" : this.#streaming ? "streaming" : "connecting",
      problem: this.#failure ?? this.#problem,
      lagBytes,
      lagS: lagBytes === 0 && this.#streaming ? 0 : lagS,
    };
  }

  /** Resolves when no more WAL comes in. */
  async close(reason: string): Promise<void> {
    this.#abort.abort(new ZenithError("unavailable", reason));
    await this.ended;
  }

  /** Changes what is remembered, durably. @throws {ZenithError} `disk_full`, `io` */
  async #remember(changes: Partial<FollowState>): Promise<void> {
    const state = { ...this.#state, ...changes };
    await this.#file.write(state);
    this.#state = state;
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    for (let pauseMs = FIRST_PAUSE_MS; !signal.aborted; pauseMs = Math.min(2 * pauseMs, PAUSE_MAX_MS)) {
      try {
        await this.#follow();
        pauseMs = FIRST_PAUSE_MS;
      } catch (error) {
        if (signal.aborted) break;
        if (this.#streaming) pauseMs = FIRST_PAUSE_MS;
        if (isFinal(error)) {
          this.#failure = describe(error);
          this.#logger.error("following has ended", { source: this.#source, error: this.#failure });
          break;
        }
        if (this.#problem !== errorMessage(error)) {
          this.#logger.warn(`following is interrupted: ${errorMessage(error)}`, { source: this.#source });
        }
        this.#problem = errorMessage(error);
      } finally {
        this.#streaming = false;
      }
      if (!signal.aborted) await Promise.race([sleep(pauseMs), this.#aborted]);
    }
  }

  get #source(): string {
    return describeSource(this.#state.source);
  }

  /** Connects and receives until the connection ends. */
  async #follow(): Promise<void> {
    const { signal } = this.#abort;
    const client = await connectPrimary(this.#connInfo, this.#state.slot, signal);
    try {
      const system = await identifySystem(client);
      this.#assertSame(system);
      this.#sourceEnd = system.xlogpos;
      if (system.timeline !== this.#state.tli) await this.#switchTimeline(client, system.timeline);
      if (this.#holdsBackTooMuch()) await this.#giveUpSlot(client);
      await this.#receive(client);
    } finally {
      client.destroy();
    }
  }

  #assertSame({ systemId }: SystemIdentity): void {
    if (systemId === String(this.timeline.systemIdentifier)) return;
    throw new ZenithError(
      "conflict",
      `${this.#source} is system ${systemId}, the branch follows ${this.timeline.systemIdentifier}`,
    );
  }

  /**
   * Goes on to the next timeline of the primary's history, once all of the present one is here.
   *
   * @throws {ZenithError} `conflict` when what is here goes beyond where the history leaves it
   */
  async #switchTimeline(client: PgClient, newest: number): Promise<void> {
    const { tli } = this.#state;
    const answer = await client.query(`TIMELINE_HISTORY ${newest}`);
    const history = parseHistory(answer.rows[0]?.[1] ?? "");
    const at = history.findIndex((left) => left.tli === tli);
    if (at < 0) {
      throw new ZenithError(
        "conflict",
        `${this.#source} is on timeline ${newest}, which does not come from ${tli}`,
      );
    }
    const { lsn } = history[at];
    if (!isAtItsEnd(this.timeline, tli, lsn, this.#source)) return;
    const next = history[at + 1]?.tli ?? newest;
    await this.#remember({ tli: next });
    this.#logger.info("following the primary's next timeline", { tli: next, lsn: formatLsn(lsn) });
  }

  #holdsBackTooMuch(): boolean {
    const { slot, maxSlotBytes } = this.#state;
    return slot !== null && this.#sourceEnd - this.timeline.position > maxSlotBytes;
  }

  /** A follower that is too far behind must not fill the primary's disk. */
  async #giveUpSlot(client: PgClient): Promise<void> {
    const { slot, maxSlotBytes } = this.#state;
    await client.query(`DROP_REPLICATION_SLOT ${slot}`);
    await this.#remember({ slot: null });
    this.#logger.warn("the slot was dropped: it held back too much WAL", { slot, maxSlotBytes });
  }

  async #receive(client: PgClient): Promise<void> {
    const { slot, tli } = this.#state;
    const startLsn = await this.timeline.restartReceiving();
    const stream = await startReplication(client, {
      ...(slot === null ? {} : { slot }),
      startLsn,
      timeline: tli,
    });
    this.#streaming = true;
    this.#problem = slot === null
      ? "it has no slot, so the primary may remove WAL before it has come here"
      : null;
    this.#logger.info("following", { source: this.#source, lsn: formatLsn(startLsn), tli });
    // Like safekeepers, the primary keeps what has not come here for good, and nobody waits for it.
    const intake = new WalIntake(this.timeline, stream, true);
    try {
      intake.announce();
      await Promise.race([stream.run(this.#handler(intake, stream)), intake.failed]);
    } finally {
      intake.stop();
    }
  }

  #handler(intake: WalIntake, stream: ReplicationStream): ReplicationHandler {
    const noteEnd = (lsn: number): void => {
      this.#sourceEnd = Math.max(this.#sourceEnd, lsn) as Lsn;
      if (this.#holdsBackTooMuch()) stream.end();
    };
    return {
      onWal(lsn, bytes, off, len) {
        noteEnd(lsn + len);
        putOnFirstTimeline(lsn, bytes, off, len);
        intake.onWal(lsn, bytes, off, len);
      },
      onKeepalive(endLsn, replyRequested) {
        noteEnd(endLsn);
        intake.onKeepalive(endLsn, replyRequested);
      },
    };
  }
}

/**
 * How far a timeline is behind its source. What the source has committed since, nobody here knows.
 *
 * @param sourceEnd where the source's WAL ends
 */
export function lagBehind(
  sourceEnd: Lsn,
  { position, commitTimes: { newest } }: Timeline,
): Pick<FollowerStatus, "lagBytes" | "lagS"> {
  return {
    lagBytes: sourceEnd === INVALID_LSN ? null : Math.max(0, sourceEnd - position),
    lagS: newest === null ? null : Math.max(0, timestampOfMs(Date.now()) - newest) / 1e6,
  };
}

/** What a status says of the error that has ended a follower. */
export function withHint(error: unknown): string {
  const hint = error instanceof ZenithError && error.hint !== undefined ? ` (${error.hint})` : "";
  return errorMessage(error) + hint;
}

/** Whether trying again can't help. */
function isFinal(error: unknown): boolean {
  if (!(error instanceof ZenithError)) return true;
  // A server's own errors pass: it is starting, or still has this follower's last connection.
  if (error instanceof PgError) return isWalRemoved(error);
  return error.kind === "conflict" || error.kind === "corrupt_data";
}

function isWalRemoved(error: ZenithError): boolean {
  return /WAL segment \S+ has already been removed/.test(error.message);
}

function describe(error: unknown): string {
  if (error instanceof ZenithError && isWalRemoved(error)) {
    return `${errorMessage(error)}: the primary no longer has the WAL that comes next; follow it anew`;
  }
  return withHint(error);
}
