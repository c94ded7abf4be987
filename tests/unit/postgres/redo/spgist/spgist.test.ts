import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { RedoError } from "../../../../../src/postgres/redo/page/errors.ts";
import {
  itemAddress,
  itemId,
  lpLen,
  pageGetLsn,
  pageMaxOffset,
} from "../../../../../src/postgres/redo/page/page.ts";
import { redoSpgist } from "../../../../../src/postgres/redo/spgist/spgist.ts";
import { redoVacuumRedirect16 } from "../../../../../src/postgres/redo/spgist/spgist_vacuum.ts";
import { PAGE, W8 } from "../../../../../src/postgres/redo/page/workspace.ts";
import { applyDamagedRecords, applyHostileRecords, type RecordCase } from "../hostile.ts";
import { bytes, END_LSN, makeRecord, pageBytes, u16, u32, u8 } from "../record_fixture.ts";

const ADD_LEAF = 0x10;
const MOVE_LEAFS = 0x20;
const ADD_NODE = 0x30;
const SPLIT_TUPLE = 0x40;
const PICKSPLIT = 0x50;
const VACUUM_LEAF = 0x60;
const VACUUM_ROOT = 0x70;
const VACUUM_REDIRECT = 0x80;

const LIVE = 0;
const REDIRECT = 1;
const DEAD = 2;
const PLACEHOLDER = 3;

// offsets in the page
const FLAGS = 8184;
const N_REDIRECTION = 8186;
const N_PLACEHOLDER = 8188;

const MY_XID = 777;

function view(): DataView {
  return new DataView(W8.buffer, PAGE, 8192);
}

/** A live leaf tuple of `size` bytes for heap tuple (`block`, 1), at the end of its chain. */
function leaf(block: number, size = 24): number[] {
  return [
    ...u32(size << 2),
    ...u16(0),
    ...u16(0, block, 1),
    ...new Array<number>(size - 12).fill(block & 0xff),
  ];
}

/** An inner tuple without prefix whose `nNodes` nodes have no label and lead nowhere. */
function inner(nNodes: number): number[] {
  const node = [...u16(0xffff, 0xffff, 0), ...u16(8)];
  const nodes = Array.from({ length: nNodes }, () => node).flat();
  return [...u32(nNodes << 3), ...u16(8 + nodes.length, 0), ...nodes];
}

/** Makes PAGE a leaf page with one tuple for each of the heap blocks, chained in order. */
function makeLeafPage(...blocks: number[]): void {
  blocks.forEach((block, i) => {
    const main = bytes(u8(i === 0 ? 1 : 0, 0), u16(i + 1, i, 0, 0), leaf(block));
    redoSpgist(makeRecord(ADD_LEAF, main, [{ blkno: 3 }]), 0);
  });
}

/** Makes PAGE an inner page with a tuple of so many nodes at each offset number. */
function makeInnerPage(...nNodes: number[]): void {
  nNodes.forEach((n, i) => {
    const main = bytes(u16(9, i + 1), u8(i === 0 ? 1 : 0, 0), inner(1), inner(n));
    redoSpgist(makeRecord(SPLIT_TUPLE, main, [{ blkno: 4 }, { blkno: 5 }]), 1);
  });
}

interface Tuple {
  state: number;
  next: number;
  block: number;
  off: number;
}

/** What the tuple at an offset number says in the layout that leaf and dead tuples share. */
function tuple(off: number): Tuple {
  const at = itemAddress(PAGE, off) - PAGE;
  return {
    state: view().getUint32(at, true) & 3,
    next: view().getUint16(at + 4, true),
    block: view().getUint16(at + 6, true) * 0x10000 + view().getUint16(at + 8, true),
    off: view().getUint16(at + 10, true),
  };
}

function states(): number[] {
  return Array.from({ length: pageMaxOffset(PAGE) }, (_, i) => tuple(i + 1).state);
}

function counts(): number[] {
  return [view().getUint16(N_REDIRECTION, true), view().getUint16(N_PLACEHOLDER, true)];
}

/** (block, offset number) that node `node` of the inner tuple at `off` leads to. */
function nodeLink(off: number, node: number): number[] {
  const at = itemAddress(PAGE, off) - PAGE + 8 + 8 * node;
  return [
    view().getUint16(at, true) * 0x10000 + view().getUint16(at + 2, true),
    view().getUint16(at + 4, true),
  ];
}

