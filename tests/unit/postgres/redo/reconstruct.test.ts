import { V15 } from "../../../../src/postgres/versions/v15.ts";
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  isInitialising,
  reconstructPage,
  type RecordChain,
} from "../../../../src/postgres/redo/reconstruct.ts";
import { RECORD_CAPACITY } from "../../../../src/postgres/redo/page/workspace.ts";
import { parseRecord } from "../../../../src/postgres/wal/parse.ts";
import { BKPIMAGE_APPLY, BKPIMAGE_HAS_HOLE, WalRecord } from "../../../../src/postgres/wal/record.ts";
import {
  RM_GENERIC_ID,
  RM_HEAP_ID,
  RM_LOGICALMSG_ID,
  RM_SEQ_ID,
  RM_XLOG_ID,
} from "../../../../src/postgres/wal/rmgr.ts";
import { encodeRecord, type RecordSpec } from "../../../harness/wal_builder.ts";
import { applyRecord, blockOf, item, linePointerCount, lsnOf, read16, REL } from "./apply_record.ts";
import { bytes, END_LSN, u16, u8 } from "./record_fixture.ts";

const BLKNO = 7;

function insert(off: number, text: string, init = false): RecordSpec {
  const data = bytes(u16(3, 0x800), u8(24, 0), [...Buffer.from(text)]);
  return {
    rmid: RM_HEAP_ID,
    info: init ? 0x80 : 0,
    main: bytes(u16(off), u8(0)),
    blocks: [{ id: 0, rel: REL, blkno: BLKNO, willInit: init, data }],
  };
}

function chain(...oldestFirst: RecordSpec[]): RecordChain & { count: number } {
  const records = oldestFirst.map((spec) => encodeRecord(spec, 0)).reverse();
  return {
    count: records.length,
    lsn: records.map((_, i) => 1000 - 8 * i),
    bytes: records,
    off: records.map(() => 0),
    len: records.map((record) => record.length),
  };
}

function image(page: Uint8Array, info: number, rmid = RM_XLOG_ID, recordInfo = 0xb0): RecordSpec {
  return {
    rmid,
    info: recordInfo,
    blocks: [{ id: 0, rel: REL, blkno: BLKNO, image: { bytes: page, info } }],
  };
}

