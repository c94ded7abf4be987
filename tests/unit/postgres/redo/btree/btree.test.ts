import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { redoBtree } from "../../../../../src/postgres/redo/btree/btree.ts";
import { RedoError } from "../../../../../src/postgres/redo/page/errors.ts";
import { RM_BTREE_ID } from "../../../../../src/postgres/wal/rmgr.ts";
import type { PgVersion } from "../../../../../src/postgres/versions/pg_version.ts";
import { V17 } from "../../../../../src/postgres/versions/v17.ts";
import { V18 } from "../../../../../src/postgres/versions/v18.ts";
import type { BlockSpec, RecordSpec } from "../../../../harness/wal_builder.ts";
import {
  applyRecord,
  item,
  items,
  linePointer,
  linePointerCount,
  lsnOf,
  read16,
  read32,
  REL,
} from "../apply_record.ts";
import { applyHostileRecords } from "../hostile.ts";
import { bytes, END_LSN, u16, u32, u8 } from "../record_fixture.ts";

// xl_info
const INSERT_LEAF = 0x00;
const INSERT_META = 0x20;
const SPLIT_L = 0x30;
const SPLIT_R = 0x40;
const INSERT_POST = 0x50;
const DEDUP = 0x60;
const DELETE = 0x70;
const UNLINK_PAGE = 0x80;
const UNLINK_PAGE_META = 0x90;
const NEWROOT = 0xa0;
const MARK_PAGE_HALFDEAD = 0xb0;
const VACUUM = 0xc0;
const REUSE_PAGE = 0xd0;
const META_CLEANUP = 0xe0;

// BTPageOpaqueData
const PREV = 8176;
const NEXT = 8180;
const LEVEL = 8184;
const FLAGS = 8188;
const CYCLEID = 8190;

const LEAF = 1;
const ROOT = 2;
const DELETED = 4;
const META = 8;
const HALF_DEAD = 0x10;
const HAS_GARBAGE = 0x40;
const INCOMPLETE_SPLIT = 0x80;
const HAS_FULLXID = 0x100;

const ALT_TID = 0x2000;
const IS_POSTING = 0x2000;

type Tid = readonly [blkno: number, off: number];

const tidBytes = ([blkno, off]: Tid) => u16(blkno >>> 16, blkno & 0xffff, off);

/** An index tuple with one 8-byte key. */
function tuple(key: number, tid: Tid): Uint8Array {
  return bytes(tidBytes(tid), u16(16), u32(key, 0));
}

/** One with a posting list. */
function posting(key: number, ...tids: Tid[]): Uint8Array {
  const size = (16 + 6 * tids.length + 7) & ~7;
  const list = tids.flatMap(tidBytes);
  while (16 + list.length < size) list.push(0);
  return bytes(u16(0, 16, tids.length | IS_POSTING, size | ALT_TID), u32(key, 0), list);
}

function record(info: number, main: Uint8Array, ...blocks: (Uint8Array | BlockSpec)[]): RecordSpec {
  return {
    rmid: RM_BTREE_ID,
    info,
    main,
    blocks: blocks.map((block, id) =>
      block instanceof Uint8Array
        ? { id, rel: REL, blkno: id, ...(block.length > 0 ? { data: block } : {}) }
        : { ...block, rel: REL }
    ),
  };
}

/** A leaf with these tuples, built from nothing as the right half of a split; `next` 0 makes it the rightmost. */
function leaf(tuples: readonly Uint8Array[], options: { next?: number; flags?: number } = {}): Uint8Array {
  const space = bytes(...[...tuples].reverse().map((t) => [...t]));
  const page = applyRecord(
    null,
    record(NEWROOT, bytes(u32(0, 1)), { id: 0, blkno: 0, data: space, willInit: true }),
    0,
  );
  page.set(u32(0, options.next ?? 0, 0), PREV);
  page.set(u16(options.flags ?? LEAF), FLAGS);
  return page;
}

function same(page: Uint8Array, expected: readonly Uint8Array[]): void {
  assert.deepEqual(items(page).map((t) => [...t]), expected.map((t) => [...t]));
}

const T = Array.from({ length: 8 }, (_, i) => tuple(10 * i, [1, i + 1]));

