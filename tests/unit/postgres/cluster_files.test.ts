import { V15 } from "../../../src/postgres/versions/v15.ts";
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { crc32c } from "../../../src/common/crc32c.ts";
import type { Lsn } from "../../../src/common/lsn.ts";
import {
  type CheckPoint,
  encodeCheckpoint,
  parseCheckpoint,
  SIZE_OF_CHECKPOINT,
} from "../../../src/postgres/cluster/checkpoint.ts";
import { DB_IN_PRODUCTION, encodeControlFile, parseControlFile } from "../../../src/postgres/control_file.ts";
import {
  pageChecksum,
  setPageChecksum,
  storedPageChecksum,
} from "../../../src/postgres/cluster/page_checksum.ts";
import { isPageNew } from "../../../src/postgres/cluster/page_layout.ts";
import { WalDecoder } from "../../../src/postgres/wal/decoder.ts";
import { buildCheckpointPages, CHECKPOINT_RECORD_LENGTH } from "../../../src/postgres/initial_segment.ts";
import { parseWalFileName, walFileName } from "../../../src/postgres/wal/page_header.ts";
import { WalRecord } from "../../../src/postgres/wal/record.ts";
import { parseCheckpointRecord } from "../../../src/postgres/wal/records/xlog.ts";

const CHECKPOINT: CheckPoint = {
  redo: 0x3_0000_1028 as Lsn,
  ThisTimeLineID: 1,
  PrevTimeLineID: 1,
  fullPageWrites: true,
  wal_level: 1,
  nextXid: 5 * 2 ** 32 + 0xffff_fff0,
  nextOid: 0xffff_fff1,
  nextMulti: 3,
  nextMultiOffset: 4,
  oldestXid: 717,
  oldestXidDB: 1,
  oldestMulti: 1,
  oldestMultiDB: 5,
  time: 1_700_000_000,
  oldestCommitTsXid: 6,
  newestCommitTsXid: 7,
  oldestActiveXid: 8,
};

const SYSTEM_ID = 7_123_456_789_012_345_678n;
const CONTROL_CRC_AT = 288;

/** A control file that is valid as far as versions, sizes and checksum go. */
function controlFile(): Uint8Array {
  const bytes = new Uint8Array(8192);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, SYSTEM_ID, true);
  view.setUint32(8, 1300, true);
  view.setUint32(12, 202209061, true);
  view.setUint32(16, 1, true);
  bytes.set(encodeCheckpoint(CHECKPOINT), 40);
  view.setUint32(204, 8, true);
  view.setFloat64(208, 1234567.0, true);
  view.setUint32(216, 8192, true);
  view.setUint32(220, 131072, true);
  view.setUint32(224, 8192, true);
  view.setUint32(228, 16 << 20, true);
  bytes.fill(0x77, 256, CONTROL_CRC_AT);
  seal(bytes);
  return bytes;
}

function seal(bytes: Uint8Array): void {
  new DataView(bytes.buffer).setUint32(CONTROL_CRC_AT, crc32c(bytes, 0, CONTROL_CRC_AT), true);
}

describe("a checkpoint", () => {
  test("comes back from its 88 bytes", () => {
    const bytes = encodeCheckpoint(CHECKPOINT);
    assert.equal(bytes.length, SIZE_OF_CHECKPOINT);
    assert.deepEqual(parseCheckpoint(bytes), CHECKPOINT);
    assert.throws(() => parseCheckpoint(bytes, 1), /a CheckPoint has 88 bytes/);
  });
});

describe("a control file", () => {
  test("is read, changed and sealed again; the rest stays", () => {
    const original = controlFile();
    const changed = encodeControlFile(original, {
      state: DB_IN_PRODUCTION,
      checkPoint: 0x5_0000_0028 as Lsn,
      max_prepared_xacts: 9,
      track_commit_timestamp: true,
    });
    const before = parseControlFile(original);
    assert.equal(before.system_identifier, SYSTEM_ID);
    assert.deepEqual(before.checkPointCopy, CHECKPOINT);
    assert.deepEqual(parseControlFile(changed), {
      ...before,
      state: DB_IN_PRODUCTION,
      checkPoint: 0x5_0000_0028,
      max_prepared_xacts: 9,
      track_commit_timestamp: true,
    });
    assert.deepEqual(changed.subarray(256, CONTROL_CRC_AT), original.subarray(256, CONTROL_CRC_AT));
    assert.equal(changed.length, 8192);
    assert.deepEqual(encodeControlFile(original, {}), original);
  });

  test("is refused when it is damaged, short, or of another major", () => {
    const refused = (damage: (view: DataView) => void, sealIt: boolean, expected: RegExp) => {
      const bytes = controlFile();
      damage(new DataView(bytes.buffer));
      if (sealIt) seal(bytes);
      assert.throws(() => parseControlFile(bytes), expected);
    };
    refused((view) => view.setUint8(100, 0x5a), false, /checksum/);
    refused((view) => view.setUint32(8, 1201, true), true, /its version is 1201, expected 1300/);
    refused((view) => view.setUint32(12, 209912311, true), true, /catalog version/);
    refused((view) => view.setUint32(216, 16384, true), true, /another architecture/);
    assert.throws(() => parseControlFile(controlFile().subarray(0, 291)), /it has 291 bytes/);
  });
});

