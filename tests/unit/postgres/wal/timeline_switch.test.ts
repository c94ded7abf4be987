import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseTimelineId } from "../../../../src/common/id.ts";
import type { Lsn } from "../../../../src/common/lsn.ts";
import { V15 } from "../../../../src/postgres/versions/v15.ts";
import { WalDecoder } from "../../../../src/postgres/wal/decoder.ts";
import { WalRecord } from "../../../../src/postgres/wal/record.ts";
import {
  buildTimelineSwitch,
  endOfSwitch,
  isEndOfRecovery,
  parseTimelineSwitch,
} from "../../../../src/postgres/wal/timeline_switch.ts";
import {
  decodeTimelines,
  encodeTimelines,
  historyFile,
  historyFileName,
  historyFiles,
  newestTli,
  parseHistoryFile,
  timelinesBefore,
  tliAt,
  tlisOfSegment,
} from "../../../../src/postgres/wal/wal_timelines.ts";
import { WalBuilder } from "../../../harness/wal_builder.ts";

const SEGMENT = 1 << 20;
const START = (3 * SEGMENT + 40) as Lsn;
const ID = parseTimelineId("0123456789abcdef0123456789abcdef");
const OTHER = parseTimelineId("f123456789abcdef0123456789abcdef");

const lsn = (value: number): Lsn => value as Lsn;

/** WAL whose last record before the switch ends so many bytes before the end of a page. */
function switched(room: number, count: number) {
  const wal = new WalBuilder({ startLsn: START, segmentSize: SEGMENT, prev: START - 64 });
  // A header of 24 bytes, and 5 of the main data.
  wal.record({ main: new Uint8Array(8192 - 40 - 29 - room).fill(1) });
  const before = wal.records.at(-1)!;
  const timelines = Array.from({ length: count }, (_, i) => lsn(8 * (i + 1)));
  const made = buildTimelineSwitch({
    pg: V15,
    systemIdentifier: wal.systemId,
    segmentSize: SEGMENT,
    timelineId: ID,
    lsn: before.endLsn,
    prev: before.lsn,
    timelines,
    wal_level: 1,
    endTime: 7n,
  });
  const decoder = new WalDecoder({
    pg: V15,
    startLsn: START,
    segmentSize: SEGMENT,
    systemId: wal.systemId,
    knownTypesOnly: true,
  });
  decoder.feed(wal.bytes.slice(START - wal.from, before.endLsn - wal.from), START);
  decoder.feed(made.bytes, made.lsn);
  return { before, made, timelines, decoder };
}

describe("a switch to the next timeline", () => {
  for (const room of [4000, 0, 8, 24, 100]) {
    test(`is a record as PostgreSQL writes it, ${room} bytes before the end of a page`, () => {
      for (const count of [0, 3, 2000]) {
        const { before, made, timelines, decoder } = switched(room, count);
        const record = new WalRecord();
        assert.ok(decoder.next(record));
        assert.equal(record.endLsn, before.endLsn);
        assert.equal(isEndOfRecovery(record), false);
        assert.ok(decoder.next(record));
        assert.ok(isEndOfRecovery(record));
        assert.equal(record.endLsn, made.lsn + made.bytes.length);
        assert.equal(endOfSwitch(made.lsn, count + 1, SEGMENT), record.endLsn);
        const view = new DataView(record.bytes.buffer, record.bytes.byteOffset + record.mainOff);
        assert.deepEqual([view.getUint32(8, true), view.getUint32(12, true), view.getInt32(16, true)], [
          count + 2,
          count + 1,
          1,
        ]);
        assert.deepEqual(parseTimelineSwitch(record, ID, SEGMENT), [...timelines, before.endLsn]);
        assert.equal(parseTimelineSwitch(record, OTHER, SEGMENT), null);
        // It says where it is.
        record.lsn += 8192;
        assert.throws(() => parseTimelineSwitch(record, ID, SEGMENT), { kind: "corrupt_data" });
      }
    });
  }
});

test("timelines tell whose WAL is where, and by which names PostgreSQL looks for a segment", () => {
  const timelines = [lsn(SEGMENT + 100), lsn(SEGMENT + 200), lsn(4 * SEGMENT)];
  assert.equal(newestTli(timelines), 4);
  assert.deepEqual([0, SEGMENT + 99, SEGMENT + 100, 4 * SEGMENT].map((at) => tliAt(timelines, lsn(at))), [
    1,
    1,
    2,
    4,
  ]);
  const names = [0, 1, 2, 3, 4, 5].map((segment) =>
    tlisOfSegment(timelines, lsn(segment * SEGMENT), SEGMENT)
  );
  assert.deepEqual(names, [[1], [2, 3], [3], [3], [4], [4]]);
  assert.deepEqual(timelinesBefore(timelines, lsn(SEGMENT + 200)), [SEGMENT + 100]);
  assert.equal(timelinesBefore(timelines, lsn(5 * SEGMENT)), timelines);
  assert.deepEqual(decodeTimelines(encodeTimelines(timelines)), timelines);
  assert.throws(() => decodeTimelines(encodeTimelines([lsn(9), lsn(8)])), { kind: "corrupt_data" });
  assert.throws(() => decodeTimelines(encodeTimelines(timelines).subarray(1)), { kind: "corrupt_data" });
  assert.equal(historyFileName(0x1a), "0000001A.history");
  const text = new TextDecoder().decode(historyFile(timelines, 3));
  assert.match(text, /^1\t0\/100064\t.*\n2\t0\/1000C8\t.*\n$/);
  assert.deepEqual(parseHistoryFile(text, "x"), timelines.slice(0, 2));
  const files = [2, 3, 4].map((tli) => ({
    name: historyFileName(tli),
    content: historyFile(timelines, tli),
  }));
  assert.deepEqual([...historyFiles(timelines, -9)], files);
  assert.deepEqual([...historyFiles(timelines, 4)], files.slice(2));
  assert.deepEqual([...historyFiles([], 1)], []);
  assert.throws(() => parseHistoryFile("7\t0/1\tx\n", "x"), { kind: "corrupt_data" });
});
