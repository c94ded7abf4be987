import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { parseTimelineId } from "../../../../src/common/id.ts";
import type { Lsn } from "../../../../src/common/lsn.ts";
import { encodeSmallFile } from "../../../../src/common/small_file.ts";
import { ComputePaths } from "../../../../src/common/paths.ts";
import { giveUpLeftWal, LeftWal } from "../../../../src/compute/proposer/left_wal.ts";
import { V15 } from "../../../../src/postgres/versions/v15.ts";
import { walFileName } from "../../../../src/postgres/wal/page_header.ts";
import { NULL_LOGGER } from "../../../../src/process/log.ts";
import { WalBuilder } from "../../../harness/wal_builder.ts";

const SEGMENT_BYTES = 1 << 20;
/** A page boundary, some records before a segment's end. */
const START = 0x110_0000 - 0xc000;
const TIMELINE = parseTimelineId("11223344556677889900aabbccddeeff");
const OTHER = parseTimelineId("11223344556677889900aabbccddee00");

describe("the WAL that a Postgres has left", () => {
  let paths: ComputePaths;
  let left: LeftWal;

  beforeEach(() => {
    paths = new ComputePaths(mkdtempSync(join(tmpdir(), "zenith-left-wal-")));
    mkdirSync(join(paths.pgdata, "pg_wal"), { recursive: true });
    left = new LeftWal(paths, undefined, NULL_LOGGER);
  });
  afterEach(() => rmSync(paths.dir, { recursive: true, force: true }));

  /** Records of some 100 kB in all, across a segment's end. */
  function write(): WalBuilder {
    const wal = new WalBuilder({ startLsn: START, segmentSize: SEGMENT_BYTES });
    for (let n = 0; n < 100; n++) wal.record({ main: new Uint8Array(1000).fill(n) });
    return wal;
  }

  /** Puts the first `length` bytes of WAL into segment files, whose rest is zeros. */
  function save(wal: WalBuilder, length = wal.bytes.length): void {
    for (let start = 0x100_0000; start < wal.from + length; start += SEGMENT_BYTES) {
      const segment = new Uint8Array(SEGMENT_BYTES);
      const from = Math.max(start, wal.from);
      const to = Math.min(start + SEGMENT_BYTES, wal.from + length);
      segment.set(wal.bytes.subarray(from - wal.from, to - wal.from), from - start);
      writeFileSync(join(paths.pgdata, "pg_wal", walFileName(1, start as Lsn, SEGMENT_BYTES)), segment);
    }
  }

  function putAside(wal: WalBuilder, length?: number): void {
    save(wal, length);
    left.begin(TIMELINE, 7);
    left.putAside();
  }

  test("ends after the last whole record, and is read up to there", async () => {
    const wal = write();
    const whole = wal.records[80].endLsn;
    putAside(wal, whole - wal.from + 500);
    assert.equal(left.continues(TIMELINE, 7, 8), "whole");
    const from = wal.records[3].endLsn;
    assert.equal(await left.end(V15, SEGMENT_BYTES, from), whole);
    assert.equal(await left.end(V15, SEGMENT_BYTES, whole), whole);
    let at = from;
    for (const { lsn, bytes } of left.read(SEGMENT_BYTES, from, whole)) {
      assert.equal(lsn, at);
      assert.deepEqual(bytes, wal.bytes.slice(lsn - wal.from, lsn - wal.from + bytes.length));
      at = (at + bytes.length) as Lsn;
    }
    assert.equal(at, whole);
  });

  test("ends before a record that is damaged", async () => {
    const wal = write();
    const { lsn } = wal.records[50];
    wal.bytes[lsn - wal.from + 30] ^= 1;
    putAside(wal);
    assert.equal(await left.end(V15, SEGMENT_BYTES, wal.records[3].endLsn), lsn);
  });

  for (
    const [what, timeline, lastTerm] of [
      ["another compute has written since", TIMELINE, 9],
      ["another compute has written before", TIMELINE, 6],
      ["it is of another timeline", OTHER, 7],
    ] as const
  ) {
    test(`is removed when ${what}`, () => {
      putAside(write());
      assert.equal(left.continues(timeline, lastTerm, 10), "none");
      assert.equal(existsSync(paths.leftWal), false);
    });
  }

  test("is known again by a start after one that was interrupted", () => {
    putAside(write());
    assert.equal(left.continues(TIMELINE, 7, 8), "whole");
    // Whether the interrupted one had begun to send it or not.
    for (const lastTerm of [7, 8]) {
      mkdirSync(join(paths.pgdata, "pg_wal"), { recursive: true });
      left.putAside();
      assert.equal(left.continues(TIMELINE, lastTerm, 9), "whole");
    }
    left.begin(TIMELINE, 9);
    assert.equal(existsSync(paths.leftWal), false);
    left.putAside();
    assert.equal(
      left.continues(TIMELINE, 8, 10),
      "none",
      "the new data directory's is of its own term alone",
    );
  });

  test("is not put aside when nobody owns it, and given up when it is said so", () => {
    save(write());
    left.putAside();
    assert.equal(existsSync(paths.leftWal), false);
    assert.equal(left.continues(TIMELINE, 7, 8), "none");
    left.begin(TIMELINE, 7);
    giveUpLeftWal(paths);
    left.putAside();
    assert.equal(existsSync(paths.leftWal), false);
  });

  test("may lack its end when nobody knows whether the machine has been started since", () => {
    putAside(write());
    const lines = [`timeline ${TIMELINE}`, "terms 7"];
    // A Zenith before wrote no more than this.
    for (const more of [[], ["boot 00000000-0000-0000-0000-000000000000"]]) {
      const format = { title: "zenith wal owner", encode: () => [...lines, ...more], decode: () => null };
      writeFileSync(join(paths.leftWal, "zenith_wal_owner"), encodeSmallFile(format, null));
      assert.equal(left.continues(TIMELINE, 7, 8), "part");
    }
  });

  test("is removed when its owner's file is damaged", () => {
    putAside(write());
    writeFileSync(join(paths.leftWal, "zenith_wal_owner"), "zenith wal owner 2\nterms 7\n");
    assert.equal(left.continues(TIMELINE, 7, 8), "none");
    assert.equal(existsSync(paths.leftWal), false);
  });
});
