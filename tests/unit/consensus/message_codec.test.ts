import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { ZenithError } from "../../../src/common/errors.ts";
import { parseTenantId, parseTimelineId } from "../../../src/common/id.ts";
import { type Lsn, MAX_LSN, parseLsn } from "../../../src/common/lsn.ts";
import {
  APPEND_REQUEST_HEADER_BYTES,
  decodeAcceptorMessage,
  decodeProposerMessage,
  encodeMessage,
} from "../../../src/consensus/message_codec.ts";
import {
  type AcceptorMessage,
  APPEND_MAX_BYTES,
  type ProposerMessage,
  WAL_ACCEPTOR_PROTOCOL_VERSION,
} from "../../../src/consensus/messages.ts";
import { Random } from "../../harness/random.ts";

const HISTORY = [
  { term: 1, startLsn: parseLsn("0/16B5A50") },
  { term: 2 ** 40 + 7, startLsn: parseLsn("12/2000028") },
];

const PROPOSER_MESSAGES: readonly ProposerMessage[] = [
  {
    type: "ServerInfo",
    protocolVersion: WAL_ACCEPTOR_PROTOCOL_VERSION,
    tenantId: parseTenantId("0123456789abcdef0123456789abcdef"),
    timelineId: parseTimelineId("fedcba9876543210fedcba9876543210"),
    systemId: 0xfedc_ba98_7654_3210n,
    pgVersion: 15,
    segmentSize: 16 << 20,
    proposerId: "00ff".repeat(8),
  },
  { type: "VoteRequest", term: 3 },
  {
    type: "ProposerElected",
    term: 2 ** 40 + 7,
    startLsn: parseLsn("12/2000028"),
    timelineStartLsn: parseLsn("0/16B5A50"),
    history: HISTORY,
  },
  {
    type: "AppendRequest",
    term: 5,
    beginLsn: MAX_LSN,
    commitLsn: parseLsn("1/0"),
    truncateLsn: parseLsn("0/FFFFFFFF"),
    remoteConsistentLsn: parseLsn("0/10"),
    bytes: Uint8Array.of(1, 2, 3),
  },
  {
    type: "AppendRequest",
    term: 5,
    beginLsn: 8 as Lsn,
    commitLsn: 0 as Lsn,
    truncateLsn: 0 as Lsn,
    remoteConsistentLsn: 0 as Lsn,
    bytes: new Uint8Array(0),
  },
];

const ACCEPTOR_MESSAGES: readonly AcceptorMessage[] = [
  { type: "Greeting", term: 9, acceptorId: 2 },
  {
    type: "VoteResponse",
    term: 9,
    granted: true,
    flushLsn: parseLsn("12/3000000"),
    timelineStartLsn: parseLsn("0/16B5A50"),
    history: HISTORY,
  },
  {
    type: "VoteResponse",
    term: 1,
    granted: false,
    flushLsn: 0 as Lsn,
    timelineStartLsn: 0 as Lsn,
    history: [],
  },
  {
    type: "AppendResponse",
    term: 4,
    historyTerm: 3,
    flushLsn: parseLsn("2/10"),
    durableLsn: parseLsn("2/20"),
    commitLsn: parseLsn("2/8"),
    remoteConsistentLsn: parseLsn("1/8"),
  },
];

/** In the middle of other bytes, as it comes from a socket. */
function embedded(bytes: Uint8Array): Uint8Array {
  const buffer = new Uint8Array(bytes.length + 10).fill(0xee);
  buffer.set(bytes, 5);
  return buffer;
}

describe("messages of the consensus", () => {
  test("come back as they were sent", () => {
    for (const message of PROPOSER_MESSAGES) {
      const bytes = encodeMessage(message);
      assert.deepEqual(decodeProposerMessage(embedded(bytes), 5, bytes.length), message);
    }
    for (const message of ACCEPTOR_MESSAGES) {
      const bytes = encodeMessage(message);
      assert.deepEqual(decodeAcceptorMessage(embedded(bytes), 5, bytes.length), message);
    }
  });

  test("cut short or with something behind are refused, wherever", () => {
    for (const message of [...PROPOSER_MESSAGES, ...ACCEPTOR_MESSAGES]) {
      const bytes = encodeMessage(message);
      const decode = (ACCEPTOR_MESSAGES as readonly unknown[]).includes(message)
        ? decodeAcceptorMessage
        : decodeProposerMessage;
      const fixed = message.type === "AppendRequest" ? APPEND_REQUEST_HEADER_BYTES : bytes.length;
      for (let length = 0; length < fixed; length++) {
        assert.throws(
          () => decode(bytes, 0, length),
          { kind: "protocol" },
          `${message.type}, ${length} bytes`,
        );
      }
      if (message.type === "AppendRequest") continue;
      assert.throws(() => decode(embedded(bytes), 5, bytes.length + 1), { kind: "protocol" });
    }
  });

  test("another protocol version is refused with both versions named", () => {
    const bytes = encodeMessage(PROPOSER_MESSAGES[0]);
    bytes[4] = 99;
    assert.throws(() => decodeProposerMessage(bytes, 0, bytes.length), {
      kind: "protocol",
      message: new RegExp(`version 99, this safekeeper ${WAL_ACCEPTOR_PROTOCOL_VERSION}$`),
    });
  });

  test("a term history that claims more entries than there are bytes allocates nothing", () => {
    const bytes = encodeMessage(ACCEPTOR_MESSAGES[1]);
    bytes.set([0xff, 0xff, 0xff, 0xff], 1 + 8 + 1 + 16);
    assert.throws(() => decodeAcceptorMessage(bytes, 0, bytes.length), {
      kind: "protocol",
      message: /entries/,
    });
  });

  test("a term history out of order is refused", () => {
    const bytes = encodeMessage(
      { ...ACCEPTOR_MESSAGES[1], history: [...HISTORY].reverse() } as AcceptorMessage,
    );
    assert.throws(() => decodeAcceptorMessage(bytes, 0, bytes.length), {
      kind: "protocol",
      message: /history/,
    });
  });

  test("more WAL than a message may carry is refused", () => {
    const bytes = new Uint8Array(APPEND_REQUEST_HEADER_BYTES + APPEND_MAX_BYTES + 1);
    bytes.set(encodeMessage(PROPOSER_MESSAGES[4]));
    assert.throws(() => decodeProposerMessage(bytes, 0, bytes.length), {
      kind: "protocol",
      message: /limit/,
    });
    assert.equal(decodeProposerMessage(bytes, 0, bytes.length - 1).type, "AppendRequest");
  });

  test("any bytes give a message or a ZenithError", () => {
    const random = new Random(4711);
    const messages = [...PROPOSER_MESSAGES, ...ACCEPTOR_MESSAGES].map(encodeMessage);
    let decoded = 0;
    for (let i = 0; i < 20_000; i++) {
      const bytes = random.oneIn(4)
        ? random.bytes(random.int(120))
        : messages[random.int(messages.length)].slice();
      for (let j = random.int(4); j > 0 && bytes.length > 0; j--) {
        bytes[random.int(bytes.length)] = random.u32();
      }
      for (const decode of [decodeProposerMessage, decodeAcceptorMessage]) {
        try {
          decode(bytes, 0, bytes.length);
          decoded++;
        } catch (error) {
          assert.ok(error instanceof ZenithError, String(error));
        }
      }
    }
    assert.ok(decoded > 100, "some of it was well-formed");
  });
});
