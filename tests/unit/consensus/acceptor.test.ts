import { beforeEach, describe, test } from "node:test";
import assert from "node:assert/strict";
import { parseTenantId, parseTimelineId } from "../../../src/common/id.ts";
import type { Lsn } from "../../../src/common/lsn.ts";
import {
  type AcceptorEffect,
  type AcceptorState,
  controlOf,
  newAcceptorControl,
  NOBODY,
  startAcceptor,
  stepAcceptor,
} from "../../../src/consensus/acceptor.ts";
import { TERM_MAX, TERM_STEP_MAX } from "../../../src/consensus/bounds.ts";
import { LIMITS } from "../../../src/consensus/limits.ts";
import {
  type ProposerMessage,
  type ServerInfo,
  type TimelineIdentity,
  WAL_ACCEPTOR_PROTOCOL_VERSION,
} from "../../../src/consensus/messages.ts";
import type { TermHistory } from "../../../src/consensus/term_history.ts";

const IDENTITY: TimelineIdentity = {
  tenantId: parseTenantId("aa".repeat(16)),
  timelineId: parseTimelineId("bb".repeat(16)),
  systemId: 42n,
  pgVersion: 15,
  segmentSize: 16 << 20,
};
const SERVER_INFO: ServerInfo = {
  type: "ServerInfo",
  protocolVersion: WAL_ACCEPTOR_PROTOCOL_VERSION,
  proposerId: "cc".repeat(16),
  ...IDENTITY,
};
const START = 1000 as Lsn;

function history(...entries: [term: number, startLsn: number][]): TermHistory {
  return entries.map(([term, startLsn]) => ({ term, startLsn: startLsn as Lsn }));
}

