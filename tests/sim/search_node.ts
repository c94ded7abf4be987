/** One state of the exhaustive search: acceptors, proposers and what was said between them. Never changed in place. */
import type { AcceptorControl, AcceptorState } from "../../src/consensus/acceptor.ts";
import type { AcceptorMessage, ProposerMessage } from "../../src/consensus/messages.ts";
import type { ProposerState } from "../../src/consensus/proposer.ts";
import { contents, describeMessage, formatHistory } from "./state_text.ts";

export interface AcceptorNode {
  readonly state: AcceptorState;
  readonly control: AcceptorControl;
  readonly wal: Uint8Array;
  readonly durableBytes: number;
  /** Syncs that run: the bytes they cover. */
  readonly syncs: readonly { cuts: number; bytes: number }[];
  /** By term, whom it voted for. */
  readonly votes: Readonly<Record<number, number>>;
  /** By proposer. */
  readonly toAcceptor: readonly Link<ProposerMessage>[];
  readonly toProposer: readonly Link<AcceptorMessage>[];
}

/** All that was ever said on a connection, by what it says: any of it may be heard at any time, again and again, or never. */
export type Link<T> = ReadonlyMap<string, T>;

export const NOTHING: ReadonlyMap<string, never> = new Map<string, never>();

export interface ProposerNode {
  readonly state: ProposerState;
  /** From the start of its term. */
  readonly wal: Uint8Array;
}

export interface Node {
  readonly acceptors: readonly AcceptorNode[];
  readonly proposers: readonly ProposerNode[];
  readonly records: number;
  readonly crashes: number;
}

export function replaceAcceptor(node: Node, a: number, acceptor: AcceptorNode): Node {
  return { ...node, acceptors: node.acceptors.map((other, i) => i === a ? acceptor : other) };
}

export function replaceProposer(node: Node, p: number, proposer: ProposerNode): Node {
  return { ...node, proposers: node.proposers.map((other, i) => i === p ? proposer : other) };
}

export function withMessage<T extends ProposerMessage | AcceptorMessage>(link: Link<T>, message: T): Link<T> {
  const text = describeMessage(message);
  return link.has(text) ? link : new Map(link).set(text, message);
}

export function without<T>(links: readonly Link<T>[], p: number, text: string): Link<T>[] {
  return links.map((link, i) => {
    if (i !== p) return link;
    const rest = new Map(link);
    rest.delete(text);
    return rest;
  });
}

/**
 * The state as text, the same for states that differ in the names of their acceptors only.
 *
 * @param victims how many of the acceptors, the first ones, are not like the others: they may crash
 * @param mayCrash false: what is on acceptors' disks does not matter any more
 */
export function canonical(node: Node, victims: number, mayCrash: boolean): string {
  return text(node, [0, 1], victims, mayCrash);
}

/** The same with the two proposers' names exchanged. */
export function mirrored(node: Node, victims: number, mayCrash: boolean): string {
  return text(node, [1, 0], victims, mayCrash);
}

function text(node: Node, order: readonly [number, number], victims: number, mayCrash: boolean): string {
  const [first, second] = order.map((p) => node.proposers[p]) as [ProposerNode, ProposerNode];
  const bundles = node.acceptors.map((acceptor, a) => {
    const disk = mayCrash && a < victims ? diskText(acceptor) : "";
    const peers = `${peerTexts(first.state)[a]}|${peerTexts(second.state)[a]}`;
    return `${acceptorTexts(acceptor)[order[0]]}|${disk}|${peers}`;
  });
  const proposers = `${proposerText(first)}\n${proposerText(second)}`;
  const acceptors = [...bundles.slice(0, victims).sort(), ...bundles.slice(victims).sort()];
  return `${acceptors.join("\n")}\n${proposers}\n${node.records} ${node.crashes}`;
}

