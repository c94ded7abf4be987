import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { RedoError } from "../../../../../src/postgres/redo/page/errors.ts";
import {
  redoHash,
  redoSqueezePage17,
  redoVacuumOnePage16,
} from "../../../../../src/postgres/redo/hash/hash.ts";
import {
  itemAddress,
  itemId,
  lpLen,
  pageGetLsn,
  pageInit,
  pageMaxOffset,
  pageSetLsn,
  pdLower,
} from "../../../../../src/postgres/redo/page/page.ts";
import { PAGE, W8 } from "../../../../../src/postgres/redo/page/workspace.ts";
import { applyDamagedRecords, applyHostileRecords, type RecordCase } from "../hostile.ts";
import { bytes, END_LSN, f64, makeRecord, pageBytes, u16, u32, u8 } from "../record_fixture.ts";

const INIT_META_PAGE = 0x00;
const INIT_BITMAP_PAGE = 0x10;
const INSERT = 0x20;
const ADD_OVFL_PAGE = 0x30;
const SPLIT_ALLOCATE_PAGE = 0x40;
const SPLIT_PAGE = 0x50;
const MOVE_PAGE_CONTENTS = 0x70;
const SQUEEZE_PAGE = 0x80;
const DELETE = 0x90;
const VACUUM_ONE_PAGE = 0xc0;

// offsets in the page
const OPAQUE = 8176;
const PREVBLKNO = OPAQUE;
const NEXTBLKNO = OPAQUE + 4;
const FLAG = OPAQUE + 12;
const META = 24;
const NTUPLES = META + 8;
const MAXBUCKET = META + 24;
const OVFLPOINT = META + 36;
const NMAPS = META + 44;
const SPARES = META + 52;
const MAPP = SPARES + 4 * 98;

const INVALID = 0xffffffff;

function view(): DataView {
  return new DataView(W8.buffer, PAGE, 8192);
}

function getU32(at: number): number {
  return view().getUint32(at, true);
}

function makeMetapage(numTuples: number, ffactor: number): void {
  W8.fill(0xee, PAGE, PAGE + 8192);
  const main = bytes(f64(numTuples), u32(450), u16(ffactor));
  redoHash(makeRecord(INIT_META_PAGE, main, [{ blkno: 0 }]), 0);
}

/** Makes PAGE an empty overflow page of bucket 5, behind block 3. */
function makeOverflowPage(): void {
  const blocks = [{ blkno: 9, data: bytes(u32(5)) }, { blkno: 3 }];
  redoHash(makeRecord(ADD_OVFL_PAGE, bytes(u16(4096), u8(1)), blocks), 0);
}

/** An index tuple of 16 bytes. */
function indexTuple(hashCode: number): number[] {
  return [...u16(0, 1, 1, 16), ...u32(hashCode, 0)];
}

function insert(offnum: number, hashCode: number): void {
  const blocks = [{ blkno: 9, data: bytes(indexTuple(hashCode)) }, { blkno: 0 }];
  redoHash(makeRecord(INSERT, bytes(u16(offnum)), blocks), 0);
}

function hashCodes(): number[] {
  return Array.from({ length: pageMaxOffset(PAGE) }, (_, i) => getU32(itemAddress(PAGE, i + 1) - PAGE + 8));
}

