import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { redoBrin } from "../../../../src/postgres/redo/brin.ts";
import { RedoError } from "../../../../src/postgres/redo/page/errors.ts";
import {
  itemAddress,
  pageGetLsn,
  pageInit,
  pageMaxOffset,
  pdLower,
  setPdLower,
} from "../../../../src/postgres/redo/page/page.ts";
import { PAGE, W8 } from "../../../../src/postgres/redo/page/workspace.ts";
import { applyHostileRecords } from "./hostile.ts";
import { bytes, END_LSN, makeRecord, pageBytes, u16, u32, u8 } from "./record_fixture.ts";

const CREATE_INDEX = 0x00;
const INSERT = 0x10;
const UPDATE = 0x20;
const REVMAP_EXTEND = 0x40;
const DESUMMARIZE = 0x50;
const INIT_PAGE = 0x80;

const REVMAP_ITEMS = 1360;
const TUPLE = bytes(u8(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12));

/** Makes PAGE a revmap page, as the extension of the revmap does. */
function makeRevmapPage(): void {
  redoBrin(makeRecord(REVMAP_EXTEND, bytes(u32(1)), [{ blkno: 0 }, { blkno: 1 }]), 1);
}

function insertRecord(info: number, heapBlk: number, pagesPerRange: number, offnum: number) {
  return makeRecord(info, bytes(u32(heapBlk, pagesPerRange), u16(offnum)), [
    { blkno: 0x12345, data: TUPLE },
    { blkno: 1 },
  ]);
}

function revmapItem(index: number): number[] {
  return [...W8.subarray(PAGE + 24 + 6 * index, PAGE + 24 + 6 * index + 6)];
}

describe("redo of BRIN records", () => {
  test("a new index's metapage says how many pages a range has and that there is no revmap page", () => {
    redoBrin(makeRecord(CREATE_INDEX, bytes(u32(128), u16(1)), [{ blkno: 0 }]), 0);
    const page = pageBytes();
    assert.deepEqual([...page.subarray(24, 40)], [...bytes(u32(0xa8109cfa, 1, 128, 0))]);
    assert.deepEqual([...page.subarray(8188)], [...bytes(u16(0, 0xf091))]);
    assert.equal(pdLower(PAGE), 40);
    assert.equal(pageGetLsn(PAGE), END_LSN);
  });

  test("a first tuple initialises its page, whatever was there", () => {
    W8.fill(0xee, PAGE, PAGE + 8192);
    redoBrin(insertRecord(INSERT | INIT_PAGE, 0, 1, 1), 0);
    assert.equal(pageMaxOffset(PAGE), 1);
    assert.deepEqual([...W8.subarray(itemAddress(PAGE, 1), itemAddress(PAGE, 1) + TUPLE.length)], [...TUPLE]);
    assert.deepEqual([...pageBytes().subarray(8190)], [...bytes(u16(0xf093))]);
  });

  test("an insertion points the range's revmap entry to the block number of the other page", () => {
    makeRevmapPage();
    redoBrin(insertRecord(INSERT, 4 * (REVMAP_ITEMS + 5) + 3, 4, 9), 1);
    assert.deepEqual(revmapItem(5), [...bytes(u16(0x1, 0x2345, 9))]);
  });

  test("the last entry of a revmap page ends before the special space", () => {
    makeRevmapPage();
    redoBrin(insertRecord(INSERT, REVMAP_ITEMS - 1, 1, 0xffff), 1);
    assert.deepEqual(revmapItem(REVMAP_ITEMS - 1), [...bytes(u16(0x1, 0x2345, 0xffff))]);
    assert.deepEqual([...pageBytes().subarray(8188)], [...bytes(u16(0, 0xf092))]);
  });

  test("a desummarised range has an invalid revmap entry", () => {
    makeRevmapPage();
    redoBrin(
      makeRecord(DESUMMARIZE, bytes(u32(2, 7), u16(1)), [{ blkno: 1 }, { blkno: 2 }]),
      0,
    );
    assert.deepEqual(revmapItem(3), [...bytes(u16(0xffff, 0xffff, 0))]);
  });

  test("an update across pages keeps the old page's other line pointers where they are", () => {
    redoBrin(insertRecord(INSERT | INIT_PAGE, 0, 1, 1), 0);
    redoBrin(insertRecord(INSERT, 1, 1, 2), 0);
    const main = bytes(u16(1, 0), u32(0, 1), u16(1));
    redoBrin(makeRecord(UPDATE, main, [{ blkno: 3, data: TUPLE }, { blkno: 1 }, { blkno: 2 }]), 2);
    assert.equal(pageMaxOffset(PAGE), 2);
    assert.throws(() => itemAddress(PAGE, 1), RedoError);
    assert.deepEqual([...W8.subarray(itemAddress(PAGE, 2), itemAddress(PAGE, 2) + TUPLE.length)], [...TUPLE]);
  });

  test("extending the revmap repairs the pd_lower of an old metapage", () => {
    redoBrin(makeRecord(CREATE_INDEX, bytes(u32(128), u16(1)), [{ blkno: 0 }]), 0);
    setPdLower(PAGE, 24);
    redoBrin(makeRecord(REVMAP_EXTEND, bytes(u32(6)), [{ blkno: 0 }, { blkno: 6 }]), 0);
    assert.equal(pdLower(PAGE), 40);
    assert.deepEqual([...pageBytes().subarray(36, 40)], [...bytes(u32(6))]);
  });

  test("refuses a range of no pages, and a page that is not the revmap's", () => {
    makeRevmapPage();
    assert.throws(() => redoBrin(insertRecord(INSERT, 7, 0, 1), 1), RedoError);
    pageInit(PAGE, 8);
    assert.throws(() => redoBrin(insertRecord(INSERT, 7, 1, 1), 1), RedoError);
  });

  test("refuses a record that is cut off, of unknown type, or with a block too many", () => {
    assert.throws(() => redoBrin(makeRecord(INSERT, bytes(u32(1, 1)), [{ blkno: 2 }]), 0), RedoError);
    assert.throws(() => redoBrin(makeRecord(0x60, bytes(u32(1, 1)), [{ blkno: 2 }]), 0), RedoError);
    const blocks = [{ blkno: 0 }, { blkno: 6 }, { blkno: 7 }];
    assert.throws(() => redoBrin(makeRecord(REVMAP_EXTEND, bytes(u32(6)), blocks), 2), RedoError);
  });

  test("damaged records and pages never make it write beyond the page", () => {
    assert.ok(applyHostileRecords(redoBrin, 8, Date.now(), 4000) > 0);
  });
});
