import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import fc from "fast-check";
import { RedoError } from "../../../../src/postgres/redo/page/errors.ts";
import { redoGist, redoGistAfterImage, redoGistDelete16 } from "../../../../src/postgres/redo/gist.ts";
import { itemAddress, pageGetLsn, pageMaxOffset, pdLower } from "../../../../src/postgres/redo/page/page.ts";
import {
  BLCKSZ,
  PAGE,
  RECORD,
  u16 as readU16,
  u32 as readU32,
  W8,
} from "../../../../src/postgres/redo/page/workspace.ts";
import { applyDamaged, type IndexBlock, indexTuple, makeIndexRecord } from "./index_record.ts";
import { END_LSN, u16, u32 } from "./record_fixture.ts";

// xl_info
const PAGE_UPDATE = 0x00;
const DELETE = 0x10;
const PAGE_SPLIT = 0x30;
const PAGE_DELETE = 0x60;

// GISTPageOpaqueData
const NSN = PAGE + BLCKSZ - 16;
const RIGHTLINK = NSN + 8;
const FLAGS = NSN + 12;
const PAGE_ID = NSN + 14;
const F_LEAF = 1;
const F_DELETED = 2;
const F_FOLLOW_RIGHT = 8;
const F_HAS_GARBAGE = 16;

const INVALID_BLOCK = 0xffffffff;
const ORIG_RLINK = 555;

/** `count` tuples with keys 1, 2, 3… */
function tuples(count: number): number[] {
  return Array.from({ length: count }, (_, i) => indexTuple(i, 1, [i + 1])).flat();
}

/** A split into pages of these block numbers, with 4 tuples each. */
function split(blocks: number[], options: { leaf?: boolean; followRight?: boolean; child?: number } = {}) {
  const leaf = options.leaf === false ? 0 : 1;
  const follow = options.followRight === false ? 0 : 1;
  const main = [
    ...u32(ORIG_RLINK, 0, 0x1234, 0x1),
    leaf,
    0,
    ...u16(blocks.length),
    follow,
    0,
    0,
    0,
  ];
  const pages: IndexBlock[] = blocks.map((blkno) => ({ blkno, data: [...u32(4), ...tuples(4)] }));
  return makeIndexRecord(PAGE_SPLIT, main, [
    options.child === undefined ? undefined : { blkno: options.child },
    ...pages,
  ]);
}

/** PAGE becomes a leaf with 4 tuples. */
function makeLeaf(): void {
  redoGist(split([10, 11], { followRight: false }), 1);
}

function keys(): number[] {
  return Array.from({ length: pageMaxOffset(PAGE) }, (_, i) => W8[itemAddress(PAGE, i + 1) + 8]);
}

function update(ntodelete: number, ntoinsert: number, data: number[]): void {
  redoGist(makeIndexRecord(PAGE_UPDATE, u16(ntodelete, ntoinsert), [{ blkno: 10, data }]), 0);
}

beforeEach(() => {
  W8.fill(0xee, 0, RECORD);
});

describe("a GiST page split", () => {
  test("writes each page anew, linked to the next, the last one to the right sibling of before", () => {
    const links = [11, 12, ORIG_RLINK];
    for (let blk = 1; blk <= 3; blk++) {
      redoGist(split([10, 11, 12]), blk);
      assert.deepEqual(keys(), [1, 2, 3, 4]);
      assert.equal(readU32(RIGHTLINK), links[blk - 1]);
      assert.equal(readU32(NSN), 1, "the high word comes first");
      assert.equal(readU32(NSN + 4), 0x1234);
      assert.equal(readU16(FLAGS), blk < 3 ? F_LEAF | F_FOLLOW_RIGHT : F_LEAF);
      assert.equal(readU16(PAGE_ID), 0xff81);
      assert.equal(pageGetLsn(PAGE), END_LSN);
    }
  });

  test("of the root makes it an internal page without siblings, and its children need not be followed", () => {
    redoGist(split([0, 11, 12]), 1);
    assert.equal(readU32(RIGHTLINK), INVALID_BLOCK);
    assert.equal(readU16(FLAGS), 0);
    redoGist(split([0, 11, 12]), 2);
    assert.equal(readU32(RIGHTLINK), 12);
    assert.equal(readU16(FLAGS), F_LEAF);
  });

  test("of an internal page leaves internal pages", () => {
    redoGist(split([10, 11], { leaf: false, followRight: false }), 1);
    assert.equal(readU16(FLAGS), 0);
  });

  test("with another number of tuples than announced is refused", () => {
    const rec = split([10]);
    W8[rec.dataOff[1]] = 5;
    assert.throws(() => redoGist(rec, 1), /does not hold the 5 index tuples/);
  });
});