/** What the invariants are about, without what anybody has heard or may still hear: logs, histories, elections. */
export function essence(node: Node): string {
  const acceptors = node.acceptors.map(({ state, wal }) =>
    [state.term, formatHistory(state.history), contents(wal)].join()
  );
  const proposers = node.proposers.map(({ state }) => `${state.term},${formatHistory(state.history)}`);
  return [...acceptors.sort(), ...proposers.sort()].join("\n");
}

// Most of a state is shared with the one before it.
const acceptorTextsOf = new WeakMap<AcceptorNode, [string, string]>();
const diskTexts = new WeakMap<AcceptorNode, string>();
const proposerTexts = new WeakMap<ProposerNode, string>();
const peerTextsOf = new WeakMap<ProposerState, string[]>();

function linkText(link: Link<unknown>): string {
  return [...link.keys()].sort().join(";");
}

/** What proposer `p` calls itself. */
export function proposerId(p: number): string {
  return `0${p + 1}`.repeat(16);
}

/** The session of the proposer with this id; 0 for nobody. */
function sessionOf(id: string): number {
  return Number(id.slice(0, 2));
}

/** As it is, and with the proposers' names exchanged. */
function acceptorTexts(acceptor: AcceptorNode): [string, string] {
  const known = acceptorTextsOf.get(acceptor);
  if (known !== undefined) return known;
  const { state, wal, votes, toAcceptor, toProposer } = acceptor;
  const log = [
    [state.term, formatHistory(state.history), state.writtenLsn, state.recordEndLsn, state.flushLsn].join(),
    [state.commitLsn, state.knownCommitLsn, state.syncingTo].join(),
    contents(wal),
  ].join("/");
  const links = toAcceptor.map((link, p) => `${linkText(link)}|${linkText(toProposer[p])}`);
  // Sessions are 1 and 2, as the proposers come; 0 is nobody.
  const names = (first: number): string => {
    const name = (session: number): number => session === 0 || first === 0 ? session : 3 - session;
    const voted = Object.entries(votes).map(([term, session]) => `${term}:${name(session)}`);
    const sessions = state.sessions.map(({ id }) => name(id)).sort().join(".");
    return [voted.join(), name(state.appender), sessions, name(sessionOf(state.electedId))].join("/");
  };
  const texts: [string, string] = [
    `${log}/${names(0)}/${links[0]}/${links[1]}`,
    `${log}/${names(1)}/${links[1]}/${links[0]}`,
  ];
  acceptorTextsOf.set(acceptor, texts);
  return texts;
}

/** What a crash leaves, and what may still reach the disk before it. */
function diskText(acceptor: AcceptorNode): string {
  const known = diskTexts.get(acceptor);
  if (known !== undefined) return known;
  const { state, control, durableBytes, syncs } = acceptor;
  const text = [
    [control.term, formatHistory(control.history), control.timelineStartLsn, control.commitLsn].join(),
    durableBytes,
    // The numbers of cuts themselves don't matter, only whether a sync is of this log.
    syncs.map(({ cuts, bytes }) => `${cuts === state.cuts}${bytes}`).join(),
  ].join("/");
  diskTexts.set(acceptor, text);
  return text;
}

function proposerText(proposer: ProposerNode): string {
  const known = proposerTexts.get(proposer);
  if (known !== undefined) return known;
  const { state, wal } = proposer;
  const text = [
    state.phase,
    state.term,
    Math.max(state.seenTerm, state.term),
    state.epochStartLsn,
    formatHistory(state.history),
    state.localEndLsn,
    state.commitLsn,
    contents(wal),
  ].join();
  proposerTexts.set(proposer, text);
  return text;
}

function peerTexts(state: ProposerState): string[] {
  const known = peerTextsOf.get(state);
  if (known !== undefined) return known;
  const texts = state.peers.map(({ phase, vote, flushLsn, nextLsn, fetching }) =>
    [phase, vote === undefined ? "" : describeMessage(vote), flushLsn, nextLsn, fetching].join()
  );
  peerTextsOf.set(state, texts);
  return texts;
}
