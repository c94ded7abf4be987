import { V15 } from "../../../../../src/postgres/versions/v15.ts";
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { finishPage, startPage } from "../../../../../src/postgres/redo/reconstruct.ts";
import {
  redoTruncateVisibilityMap,
  visibilityMapBlocksAfterTruncate,
} from "../../../../../src/postgres/redo/heap/visibility_map.ts";
import {
  HEAPBLOCKS_PER_MAP_PAGE,
  VisibilityMapChanges,
  visibilityMapChanges,
} from "../../../../../src/postgres/redo/heap/visibility_map_changes.ts";
import { parseRecord } from "../../../../../src/postgres/wal/parse.ts";
import { VISIBILITYMAP_FORKNUM } from "../../../../../src/postgres/cluster/relfile.ts";
import { WalRecord } from "../../../../../src/postgres/wal/record.ts";
import { RM_BTREE_ID, RM_HEAP2_ID, RM_HEAP_ID } from "../../../../../src/postgres/wal/rmgr.ts";
import { encodeRecord, type RecordSpec } from "../../../../harness/wal_builder.ts";
import { applyRecord, lsnOf, REL } from "../apply_record.ts";
import { bytes, END_LSN, u16, u32, u8 } from "../record_fixture.ts";

const PER_PAGE = HEAPBLOCKS_PER_MAP_PAGE;

/** The two bits of a heap block's entry. */
function entry(map: Uint8Array, heapBlock: number): number {
  const index = heapBlock % PER_PAGE;
  return (map[24 + (index >> 2)] >> (2 * (index & 3))) & 3;
}

/** A page of the map with every entry all-visible and all-frozen. */
function fullMap(): Uint8Array {
  const map = new Uint8Array(8192).fill(0xff, 24);
  map.set(u16(0, 0, 24, 8192, 8192, 0x2004), 8);
  return map;
}

function record(rmid: number, info: number, main: Uint8Array, ...heapBlocks: number[]): RecordSpec {
  return { rmid, info, main, blocks: heapBlocks.map((blkno, id) => ({ id, rel: REL, blkno })) };
}

/** The record as newer minor releases write it, with references to blocks of the visibility map. */
function withMap(spec: RecordSpec, ...map: [id: number, vmBlock: number][]): RecordSpec {
  const blocks = map.map(([id, blkno]) => ({ id, rel: REL, fork: VISIBILITYMAP_FORKNUM, blkno }));
  return { ...spec, blocks: [...spec.blocks!, ...blocks] };
}

function changes(spec: RecordSpec): [reference: number, vmBlock: number][] {
  const rec = new WalRecord();
  parseRecord(rec, encodeRecord(spec, 0), 0, V15);
  const out = new VisibilityMapChanges();
  const count = visibilityMapChanges(rec, out);
  assert.equal(count, out.count);
  return Array.from({ length: count }, (_, i) => [out.blockReference[i], out.vmBlock[i]]);
}

const insertOf = (flags: number, blkno: number) => record(RM_HEAP_ID, 0x00, bytes(u16(1), u8(flags)), blkno);
const lockOf = (blkno: number) => record(RM_HEAP_ID, 0x60, bytes(u32(1), u16(1), u8(0, 1)), blkno);
const updateOf = (flags: number, ...blocks: number[]) =>
  record(RM_HEAP_ID, 0x20, bytes(u32(1), u16(1), u8(0, flags), u32(0), u16(2)), ...blocks);

