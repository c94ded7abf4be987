/**
 * Every state that a small instance can reach: two proposers that are in contact with three acceptors, two terms, two records.
 * What is in flight on a connection comes in order, at any time or never; unordered delivery is a choice, for smaller
 * instances. Where acceptors may crash, syncs end at any time, and what is not synced is lost.
 *
 * States are told apart by a 53-bit hash of their canonical form (acceptors are interchangeable): the chance that two of ten million
 * collide, and one is missed, is about one in two hundred.
 */
import { parseTenantId, parseTimelineId } from "../../src/common/id.ts";
import { INVALID_LSN, type Lsn } from "../../src/common/lsn.ts";
import {
  type AcceptorControl,
  type AcceptorEvent,
  type AcceptorState,
  newAcceptorControl,
  startAcceptor,
} from "../../src/consensus/acceptor.ts";
import {
  type AcceptorMessage,
  type ProposerMessage,
  type ServerInfo,
  WAL_ACCEPTOR_PROTOCOL_VERSION,
} from "../../src/consensus/messages.ts";
import {
  type ProposerEvent,
  type ProposerState,
  quorumOf,
  startProposer,
} from "../../src/consensus/proposer.ts";
import { historyTerm } from "../../src/consensus/term_history.ts";
import { Violation } from "./checker.ts";
import { type Machines, PRODUCTION } from "./machines.ts";
import { concat, isPrefix, makeRecord, TermLogs, TIMELINE_START } from "./sim_log.ts";
import { contents, describeMessage, formatHistory, hash53 } from "./state_text.ts";

const PROPOSERS = 2;

export interface Bounds {
  readonly acceptors: number;
  readonly terms: number;
  readonly records: number;
  readonly crashes: number;
  /** Messages of a connection may overtake each other. */
  readonly unordered: boolean;
  /** The terms that the proposers try first. */
  readonly firstTerms: readonly [number, number];
  /** Stops there, for a test that only has to find something. */
  readonly maxStates: number;
}

export const SMALL_INSTANCE: Bounds = {
  acceptors: 3,
  terms: 2,
  records: 2,
  crashes: 0,
  unordered: false,
  firstTerms: [1, 1],
  maxStates: Infinity,
};

interface AcceptorNode {
  readonly state: AcceptorState;
  readonly control: AcceptorControl;
  readonly wal: Uint8Array;
  readonly durableBytes: number;
  /** Syncs that run: the bytes they cover. */
  readonly syncs: readonly { cuts: number; bytes: number }[];
  /** By term, whom it voted for. */
  readonly votes: Readonly<Record<number, number>>;
  /** In flight, by proposer. */
  readonly toAcceptor: readonly Link<ProposerMessage>[];
  readonly toProposer: readonly Link<AcceptorMessage>[];
}

/** Messages in flight, as a set: by what they say. */
type Link<T> = ReadonlyMap<string, T>;

interface ProposerNode {
  readonly state: ProposerState;
  /** From the start of its term. */
  readonly wal: Uint8Array;
}

interface Node {
  readonly acceptors: readonly AcceptorNode[];
  readonly proposers: readonly ProposerNode[];
  readonly records: number;
  readonly crashes: number;
}

export interface SearchResult {
  readonly states: number;
  readonly transitions: number;
  /** False: `maxStates` ended it. */
  readonly complete: boolean;
  /** In how many states a commit was known: shows that the search gets somewhere. */
  readonly committedStates: number;
}

/** @throws {Violation} in the first state that breaks an invariant */
export function searchExhaustively(
  bounds: Bounds = SMALL_INSTANCE,
  machines: Machines = PRODUCTION,
): SearchResult {
  const search = new Search(bounds, machines);
  return search.run();
}

class Search {
  readonly #bounds: Bounds;
  readonly #machines: Machines;
  readonly #seen = new Set<number>();
  readonly #stack: Node[] = [];
  #transitions = 0;
  #committedStates = 0;

  constructor(bounds: Bounds, machines: Machines) {
    this.#bounds = bounds;
    this.#machines = machines;
  }

