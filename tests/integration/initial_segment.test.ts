/** Stock Postgres starts on the WAL and the control file that we write, wherever the checkpoint comes to lie. */
import { V15 } from "../../src/postgres/versions/v15.ts";
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { formatLsn, type Lsn } from "../../src/common/lsn.ts";
import {
  CONTROL_FILE_PATH,
  DB_SHUTDOWNED,
  encodeControlFile,
  parseControlFile,
} from "../../src/postgres/control_file.ts";
import { buildSegmentHead } from "../../src/postgres/segment_head.ts";
import { WalDecoder } from "../../src/postgres/wal/decoder.ts";
import { buildCheckpointPages, CHECKPOINT_RECORD_LENGTH } from "../../src/postgres/initial_segment.ts";
import {
  nextRecordLsn,
  parseWalFileName,
  segmentStart,
  walFileName,
} from "../../src/postgres/wal/page_header.ts";
import { WalRecord } from "../../src/postgres/wal/record.ts";
import { parseCheckpointRecord, XLOG_CHECKPOINT_SHUTDOWN } from "../../src/postgres/wal/records/xlog.ts";
import { RM_XLOG_ID } from "../../src/postgres/wal/rmgr.ts";
import { StockCluster } from "../harness/stock_cluster.ts";

const MIB = 1 << 20;
const PAGE = 8192;
const TEST_TIMEOUT_MS = 240_000;

/** Rewrites a stopped cluster so that it starts at `lsn`, with nothing else in pg_wal. */
function moveTo(cluster: StockCluster, lsn: Lsn): number {
  const original = new Uint8Array(readFileSync(join(cluster.dataDir, CONTROL_FILE_PATH)));
  const control = parseControlFile(original);
  assert.equal(control.state, DB_SHUTDOWNED);
  const segmentSize = control.xlog_seg_size;
  const segments = buildCheckpointPages({
    pg: V15,
    lsn,
    prev: control.checkPoint,
    systemIdentifier: control.system_identifier,
    segmentSize,
    checkpoint: control.checkPointCopy,
  });
  const walDir = join(cluster.dataDir, "pg_wal");
  for (const name of readdirSync(walDir)) {
    if (parseWalFileName(name, segmentSize) !== undefined) rmSync(join(walDir, name));
  }
  for (const { segmentStart, offset, bytes } of segments) {
    const file = new Uint8Array(segmentSize);
    file.set(
      buildSegmentHead(control.pg, (segmentStart + offset) as Lsn, segmentSize, control.system_identifier),
    );
    file.set(bytes, offset);
    cluster.writeFile(`pg_wal/${walFileName(1, segmentStart, segmentSize)}`, file);
  }
  cluster.writeFile(
    CONTROL_FILE_PATH,
    encodeControlFile(original, {
      checkPoint: lsn,
      checkPointCopy: { ...control.checkPointCopy, redo: lsn },
    }),
  );
  return segments.length;
}

/** All records from `lsn` to the end of the WAL in the cluster's pg_wal. */
function decodeFrom(cluster: StockCluster, lsn: Lsn, segmentSize: number): WalRecord[] {
  const decoder = new WalDecoder({ pg: V15, startLsn: lsn, segmentSize, zerosAreEnd: true });
  const records: WalRecord[] = [];
  let rec = new WalRecord();
  for (let start: number = segmentStart(lsn, segmentSize);; start += segmentSize) {
    const file = join(cluster.dataDir, "pg_wal", walFileName(1, start, segmentSize));
    const from = Math.max(0, lsn - start);
    decoder.feed(new Uint8Array(readFileSync(file)).subarray(from), (start + from) as Lsn);
    while (decoder.next(rec)) {
      records.push(rec);
      rec = new WalRecord();
    }
    if (decoder.ended) return records;
  }
}

describe("stock Postgres on an initial segment", () => {
  test("starts wherever the checkpoint record lies, and goes on writing behind it", {
    timeout: TEST_TIMEOUT_MS,
  }, async () => {
    await using cluster = await StockCluster.start({
      segmentMiB: 1,
      dataChecksums: true,
      settings: { wal_keep_size: "16MB" },
    });
    await cluster.sql`create table t (place text)`;
    await cluster.stopPostgres();

    const places: readonly [name: string, offsetInSegment: number, segments: number][] = [
      ["in the middle of a page", 5 * PAGE + 4000, 1],
      ["in the middle of a segment's first page", 4000, 1],
      ["first on a page", 7 * PAGE + 24, 1],
      ["first in a segment", 40, 1],
      ["ending with the page", 3 * PAGE - 120, 1],
      ["across a page, the body cut", 3 * PAGE - 64, 1],
      ["across a page, cut behind the header", 3 * PAGE - 24, 1],
      ["across a page, the header cut", 3 * PAGE - 8, 1],
      ["across a page, two bytes behind", 3 * PAGE - 112, 1],
      ["ending with the segment", MIB - 120, 1],
      ["across a segment, the body cut", MIB - 64, 2],
      ["across a segment, the header cut", MIB - 16, 2],
      ["across a segment, the header cut early", MIB - 8, 2],
    ];
    const seen: string[] = [];
    for (const [name, offset, segmentCount] of places) {
      const control = parseControlFile(
        new Uint8Array(readFileSync(join(cluster.dataDir, CONTROL_FILE_PATH))),
      );
      const lsn = (segmentStart(control.checkPoint, MIB) + 4 * MIB + offset) as Lsn;
      assert.equal(lsn, nextRecordLsn(lsn, MIB));
      assert.equal(moveTo(cluster, lsn), segmentCount, name);

      try {
        cluster.startPostgres();
      } catch (error) {
        throw new Error(`checkpoint ${name}, at ${formatLsn(lsn)}`, { cause: error });
      }
      assert.deepEqual(
        (await cluster.sql`select place from t order by ctid`).map((row) => row["place"]),
        seen,
      );
      await cluster.sql`insert into t values (${name})`;
      seen.push(name);
      await cluster.stopPostgres();
      assert.doesNotMatch(cluster.log(), /automatic recovery|redo starts|PANIC/, name);

      const records = decodeFrom(cluster, lsn, MIB);
      const first = records[0];
      assert.equal(first.lsn, lsn, name);
      assert.equal(first.xl_prev, control.checkPoint);
      assert.equal(first.xl_tot_len, CHECKPOINT_RECORD_LENGTH);
      assert.equal(parseCheckpointRecord(first).redo, lsn);
      const last = records.at(-1)!;
      assert.equal(last.xl_rmid, RM_XLOG_ID);
      assert.equal(last.xl_info & 0xf0, XLOG_CHECKPOINT_SHUTDOWN);
      assert.ok(records.length > 3, "there is WAL of the insert between the two checkpoints");
    }
  });

  test("starts beyond 4 GiB of WAL, with 16 MiB segments", { timeout: TEST_TIMEOUT_MS }, async () => {
    await using cluster = await StockCluster.start();
    await cluster.sql`create table t as select generate_series(1, 1000) as i`;
    await cluster.stopPostgres();
    const lsn = (0x7_0000_0000 + 0xff_ffe8) as Lsn;
    assert.equal(moveTo(cluster, lsn), 2);
    cluster.startPostgres();
    const [row] = await cluster.sql`select sum(i)::int as sum, pg_current_wal_lsn()::text as lsn from t`;
    assert.equal(row!["sum"], 500500);
    assert.match(row!["lsn"], /^7\/10000/);
  });
});
