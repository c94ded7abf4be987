import { V14 } from "../../../../../src/postgres/versions/v14.ts";
import { V15 } from "../../../../../src/postgres/versions/v15.ts";
import { V16 } from "../../../../../src/postgres/versions/v16.ts";
import { V17 } from "../../../../../src/postgres/versions/v17.ts";
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { RedoError } from "../../../../../src/postgres/redo/page/errors.ts";
import { redoHeap } from "../../../../../src/postgres/redo/heap/heap.ts";
import { redoHeap2 } from "../../../../../src/postgres/redo/heap/heap2.ts";
import { RM_HEAP2_ID, RM_HEAP_ID } from "../../../../../src/postgres/wal/rmgr.ts";
import type { RecordSpec } from "../../../../harness/wal_builder.ts";
import {
  applyRecord,
  item,
  linePointer,
  linePointerCount,
  lsnOf,
  read16,
  read32,
  REL,
} from "../apply_record.ts";
import { applyHostileRecords } from "../hostile.ts";
import { bytes, END_LSN, u16, u32, u8 } from "../record_fixture.ts";

const XID = 0x12345;
const BLKNO = 0x30007;

// xl_info
const INSERT = 0x00;
const DELETE = 0x10;
const UPDATE = 0x20;
const HOT_UPDATE = 0x40;
const CONFIRM = 0x50;
const LOCK = 0x60;
const INPLACE = 0x70;
const INIT_PAGE = 0x80;
const PRUNE = 0x10;
const VACUUM = 0x20;
const FREEZE_PAGE = 0x30;
const VISIBLE = 0x40;
const MULTI_INSERT = 0x50;
const LOCK_UPDATED = 0x60;

// HeapTupleHeaderData
const T_XMAX = 4;
const T_CID = 8;
const T_CTID = 12;
const T_INFOMASK2 = 18;
const T_INFOMASK = 20;
const T_HOFF = 22;

const HEAP_COMBOCID = 0x0020;
const HEAP_XMAX_EXCL_LOCK = 0x0040;
const HEAP_XMAX_LOCK_ONLY = 0x0080;
const HEAP_XMAX_INVALID = 0x0800;
const HEAP_XMAX_IS_MULTI = 0x1000;
const HEAP_KEYS_UPDATED = 0x2000;
const HEAP_HOT_UPDATED = 0x4000;

const PD_FLAGS = 10;
const PD_ALL_VISIBLE = 4;

function heap(
  info: number,
  main: Uint8Array,
  data?: Uint8Array,
  options: Partial<RecordSpec> = {},
): RecordSpec {
  const block = { id: 0, rel: REL, blkno: BLKNO, willInit: (info & INIT_PAGE) !== 0 };
  return {
    rmid: RM_HEAP_ID,
    info,
    xid: XID,
    main,
    blocks: [data === undefined ? block : { ...block, data }],
    ...options,
  };
}

function heap2(info: number, main: Uint8Array, data?: Uint8Array): RecordSpec {
  return heap(info, main, data, { rmid: RM_HEAP2_ID });
}

/** xl_heap_header and the tuple's data: a padding byte, as t_hoff is 24, and text. */
function newTuple(text: string): Uint8Array {
  return bytes(u16(3, HEAP_COMBOCID | HEAP_XMAX_INVALID), u8(24, 0), [...Buffer.from(text)]);
}

function insert(off: number, text: string, flags = 0): RecordSpec {
  return heap(INSERT, bytes(u16(off), u8(flags)), newTuple(text));
}

/** A page with one tuple per text, its all-visible flag set. */
function pageWith(...texts: string[]): Uint8Array {
  let page: Uint8Array | null = null;
  texts.forEach((text, i) => {
    const record = insert(i + 1, text);
    page = applyRecord(page, i === 0 ? { ...record, info: INSERT | INIT_PAGE } : record, BLKNO);
  });
  page![PD_FLAGS] |= PD_ALL_VISIBLE;
  return page!;
}

function textOf(page: Uint8Array, off: number): string {
  const tuple = item(page, off);
  return Buffer.from(tuple.subarray(tuple[T_HOFF])).toString();
}