function moveLeafs(isBuild: number, toDelete: number[], toInsert: number[], tuples: number[]) {
  const main = bytes(
    u16(toDelete.length),
    u8(0, 0, 0, 0),
    u16(1, 2, 0),
    u32(MY_XID, isBuild),
    u16(...toDelete, ...toInsert),
    tuples,
  );
  return makeRecord(MOVE_LEAFS, main, [{ blkno: 3 }, { blkno: 0x50006 }, { blkno: 4 }]);
}

/** A picksplit of leafs 1 and 2 into (source, offset 1) and (other page, offset 1), whatever else is set. */
function pickSplit(initSrc: number, innerIsParent: number) {
  const main = bytes(
    u8(0, 0),
    u16(2, 2),
    u8(initSrc, 1),
    u16(2),
    u8(0, 0, innerIsParent, 0),
    u16(1, 1, 0),
    u32(MY_XID, 0),
    u16(2, 1),
    u16(1, 1),
    u8(0, 1),
    inner(2),
    leaf(51),
    leaf(52, 40),
  );
  return makeRecord(PICKSPLIT, main, [{ blkno: 3 }, { blkno: 6 }, { blkno: 7 }, { blkno: 4 }]);
}

describe("redo of SP-GiST records", () => {
  test("leaf tuples are added to the chain behind its head", () => {
    makeLeafPage(10, 11);
    assert.deepEqual(tuple(1), { state: LIVE, next: 2, block: 10, off: 1 });
    assert.equal(view().getUint16(FLAGS, true), 1 << 2);
    assert.equal(pageGetLsn(PAGE), END_LSN);
  });

  test("a leaf tuple in the nulls tree initialises a page for nulls", () => {
    redoSpgist(makeRecord(ADD_LEAF, bytes(u8(1, 1), u16(1, 0, 0, 0), leaf(1)), [{ blkno: 2 }]), 0);
    assert.equal(view().getUint16(FLAGS, true), (1 << 2) | (1 << 3));
  });

  test("the parent's node gets the number of the leaf's block from the other block reference", () => {
    makeInnerPage(3);
    const main = bytes(u8(0, 0), u16(8, 0, 1, 2), leaf(1));
    redoSpgist(makeRecord(ADD_LEAF, main, [{ blkno: 0x70008 }, { blkno: 4 }]), 1);
    assert.deepEqual(nodeLink(1, 2), [0x70008, 8]);
    assert.deepEqual(nodeLink(1, 1), [0xffffffff, 0]);
  });

  test("of moved leaf tuples the first one in the list becomes a redirection, whatever the order", () => {
    makeLeafPage(10, 11, 12, 13);
    redoSpgist(moveLeafs(0, [3, 1, 2], [4, 5, 6, 7], leaf(1)), 0);
    assert.deepEqual(states(), [PLACEHOLDER, PLACEHOLDER, REDIRECT, LIVE]);
    assert.deepEqual(tuple(3), { state: REDIRECT, next: 0, block: 0x50006, off: 7 });
    assert.equal(view().getUint32(itemAddress(PAGE, 3) - PAGE + 12, true), MY_XID);
    assert.deepEqual(tuple(1), { state: PLACEHOLDER, next: 0, block: 0xffffffff, off: 0 });
    assert.deepEqual(counts(), [1, 2]);
  });

  test("a build leaves no redirection", () => {
    makeLeafPage(10, 11);
    redoSpgist(moveLeafs(1, [1], [1, 2], leaf(1)), 0);
    assert.deepEqual([states(), counts()], [[PLACEHOLDER, LIVE], [0, 1]]);
  });

  test("moved leaf tuples take the place of placeholders, or go to the end", () => {
    makeLeafPage(10, 11);
    redoSpgist(moveLeafs(1, [1], [1, 2], leaf(1)), 0);
    redoSpgist(moveLeafs(0, [5], [1, 3], [...leaf(20, 32), ...leaf(21)]), 1);
    assert.deepEqual([tuple(1).block, tuple(2).block, tuple(3).block], [20, 11, 21]);
    assert.deepEqual([lpLen(itemId(PAGE, 1)), counts()], [32, [0, 0]]);
  });

  test("a tuple that is no placeholder is never replaced", () => {
    makeLeafPage(10, 11);
    const rec = moveLeafs(0, [5], [1, 3], [...leaf(20), ...leaf(21)]);
    assert.throws(() => redoSpgist(rec, 1), RedoError);
  });

  test("a split's source page keeps its share of the tuples, the other page gets the rest", () => {
    makeLeafPage(10, 11);
    redoSpgist(pickSplit(0, 0), 0);
    assert.deepEqual(states(), [LIVE, REDIRECT]);
    assert.deepEqual([tuple(1).block, tuple(2).block, tuple(2).off], [51, 7, 2]);
    redoSpgist(pickSplit(0, 0), 1);
    assert.deepEqual([pageMaxOffset(PAGE), tuple(1).block, lpLen(itemId(PAGE, 1))], [1, 52, 40]);
  });

  test("a source page that is initialised anew does not depend on what was there", () => {
    W8.fill(0xee, PAGE, PAGE + 8192);
    redoSpgist(pickSplit(1, 0), 0);
    assert.deepEqual([states(), tuple(1).block], [[LIVE], 51]);
  });

  test("the parent of a split links to the new inner tuple, on its own page or on another", () => {
    makeInnerPage(2);
    redoSpgist(pickSplit(0, 1), 2);
    assert.deepEqual([pageMaxOffset(PAGE), nodeLink(1, 1)], [2, [7, 2]]);
    makeInnerPage(2);
    redoSpgist(pickSplit(0, 0), 3);
    assert.deepEqual([pageMaxOffset(PAGE), nodeLink(1, 1)], [1, [7, 2]]);
  });

  test("an inner tuple that outgrows its page leaves a redirection; its parent is updated where it is", () => {
    const record = (parentBlk: number) => {
      const main = bytes(u16(2, 1), u8(0, parentBlk), u16(1, 0, 0), u32(MY_XID, 0), inner(3));
      return makeRecord(ADD_NODE, main, [{ blkno: 4 }, { blkno: 5 }, { blkno: 6 }]);
    };
    makeInnerPage(2, 2);
    redoSpgist(record(0), 0);
    assert.deepEqual([tuple(2).state, tuple(2).block, tuple(2).off, nodeLink(1, 0)], [REDIRECT, 5, 1, [
      5,
      1,
    ]]);
    makeInnerPage(2, 2);
    redoSpgist(record(2), 0);
    assert.deepEqual([tuple(2).state, nodeLink(1, 0)], [REDIRECT, [0xffffffff, 0]]);
    makeInnerPage(2);
    redoSpgist(record(2), 2);
    assert.deepEqual(nodeLink(1, 0), [5, 1]);
  });

  test("an inner tuple that gets a node in place is replaced, though an earlier record had a second block", () => {
    makeInnerPage(2);
    const main = bytes(u16(1, 0), u8(0, 0xff), u16(0, 0, 0), u32(MY_XID, 0), inner(3));
    const rec = makeRecord(ADD_NODE, main, [{ blkno: 4 }]);
    rec.blockInUse[1] = 1;
    redoSpgist(rec, 0);
    assert.deepEqual([pageMaxOffset(PAGE), lpLen(itemId(PAGE, 1))], [1, inner(3).length]);
  });

  test("prefix and postfix tuples go to one page or to two", () => {
    const main = (same: number) => bytes(u16(1, 2), u8(0, same), inner(1), inner(2));
    makeInnerPage(3);
    redoSpgist(makeRecord(SPLIT_TUPLE, main(1), [{ blkno: 4 }]), 0);
    assert.deepEqual([lpLen(itemId(PAGE, 1)), lpLen(itemId(PAGE, 2))], [16, 24]);
    makeInnerPage(3);
    redoSpgist(makeRecord(SPLIT_TUPLE, main(0), [{ blkno: 4 }, { blkno: 5 }]), 0);
    assert.deepEqual([pageMaxOffset(PAGE), lpLen(itemId(PAGE, 1))], [1, 16]);
  });

  test("vacuum moves a live tuple to the head of its chain and closes the gaps", () => {
    makeLeafPage(10, 11, 12, 13, 14);
    // 5 dies; 1 and 3 go; 2 moves to 1, and is chained to 4.
    const main = bytes(u16(1, 1, 1, 1), u32(MY_XID, 0), u16(5, 3, 2, 1, 1, 4));
    redoSpgist(makeRecord(VACUUM_LEAF, main, [{ blkno: 3 }]), 0);
    assert.deepEqual(states(), [LIVE, PLACEHOLDER, PLACEHOLDER, LIVE, DEAD]);
    assert.deepEqual([tuple(1).block, tuple(1).next, tuple(4).block], [11, 4, 13]);
    assert.deepEqual(counts(), [0, 2]);
  });

  test("vacuum of a root that is a leaf removes tuples for good", () => {
    makeLeafPage(10, 11, 12);
    redoSpgist(makeRecord(VACUUM_ROOT, bytes(u16(2, 0), u32(MY_XID, 0), u16(1, 3)), [{ blkno: 1 }]), 0);
    assert.deepEqual([pageMaxOffset(PAGE), tuple(1).block], [1, 11]);
  });

  test("vacuum turns redirections into placeholders and drops those at the end", () => {
    makeLeafPage(10, 11, 12, 13);
    redoSpgist(moveLeafs(0, [4, 3, 1], [1, 2, 3, 4], leaf(1)), 0);
    assert.deepEqual([states(), counts()], [[PLACEHOLDER, LIVE, PLACEHOLDER, REDIRECT], [1, 2]]);
    redoSpgist(makeRecord(VACUUM_REDIRECT, bytes(u16(1, 3), u32(MY_XID), u16(4)), [{ blkno: 3 }]), 0);
    assert.deepEqual([states(), counts()], [[PLACEHOLDER, LIVE], [0, 1]]);
  });

  test("vacuum finds redirections where PostgreSQL 16 has them", () => {
    makeLeafPage(10, 11, 12, 13);
    redoSpgist(moveLeafs(0, [4, 3, 1], [1, 2, 3, 4], leaf(1)), 0);
    const main = bytes(u16(1, 3), u32(MY_XID), u8(1, 0), u16(4));
    redoVacuumRedirect16(makeRecord(VACUUM_REDIRECT, main, [{ blkno: 3 }]), 0);
    assert.deepEqual([states(), counts(), pageGetLsn(PAGE)], [[PLACEHOLDER, LIVE], [0, 1], END_LSN]);
  });

  test("refuses a node that is not there, and tuples and lists that are cut off", () => {
    makeInnerPage(2);
    const before = pageBytes();
    const toNode = (node: number) =>
      makeRecord(ADD_LEAF, bytes(u8(0, 0), u16(1, 0, 1, node), leaf(1)), [{ blkno: 3 }, { blkno: 4 }]);
    assert.throws(() => redoSpgist(toNode(2), 1), RedoError);
    assert.deepEqual(pageBytes(), before);

    makeLeafPage(10);
    const cutTuple = bytes(u8(0, 0), u16(2, 0, 0, 0), leaf(1).slice(0, 20));
    assert.throws(() => redoSpgist(makeRecord(ADD_LEAF, cutTuple, [{ blkno: 3 }]), 0), RedoError);
    const cutList = bytes(u16(3, 0), u32(MY_XID, 0), u16(1, 1));
    assert.throws(() => redoSpgist(makeRecord(VACUUM_ROOT, cutList, [{ blkno: 1 }]), 0), RedoError);
  });

  test("a byte that is wrong somewhere is refused or does no harm elsewhere", () => {
    const addNode = () =>
      makeRecord(ADD_NODE, bytes(u16(2, 1), u8(0, 0), u16(1, 0, 0), u32(MY_XID, 0), inner(3)), [
        { blkno: 4 },
        { blkno: 5 },
      ]);
    const vacuumLeaf = () =>
      makeRecord(VACUUM_LEAF, bytes(u16(1, 1, 1, 1), u32(MY_XID, 0), u16(5, 3, 2, 1, 1, 4)), [{ blkno: 3 }]);
    const vacuumRedirect = () =>
      makeRecord(VACUUM_REDIRECT, bytes(u16(1, 3), u32(MY_XID), u16(4)), [{ blkno: 3 }]);
    const moved = [...leaf(20, 32), ...leaf(21)];
    const cases: RecordCase[] = [
      () => (makeLeafPage(1, 2, 3, 4), { rec: moveLeafs(0, [3, 1, 2], [4, 5, 6, 7], moved), blk: 0 }),
      () => (makeLeafPage(1, 2), { rec: moveLeafs(0, [5], [3, 4], moved), blk: 1 }),
      () => (makeInnerPage(3, 4), { rec: moveLeafs(0, [5], [3, 4], moved), blk: 2 }),
      () => (makeLeafPage(1, 2), { rec: pickSplit(0, 0), blk: 0 }),
      () => (makeLeafPage(1, 2), { rec: pickSplit(0, 0), blk: 1 }),
      () => (makeInnerPage(2), { rec: pickSplit(0, 1), blk: 2 }),
      () => (makeInnerPage(2, 2), { rec: addNode(), blk: 0 }),
      () => (makeLeafPage(1, 2, 3, 4, 5), { rec: vacuumLeaf(), blk: 0 }),
      () => {
        makeLeafPage(1, 2, 3, 4);
        redoSpgist(moveLeafs(0, [4, 3, 1], [1, 2, 3, 4], leaf(1)), 0);
        return { rec: vacuumRedirect(), blk: 0 };
      },
    ];
    assert.ok(applyDamagedRecords(redoSpgist, cases, Date.now(), 500) > 0);
  });

  test("damaged records and pages never make it write beyond the page", () => {
    assert.ok(applyHostileRecords(redoSpgist, 8, Date.now(), 4000) > 0);
  });
});
