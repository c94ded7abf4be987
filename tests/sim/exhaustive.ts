/**
 * Every state that a small instance can reach: two proposers that are in contact with three acceptors, two terms, two records.
 * What was ever said on a connection may be heard at any time, in any order, again and again, or never. At an acceptor that may crash
 * syncs end at any time, and what is not synced is lost. Which one crashes is settled from the start: their names don't matter.
 *
 * Of states that can do the same, one is looked at (`reduced`; docs/safekeeper.md says why no violation is missed):
 * - acceptors are interchangeable, and so are proposers; what is on a disk matters while there may be a crash;
 * - what can't change its receiver any more is forgotten, whether it was heard or not;
 * - an AppendRequest is heard in pieces: first its positions, then its records one by one;
 * - an elected proposer hears at once what an acceptor has confirmed, an acceptor of its term at once what is committed;
 * - a proposer that hears of a newer term stops, which is as if it heard nothing any more, and that is searched anyway.
 *
 * States are told apart by a 53-bit hash of their canonical form: the chance that two of ten million collide, and one is missed, is about
 * one in two hundred.
 */
import { parseTenantId, parseTimelineId } from "../../src/common/id.ts";
import { INVALID_LSN, type Lsn } from "../../src/common/lsn.ts";
import {
  type AcceptorEffect,
  type AcceptorEvent,
  newAcceptorControl,
  startAcceptor,
} from "../../src/consensus/acceptor.ts";
import {
  type ProposerMessage,
  type ServerInfo,
  WAL_ACCEPTOR_PROTOCOL_VERSION,
} from "../../src/consensus/messages.ts";
import { type ProposerEvent, type ProposerState, startProposer } from "../../src/consensus/proposer.ts";
import { quorumOf } from "../../src/consensus/quorum.ts";
import { historyTerm } from "../../src/consensus/term_history.ts";
import { Violation } from "./checker.ts";
import { type Machines, PRODUCTION } from "./machines.ts";
import {
  type AcceptorNode,
  canonical,
  essence,
  mirrored,
  type Node,
  NOTHING,
  proposerId,
  type ProposerNode,
  replaceAcceptor,
  replaceProposer,
  withMessage,
  without,
} from "./search_node.ts";
import { forgetNoise, hearAtOnce, isSilence, pieces } from "./search_reduction.ts";
import { concat, isPrefix, makeRecord, TermLogs, TIMELINE_START } from "./sim_log.ts";
import { hash53 } from "./state_text.ts";

const PROPOSERS = 2;

export interface Bounds {
  readonly acceptors: number;
  readonly terms: number;
  readonly records: number;
  readonly crashes: number;
  /** How many of the acceptors may crash: the first ones. Syncs take time there, and end at once elsewhere. */
  readonly victims: number;
  /** False: only what can't change its receiver is left out, for small instances, to see that the rest leaves nothing out. */
  readonly reduced: boolean;
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
  victims: 0,
  reduced: true,
  firstTerms: [1, 1],
  maxStates: Infinity,
};

export interface SearchResult {
  readonly states: number;
  readonly transitions: number;
  /** False: `maxStates` ended it. */
  readonly complete: boolean;
  /** In how many states a commit was known: shows that the search gets somewhere. */
  readonly committedStates: number;
  /** Hashes of {@link essence}: what was reached, whoever has heard what. */
  readonly essences: ReadonlySet<number>;
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
  readonly #essences = new Set<number>();
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
      essences: this.#essences,
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
    const proposers = this.#bounds.firstTerms.map((term, p): ProposerNode => ({
      state: {
        ...startProposer({
          serverInfo: serverInfo(p),
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
    next = this.#stepAcceptor(next, a, { type: "message", session: p + 1, message: serverInfo(p) });
    const acceptor = next.acceptors[a];
    const greeting = acceptor.toProposer[p].get("Greeting")!;
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
      const acceptor = node.acceptors[a];
      for (let p = 0; p < PROPOSERS; p++) {
        for (const message of acceptor.toAcceptor[p].values()) {
          const event: AcceptorEvent = { type: "message", session: p + 1, message };
          this.#visit(this.#stepAcceptor(node, a, event));
          if (this.#mayCrash(node, a)) this.#crashWithin(node, a, event);
        }
        for (const message of acceptor.toProposer[p].values()) {
          const next = this.#stepProposer(node, p, { type: "message", peer: a, message });
          if (this.#bounds.reduced && isSilence(node.proposers[p].state, next.proposers[p].state)) continue;
          this.#visit(next);
        }
      }
      if (acceptor.syncs.length > 0) this.#visit(this.#endSync(node, a));
      if (this.#mayCrash(node, a)) this.#visit(this.#crash(node, a));
    }
    for (let p = 0; p < PROPOSERS; p++) {
      const { state } = node.proposers[p];
      if (state.phase === "campaigning" && Math.max(state.seenTerm, state.term) < this.#bounds.terms) {
        this.#visit(this.#stepProposer(node, p, { type: "electionTimeout" }));
      }
      // Where all have gone on to a newer term nobody would take it.
      const isHeard = !this.#bounds.reduced ||
        node.acceptors.some((acceptor) => acceptor.state.term <= state.term);
      const mayWrite = state.phase === "elected" && state.commitLsn !== INVALID_LSN && isHeard;
      if (mayWrite && node.records < this.#bounds.records) this.#visit(this.#write(node, p));
    }
  }

  #write(node: Node, p: number): Node {
    const { state, wal } = node.proposers[p];
    const record = makeRecord(state.term, node.records, state.localEndLsn);
    const written = replaceProposer(node, p, { state, wal: concat(wal, record) });
    const endLsn = (state.localEndLsn + record.length) as Lsn;
    return this.#stepProposer({ ...written, records: node.records + 1 }, p, {
      type: "localAdvanced",
      endLsn,
    });
  }

  #endSync(node: Node, a: number): Node {
    const acceptor = node.acceptors[a];
    const [sync, ...rest] = acceptor.syncs;
    const isCurrent = sync!.cuts === acceptor.state.cuts;
    const synced = replaceAcceptor(node, a, {
      ...acceptor,
      syncs: rest,
      durableBytes: isCurrent ? Math.max(acceptor.durableBytes, sync!.bytes) : acceptor.durableBytes,
    });
    return this.#stepAcceptor(synced, a, { type: "synced", cuts: sync!.cuts });
  }

  #mayCrash(node: Node, a: number): boolean {
    return node.crashes < this.#bounds.crashes && a < this.#bounds.victims;
  }