describe("redo of hash index records", () => {
  for (
    const [numTuples, ffactor, buckets, highmask, splitpoint] of [
      [0, 307, 2, 3, 1],
      [1000, 307, 4, 7, 2],
      [300 * 512, 300, 512, 1023, 9],
      // From 1024 buckets on a doubling has four phases.
      [70000, 40, 1792, 2047, 16],
      [1.5e12, 10, 0x40000000, 0x7fffffff, 93],
    ] as const
  ) {
    test(`an index for ${numTuples} tuples, ${ffactor} a bucket, starts with ${buckets} buckets`, () => {
      makeMetapage(numTuples, ffactor);
      assert.deepEqual(
        [getU32(MAXBUCKET), getU32(MAXBUCKET + 4), getU32(MAXBUCKET + 8), getU32(OVFLPOINT)],
        [buckets - 1, highmask, highmask >>> 1, splitpoint],
      );
      assert.equal(getU32(SPARES + 4 * splitpoint), 1);
      assert.equal(pdLower(PAGE), META + 4544);
      assert.equal(pageGetLsn(PAGE), END_LSN);
    });
  }

  test("the first bitmap page lies behind the buckets", () => {
    makeMetapage(1000, 307);
    redoHash(makeRecord(INIT_BITMAP_PAGE, bytes(u16(4096)), [{ blkno: 5 }, { blkno: 0 }]), 1);
    assert.deepEqual([getU32(NMAPS), getU32(MAPP)], [1, 5]);
  });

  test("a new bitmap page is entered in the metapage and counts as an overflow page too", () => {
    makeMetapage(1000, 307);
    redoHash(makeRecord(INIT_BITMAP_PAGE, bytes(u16(4096)), [{ blkno: 5 }, { blkno: 0 }]), 1);
    const blocks = [
      { blkno: 40000 },
      { blkno: 3 },
      undefined,
      { blkno: 39999 },
      { blkno: 0, data: bytes(u32(32770)) },
    ];
    const rec = makeRecord(ADD_OVFL_PAGE, bytes(u16(4096), u8(0)), blocks);
    redoHash(rec, 4);
    assert.deepEqual([getU32(NMAPS), getU32(MAPP + 4)], [2, 39999]);
    assert.equal(getU32(SPARES + 4 * 2), 3);

    redoHash(rec, 3);
    assert.deepEqual(pageBytes().subarray(24, 24 + 4096), new Uint8Array(4096).fill(0xff));
    assert.equal(pdLower(PAGE), 24 + 4096);
  });

  test("a block id left from an earlier record does not count as one", () => {
    makeMetapage(1000, 307);
    const main = bytes(u16(4096), u8(0));
    const rec = makeRecord(ADD_OVFL_PAGE, main, [
      { blkno: 9 },
      { blkno: 3 },
      undefined,
      undefined,
      { blkno: 0, data: bytes(u32(1)) },
      { blkno: 77 },
    ]);
    rec.blockInUse[3] = 0;
    redoHash(rec, 4);
    assert.deepEqual([getU32(NMAPS), getU32(SPARES + 4 * 2)], [0, 2]);
  });

  test("an overflow page and the page before it point to each other", () => {
    makeOverflowPage();
    assert.deepEqual([getU32(PREVBLKNO), getU32(NEXTBLKNO), getU32(OPAQUE + 8)], [3, INVALID, 5]);
    const blocks = [{ blkno: 9 }, { blkno: 3 }];
    redoHash(makeRecord(ADD_OVFL_PAGE, bytes(u16(4096), u8(1)), blocks), 1);
    assert.equal(getU32(NEXTBLKNO), 9);
  });

  test("a split's masks and splitpoint go to the metapage", () => {
    makeMetapage(0, 307);
    const data = bytes(u32(3, 7), u32(2, 6));
    const main = bytes(u32(2), u16(2, 2), u8(3));
    redoHash(
      makeRecord(SPLIT_ALLOCATE_PAGE, main, [{ blkno: 1 }, { blkno: 4 }, { blkno: 0, data }]),
      2,
    );
    assert.deepEqual(
      [
        getU32(MAXBUCKET),
        getU32(MAXBUCKET + 4),
        getU32(MAXBUCKET + 8),
        getU32(OVFLPOINT),
        getU32(SPARES + 8),
      ],
      [2, 7, 3, 2, 6],
    );
  });

  test("moved tuples go to their offset numbers", () => {
    makeOverflowPage();
    insert(1, 100);
    insert(2, 300);
    const data = bytes(u16(2, 4), indexTuple(200), indexTuple(400));
    const blocks = [undefined, { blkno: 9, data }, { blkno: 11 }];
    redoHash(makeRecord(MOVE_PAGE_CONTENTS, bytes(u16(2), u8(1)), blocks), 1);
    assert.deepEqual(hashCodes(), [100, 200, 300, 400]);
    assert.equal(lpLen(itemId(PAGE, 2)), 16);
  });

  test("squeezing relinks the neighbours of the freed page", () => {
    const main = bytes(u32(21, 23), u16(0), u8(1, 0));
    const blocks = [undefined, { blkno: 1 }, { blkno: 22 }, { blkno: 21 }, { blkno: 23 }, { blkno: 30 }];
    const record = () => makeRecord(SQUEEZE_PAGE, main, blocks);
    makeOverflowPage();
    redoHash(record(), 3);
    assert.equal(getU32(NEXTBLKNO), 23);
    redoHash(record(), 4);
    assert.equal(getU32(PREVBLKNO), 21);
    insert(1, 5);
    redoHash(record(), 2);
    assert.deepEqual([pageMaxOffset(PAGE), view().getUint16(FLAG, true), getU32(PREVBLKNO)], [0, 0, INVALID]);
  });

  test("a page that is only locked keeps its contents and its LSN", () => {
    for (const info of [MOVE_PAGE_CONTENTS, SQUEEZE_PAGE, DELETE]) {
      pageInit(PAGE, 16);
      const before = pageBytes();
      redoHash(makeRecord(info, new Uint8Array(20), [{ blkno: 1 }, { blkno: 2 }]), 0);
      assert.deepEqual(pageBytes(), before);
    }
  });

  test("removing dead tuples on insertion clears the hint and counts them off the metapage", () => {
    makeOverflowPage();
    for (let i = 1; i <= 5; i++) insert(i, i);
    W8[PAGE + FLAG] |= 1 << 7;
    const main = bytes(u32(700, 3), u16(1, 3, 5));
    redoHash(makeRecord(VACUUM_ONE_PAGE, main, [{ blkno: 9 }, { blkno: 0 }]), 0);
    assert.deepEqual([hashCodes(), view().getUint16(FLAG, true)], [[2, 4], 1]);

    makeMetapage(0, 307);
    view().setFloat64(NTUPLES, 10, true);
    redoHash(makeRecord(VACUUM_ONE_PAGE, main, [{ blkno: 9 }, { blkno: 0 }]), 1);
    assert.equal(view().getFloat64(NTUPLES, true), 7);
  });

  test("removing dead tuples finds count and offsets where PostgreSQL 16 has them", () => {
    makeOverflowPage();
    for (let i = 1; i <= 5; i++) insert(i, i);
    const main = bytes(u32(700), u16(3), u8(1, 0), u16(1, 3, 5));
    redoVacuumOnePage16(makeRecord(VACUUM_ONE_PAGE, main, [{ blkno: 9 }, { blkno: 0 }]), 0);
    assert.deepEqual([hashCodes(), pageGetLsn(PAGE)], [[2, 4], END_LSN]);
  });

  test("a page that gets no tuple of a freed one keeps its LSN in PostgreSQL 17, unless its link changes", () => {
    const main = (isPrevious: number) => bytes(u32(21, 23), u16(0), u8(1, isPrevious));
    const blocks = [undefined, { blkno: 9 }];
    for (
      const [redo, isPrevious, changes] of [
        [redoHash, 0, true],
        [redoSqueezePage17, 0, false],
        [redoSqueezePage17, 1, true],
      ] as const
    ) {
      makeOverflowPage();
      pageSetLsn(PAGE, 8);
      redo(makeRecord(SQUEEZE_PAGE, main(isPrevious), blocks), 1);
      assert.equal(pageGetLsn(PAGE), changes ? END_LSN : 8);
    }
  });

  test("refuses a split page without image, a bit beyond the bitmap, a splitpoint that can't be", () => {
    assert.throws(() => redoHash(makeRecord(SPLIT_PAGE, bytes(), [{ blkno: 1 }]), 0), RedoError);

    const bitmap = [{ blkno: 5 }, { blkno: 0 }, { blkno: 5, data: bytes(u32(8152 * 8)) }];
    redoHash(makeRecord(INIT_BITMAP_PAGE, bytes(u16(4096)), bitmap), 0);
    assert.throws(() => redoHash(makeRecord(ADD_OVFL_PAGE, bytes(u16(4096), u8(1)), bitmap), 2), RedoError);

    makeMetapage(0, 307);
    const split = [{ blkno: 1 }, { blkno: 4 }, { blkno: 0, data: bytes(u32(98, 1)) }];
    const main = bytes(u32(2), u16(2, 2), u8(2));
    assert.throws(() => redoHash(makeRecord(SPLIT_ALLOCATE_PAGE, main, split), 2), RedoError);
  });

  test("refuses moved tuples that are fewer or more than announced", () => {
    for (const ntups of [1, 3]) {
      makeOverflowPage();
      const data = bytes(u16(1, 2).slice(0, 2 * Math.min(ntups, 2)), indexTuple(1), indexTuple(2));
      const rec = makeRecord(MOVE_PAGE_CONTENTS, bytes(u16(ntups), u8(1)), [undefined, { blkno: 9, data }]);
      assert.throws(() => redoHash(rec, 1), RedoError);
    }
  });

  test("refuses a page that is no hash page", () => {
    W8.fill(0, PAGE, PAGE + 8192);
    assert.throws(() => insert(1, 1), RedoError);
    const blocks = [{ blkno: 9, data: bytes(indexTuple(1)) }, { blkno: 0 }];
    assert.throws(() => redoHash(makeRecord(INSERT, bytes(u16(1)), blocks), 1), RedoError);
    makeOverflowPage();
    assert.throws(() => redoHash(makeRecord(INSERT, bytes(u16(1)), blocks), 1), RedoError);
  });

  test("a byte that is wrong somewhere is refused or does no harm elsewhere", () => {
    const data = bytes(u16(2, 4), indexTuple(200), indexTuple(400));
    const fill = () => {
      makeOverflowPage();
      for (let i = 1; i <= 5; i++) insert(i, i);
    };
    const ovfl = [{ blkno: 9 }, { blkno: 3 }, undefined, { blkno: 39 }, { blkno: 0, data: bytes(u32(7)) }];
    const split = [{ blkno: 1 }, { blkno: 4 }, { blkno: 0, data: bytes(u32(3, 7, 2, 6)) }];
    const bitmap = [{ blkno: 9 }, { blkno: 3 }, { blkno: 5, data: bytes(u32(30000)) }];
    const cases: RecordCase[] = [
      () => {
        fill();
        const blocks = [undefined, { blkno: 9, data }];
        return { rec: makeRecord(MOVE_PAGE_CONTENTS, bytes(u16(2), u8(1)), blocks), blk: 1 };
      },
      () => {
        fill();
        const main = bytes(u32(700, 3), u16(1, 3, 5));
        return { rec: makeRecord(VACUUM_ONE_PAGE, main, [{ blkno: 9 }, { blkno: 0 }]), blk: 0 };
      },
      () => {
        fill();
        const blocks = [undefined, { blkno: 9, data: bytes(u16(1, 2, 4)) }];
        return { rec: makeRecord(DELETE, bytes(u8(1, 1)), blocks), blk: 1 };
      },
      () => (makeMetapage(1000, 307),
        { rec: makeRecord(ADD_OVFL_PAGE, bytes(u16(4096), u8(0)), ovfl), blk: 4 }),
      () => (makeMetapage(1000, 307),
        { rec: makeRecord(SPLIT_ALLOCATE_PAGE, bytes(u32(2), u16(2, 2), u8(3)), split), blk: 2 }),
      () => {
        redoHash(makeRecord(INIT_BITMAP_PAGE, bytes(u16(4096)), [{ blkno: 5 }, { blkno: 0 }]), 0);
        return { rec: makeRecord(ADD_OVFL_PAGE, bytes(u16(4096), u8(1)), bitmap), blk: 2 };
      },
    ];
    assert.ok(applyDamagedRecords(redoHash, cases, Date.now(), 500) > 0);
  });

  test("damaged records and pages never make it write beyond the page", () => {
    assert.ok(applyHostileRecords(redoHash, 16, Date.now(), 4000) > 0);
  });
});
