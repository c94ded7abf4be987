/**
 * The one writer of a timeline: it gets itself elected by a quorum of acceptors, brings them to one
 * log, and counts how far a quorum has that log. Pure: no clock, no I/O, no randomness. The driver
 * (`src/compute/proposer/wal_proposer.ts`, or the simulator) feeds it events and carries out the
 * effects of each in order.
 *
 * The proposer has its own WAL only from the start of its term, and of that only a window, which
 * may be much smaller than one record. It fetches what an acceptor lacks below the window:
 * uncommitted WAL from Postgres, which keeps it until it is committed; the rest from another
 * acceptor of the term, whose log is a prefix of this proposer's.
 */
import { assert } from "../common/assert.ts";
import { ZenithError } from "../common/errors.ts";
import { formatLsn, INVALID_LSN, type Lsn, maxLsn } from "../common/lsn.ts";
import { checkAcceptorMessage, TERM_MAX, TERM_STEP_MAX } from "./bounds.ts";
import {
  type AcceptorMessage,
  APPEND_MAX_BYTES,
  type AppendResponse,
  type ProposerMessage,
  type ServerInfo,
  type VoteResponse,
} from "./messages.ts";
import { LIMITS, type Limits } from "./limits.ts";
import { quorumOf } from "./quorum.ts";
import { commonPrefixEnd, lastLogTerm, startTerm, type TermHistory } from "./term_history.ts";

/** The `source` of a fetch that Postgres itself answers. */
export const POSTGRES = -1;

/** Where a peer is in its conversation with us. */
export type PeerPhase =
  | "offline"
  /** ServerInfo is sent. */
  | "greeting"
  /** It has answered. It has not been asked for its vote yet, or has refused it. */
  | "greeted"
  /** VoteRequest is sent. */
  | "voting"
  | "voted"
  /** ProposerElected is sent. */
  | "electing"
  /** Its log is a prefix of ours. */
  | "streaming";

export interface Peer {
  phase: PeerPhase;
  /** The highest term that it has reported on this connection. */
  term: number;
  /** Its vote for the current term, once it has given it. */
  vote: VoteResponse | undefined;
  /** The position that it has confirmed in this term; 0/0 before. */
  flushLsn: Lsn;
  /**
   * What it has durably, by its latest report. Above flushLsn lies part of a record, which a crash
   * would remove.
   */
  durableLsn: Lsn;
  /** The next byte to send. */
  nextLsn: Lsn;
  fetching: boolean;
}

export interface ProposerConfig {
  readonly serverInfo: ServerInfo;
  readonly acceptorCount: number;
  /** Where the timeline's WAL begins if no acceptor has any: at the page server's last record. */
  readonly timelineStartLsn: Lsn;
  /** Other values than production's are for simulations. */
  readonly limits?: Limits;
}

export interface ProposerState {
  readonly config: ProposerConfig;
  readonly limits: Limits;
  phase: "campaigning" | "elected" | "stopped";
  /** 0 until a quorum has been greeted. */
  term: number;
  /** The highest term that any acceptor has reported. */
  seenTerm: number;
  timelineStartLsn: Lsn;
  /** Where this term's log begins: everything below is decided. */
  epochStartLsn: Lsn;
  history: TermHistory;
  /** The WAL that the driver has in memory. */
  localStartLsn: Lsn;
  localEndLsn: Lsn;
  /** 0/0 until a quorum has everything up to the term's start. */
  commitLsn: Lsn;
  remoteConsistentLsn: Lsn;
  readonly peers: Peer[];
}

export type ProposerEvent =
  | { readonly type: "connected"; readonly peer: number }
  | { readonly type: "disconnected"; readonly peer: number }
  | { readonly type: "message"; readonly peer: number; readonly message: AcceptorMessage }
  /** No answer for a while: repeat the message. */
  | { readonly type: "tick"; readonly peer: number }
  /** No quorum for a while: try a higher term. */
  | { readonly type: "electionTimeout" }
  /** Postgres has written up to here. */
  | { readonly type: "localAdvanced"; readonly endLsn: Lsn }
  /** The driver has dropped the WAL below this, which is at most {@link settledLsn}. */
  | { readonly type: "localTrimmed"; readonly startLsn: Lsn }
  /** Answers the effect `fetch`; the bytes start where it asked for them. */
  | { readonly type: "fetched"; readonly peer: number; readonly lsn: Lsn; readonly bytes: Uint8Array }
  | { readonly type: "fetchFailed"; readonly peer: number };

