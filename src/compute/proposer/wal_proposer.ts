/**
 * The writer of a timeline's WAL, which runs beside Postgres. It wins an election among the
 * safekeepers and brings a quorum of them to one log. Then it passes on what Postgres streams, and
 * acknowledges what the quorum has made durable. `src/consensus/proposer.ts` makes the decisions;
 * this file carries out their effects and watches the clock.
 */
import { randomBytes } from "node:crypto";
import { assert } from "../../common/assert.ts";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { formatHostPort, type HostPort } from "../../common/host_port.ts";
import { sleep } from "../../common/sleep.ts";
import type { TenantId, TimelineId } from "../../common/id.ts";
import type { Logger } from "../../process/log.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../../common/lsn.ts";
import {
  APPEND_REQUEST_HEADER_BYTES,
  encodeAppendRequestHeader,
  encodeMessage,
} from "../../consensus/message_codec.ts";
import {
  type AcceptorMessage,
  type ServerInfo,
  WAL_ACCEPTOR_PROTOCOL_VERSION,
} from "../../consensus/messages.ts";
import {
  POSTGRES,
  type ProposerEffect,
  type ProposerEvent,
  type ProposerState,
  settledLsn,
  startProposer,
  stepProposer,
} from "../../consensus/proposer.ts";
import { LIMITS } from "../../consensus/limits.ts";
import { quorumOf } from "../../consensus/quorum.ts";
import { historyTerm } from "../../consensus/term_history.ts";
import { pageOffset } from "../../postgres/wal/page_header.ts";
import type { ConnectLocally } from "../postgres/private_socket.ts";
import { AcceptorLink } from "./acceptor_link.ts";
import type { CommitProgress } from "./commit_progress.ts";
import { fetchFromPostgres, fetchFromSafekeeper, type FetchRange } from "./fetch_wal.ts";
import { WalSource } from "./wal_source.ts";
import { WalWindow } from "./wal_window.ts";
import type { ServerAddress } from "../../protocol/connect.ts";

const ELECTION_TIMEOUT_MIN_MS = 500;
const ELECTION_TIMEOUT_SPREAD_MS = 500;
/** How long a start waits for a quorum before it fails. */
const ELECT_TIMEOUT_DEFAULT_MS = 60_000;

const WATCH_INTERVAL_MS = 1_000;
/**
 * A safekeeper that has owed an answer for this long counts as dead: the connection to it is made
 * again.
 */
const ANSWER_TIMEOUT_MS = 10_000;
/** When commits wait, a safekeeper that has owed an answer for this long is reported. */
const SILENT_MS = 2_000;

const FETCH_RETRY_MS = 500;
/** How soon {@link WalProposer.append} sees that a quorum has WAL. */
const APPEND_POLL_MS = 2;
/** How long a proposer that ends waits for answers to what it has sent. */
const LAST_ANSWERS_MS = 3_000;

/** How much WAL below the quorum's position stays in memory, for safekeepers that lag a little. */
const WINDOW_KEEP_BYTES = 16 << 20;
/** The window is trimmed in steps of this size. */
const WINDOW_TRIM_BYTES = 4 << 20;
/**
 * How much WAL may not be durable on a quorum yet. Postgres is held back above the first limit, and
 * continues below the second.
 */
const UNSETTLED_MAX_BYTES = 64 << 20;
const UNSETTLED_LOW_BYTES = 32 << 20;
assert(
  UNSETTLED_LOW_BYTES >= LIMITS.inFlightBytes,
  "acceptors have enough to do while Postgres is held back",
);

/**
 * How long safekeepers wait to hear what was committed when no more WAL brings that news. Readers
 * see the commit only then.
 */
const NEWS_DELAY_MS = 10;

type AppendEffect = Extract<ProposerEffect, { type: "append" }>;
type FetchEffect = Extract<ProposerEffect, { type: "fetch" }>;