  run(): SearchResult {
    this.#visit(this.#initial());
    let node: Node | undefined;
    while ((node = this.#stack.pop()) !== undefined) {
      if (this.#seen.size >= this.#bounds.maxStates) break;
      this.#expand(node);
    }
    return {
      states: this.#seen.size,
      transitions: this.#transitions,
      complete: node === undefined,
      committedStates: this.#committedStates,
    };
  }

  #initial(): Node {
    const acceptors = Array.from({ length: this.#bounds.acceptors }, (_, index): AcceptorNode => ({
      state: startAcceptor(newAcceptorControl(), SERVER_INFO, index, INVALID_LSN),
      control: newAcceptorControl(),
      wal: new Uint8Array(0),
      durableBytes: 0,
      syncs: [],
      votes: {},
      toAcceptor: Array.from({ length: PROPOSERS }, () => NOTHING),
      toProposer: Array.from({ length: PROPOSERS }, () => NOTHING),
    }));
    const proposers = this.#bounds.firstTerms.map((term): ProposerNode => ({
      state: {
        ...startProposer({
          serverInfo: SERVER_INFO,
          acceptorCount: this.#bounds.acceptors,
          timelineStartLsn: TIMELINE_START,
        }),
        seenTerm: term - 1,
      },
      wal: new Uint8Array(0),
    }));
    let node: Node = { acceptors, proposers, records: 0, crashes: 0 };
    // The greetings are made at once; what matters begins with the votes.
    for (let p = 0; p < PROPOSERS; p++) {
      for (let a = 0; a < acceptors.length; a++) node = this.#greet(node, p, a);
    }
    return node;
  }

  #greet(node: Node, p: number, a: number): Node {
    let next = this.#stepProposer(node, p, { type: "connected", peer: a });
    next = this.#stepAcceptor(next, a, { type: "message", session: p + 1, message: SERVER_INFO });
    const acceptor = next.acceptors[a]!;
    const greeting = acceptor.toProposer[p]!.get("Greeting")!;
    next = replaceAcceptor(next, a, {
      ...acceptor,
      toAcceptor: without(acceptor.toAcceptor, p, "ServerInfo"),
      toProposer: without(acceptor.toProposer, p, "Greeting"),
    });
    return this.#stepProposer(next, p, { type: "message", peer: a, message: greeting });
  }

  /** Everything that can happen next. */
  #expand(node: Node): void {
    for (let a = 0; a < node.acceptors.length; a++) {
      const acceptor = node.acceptors[a]!;
      for (let p = 0; p < PROPOSERS; p++) {
        for (const [text, message] of this.#deliverable(acceptor.toAcceptor[p]!)) {
          const taken = replaceAcceptor(node, a, {
            ...acceptor,
            toAcceptor: without(acceptor.toAcceptor, p, text),
          });
          this.#visit(this.#stepAcceptor(taken, a, { type: "message", session: p + 1, message }));
        }
        for (const [text, message] of this.#deliverable(acceptor.toProposer[p]!)) {
          const taken = replaceAcceptor(node, a, {
            ...acceptor,
            toProposer: without(acceptor.toProposer, p, text),
          });
          this.#visit(this.#stepProposer(taken, p, { type: "message", peer: a, message }));
        }
      }
      if (acceptor.syncs.length > 0) this.#visit(this.#endSync(node, a));
      if (node.crashes < this.#bounds.crashes) this.#visit(this.#crash(node, a));
    }
    for (let p = 0; p < PROPOSERS; p++) {
      const { state } = node.proposers[p]!;
      if (state.phase === "campaigning" && Math.max(state.seenTerm, state.term) < this.#bounds.terms) {
        this.#visit(this.#stepProposer(node, p, { type: "electionTimeout" }));
      }
      const mayWrite = state.phase === "elected" && state.commitLsn !== INVALID_LSN;
      if (mayWrite && node.records < this.#bounds.records) this.#visit(this.#write(node, p));
    }
  }

  #deliverable<T>(link: Link<T>): [string, T][] {
    const messages = [...link];
    return this.#bounds.unordered ? messages : messages.slice(0, 1);
  }

  /** In order messages are told apart by their place too. */
  #withMessage<T extends ProposerMessage | AcceptorMessage>(link: Link<T>, message: T): Link<T> {
    let text = describeMessage(message);
    if (!this.#bounds.unordered) {
      // One that waits already is heard first; said again behind others it is heard again.
      while (link.has(text)) text += "'";
    } else if (link.has(text)) {
      return link;
    }
    return new Map(link).set(text, message);
  }

  #write(node: Node, p: number): Node {
    const { state, wal } = node.proposers[p]!;
    const record = makeRecord(state.term, node.records, state.localEndLsn);
    const written = replaceProposer(node, p, { state, wal: concat(wal, record) });
    const endLsn = (state.localEndLsn + record.length) as Lsn;
    return this.#stepProposer({ ...written, records: node.records + 1 }, p, {
      type: "localAdvanced",
      endLsn,
    });
  }

  #endSync(node: Node, a: number): Node {
    const acceptor = node.acceptors[a]!;
    const [sync, ...rest] = acceptor.syncs;
    const isCurrent = sync!.cuts === acceptor.state.cuts;
    const synced = replaceAcceptor(node, a, {
      ...acceptor,
      syncs: rest,
      durableBytes: isCurrent ? Math.max(acceptor.durableBytes, sync!.bytes) : acceptor.durableBytes,
    });
    return this.#stepAcceptor(synced, a, { type: "synced", cuts: sync!.cuts });
  }

  /** Loses what was not synced, and its connections; it is back at once, and so are they. */
  #crash(node: Node, a: number): Node {
    const acceptor = node.acceptors[a]!;
    const wal = acceptor.wal.subarray(0, acceptor.durableBytes);
    const end = acceptor.control.timelineStartLsn === INVALID_LSN
      ? INVALID_LSN
      : (TIMELINE_START + wal.length) as Lsn;
    let next = replaceAcceptor({ ...node, crashes: node.crashes + 1 }, a, {
      ...acceptor,
      state: startAcceptor(acceptor.control, SERVER_INFO, a, end),
      wal,
      syncs: [],
      toAcceptor: acceptor.toAcceptor.map(() => NOTHING),
      toProposer: acceptor.toProposer.map(() => NOTHING),
    });
    for (let p = 0; p < PROPOSERS; p++) {
      if (next.proposers[p]!.state.phase === "stopped") continue;
      next = this.#stepProposer(next, p, { type: "disconnected", peer: a });
      next = this.#greet(next, p, a);
    }
    return next;
  }

  #stepAcceptor(node: Node, a: number, event: AcceptorEvent): Node {
    const before = node.acceptors[a]!;
    const state = { ...before.state };
    let { control, wal, durableBytes, syncs, votes } = before;
    const toProposer = [...before.toProposer];
    const pending: AcceptorEvent[] = [event, { type: "idle" }];
    let next: AcceptorEvent | undefined;
    while ((next = pending.shift()) !== undefined) {
      for (const effect of this.#machines.stepAcceptor(state, next)) {
        switch (effect.type) {
          case "persist":
            control = effect.control;
            break;
          case "init":
            wal = new Uint8Array(0);
            durableBytes = 0;
            break;
          case "truncate":
            wal = wal.subarray(0, effect.lsn - TIMELINE_START);
            durableBytes = wal.length;
            break;
          case "write": {
            wal = concat(wal, effect.bytes.subarray(effect.off));
            const end = (TIMELINE_START + wal.length) as Lsn;
            pending.unshift({ type: "written", writtenLsn: end, recordEndLsn: end });
            break;
          }
          case "sync":
            if (this.#bounds.crashes > 0) {
              syncs = [...syncs, { cuts: effect.cuts, bytes: wal.length }];
            } else {
              durableBytes = wal.length;
              pending.unshift({ type: "synced", cuts: effect.cuts });
            }
            break;
          case "send": {
            const { message } = effect;
            if (message.type === "VoteResponse" && message.granted) {
              const other = votes[message.term];
              if (other !== undefined) {
                throw new Violation(`acceptor ${a} votes twice in term ${message.term}`);
              }
              votes = { ...votes, [message.term]: effect.session };
            }
            toProposer[effect.session - 1] = this.#withMessage(toProposer[effect.session - 1]!, message);
            break;
          }
          case "refuse":
            throw new Violation(`acceptor ${a} refuses: ${effect.error.message}`);
          case "committed":
            break;
        }
      }
    }
    return replaceAcceptor(node, a, {
      ...before,
      state,
      control,
      wal,
      durableBytes,
      syncs,
      votes,
      toProposer,
    });
  }

  #stepProposer(node: Node, p: number, event: ProposerEvent): Node {
    const { state: before, wal } = node.proposers[p]!;
    const state: ProposerState = { ...before, peers: before.peers.map((peer) => ({ ...peer })) };
    const acceptors = [...node.acceptors];
    const send = (peer: number, message: ProposerMessage): void => {
      const acceptor = acceptors[peer]!;
      const toAcceptor = acceptor.toAcceptor.map((link, i) =>
        i === p ? this.#withMessage(link, message) : link
      );
      acceptors[peer] = { ...acceptor, toAcceptor };
    };
    let hasCommitted = false;
    for (const effect of this.#machines.stepProposer(state, event)) {
      switch (effect.type) {
        case "send":
          send(effect.peer, effect.message);
          break;
        case "append": {
          const from = effect.beginLsn - state.epochStartLsn;
          const bytes = wal.subarray(from, effect.endLsn - state.epochStartLsn);
          const { term, beginLsn, commitLsn, truncateLsn, remoteConsistentLsn } = effect;
          send(effect.peer, {
            type: "AppendRequest",
            term,
            beginLsn,
            commitLsn,
            truncateLsn,
            remoteConsistentLsn,
            bytes,
          });
          break;
        }
        case "fetch": {
          const source = node.acceptors[effect.source]!;
          const from = effect.from - TIMELINE_START;
          const bytes = source.wal.subarray(from, effect.to - TIMELINE_START);
          // At once: what a fetch brings can't depend on when it ends, only whether it does.
          const fetched: ProposerEvent = { type: "fetched", peer: effect.peer, lsn: effect.from, bytes };
          for (const then of this.#machines.stepProposer(state, fetched)) {
            if (then.type === "send") send(then.peer, then.message);
          }
          break;
        }
        case "committed":
          hasCommitted = true;
          break;
        case "elected":
        case "remoteConsistent":
        case "fenced":
          break;
      }
    }
    const next: Node = {
      ...node,
      acceptors,
      proposers: node.proposers.map((proposer, i) => i === p ? { state, wal } : proposer),
    };
    if (hasCommitted) this.#checkCommit(next, p);
    return next;
  }

  #visit(reached: Node): void {
    this.#transitions++;
    const node = withoutNoise(reached);
    const key = hash53(canonical(node, this.#bounds.unordered));
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    this.#check(node);
    if (node.proposers.some(({ state }) => state.commitLsn !== INVALID_LSN)) this.#committedStates++;
    this.#stack.push(node);
  }

  /** At the moment of a commit a quorum has it durably. */
  #checkCommit(node: Node, p: number): void {
    const { state } = node.proposers[p]!;
    const bytes = termLogs(node).compose(state.history, state.commitLsn);
    const holders = node.acceptors.filter(({ wal, durableBytes }) =>
      isPrefix(bytes, wal.subarray(0, durableBytes))
    );
    if (
      bytes.length !== state.commitLsn - TIMELINE_START || holders.length < quorumOf(node.acceptors.length)
    ) {
      throw new Violation(`proposer ${p} commits ${state.commitLsn}, which ${holders.length} acceptors have`);
    }
  }

  #check(node: Node): void {
    const logs = termLogs(node);
    let committed: Uint8Array = new Uint8Array(0);
    for (const { state } of node.proposers) {
      const bytes = logs.compose(state.history, state.commitLsn);
      if (!isPrefix(bytes, committed) && !isPrefix(committed, bytes)) {
        throw new Violation("two commits differ");
      }
      if (bytes.length > committed.length) committed = bytes;
      for (const later of node.proposers) {
        if (!hasWon(later.state) || historyTerm(later.state.history) <= state.term) continue;
        if (!isPrefix(bytes, logs.compose(later.state.history, later.state.epochStartLsn))) {
          throw new Violation(
            `what term ${state.term} committed is not in the log of term ${later.state.term}`,
          );
        }
      }
    }
    for (const { state, wal } of node.acceptors) {
      if (state.timelineStartLsn === INVALID_LSN) continue;
      if (!isPrefix(wal, logs.compose(state.history, state.writtenLsn))) {
        throw new Violation("an acceptor's log is not that of its history");
      }
      const shown = wal.subarray(0, Math.max(0, state.commitLsn - TIMELINE_START));
      if (!isPrefix(shown, committed)) throw new Violation("an acceptor shows what is not committed");
    }
  }
}

