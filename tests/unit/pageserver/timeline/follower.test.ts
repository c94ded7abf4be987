import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { decodeSmallFile, encodeSmallFile } from "../../../../src/common/small_file.ts";
import { FOLLOW_FORMAT, type FollowState } from "../../../../src/pageserver/timeline/follow_state.ts";
import { putOnFirstTimeline } from "../../../../src/pageserver/timeline/leave_timeline.ts";

const PAGE = 8192;

/** Pages of WAL with the timeline in their headers, and bytes that must stay elsewhere. */
function pages(count: number, tli: number): Uint8Array {
  const bytes = new Uint8Array(count * PAGE).fill(0xee);
  const view = new DataView(bytes.buffer);
  for (let page = 0; page < bytes.length; page += PAGE) view.setUint32(page + 4, tli, true);
  return bytes;
}

describe("WAL of another timeline", () => {
  const LSN = 0x3_0000_0000;

  for (const piece of [1, 3, 4096, PAGE, 3 * PAGE + 5]) {
    test(`becomes WAL of timeline 1, in pieces of ${piece} bytes`, () => {
      const wal = pages(4, 0x0203_0405);
      for (let at = 0; at < wal.length; at += piece) {
        const count = Math.min(piece, wal.length - at);
        // As a message holds it: somewhere in a buffer.
        const message = new Uint8Array(count + 25).fill(0xaa);
        message.set(wal.subarray(at, at + count), 25);
        putOnFirstTimeline(LSN + at, message, 25, count);
        assert.ok(message.subarray(0, 25).every((byte) => byte === 0xaa));
        wal.set(message.subarray(25), at);
      }
      assert.deepEqual(wal, pages(4, 1));
    });
  }
});

test("what is followed is read as it was written", () => {
  const state: FollowState = {
    source: { kind: "primary", connInfo: "host=/tmp port=5432 user=postgres password=secret" },
    slot: "zenith_prod",
    tli: 3,
    maxSlotBytes: 17_179_869_184,
    isStopped: false,
  };
  const location = { path: "/var/lib/pgbackrest", stanza: "main", passphrase: "a b=c" };
  const ofArchive: FollowState = { ...state, source: { kind: "archive", location }, slot: null };
  for (const one of [state, { ...state, slot: null, isStopped: true }, ofArchive]) {
    assert.deepEqual(decodeSmallFile(FOLLOW_FORMAT, encodeSmallFile(FOLLOW_FORMAT, one), "f"), one);
  }
  const before = "source host=/tmp\nslot zenith_prod\ntimeline 3\nlimit 1\n".trimEnd().split("\n");
  assert.deepEqual(FOLLOW_FORMAT.decode(before).source, { kind: "primary", connInfo: "host=/tmp" });
  assert.throws(() => FOLLOW_FORMAT.decode(["archive {}", ...before.slice(1)]), /names no archive/);
  const damaged = encodeSmallFile({ ...FOLLOW_FORMAT, encode: () => ["source x", "slot No"] }, state);
  assert.throws(() => decodeSmallFile(FOLLOW_FORMAT, damaged, "f"), /names no primary/);
});
