/**
 * One timeline's acceptor: votes, and keeps the log of the proposer that was elected. Pure: no clock, no I/O, no randomness.
 * The driver (`src/safekeeper/timeline.ts`, and the simulator) feeds it events, one at a time, and carries out the effects of each
 * in order, before the next event. Only `sync` may run on; its completion is an event of its own.
 *
 * Rules that everything rests on:
 * - A term is made durable before it is answered to. So at most one vote is given per term, across crashes too.
 * - The log of a new term begins with cutting what is not in it, and only then the history says that the log is the new term's.
 *   A crash in between leaves a shorter log of the old term, which is never mistaken for one of the new.
 * - Once the history ends in the current term, the log is a prefix of that proposer's: it only grows, and hearing
 *   anything of that term a second time changes nothing.
 */
import { assert } from "../common/assert.ts";
import { ZenithError } from "../common/errors.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../common/lsn.ts";
import type {
  AcceptorMessage,
  AppendRequest,
  ProposerElected,
  ProposerMessage,
  TimelineIdentity,
  VoteRequest,
} from "./messages.ts";
import { commonPrefixEnd, formatTermHistory, historyTerm, type TermHistory } from "./term_history.ts";

/** What survives a crash besides the WAL. */
export interface AcceptorControl {
  /** The newest term this acceptor has heard of and may have voted in. */
  term: number;
  history: TermHistory;
  /** 0/0 until a proposer was elected for the first time: there is no WAL yet. */
  timelineStartLsn: Lsn;
  /** Written lazily: a lower bound. */
  commitLsn: Lsn;
  /** Reserved for WAL that is stored elsewhere: everything below needs no safekeeper. */
  backupLsn: Lsn;
  /** What the page server has made durable. Written lazily: a lower bound. */
  remoteConsistentLsn: Lsn;
}

export interface AcceptorState extends AcceptorControl {
  readonly identity: TimelineIdentity;
  readonly acceptorId: number;

  /** End of the bytes in the WAL store. */
  writtenLsn: Lsn;
  /** End of the last whole record in it. */
  recordEndLsn: Lsn;
  /** A record boundary: everything below is durable. */
  flushLsn: Lsn;
  /** What the proposer of this history has told of the quorum; may be ahead of the log here. */
  knownCommitLsn: Lsn;
  /** No acceptor needs WAL below this from here. */
  truncateLsn: Lsn;

  /** Number of cuts so far: tells a sync that began before one. */
  cuts: number;
  /** A sync runs; it covers records up to here. */
  syncingTo: Lsn;
  /** Connections of proposers, to tell them when they are superseded. */
  sessions: readonly number[];
  /** The session of the proposer that this log is of, which hears of every sync; 0: nobody. */
  appender: number;
}

export type AcceptorEvent =
  /** A proposer's message; ServerInfo opens the session. */
  | { readonly type: "message"; readonly session: number; readonly message: ProposerMessage }
  | { readonly type: "closed"; readonly session: number }
  /** Answers the effect `write`: where the last whole record ends, up to `writtenLsn`. */
  | { readonly type: "written"; readonly writtenLsn: Lsn; readonly recordEndLsn: Lsn }
  /** Nothing more is waiting to be handled: what was written is worth a sync. */
  | { readonly type: "idle" }
  /** The sync with this number of cuts is done. */
  | { readonly type: "synced"; readonly cuts: number }
  | { readonly type: "feedback"; readonly remoteConsistentLsn: Lsn };

export type AcceptorEffect =
  /** Replace the control record, durably. */
  | { readonly type: "persist"; readonly control: AcceptorControl }
  /** Begin an empty log at this position. */
  | { readonly type: "init"; readonly startLsn: Lsn }
  /** Cut the log, durably. */
  | { readonly type: "truncate"; readonly lsn: Lsn }
  /** Append to the log; answered by the event `written`. `bytes[off..]` starts at `lsn`. */
  | { readonly type: "write"; readonly lsn: Lsn; readonly bytes: Uint8Array; readonly off: number }
  /** Make the log durable; answered by the event `synced`. */
  | { readonly type: "sync"; readonly cuts: number }
  | { readonly type: "send"; readonly session: number; readonly message: AcceptorMessage }
  /** The proposer did what can't be: end its connection with this error. */
  | { readonly type: "refuse"; readonly session: number; readonly error: ZenithError }
  /** Readers may have more. */
  | { readonly type: "committed"; readonly lsn: Lsn };