export type ProposerEffect =
  | { readonly type: "send"; readonly peer: number; readonly message: ProposerMessage }
  /** Send an AppendRequest with the driver's own WAL of [beginLsn, endLsn). */
  | {
    readonly type: "append";
    readonly peer: number;
    readonly term: number;
    readonly beginLsn: Lsn;
    readonly endLsn: Lsn;
    readonly commitLsn: Lsn;
    readonly truncateLsn: Lsn;
    readonly remoteConsistentLsn: Lsn;
  }
  /**
   * Read up to [from, to) from acceptor `source`, as long as it is in `term`, or from
   * {@link POSTGRES}. Answered by `fetched` or `fetchFailed`.
   */
  | {
    readonly type: "fetch";
    readonly peer: number;
    readonly source: number;
    readonly term: number;
    readonly from: Lsn;
    readonly to: Lsn;
  }
  /**
   * Elected: this term's WAL starts here. A quorum need not have everything below yet; `committed`
   * reports that.
   */
  | { readonly type: "elected"; readonly term: number; readonly epochStartLsn: Lsn }
  /** A quorum has everything up to here; the first time, up to the start of the term. */
  | { readonly type: "committed"; readonly lsn: Lsn }
  | { readonly type: "remoteConsistent"; readonly lsn: Lsn }
  /** Somebody was elected in a newer term, or wants to be. Nothing more is sent. */
  | { readonly type: "fenced"; readonly term: number };

/** @throws {ZenithError} `invalid_argument` when there is no acceptor */
export function startProposer(config: ProposerConfig): ProposerState {
  if (config.acceptorCount < 1) throw new ZenithError("invalid_argument", "no safekeepers are configured");
  return {
    config,
    limits: config.limits ?? LIMITS,
    phase: "campaigning",
    term: 0,
    seenTerm: 0,
    timelineStartLsn: config.timelineStartLsn,
    epochStartLsn: INVALID_LSN,
    history: [],
    localStartLsn: INVALID_LSN,
    localEndLsn: INVALID_LSN,
    commitLsn: INVALID_LSN,
    remoteConsistentLsn: INVALID_LSN,
    peers: Array.from({ length: config.acceptorCount }, (): Peer => ({
      phase: "offline",
      term: 0,
      vote: undefined,
      flushLsn: INVALID_LSN,
      durableLsn: INVALID_LSN,
      nextLsn: INVALID_LSN,
      fetching: false,
    })),
  };
}

/**
 * Changes `state` in place and returns the effects to carry out, in this order.
 *
 * @throws {ZenithError} when an acceptor says something impossible: its connection is of no use
 */
export function stepProposer(state: ProposerState, event: ProposerEvent): ProposerEffect[] {
  const effects: ProposerEffect[] = [];
  if (state.phase === "stopped") return effects;
  switch (event.type) {
    case "connected":
      state.peers[event.peer].phase = "greeting";
      state.peers[event.peer].term = 0;
      send(effects, event.peer, state.config.serverInfo);
      break;
    case "disconnected":
      // Its vote and the positions that it has confirmed still count: they are durable.
      state.peers[event.peer].phase = "offline";
      break;
    case "message":
      onMessage(state, event.peer, event.message, effects);
      break;
    case "tick":
      onTick(state, event.peer, effects);
      break;
    case "electionTimeout":
      if (state.phase === "campaigning") campaign(state, effects);
      break;
    case "localAdvanced":
      assert(state.phase === "elected", "only an elected proposer writes");
      assert(event.endLsn >= state.localEndLsn, "local WAL only grows");
      state.localEndLsn = event.endLsn;
      for (let i = 0; i < state.peers.length; i++) pump(state, i, effects);
      break;
    case "localTrimmed":
      assert(
        event.startLsn >= state.localStartLsn && event.startLsn <= state.localEndLsn,
        "the window moves up",
      );
      state.localStartLsn = event.startLsn;
      break;
    case "fetched":
      onFetched(state, event.peer, event.lsn, event.bytes, effects);
      break;
    case "fetchFailed":
      state.peers[event.peer].fetching = false;
      break;
  }
  return effects;
}

