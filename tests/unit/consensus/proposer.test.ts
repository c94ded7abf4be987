import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { generateTenantId, generateTimelineId } from "../../../src/common/id.ts";
import type { Lsn } from "../../../src/common/lsn.ts";
import {
  type AcceptorMessage,
  type ServerInfo,
  WAL_ACCEPTOR_PROTOCOL_VERSION,
} from "../../../src/consensus/messages.ts";
import { TERM_MAX, TERM_STEP_MAX } from "../../../src/consensus/bounds.ts";
import { LIMITS } from "../../../src/consensus/limits.ts";
import {
  POSTGRES,
  type ProposerEffect,
  settledLsn,
  startProposer,
  stepProposer,
} from "../../../src/consensus/proposer.ts";

const START = 0x1500000 as Lsn;
const BEHIND = (START + 0x1000) as Lsn;
const AHEAD = (START + 0x2000) as Lsn;

const SERVER_INFO: ServerInfo = {
  type: "ServerInfo",
  protocolVersion: WAL_ACCEPTOR_PROTOCOL_VERSION,
  tenantId: generateTenantId(),
  timelineId: generateTimelineId(),
  systemId: 1n,
  pgVersion: 15,
  segmentSize: 16 << 20,
  proposerId: "00".repeat(16),
};

/** A proposer whose term 2 was voted for by acceptor 0, whose log ends at BEHIND, and acceptor 1, whose log is longer. */
function elected() {
  const state = startProposer({ serverInfo: SERVER_INFO, acceptorCount: 3, timelineStartLsn: START });
  const hear = (peer: number, message: AcceptorMessage): ProposerEffect[] =>
    stepProposer(state, { type: "message", peer, message });
  for (const peer of [0, 1]) stepProposer(state, { type: "connected", peer });
  for (const peer of [0, 1]) hear(peer, { type: "Greeting", term: 1, acceptorId: peer + 1 });
  [BEHIND, AHEAD].forEach((flushLsn, peer) =>
    hear(peer, {
      type: "VoteResponse",
      term: 2,
      granted: true,
      flushLsn,
      timelineStartLsn: START,
      history: [{ term: 1, startLsn: START }],
    })
  );
  const confirm = (peer: number, flushLsn: Lsn, durableLsn = flushLsn): ProposerEffect[] =>
    hear(peer, {
      type: "AppendResponse",
      term: 2,
      historyTerm: 2,
      flushLsn,
      durableLsn,
      commitLsn: START,
      remoteConsistentLsn: START,
    });
  return { state, confirm };
}

function fetches(effects: readonly ProposerEffect[]) {
  return effects.filter((effect) => effect.type === "fetch");
}

describe("an acceptor that lacks WAL from before the term", () => {
  test("is fed by another one when that has joined the term before it", () => {
    const { confirm } = elected();
    assert.deepEqual(fetches(confirm(1, AHEAD)), []);
    const [fetch] = fetches(confirm(0, BEHIND));
    assert.deepEqual(fetch, { type: "fetch", peer: 0, source: 1, term: 2, from: BEHIND, to: AHEAD });
  });

  test("is fed by another one that joins the term only after it", () => {
    const { confirm } = elected();
    assert.deepEqual(fetches(confirm(0, BEHIND)), []);
    const [fetch] = fetches(confirm(1, AHEAD));
    assert.deepEqual(fetch, { type: "fetch", peer: 0, source: 1, term: 2, from: BEHIND, to: AHEAD });
  });

  test("is asked for once only, however often the other one answers", () => {
    const { confirm } = elected();
    confirm(1, AHEAD);
    assert.equal(fetches(confirm(0, BEHIND)).length, 1);
    assert.deepEqual(fetches(confirm(1, AHEAD)), []);
  });
});

describe("an acceptor's term", () => {
  function greeted(terms: readonly number[]) {
    const state = startProposer({ serverInfo: SERVER_INFO, acceptorCount: 3, timelineStartLsn: START });
    const asked: number[][] = [[], [], []];
    const hear = (peer: number, message: AcceptorMessage): void => {
      for (const effect of stepProposer(state, { type: "message", peer, message })) {
        if (effect.type === "send" && effect.message.type === "VoteRequest") {
          asked[effect.peer].push(effect.message.term);
        }
      }
    };
    terms.forEach((_, peer) => stepProposer(state, { type: "connected", peer }));
    terms.forEach((term, peer) => hear(peer, { type: "Greeting", term, acceptorId: peer + 1 }));
    return { state, asked, hear };
  }

  test("that is far behind is led up in steps, and only the last vote counts", () => {
    const high = 5 + 2 * TERM_STEP_MAX;
    const { state, asked, hear } = greeted([5, high]);
    const vote = (peer: number): void =>
      hear(peer, {
        type: "VoteResponse",
        term: asked[peer].at(-1)!,
        granted: true,
        flushLsn: BEHIND,
        timelineStartLsn: START,
        history: [{ term: 1, startLsn: START }],
      });
    vote(1);
    vote(0);
    vote(0);
    assert.equal(state.phase, "campaigning");
    vote(0);
    assert.deepEqual(asked, [[5 + TERM_STEP_MAX, high, high + 1], [high + 1], []]);
    assert.equal(state.phase, "elected");
  });

  test("that can't be followed is refused with what to do, and the others elect without it", () => {
    const { state, asked, hear } = greeted([3]);
    for (const term of [TERM_MAX + 1, Number.MAX_SAFE_INTEGER]) {
      assert.throws(() => hear(1, { type: "Greeting", term, acceptorId: 2 }), {
        kind: "conflict",
        message: /no election can be won/,
        hint: /repair-term/,
      });
    }
    stepProposer(state, { type: "connected", peer: 2 });
    hear(2, { type: "Greeting", term: 3, acceptorId: 3 });
    assert.deepEqual(asked, [[4], [], [4]]);
    assert.equal(state.term, 4);
  });
});