/** The control record of a timeline that nobody has written to. */
export function newAcceptorControl(): AcceptorControl {
  return {
    term: 0,
    history: [],
    timelineStartLsn: INVALID_LSN,
    commitLsn: INVALID_LSN,
    backupLsn: INVALID_LSN,
    remoteConsistentLsn: INVALID_LSN,
  };
}

/** The part of a state that is persisted, as it is now. */
export function controlOf(state: AcceptorState): AcceptorControl {
  const { term, history, timelineStartLsn, commitLsn, backupLsn, remoteConsistentLsn } = state;
  return { term, history, timelineStartLsn, commitLsn, backupLsn, remoteConsistentLsn };
}

/**
 * The state after a start.
 *
 * @param endOfWal the last record boundary in the WAL, behind which it was cut; 0/0 when there is none
 * @throws {ZenithError} `corrupt_data` when WAL that was committed is not there
 */
export function startAcceptor(
  control: AcceptorControl,
  identity: TimelineIdentity,
  acceptorId: number,
  endOfWal: Lsn,
): AcceptorState {
  if (endOfWal < control.commitLsn || endOfWal < control.timelineStartLsn) {
    throw new ZenithError(
      "corrupt_data",
      `WAL of timeline ${identity.timelineId} ends at ${formatLsn(endOfWal)}, but ${
        formatLsn(control.commitLsn)
      } was committed`,
    );
  }
  return {
    ...control,
    identity,
    acceptorId,
    writtenLsn: endOfWal,
    recordEndLsn: endOfWal,
    flushLsn: endOfWal,
    knownCommitLsn: control.commitLsn,
    truncateLsn: INVALID_LSN,
    cuts: 0,
    syncingTo: INVALID_LSN,
    sessions: [],
    appender: 0,
  };
}

/** Changes `state` in place and says what is to be done, in this order. */
export function stepAcceptor(state: AcceptorState, event: AcceptorEvent): AcceptorEffect[] {
  const effects: AcceptorEffect[] = [];
  switch (event.type) {
    case "message":
      onMessage(state, event.session, event.message, effects);
      break;
    case "closed":
      state.sessions = state.sessions.filter((session) => session !== event.session);
      if (state.appender === event.session) state.appender = 0;
      break;
    case "written":
      assert(event.writtenLsn <= state.writtenLsn, "no more is written than was asked for");
      assert(
        event.recordEndLsn >= state.recordEndLsn && event.recordEndLsn <= event.writtenLsn,
        "record ends only advance, up to what is written",
      );
      state.writtenLsn = event.writtenLsn;
      state.recordEndLsn = event.recordEndLsn;
      break;
    case "idle":
      if (state.recordEndLsn > state.flushLsn && state.syncingTo === INVALID_LSN) {
        state.syncingTo = state.recordEndLsn;
        effects.push({ type: "sync", cuts: state.cuts });
      }
      break;
    case "synced":
      onSynced(state, event.cuts, effects);
      break;
    case "feedback":
      if (event.remoteConsistentLsn <= state.remoteConsistentLsn) break;
      state.remoteConsistentLsn = event.remoteConsistentLsn;
      // Through the proposer the other acceptors hear of it, and can let go of WAL.
      if (state.appender !== 0) send(effects, state.appender, appendResponse(state));
      break;
  }
  checkInvariants(state);
  return effects;
}

function onMessage(
  state: AcceptorState,
  session: number,
  message: ProposerMessage,
  effects: AcceptorEffect[],
): void {
  if (message.type === "ServerInfo") {
    const mismatch = identityMismatch(state.identity, message);
    if (mismatch !== undefined) {
      effects.push({ type: "refuse", session, error: mismatch });
      return;
    }
    if (!state.sessions.includes(session)) state.sessions = [...state.sessions, session];
    send(effects, session, { type: "Greeting", term: state.term, acceptorId: state.acceptorId });
    return;
  }
  if (!state.sessions.includes(session)) {
    refuse(effects, session, "protocol", `${message.type} before ServerInfo`);
    return;
  }
  switch (message.type) {
    case "VoteRequest":
      return onVoteRequest(state, session, message, effects);
    case "ProposerElected":
      return onElected(state, session, message, effects);
    case "AppendRequest":
      return onAppend(state, session, message, effects);
  }
}