function onMessage(
  state: ProposerState,
  index: number,
  message: AcceptorMessage,
  effects: ProposerEffect[],
): void {
  checkAcceptorMessage(message);
  state.seenTerm = Math.max(state.seenTerm, message.term);
  if (state.phase === "elected" && message.term > state.term) {
    state.phase = "stopped";
    effects.push({ type: "fenced", term: message.term });
    return;
  }
  const peer = state.peers[index];
  const wasBehind = peer.term + TERM_STEP_MAX < state.term;
  const wasStep = wasBehind && message.term > peer.term;
  peer.term = Math.max(peer.term, message.term);
  switch (message.type) {
    case "Greeting":
      return onGreeting(state, index, effects);
    case "VoteResponse":
      return onVoteResponse(state, index, message, wasStep, effects);
    case "AppendResponse":
      return onAppendResponse(state, index, message, effects);
  }
}

function onGreeting(state: ProposerState, index: number, effects: ProposerEffect[]): void {
  const peer = state.peers[index];
  if (peer.phase !== "greeting") return;
  peer.phase = "greeted";
  if (state.term > 0) {
    askVote(state, index, effects);
    return;
  }
  const greeted = state.peers.filter(({ phase }) => phase === "greeted").length;
  if (greeted >= quorum(state)) campaign(state, effects);
}

/** Takes a term above every term heard of, and asks everybody who is connected for a vote. */
function campaign(state: ProposerState, effects: ProposerEffect[]): void {
  const present = state.peers.filter(({ phase }) => phase !== "offline" && phase !== "greeting").length;
  // To be won, the term must be above that of any quorum.
  if (present < quorum(state)) return;
  const term = Math.max(state.seenTerm, state.term) + 1;
  if (term > TERM_MAX) return;
  state.term = term;
  for (let i = 0; i < state.peers.length; i++) {
    const peer = state.peers[i];
    peer.vote = undefined;
    if (peer.phase !== "offline" && peer.phase !== "greeting") askVote(state, i, effects);
  }
}

/**
 * One message raises an acceptor's term only so far. An acceptor that is further behind is led up
 * in steps, and its votes on the way don't count.
 */
function askVote(state: ProposerState, index: number, effects: ProposerEffect[]): void {
  const peer = state.peers[index];
  peer.phase = "voting";
  send(effects, index, { type: "VoteRequest", term: Math.min(state.term, peer.term + TERM_STEP_MAX) });
}

function onVoteResponse(
  state: ProposerState,
  index: number,
  message: VoteResponse,
  wasStep: boolean,
  effects: ProposerEffect[],
): void {
  const peer = state.peers[index];
  if (peer.phase !== "voting") return;
  if (message.term < state.term) {
    if (wasStep) askVote(state, index, effects);
    return;
  }
  if (state.phase === "elected") {
    // Whether or not it voted, it is in our term, and only we can change its log from now on.
    elect(state, index, message, effects);
    return;
  }
  if (!message.granted || message.term !== state.term) {
    peer.phase = "greeted";
    return;
  }
  peer.phase = "voted";
  peer.vote = message;
  const votes = state.peers.filter(({ vote }) => vote !== undefined).length;
  if (votes >= quorum(state)) win(state, effects);
}

function win(state: ProposerState, effects: ProposerEffect[]): void {
  let donor: VoteResponse | undefined;
  for (const { vote } of state.peers) {
    if (vote === undefined) continue;
    if (donor === undefined || isAhead(vote, donor)) donor = vote;
    if (vote.timelineStartLsn !== INVALID_LSN) state.timelineStartLsn = vote.timelineStartLsn;
  }
  assert(donor !== undefined, "an election is won with votes");
  state.phase = "elected";
  state.epochStartLsn = donor.timelineStartLsn === INVALID_LSN ? state.timelineStartLsn : donor.flushLsn;
  state.history = startTerm(donor.history, state.epochStartLsn, state.term);
  state.localStartLsn = state.epochStartLsn;
  state.localEndLsn = state.epochStartLsn;
  effects.push({ type: "elected", term: state.term, epochStartLsn: state.epochStartLsn });
  for (let i = 0; i < state.peers.length; i++) {
    const { phase, vote } = state.peers[i];
    if (phase === "voted") elect(state, i, vote!, effects);
    else if (phase === "greeted") askVote(state, i, effects);
  }
}

/** Whether the log behind `a` is newer than that behind `b`, or as new and longer. */
function isAhead(a: VoteResponse, b: VoteResponse): boolean {
  const termA = lastLogTerm(a.history, a.flushLsn);
  const termB = lastLogTerm(b.history, b.flushLsn);
  return termA > termB || (termA === termB && a.flushLsn > b.flushLsn);
}