describe("an acceptor", () => {
  let state: AcceptorState;

  function send(session: number, message: ProposerMessage): AcceptorEffect[] {
    return stepAcceptor(state, { type: "message", session, message });
  }

  function elected(session: number, term: number, startLsn: number, entries: TermHistory): AcceptorEffect[] {
    return send(session, {
      type: "ProposerElected",
      term,
      startLsn: startLsn as Lsn,
      timelineStartLsn: START,
      history: entries,
    });
  }

  function append(
    session: number,
    term: number,
    beginLsn: number,
    length: number,
    commitLsn = 0,
  ): AcceptorEffect[] {
    return send(session, {
      type: "AppendRequest",
      term,
      beginLsn: beginLsn as Lsn,
      commitLsn: commitLsn as Lsn,
      truncateLsn: 0 as Lsn,
      remoteConsistentLsn: 0 as Lsn,
      bytes: new Uint8Array(length),
    });
  }

  /** The log grows to `lsn`, all of it whole records, durably. */
  function grow(session: number, term: number, lsn: number): void {
    append(session, term, state.writtenLsn, lsn - state.writtenLsn);
    stepAcceptor(state, { type: "written", writtenLsn: lsn as Lsn, recordEndLsn: lsn as Lsn });
    stepAcceptor(state, { type: "idle" });
    stepAcceptor(state, { type: "synced", cuts: state.cuts });
    assert.equal(state.flushLsn, lsn);
  }

  function types(effects: readonly AcceptorEffect[]): string[] {
    return effects.map((effect) =>
      effect.type === "send" ? `${effect.message.type} to ${effect.session}` : effect.type
    );
  }

  beforeEach(() => {
    state = startAcceptor(newAcceptorControl(), IDENTITY, 1, 0 as Lsn);
    send(1, SERVER_INFO);
    send(2, SERVER_INFO);
  });

  test("persists its vote before it gives it, and gives one per term", () => {
    const effects = send(1, { type: "VoteRequest", term: 5 });
    assert.deepEqual(types(effects), ["persist", "AppendResponse to 2", "VoteResponse to 1"]);
    const [persist] = effects;
    assert.equal(persist?.type === "persist" && persist.control.term, 5);
    for (const [session, term] of [[2, 5], [1, 5], [2, 4]] as const) {
      const [answer] = send(session, { type: "VoteRequest", term });
      assert.ok(answer?.type === "send" && answer.message.type === "VoteResponse");
      assert.equal(answer.message.granted, false);
      assert.equal(answer.message.term, 5);
    }
  });

  test("begins its log where the timeline does", () => {
    send(1, { type: "VoteRequest", term: 1 });
    assert.deepEqual(types(elected(1, 1, START, history([1, START]))), [
      "init",
      "persist",
      "AppendResponse to 1",
    ]);
    assert.equal(state.flushLsn, START);
  });

  test("cuts its log before it takes over the history, and persists the term before both", () => {
    elected(1, 1, START, history([1, START]));
    grow(1, 1, 2000);
    const effects = elected(2, 3, 1500, history([1, START], [3, 1500]));
    assert.deepEqual(types(effects), [
      "persist",
      "AppendResponse to 1",
      "truncate",
      "persist",
      "AppendResponse to 2",
    ]);
    const [first, , , second] = effects;
    assert.ok(first?.type === "persist" && second?.type === "persist");
    assert.deepEqual([first.control.term, first.control.history.length], [3, 1]);
    assert.deepEqual([second.control.term, second.control.history.length], [3, 2]);
    assert.equal(state.flushLsn, 1500);
  });

  test("hears of its proposer's election twice without losing what came between", () => {
    elected(1, 1, START, history([1, START]));
    grow(1, 1, 2000);
    assert.deepEqual(types(elected(1, 1, START, history([1, START]))), ["AppendResponse to 1"]);
    assert.equal(state.flushLsn, 2000);
  });

  test("keeps what its log has in common with the new term's, more than its vote has told of", () => {
    elected(1, 1, START, history([1, START]));
    grow(1, 1, 1500);
    // Another acceptor has all of this already, so that it is committed.
    append(1, 1, 1500, 500, 1800);
    stepAcceptor(state, { type: "written", writtenLsn: 2000 as Lsn, recordEndLsn: 1900 as Lsn });
    stepAcceptor(state, { type: "idle" });
    const [, vote] = send(2, { type: "VoteRequest", term: 2 }).filter(({ type }) => type === "send");
    assert.ok(vote?.type === "send" && vote.message.type === "VoteResponse");
    assert.equal(vote.message.flushLsn, 1500);
    stepAcceptor(state, { type: "synced", cuts: state.cuts });
    assert.equal(state.commitLsn, 1800);

    assert.deepEqual(types(elected(2, 2, 1500, history([1, START], [2, 2000]))), [
      "truncate",
      "persist",
      "AppendResponse to 2",
    ]);
    assert.equal(state.flushLsn, 1900, "up to the last whole record");
    const [write] = append(2, 2, 1500, 600);
    assert.ok(write?.type === "write");
    assert.deepEqual([write.lsn, write.off], [1900, 400], "what it has already is not written again");
  });

  test("never cuts what is committed", () => {
    elected(1, 1, START, history([1, START]));
    grow(1, 1, 2000);
    append(1, 1, 2000, 0, 1800);
    assert.equal(state.commitLsn, 1800);
    const effects = elected(2, 2, 1500, history([1, START], [2, 1500]));
    assert.deepEqual(types(effects), ["refuse"]);
    assert.equal(state.flushLsn, 2000);
    assert.equal(state.term, 1);
  });

  test("refuses an election at a point that the logs don't have in common", () => {
    elected(1, 1, START, history([1, START]));
    grow(1, 1, 2000);
    assert.deepEqual(types(elected(2, 5, 2000, history([1, START], [4, 1400], [5, 2400]))), ["refuse"]);
    assert.deepEqual(types(elected(2, 5, 2001, history([1, START], [5, 2400]))), ["refuse"]);
    assert.deepEqual(
      types(elected(2, 5, 1400, history([1, START], [4, 1400], [5, 2400]))).includes("truncate"),
      true,
    );
  });

  test("takes nothing of an older term, and says which term it is", () => {
    elected(1, 1, START, history([1, START]));
    grow(1, 1, 1200);
    send(2, { type: "VoteRequest", term: 2 });
    const [answer, ...rest] = append(1, 1, 1200, 100);
    assert.ok(answer?.type === "send" && answer.message.type === "AppendResponse");
    assert.deepEqual([answer.message.term, answer.message.historyTerm], [2, 1]);
    assert.deepEqual(rest, []);
    assert.equal(state.writtenLsn, 1200);
  });

  test("takes nothing of its own term before it has heard of the election", () => {
    send(1, { type: "VoteRequest", term: 1 });
    assert.deepEqual(types(append(1, 1, 1000, 10)), ["AppendResponse to 1"]);
    assert.equal(state.writtenLsn, 0);
  });

  test("writes what overlaps once, and nothing behind a gap", () => {
    elected(1, 1, START, history([1, START]));
    grow(1, 1, 1100);
    const [write] = append(1, 1, 1050, 100);
    assert.ok(write?.type === "write");
    assert.deepEqual([write.lsn, write.off, write.bytes.length], [1100, 50, 100]);
    assert.equal(state.writtenLsn, 1150);
    assert.deepEqual(types(append(1, 1, 1050, 100)), ["AppendResponse to 1"]);
    assert.deepEqual(types(append(1, 1, 1151, 10)), ["AppendResponse to 1"]);
    assert.equal(state.writtenLsn, 1150);
  });

  test("confirms whole records only, and only what the sync covered", () => {
    elected(1, 1, START, history([1, START]));
    append(1, 1, 1000, 100);
    stepAcceptor(state, { type: "written", writtenLsn: 1100 as Lsn, recordEndLsn: 1080 as Lsn });
    assert.deepEqual(types(stepAcceptor(state, { type: "idle" })), ["sync"]);
    append(1, 1, 1100, 100);
    stepAcceptor(state, { type: "written", writtenLsn: 1200 as Lsn, recordEndLsn: 1200 as Lsn });
    assert.deepEqual(stepAcceptor(state, { type: "idle" }), [], "one sync at a time");
    assert.deepEqual(types(stepAcceptor(state, { type: "synced", cuts: state.cuts })), [
      "AppendResponse to 1",
    ]);
    assert.equal(state.flushLsn, 1080);
    assert.deepEqual(types(stepAcceptor(state, { type: "idle" })), ["sync"]);
    stepAcceptor(state, { type: "synced", cuts: state.cuts });
    assert.equal(state.flushLsn, 1200);
  });

  test("makes parts of a long record durable, and says so, though nothing of it counts", () => {
    elected(1, 1, START, history([1, START]));
    const part = LIMITS.partSyncBytes;
    const receive = (length: number): void => {
      append(1, 1, state.writtenLsn, length);
      stepAcceptor(state, { type: "written", writtenLsn: state.writtenLsn, recordEndLsn: START });
    };
    receive(part - 1);
    assert.deepEqual(stepAcceptor(state, { type: "idle" }), [], "it is not worth a sync yet");
    receive(1);
    assert.deepEqual(types(stepAcceptor(state, { type: "idle" })), ["sync"]);
    receive(8);
    const [answer] = stepAcceptor(state, { type: "synced", cuts: state.cuts });
    assert.ok(answer?.type === "send" && answer.message.type === "AppendResponse");
    assert.deepEqual([answer.message.flushLsn, answer.message.durableLsn], [START, START + part]);
    // What is left when nothing more comes is confirmed too, so that nobody waits for that.
    assert.deepEqual(stepAcceptor(state, { type: "idle" }), []);
    assert.deepEqual(types(stepAcceptor(state, { type: "quiet" })), ["sync"]);
    assert.deepEqual(stepAcceptor(state, { type: "quiet" }), [], "one sync at a time");
    stepAcceptor(state, { type: "synced", cuts: state.cuts });
    assert.deepEqual([state.flushLsn, state.durableLsn], [START, START + part + 8]);
    assert.deepEqual(stepAcceptor(state, { type: "quiet" }), []);

    // A newer term begins at the record's start, whatever was durable of it.
    const [, vote] = send(2, { type: "VoteRequest", term: 2 }).filter(({ type }) => type === "send");
    assert.ok(vote?.type === "send" && vote.message.type === "VoteResponse");
    assert.equal(vote.message.flushLsn, START);
    elected(2, 2, START, history([1, START], [2, START]));
    assert.deepEqual([state.writtenLsn, state.durableLsn], [START, START]);
  });

  test("a sync from before a cut confirms nothing of the log behind it", () => {
    elected(1, 1, START, history([1, START]));
    append(1, 1, 1000, 500);
    stepAcceptor(state, { type: "written", writtenLsn: 1500 as Lsn, recordEndLsn: 1500 as Lsn });
    const [sync] = stepAcceptor(state, { type: "idle" });
    assert.ok(sync?.type === "sync");
    elected(2, 2, START, history([2, START]));
    assert.deepEqual(stepAcceptor(state, { type: "synced", cuts: sync.cuts }), []);
    assert.equal(state.flushLsn, START);
  });

  test("shows readers what is committed, as far as it has it", () => {
    elected(1, 1, START, history([1, START]));
    assert.deepEqual(append(1, 1, 1000, 0, 1300).map(({ type }) => type), ["committed"]);
    assert.equal(state.commitLsn, START);
    grow(1, 1, 1200);
    assert.equal(state.commitLsn, 1200);
    grow(1, 1, 1400);
    assert.equal(state.commitLsn, 1300);
  });

  test("refuses the compute of another timeline, system, version or segment size", () => {
    const others: Partial<ServerInfo>[] = [
      { tenantId: parseTenantId("dd".repeat(16)) },
      { timelineId: parseTimelineId("dd".repeat(16)) },
      { systemId: 43n },
      { pgVersion: 16 },
      { segmentSize: 1 << 20 },
    ];
    for (const other of others) {
      const [refusal] = send(7, { ...SERVER_INFO, ...other });
      assert.ok(refusal?.type === "refuse");
      assert.equal(refusal.error.kind, "conflict");
    }
    assert.deepEqual(types(send(7, { type: "VoteRequest", term: 9 })), ["refuse"], "it was not let in");
  });

  test("does not start on a log that lacks what was committed", () => {
    const control = { ...newAcceptorControl(), timelineStartLsn: START, commitLsn: 2000 as Lsn };
    assert.throws(() => startAcceptor(control, IDENTITY, 1, 1999 as Lsn), { kind: "corrupt_data" });
    assert.equal(startAcceptor(control, IDENTITY, 1, 2000 as Lsn).flushLsn, 2000);
  });

  describe("with somebody who was not elected", () => {
    const STRANGER = 7;
    const HUGE = Number.MAX_SAFE_INTEGER as Lsn;

    function restart(): void {
      state = startAcceptor(controlOf(state), IDENTITY, 1, state.flushLsn);
      send(1, SERVER_INFO);
      send(STRANGER, { ...SERVER_INFO, proposerId: "ee".repeat(16) });
    }

    beforeEach(() => {
      send(STRANGER, { ...SERVER_INFO, proposerId: "ee".repeat(16) });
      elected(1, 1, START, history([1, START]));
      grow(1, 1, 2000);
      append(1, 1, 2000, 0, 1800);
    });

    test("lets go of nothing on that one's word, now and after a restart", () => {
      for (const again of [false, true]) {
        if (again) restart();
        const before = { ...state };
        const lies = [
          { beginLsn: 0 as Lsn, bytes: new Uint8Array(0) },
          { beginLsn: 2000 as Lsn, bytes: new Uint8Array(40) },
        ];
        for (const lie of lies) {
          const effects = send(STRANGER, {
            type: "AppendRequest",
            term: 1,
            commitLsn: HUGE,
            truncateLsn: HUGE,
            remoteConsistentLsn: HUGE,
            ...lie,
          });
          assert.deepEqual(types(effects), ["refuse"]);
        }
        assert.deepEqual(types(elected(STRANGER, 1, START, history([1, START]))), ["refuse"]);
        assert.deepEqual(state, before);
      }
    });

    test("takes the elected one's numbers as far as its own log is committed", () => {
      send(1, {
        type: "AppendRequest",
        term: 1,
        beginLsn: 2000 as Lsn,
        commitLsn: 1900 as Lsn,
        truncateLsn: HUGE,
        remoteConsistentLsn: HUGE,
        bytes: new Uint8Array(0),
      });
      assert.deepEqual([state.commitLsn, state.truncateLsn, state.remoteConsistentLsn], [1900, 1900, 1900]);
      // With its term ends what it has told.
      elected(1, 2, 2000, history([1, START], [2, 2000]));
      grow(1, 2, 2400);
      append(1, 2, 2400, 0, 2400);
      assert.deepEqual([state.commitLsn, state.truncateLsn, state.remoteConsistentLsn], [2400, 1900, 1900]);
      stepAcceptor(state, { type: "feedback", remoteConsistentLsn: HUGE });
      assert.equal(state.remoteConsistentLsn, 1900, "nobody can have what was shown to nobody");
    });

    test("follows no term to where elections end", () => {
      const impossible = [0, -1, 0.5, 2 + TERM_STEP_MAX, TERM_MAX, TERM_MAX + 1, HUGE, Infinity, NaN];
      for (const term of impossible) {
        assert.deepEqual(types(send(STRANGER, { type: "VoteRequest", term })), ["refuse"], String(term));
        const entries = history([1, START], [term, 2000]);
        assert.deepEqual(types(elected(STRANGER, term, 2000, entries)), ["refuse"], String(term));
        assert.deepEqual(types(append(STRANGER, term, 2000, 0)), ["refuse"], String(term));
      }
      assert.equal(state.term, 1);
      assert.equal(
        types(send(1, { type: "VoteRequest", term: 1 + TERM_STEP_MAX })).at(-1),
        "VoteResponse to 1",
      );
      assert.equal(state.term, 1 + TERM_STEP_MAX);
    });

    test("takes over no history that can't be one", () => {
      const entries = history([1, START], [2, 2000], [3, 1900]);
      assert.deepEqual(types(elected(1, 3, START, entries)), ["refuse"]);
      assert.deepEqual(types(elected(1, 3, START, history([2, START], [1, 2000], [3, 2000]))), ["refuse"]);
    });

    test("takes nothing of term 0 while there is no log", () => {
      state = startAcceptor(newAcceptorControl(), IDENTITY, 1, 0 as Lsn);
      send(1, SERVER_INFO);
      assert.deepEqual(types(append(1, 0, 0, 40)), ["refuse"]);
      assert.deepEqual(types(elected(1, 0, START, [])), ["refuse"]);
      assert.deepEqual([state.appender, state.writtenLsn], [0, 0]);
    });

    test("believes of a control file no more than its log shows", () => {
      const control = { ...controlOf(state), remoteConsistentLsn: HUGE };
      assert.equal(startAcceptor(control, IDENTITY, 1, state.flushLsn).remoteConsistentLsn, state.commitLsn);
    });

    test("belongs to the first that names its term when it does not know who was elected", () => {
      state = startAcceptor({ ...controlOf(state), electedId: NOBODY }, IDENTITY, 1, state.flushLsn);
      send(1, SERVER_INFO);
      send(STRANGER, { ...SERVER_INFO, proposerId: "ee".repeat(16) });
      assert.deepEqual(types(append(STRANGER, 1, 2000, 8)), ["refuse"]);
      assert.deepEqual(types(elected(1, 1, START, history([1, START]))), ["persist", "AppendResponse to 1"]);
      assert.deepEqual(types(elected(STRANGER, 1, START, history([1, START]))), ["refuse"]);
    });

    test("has its term set back while nobody is connected, not below its log's", () => {
      send(STRANGER, { type: "VoteRequest", term: 900 });
      const lower = (term: number): AcceptorEffect[] => stepAcceptor(state, { type: "lowerTerm", term });
      assert.throws(() => lower(500), { kind: "conflict", message: /a compute is connected/ });
      for (const session of [1, 2, STRANGER]) stepAcceptor(state, { type: "closed", session });
      assert.throws(() => lower(900), { kind: "conflict" });
      assert.throws(() => lower(0), { kind: "conflict" });
      assert.deepEqual(types(lower(500)), ["persist"]);
      send(1, SERVER_INFO);
      elected(1, 501, 2000, history([1, START], [501, 2000]));
      stepAcceptor(state, { type: "closed", session: 1 });
      state.term = 1000;
      assert.throws(() => lower(500), { kind: "conflict", message: /a log of term 501/ });
      assert.equal(state.term, 1000);
    });
  });
});