describe("the left half of a split whose downlink is in place", () => {
  function leftHalf(): void {
    redoGist(split([10, 11]), 1);
    assert.equal(readU16(FLAGS), F_LEAF | F_FOLLOW_RIGHT);
  }

  function assertFinished(): void {
    assert.equal(readU16(FLAGS), F_LEAF);
    assert.equal(readU32(NSN), 3, "the high word comes first");
    assert.equal(readU32(NSN + 4), 0x1238);
    assert.equal(pageGetLsn(PAGE), END_LSN);
  }

  test("need not be followed to the right, and has the record's LSN as its NSN", () => {
    leftHalf();
    redoGist(makeIndexRecord(PAGE_UPDATE, u16(0, 0), [{ blkno: 1 }, { blkno: 10 }]), 1);
    assertFinished();
    leftHalf();
    redoGist(split([1, 2], { leaf: false, child: 10 }), 0);
    assertFinished();
  });

  test("is changed so even when the record has its full-page image, for that is older", () => {
    leftHalf();
    redoGistAfterImage(makeIndexRecord(PAGE_UPDATE, u16(0, 0), [{ blkno: 1 }, { blkno: 10 }]), 1);
    assertFinished();
    leftHalf();
    redoGistAfterImage(split([1, 2], { leaf: false, child: 10 }), 0);
    assertFinished();
  });

  test("is the only block that changes after its image", () => {
    leftHalf();
    const before = W8.slice(PAGE, PAGE + BLCKSZ);
    redoGistAfterImage(makeIndexRecord(PAGE_UPDATE, u16(0, 0), [{ blkno: 10 }, { blkno: 1 }]), 0);
    redoGistAfterImage(makeIndexRecord(PAGE_DELETE, u32(1, 2, 1), [{ blkno: 10 }, { blkno: 1 }]), 1);
    assert.deepEqual(W8.slice(PAGE, PAGE + BLCKSZ), before);
  });
});

describe("a GiST page update", () => {
  test("replaces one tuple in its place", () => {
    makeLeaf();
    update(1, 1, [...u16(2), ...indexTuple(9, 9, [77, 1, 1, 1, 1, 1, 1, 1, 1, 1])]);
    assert.deepEqual(keys(), [1, 77, 3, 4]);
    assert.equal(readU16(FLAGS), F_LEAF);
  });

  test("deletes tuples and adds others at the end", () => {
    makeLeaf();
    update(2, 1, [...u16(1, 3), ...indexTuple(9, 9, [77])]);
    assert.deepEqual(keys(), [2, 4, 77]);
    assert.equal(readU16(FLAGS), F_LEAF);
  });

  test("only adds when nothing is to be deleted", () => {
    makeLeaf();
    update(0, 2, [...indexTuple(9, 9, [77]), ...indexTuple(9, 9, [78])]);
    assert.deepEqual(keys(), [1, 2, 3, 4, 77, 78]);
  });

  test("is refused when its data is too short or too long", () => {
    for (
      const [ntodelete, ntoinsert, data] of [
        [9, 0, u16(1, 2)],
        [1, 1, [...u16(1), ...tuples(2)]],
        [0, 1, tuples(2)],
        [1, 2, [...u16(1), ...tuples(1)]],
        [3, 0, u16(1, 3, 3)],
        [1, 0, u16(5)],
      ] as [number, number, number[]][]
    ) {
      makeLeaf();
      assert.throws(() => update(ntodelete, ntoinsert, data), RedoError);
    }
  });
});

