/** Watches everything and knows everything: the invariants of `docs/safekeeper.md`, checked after every step. */
import { formatLsn, INVALID_LSN, type Lsn } from "../../src/common/lsn.ts";
import type { AcceptorState } from "../../src/consensus/acceptor.ts";
import type { ProposerState } from "../../src/consensus/proposer.ts";
import { quorumOf } from "../../src/consensus/quorum.ts";
import { formatTermHistory, type TermHistory } from "../../src/consensus/term_history.ts";
import { boundary, isPrefix, TermLogs, TIMELINE_START } from "./sim_log.ts";

/** An invariant does not hold. */
export class Violation extends Error {
  override name = "Violation";
}

/** What of an acceptor a crash at this instant can't take away. */
export interface DurableLog {
  readonly bytes: Uint8Array;
}

export class Checker {
  readonly logs = new TermLogs();
  /** Acknowledged to the client, ever. */
  committed: Uint8Array = new Uint8Array(0);
  readonly #acceptorCount: number;
  readonly #electedBy = new Map<number, string>();
  readonly #votes = new Map<string, string>();
  /** The highest commit of each term. */
  readonly #commits = new Map<number, Uint8Array>();
  #pageServerLsn = TIMELINE_START;

  constructor(acceptorCount: number) {
    this.#acceptorCount = acceptorCount;
  }

  get committedLsn(): Lsn {
    return (TIMELINE_START + this.committed.length) as Lsn;
  }

  get electedTerms(): number {
    return this.#electedBy.size;
  }

  /** An acceptor has sent its vote. */
  voted(acceptor: number, term: number, proposer: string): void {
    const key = `${acceptor}/${term}`;
    const before = this.#votes.get(key);
    if (before !== undefined) {
      throw new Violation(`acceptor ${acceptor} votes in term ${term} for ${proposer} after ${before}`);
    }
    this.#votes.set(key, proposer);
  }

  elected(term: number, proposer: string, epochStartLsn: Lsn, history: TermHistory): void {
    const other = this.#electedBy.get(term);
    if (other !== undefined) throw new Violation(`term ${term} elects ${proposer} after ${other}`);
    this.#electedBy.set(term, proposer);
    this.logs.begin(term, epochStartLsn, history);
    const start = this.logs.compose(history, epochStartLsn);
    if (boundary(start) !== epochStartLsn) {
      throw new Violation(`term ${term} begins at ${formatLsn(epochStartLsn)}, within a record`);
    }
    for (const [earlier, bytes] of this.#commits) {
      if (earlier < term) this.#checkKept(earlier, bytes, term, epochStartLsn, history);
    }
  }

  /** The proposer of `term` tells its client that everything up to `lsn` is safe. */
  acknowledged(term: number, history: TermHistory, lsn: Lsn, durable: readonly DurableLog[]): void {
    const bytes = this.logs.compose(history, lsn);
    if (bytes.length !== lsn - TIMELINE_START) {
      throw new Violation(`term ${term} commits ${formatLsn(lsn)}, which nobody has written`);
    }
    const holders = durable.filter((log) => isPrefix(bytes, log.bytes)).length;
    if (holders < quorumOf(this.#acceptorCount)) {
      throw new Violation(
        `term ${term} commits ${formatLsn(lsn)}, which only ${holders} acceptors have durably`,
      );
    }
    if (!isPrefix(bytes, this.committed) && !isPrefix(this.committed, bytes)) {
      throw new Violation(
        `term ${term} commits up to ${formatLsn(lsn)} other bytes than were committed before`,
      );
    }
    if (bytes.length > this.committed.length) this.committed = bytes;
    this.#commits.set(term, bytes);
    for (const [later, log] of this.logs.terms) {
      if (later > term) this.#checkKept(term, bytes, later, log.startLsn, log.history);
    }
  }

  /** Postgres began to write where its term did, and sends nothing that it has not written. */
  askedOfPostgres(proposer: string, from: Lsn, to: Lsn, state: ProposerState): void {
    if (from < state.epochStartLsn || to > state.localEndLsn || from >= to) {
      throw new Violation(
        `${proposer} asks Postgres for WAL from ${formatLsn(from)} to ${formatLsn(to)}, which has it from ${
          formatLsn(state.epochStartLsn)
        } to ${formatLsn(state.localEndLsn)}`,
      );
    }
  }

  /** The page server has made everything up to `lsn` durable. */
  pageServerHas(lsn: Lsn): void {
    if (lsn > this.#pageServerLsn) this.#pageServerLsn = lsn;
  }

  /**
   * After every change of an acceptor.
   *
   * @param wal what it holds from the timeline's start up to its writtenLsn
   * @param durableEnds up to where each acceptor's WAL survives a crash
   */
  acceptor(index: number, state: AcceptorState, wal: Uint8Array, durableEnds: readonly number[]): void {
    if (state.timelineStartLsn === INVALID_LSN) return;
    if (TIMELINE_START + wal.length !== state.writtenLsn) {
      throw new Violation(
        `acceptor ${index} believes to have ${formatLsn(state.writtenLsn)}, its WAL differs`,
      );
    }
    const expected = this.logs.compose(state.history, state.writtenLsn);
    if (!isPrefix(wal, expected)) {
      throw new Violation(
        `the log of acceptor ${index} up to ${formatLsn(state.writtenLsn)} is not that of its history ${
          formatTermHistory(state.history)
        }`,
      );
    }
    if (state.commitLsn > this.committedLsn) {
      throw new Violation(
        `acceptor ${index} shows readers ${formatLsn(state.commitLsn)}, which is not committed`,
      );
    }
    if (state.remoteConsistentLsn > this.#pageServerLsn) {
      throw new Violation(`acceptor ${index} would let go of what the page server does not have`);
    }
    if (durableEnds.some((end) => state.truncateLsn > end)) {
      throw new Violation(`acceptor ${index} would let go of what another one lacks`);
    }
    if (!isPrefix(wal.subarray(0, Math.max(0, state.commitLsn - TIMELINE_START)), this.committed)) {
      throw new Violation(`acceptor ${index} shows readers other bytes than were committed`);
    }
  }

  #checkKept(
    earlier: number,
    bytes: Uint8Array,
    later: number,
    epochStartLsn: Lsn,
    history: TermHistory,
  ): void {
    const start = this.logs.compose(history, epochStartLsn);
    if (!isPrefix(bytes, start)) {
      throw new Violation(
        `committed in term ${earlier} up to ${formatLsn((TIMELINE_START + bytes.length) as Lsn)}, ` +
          `but not in the log that term ${later} starts with, ${formatTermHistory(history)}`,
      );
    }
  }
}