describe("initial segments", () => {
  test("hold one shutdown checkpoint that decodes, wherever it lies", () => {
    const segmentSize = 1 << 20;
    // Every place on a segment's last two pages and first two, and on the next segment's first.
    const from = 4 * segmentSize - 2 * 8192;
    for (let at = from + 24; at < 4 * segmentSize + 2 * 8192; at += 8) {
      const inPage = at % 8192;
      if (inPage < (at - inPage === 4 * segmentSize ? 40 : 24)) continue;
      const lsn = at as Lsn;
      const segments = buildCheckpointPages({
        pg: V15,
        lsn,
        prev: (from - 800) as Lsn,
        systemIdentifier: SYSTEM_ID,
        segmentSize,
        checkpoint: CHECKPOINT,
      });
      const decoder = new WalDecoder({
        pg: V15,
        startLsn: lsn,
        segmentSize,
        systemId: SYSTEM_ID,
        zerosAreEnd: true,
      });
      const rec = new WalRecord();
      let count = 0;
      for (const { segmentStart, offset, bytes } of segments) {
        decoder.feed(bytes, (segmentStart + offset) as Lsn);
        while (decoder.next(rec)) {
          count++;
          assert.equal(rec.lsn, lsn);
          assert.equal(rec.xl_tot_len, CHECKPOINT_RECORD_LENGTH);
          assert.deepEqual(parseCheckpointRecord(rec), { ...CHECKPOINT, redo: lsn, oldestActiveXid: 0 });
        }
      }
      assert.equal(count, 1);
      const last = segments.at(-1)!;
      const afterPage = last.segmentStart + last.offset + last.bytes.length;
      assert.ok(decoder.endLsn > lsn && decoder.endLsn <= afterPage);
    }
  });

  test("are refused where no record can start, or after a record that comes later", () => {
    const options = {
      prev: 1000 as Lsn,
      systemIdentifier: SYSTEM_ID,
      segmentSize: 1 << 20,
      checkpoint: CHECKPOINT,
    };
    for (const lsn of [1 << 20, (1 << 20) + 24, (1 << 20) + 44, (1 << 20) + 8192]) {
      assert.throws(
        () => buildCheckpointPages({ pg: V15, ...options, lsn: lsn as Lsn }),
        /no WAL record can start/,
      );
    }
    const lsn = ((1 << 20) + 40) as Lsn;
    assert.throws(
      () => buildCheckpointPages({ pg: V15, ...options, lsn, prev: lsn }),
      /is not before a checkpoint/,
    );
  });
});

describe("WAL file names", () => {
  test("count segments within 4 GiB", () => {
    assert.equal(walFileName(1, 0x5_1234_5678, 16 << 20), "000000010000000500000012");
    assert.equal(walFileName(0x1f, 0x5_1234_5678, 1 << 20), "0000001F0000000500000123");
    assert.equal(walFileName(1, 0x5_f234_5678, 1 << 30), "000000010000000500000003");
    assert.deepEqual(parseWalFileName("0000001F0000000500000123", 1 << 20), {
      tli: 0x1f,
      lsn: 0x5_1230_0000,
    });
    for (
      const name of [
        "00000001000000050000012",
        "000000010000000500000012.partial",
        "000000010000000500000100",
      ]
    ) {
      assert.equal(parseWalFileName(name, 16 << 20), undefined, name);
    }
  });
});

describe("a page checksum", () => {
  test("changes with every bit, with the block number, and not with itself", () => {
    const page = Uint8Array.from({ length: 8192 }, (_, i) => (i * 31) & 0xff);
    setPageChecksum(page, 7);
    const checksum = storedPageChecksum(page);
    assert.equal(pageChecksum(page, 7), checksum);
    assert.notEqual(pageChecksum(page, 8), checksum);
    for (const at of [0, 7, 10, 11, 12, 4095, 8191]) {
      page[at] ^= 0x80;
      assert.notEqual(pageChecksum(page, 7), checksum, `byte ${at}`);
      page[at] ^= 0x80;
    }
    page[8] ^= 0xff;
    assert.equal(pageChecksum(page, 7), checksum);
  });

  test("is not put on a page that was never initialised", () => {
    const page = new Uint8Array(8192);
    setPageChecksum(page, 7);
    assert.ok(isPageNew(page));
    assert.equal(storedPageChecksum(page), 0);
  });
});