function elect(state: ProposerState, index: number, log: VoteResponse, effects: ProposerEffect[]): void {
  state.peers[index].phase = "electing";
  const startLsn = log.timelineStartLsn === INVALID_LSN
    ? state.timelineStartLsn
    : commonPrefixEnd(state.history, log.history, log.flushLsn, state.timelineStartLsn);
  send(effects, index, {
    type: "ProposerElected",
    term: state.term,
    startLsn,
    timelineStartLsn: state.timelineStartLsn,
    history: state.history,
  });
}

function onAppendResponse(
  state: ProposerState,
  index: number,
  message: AppendResponse,
  effects: ProposerEffect[],
): void {
  // While its history is of an older term, its positions say nothing about our log.
  if (state.phase !== "elected" || message.term !== state.term || message.historyTerm !== state.term) return;
  const peer = state.peers[index];
  if (message.durableLsn > state.localEndLsn) {
    throw new ZenithError(
      "protocol",
      `safekeeper ${index} has WAL up to ${
        formatLsn(message.durableLsn)
      } in term ${state.term}, whose log ends at ${formatLsn(state.localEndLsn)}`,
    );
  }
  if (message.remoteConsistentLsn > state.localEndLsn) {
    throw new ZenithError(
      "protocol",
      `safekeeper ${index} says that the page server has WAL up to ${
        formatLsn(message.remoteConsistentLsn)
      }, but the log ends at ${formatLsn(state.localEndLsn)}`,
    );
  }
  peer.flushLsn = maxLsn(peer.flushLsn, message.flushLsn);
  peer.durableLsn = maxLsn(peer.durableLsn, message.durableLsn);
  if (peer.phase === "electing") {
    peer.phase = "streaming";
    // It may have crashed since it last connected.
    peer.durableLsn = message.durableLsn;
    peer.nextLsn = message.durableLsn;
  }
  let hasNews = false;
  if (message.remoteConsistentLsn > state.remoteConsistentLsn) {
    state.remoteConsistentLsn = message.remoteConsistentLsn;
    effects.push({ type: "remoteConsistent", lsn: message.remoteConsistentLsn });
    hasNews = true;
  }
  // The commit first, so that the next message carries it.
  hasNews = advanceCommit(state, effects) || hasNews;
  const hasSent = pump(state, index, effects);
  feedFrom(state, index, effects);
  if (!hasNews) return;
  for (let i = 0; i < state.peers.length; i++) {
    if (i !== index || !hasSent) tellNews(state, i, effects);
  }
}

/**
 * Up to where the driver may drop its own WAL: it is committed, or a quorum has it durably, even if
 * only as part of a record. If acceptors lose it, Postgres still has it.
 */
export function settledLsn(state: ProposerState): Lsn {
  const positions = state.peers.map(({ durableLsn }) => durableLsn).sort((a, b) => b - a);
  return maxLsn(state.commitLsn, positions[quorum(state) - 1]);
}

/**
 * The quorum-th largest position among acceptors whose log is this term's. Only then is WAL
 * decided.
 */
function advanceCommit(state: ProposerState, effects: ProposerEffect[]): boolean {
  const positions = state.peers.map(({ flushLsn }) => flushLsn).sort((a, b) => b - a);
  const lsn = positions[quorum(state) - 1];
  // Below the term's start, an acceptor's log has not become this term's yet.
  if (lsn < state.epochStartLsn || lsn <= state.commitLsn) return false;
  state.commitLsn = lsn;
  effects.push({ type: "committed", lsn });
  return true;
}

/** Sends what the peer lacks, as far as the limits allow now. */
function pump(state: ProposerState, index: number, effects: ProposerEffect[]): boolean {
  const peer = state.peers[index];
  let hasSent = false;
  if (peer.phase !== "streaming") return hasSent;
  while (peer.nextLsn < state.localEndLsn && peer.nextLsn - peer.durableLsn < state.limits.inFlightBytes) {
    if (peer.nextLsn < state.localStartLsn) {
      requestFetch(state, index, effects);
      return hasSent;
    }
    const endLsn = Math.min(state.localEndLsn, peer.nextLsn + state.limits.appendBytes) as Lsn;
    pushAppend(state, index, endLsn, effects);
    peer.nextLsn = endLsn;
    hasSent = true;
  }
  return hasSent;
}

/**
 * Peers that lack WAL below the window may have been waiting for an acceptor that has it: this one
 * may be the first.
 */
