import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import {
  dumpWal,
  type DumpWalOptions,
  type DumpWalResult,
  parseLsnRange,
} from "../../../../src/commands/dump/wal.ts";
import { formatLsn, type Lsn } from "../../../../src/common/lsn.ts";
import { walFileName } from "../../../../src/postgres/wal/page_header.ts";
import { WalBuilder } from "../../../harness/wal_builder.ts";

const SEGMENT = 1 << 20;

/** Three segments' worth of WAL: heap records, a page image, a transaction's end, a segment switch. */
function someWal(): WalBuilder {
  const wal = new WalBuilder({ startLsn: SEGMENT });
  for (let i = 0; i < 20; i++) {
    wal.record({
      rmid: 10,
      info: 0,
      xid: 700,
      blocks: [{ id: 0, rel: [1663, 5, 16384], blkno: i }],
      main: new Uint8Array(3),
    });
  }
  wal.record({
    rmid: 0,
    info: 0xb0,
    blocks: [{
      id: 0,
      rel: [1663, 5, 16384],
      blkno: 7,
      fork: 2,
      image: { bytes: new Uint8Array(8192), info: 2 },
    }],
  });
  wal.record({ rmid: 1, info: 0, xid: 700, main: new Uint8Array(8) });
  wal.switchSegment();
  wal.record({ rmid: 10, info: 0x10, xid: 701, main: new Uint8Array(SEGMENT) });
  wal.record({ rmid: 1, info: 0x20, xid: 701, main: new Uint8Array(8) });
  return wal;
}

interface Dump extends DumpWalResult {
  lines: string[];
}

/** Writes WAL as a directory of segments, and dumps it. */
function inDirectory<T>(
  wal: WalBuilder,
  use: (dump: (options?: DumpWalOptions, path?: string) => Dump) => T,
): T {
  const directory = mkdtempSync(join(tmpdir(), "zenith-dump-wal-"));
  try {
    mkdirSync(join(directory, "pg_wal"));
    const bytes = wal.bytes;
    for (let at = 0; at < bytes.length; at += SEGMENT) {
      const file = new Uint8Array(SEGMENT);
      file.set(bytes.subarray(at, at + SEGMENT));
      writeFileSync(join(directory, "pg_wal", walFileName(1, wal.from + at, SEGMENT)), file);
    }
    return use((options = {}, path = "") => {
      const lines: string[] = [];
      return { ...dumpWal(join(directory, path), options, (line) => lines.push(line)), lines };
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

describe("dump wal", () => {
  test("prints a line per record and where the WAL ends", () => {
    const wal = someWal();
    inDirectory(wal, (dump) => {
      const { lines, records, endLsn } = dump();
      assert.equal(records, wal.records.length);
      assert.equal(endLsn, wal.lsn);
      assert.equal(lines.length, records + 1);
      assert.equal(
        lines[2],
        `rmgr: Heap        len (rec/tot):     49/    49, tx:        700, lsn: ${
          formatLsn(wal.records[2].lsn)
        }, ` +
          `prev ${formatLsn(wal.records[1].lsn)}, desc: INSERT, blkref #0: rel 1663/5/16384 blk 2`,
      );
      assert.match(lines[20], /desc: FPI, blkref #0: rel 1663\/5\/16384 fork vm blk 7 FPW 8192$/);
      assert.equal(lines.at(-1), `end at ${formatLsn(wal.lsn)}: no more WAL`);
    });
  });

  test("takes one segment file, in whose middle a record begins that another one ends", () => {
    const wal = someWal();
    inDirectory(wal, (dump) => {
      const second = dump({}, `pg_wal/${walFileName(1, 2 * SEGMENT, SEGMENT)}`);
      assert.equal(second.records, 0);
      assert.match(second.lines[0], /the last record goes on in the next segment/);
      const third = dump({}, `pg_wal/${walFileName(1, 3 * SEGMENT, SEGMENT)}`);
      assert.equal(third.records, 1);
      assert.match(third.lines[0], /desc: ABORT/);
    });
  });

  test("shows only some resource managers, only a range, as JSON, or counts", () => {
    const wal = someWal();
    inDirectory(wal, (dump) => {
      assert.equal(dump({ rmgr: ["transaction"] }).records, 2);
      assert.equal(dump({ rmgr: ["Transaction", "XLOG"] }).records, 4);
      assert.throws(() => dump({ rmgr: ["nothing"] }), /there is no resource manager "nothing"/);

      const [from, to] = [wal.records[3].lsn, wal.records[6].lsn];
      const range = dump({ from, to, json: true });
      assert.deepEqual(
        range.lines.map((line) => JSON.parse(line).lsn),
        wal.records.slice(3, 6).map((record) => formatLsn(record.lsn)),
      );
      assert.deepEqual(JSON.parse(range.lines[0]).blocks, [
        { id: 0, rel: "1663/5/16384", fork: "main", blkno: 3, will_init: false, data_length: 0, image: null },
      ]);

      const counts = dump({ stats: true, json: true }).lines.map((line) => JSON.parse(line));
      assert.deepEqual(counts.find((row) => row.type === "XLOG/FPI"), {
        type: "XLOG/FPI",
        records: 1,
        record_bytes: wal.records[20].bytes.length - 8192,
        image_bytes: 8192,
      });
      assert.match(dump({ stats: true }).lines.at(-1)!, /^total +25 /);
    });
  });

  test("ends where older WAL follows in a file that is used again, but fails on damage within a range", () => {
    const wal = someWal();
    const damaged = wal.records[10];
    wal.bytes[damaged.lsn - wal.from + 30] ^= 1;
    inDirectory(wal, (dump) => {
      const all = dump();
      assert.equal(all.endLsn, damaged.lsn);
      assert.match(all.reason, /checksum mismatch/);
      assert.throws(() => dump({ to: wal.lsn }), /checksum mismatch/);
      assert.equal(dump({ to: damaged.lsn }).records, 10, "what is before is there");
    });
  });

  test("says clearly when there is no such WAL", () => {
    const wal = someWal();
    inDirectory(wal, (dump) => {
      assert.throws(() => dump({ from: (9 * SEGMENT) as Lsn }), /no WAL segment in .* holds 0\/900000/);
      assert.throws(() => dump({ from: 100 as Lsn }), /no WAL segment in .* holds 0\/64/);
      assert.throws(() => dump({}, "nothing"), /is not named like a WAL segment/);
      assert.throws(
        () => dump({}, `pg_wal/${walFileName(1, 9 * SEGMENT, SEGMENT)}`),
        /could not read WAL segment/,
      );
    });
    assert.deepEqual(parseLsnRange("0/10..1/0"), { from: 16, to: 2 ** 32 });
    assert.deepEqual(parseLsnRange("..1/0"), { from: undefined, to: 2 ** 32 });
    assert.throws(() => parseLsnRange("0/10"), /is not a range/);
  });
});