export interface WalProposerOptions {
  readonly tenant: TenantId;
  readonly timeline: TimelineId;
  readonly acceptors: readonly ServerAddress[];
  readonly systemId: bigint;
  readonly pgVersion: number;
  /** wal_segment_size in bytes. */
  readonly segmentSize: number;
  /**
   * Where the timeline's WAL begins if no safekeeper has any: the end of the page server's copy.
   */
  readonly timelineStartLsn: Lsn;
  /**
   * The last term in which this compute asked for votes. Null at its first start. A compute that
   * starts again by itself after a crash gives way to one that was elected meanwhile.
   */
  readonly lastTerm?: number | null;
  /**
   * Called when another compute has taken over: Postgres must be stopped at once. Called at most
   * once, after {@link elect}.
   */
  onFenced(error: ZenithError): void;
  readonly logger: Logger;
  readonly electTimeoutMs?: number;
}

export interface Election {
  readonly term: number;
  /** The term that wrote the end of the log before; 0 if there is no WAL yet. */
  readonly lastTerm: number;
  /** Where Postgres continues: everything below is on a quorum, and there is nothing above. */
  readonly startLsn: Lsn;
}

/** A safekeeper as the proposer sees it, for status displays. */
export interface AcceptorStatus {
  readonly address: HostPort;
  readonly phase: string;
  readonly flushLsn: Lsn;
  /** Why there is no connection. Empty while there is one. */
  readonly problem: string;
}

/** The beginning of the error message when a newer compute writes to the timeline. */
export const TAKEN_OVER = "another compute has taken over timeline";

export class WalProposer {
  readonly #options: WalProposerOptions;
  readonly #logger: Logger;
  readonly #state: ProposerState;
  readonly #links: AcceptorLink[] = [];
  /**
   * When each acceptor last answered, or when it was asked the first of its unanswered questions.
   */
  readonly #answeredAt: number[];
  /** Acceptors that can't take part in elections until somebody repairs them. */
  readonly #lost = new Set<number>();
  /** The news that each acceptor has yet to hear, as appends without WAL. */
  readonly #news = new Map<number, AppendEffect>();
  #newsTimer: ReturnType<typeof setTimeout> | undefined;
  #window: WalWindow | undefined;
  #electionTimer: ReturnType<typeof setTimeout> | undefined;
  #watchTimer: ReturnType<typeof setInterval> | undefined;
  #elected: { resolve(): void; reject(error: unknown): void } | undefined;
  #source: WalSource | undefined;
  /** Connects to the local Postgres. Set once that runs. */
  #connect: ConnectLocally | undefined;
  #advancePlanned = false;
  readonly #abort = new AbortController();

  /** @throws {ZenithError} `invalid_argument` when there are no acceptors */
  constructor(options: WalProposerOptions) {
    this.#options = options;
    this.#logger = options.logger.child({ tenant: options.tenant, timeline: options.timeline });
    const serverInfo: ServerInfo = {
      type: "ServerInfo",
      protocolVersion: WAL_ACCEPTOR_PROTOCOL_VERSION,
      tenantId: options.tenant,
      timelineId: options.timeline,
      systemId: options.systemId,
      pgVersion: options.pgVersion,
      segmentSize: options.segmentSize,
      proposerId: randomBytes(16).toString("hex"),
    };
    const acceptorCount = options.acceptors.length;
    this.#state = startProposer({ serverInfo, acceptorCount, timelineStartLsn: options.timelineStartLsn });
    this.#answeredAt = options.acceptors.map(() => Date.now());
  }

  /** Everything below is durable on a quorum. */
  get commitLsn(): Lsn {
    return this.#state.commitLsn;
  }

  /** Everything below is durable on the page server, as far as the safekeepers have reported. */
  get remoteConsistentLsn(): Lsn {
    return this.#state.remoteConsistentLsn;
  }

  get term(): number {
    return this.#state.term;
  }

