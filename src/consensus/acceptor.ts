/**
 * One timeline's acceptor: it votes, and keeps the log of the elected proposer. Pure: no clock, no
 * I/O, no randomness. The driver (`src/safekeeper/timeline.ts`, or the simulator) feeds it events
 * one at a time and carries out each event's effects in order before the next event. Only `sync`
 * may run on; its completion is an event of its own.
 *
 * Everything rests on these rules:
 * - A term is made durable before it is answered. So an acceptor gives at most one vote per term,
 *   even across crashes.
 * - When a new term's log begins, what does not belong to it is cut off first. Only then does the
 *   history say that the log is the new term's. A crash in between leaves a shorter log of the old
 *   term, which is never mistaken for one of the new.
 * - Once the history ends in the current term, the log is a prefix of that proposer's log. It only
 *   grows, and hearing anything of that term a second time changes nothing.
 * - Only the proposer that owns the log can say anything about it. The acceptor knows it by its id,
 *   which it has given to nobody else. Numbers from outside are checked against what is here before
 *   they become state (`bounds.ts`).
 */
import { assert } from "../common/assert.ts";
import { ZenithError } from "../common/errors.ts";
import { formatLsn, INVALID_LSN, type Lsn, maxLsn, minLsn } from "../common/lsn.ts";
import { appendProblem, electionProblem, identityMismatch, termProblem } from "./bounds.ts";
import { LIMITS, type Limits } from "./limits.ts";
import type {
  AcceptorMessage,
  AppendRequest,
  ProposerElected,
  ProposerMessage,
  TimelineIdentity,
  VoteRequest,
} from "./messages.ts";
import { commonPrefixEnd, historyTerm, type TermHistory } from "./term_history.ts";

/** The id of no proposer. */
export const NOBODY = "00".repeat(16);

/** A proposer's connection, and who it says it is. */
export interface AcceptorSession {
  readonly id: number;
  readonly proposerId: string;
}

/** What survives a crash besides the WAL. */
export interface AcceptorControl {
  /** The newest term this acceptor has heard of and may have voted in. */
  term: number;
  history: TermHistory;
  /** 0/0 until a proposer was elected for the first time: there is no WAL yet. */
  timelineStartLsn: Lsn;
  /**
   * The proposer that was elected in the history's newest term, or {@link NOBODY} when that is
   * unknown.
   */
  electedId: string;
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
  /** A record boundary: everything below is durable, and counts. */
  flushLsn: Lsn;
  /** Everything below is durable: above flushLsn the beginning of a record. */
  durableLsn: Lsn;
  // What the proposer of this log has said, which may be ahead of the log here. It counts as far as
  // the log here is committed, and is forgotten with the term.
  knownCommitLsn: Lsn;
  knownTruncateLsn: Lsn;
  knownRemoteLsn: Lsn;
  /** No acceptor needs WAL below this from here. */
  truncateLsn: Lsn;

