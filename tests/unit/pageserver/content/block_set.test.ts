import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { BlockSet } from "../../../../src/pageserver/content/block_set.ts";

function setOf(blocks: readonly number[]): BlockSet {
  const set = new BlockSet();
  for (const block of blocks) set.add(block);
  return set;
}

describe("a set of blocks", () => {
  test("has each once, ascending, however high", () => {
    const blocks = [0, 31, 32, 63, 8191, 8192, 1_000_000, 0xfffffffe];
    const set = setOf([...blocks].reverse().concat(blocks));
    assert.equal(set.count, blocks.length);
    assert.deepEqual([...set.blocks()], blocks);
    assert.ok(blocks.every((block) => set.has(block)));
    assert.ok([1, 30, 33, 8190, 8193, 999_999].every((block) => !set.has(block)));
  });

  test("is told as ranges", () => {
    assert.deepEqual(new BlockSet().ranges(10), []);
    assert.deepEqual(setOf([0, 1, 2, 8191, 8192, 9000]).ranges(10), [0, 3, 8191, 8193, 9000, 9001]);
  });

  test("takes others along where ranges would be too many", () => {
    const set = setOf([0, 2, 4, 100, 103, 9000]);
    assert.deepEqual(set.ranges(6), [0, 1, 2, 3, 4, 5, 100, 101, 103, 104, 9000, 9001]);
    assert.deepEqual(set.ranges(5), [0, 5, 100, 101, 103, 104, 9000, 9001]);
    assert.deepEqual(set.ranges(3), [0, 5, 100, 104, 9000, 9001]);
    assert.deepEqual(set.ranges(1), [0, 9001]);
  });
});