describe("removing tuples that a scan found dead", () => {
  test("clears the garbage flag and sets no other, as the server that wrote the record did", () => {
    makeLeaf();
    W8[FLAGS] |= F_HAS_GARBAGE;
    redoGist(makeIndexRecord(DELETE, [...u32(700), ...u16(3, 1, 2, 4)], [{ blkno: 10 }]), 0);
    assert.deepEqual(keys(), [3]);
    assert.equal(readU16(FLAGS), F_LEAF);
  });

  test("finds the offsets where PostgreSQL 16 has them", () => {
    makeLeaf();
    const main = [...u32(700), ...u16(3), 1, 0, ...u16(1, 2, 4)];
    redoGistDelete16(makeIndexRecord(DELETE, main, [{ blkno: 10 }]), 0);
    assert.deepEqual([keys(), pageGetLsn(PAGE)], [[3], END_LSN]);
  });

  test("is refused when the record has fewer offsets than it announces", () => {
    makeLeaf();
    const rec = makeIndexRecord(DELETE, [...u32(700), ...u16(3, 1, 2)], [{ blkno: 10 }]);
    assert.throws(() => redoGist(rec, 0), /main data has 10 bytes, expected at least 12/);
  });
});

describe("a GiST page deletion", () => {
  const main = [...u32(0x55, 0x1), ...u16(2)];
  const rec = () => makeIndexRecord(PAGE_DELETE, main, [{ blkno: 10 }, { blkno: 1 }]);

  test("leaves the page with the transaction that may still be on it", () => {
    makeLeaf();
    redoGist(rec(), 0);
    assert.equal(readU16(FLAGS), F_LEAF | F_DELETED);
    assert.equal(pdLower(PAGE), 32);
    assert.deepEqual([readU32(PAGE + 24), readU32(PAGE + 28)], [0x55, 0x1]);
  });

  test("takes the downlink out of the parent", () => {
    makeLeaf();
    redoGist(rec(), 1);
    assert.deepEqual(keys(), [1, 3, 4]);
  });
});

describe("damaged GiST records and pages", () => {
  test("a page of another access method is refused", () => {
    makeLeaf();
    W8[PAGE + 16] = 0xf8;
    assert.throws(() => update(0, 1, tuples(1)), /not a page of this access method/);
  });

  test("give an error or a page, never anything else, and never a write elsewhere", () => {
    const byte = fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 2, 3, 4, 0x7f, 0x80, 0xff));
    const bytes = fc.array(byte, { maxLength: 100 });
    const change = fc.record({ at: fc.oneof(fc.nat(BLCKSZ - 1), fc.integer({ min: 8, max: 44 })), to: byte });
    const offsets = fc.array(fc.nat(6), { maxLength: 5 });
    fc.assert(
      fc.property(
        fc.constantFrom(PAGE_UPDATE, DELETE, PAGE_SPLIT, PAGE_DELETE, 0x20, 0x70),
        fc.nat(4),
        fc.array(change, { maxLength: 6 }),
        bytes,
        fc.oneof(
          bytes,
          fc.tuple(offsets, bytes).map(([offs, rest]) => [...u16(...offs), ...tuples(2), ...rest]),
        ),
        offsets,
        (info, blk, changes, rest, data, counts) => {
          makeLeaf();
          for (const { at, to } of changes) W8[PAGE + at] = to;
          const blocks = [0, 1, 2, 3, 4].map((blkno) => ({ blkno, data }));
          const rec = makeIndexRecord(info, [...u16(...counts), ...rest], blocks);
          applyDamaged(redoGist, rec, blk);
        },
      ),
      { numRuns: 2000 },
    );
  });
});
