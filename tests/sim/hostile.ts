/**
 * Somebody who can reach an acceptor and knows the protocol, and every number of the timeline, but was elected by nobody: it votes for itself
 * and says what only the elected proposer may say. What it can't have is that proposer's id. It does not win elections and then lie:
 * nobody could tell it from a compute.
 */
import { INVALID_LSN, type Lsn, MAX_LSN } from "../../src/common/lsn.ts";
import type { AcceptorState } from "../../src/consensus/acceptor.ts";
import { TERM_MAX, TERM_STEP_MAX } from "../../src/consensus/bounds.ts";
import type { ProposerElected, ProposerMessage, ServerInfo } from "../../src/consensus/messages.ts";
import { historyTerm } from "../../src/consensus/term_history.ts";
import type { Random } from "../harness/random.ts";
import { makeRecord, RECORD_BYTES, TIMELINE_START } from "./sim_log.ts";

const PROPOSER_ID = "66".repeat(16);

/** The next thing that it says to an acceptor in this state. */
export function hostileMessage(
  state: AcceptorState,
  serverInfo: ServerInfo,
  random: Random,
): ProposerMessage {
  switch (random.int(4)) {
    case 0:
      return { type: "VoteRequest", term: pick(random, hostileTerms(state)) };
    case 1:
      return hostileElection(state, random) ?? hostileAppend(state, random);
    case 2:
      return hostileAppend(state, random);
    default:
      return random.oneIn(8)
        ? { ...serverInfo, proposerId: PROPOSER_ID, systemId: 666n }
        : { ...serverInfo, proposerId: PROPOSER_ID };
  }
}

/** Opens its session. */
export function hostileGreeting(serverInfo: ServerInfo): ProposerMessage {
  return { ...serverInfo, proposerId: PROPOSER_ID };
}

/** Whatever may make an acceptor trip; of the terms that it follows, few: each fences the proposer. */
function hostileTerms({ term }: AcceptorState): number[] {
  const impossible = [0, term + TERM_STEP_MAX + 1, TERM_MAX, TERM_MAX + 1, Number.MAX_SAFE_INTEGER];
  return [...impossible, ...impossible, term, term + 1, term + TERM_STEP_MAX];
}

function hostileAppend(state: AcceptorState, random: Random): ProposerMessage {
  const { term, writtenLsn, flushLsn, commitLsn } = state;
  const lsn = (): Lsn =>
    pick(random, [
      INVALID_LSN,
      TIMELINE_START,
      commitLsn,
      flushLsn,
      writtenLsn,
      (flushLsn + 4096) as Lsn,
      MAX_LSN,
    ]);
  const beginLsn = random.oneIn(2) ? writtenLsn : lsn();
  return {
    type: "AppendRequest",
    term: random.oneIn(4) ? pick(random, hostileTerms(state)) : term,
    beginLsn,
    commitLsn: lsn(),
    truncateLsn: lsn(),
    remoteConsistentLsn: lsn(),
    bytes: random.oneIn(2)
      ? new Uint8Array(0)
      : random.oneIn(2)
      ? makeRecord(term, 0xffff, beginLsn % 0x1_0000_0000)
      : random.bytes(1 + random.int(2 * RECORD_BYTES)),
  };
}

/**
 * An election that did not take place, or not so; undefined where no number would show it. It must stay so until it is heard: by then
 * the acceptor may have followed newer terms.
 */
function hostileElection(state: AcceptorState, random: Random): ProposerMessage | undefined {
  const { term, history, flushLsn, commitLsn } = state;
  const startLsn = flushLsn === INVALID_LSN ? TIMELINE_START : flushLsn;
  const claim = (claimed: number): ProposerElected => ({
    type: "ProposerElected",
    term: claimed,
    startLsn,
    timelineStartLsn: TIMELINE_START,
    history: [...history.filter((entry) => entry.term < claimed), { term: claimed, startLsn }],
  });
  const lies: ProposerMessage[] = [
    claim(TERM_MAX),
    claim(Number.MAX_SAFE_INTEGER),
    { ...claim(term + 1), history },
    { ...claim(term + 1), timelineStartLsn: INVALID_LSN },
    { ...claim(0), history: [] },
    {
      ...claim(term + 1),
      history: [{ term, startLsn: (startLsn + 8) as Lsn }, { term: term + 1, startLsn }],
    },
  ];
  if (historyTerm(history) === term && term > 0) lies.push(claim(term), claim(term));
  if (state.timelineStartLsn !== INVALID_LSN) {
    lies.push({ ...claim(term + 1), startLsn: MAX_LSN }, { ...claim(term + 1), timelineStartLsn: 8 as Lsn });
  }
  if (commitLsn > TIMELINE_START) {
    lies.push({
      ...claim(term + 1),
      startLsn: TIMELINE_START,
      history: [{ term: term + 1, startLsn: TIMELINE_START }],
    });
  }
  return pick(random, lies);
}

function pick<T>(random: Random, choices: readonly T[]): T {
  return choices[random.int(choices.length)];
}
