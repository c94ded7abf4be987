import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import fc from "fast-check";
import { redoGin } from "../../../../../src/postgres/redo/gin/gin.ts";
import {
  GIN_COMPRESSED,
  GIN_DATA,
  GIN_DATA_START,
  GIN_DELETED,
  GIN_INCOMPLETE_SPLIT,
  GIN_LEAF,
  GIN_LIST,
  GIN_LIST_FULLROW,
  GIN_META,
  ginFlags,
  ginInitPage,
  ginMaxoff,
  setGinFlags,
} from "../../../../../src/postgres/redo/gin/gin_page.ts";
import {
  itemAddress,
  pageGetLsn,
  pageMaxOffset,
  pdLower,
} from "../../../../../src/postgres/redo/page/page.ts";
import { BLCKSZ, PAGE, RECORD, u32 as readU32, W8 } from "../../../../../src/postgres/redo/page/workspace.ts";
import { applyDamaged, indexTuple, makeIndexRecord } from "../index_record.ts";
import { END_LSN, u16, u32 } from "../record_fixture.ts";

// xl_info
const CREATE_PTREE = 0x10;
const INSERT = 0x20;
const SPLIT = 0x30;
const VACUUM_PAGE = 0x40;
const DELETE_PAGE = 0x50;
const UPDATE_META_PAGE = 0x60;
const INSERT_LISTPAGE = 0x70;
const DELETE_LISTPAGE = 0x80;
const VACUUM_DATA_LEAF_PAGE = 0x90;

// ginxlogInsert.flags
const ISDATA = 1;
const ISLEAF = 2;

// segment actions
const DELETE = 1;
const INSERT_SEGMENT = 2;
const REPLACE = 3;
const ADDITEMS = 4;

const INVALID_BLOCK = 0xffffffff;
const RIGHTLINK = PAGE + BLCKSZ - 8;

/** A segment whose first item is (0, `first`), and others at these distances (all below 128). */
function segment(first: number, ...steps: number[]): number[] {
  const list = [...u16(0, 0, first, steps.length), ...steps];
  if (steps.length % 2 === 1) list.push(0);
  return list;
}

function item(offset: number): number[] {
  return u16(0, 0, offset);
}

function createTree(...segments: number[][]): void {
  const lists = segments.flat();
  redoGin(makeIndexRecord(CREATE_PTREE, [...u32(lists.length), ...lists], [{ blkno: 7 }]), 0);
}

function recompress(actions: number, ...data: number[][]): void {
  const payload = [...u16(actions), ...data.flat()];
  redoGin(makeIndexRecord(INSERT, u16(ISDATA | ISLEAF), [{ blkno: 7, data: payload }]), 0);
}

/** The posting lists on the page. */
function lists(): number[] {
  return [...W8.subarray(GIN_DATA_START, PAGE + pdLower(PAGE))];
}

function postingItem(child: number, offset: number): number[] {
  return [...u16(child >>> 16, child & 0xffff), ...item(offset)];
}

/** BlockIdData[2] of an insertion into an internal page. */
function children(left: number, right: number): number[] {
  return u16(left >>> 16, left & 0xffff, right >>> 16, right & 0xffff);
}

beforeEach(() => {
  W8.fill(0xee, 0, RECORD);
});