const SERVER_INFO: ServerInfo = {
  type: "ServerInfo",
  protocolVersion: WAL_ACCEPTOR_PROTOCOL_VERSION,
  tenantId: parseTenantId("11".repeat(16)),
  timelineId: parseTimelineId("22".repeat(16)),
  systemId: 7n,
  pgVersion: 15,
  segmentSize: 1 << 20,
  proposerId: "33".repeat(16),
};

function hasWon(state: ProposerState): boolean {
  return state.history.length > 0;
}

/** Also sees to it that no two proposers have won the same term. */
function termLogs(node: Node): TermLogs {
  const logs = new TermLogs();
  const terms = new Set<number>();
  for (const { state, wal } of node.proposers) {
    if (!hasWon(state)) continue;
    if (terms.has(state.term)) throw new Violation(`two proposers are elected in term ${state.term}`);
    terms.add(state.term);
    logs.begin(state.term, state.epochStartLsn, state.history);
    logs.append(state.term, wal);
  }
  return logs;
}

function replaceAcceptor(node: Node, a: number, acceptor: AcceptorNode): Node {
  return { ...node, acceptors: node.acceptors.map((other, i) => i === a ? acceptor : other) };
}

function replaceProposer(node: Node, p: number, proposer: ProposerNode): Node {
  return { ...node, proposers: node.proposers.map((other, i) => i === p ? proposer : other) };
}