describe("the visibility map", () => {
  test("is changed by heap records that have the flag for it", () => {
    const far = 3 * PER_PAGE;
    assert.deepEqual(changes(insertOf(1, far + 5)), [[0, 3]]);
    assert.deepEqual(changes(insertOf(0x28, 5)), []);
    assert.deepEqual(changes(record(RM_HEAP_ID, 0x10, bytes(u32(1), u16(1), u8(0, 1)), far)), [[0, 3]]);
    assert.deepEqual(changes(record(RM_HEAP_ID, 0x10, bytes(u32(1), u16(1), u8(1, 2)), far)), []);
    assert.deepEqual(changes(lockOf(PER_PAGE - 1)), [[0, 0]]);
    assert.deepEqual(changes(record(RM_HEAP2_ID, 0x60, bytes(u32(1), u16(1), u8(0, 1)), 7)), [[0, 0]]);
    assert.deepEqual(changes(record(RM_HEAP2_ID, 0x50, bytes(u8(1, 0), u16(0)), far)), [[0, 3]]);
    assert.deepEqual(changes(record(RM_HEAP2_ID, 0x10, bytes(u32(1), u16(1, 1)), far)), []);
    assert.deepEqual(changes(record(RM_BTREE_ID, 0x00, bytes(u16(1), u8(1)), far)), []);
    assert.deepEqual(changes(record(RM_HEAP_ID, 0x00, bytes(u16(1)), far)), [], "a record that is too short");
  });

  test("is changed by an update in at most two blocks", () => {
    const far = 2 * PER_PAGE;
    assert.deepEqual(changes(updateOf(1, 4)), [[0, 0]]);
    assert.deepEqual(changes(updateOf(3, 4)), [[0, 0]]);
    assert.deepEqual(changes(updateOf(3, 4, 5)), [[0, 0]]);
    assert.deepEqual(changes(updateOf(3, 4, far)), [[0, 0], [1, 2]]);
    assert.deepEqual(changes(updateOf(1, 4, far)), [[1, 2]]);
    assert.deepEqual(changes(updateOf(2, 4, far)), [[0, 0]]);
  });

  test("loses both bits of a heap block that is written to, and keeps its LSN", () => {
    const block = PER_PAGE + 6;
    const map = applyRecord(fullMap(), insertOf(1, block), 1, VISIBILITYMAP_FORKNUM);
    assert.deepEqual([5, 6, 7].map((i) => entry(map, PER_PAGE + i)), [3, 0, 3]);
    assert.equal(lsnOf(map), 0);
    const both = applyRecord(fullMap(), updateOf(3, 4, 9), 0, VISIBILITYMAP_FORKNUM);
    assert.deepEqual([3, 4, 5, 8, 9, 10].map((i) => entry(both, i)), [3, 0, 3, 3, 0, 3]);
  });

  test("is not derived from the flag when the record refers to the map's block", () => {
    assert.deepEqual(changes(withMap(insertOf(1, 5), [1, 0])), []);
    assert.deepEqual(changes(withMap(updateOf(3, 4, 2 * PER_PAGE), [2, 0], [3, 2])), []);
    assert.deepEqual(changes(withMap(updateOf(1, 4), [3, 0])), []);
  });

  test("loses bits by a record that refers to it, and its LSN moves if any was set", () => {
    const insert = withMap(insertOf(1, PER_PAGE + 6), [1, 1]);
    const map = applyRecord(fullMap(), insert, 1, VISIBILITYMAP_FORKNUM);
    assert.deepEqual([5, 6, 7].map((i) => entry(map, PER_PAGE + i)), [3, 0, 3]);
    assert.equal(lsnOf(map), END_LSN);
    map.set(u32(0, 0), 0);
    assert.equal(lsnOf(applyRecord(map, insert, 1, VISIBILITYMAP_FORKNUM)), 0, "nothing changed");

    const lock = applyRecord(fullMap(), withMap(lockOf(9), [1, 0]), 0, VISIBILITYMAP_FORKNUM);
    assert.deepEqual([8, 9, 10].map((i) => entry(lock, i)), [3, 1, 3]);
    const multi = withMap(record(RM_HEAP2_ID, 0x50, bytes(u8(1, 0), u16(0)), 9), [1, 0]);
    assert.equal(entry(applyRecord(fullMap(), multi, 0, VISIBILITYMAP_FORKNUM), 9), 0);
  });

  test("loses bits of both heap blocks of an update in the blocks that the record refers to", () => {
    const inOne = withMap(updateOf(3, 4, 9), [2, 0]);
    const both = applyRecord(fullMap(), inOne, 0, VISIBILITYMAP_FORKNUM);
    assert.deepEqual([3, 4, 5, 8, 9, 10].map((i) => entry(both, i)), [3, 0, 3, 3, 0, 3]);
    const inTwo = withMap(updateOf(3, 4, PER_PAGE + 9), [2, 0], [3, 1]);
    const ofNew = applyRecord(fullMap(), inTwo, 0, VISIBILITYMAP_FORKNUM);
    assert.deepEqual([4, 9].map((i) => entry(ofNew, i)), [0, 3]);
    const ofOld = applyRecord(fullMap(), inTwo, 1, VISIBILITYMAP_FORKNUM);
    assert.deepEqual([4, 9].map((i) => entry(ofOld, i)), [3, 0]);
  });

  test("is not what another block reference of a heap record may be", () => {
    const second = (fork: number, blkno: number, flags = 1): RecordSpec => ({
      ...insertOf(flags, 5),
      blocks: [{ id: 0, rel: REL, blkno: 5 }, { id: 1, rel: REL, fork, blkno }],
    });
    for (
      const [spec, blkno, fork] of [[second(0, 6), 6, 0], [second(2, 1), 1, 2], [
        second(2, 0, 0),
        0,
        2,
      ]] as const
    ) {
      assert.throws(
        () => applyRecord(fullMap(), spec, blkno, fork),
        /Heap INSERT .* block reference 1 does not belong to this type of record/,
      );
    }
  });

  test("stays all-visible under a lock, which only ends all-frozen", () => {
    const map = applyRecord(fullMap(), lockOf(9), 0, VISIBILITYMAP_FORKNUM);
    assert.deepEqual([8, 9, 10].map((i) => entry(map, i)), [3, 1, 3]);
  });

  test("gets bits from a record that refers to its page, which may be new", () => {
    const visible: RecordSpec = {
      rmid: RM_HEAP2_ID,
      info: 0x40,
      main: bytes(u32(1), u8(1)),
      blocks: [{ id: 0, rel: REL, fork: VISIBILITYMAP_FORKNUM, blkno: 1 }, {
        id: 1,
        rel: REL,
        blkno: PER_PAGE + 2,
      }],
    };
    const map = applyRecord(null, visible, 1, VISIBILITYMAP_FORKNUM);
    assert.deepEqual([1, 2, 3].map((i) => entry(map, PER_PAGE + i)), [0, 1, 0]);
    assert.equal(lsnOf(map), END_LSN);
    map.set(u32(0, 0), 0);
    assert.equal(lsnOf(applyRecord(map, visible, 1, VISIBILITYMAP_FORKNUM)), 0, "nothing changed");
    const elsewhere = { ...visible, blocks: [visible.blocks![0], { id: 1, rel: REL, blkno: 2 }] };
    assert.throws(
      () => applyRecord(null, elsewhere, 1, VISIBILITYMAP_FORKNUM),
      /does not cover heap block 2/,
    );
  });

  test("forgets heap blocks that are cut off", () => {
    const truncated = (heapBlocks: number, vmBlock: number): Uint8Array => {
      startPage(fullMap());
      redoTruncateVisibilityMap(heapBlocks, vmBlock);
      const map = new Uint8Array(8192);
      finishPage(map);
      return map;
    };
    const map = truncated(PER_PAGE + 6, 1);
    assert.deepEqual([4, 5, 6, 7, 8, PER_PAGE - 1].map((i) => entry(map, i)), [3, 3, 0, 0, 0, 0]);
    assert.deepEqual(truncated(PER_PAGE + 6, 0), fullMap());
    assert.deepEqual(truncated(PER_PAGE, 1).subarray(24), new Uint8Array(8168));
    assert.deepEqual(
      [0, 1, PER_PAGE, PER_PAGE + 1].map(visibilityMapBlocksAfterTruncate),
      [0, 1, 1, 2],
    );
  });

  test("is not changed by a record that does not clear anything there", () => {
    assert.throws(
      () => applyRecord(fullMap(), insertOf(1, 5), 1, VISIBILITYMAP_FORKNUM),
      /Heap INSERT .* block 1 of the visibility map: the record clears nothing/,
    );
  });
});