  get acceptors(): AcceptorStatus[] {
    return this.#state.peers.map(({ phase, flushLsn }, i) => ({
      address: this.#options.acceptors[i],
      phase,
      flushLsn,
      problem: this.#links[i]?.problem ?? "",
    }));
  }

  /**
   * Returns how far commits are durable, and what may keep them from getting further. Call it after
   * {@link start}.
   */
  progress(): CommitProgress {
    const { commitLsn, peers } = this.#state;
    const source = this.#source!;
    const writtenLsn = Math.max(this.#window!.endLsn, source.writtenLsn) as Lsn;
    const problems = peers.map((_, i) => this.#problemOf(i));
    const reachable = problems.filter((problem) => problem === undefined).length;
    const needed = quorumOf(peers.length);
    const obstacles = problems.flatMap((problem, i) =>
      problem === undefined ? [] : [`safekeeper ${formatHostPort(this.#options.acceptors[i])}: ${problem}`]
    );
    if (!source.streaming) {
      obstacles.unshift(`Postgres does not send it: ${source.problem || "no connection"}`);
    }
    return {
      writtenLsn,
      durableLsn: commitLsn,
      partsLsn: settledLsn(this.#state),
      // WAL that ends at a page's end may end within a record. Safekeepers confirm whole records.
      waits: writtenLsn > commitLsn &&
        (reachable < needed || !source.streaming || pageOffset(writtenLsn) !== 0),
      connected: source.streaming,
      who: `${needed} of ${peers.length} safekeepers`,
      obstacles,
    };
  }

  #problemOf(index: number): string | undefined {
    const problem = this.#links[index]?.problem ?? "";
    if (problem !== "") return problem;
    const { phase } = this.#state.peers[index];
    if (phase !== "streaming") return `no answer yet, ${phase}`;
    const silentMs = Date.now() - this.#answeredAt[index];
    if (!this.#owesAnswer(index) || silentMs < SILENT_MS) return undefined;
    return `no answer for ${Math.floor(silentMs / 1000)} s`;
  }

  /**
   * Wins an election and brings a quorum of safekeepers to one log. This fences the computes that
   * were elected before.
   *
   * @throws {ZenithError} `unavailable` when there is no quorum in time; `conflict` when another
   *   compute was elected meanwhile
   */
  async elect(): Promise<Election> {
    assert(this.#links.length === 0, "a proposer is elected once");
    const done = new Promise<void>((resolve, reject) => this.#elected = { resolve, reject });
    done.catch(() => {});
    this.#options.acceptors.forEach((address, peer) => {
      this.#links.push(
        new AcceptorLink(address, {
          connected: () => this.#step({ type: "connected", peer }),
          message: (message) => {
            this.#answeredAt[peer] = Date.now();
            this.#hear(peer, message);
          },
          disconnected: () => {
            this.#news.delete(peer);
            this.#step({ type: "disconnected", peer });
          },
        }, this.#logger),
      );
    });
    this.#planElection();
    this.#watchTimer = setInterval(() => this.#watch(), WATCH_INTERVAL_MS);
    const timeoutMs = this.#options.electTimeoutMs ?? ELECT_TIMEOUT_DEFAULT_MS;
    const timer = setTimeout(() => this.#elected?.reject(this.#noQuorum(timeoutMs)), timeoutMs);
    try {
      await done;
    } catch (error) {
      await this.stop();
      throw error;
    } finally {
      clearTimeout(timer);
      this.#elected = undefined;
    }
    const { term, history, epochStartLsn } = this.#state;
    return { term, lastTerm: historyTerm(history.slice(0, -1)), startLsn: epochStartLsn };
  }

  /**
   * Makes WAL durable that no Postgres sends, between the election and {@link start}. It must begin
   * where the log ends.
   *
   * @throws {ZenithError} `unavailable` when no quorum takes it in time; `conflict` when another
   *   compute was elected meanwhile
   */
  async append(pieces: Iterable<{ readonly lsn: Lsn; readonly bytes: Uint8Array }>): Promise<void> {
    assert(this.#source === undefined, "Postgres does not send WAL yet");
    const window = this.#window!;
    for (const { lsn, bytes } of pieces) {
      assert(lsn === window.endLsn, "WAL has no gaps");
      window.append(bytes, 0, bytes.length);
      this.#step({ type: "localAdvanced", endLsn: window.endLsn });
      if (window.endLsn - settledLsn(this.#state) > UNSETTLED_LOW_BYTES) await this.#untilSettled();
    }
    await this.#untilSettled();
  }

  /** Waits until a quorum has all WAL of the window. */
  async #untilSettled(): Promise<void> {
    const window = this.#window!;
    const timeoutMs = this.#options.electTimeoutMs ?? ELECT_TIMEOUT_DEFAULT_MS;
    let deadline = Date.now() + timeoutMs;
    for (let settled = settledLsn(this.#state); settled < window.endLsn;) {
      if (this.#state.phase === "stopped") throw this.#takenOver(this.#state.seenTerm);
      if (Date.now() > deadline) throw this.#noQuorum(timeoutMs);
      await sleep(APPEND_POLL_MS, this.#abort.signal);
      this.#abort.signal.throwIfAborted();
      const before = settled;
      settled = settledLsn(this.#state);
      if (settled > before) deadline = Date.now() + timeoutMs;
    }
  }

  /**
   * Streams WAL from Postgres, from the start of the term on, until {@link stop}. Reconnects
   * whenever the connection is lost. Resolves when the first connection streams.
   *
   * @param connect connects to the local Postgres
   * @throws {ZenithError} the error of the first connection
   */
  async start(connect: ConnectLocally): Promise<void> {
    assert(this.#state.commitLsn !== INVALID_LSN, "WAL is streamed after the election");
    this.#connect = connect;
    this.#source = new WalSource({
      connect,
      systemId: this.#options.systemId,
      confirmedLsn: this.#state.commitLsn,
      nextLsn: () => this.#window!.endLsn,
      onWal: (lsn, bytes, off, len) => this.#onWal(lsn, bytes, off, len),
      logger: this.#logger,
    });
    await this.#source.start();
  }

  /** Ends all connections. Uncommitted WAL may or may not be lost: the next election decides. */
  async stop(): Promise<void> {
    await this.#lastAnswers();
    this.#sendNews();
    if (!this.#abort.signal.aborted) {
      this.#abort.abort(new ZenithError("unavailable", "the proposer was stopped"));
    }
    clearTimeout(this.#electionTimer);
    clearInterval(this.#watchTimer);
    this.#elected?.reject(this.#abort.signal.reason);
    await Promise.all([...this.#links.map((link) => link.stop()), this.#source?.stop()]);
  }

  /**
   * Waits for the answers to WAL that is on its way, as long as a quorum may still take it. A
   * safekeeper that has WAL, and nobody who says whether it is committed, would leave the branch's
   * end unknown until the next election.
   */
  async #lastAnswers(): Promise<void> {
    const { signal } = this.#abort;
    const deadline = Date.now() + LAST_ANSWERS_MS;
    while (!signal.aborted && this.#mayStillCommit() && Date.now() < deadline) {
      await sleep(APPEND_POLL_MS, signal);
    }
  }

  #mayStillCommit(): boolean {
    const { phase, peers } = this.#state;
    if (phase !== "elected" || this.#window === undefined) return false;
    if (settledLsn(this.#state) >= this.#window.endLsn) return false;
    const streaming = peers.filter((peer) => peer.phase === "streaming").length;
    return streaming >= quorumOf(peers.length) && peers.some((_, i) => this.#owesAnswer(i));
  }

  #hear(peer: number, message: AcceptorMessage): void {
    if (this.#givesWayTo(message.term)) {
      this.#fenced(message.term);
      return;
    }
    try {
      this.#step({ type: "message", peer, message });
      this.#lost.delete(peer);
    } catch (error) {
      // A conflict lasts until an operator acts. If too many safekeepers have one for a quorum,
      // there is nothing to wait for.
      if (error instanceof ZenithError && error.kind === "conflict") this.#lost.add(peer);
      const count = this.#options.acceptors.length;
      if (count - this.#lost.size < quorumOf(count)) this.#elected?.reject(error);
      throw error;
    }
  }

  #step(event: ProposerEvent): void {
    for (const effect of stepProposer(this.#state, event)) this.#carryOut(effect);
    // Trim and resume only after all effects: an effect may refer to WAL that is trimmed, and
    // resuming may bring the next event.
    if (this.#window === undefined || this.#state.commitLsn === INVALID_LSN) return;
    this.#trimWindow(this.#window);
    const unsettled = this.#window.endLsn - settledLsn(this.#state);
    if (this.#source?.paused && unsettled < UNSETTLED_LOW_BYTES) this.#source.resume();
  }

  #carryOut(effect: ProposerEffect): void {
    switch (effect.type) {
      case "send":
        this.#noteAsked(effect.peer);
        this.#links[effect.peer]?.copy?.send(encodeMessage(effect.message));
        break;
      case "append":
        this.#append(effect);
        break;
      case "fetch":
        this.#fetch(effect);
        break;
      case "elected":
        this.#window = new WalWindow(effect.epochStartLsn);
        this.#logger.info("elected", { term: effect.term, lsn: formatLsn(effect.epochStartLsn) });
        break;
      case "committed":
        this.#elected?.resolve();
        this.#source?.confirm(effect.lsn);
        break;
      case "remoteConsistent":
        break;
      case "fenced":
        this.#fenced(effect.term);
        break;
    }
  }

  /**
   * Appends WAL, or puts off an append without WAL. Under load, the next WAL brings the news of
   * what was committed before. That saves a message and a wakeup per commit and safekeeper.
   */
  #append(effect: AppendEffect): void {
    if (effect.endLsn > effect.beginLsn) {
      this.#news.delete(effect.peer);
      this.#send(effect);
      return;
    }
    this.#news.set(effect.peer, effect);
    this.#newsTimer ??= setTimeout(() => this.#sendNews(), NEWS_DELAY_MS);
  }

  #sendNews(): void {
    clearTimeout(this.#newsTimer);
    this.#newsTimer = undefined;
    for (const effect of this.#news.values()) {
      this.#send(effect);
      this.#links[effect.peer]?.copy?.flush();
    }
    this.#news.clear();
  }

  #send(effect: AppendEffect): void {
    const copy = this.#links[effect.peer]?.copy;
    if (copy === undefined || !copy.sending) return;
    const len = effect.endLsn - effect.beginLsn;
    if (len > 0) this.#noteAsked(effect.peer);
    const at = copy.reserve(APPEND_REQUEST_HEADER_BYTES + len);
    const body = encodeAppendRequestHeader(copy.buffer, at, effect);
    if (len > 0) this.#window!.copy(effect.beginLsn, copy.buffer, body, len);
  }

  #trimWindow(window: WalWindow): void {
    const below = Math.min(settledLsn(this.#state), window.endLsn - WINDOW_KEEP_BYTES) as Lsn;
    if (below - window.startLsn < WINDOW_TRIM_BYTES) return;
    window.trim(below);
    this.#step({ type: "localTrimmed", startLsn: below });
  }

  /** Whether a term belongs to another compute, against which this one doesn't campaign. */
  #givesWayTo(term: number): boolean {
    const { lastTerm = null } = this.#options;
    return this.#state.phase === "campaigning" && lastTerm !== null && term > Math.max(lastTerm, this.term);
  }

  #fenced(term: number): void {
    const error = this.#takenOver(term);
    this.#logger.error(error.message);
    if (this.#elected !== undefined) this.#elected.reject(error);
    else this.#options.onFenced(error);
    this.#source?.stop();
  }

  #takenOver(term: number): ZenithError {
    const own = Math.max(this.#options.lastTerm ?? 0, this.term);
    return new ZenithError(
      "conflict",
      `${TAKEN_OVER} ${this.#options.timeline}: its term is ${term}, this one's was ${own}`,
    );
  }

  // --- the clock

  #planElection(): void {
    const timeout = ELECTION_TIMEOUT_MIN_MS + Math.random() * ELECTION_TIMEOUT_SPREAD_MS;
    this.#electionTimer = setTimeout(() => {
      if (this.#state.phase !== "campaigning") return;
      this.#step({ type: "electionTimeout" });
      this.#planElection();
    }, timeout);
  }

  /**
   * Resets connections that owe an answer for too long. A connection may be dead without either end
   * noticing.
   */
  #watch(): void {
    const now = Date.now();
    this.#state.peers.forEach((peer, i) => {
      if (!this.#owesAnswer(i) || now - this.#answeredAt[i] < ANSWER_TIMEOUT_MS) return;
      this.#answeredAt[i] = now;
      this.#links[i]?.reset(`no answer for ${ANSWER_TIMEOUT_MS / 1000} s, ${peer.phase}`);
    });
  }

  #owesAnswer(index: number): boolean {
    const { phase, nextLsn, durableLsn } = this.#state.peers[index];
    if (phase === "streaming") return nextLsn > durableLsn;
    return phase === "greeting" || phase === "voting" || phase === "electing";
  }

  /**
   * Notes when an acceptor was asked. The wait for an answer begins with the first unanswered
   * question.
   */
  #noteAsked(index: number): void {
    const now = Date.now();
    const { nextLsn, durableLsn, phase } = this.#state.peers[index];
    if (phase !== "streaming" || nextLsn === durableLsn) this.#answeredAt[index] = now;
  }

  #noQuorum(timeoutMs: number): ZenithError {
    const count = this.#options.acceptors.length;
    const problems = this.#links
      .filter(({ problem }) => problem !== "")
      .map(({ address, problem }) => `${formatHostPort(address)}: ${problem}`);
    return new ZenithError(
      "unavailable",
      `no quorum of safekeepers within ${timeoutMs / 1000} s: ${quorumOf(count)} of ${count} are needed` +
        (problems.length === 0 ? "" : ` (${problems.join("; ")})`),
    );
  }

  // --- WAL that the window no longer holds

  #fetch(effect: FetchEffect): void {
    const { peer, from, to, source } = effect;
    const { acceptors } = this.#options;
    const range = { from, to, signal: this.#abort.signal };
    this.#fetched(effect, range)
      .then(
        (bytes) => this.#step({ type: "fetched", peer, lsn: from, bytes }),
        (error) => {
          if (this.#abort.signal.aborted) return;
          this.#logger.warn(`could not read WAL for a safekeeper that lags: ${errorMessage(error)}`, {
            from: source === POSTGRES ? "Postgres" : formatHostPort(acceptors[source]),
            for: formatHostPort(acceptors[peer]),
          });
          this.#step({ type: "fetchFailed", peer });
          setTimeout(() => this.#step({ type: "tick", peer }), FETCH_RETRY_MS);
        },
      );
  }

  #fetched({ source, term }: FetchEffect, range: FetchRange): Promise<Uint8Array> {
    const { tenant, timeline, acceptors } = this.#options;
    if (source !== POSTGRES) {
      return fetchFromSafekeeper({ safekeeper: acceptors[source], tenant, timeline, term }, range);
    }
    // Before Postgres has started, nothing uncommitted can be missing.
    if (this.#connect === undefined) {
      return Promise.reject(new ZenithError("unavailable", "Postgres is not there yet"));
    }
    return fetchFromPostgres(this.#connect, range);
  }

  // --- WAL from Postgres

  #onWal(lsn: Lsn, bytes: Uint8Array, off: number, len: number): void {
    const window = this.#window!;
    if (lsn !== window.endLsn) {
      throw new ZenithError(
        "protocol",
        `Postgres sends WAL at ${formatLsn(lsn)}, expected ${formatLsn(window.endLsn)}`,
      );
    }
    window.append(bytes, off, len);
    const source = this.#source!;
    if (!source.paused && window.endLsn - settledLsn(this.#state) > UNSETTLED_MAX_BYTES) source.pause();
    // Send what one read of the socket has brought in one message, however many messages Postgres
    // has split it into.
    if (this.#advancePlanned) return;
    this.#advancePlanned = true;
    queueMicrotask(() => {
      this.#advancePlanned = false;
      const isOver = this.#abort.signal.aborted || this.#state.phase === "stopped";
      if (!isOver) this.#step({ type: "localAdvanced", endLsn: window.endLsn });
    });
  }
}