const NOTHING: ReadonlyMap<string, never> = new Map<string, never>();

function without<T>(links: readonly Link<T>[], p: number, text: string): Link<T>[] {
  return links.map((link, i) => {
    if (i !== p) return link;
    const rest = new Map(link);
    rest.delete(text);
    return rest;
  });
}

/** Without the messages that change nothing, whenever they are delivered: states that differ in them are one. */
function withoutNoise(node: Node): Node {
  let result = node;
  node.acceptors.forEach((acceptor, a) => {
    const toProposer = acceptor.toProposer.map((link, p) => {
      const { state } = node.proposers[p]!;
      const noise = [...link].filter(([, message]) => isNoise(state, a, message));
      if (noise.length === 0) return link;
      const rest = new Map(link);
      for (const [text] of noise) rest.delete(text);
      return rest;
    });
    if (toProposer.some((link, p) => link !== acceptor.toProposer[p])) {
      result = replaceAcceptor(result, a, { ...acceptor, toProposer });
    }
  });
  return result;
}

/** A proposer that stopped hears nothing; one that is elected learns nothing from positions and votes it is past. */
function isNoise(state: ProposerState, a: number, message: AcceptorMessage): boolean {
  if (state.phase === "stopped" || message.term < state.term) return true;
  if (state.phase !== "elected" || message.term !== state.term) return false;
  const { phase, flushLsn } = state.peers[a]!;
  switch (message.type) {
    case "Greeting":
      return false;
    case "VoteResponse":
      return phase === "electing" || phase === "streaming";
    case "AppendResponse":
      return message.historyTerm !== state.term || (phase === "streaming" && message.flushLsn <= flushLsn);
  }
}