function onVoteRequest(
  state: AcceptorState,
  session: number,
  message: VoteRequest,
  effects: AcceptorEffect[],
): void {
  const granted = message.term > state.term;
  if (granted) raiseTerm(state, session, message.term, effects);
  send(effects, session, {
    type: "VoteResponse",
    term: state.term,
    granted,
    flushLsn: state.flushLsn,
    timelineStartLsn: state.timelineStartLsn,
    history: state.history,
  });
}

function onElected(
  state: AcceptorState,
  session: number,
  message: ProposerElected,
  effects: AcceptorEffect[],
): void {
  if (message.term < state.term || historyTerm(state.history) === message.term) {
    if (message.term === state.term) state.appender = session;
    send(effects, session, appendResponse(state));
    return;
  }
  const problem = electedProblem(state, message);
  if (problem !== undefined) {
    refuse(effects, session, "conflict", problem);
    return;
  }
  // This acceptor may not have been among the voters.
  if (message.term > state.term) raiseTerm(state, session, message.term, effects);
  if (state.timelineStartLsn === INVALID_LSN) {
    effects.push({ type: "init", startLsn: message.timelineStartLsn });
    state.timelineStartLsn = message.timelineStartLsn;
    // The log begins where the page server is: below it needs nothing from here.
    state.remoteConsistentLsn = message.timelineStartLsn;
    setLog(state, message.timelineStartLsn);
  } else {
    const end = commonEnd(state, message.history);
    if (state.writtenLsn > end) {
      effects.push({ type: "truncate", lsn: end });
      setLog(state, end);
    }
  }
  state.history = message.history;
  state.appender = session;
  effects.push({ type: "persist", control: controlOf(state) });
  send(effects, session, appendResponse(state));
}

/** What shows that a proposer's election is none, or not of this timeline; undefined when nothing does. */
function electedProblem(state: AcceptorState, message: ProposerElected): string | undefined {
  const { history, startLsn, timelineStartLsn, term } = message;
  const where = `timeline ${state.identity.timelineId}, term ${term}`;
  if (historyTerm(history) !== term) {
    return `${where}: its history ends otherwise, ${formatTermHistory(history)}`;
  }
  if (history[0]!.startLsn < timelineStartLsn || timelineStartLsn === INVALID_LSN) {
    return `${where}: its history begins before its start at ${formatLsn(timelineStartLsn)}`;
  }
  if (state.timelineStartLsn === INVALID_LSN) {
    return startLsn === timelineStartLsn
      ? undefined
      : `${where}: it starts at ${formatLsn(startLsn)}, but there is no WAL here yet`;
  }
  if (timelineStartLsn !== state.timelineStartLsn) {
    return `${where}: it begins at ${formatLsn(timelineStartLsn)}, here at ${
      formatLsn(state.timelineStartLsn)
    }`;
  }
  const common = commonEnd(state, history);
  if (startLsn > common) {
    return `${where}: it starts at ${formatLsn(startLsn)}, but has only ${formatLsn(common)} in common`;
  }
  if (common < state.commitLsn) {
    return `${where}: it would cut at ${formatLsn(common)} what is committed up to ${
      formatLsn(state.commitLsn)
    }`;
  }
  return undefined;
}

/**
 * Where the log here parts from that of a proposer with this history. The proposer knows a lower bound: since this acceptor's vote a
 * sync may have ended, and with it commitLsn may have risen.
 */
function commonEnd(state: AcceptorState, history: TermHistory): Lsn {
  return commonPrefixEnd(history, state.history, state.recordEndLsn, state.timelineStartLsn);
}

function onAppend(
  state: AcceptorState,
  session: number,
  message: AppendRequest,
  effects: AcceptorEffect[],
): void {
  const isCurrent = message.term === state.term && historyTerm(state.history) === message.term;
  if (!isCurrent || message.beginLsn > state.writtenLsn) {
    send(effects, session, appendResponse(state));
    return;
  }
  state.knownCommitLsn = max(state.knownCommitLsn, message.commitLsn);
  state.truncateLsn = max(state.truncateLsn, message.truncateLsn);
  state.remoteConsistentLsn = max(state.remoteConsistentLsn, message.remoteConsistentLsn);
  advanceCommit(state, effects);
  if (message.bytes.length === 0) return;

  const off = state.writtenLsn - message.beginLsn;
  if (off >= message.bytes.length) {
    send(effects, session, appendResponse(state));
    return;
  }
  effects.push({ type: "write", lsn: state.writtenLsn, bytes: message.bytes, off });
  state.writtenLsn = (message.beginLsn + message.bytes.length) as Lsn;
  state.appender = session;
}

