import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { generateTenantId, generateTimelineId } from "../../../src/common/id.ts";
import type { Lsn } from "../../../src/common/lsn.ts";
import {
  type AcceptorMessage,
  type ServerInfo,
  WAL_ACCEPTOR_PROTOCOL_VERSION,
} from "../../../src/consensus/messages.ts";
import { type ProposerEffect, startProposer, stepProposer } from "../../../src/consensus/proposer.ts";

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
  const confirm = (peer: number, flushLsn: Lsn): ProposerEffect[] =>
    hear(peer, {
      type: "AppendResponse",
      term: 2,
      historyTerm: 2,
      flushLsn,
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
