import { describe, test } from "node:test";
import assert from "node:assert/strict";
import type { Lsn } from "../../../src/common/lsn.ts";
import { RecordTracker } from "../../../src/safekeeper/record_tracker.ts";
import { WalBuilder } from "../../harness/wal_builder.ts";
import { V15 } from "../../../src/postgres/versions/v15.ts";

const SEGMENT = 1 << 20;
const START = (SEGMENT + 4096) as Lsn;

function build(): { wal: WalBuilder; bytes: Uint8Array } {
  const wal = new WalBuilder({ startLsn: START, segmentSize: SEGMENT, prev: START - 64 });
  for (const length of [5, 9000, 1, 100, 20_000, 3]) wal.record({ main: new Uint8Array(length).fill(0x5a) });
  return { wal, bytes: wal.bytes.slice(START - wal.from) };
}

describe("a record tracker", () => {
  test("knows after each byte where the last whole record ends, padding included", () => {
    const { wal, bytes } = build();
    const tracker = new RecordTracker(V15, START, SEGMENT, wal.systemId, () => {});
    assert.equal(tracker.recordEndLsn, START);
    for (let i = 0; i < bytes.length; i++) {
      tracker.feed((START + i) as Lsn, bytes.subarray(i, i + 1));
      const whole = wal.records.filter(({ endLsn }) => endLsn <= START + i + 1);
      assert.equal(tracker.recordEndLsn, whole.at(-1)?.endLsn ?? START, `after ${i + 1} bytes`);
    }
  });

  test("a segment that was switched away from counts when it is there whole", () => {
    const wal = new WalBuilder({ startLsn: START, segmentSize: SEGMENT, prev: START - 64 });
    const first = wal.record({ main: new Uint8Array(10) });
    const last = wal.switchSegment();
    const bytes = wal.bytes.slice(START - wal.from);
    const tracker = new RecordTracker(V15, START, SEGMENT, wal.systemId, () => {});
    tracker.feed(START, bytes.subarray(0, bytes.length - 1));
    assert.equal(tracker.recordEndLsn, first.endLsn);
    tracker.feed((START + bytes.length - 1) as Lsn, bytes.subarray(bytes.length - 1));
    assert.equal(tracker.recordEndLsn, last.endLsn);
    assert.equal(last.endLsn, 2 * SEGMENT);
  });

  test("refuses what is not WAL", () => {
    const { wal, bytes } = build();
    bytes[60] ^= 1;
    const tracker = new RecordTracker(V15, START, SEGMENT, wal.systemId, () => {});
    assert.throws(() => tracker.feed(START, bytes), { kind: "corrupt_data" });
  });

  test("refuses WAL of another system", () => {
    const wal = new WalBuilder({ startLsn: SEGMENT, segmentSize: SEGMENT, systemId: 5n });
    wal.record({ main: new Uint8Array(10) });
    const tracker = new RecordTracker(V15, SEGMENT as Lsn, SEGMENT, 6n, () => {});
    assert.throws(() => tracker.feed(SEGMENT as Lsn, wal.bytes), { kind: "corrupt_data", message: /system/ });
  });
});
