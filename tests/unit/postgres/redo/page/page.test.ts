import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { RedoError } from "../../../../../src/postgres/redo/page/errors.ts";
import {
  itemAddress,
  itemId,
  LP_DEAD,
  LP_NORMAL,
  LP_REDIRECT,
  LP_UNUSED,
  lpFlags,
  lpLen,
  makeItemId,
  pageAddHeapTuple,
  pageAddItem,
  pageAddItemOverwrite,
  pageGetLsn,
  pageIndexMultiDelete,
  pageIndexTupleDelete,
  pageIndexTupleDeleteNoCompact,
  pageIndexTupleOverwrite,
  pageInit,
  pageIsNew,
  pageMaxOffset,
  pageRepairFragmentation,
  pageSetLsn,
  pageTruncateLinePointers,
  PD_HAS_FREE_LINES,
  pdFlags,
  pdLower,
  pdSpecial,
  pdUpper,
  setItemId,
  setPdLower,
  setPdUpper,
} from "../../../../../src/postgres/redo/page/page.ts";
import {
  BLCKSZ,
  PAGE,
  RECORD,
  SCRATCH,
  setU16,
  W8,
} from "../../../../../src/postgres/redo/page/workspace.ts";
import { Random } from "../../../../harness/random.ts";

/** Adds an item filled with `fill`. */
function add(off: number, size: number, fill: number): void {
  const at = pageAddItem(PAGE, size, off);
  W8.fill(fill, at, at + size);
}

/** The items by offset number: size and fill; undefined for a line pointer without storage. */
function contents(): ({ size: number; fill: number } | undefined)[] {
  return Array.from({ length: pageMaxOffset(PAGE) }, (_, i) => {
    const raw = itemId(PAGE, i + 1);
    if (lpLen(raw) === 0) return undefined;
    const at = itemAddress(PAGE, i + 1);
    const bytes = W8.slice(at, at + lpLen(raw));
    assert.ok(bytes.every((byte) => byte === bytes[0]), `item ${i + 1} is in one piece`);
    return { size: bytes.length, fill: bytes[0] };
  });
}

function fills(): (number | undefined)[] {
  return contents().map((entry) => entry?.fill);
}

/** Bytes that items take, aligned. */
function storage(): number {
  return contents().reduce((sum, entry) => sum + (((entry?.size ?? 0) + 7) & ~7), 0);
}

beforeEach(() => {
  W8.fill(0xdd, PAGE, SCRATCH);
  pageInit(PAGE, 16);
});