/** The state as text, the same for states that differ in the names of their acceptors only. */
function canonical(node: Node, unordered: boolean): string {
  const bundles = node.acceptors.map((acceptor, a) => {
    const peers = node.proposers.map(({ state }) => peerTexts(state)[a]!);
    return `${acceptorText(acceptor, unordered)}|${peers.join("|")}`;
  });
  const proposers = node.proposers.map(proposerText);
  return `${bundles.sort().join("\n")}\n${proposers.join("\n")}\n${node.records} ${node.crashes}`;
}

// Most of a state is shared with the one before it.
const acceptorTexts = new WeakMap<AcceptorNode, string>();
const proposerTexts = new WeakMap<ProposerNode, string>();
const peerTextsOf = new WeakMap<ProposerState, string[]>();

function linkText(link: Link<unknown>, unordered: boolean): string {
  const texts = [...link.keys()];
  return (unordered ? texts.sort() : texts).join(";");
}

function acceptorText(acceptor: AcceptorNode, unordered: boolean): string {
  const known = acceptorTexts.get(acceptor);
  if (known !== undefined) return known;
  const { state, control, wal, durableBytes, syncs, votes, toAcceptor, toProposer } = acceptor;
  const text = [
    [state.term, formatHistory(state.history), state.writtenLsn, state.recordEndLsn, state.flushLsn].join(),
    [state.commitLsn, state.knownCommitLsn, state.syncingTo, state.appender, state.sessions.join(".")].join(),
    [control.term, formatHistory(control.history), control.timelineStartLsn, control.commitLsn].join(),
    contents(wal),
    durableBytes,
    // The numbers of cuts themselves don't matter, only whether a sync is of this log.
    syncs.map(({ cuts, bytes }) => `${cuts === state.cuts}${bytes}`).join(),
    JSON.stringify(votes),
    toAcceptor.map((link) => linkText(link, unordered)).join("|"),
    toProposer.map((link) => linkText(link, unordered)).join("|"),
  ].join("/");
  acceptorTexts.set(acceptor, text);
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