  /** How many cuts there have been. It identifies a sync that began before a cut. */
  cuts: number;
  /** Set while a sync runs: it covers records up to here. 0/0 when none runs. */
  syncingTo: Lsn;
  /** The same sync covers bytes up to here. */
  syncingBytesTo: Lsn;
  readonly partSyncBytes: number;
  /** Connections of proposers, to tell them when they are superseded. */
  sessions: readonly AcceptorSession[];
  /**
   * The session of the proposer that owns this log, which hears of every sync. 0 when there is
   * none.
   */
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
  /**
   * Nothing has come for a while: what was written is worth a sync, even if it ends within a
   * record.
   */
  | { readonly type: "quiet" }
  /** The sync with this number of cuts is done. */
  | { readonly type: "synced"; readonly cuts: number }
  | { readonly type: "feedback"; readonly remoteConsistentLsn: Lsn }
  /** An operator lowers a term that was driven up, while nobody is connected. */
  | { readonly type: "lowerTerm"; readonly term: number };

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
  /** The proposer did something impossible: end its connection with this error. */
  | { readonly type: "refuse"; readonly session: number; readonly error: ZenithError }
  /** Readers may have more. */
  | { readonly type: "committed"; readonly lsn: Lsn };

/** The control record of a timeline that has never been written to. */
export function newAcceptorControl(): AcceptorControl {
  return {
    term: 0,
    history: [],
    timelineStartLsn: INVALID_LSN,
    electedId: NOBODY,
    commitLsn: INVALID_LSN,
    backupLsn: INVALID_LSN,
    remoteConsistentLsn: INVALID_LSN,
  };
}

/** The part of a state that is persisted, as it is now. */
export function controlOf(state: AcceptorState): AcceptorControl {
  const { term, history, timelineStartLsn, electedId, commitLsn, backupLsn, remoteConsistentLsn } = state;
  return { term, history, timelineStartLsn, electedId, commitLsn, backupLsn, remoteConsistentLsn };
}

/**
 * The state after a start.
 *
 * @param endOfWal the last record boundary in the WAL, which was cut there; 0/0 when there is none
 * @param limits other values than production's are for simulations
 * @throws {ZenithError} `corrupt_data` when committed WAL is missing
 */
export function startAcceptor(
  control: AcceptorControl,
  identity: TimelineIdentity,
  acceptorId: number,
  endOfWal: Lsn,
  limits: Limits = LIMITS,
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
    // Control files have been written that claim more than is possible.
    remoteConsistentLsn: minLsn(
      control.remoteConsistentLsn,
      maxLsn(control.commitLsn, control.timelineStartLsn),
    ),
    identity,
    acceptorId,
    writtenLsn: endOfWal,
    recordEndLsn: endOfWal,
    flushLsn: endOfWal,
    durableLsn: endOfWal,
    knownCommitLsn: control.commitLsn,
    knownTruncateLsn: INVALID_LSN,
    knownRemoteLsn: INVALID_LSN,
    truncateLsn: INVALID_LSN,
    cuts: 0,
    syncingTo: INVALID_LSN,
    syncingBytesTo: INVALID_LSN,
    partSyncBytes: limits.partSyncBytes,
    sessions: [],
    appender: 0,
  };
}

/**
 * Changes `state` in place and returns the effects to carry out, in this order.
 *
 * @throws {ZenithError} `conflict` when `lowerTerm` asks for the impossible; nothing has changed
 *   then
 */