  /** Crashes between two things that an event has it do on its disk. */
  #crashWithin(node: Node, a: number, event: AcceptorEvent): void {
    const effects = this.#machines.stepAcceptor({ ...node.acceptors[a].state }, event);
    const steps = effects.filter(isDurable).length;
    for (let done = 1; done < steps; done++) {
      this.#visit(this.#crash(this.#stepAcceptor(node, a, event, done), a));
    }
  }

  /** Loses what was not synced, and its connections; it is back at once, and so are they. */
  #crash(node: Node, a: number): Node {
    const acceptor = node.acceptors[a];
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
      if (next.proposers[p].state.phase === "stopped") continue;
      next = this.#stepProposer(next, p, { type: "disconnected", peer: a });
      next = this.#greet(next, p, a);
    }
    return next;
  }

  /** @param durableSteps how much of what it is to do on its disk is done, before all stops */
  #stepAcceptor(node: Node, a: number, event: AcceptorEvent, durableSteps = Infinity): Node {
    const before = node.acceptors[a];
    const state = { ...before.state };
    let { control, wal, durableBytes, syncs, votes } = before;
    const toProposer = [...before.toProposer];
    const pending: AcceptorEvent[] = [event, { type: "idle" }];
    let stepsLeft = durableSteps;
    let next: AcceptorEvent | undefined;
    while (stepsLeft >= 0 && (next = pending.shift()) !== undefined) {
      for (const effect of this.#machines.stepAcceptor(state, next)) {
        if (isDurable(effect) && --stepsLeft < 0) break;
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
            if (a < this.#bounds.victims) {
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
            toProposer[effect.session - 1] = withMessage(toProposer[effect.session - 1], message);
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
    const { state: before, wal } = node.proposers[p];
    const state: ProposerState = { ...before, peers: before.peers.map((peer) => ({ ...peer })) };
    const acceptors = [...node.acceptors];
    const send = (peer: number, message: ProposerMessage): void => {
      const acceptor = acceptors[peer];
      const said = this.#bounds.reduced ? pieces(message) : [message];
      const toAcceptor = acceptor.toAcceptor.map((link, i) =>
        i === p ? said.reduce(withMessage, link) : link
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
          const source = node.acceptors[effect.source];
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
    const node = this.#bounds.reduced ? this.#settle(reached) : forgetNoise(reached);
    const key = this.#keyOf(node);
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    this.#essences.add(hash53(essence(node)));
    this.#check(node);
    if (node.proposers.some(({ state }) => state.commitLsn !== INVALID_LSN)) this.#committedStates++;
    this.#stack.push(node);
  }

  #keyOf(node: Node): number {
    // With no crash to come only the syncs under way matter of the disk: they still end.
    const mayCrash = node.crashes < this.#bounds.crashes ||
      node.acceptors.some(({ syncs }) => syncs.length > 0);
    const { firstTerms: [first, second], reduced, victims } = this.#bounds;
    const key = hash53(canonical(node, victims, mayCrash));
    return reduced && first === second ? Math.min(key, hash53(mirrored(node, victims, mayCrash))) : key;
  }

  /** Lets everyone hear what they hear at once, until nothing of that is left. */
  #settle(reached: Node): Node {
    let node = forgetNoise(reached);
    for (;;) {
      const next = hearAtOnce(node);
      if (next === undefined) return node;
      const { a, p } = next;
      node = forgetNoise(
        next.to === "proposer"
          ? this.#stepProposer(node, p, { type: "message", peer: a, message: next.message })
          : this.#stepAcceptor(node, a, { type: "message", session: p + 1, message: next.message }),
      );
    }
  }

  /** At the moment of a commit a quorum has it durably. */
  #checkCommit(node: Node, p: number): void {
    const { state } = node.proposers[p];
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
  proposerId: proposerId(0),
};

function serverInfo(p: number): ServerInfo {
  return { ...SERVER_INFO, proposerId: proposerId(p) };
}

function isDurable({ type }: AcceptorEffect): boolean {
  return type === "persist" || type === "init" || type === "truncate";
}

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