describe("a page", () => {
  test("is empty and all zeros after initialisation", () => {
    assert.equal(pdLower(PAGE), 24);
    assert.equal(pdUpper(PAGE), BLCKSZ - 16);
    assert.equal(pdSpecial(PAGE), BLCKSZ - 16);
    assert.equal(W8[PAGE + 18] | (W8[PAGE + 19] << 8), 0x2004);
    assert.equal(pageMaxOffset(PAGE), 0);
    assert.ok(W8.subarray(PAGE + 24, PAGE + BLCKSZ).every((byte) => byte === 0));
    assert.equal(pageIsNew(PAGE), false);
    W8.fill(0, PAGE, PAGE + BLCKSZ);
    assert.equal(pageIsNew(PAGE), true);
  });

  test("keeps LSNs of more than 32 bits", () => {
    pageSetLsn(PAGE, 0x12_8000_0008);
    assert.equal(pageGetLsn(PAGE), 0x12_8000_0008);
    assert.deepEqual([...W8.subarray(PAGE, PAGE + 8)], [0x12, 0, 0, 0, 8, 0, 0, 0x80]);
  });

  test("takes items between others, moving line pointers only", () => {
    add(1, 10, 1);
    add(2, 20, 2);
    add(1, 30, 3);
    add(2, 40, 4);
    assert.deepEqual(fills(), [3, 4, 1, 2]);
    assert.equal(pdUpper(PAGE), BLCKSZ - 16 - storage());
  });

  test("puts a heap tuple at an unused line pointer, never at a used one", () => {
    add(1, 8, 1);
    add(2, 8, 2);
    setItemId(PAGE, 1, 0);
    W8.fill(9, pageAddItemOverwrite(PAGE, 8, 1), PAGE + pdUpper(PAGE) + 8);
    assert.deepEqual(fills(), [9, 2]);
    assert.throws(() => pageAddItemOverwrite(PAGE, 8, 2), RedoError);
    setItemId(PAGE, 1, makeItemId(0, LP_DEAD, 0));
    assert.throws(() => pageAddItemOverwrite(PAGE, 8, 1), /line pointer 1 is in use/);
    assert.throws(() => pageAddHeapTuple(PAGE, 8, 292), RedoError);
  });

  test("refuses items that don't fit, and offset numbers that leave a gap", () => {
    assert.throws(() => pageAddItem(PAGE, 8, 2), /outside 1\.\.1/);
    assert.throws(() => pageAddItem(PAGE, 8, 0), RedoError);
    const free = pdUpper(PAGE) - pdLower(PAGE);
    assert.throws(() => pageAddItem(PAGE, free - 3, 1), /does not fit/);
    pageAddItem(PAGE, free - 8, 1);
    assert.throws(() => pageAddItem(PAGE, 8, 1), /does not fit/);
  });

  test("closes the gap that a deleted index tuple leaves", () => {
    add(1, 8, 1);
    add(2, 24, 2);
    add(3, 16, 3);
    pageIndexTupleDelete(PAGE, 2);
    assert.deepEqual(fills(), [1, 3]);
    assert.equal(pdUpper(PAGE), BLCKSZ - 16 - 24);
    pageIndexTupleDelete(PAGE, 1);
    pageIndexTupleDelete(PAGE, 1);
    assert.equal(pdUpper(PAGE), pdSpecial(PAGE));
    assert.equal(pdLower(PAGE), 24);
  });

  test("keeps a deleted tuple's line pointer where others must keep theirs", () => {
    add(1, 8, 1);
    add(2, 24, 2);
    add(3, 16, 3);
    pageIndexTupleDeleteNoCompact(PAGE, 1);
    assert.deepEqual(fills(), [undefined, 2, 3]);
    assert.equal(lpFlags(itemId(PAGE, 1)), LP_UNUSED);
    pageIndexTupleDeleteNoCompact(PAGE, 3);
    assert.deepEqual(fills(), [undefined, 2]);
  });

  test("replaces a tuple in place with a longer, a shorter and an equal one", () => {
    add(1, 16, 1);
    add(2, 16, 2);
    add(3, 16, 3);
    for (const [size, fill] of [[40, 7], [8, 8], [12, 9]] as const) {
      W8.fill(fill, RECORD, RECORD + size);
      pageIndexTupleOverwrite(PAGE, 2, RECORD, size);
      assert.deepEqual(contents(), [{ size: 16, fill: 1 }, { size, fill }, { size: 16, fill: 3 }]);
      assert.equal(pdUpper(PAGE), BLCKSZ - 16 - storage());
    }
    assert.throws(() => pageIndexTupleOverwrite(PAGE, 2, RECORD, 8170), /does not fit/);
  });

  test("has its tuples packed in line pointer order after pruning", () => {
    pageInit(PAGE, 0);
    for (let i = 1; i <= 6; i++) add(i, 16 + i, i);
    setItemId(PAGE, 1, makeItemId(3, LP_REDIRECT, 0));
    setItemId(PAGE, 2, makeItemId(0, LP_DEAD, 0));
    setItemId(PAGE, 4, 0);
    setItemId(PAGE, 6, 0);
    pageRepairFragmentation(PAGE);
    assert.deepEqual(fills(), [undefined, undefined, 3, undefined, 5]);
    assert.equal(pdUpper(PAGE), BLCKSZ - storage());
    assert.equal(pdFlags(PAGE) & PD_HAS_FREE_LINES, PD_HAS_FREE_LINES);
    setItemId(PAGE, 4, makeItemId(0, LP_DEAD, 0));
    pageRepairFragmentation(PAGE);
    assert.equal(pdFlags(PAGE) & PD_HAS_FREE_LINES, 0);
  });

  test("loses unused line pointers at its end after a vacuum, but never the first", () => {
    pageInit(PAGE, 0);
    for (let i = 1; i <= 4; i++) add(i, 16, i);
    for (const off of [1, 3, 4]) setItemId(PAGE, off, 0);
    pageTruncateLinePointers(PAGE);
    assert.equal(pageMaxOffset(PAGE), 2);
    assert.equal(pdFlags(PAGE) & PD_HAS_FREE_LINES, PD_HAS_FREE_LINES);
    setItemId(PAGE, 2, 0);
    pageTruncateLinePointers(PAGE);
    assert.equal(pageMaxOffset(PAGE), 1);
  });

  test("behaves like a list of items whatever is done to it", () => {
    const seed = 20150301;
    const random = new Random(seed);
    for (let round = 0; round < 60; round++) {
      pageInit(PAGE, 16);
      let model: { size: number; fill: number }[] = [];
      for (let step = 0; step < 120; step++) {
        const what = `seed ${seed}, round ${round}, step ${step}`;
        const size = 8 + random.int(200);
        const fill = random.int(256);
        const off = 1 + random.int(model.length + 1);
        const room = pdUpper(PAGE) - pdLower(PAGE);
        if (random.int(3) > 0 || model.length < 4) {
          if (((size + 7) & ~7) + 4 > room) continue;
          add(off, size, fill);
          model.splice(off - 1, 0, { size, fill });
        } else if (random.oneIn(3)) {
          const doomed = model.map((_, i) => i + 1).filter(() => random.oneIn(3));
          doomed.forEach((offset, i) => setU16(RECORD + 1 + 2 * i, offset));
          pageIndexMultiDelete(PAGE, RECORD + 1, doomed.length);
          model = model.filter((_, i) => !doomed.includes(i + 1));
        } else if (off <= model.length && random.oneIn(2)) {
          pageIndexTupleDelete(PAGE, off);
          model.splice(off - 1, 1);
        } else if (off <= model.length && size <= room) {
          W8.fill(fill, RECORD, RECORD + size);
          pageIndexTupleOverwrite(PAGE, off, RECORD, size);
          model[off - 1] = { size, fill };
        }
        assert.deepEqual(contents(), model, what);
        assert.equal(pdUpper(PAGE), BLCKSZ - 16 - storage(), what);
      }
    }
  });
});