describe("a posting tree leaf", () => {
  test("is created with its posting lists", () => {
    createTree(segment(1, 1, 1));
    assert.equal(ginFlags(), GIN_DATA | GIN_LEAF | GIN_COMPRESSED);
    assert.deepEqual(lists(), segment(1, 1, 1));
    assert.equal(readU32(RIGHTLINK), INVALID_BLOCK);
    assert.equal(pageGetLsn(PAGE), END_LSN);
  });

  test("takes items into a segment in the middle, and keeps those around it", () => {
    createTree(segment(1, 1), segment(10, 2, 6), segment(90, 1));
    recompress(1, [1, ADDITEMS], u16(3), item(5), item(11), item(30));
    assert.deepEqual(lists(), [...segment(1, 1), ...segment(5, 5, 1, 1, 6, 12), ...segment(90, 1)]);
  });

  test("takes several actions, counted on the segments as they were", () => {
    createTree(segment(1), segment(10), segment(20), segment(30));
    recompress(
      4,
      [0, DELETE],
      [1, INSERT_SEGMENT, ...segment(5, 1)],
      [2, REPLACE, ...segment(21, 1, 1)],
      [4, INSERT_SEGMENT, ...segment(40)],
    );
    assert.deepEqual(
      lists(),
      [segment(5, 1), segment(10), segment(21, 1, 1), segment(30), segment(40)].flat(),
    );
  });

  test("is vacuumed by the same actions", () => {
    createTree(segment(1), segment(10, 1));
    const data = [...u16(1), 0, DELETE];
    redoGin(makeIndexRecord(VACUUM_DATA_LEAF_PAGE, [], [{ blkno: 7, data }]), 0);
    assert.deepEqual(lists(), segment(10, 1));
  });

  test("from before PostgreSQL 9.4 becomes a compressed one first", () => {
    ginInitPage(GIN_DATA | GIN_LEAF);
    W8.set([...item(3), ...item(4), ...item(9)], GIN_DATA_START);
    W8[PAGE + BLCKSZ - 4] = 3;
    recompress(1, [0, ADDITEMS], u16(1), item(7));
    assert.deepEqual(lists(), segment(3, 1, 3, 2));
    assert.equal(ginFlags(), GIN_DATA | GIN_LEAF | GIN_COMPRESSED);
    assert.equal(ginMaxoff(), 0);
  });

  test("refuses actions that don't fit it", () => {
    const refused: [RegExp, number, ...number[][]][] = [
      [/without an action/, 0],
      [/1 segment actions to come/, 1],
      [/unknown segment action 9/, 1, [0, 9]],
      [/cut off/, 1, [2, ADDITEMS], u16(1), item(7)],
      [/cut off/, 1, [9, DELETE]],
      [/on segment 0, after one on segment 1/, 2, [1, DELETE], [0, DELETE]],
      [/only 6 bytes left/, 1, [0, ADDITEMS], u16(2), item(7)],
      [/without its item count/, 1, [0, ADDITEMS]],
      [/of 1008 bytes/, 1, [0, INSERT_SEGMENT], u16(0, 0, 1, 1000)],
      [/do not ascend/, 1, [0, ADDITEMS], u16(2), item(9), item(8)],
    ];
    for (const [message, actions, ...data] of refused) {
      createTree(segment(1), segment(10));
      assert.throws(() => recompress(actions, ...data), message);
    }
  });

  test("refuses posting lists that outgrow it", () => {
    const large = segment(1, ...Array.from({ length: 4000 }, () => 1));
    createTree(large, large);
    assert.throws(() => recompress(1, [2, INSERT_SEGMENT, ...large]), /do not fit/);
  });
});

describe("a posting tree's internal page", () => {
  function internalPage(): void {
    ginInitPage(GIN_DATA);
    W8.set([...postingItem(100, 10), ...postingItem(200, 20)], GIN_DATA_START);
    W8[PAGE + BLCKSZ - 4] = 2;
  }

  test("gets the left half's downlink before the one that now leads to the right half", () => {
    internalPage();
    const main = [...u16(ISDATA), ...children(200, 0x30004)];
    const data = [...u16(2), ...postingItem(200, 15)];
    redoGin(makeIndexRecord(INSERT, main, [{ blkno: 3, data }, { blkno: 200 }]), 0);
    assert.deepEqual(lists(), [postingItem(100, 10), postingItem(200, 15), postingItem(0x30004, 20)].flat());
    assert.equal(ginMaxoff(), 3);
  });

  test("loses a deleted page's downlink", () => {
    internalPage();
    const main = [...u16(1, 0), ...u32(99, 1234)];
    redoGin(makeIndexRecord(DELETE_PAGE, main, [{ blkno: 1 }, { blkno: 2 }, { blkno: 3 }]), 1);
    assert.deepEqual(lists(), postingItem(200, 20));
    assert.equal(ginMaxoff(), 1);
  });

  test("refuses an offset that it does not have, and a leaf's action", () => {
    for (const offset of [0, 3, 0xffff]) {
      internalPage();
      const main = [...u16(ISDATA), ...children(1, 2)];
      const data = [...u16(offset), ...postingItem(5, 5)];
      assert.throws(() => redoGin(makeIndexRecord(INSERT, main, [{ blkno: 3, data }]), 0), /posting item/);
    }
    internalPage();
    assert.throws(() => recompress(1, [0, DELETE]), /wrong kind of GIN page/);
  });
});

describe("deleting a posting tree page", () => {
  const main = [...u16(1, 0), ...u32(99, 1234)];
  const rec = () => makeIndexRecord(DELETE_PAGE, main, [{ blkno: 1 }, { blkno: 2 }, { blkno: 3 }]);

  test("marks it, with the transaction that may still be on it", () => {
    createTree(segment(1));
    redoGin(rec(), 0);
    assert.equal(ginFlags(), GIN_DATA | GIN_LEAF | GIN_COMPRESSED | GIN_DELETED);
    assert.equal(readU32(PAGE + 20), 1234);
    assert.deepEqual(lists(), segment(1));
  });

  test("links its left sibling to its right one", () => {
    createTree(segment(1));
    redoGin(rec(), 2);
    assert.equal(readU32(RIGHTLINK), 99);
  });
});