function onSynced(state: AcceptorState, cuts: number, effects: AcceptorEffect[]): void {
  if (cuts !== state.cuts) return;
  assert(state.syncingTo !== INVALID_LSN, "a sync that ends has begun");
  state.flushLsn = state.syncingTo;
  state.syncingTo = INVALID_LSN;
  advanceCommit(state, effects);
  if (state.appender !== 0) send(effects, state.appender, appendResponse(state));
}

/** Follows a newer term. Those who proposed in older ones hear of it at once, so that they stop. */
function raiseTerm(state: AcceptorState, session: number, term: number, effects: AcceptorEffect[]): void {
  assert(term > state.term, "terms only rise");
  state.term = term;
  effects.push({ type: "persist", control: controlOf(state) });
  for (const other of state.sessions) {
    if (other !== session) send(effects, other, appendResponse(state));
  }
  state.appender = 0;
}

/** The log was cut or begun: it ends at `lsn`, durably. */
function setLog(state: AcceptorState, lsn: Lsn): void {
  state.writtenLsn = lsn;
  state.recordEndLsn = lsn;
  state.flushLsn = lsn;
  state.cuts++;
  state.syncingTo = INVALID_LSN;
}

/** The quorum's position counts here as far as the log reaches: up to there it is the same log. */
function advanceCommit(state: AcceptorState, effects: AcceptorEffect[]): void {
  const lsn = Math.min(state.knownCommitLsn, state.flushLsn) as Lsn;
  if (lsn <= state.commitLsn) return;
  state.commitLsn = lsn;
  effects.push({ type: "committed", lsn });
}

function appendResponse(state: AcceptorState): AcceptorMessage {
  return {
    type: "AppendResponse",
    term: state.term,
    historyTerm: historyTerm(state.history),
    flushLsn: state.flushLsn,
    commitLsn: state.commitLsn,
    remoteConsistentLsn: state.remoteConsistentLsn,
  };
}

/** What does not fit between a proposer's greeting and the timeline it wants to write; undefined when all fits. */
function identityMismatch(identity: TimelineIdentity, info: TimelineIdentity): ZenithError | undefined {
  const differs = (what: string, theirs: unknown, ours: unknown): ZenithError =>
    new ZenithError(
      "conflict",
      `timeline ${identity.timelineId} of tenant ${identity.tenantId} has ${what} ${ours}, the compute has ${theirs}`,
      { hint: "this compute was not started from that timeline" },
    );
  if (info.tenantId !== identity.tenantId) return differs("tenant id", info.tenantId, identity.tenantId);
  if (info.timelineId !== identity.timelineId) return differs("id", info.timelineId, identity.timelineId);
  if (info.systemId !== identity.systemId) {
    return differs("system identifier", info.systemId, identity.systemId);
  }
  if (info.pgVersion !== identity.pgVersion) {
    return differs("Postgres version", info.pgVersion, identity.pgVersion);
  }
  if (info.segmentSize !== identity.segmentSize) {
    return differs("WAL segment size", info.segmentSize, identity.segmentSize);
  }
  return undefined;
}

function checkInvariants(state: AcceptorState): void {
  assert(state.commitLsn <= state.flushLsn, "what is committed is durable here");
  assert(state.flushLsn <= state.recordEndLsn, "what is durable counts up to a whole record");
  assert(state.recordEndLsn <= state.writtenLsn, "a whole record is written");
  assert(historyTerm(state.history) <= state.term, "no log is of a newer term than the acceptor's");
}

function send(effects: AcceptorEffect[], session: number, message: AcceptorMessage): void {
  effects.push({ type: "send", session, message });
}

function refuse(
  effects: AcceptorEffect[],
  session: number,
  kind: "protocol" | "conflict",
  problem: string,
): void {
  effects.push({ type: "refuse", session, error: new ZenithError(kind, problem) });
}

function max(a: Lsn, b: Lsn): Lsn {
  return a > b ? a : b;
}