describe("an acceptor that says what can't be", () => {
  test("is refused, and changes nothing", () => {
    const { state } = elected();
    const before = structuredClone(state.peers);
    const answer = {
      type: "AppendResponse",
      term: 2,
      historyTerm: 2,
      flushLsn: AHEAD,
      durableLsn: AHEAD,
      commitLsn: START,
      remoteConsistentLsn: START,
    } as const;
    const vote = { type: "VoteResponse", term: 2, granted: true, timelineStartLsn: START } as const;
    const lies: AcceptorMessage[] = [
      { ...answer, durableLsn: (AHEAD + 8) as Lsn },
      { ...answer, flushLsn: (AHEAD + 8) as Lsn, durableLsn: (AHEAD + 8) as Lsn },
      { ...answer, durableLsn: (AHEAD - 8) as Lsn },
      { ...answer, remoteConsistentLsn: (AHEAD + 8) as Lsn },
      { ...answer, historyTerm: 3 },
      { ...vote, flushLsn: AHEAD, history: [{ term: 3, startLsn: START }] },
      { ...vote, flushLsn: (START - 8) as Lsn, history: [{ term: 1, startLsn: START }] },
    ];
    for (const message of lies) {
      assert.throws(() => stepProposer(state, { type: "message", peer: 1, message }), { kind: "protocol" });
    }
    assert.deepEqual(state.peers, before);
    assert.equal(state.remoteConsistentLsn, 0);
  });
});

describe("a record that is longer than all limits", () => {
  const { inFlightBytes, fetchBytes } = LIMITS;

  /** Acceptors 0 and 1 stream, and everything up to AHEAD is committed; then Postgres has written much, without the record's end. */
  function streaming() {
    const proposer = elected();
    const { state, confirm } = proposer;
    confirm(1, AHEAD);
    confirm(0, AHEAD);
    const endLsn = (AHEAD + 10 * inFlightBytes) as Lsn;
    const sent = stepProposer(state, { type: "localAdvanced", endLsn });
    return { ...proposer, sent };
  }

  const bytesTo = (effects: readonly ProposerEffect[], to: number): number =>
    effects.reduce(
      (sum, effect) =>
        effect.type === "append" && effect.peer === to ? sum + effect.endLsn - effect.beginLsn : sum,
      0,
    );

  test("goes on as its parts become durable, though nothing of it counts", () => {
    const { state, confirm, sent } = streaming();
    assert.ok(bytesTo(sent, 0) >= inFlightBytes && bytesTo(sent, 0) < 2 * inFlightBytes);
    const more = confirm(0, AHEAD, (AHEAD + inFlightBytes) as Lsn);
    assert.ok(bytesTo(more, 0) >= inFlightBytes / 2);
    assert.equal(state.commitLsn, AHEAD);
    assert.equal(settledLsn(state), AHEAD, "one is no quorum");
    confirm(1, AHEAD, (AHEAD + inFlightBytes / 2) as Lsn);
    assert.equal(settledLsn(state), AHEAD + inFlightBytes / 2);
    assert.equal(state.commitLsn, AHEAD);
  });

  test("comes from Postgres once more where an acceptor has lost its beginning", () => {
    const { state, confirm } = streaming();
    const trimmed = (AHEAD + inFlightBytes) as Lsn;
    for (const peer of [0, 1]) confirm(peer, AHEAD, trimmed);
    stepProposer(state, { type: "localTrimmed", startLsn: trimmed });
    stepProposer(state, { type: "disconnected", peer: 1 });
    stepProposer(state, { type: "connected", peer: 1 });
    stepProposer(state, { type: "message", peer: 1, message: { type: "Greeting", term: 2, acceptorId: 2 } });
    const vote = {
      type: "VoteResponse",
      term: 2,
      granted: false,
      flushLsn: AHEAD,
      timelineStartLsn: START,
    } as const;
    stepProposer(state, { type: "message", peer: 1, message: { ...vote, history: state.history } });
    assert.deepEqual(fetches(confirm(1, AHEAD)), [{
      type: "fetch",
      peer: 1,
      source: POSTGRES,
      term: 2,
      from: AHEAD,
      to: AHEAD + fetchBytes,
    }]);
  });
});