describe("an entry tree page", () => {
  function insertLeaf(offset: number, isDelete: number, tuple: number[]): void {
    const data = [...u16(offset), isDelete, 0, ...tuple];
    redoGin(makeIndexRecord(INSERT, u16(ISLEAF), [{ blkno: 3, data }]), 0);
  }

  function tupleAt(offset: number, size: number): number[] {
    const at = itemAddress(PAGE, offset);
    return [...W8.subarray(at, at + size)];
  }

  test("takes a tuple between others, or in place of one", () => {
    ginInitPage(GIN_LEAF);
    insertLeaf(1, 0, indexTuple(0, 1, [1]));
    insertLeaf(2, 0, indexTuple(0, 1, [3]));
    insertLeaf(2, 0, indexTuple(0, 1, [2]));
    insertLeaf(1, 1, indexTuple(0, 2, [1, 1, 1, 1, 1, 1, 1, 1, 1]));
    assert.equal(pageMaxOffset(PAGE), 3);
    assert.deepEqual(tupleAt(1, 24), indexTuple(0, 2, [1, 1, 1, 1, 1, 1, 1, 1, 1]));
    assert.deepEqual(tupleAt(2, 16), indexTuple(0, 1, [2]));
    assert.deepEqual(tupleAt(3, 16), indexTuple(0, 1, [3]));
  });

  test("gets the left half's downlink before the one that now leads to the right half", () => {
    ginInitPage(GIN_LEAF);
    insertLeaf(1, 0, indexTuple(50, 7, [9]));
    setGinFlags(0);
    const main = [...u16(0), ...children(50, 0x10002)];
    const data = [...u16(1), 0, 0, ...indexTuple(50, 0, [4])];
    redoGin(makeIndexRecord(INSERT, main, [{ blkno: 3, data }, { blkno: 50 }]), 0);
    assert.deepEqual(tupleAt(1, 16), indexTuple(50, 0, [4]));
    assert.deepEqual(tupleAt(2, 16), indexTuple(0x10002, 0, [9]));
  });

  test("refuses a tuple that is cut off, and an offset that leaves a gap", () => {
    ginInitPage(GIN_LEAF);
    assert.throws(
      () => insertLeaf(1, 0, u16(0, 0, 1, 64)),
      /index tuple of 64 bytes, with 8 bytes left/,
    );
    assert.throws(() => insertLeaf(1, 0, []), /cut off/);
    assert.throws(() => insertLeaf(2, 0, indexTuple(0, 1, [1])), /offset number 2/);
  });

  test("of a split whose downlink is in place is no longer incomplete", () => {
    for (const [info, child] of [[INSERT, 1], [SPLIT, 3]] as const) {
      ginInitPage(GIN_LEAF | GIN_INCOMPLETE_SPLIT);
      redoGin(makeIndexRecord(info, u16(0), [{ blkno: 3 }, { blkno: 50 }, undefined, { blkno: 50 }]), child);
      assert.equal(ginFlags(), GIN_LEAF);
      assert.equal(pageGetLsn(PAGE), END_LSN);
    }
  });

  test("can't be split or vacuumed without an image", () => {
    ginInitPage(GIN_LEAF);
    for (const blk of [0, 1, 2]) {
      assert.throws(() => redoGin(makeIndexRecord(SPLIT, [], []), blk), /no full-page image/);
    }
    assert.throws(() => redoGin(makeIndexRecord(VACUUM_PAGE, [], []), 0), /no full-page image/);
  });
});