function feedFrom(state: ProposerState, source: number, effects: ProposerEffect[]): void {
  const { durableLsn } = state.peers[source];
  for (let i = 0; i < state.peers.length; i++) {
    const peer = state.peers[i];
    if (i === source || peer.fetching || peer.nextLsn >= state.localStartLsn) continue;
    if (peer.nextLsn < durableLsn) pump(state, i, effects);
  }
}

function tellNews(state: ProposerState, index: number, effects: ProposerEffect[]): void {
  const peer = state.peers[index];
  if (peer.phase === "streaming") pushAppend(state, index, peer.nextLsn, effects);
}

function pushAppend(state: ProposerState, index: number, endLsn: Lsn, effects: ProposerEffect[]): void {
  effects.push({
    type: "append",
    peer: index,
    term: state.term,
    beginLsn: state.peers[index].nextLsn,
    endLsn,
    commitLsn: state.commitLsn,
    truncateLsn: truncateLsn(state),
    remoteConsistentLsn: state.remoteConsistentLsn,
  });
}

/** Asks for WAL that the window no longer holds. */
function requestFetch(state: ProposerState, index: number, effects: ProposerEffect[]): void {
  const peer = state.peers[index];
  if (peer.fetching) return;
  // Uncommitted WAL may be at no acceptor any more: it is the beginning of a record that each of
  // them lost in a crash.
  const isCommitted = peer.nextLsn < state.commitLsn || state.commitLsn === INVALID_LSN;
  const source = isCommitted ? sourceFor(state, index) : POSTGRES;
  if (source === undefined) return;
  peer.fetching = true;
  const end = source === POSTGRES ? state.localStartLsn : state.peers[source].durableLsn;
  const to = Math.min(end, peer.nextLsn + state.limits.fetchBytes) as Lsn;
  effects.push({ type: "fetch", peer: index, source, term: state.term, from: peer.nextLsn, to });
}

/** The acceptor of this term that has the most WAL, if it has what this one lacks. */
function sourceFor(state: ProposerState, index: number): number | undefined {
  const { nextLsn } = state.peers[index];
  let source: number | undefined;
  for (let i = 0; i < state.peers.length; i++) {
    const { phase, durableLsn } = state.peers[i];
    if (i === index || phase !== "streaming" || durableLsn <= nextLsn) continue;
    if (source === undefined || durableLsn > state.peers[source].durableLsn) source = i;
  }
  return source;
}

function onFetched(
  state: ProposerState,
  index: number,
  lsn: Lsn,
  bytes: Uint8Array,
  effects: ProposerEffect[],
): void {
  assert(bytes.length > 0 && bytes.length <= APPEND_MAX_BYTES, "a fetch brings what one message can carry");
  const peer = state.peers[index];
  peer.fetching = false;
  // It may have reconnected and need something else now.
  if (peer.phase === "streaming" && peer.nextLsn === lsn) {
    const message: ProposerMessage = {
      type: "AppendRequest",
      term: state.term,
      beginLsn: lsn,
      commitLsn: state.commitLsn,
      truncateLsn: truncateLsn(state),
      remoteConsistentLsn: state.remoteConsistentLsn,
      bytes,
    };
    send(effects, index, message);
    peer.nextLsn = (lsn + bytes.length) as Lsn;
  }
  pump(state, index, effects);
}

function onTick(state: ProposerState, index: number, effects: ProposerEffect[]): void {
  const peer = state.peers[index];
  switch (peer.phase) {
    case "greeting":
      send(effects, index, state.config.serverInfo);
      break;
    case "greeted":
    case "voting":
    case "electing":
      // Once the term is settled, this asks for the state of its log.
      if (state.term > 0) askVote(state, index, effects);
      break;
    case "streaming":
      peer.nextLsn = peer.durableLsn;
      if (!pump(state, index, effects)) tellNews(state, index, effects);
      break;
  }
}

/** Up to where every acceptor has the log, including those that are away. */
function truncateLsn(state: ProposerState): Lsn {
  let lsn = state.commitLsn;
  for (const { flushLsn } of state.peers) {
    if (flushLsn < lsn) lsn = flushLsn;
  }
  return lsn;
}

function quorum(state: ProposerState): number {
  return quorumOf(state.config.acceptorCount);
}

function send(effects: ProposerEffect[], peer: number, message: ProposerMessage): void {
  effects.push({ type: "send", peer, message });
}