/** The block number and offset number in t_ctid. */
function ctid(page: Uint8Array, off: number): [number, number] {
  const tuple = item(page, off);
  return [
    read16(tuple, T_CTID) * 0x10000 + read16(tuple, T_CTID + 2),
    read16(tuple, T_CTID + 4),
  ];
}

describe("redo of heap records", () => {
  test("inserts a tuple as its transaction's first command would have", () => {
    const page = applyRecord(pageWith("first"), insert(2, "second", 1), BLKNO);
    assert.equal(linePointerCount(page), 2);
    const tuple = item(page, 2);
    assert.equal(read32(tuple, 0), XID);
    assert.equal(read32(tuple, T_XMAX), 0);
    assert.equal(read32(tuple, T_CID), 0);
    assert.equal(read16(tuple, T_INFOMASK2), 3);
    assert.equal(read16(tuple, T_INFOMASK), HEAP_XMAX_INVALID);
    assert.deepEqual(ctid(page, 2), [BLKNO, 2]);
    assert.equal(textOf(page, 2), "second");
    assert.equal(lsnOf(page), END_LSN);
    assert.equal(page[PD_FLAGS] & PD_ALL_VISIBLE, 0);
  });

  test("deletes a tuple", () => {
    const main = bytes(u32(777), u16(1), u8(0x10, 1));
    const page = applyRecord(pageWith("gone"), heap(DELETE, main), BLKNO);
    const tuple = item(page, 1);
    assert.equal(read32(tuple, T_XMAX), 777);
    assert.equal(read16(tuple, T_INFOMASK) & HEAP_XMAX_INVALID, 0);
    assert.equal(read16(tuple, T_INFOMASK2) & HEAP_KEYS_UPDATED, HEAP_KEYS_UPDATED);
    assert.equal(read32(page, 20), XID, "pd_prune_xid");
    assert.equal(page[PD_FLAGS] & PD_ALL_VISIBLE, 0);
  });

  test("takes a speculative insertion back", () => {
    const page = applyRecord(pageWith("never"), heap(DELETE, bytes(u32(0), u16(1), u8(0, 8))), BLKNO);
    assert.equal(read32(item(page, 1), 0), 0, "t_xmin");
  });

  test("marks a tuple that moved to another partition", () => {
    const page = applyRecord(pageWith("moved"), heap(DELETE, bytes(u32(777), u16(1), u8(0, 16))), BLKNO);
    assert.deepEqual(ctid(page, 1), [0xffffffff, 0xfffd]);
  });

  test("updates within a page, taking the start and the end from the old tuple", () => {
    const main = bytes(u32(XID), u16(1), u8(0, 0x60), u32(0), u16(2));
    const data = bytes(u16(4, 3), u16(3, 0), u8(24, 0), [...Buffer.from("NEW")]);
    const page = applyRecord(pageWith("pre-old-end"), heap(HOT_UPDATE, main, data), BLKNO);
    assert.equal(textOf(page, 2), "pre-NEWend");
    assert.deepEqual(ctid(page, 1), [BLKNO, 2]);
    assert.equal(read16(item(page, 1), T_INFOMASK2) & HEAP_HOT_UPDATED, HEAP_HOT_UPDATED);
    assert.equal(textOf(page, 1), "pre-old-end");
  });

  test("updates across pages, each page by itself", () => {
    const main = bytes(u32(XID), u16(1), u8(0, 3), u32(55), u16(1));
    const record = heap(UPDATE | INIT_PAGE, main, undefined, {
      blocks: [
        { id: 0, rel: REL, blkno: 9, data: newTuple("new version"), willInit: true },
        { id: 1, blkno: BLKNO },
      ],
    });
    const garbage = new Uint8Array(8192).fill(0xee);
    const newPage = applyRecord(garbage, record, 9);
    assert.equal(textOf(newPage, 1), "new version");
    assert.equal(read32(item(newPage, 1), T_XMAX), 55);
    assert.deepEqual(ctid(newPage, 1), [9, 1]);
    const oldPage = applyRecord(pageWith("old version"), record, BLKNO);
    assert.deepEqual(ctid(oldPage, 1), [9, 1]);
    assert.equal(read32(item(oldPage, 1), T_XMAX), XID);
    assert.equal(oldPage[PD_FLAGS] & PD_ALL_VISIBLE, 0);
  });

  test("confirms a speculative insertion", () => {
    const before = pageWith("maybe");
    const at = linePointer(before, 1).off + T_CTID;
    before.set(u16(0, 99, 0xfffe), at);
    assert.deepEqual(ctid(applyRecord(before, heap(CONFIRM, bytes(u16(1))), BLKNO), 1), [BLKNO, 1]);
  });

  test("locks a tuple and ends its update chain only where the lock is all there is", () => {
    const before = pageWith("locked");
    const tuple = linePointer(before, 1).off;
    before.set(u16(HEAP_HOT_UPDATED), tuple + T_INFOMASK2);
    before.set(u16(0, 5, 6), tuple + T_CTID);
    const locked = applyRecord(before, heap(LOCK, bytes(u32(800), u16(1), u8(0x06, 0))), BLKNO);
    assert.equal(read16(item(locked, 1), T_INFOMASK), HEAP_XMAX_LOCK_ONLY | HEAP_XMAX_EXCL_LOCK);
    assert.equal(read16(item(locked, 1), T_INFOMASK2), 0);
    assert.deepEqual(ctid(locked, 1), [BLKNO, 1]);
    const updated = applyRecord(before, heap(LOCK, bytes(u32(800), u16(1), u8(0x01, 0))), BLKNO);
    assert.equal(read16(item(updated, 1), T_INFOMASK), HEAP_XMAX_IS_MULTI);
    assert.equal(read16(item(updated, 1), T_INFOMASK2), HEAP_HOT_UPDATED);
    assert.deepEqual(ctid(updated, 1), [5, 6]);
    const later = applyRecord(before, heap2(LOCK_UPDATED, bytes(u32(801), u16(1), u8(0x06, 0))), BLKNO);
    assert.equal(read32(item(later, 1), T_XMAX), 801);
    assert.deepEqual(ctid(later, 1), [5, 6]);
  });

  test("overwrites a tuple in place", () => {
    const overwrite = (text: string) => heap(INPLACE, bytes(u16(1)), bytes([...Buffer.from(text)]));
    assert.equal(textOf(applyRecord(pageWith("12345"), overwrite("abcde"), BLKNO), 1), "abcde");
    assert.throws(
      () => applyRecord(pageWith("12345"), overwrite("abc"), BLKNO),
      /in-place update of 5 bytes/,
    );
  });

  test("inserts many tuples at once", () => {
    const tuple = (text: string) => [...u16(text.length + 1, 3, 0), 24, 0, ...Buffer.from(text)];
    // Each starts at an even distance from the first.
    const data = bytes(tuple("one"), [0], tuple("four"), tuple("eleven"));
    const fresh = heap2(MULTI_INSERT | INIT_PAGE, bytes(u8(0x20, 0), u16(3)), data);
    const page = applyRecord(null, fresh, BLKNO);
    assert.deepEqual([1, 2, 3].map((off) => textOf(page, off)), ["one", "four", "eleven"]);
    assert.equal(page[PD_FLAGS] & PD_ALL_VISIBLE, PD_ALL_VISIBLE);
    const added = heap2(MULTI_INSERT, bytes(u8(1, 0), u16(3), u16(4, 5, 6)), data);
    const more = applyRecord(page, added, BLKNO);
    assert.equal(textOf(more, 6), "eleven");
    assert.deepEqual(ctid(more, 6), [BLKNO, 6]);
    assert.equal(more[PD_FLAGS] & PD_ALL_VISIBLE, 0);
    const tooMany = heap2(MULTI_INSERT | INIT_PAGE, bytes(u8(0, 0), u16(4)), data);
    assert.throws(() => applyRecord(null, tooMany, BLKNO), /tuple 3 of 4 goes beyond/);
    const tooFew = heap2(MULTI_INSERT | INIT_PAGE, bytes(u8(0, 0), u16(2)), data);
    assert.throws(() => applyRecord(null, tooFew, BLKNO), /2 tuples leave/);
  });

  test("prunes, and frees line pointers after a vacuum", () => {
    const before = pageWith("a", "bb", "ccc", "dddd", "eeeee");
    const prune = heap2(PRUNE, bytes(u32(1), u16(1, 1)), bytes(u16(1, 3, 2, 4)));
    const pruned = applyRecord(before, prune, BLKNO);
    assert.deepEqual([1, 2, 3, 4, 5].map((off) => linePointer(pruned, off).flags), [2, 3, 1, 0, 1]);
    assert.equal(linePointer(pruned, 1).off, 3);
    assert.equal(textOf(pruned, 3), "ccc");
    assert.equal(textOf(pruned, 5), "eeeee");
    const vacuumed = applyRecord(pruned, heap2(VACUUM, bytes(u16(1)), bytes(u16(2))), BLKNO);
    assert.equal(linePointer(vacuumed, 2).flags, 0);
    assert.equal(linePointerCount(vacuumed), 5);
  });

  test("keeps unused line pointers at the end of a pruned page in PostgreSQL 14 only", () => {
    const prune = heap2(PRUNE, bytes(u32(1), u16(0, 0)), bytes(u16(2, 3)));
    const counts = [V14, V15, V16].map((pg) =>
      linePointerCount(applyRecord(pageWith("a", "b", "c"), prune, BLKNO, 0, pg))
    );
    assert.deepEqual(counts, [3, 1, 1]);
  });

  test("freezes tuples by plans in PostgreSQL 16", () => {
    const plans = bytes(
      u32(0),
      u16(3, 0x0b00),
      u8(0, 0),
      u16(2),
      u32(9),
      u16(3, 0x4b00),
      u8(2, 0),
      u16(1),
      u16(1, 3, 2),
    );
    const freeze = (data: Uint8Array) => heap2(FREEZE_PAGE, bytes(u32(9), u16(2), u8(0)), data);
    const page = applyRecord(pageWith("a", "b", "c"), freeze(plans), BLKNO, 0, V16);
    assert.deepEqual([1, 2, 3].map((off) => read16(item(page, off), T_INFOMASK)), [0x0b00, 0x4b00, 0x0b00]);
    assert.equal(read32(item(page, 2), T_XMAX), 9);
    assert.equal(read32(item(page, 2), T_CID), 2, "t_xvac");
    for (const wrong of [plans.subarray(0, -2), bytes([...plans], u16(1))]) {
      assert.throws(() => applyRecord(pageWith("a", "b", "c"), freeze(wrong), BLKNO, 0, V16), RedoError);
    }
  });

  test("prunes and freezes with one record in PostgreSQL 17", () => {
    const before = pageWith("a", "bb", "ccc", "dddd", "eeeee", "f");
    const plan = bytes(u16(1, 0), u32(0), u16(3, 0x0b00), u8(0, 0), u16(1));
    const all = bytes([...plan], u16(1, 1, 3), u16(1, 2), u16(2, 4, 6), u16(5));
    const main = bytes(u8(1, 0xfe), u32(700));
    for (const info of [PRUNE, VACUUM, FREEZE_PAGE]) {
      const page = applyRecord(before, heap2(info, main, all), BLKNO, 0, V17);
      assert.deepEqual([1, 2, 3, 4, 5].map((off) => linePointer(page, off).flags), [2, 3, 1, 0, 1]);
      assert.equal(linePointerCount(page), 5, "the unused one at the end went");
      assert.deepEqual([textOf(page, 3), textOf(page, 5)], ["ccc", "eeeee"]);
      assert.equal(read16(item(page, 5), T_INFOMASK), 0x0b00);
      assert.equal(lsnOf(page), END_LSN);
    }
  });

  test("frees line pointers without moving tuples when nobody has locked the page for it", () => {
    const dead = applyRecord(
      pageWith("a", "b", "c"),
      heap2(PRUNE, bytes(u8(0, 0x44)), bytes(u16(2, 1, 3))),
      BLKNO,
      0,
      V17,
    );
    assert.deepEqual([1, 2, 3].map((off) => linePointer(dead, off).flags), [3, 1, 3]);
    const freed = applyRecord(dead, heap2(PRUNE, bytes(u8(2, 0x80)), bytes(u16(2, 1, 3))), BLKNO, 0, V17);
    assert.deepEqual([linePointerCount(freed), linePointer(freed, 1).flags], [2, 0]);
    assert.deepEqual(linePointer(freed, 2), linePointer(dead, 2));
  });

  test("refuses a record that prunes with parts that its flags don't announce", () => {
    const before = pageWith("a", "b", "c");
    for (
      const [main, data, expected] of [
        [bytes(u8(0, 0x45)), bytes(u16(1, 1)), /unknown flags 0x1/],
        [bytes(u8(0, 0x44), u32(7)), bytes(u16(1, 1)), /main data has 6 bytes, expected 2/],
        [bytes(u8(0, 0x4c)), bytes(u16(1, 1)), /main data has 2 bytes, expected 6/],
        [bytes(u8(0, 0x44)), bytes(u16(1, 1, 2)), /leave 2 bytes of the block's data/],
        [bytes(u8(0, 0x44)), bytes(u16(3, 1, 2)), /a part of 6 bytes where 4/],
        [bytes(u8(0, 0x14)), bytes(u16(1, 0)), /a part of 12 bytes where 0/],
      ] as const
    ) {
      assert.throws(() => applyRecord(before, heap2(PRUNE, main, data), BLKNO, 0, V17), expected);
    }
  });

  test("freezes tuples", () => {
    const plan = bytes(u32(0), u16(2, 3, 0x0b00), u8(0, 0));
    const page = applyRecord(pageWith("a", "b"), heap2(FREEZE_PAGE, bytes(u32(9), u16(1)), plan), BLKNO);
    assert.equal(read16(item(page, 2), T_INFOMASK), 0x0b00);
    assert.equal(read32(item(page, 2), 0), XID, "t_xmin stays");
    const moved = bytes(u32(0), u16(1, 3, 0x4b00), u8(2, 0));
    const old = applyRecord(pageWith("a"), heap2(FREEZE_PAGE, bytes(u32(9), u16(1)), moved), BLKNO);
    assert.equal(read32(item(old, 1), T_CID), 2, "t_xvac");
  });

  test("marks a page all-visible without moving its LSN", () => {
    const before = pageWith("seen");
    before[PD_FLAGS] = 0;
    before.set(u32(1, 2), 0);
    const visible = heap2(VISIBLE, bytes(u32(9), u8(1)));
    const record = {
      ...visible,
      blocks: [{ id: 0, fork: 2, rel: REL, blkno: 6 }, { id: 1, rel: REL, blkno: BLKNO }],
    };
    const page = applyRecord(before, record, BLKNO);
    assert.equal(page[PD_FLAGS], PD_ALL_VISIBLE);
    assert.equal(lsnOf(page), 0x1_0000_0002);
  });

  test("refuses records that don't belong to the page", () => {
    assert.throws(() => applyRecord(pageWith("a"), heap(DELETE, bytes(u32(1), u16(2), u8(0, 0))), BLKNO), {
      name: "RedoError",
      message: "redo of Heap DELETE that ends at 3/1238 to block 196615 (main) of relation 1663/5/16384, " +
        "block reference 0: there is no line pointer 2: the page has 1",
    });
    const short = heap(DELETE, bytes(u32(1)));
    assert.throws(
      () => applyRecord(pageWith("a"), short, BLKNO),
      /main data has 4 bytes, expected at least 8/,
    );
    const main = bytes(u32(XID), u16(1), u8(0, 0x60), u32(0), u16(2));
    const data = bytes(u16(400, 300), u16(3, 0), u8(24, 0));
    assert.throws(
      () => applyRecord(pageWith("a"), heap(UPDATE, main, data), BLKNO),
      /takes 400 and 300 bytes/,
    );
    assert.throws(() => applyRecord(pageWith("a"), heap(0x30, bytes()), BLKNO), RedoError);
    assert.throws(() => applyRecord(null, insert(1, "on a page that is not there"), BLKNO), RedoError);
  });

  test("stays inside the page whatever the record says", () => {
    assert.ok(applyHostileRecords(redoHeap, 0, 8101, 6000) > 100);
    assert.ok(applyHostileRecords(redoHeap2, 0, 8102, 6000) > 100);
  });
});