describe("the pending list", () => {
  const metadata = Array.from({ length: 56 }, (_, i) => i + 1);
  const tuples = [...indexTuple(1, 1, [1]), ...indexTuple(1, 1, [2])];

  function updateMeta(
    blk: number,
    prevTail: number,
    newRightlink: number,
    ntuples: number,
    data: number[],
  ): void {
    const main = [...u32(1, 2, 3, 0), ...metadata, ...u32(prevTail, newRightlink, ntuples, 0)];
    redoGin(makeIndexRecord(UPDATE_META_PAGE, main, [{ blkno: 0 }, { blkno: 9, data }]), blk);
  }

  function insertListPage(rightlink: number, ntuples: number): void {
    const main = u32(rightlink, ntuples);
    redoGin(makeIndexRecord(INSERT_LISTPAGE, main, [{ blkno: 9, data: tuples }]), 0);
  }

  test("has its ends in the metapage, which is written anew", () => {
    updateMeta(0, INVALID_BLOCK, INVALID_BLOCK, 0, []);
    assert.equal(ginFlags(), GIN_META);
    assert.equal(pdLower(PAGE), 80);
    assert.deepEqual([...W8.subarray(PAGE + 24, PAGE + 80)], metadata);
  });

  test("gets a new last page, complete, or one that another follows", () => {
    insertListPage(INVALID_BLOCK, 2);
    assert.equal(ginFlags(), GIN_LIST | GIN_LIST_FULLROW);
    assert.equal(ginMaxoff(), 1);
    assert.equal(pageMaxOffset(PAGE), 2);
    insertListPage(77, 2);
    assert.equal(ginFlags(), GIN_LIST);
    assert.equal(ginMaxoff(), 0);
    assert.equal(readU32(RIGHTLINK), 77);
  });

  test("gets one more row's tuples on its last page", () => {
    insertListPage(INVALID_BLOCK, 2);
    updateMeta(1, INVALID_BLOCK, INVALID_BLOCK, 2, tuples);
    assert.equal(pageMaxOffset(PAGE), 4);
    assert.equal(ginMaxoff(), 2);
  });

  test("gets more pages behind its last one", () => {
    insertListPage(INVALID_BLOCK, 2);
    updateMeta(1, 9, 10, 0, []);
    assert.equal(readU32(RIGHTLINK), 10);
    assert.equal(pageMaxOffset(PAGE), 2);
  });

  test("refuses another number of tuples than the record announces", () => {
    assert.throws(() => insertListPage(INVALID_BLOCK, 3), /has 2 index tuples, expected 3/);
  });

  test("loses pages, which become empty", () => {
    const main = [...metadata, ...u32(2, 0)];
    const rec = makeIndexRecord(DELETE_LISTPAGE, main, [{ blkno: 0 }, { blkno: 9 }, { blkno: 10 }]);
    redoGin(rec, 0);
    assert.equal(ginFlags(), GIN_META);
    redoGin(rec, 2);
    assert.equal(ginFlags(), GIN_DELETED);
    assert.equal(pageMaxOffset(PAGE), 0);
    assert.throws(() => redoGin(rec, 3), /does not belong/);
  });
});

describe("damaged GIN records and pages", () => {
  test("give an error or a page, never anything else, and never a write elsewhere", () => {
    const types = [
      CREATE_PTREE,
      INSERT,
      SPLIT,
      DELETE_PAGE,
      UPDATE_META_PAGE,
      INSERT_LISTPAGE,
      DELETE_LISTPAGE,
      VACUUM_DATA_LEAF_PAGE,
    ];
    const byte = fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 2, 3, 4, 0x7f, 0x80, 0xff));
    const bytes = fc.array(byte, { maxLength: 120 });
    const change = fc.record({
      at: fc.oneof(
        fc.nat(BLCKSZ - 1),
        fc.integer({ min: 8, max: 60 }),
        fc.integer({ min: BLCKSZ - 8, max: BLCKSZ - 1 }),
      ),
      to: byte,
    });
    const page = fc.constantFrom("leaf", "internal", "entry", "list");
    fc.assert(
      fc.property(
        fc.constantFrom(...types),
        fc.nat(4),
        page,
        fc.array(change, { maxLength: 6 }),
        fc.oneof(
          fc.constantFrom(ISDATA, ISLEAF, ISDATA | ISLEAF, 0).map((flags) => u16(flags, 0, 9, 0, 5)),
          bytes,
        ),
        bytes,
        (info, blk, kind, changes, main, data) => {
          makePage(kind);
          for (const { at, to } of changes) W8[PAGE + at] = to;
          const blocks = [0, 1, 2, 3, 4].map((blkno) => ({ blkno, data }));
          const rec = makeIndexRecord(info, main, blocks);
          applyDamaged(redoGin, rec, blk);
        },
      ),
      { numRuns: 2000 },
    );
  });

  function makePage(kind: string): void {
    if (kind === "leaf") {
      createTree(segment(1, 1, 1), segment(10, 2, 6), segment(90, 1));
    } else if (kind === "internal") {
      ginInitPage(GIN_DATA);
      W8.set([...postingItem(100, 10), ...postingItem(200, 20)], GIN_DATA_START);
      W8[PAGE + BLCKSZ - 4] = 2;
    } else {
      const data = [...indexTuple(1, 1, [1]), ...indexTuple(1, 1, [2])];
      redoGin(makeIndexRecord(INSERT_LISTPAGE, u32(INVALID_BLOCK, 2), [{ blkno: 9, data }]), 0);
      if (kind === "entry") setGinFlags(GIN_LEAF);
    }
  }
});