export function stepAcceptor(state: AcceptorState, event: AcceptorEvent): AcceptorEffect[] {
  const effects: AcceptorEffect[] = [];
  switch (event.type) {
    case "message":
      onMessage(state, event.session, event.message, effects);
      break;
    case "closed":
      state.sessions = state.sessions.filter(({ id }) => id !== event.session);
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
      if (
        state.recordEndLsn > state.flushLsn || state.writtenLsn - state.durableLsn >= state.partSyncBytes
      ) {
        startSync(state, effects);
      }
      break;
    case "quiet":
      if (state.writtenLsn > state.durableLsn) startSync(state, effects);
      break;
    case "synced":
      onSynced(state, event.cuts, effects);
      break;
    case "feedback":
      // Nobody can have more than readers were shown.
      if (event.remoteConsistentLsn <= state.remoteConsistentLsn) break;
      if (event.remoteConsistentLsn > state.commitLsn) break;
      state.remoteConsistentLsn = event.remoteConsistentLsn;
      // The other acceptors hear of it through the proposer, and can remove WAL.
      if (state.appender !== 0) send(effects, state.appender, appendResponse(state));
      break;
    case "lowerTerm":
      onLowerTerm(state, event.term, effects);
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
    const { proposerId } = message;
    if (sessionOf(state, session) === undefined) {
      state.sessions = [...state.sessions, { id: session, proposerId }];
    }
    send(effects, session, { type: "Greeting", term: state.term, acceptorId: state.acceptorId });
    return;
  }
  const sender = sessionOf(state, session);
  if (sender === undefined) {
    refuse(effects, session, "protocol", `${message.type} before ServerInfo`);
    return;
  }
  const problem = termProblem(state.term, message.term);
  if (problem !== undefined) {
    refuse(effects, session, "protocol", `${message.type}: ${problem}`);
    return;
  }
  switch (message.type) {
    case "VoteRequest":
      return onVoteRequest(state, session, message, effects);
    case "ProposerElected":
      return onElected(state, sender, message, effects);
    case "AppendRequest":
      return onAppend(state, sender, message, effects);
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
  sender: AcceptorSession,
  message: ProposerElected,
  effects: AcceptorEffect[],
): void {
  const session = sender.id;
  if (message.term < state.term) {
    send(effects, session, appendResponse(state));
    return;
  }
  if (historyTerm(state.history) === message.term) {
    onElectedAgain(state, sender, message, effects);
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
  state.electedId = sender.proposerId;
  forgetTold(state);
  state.appender = session;
  effects.push({ type: "persist", control: controlOf(state) });
  send(effects, session, appendResponse(state));
}

/**
 * Its log is here already: it has reconnected, or another proposer claims to have won that
 * election.
 */
function onElectedAgain(
  state: AcceptorState,
  sender: AcceptorSession,
  message: ProposerElected,
  effects: AcceptorEffect[],
): void {
  if (state.electedId === NOBODY) {
    state.electedId = sender.proposerId;
    effects.push({ type: "persist", control: controlOf(state) });
  } else if (state.electedId !== sender.proposerId) {
    refuse(effects, sender.id, "conflict", notElected(state, message.term));
    return;
  }
  state.appender = sender.id;
  send(effects, sender.id, appendResponse(state));
}

/**
 * What shows that a proposer's election is invalid, or is for another timeline; undefined when
 * nothing does.
 */
function electedProblem(state: AcceptorState, message: ProposerElected): string | undefined {
  const { history, startLsn, timelineStartLsn, term } = message;
  const where = `timeline ${state.identity.timelineId}, term ${term}`;
  const problem = electionProblem(message);
  if (problem !== undefined) return `${where}: ${problem}`;
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
 * Where the log here parts from the log of a proposer with this history. The proposer knows only a
 * lower bound: a sync may have ended since this acceptor's vote and raised commitLsn.
 */
function commonEnd(state: AcceptorState, history: TermHistory): Lsn {
  return commonPrefixEnd(history, state.history, state.recordEndLsn, state.timelineStartLsn);
}

function onAppend(
  state: AcceptorState,
  sender: AcceptorSession,
  message: AppendRequest,
  effects: AcceptorEffect[],
): void {
  const session = sender.id;
  const isCurrent = message.term === state.term && historyTerm(state.history) === message.term;
  if (isCurrent && sender.proposerId !== state.electedId) {
    refuse(effects, session, "conflict", notElected(state, message.term));
    return;
  }
  if (!isCurrent || message.beginLsn > state.writtenLsn) {
    send(effects, session, appendResponse(state));
    return;
  }
  const problem = appendProblem(message);
  if (problem !== undefined) {
    refuse(effects, session, "protocol", problem);
    return;
  }
  state.knownCommitLsn = maxLsn(state.knownCommitLsn, message.commitLsn);
  state.knownTruncateLsn = maxLsn(state.knownTruncateLsn, message.truncateLsn);
  state.knownRemoteLsn = maxLsn(state.knownRemoteLsn, message.remoteConsistentLsn);
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

function startSync(state: AcceptorState, effects: AcceptorEffect[]): void {
  if (state.syncingTo !== INVALID_LSN) return;
  state.syncingTo = state.recordEndLsn;
  state.syncingBytesTo = state.writtenLsn;
  effects.push({ type: "sync", cuts: state.cuts });
}

function onSynced(state: AcceptorState, cuts: number, effects: AcceptorEffect[]): void {
  if (cuts !== state.cuts) return;
  assert(state.syncingTo !== INVALID_LSN, "a sync that ends has begun");
  state.flushLsn = state.syncingTo;
  state.durableLsn = state.syncingBytesTo;
  state.syncingTo = INVALID_LSN;
  advanceCommit(state, effects);
  if (state.appender !== 0) send(effects, state.appender, appendResponse(state));
}

/** Follows a newer term. Proposers of older terms hear of it at once, so that they stop. */
function raiseTerm(state: AcceptorState, session: number, term: number, effects: AcceptorEffect[]): void {
  assert(term > state.term, "terms only rise");
  state.term = term;
  effects.push({ type: "persist", control: controlOf(state) });
  for (const { id } of state.sessions) {
    if (id !== session) send(effects, id, appendResponse(state));
  }
  state.appender = 0;
}

/** The log was cut or has just begun: it ends at `lsn`, durably. */
function setLog(state: AcceptorState, lsn: Lsn): void {
  state.writtenLsn = lsn;
  state.recordEndLsn = lsn;
  state.flushLsn = lsn;
  state.durableLsn = lsn;
  state.cuts++;
  state.syncingTo = INVALID_LSN;
}

/**
 * The quorum's position counts here as far as the log reaches, because up to there it is the same
 * log.
 */
function advanceCommit(state: AcceptorState, effects: AcceptorEffect[]): void {
  const lsn = minLsn(state.knownCommitLsn, state.flushLsn);
  if (lsn > state.commitLsn) {
    state.commitLsn = lsn;
    effects.push({ type: "committed", lsn });
  }
  state.truncateLsn = maxLsn(state.truncateLsn, minLsn(state.knownTruncateLsn, state.commitLsn));
  state.remoteConsistentLsn = maxLsn(
    state.remoteConsistentLsn,
    minLsn(state.knownRemoteLsn, state.commitLsn),
  );
}

/** What an older term's proposer said about its log says nothing about the new one. */
function forgetTold(state: AcceptorState): void {
  state.knownCommitLsn = state.commitLsn;
  state.knownTruncateLsn = INVALID_LSN;
  state.knownRemoteLsn = INVALID_LSN;
}

/**
 * Votes that were given in between can be given again. The caller knows that no election is under
 * way and that nobody was elected in those terms.
 */
function onLowerTerm(state: AcceptorState, term: number, effects: AcceptorEffect[]): void {
  const { timelineId } = state.identity;
  const impossible = (why: string): ZenithError =>
    new ZenithError(
      "conflict",
      `the term of timeline ${timelineId} can't be set from ${state.term} to ${term}: ${why}`,
    );
  if (state.sessions.length > 0) throw impossible("a compute is connected");
  if (!Number.isSafeInteger(term) || term < 1 || term >= state.term) throw impossible("it is not lower");
  if (term < historyTerm(state.history)) {
    throw impossible(`there is a log of term ${historyTerm(state.history)}`);
  }
  state.term = term;
  effects.push({ type: "persist", control: controlOf(state) });
}

function sessionOf(state: AcceptorState, session: number): AcceptorSession | undefined {
  return state.sessions.find(({ id }) => id === session);
}

function notElected(state: AcceptorState, term: number): string {
  return `timeline ${state.identity.timelineId}: another proposer was elected in term ${term}`;
}

function appendResponse(state: AcceptorState): AcceptorMessage {
  return {
    type: "AppendResponse",
    term: state.term,
    historyTerm: historyTerm(state.history),
    flushLsn: state.flushLsn,
    durableLsn: state.durableLsn,
    commitLsn: state.commitLsn,
    remoteConsistentLsn: state.remoteConsistentLsn,
  };
}

function checkInvariants(state: AcceptorState): void {
  assert(state.commitLsn <= state.flushLsn, "what is committed is durable here");
  assert(state.flushLsn <= state.recordEndLsn, "what is durable counts up to a whole record");
  assert(state.recordEndLsn <= state.writtenLsn, "a whole record is written");
  assert(
    state.flushLsn <= state.durableLsn && state.durableLsn <= state.writtenLsn,
    "what counts is durable, and what is durable is written",
  );
  assert(historyTerm(state.history) <= state.term, "no log is of a newer term than the acceptor's");
  assert(state.truncateLsn <= state.commitLsn, "only what is committed may be let go of");
  assert(
    state.remoteConsistentLsn <= maxLsn(state.commitLsn, state.timelineStartLsn),
    "the page server has what is committed",
  );
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