describe("a page", () => {
  test("is rebuilt from nothing where its first record initialises it", () => {
    const records = chain(insert(1, "one", true), insert(2, "two"), insert(3, "three"));
    const page = new Uint8Array(8192 + 16);
    reconstructPage(V15, null, records, records.count, blockOf(BLKNO), page, 16);
    const result = page.subarray(16);
    assert.equal(linePointerCount(result), 3);
    assert.equal(lsnOf(result), 1000);
    assert.deepEqual([...page.subarray(0, 16)], new Array(16).fill(0));
  });

  test("is rebuilt from an older version, which stays as it is", () => {
    const base = applyRecord(null, insert(1, "one", true), BLKNO);
    const before = base.slice();
    const records = chain(insert(2, "two"), insert(3, "three"));
    const page = new Uint8Array(8192);
    reconstructPage(V15, base, records, records.count, blockOf(BLKNO), page);
    assert.equal(linePointerCount(page), 3);
    assert.deepEqual(base, before);
    reconstructPage(V15, base, records, 0, blockOf(BLKNO), page);
    assert.deepEqual(page, base);
  });

  test("is what an image says, with the LSN of the record", () => {
    const full = applyRecord(null, insert(1, "one", true), BLKNO);
    full.fill(0, 0, 8);
    const restored = applyRecord(new Uint8Array(8192).fill(9), image(full, BKPIMAGE_APPLY), BLKNO);
    assert.equal(lsnOf(restored), END_LSN);
    assert.deepEqual(restored.subarray(8), full.subarray(8));
    const zeros = applyRecord(
      new Uint8Array(8192).fill(9),
      image(new Uint8Array(8192), BKPIMAGE_APPLY),
      BLKNO,
    );
    assert.deepEqual(zeros, new Uint8Array(8192), "an all-zero page has no LSN");
  });

  test("is not changed by an image that is there for checking only", () => {
    const base = applyRecord(null, insert(1, "one", true), BLKNO);
    const added = insert(2, "two");
    const block = { ...added.blocks![0], image: { bytes: new Uint8Array(8192).fill(1), info: 0 } };
    const checked = applyRecord(base, { ...added, blocks: [block] }, BLKNO);
    assert.deepEqual(checked, applyRecord(base, added, BLKNO));
    const hint = { ...image(new Uint8Array(8192), 0), info: 0xa0 };
    assert.deepEqual(applyRecord(base, hint, BLKNO), base);
    assert.throws(
      () => applyRecord(base, image(new Uint8Array(8192), 0), BLKNO),
      /XLOG FPI .* no full-page image/,
    );
  });

  test("of a sequence is made from each record anew", () => {
    const spec: RecordSpec = {
      rmid: RM_SEQ_ID,
      info: 0,
      main: bytes(new Array(12).fill(0), [1, 2, 3, 4, 5]),
      blocks: [{ id: 0, rel: REL, blkno: BLKNO, willInit: true }],
    };
    const page = applyRecord(new Uint8Array(8192).fill(7), spec, BLKNO);
    assert.deepEqual([...item(page, 1)], [1, 2, 3, 4, 5]);
    assert.equal(read16(page, 8184), 0x1717);
    assert.equal(page[30], 0);
  });

  test("is not rebuilt from records that don't belong to it", () => {
    const page = new Uint8Array(8192);
    const records = chain(insert(1, "one", true));
    const rebuild = (target: ReturnType<typeof blockOf>) => () =>
      reconstructPage(V15, null, records, 1, target, page);
    assert.throws(rebuild(blockOf(BLKNO + 1)), /does not refer to block 8/);
    assert.throws(rebuild(blockOf(BLKNO, 1)), /does not refer to block 7 .* fork 1/);
    assert.throws(rebuild({ ...blockOf(BLKNO), dbNode: 6 }), /does not refer to/);
    assert.throws(rebuild({ ...blockOf(BLKNO), spcNode: 6 }), /does not refer to/);
    assert.throws(rebuild({ ...blockOf(BLKNO), relNode: 6 }), /does not refer to/);
  });

  test("is not rebuilt from a record of an unknown kind, or a damaged one", () => {
    const message = { ...insert(1, "one", true), rmid: RM_LOGICALMSG_ID, info: 0 };
    assert.throws(() => applyRecord(null, message, BLKNO), {
      name: "RedoNotImplementedError",
      message: "redo not implemented: LogicalMessage MESSAGE that ends at 3/1238",
    });
    assert.throws(() => applyRecord(null, { ...insert(1, "x"), rmid: 130 }, BLKNO), /custom130/);
    const page = new Uint8Array(8192);
    const records = chain(insert(1, "one", true));
    records.bytes[0][0]--;
    assert.throws(() => reconstructPage(V15, null, records, 1, blockOf(BLKNO), page), { name: "WalError" });
    const huge = { ...records, len: [RECORD_CAPACITY + 1] };
    assert.throws(() => reconstructPage(V15, null, huge, 1, blockOf(BLKNO), page), /longer than redo's/);
  });

  test("needs no earlier version where a record initialises it or has its image", () => {
    const needsNone = (spec: RecordSpec) => {
      const rec = new WalRecord();
      parseRecord(rec, encodeRecord(spec, 0), 0, V15);
      return isInitialising(rec, 0);
    };
    assert.equal(needsNone(insert(1, "one")), false);
    assert.equal(needsNone(insert(1, "one", true)), true);
    const hole = new Uint8Array(100);
    const info = BKPIMAGE_APPLY | BKPIMAGE_HAS_HOLE;
    const withHole = image(hole, info);
    const block = { ...withHole.blocks![0], image: { bytes: hole, info, holeOff: 50 } };
    assert.equal(needsNone({ ...withHole, blocks: [block] }), true);
    assert.equal(needsNone(image(new Uint8Array(8192), 0)), false);
  });

  test("of another access method goes through the same door", () => {
    const base = applyRecord(null, insert(1, "one", true), BLKNO);
    const delta: RecordSpec = {
      rmid: RM_GENERIC_ID,
      info: 0,
      blocks: [{ id: 0, rel: REL, blkno: BLKNO, data: bytes(u16(8190, 2), [5, 6]) }],
    };
    assert.deepEqual([...applyRecord(base, delta, BLKNO).subarray(8190)], [5, 6]);
  });
});