describe("a damaged page", () => {
  test("is refused where its pointers are out of order", () => {
    add(1, 8, 1);
    setPdLower(PAGE, 8190);
    assert.throws(() => pageAddItem(PAGE, 8, 1), /corrupted page pointers/);
    assert.throws(() => pageIndexTupleDelete(PAGE, 1), /corrupted page pointers/);
    assert.throws(() => pageRepairFragmentation(PAGE), /corrupted page pointers/);
    setPdLower(PAGE, 9000);
    assert.throws(() => pageMaxOffset(PAGE), /beyond the page/);
    setPdLower(PAGE, 28);
    setPdUpper(PAGE, 8191);
    assert.throws(() => pageAddItem(PAGE, 8, 1), /corrupted page pointers/);
  });

  test("is refused where a line pointer is wrong", () => {
    add(1, 8, 1);
    add(2, 8, 2);
    add(3, 8, 3);
    assert.throws(() => itemId(PAGE, 0), /no line pointer 0/);
    assert.throws(() => itemId(PAGE, 4), /no line pointer 4: the page has 3/);
    for (
      const raw of [makeItemId(8188, LP_NORMAL, 8), makeItemId(20, LP_NORMAL, 8), makeItemId(0, LP_DEAD, 0)]
    ) {
      setItemId(PAGE, 2, raw);
      assert.throws(() => itemAddress(PAGE, 2), /no item on the page/);
    }
    setItemId(PAGE, 2, makeItemId(pdUpper(PAGE) + 4, LP_NORMAL, 8));
    assert.throws(() => pageIndexTupleDelete(PAGE, 2), /corrupted line pointer 2/);
    assert.throws(() => pageIndexTupleOverwrite(PAGE, 2, RECORD, 8), /corrupted line pointer 2/);
    assert.throws(() => pageRepairFragmentation(PAGE), /corrupted line pointer 2/);
  });

  test("is refused where its items overlap to more than there is room for", () => {
    for (let i = 1; i <= 5; i++) add(i, 1600, i);
    for (let i = 1; i <= 5; i++) setItemId(PAGE, i, makeItemId(pdUpper(PAGE), LP_NORMAL, 8000));
    assert.throws(() => pageRepairFragmentation(PAGE), /corrupted item lengths/);
  });

  test("does not make deletions of what is not there succeed", () => {
    for (let i = 1; i <= 5; i++) add(i, 8, i);
    [3, 2, 5].forEach((offset, i) => setU16(RECORD + 2 * i, offset));
    assert.throws(() => pageIndexMultiDelete(PAGE, RECORD, 3), /missing or out of order/);
    assert.deepEqual(fills(), [1, 2, 3, 4, 5]);
    setU16(RECORD, 6);
    assert.throws(() => pageIndexMultiDelete(PAGE, RECORD, 1), /no line pointer 6/);
  });

  test("never makes an operation write outside of it", () => {
    const seed = 4;
    const random = new Random(seed);
    let succeeded = 0;
    for (let round = 0; round < 4000; round++) {
      pageInit(PAGE, 16);
      for (let i = 1; i <= 1 + random.int(8); i++) add(i, 8 + random.int(900), i);
      for (let i = random.int(4); i > 0; i--) W8[PAGE + random.int(80)] = random.int(256);
      for (let i = 0; i < 8; i++) setU16(RECORD + 2 * i, 1 + random.int(9));
      W8.fill(0xdd, PAGE + BLCKSZ, PAGE + 2 * BLCKSZ);
      try {
        [
          () => pageAddItem(PAGE, random.int(3000), random.int(9)),
          () => pageAddItemOverwrite(PAGE, random.int(3000), random.int(9)),
          () => pageIndexTupleDelete(PAGE, random.int(9)),
          () => pageIndexTupleDeleteNoCompact(PAGE, random.int(9)),
          () => pageIndexTupleOverwrite(PAGE, random.int(9), RECORD, random.int(3000)),
          () => pageIndexMultiDelete(PAGE, RECORD, random.int(6)),
          () => pageRepairFragmentation(PAGE),
          () => pageTruncateLinePointers(PAGE),
        ][random.int(8)]();
        succeeded++;
      } catch (error) {
        assert.ok(error instanceof RedoError, `seed ${seed}, round ${round}: ${error}`);
      }
      const behind = W8.subarray(PAGE + BLCKSZ, PAGE + 2 * BLCKSZ);
      assert.ok(behind.every((byte) => byte === 0xdd), `seed ${seed}, round ${round}`);
    }
    assert.ok(succeeded > 400, `${succeeded} operations succeeded`);
  });
});
