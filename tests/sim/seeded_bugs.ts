/** Machines with a bug in them. The checker must find each: otherwise its silence about the real ones means nothing. */
import { type AcceptorEffect, stepAcceptor } from "../../src/consensus/acceptor.ts";
import { TERM_MAX } from "../../src/consensus/bounds.ts";
import { POSTGRES, stepProposer } from "../../src/consensus/proposer.ts";
import { quorumOf } from "../../src/consensus/quorum.ts";
import { type Machines, PRODUCTION } from "./machines.ts";

export interface SeededBug {
  readonly name: string;
  readonly machines: Machines;
}

/** A vote is given before it is durable: after a crash the acceptor votes again in the same term. */
const VOTE_NOT_PERSISTED: Machines = {
  ...PRODUCTION,
  stepAcceptor: (state, event) => {
    const effects = stepAcceptor(state, event);
    const isVote = event.type === "message" && event.message.type === "VoteRequest";
    return isVote ? effects.filter(({ type }) => type !== "persist") : effects;
  },
};

/** The positions that acceptors voted with count for the commit, although their logs are of an older term still. */
const COMMIT_FROM_OLDER_TERM: Machines = {
  ...PRODUCTION,
  stepProposer: (state, event) => {
    const effects = stepProposer(state, event);
    if (state.phase !== "elected" || event.type !== "message" || event.message.type !== "VoteResponse") {
      return effects;
    }
    const positions = state.peers.map(({ vote }) => vote?.flushLsn ?? 0).sort((a, b) => b - a);
    const lsn = positions[quorumOf(positions.length) - 1];
    if (lsn > state.commitLsn && lsn >= state.timelineStartLsn) {
      state.commitLsn = lsn as typeof state.commitLsn;
      effects.push({ type: "committed", lsn: state.commitLsn });
    }
    return effects;
  },
};

/** What is not in the new proposer's log stays in the acceptor's. */
const TRUNCATION_SKIPPED: Machines = {
  ...PRODUCTION,
  stepAcceptor: (state, event) => {
    const { writtenLsn, recordEndLsn, flushLsn } = state;
    const effects = stepAcceptor(state, event);
    if (!effects.some(({ type }) => type === "truncate")) return effects;
    Object.assign(state, { writtenLsn, recordEndLsn, flushLsn });
    return effects.filter(({ type }) => type !== "truncate");
  },
};

/** WAL is confirmed when it is written, not when it is durable. */
const CONFIRMED_BEFORE_SYNC: Machines = {
  ...PRODUCTION,
  stepAcceptor: (state, event) => {
    const effects = stepAcceptor(state, event);
    const sync = effects.find((effect): effect is Extract<AcceptorEffect, { type: "sync" }> =>
      effect.type === "sync"
    );
    return sync === undefined ? effects : stepAcceptor(state, { type: "synced", cuts: sync.cuts });
  },
};

/** The history is replaced before the log is cut: after a crash in between, old WAL passes for the new term's. */
const HISTORY_BEFORE_CUT: Machines = {
  ...PRODUCTION,
  stepAcceptor: (state, event) => {
    const effects = stepAcceptor(state, event);
    const cut = effects.findIndex(({ type }) => type === "truncate");
    const persist = effects.findIndex(({ type }, i) => i > cut && type === "persist");
    if (cut < 0 || persist < 0) return effects;
    return [...effects.slice(0, cut), effects[persist], effects[cut], ...effects.slice(persist + 1)];
  },
};

/** A proposer that hears of a newer term goes on. */
const NOT_FENCED: Machines = {
  ...PRODUCTION,
  stepProposer: (state, event) => {
    if (event.type !== "message" || state.phase !== "elected") return stepProposer(state, event);
    const { message } = event;
    if (message.type !== "AppendResponse") return stepProposer(state, event);
    const term = state.term;
    return stepProposer(state, { ...event, message: { ...message, term, historyTerm: term } });
  },
};

/** Whoever names the current term is taken for the proposer that was elected in it. */
const ANYBODY_APPENDS: Machines = {
  ...PRODUCTION,
  stepAcceptor: (state, event) => {
    if (event.type === "message" && event.message.type === "AppendRequest") {
      const { session } = event;
      const { electedId } = state;
      state.sessions = state.sessions.map((other) =>
        other.id === session ? { ...other, proposerId: electedId } : other
      );
    }
    return stepAcceptor(state, event);
  },
};

/** A vote is given in any term that there is. */
const ANY_TERM: Machines = {
  ...PRODUCTION,
  stepAcceptor: (state, event) => {
    if (event.type === "message" && event.message.type === "VoteRequest") {
      const { term } = event.message;
      if (term > state.term && term <= TERM_MAX) state.term = term - 1;
    }
    return stepAcceptor(state, event);
  },
};

/** Parts of a record are not confirmed: one that is longer than what may be on its way never arrives. */
const WHOLE_RECORDS_CONFIRMED: Machines = {
  ...PRODUCTION,
  stepAcceptor: (state, event) =>
    stepAcceptor(state, event).map((effect) =>
      effect.type === "send" && effect.message.type === "AppendResponse"
        ? { ...effect, message: { ...effect.message, durableLsn: effect.message.flushLsn } }
        : effect
    ),
};

/** What is durable counts, also where it ends within a record. */
const PARTS_COUNT: Machines = {
  ...PRODUCTION,
  stepAcceptor: (state, event) =>
    stepAcceptor(state, event).map((effect) =>
      effect.type === "send" && effect.message.type === "VoteResponse"
        ? { ...effect, message: { ...effect.message, flushLsn: state.durableLsn } }
        : effect
    ),
};

/** Only what a quorum has ever had is thought to be there: a part that was lost in crashes is looked for at the other acceptors. */
const POSTGRES_NOT_ASKED: Machines = {
  ...PRODUCTION,
  stepProposer: (state, event) =>
    stepProposer(state, event).filter((effect) => {
      if (effect.type !== "fetch" || effect.source !== POSTGRES) return true;
      state.peers[effect.peer].fetching = false;
      return false;
    }),
};

/** Found by the simulation alone: a record of the exhaustive search comes in one piece. */
export const LONG_RECORD_BUGS: readonly SeededBug[] = [
  { name: "records that are confirmed whole only", machines: WHOLE_RECORDS_CONFIRMED },
  { name: "part of a record that counts in an election", machines: PARTS_COUNT },
  { name: "a part of a record that is lost for good", machines: POSTGRES_NOT_ASKED },
];

/** Found by the simulation alone: nobody is hostile in the exhaustive search. */
export const HOSTILE_BUGS: readonly SeededBug[] = [
  { name: "an acceptor that believes anybody who names its term", machines: ANYBODY_APPENDS },
  { name: "a term that anybody can drive up", machines: ANY_TERM },
];

export const SEEDED_BUGS: readonly SeededBug[] = [
  { name: "a vote that is not persisted", machines: VOTE_NOT_PERSISTED },
  { name: "a commit counted from an older term", machines: COMMIT_FROM_OLDER_TERM },
  { name: "a truncation that is skipped", machines: TRUNCATION_SKIPPED },
  { name: "a confirmation before the sync", machines: CONFIRMED_BEFORE_SYNC },
  { name: "a history that is replaced before the log is cut", machines: HISTORY_BEFORE_CUT },
  { name: "a proposer that ignores newer terms", machines: NOT_FENCED },
];