describe("redo of B-tree records", () => {
  test("inserts a tuple between others", () => {
    const added = tuple(15, [7, 7]);
    const page = applyRecord(leaf([T[0], T[1], T[2]]), record(INSERT_LEAF, bytes(u16(3)), added), 0);
    same(page, [T[0], T[1], added, T[2]]);
    assert.equal(lsnOf(page), END_LSN);
  });

  test("inserts above the leaves into the page, its child and the metapage, each by itself", () => {
    const metadata = bytes(u32(4, 3, 1, 3, 1, 0), u8(1, 0, 0, 0));
    const insert = record(
      INSERT_META,
      bytes(u16(1)),
      T[0],
      bytes(),
      { id: 2, blkno: 2, data: metadata, willInit: true },
    );
    same(applyRecord(leaf([]), insert, 0), [T[0]]);
    const child = applyRecord(leaf([T[1]], { flags: LEAF | INCOMPLETE_SPLIT }), insert, 1);
    assert.equal(read16(child, FLAGS), LEAF);
    same(child, [T[1]]);
    const meta = applyRecord(null, insert, 2);
    assert.deepEqual(
      [0, 4, 8, 12, 16, 20, 24].map((at) => read32(meta, 24 + at)),
      [0x053162, 4, 3, 1, 3, 1, 0],
    );
    assert.equal(new DataView(meta.buffer).getFloat64(56, true), -1);
    assert.equal(meta[64], 1, "btm_allequalimage");
    assert.equal(read16(meta, FLAGS), META);
    assert.equal(read16(meta, 12), 72, "pd_lower");
  });

  test("splits a posting list where a new row pointer falls inside", () => {
    const before = leaf([posting(5, [1, 1], [1, 3], [1, 5])]);
    const data = bytes(u16(1), [...tuple(5, [1, 2])]);
    const page = applyRecord(before, record(INSERT_POST, bytes(u16(2)), data), 0);
    same(page, [posting(5, [1, 1], [1, 2], [1, 3]), tuple(5, [1, 5])]);
    for (const at of [0, 3, 40]) {
      const wrong = bytes(u16(at), [...tuple(5, [1, 2])]);
      assert.throws(
        () => applyRecord(before, record(INSERT_POST, bytes(u16(2)), wrong), 0),
        /posting list of 3 item pointers can't be split/,
      );
    }
    assert.throws(() => applyRecord(leaf([T[0]]), record(INSERT_POST, bytes(u16(2)), data), 0), RedoError);
  });

  test("splits a page, the new tuple to the left", () => {
    const highKey = tuple(25, [0, 1]);
    const added = tuple(5, [9, 9]);
    const right = bytes([...T[4]], [...T[3]], [...T[2]]);
    const split = record(
      SPLIT_L,
      bytes(u32(0), u16(3, 2, 0)),
      bytes([...added], [...highKey]),
      { id: 1, blkno: 50, data: right, willInit: true },
      { id: 2, blkno: 60 },
    );
    const before = leaf([T[0], T[1], T[2], T[3], T[4]]);
    before.set(u16(77), CYCLEID);
    const left = applyRecord(before, split, 0);
    same(left, [highKey, T[0], added, T[1]]);
    assert.deepEqual([read32(left, PREV), read32(left, NEXT), read32(left, LEVEL)], [0, 50, 0]);
    assert.deepEqual([read16(left, FLAGS), read16(left, CYCLEID)], [LEAF | INCOMPLETE_SPLIT, 0]);
    const rightPage = applyRecord(null, split, 50);
    same(rightPage, [T[2], T[3], T[4]]);
    assert.deepEqual([read32(rightPage, PREV), read32(rightPage, NEXT)], [0, 60]);
    assert.equal(read16(rightPage, FLAGS), LEAF);
    const next = applyRecord(leaf([T[6]]), split, 60);
    assert.equal(read32(next, PREV), 50);
  });

  test("splits a page in whose last tuple on the left a posting list is split", () => {
    const highKey = tuple(6, [0, 1]);
    const before = leaf([T[0], posting(5, [1, 1], [1, 3], [1, 5]), T[2]]);
    const split = record(
      SPLIT_R,
      bytes(u32(0), u16(3, 3, 1)),
      bytes([...tuple(5, [1, 2])], [...highKey]),
      { id: 1, blkno: 50, data: bytes([...T[2]], [...tuple(5, [1, 5])]), willInit: true },
    );
    const left = applyRecord(before, split, 0);
    same(left, [highKey, T[0], posting(5, [1, 1], [1, 2], [1, 3])]);
    assert.equal(read32(applyRecord(null, split, 50), NEXT), 0, "the rightmost page");
  });

  test("puts the new tuple of a split at the end of the left page, and keeps a high key out of the copying", () => {
    const highKey = tuple(35, [0, 1]);
    const added = tuple(29, [9, 9]);
    const before = leaf([tuple(99, [0, 1]), T[0], T[1], T[2]], { next: 4 });
    const split = record(
      SPLIT_L,
      bytes(u32(0), u16(4, 4, 0)),
      bytes([...added], [...highKey]),
      { id: 1, blkno: 50, data: T[2], willInit: true },
    );
    same(applyRecord(before, split, 0), [highKey, T[0], T[1], added]);
  });

  test("merges equal tuples and posting lists", () => {
    const before = leaf(
      [
        tuple(99, [0, 1]),
        tuple(1, [1, 1]),
        tuple(1, [1, 2]),
        posting(1, [1, 3], [1, 4]),
        tuple(2, [1, 5]),
        T[7],
      ],
      { next: 4, flags: LEAF | HAS_GARBAGE },
    );
    const page = applyRecord(before, record(DEDUP, bytes(u16(1)), bytes(u16(2, 3))), 0);
    same(page, [tuple(99, [0, 1]), posting(1, [1, 1], [1, 2], [1, 3], [1, 4]), tuple(2, [1, 5]), T[7]]);
    assert.equal(read16(page, FLAGS), LEAF);
    assert.equal(read32(page, NEXT), 4);
    for (const intervals of [[5, 3], [2, 1], [1, 2], [9, 2]]) {
      assert.throws(
        () => applyRecord(before, record(DEDUP, bytes(u16(1)), bytes(u16(...intervals))), 0),
        RedoError,
        `group ${intervals}`,
      );
    }
  });

  test("deletes tuples and row pointers from posting lists", () => {
    const before = leaf(
      [T[0], posting(5, [1, 1], [1, 3], [1, 5]), T[1], posting(7, [2, 1], [2, 2]), T[2]],
      { flags: LEAF | HAS_GARBAGE },
    );
    const data = bytes(u16(3), u16(2, 4), u16(1, 1), u16(1, 0));
    const expected = [T[0], posting(5, [1, 1], [1, 5]), tuple(7, [2, 2]), T[2]];
    const vacuumed = applyRecord(before, record(VACUUM, bytes(u16(1, 2)), data), 0);
    same(vacuumed, expected);
    assert.equal(read16(vacuumed, FLAGS), LEAF);
    before.set(u16(7), CYCLEID);
    const cycleIdAfter = (info: number, main: Uint8Array, pg: PgVersion) =>
      read16(applyRecord(before, record(info, main, data), 0, 0, pg), CYCLEID);
    assert.equal(cycleIdAfter(VACUUM, bytes(u16(1, 2)), V17), 7);
    assert.equal(cycleIdAfter(VACUUM, bytes(u16(1, 2)), V18), 0);
    assert.equal(cycleIdAfter(DELETE, bytes(u32(9), u16(1, 2), u8(1)), V18), 7);
    same(applyRecord(before, record(DELETE, bytes(u32(9), u16(1, 2)), data), 0), expected);
    const all = bytes(u16(2), u16(3, 0, 1, 2));
    assert.throws(
      () => applyRecord(before, record(VACUUM, bytes(u16(0, 1)), all), 0),
      /3 of 3 item pointers to be removed/,
    );
    const cutOff = bytes(u16(2), u16(3, 0));
    assert.throws(
      () => applyRecord(before, record(VACUUM, bytes(u16(0, 1)), cutOff), 0),
      /beyond the block's data/,
    );
  });

  test("makes an empty root, and one above two pages", () => {
    const metadata = bytes(u32(4, 3, 0, 3, 0, 0), u8(0, 0, 0, 0));
    const meta = { id: 2, blkno: 2, data: metadata, willInit: true };
    const empty: RecordSpec = {
      rmid: RM_BTREE_ID,
      info: NEWROOT,
      main: bytes(u32(3, 0)),
      blocks: [{ id: 0, rel: REL, blkno: 3, willInit: true }, { ...meta, rel: REL }],
    };
    const root = applyRecord(null, empty, 3);
    assert.equal(linePointerCount(root), 0);
    assert.equal(read16(root, FLAGS), ROOT | LEAF);
    const data = bytes([...T[1]], [...T[0]]);
    const grown = record(NEWROOT, bytes(u32(3, 1)), { id: 0, blkno: 3, data, willInit: true }, bytes(), meta);
    const upper = applyRecord(null, grown, 3);
    same(upper, [T[0], T[1]]);
    assert.deepEqual([read16(upper, FLAGS), read32(upper, LEVEL)], [ROOT, 1]);
    assert.equal(read16(applyRecord(leaf([], { flags: LEAF | INCOMPLETE_SPLIT }), grown, 1), FLAGS), LEAF);
    assert.equal(read32(applyRecord(null, grown, 2), 24 + 8), 3, "btm_root");
  });

  test("deletes a page in two steps", () => {
    const halfdead = record(
      MARK_PAGE_HALFDEAD,
      bytes(u16(1, 0), u32(30, 20, 40, 0xffffffff)),
      { id: 0, blkno: 30, willInit: true },
      { id: 1, blkno: 31 },
    );
    const parent = applyRecord(leaf([tuple(1, [30, 0]), tuple(2, [40, 0]), tuple(3, [50, 0])]), halfdead, 31);
    same(parent, [tuple(1, [40, 0]), tuple(3, [50, 0])]);
    const dying = applyRecord(null, halfdead, 30);
    assert.deepEqual([read32(dying, PREV), read32(dying, NEXT)], [20, 40]);
    assert.equal(read16(dying, FLAGS), LEAF | HALF_DEAD);
    assert.deepEqual([...item(dying, 1)], [...bytes(u16(0xffff, 0xffff, 0, 8 | ALT_TID))]);

    const main = bytes(u32(20, 40, 0, 0), u32(0x1234, 1), u32(0, 0, 0));
    const blocks = [{ id: 0, blkno: 30, willInit: true }, { id: 1, blkno: 20 }, { id: 2, blkno: 40 }];
    const unlink = record(UNLINK_PAGE, main, ...blocks);
    const deleted = applyRecord(null, unlink, 30);
    assert.equal(read16(deleted, FLAGS), LEAF | DELETED | HAS_FULLXID);
    assert.deepEqual([read32(deleted, 24), read32(deleted, 28), read16(deleted, 12)], [0x1234, 1, 32]);
    assert.equal(read32(applyRecord(leaf([], { next: 30 }), unlink, 20), NEXT), 40);
    assert.equal(read32(applyRecord(leaf([]), unlink, 40), PREV), 20);
  });

  test("deletes a page above the leaves, making the leaf point to the next one, and moves the fast root", () => {
    const main = bytes(u32(0, 40, 1, 0), u32(0x1234, 1), u32(8, 9, 77));
    const metadata = bytes(u32(4, 3, 2, 40, 1, 0), u8(0, 0, 0, 0));
    const unlink: RecordSpec = {
      rmid: RM_BTREE_ID,
      info: UNLINK_PAGE_META,
      main,
      blocks: [
        { id: 0, rel: REL, blkno: 30, willInit: true },
        { id: 2, blkno: 40 },
        { id: 3, blkno: 31, willInit: true },
        { id: 4, blkno: 0, willInit: true, data: metadata },
      ],
    };
    assert.equal(read16(applyRecord(null, unlink, 30), FLAGS), DELETED | HAS_FULLXID);
    const lower = applyRecord(null, unlink, 31);
    assert.deepEqual([read32(lower, PREV), read32(lower, NEXT)], [8, 9]);
    assert.deepEqual([...item(lower, 1).subarray(0, 4)], u16(0, 77));
    assert.equal(read32(applyRecord(null, unlink, 0), 24 + 16), 40, "btm_fastroot");
  });

  test("updates the metapage after a vacuum", () => {
    const metadata = bytes(u32(4, 3, 2, 3, 2, 17), u8(1, 0, 0, 0));
    const cleanup = record(META_CLEANUP, bytes(), { id: 0, blkno: 0, data: metadata, willInit: true });
    assert.equal(read32(applyRecord(null, cleanup, 0), 24 + 24), 17);
  });

  test("lays tuples out as they lay on the page they come from", () => {
    const page = leaf([T[0], posting(5, [1, 1], [1, 3]), T[1]]);
    assert.equal(linePointer(page, 1).off, 8176 - 16);
    assert.equal(linePointer(page, 3).off, 8176 - 16 - 32 - 16);
    const root = (data: Uint8Array) =>
      applyRecord(null, record(NEWROOT, bytes(u32(0, 1)), { id: 0, blkno: 0, data, willInit: true }), 0);
    assert.throws(() => root(T[0].subarray(0, 15)), /index tuple of 16 bytes, with 15/);
    assert.throws(() => root(new Uint8Array(16)), RedoError);
    const small = Array.from({ length: 1000 }, () => [...u16(0, 1, 1, 8)]);
    assert.throws(() => root(bytes(...small)), /don't make up a page's tuple space/);
  });

  test("refuses block references that a record type does not have, and pages that aren't a B-tree's", () => {
    assert.throws(() => applyRecord(null, record(REUSE_PAGE, bytes(), bytes()), 0), /does not belong/);
    assert.throws(
      () => applyRecord(leaf([]), record(INSERT_LEAF, bytes(u16(1)), T[0], bytes()), 1),
      /does not belong/,
    );
    const sequence = leaf([]);
    sequence.set(u16(8184), 16);
    assert.throws(
      () => applyRecord(sequence, record(INSERT_LEAF, bytes(u16(1)), T[0]), 0),
      /pd_special is 8184/,
    );
  });

  test("stays inside the page whatever the record says", () => {
    assert.ok(applyHostileRecords(redoBtree, 16, 8201, 12000) > 100);
  });
});
