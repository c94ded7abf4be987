import { V15 } from "../../../src/postgres/versions/v15.ts";
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import type { Lsn } from "../../../src/common/lsn.ts";
import { WalDecoder } from "../../../src/postgres/wal/decoder.ts";
import { WalRecord } from "../../../src/postgres/wal/record.ts";
import { buildSegmentHead } from "../../../src/postgres/segment_head.ts";
import { WalBuilder } from "../../harness/wal_builder.ts";

const SEGMENT = 1 << 20;
const SYSTEM_ID = 7_000_000_000_000_000_001n;

describe("the head of a first segment", () => {
  for (
    const offset of [0, 40, 48, 8184, 8192, 8192 + 24, 8192 + 32, 8192 * 5, 8192 * 100 + 4096, SEGMENT - 8]
  ) {
    test(`leads to a first record at ${offset}`, () => {
      const start = (SEGMENT * 3 + offset) as Lsn;
      const head = buildSegmentHead(V15, start, SEGMENT, SYSTEM_ID);
      assert.equal(head.length, offset);
      const wal = new WalBuilder({
        startLsn: start,
        segmentSize: SEGMENT,
        systemId: SYSTEM_ID,
        prev: start - 100,
      });
      const record = wal.record({ main: new Uint8Array(20).fill(7) });

      const decoder = new WalDecoder({
        pg: V15,
        startLsn: (SEGMENT * 3) as Lsn,
        segmentSize: SEGMENT,
        systemId: SYSTEM_ID,
        findFirst: true,
      });
      decoder.feed(head, (SEGMENT * 3) as Lsn);
      decoder.feed(wal.bytes.slice(start - wal.from), start);
      const found = new WalRecord();
      assert.equal(decoder.next(found), true);
      assert.equal(found.lsn, record.lsn);
      assert.equal(found.endLsn, record.endLsn);
    });
  }
});
