import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { AssertionError } from "../../../../src/common/assert.ts";
import { MemoryLayer } from "../../../../src/pagestore/memory/memory_layer.ts";
import { BufferPool } from "../../../../src/common/buffer_pool.ts";
import { VERSION_PIECE_BYTES } from "../../../../src/pagestore/memory/version_table.ts";
import { Random, seeds } from "../../../harness/random.ts";
import { SIZE_BLOCK } from "../../../../src/pagestore/value/object_id.ts";
import { ValueChain } from "../../../../src/pagestore/value/value_chain.ts";

const CHUNK = 1 << 20;

function lsns(layer: MemoryLayer, slot: number, block: number, lsn: number): number[] {
  const chain = new ValueChain();
  layer.collect(slot, block, lsn, -1, chain);
  return Array.from(chain.lsn.subarray(0, chain.count));
}

describe("a memory layer", () => {
  test("hands out the very bytes it was given, without a copy", () => {
    const layer = new MemoryLayer(0);
    const wal = new Uint8Array(100);
    layer.put(3, 7, 10, wal, 20, 30, 5, true);
    const chain = new ValueChain();
    layer.collect(3, 7, 10, -1, chain);
    assert.equal(chain.bytes[0], wal);
    assert.deepEqual([chain.count, chain.off[0], chain.len[0], chain.tag[0], chain.complete], [
      1,
      20,
      30,
      5,
      true,
    ]);
  });

  test("gives versions newest first, from the LSN asked for to one that needs none before it", () => {
    const layer = new MemoryLayer(0);
    const wal = new Uint8Array(8);
    layer.put(0, 1, 10, wal, 0, 1, 0, false);
    layer.put(0, 1, 20, wal, 0, 1, 0, true);
    layer.put(0, 1, 30, wal, 0, 1, 0, false);
    layer.put(0, 1, 30, wal, 1, 1, 0, false);
    layer.put(0, 1, 40, wal, 0, 1, 0, false);
    assert.deepEqual(lsns(layer, 0, 1, 39), [30, 30, 20]);
    assert.deepEqual(lsns(layer, 0, 1, 100), [40, 30, 30, 20]);
    assert.deepEqual(lsns(layer, 0, 1, 19), [10]);
    assert.deepEqual(lsns(layer, 0, 1, 9), []);
    assert.deepEqual(lsns(layer, 0, 2, 100), []);
    assert.deepEqual(lsns(layer, 9, 1, 100), []);
  });

  test("keeps the size entry apart from the last block", () => {
    const layer = new MemoryLayer(0);
    layer.putValue(0, SIZE_BLOCK, 10, Uint8Array.of(1), 0, true);
    layer.putValue(0, SIZE_BLOCK - 1, 20, Uint8Array.of(2), 0, true);
    assert.deepEqual(lsns(layer, 0, SIZE_BLOCK, 30), [10]);
    assert.deepEqual(lsns(layer, 0, SIZE_BLOCK - 1, 30), [20]);
    assert.deepEqual(layer.blocksOf(0), [SIZE_BLOCK - 1, SIZE_BLOCK]);
  });

  test("finds near and far blocks whatever order they come in, and stays small for a stray one", () => {
    const layer = new MemoryLayer(0);
    const blocks = [3_000_000_000, 2 ** 24, 2 ** 24 - 1, 5, 2 ** 24 + 1, 2 ** 23 + 1, 0, 64, 63];
    layer.put(0, 5, 1, new Uint8Array(1), 0, 1, 0, true);
    const before = layer.memoryBytes;
    layer.put(0, blocks[0], 1, new Uint8Array(1), 0, 1, 0, true);
    assert.ok(layer.memoryBytes - before < 1000, `${layer.memoryBytes - before} bytes for one block`);
    blocks.forEach((block, i) => layer.put(0, block, 10 + i, new Uint8Array(1), 0, 1, 0, true));
    blocks.forEach((block, i) => assert.deepEqual(lsns(layer, 0, block, 100), [10 + i], `block ${block}`));
    assert.deepEqual(layer.blocksOf(0), [...blocks].sort((x, y) => x - y));
  });

  test("counts a WAL buffer once, also when small values come in between", () => {
    const layer = new MemoryLayer(0);
    const wal = new Uint8Array(CHUNK);
    for (let i = 1; i <= 100; i++) {
      layer.put(0, i, i, wal, 0, 10, 0, true);
      layer.putValue(0, SIZE_BLOCK, i, Uint8Array.of(i), 0, true);
      layer.put(0, i, i, new Uint8Array(0), 0, 0, 0, true);
    }
    assert.ok(layer.memoryBytes < 1.2 * CHUNK, `${layer.memoryBytes} bytes`);
    assert.ok(layer.memoryBytes > CHUNK);
  });

  test("copies what is given to putValue, small or large", () => {
    const layer = new MemoryLayer(0);
    const small = Uint8Array.of(1, 2, 3);
    const large = new Uint8Array(100_000).fill(7);
    layer.putValue(0, 0, 1, small, 0, true);
    layer.putValue(0, 1, 2, large, 0, true);
    small.fill(0);
    large.fill(0);
    const chain = new ValueChain();
    layer.collect(0, 0, 9, -1, chain);
    layer.collect(0, 1, 9, -1, chain);
    assert.deepEqual([...chain.bytes[0].subarray(chain.off[0], chain.off[0] + 3)], [1, 2, 3]);
    assert.equal(chain.bytes[1][chain.off[1] + chain.len[1] - 1], 7);
  });

  test("tells of a block whose versions have become many, and takes an image for the last of them", () => {
    const layer = new MemoryLayer(0, undefined, 1000);
    const wal = new Uint8Array(100);
    for (let lsn = 1; lsn <= 20; lsn++) {
      layer.put(0, 1, lsn, wal, 0, 100, 1, lsn === 1);
      layer.put(0, 2, lsn, wal, 0, 100, 1, true);
      for (const chain of layer.takeLongChains()) {
        assert.deepEqual(chain, { slot: 0, block: 1, lsn });
        layer.putImage(chain, { tag: 9, bytes: Uint8Array.of(0, 7, 7, 0), off: 1, len: 2 });
      }
    }
    // Versions of 124 bytes: the ninth after the first is more than 1,000, and so is the ninth after that.
    assert.deepEqual(lsns(layer, 0, 1, 20), [20, 19]);
    assert.deepEqual(lsns(layer, 0, 1, 19), [19]);
    assert.deepEqual(lsns(layer, 0, 1, 18), [18, 17, 16, 15, 14, 13, 12, 11, 10]);
    assert.deepEqual(lsns(layer, 0, 1, 9), [9, 8, 7, 6, 5, 4, 3, 2, 1]);
    const chain = new ValueChain();
    layer.collect(0, 1, 10, -1, chain);
    assert.deepEqual([chain.count, chain.tag[0], chain.len[0], chain.complete], [1, 9, 2, true]);
    assert.deepEqual([...chain.bytes[0].subarray(chain.off[0], chain.off[0] + 2)], [7, 7]);
  });

  test("is as if what is forgotten had never been there", () => {
    for (const seed of seeds(20)) {
      const random = new Random(seed);
      const pools = { values: new BufferPool(CHUNK), versions: new BufferPool(VERSION_PIECE_BYTES) };
      const [layer, model] = [new MemoryLayer(0, pools, 500), new MemoryLayer(0, undefined, 500)];
      const wal = new Uint8Array(100);
      let kept = 0;
      for (let lsn = 1; lsn <= 3000; lsn++) {
        const isForgotten = random.oneIn(10);
        for (let n = random.int(4); n > 0; n--) {
          const slot = random.int(isForgotten ? 6 : 4);
          const block = random.oneIn(5) ? SIZE_BLOCK : random.oneIn(50) ? 2 ** 30 : random.int(300);
          const willInit = random.oneIn(3);
          layer.put(slot, block, lsn, wal, 0, 10, 1, willInit);
          if (!isForgotten) model.put(slot, block, lsn, wal, 0, 10, 1, willInit);
        }
        if (isForgotten) layer.forgetAbove(kept);
        else kept = lsn;
        assert.equal(layer.entryCount, model.entryCount);
        assert.equal(layer.lastPutLsn, model.lastPutLsn);
      }
      assert.equal(layer.objectCount, model.objectCount);
      for (let slot = 0; slot < 6; slot++) {
        assert.deepEqual(layer.blocksOf(slot), model.blocksOf(slot));
        assert.equal(layer.firstLsnOf(slot), model.firstLsnOf(slot));
        for (const block of model.blocksOf(slot)) {
          for (const at of [500, 1500, 3000]) {
            assert.deepEqual(lsns(layer, slot, block, at), lsns(model, slot, block, at));
          }
        }
      }
    }
  });

  test("refuses a version that is older than the last one, or than the layer", () => {
    const layer = new MemoryLayer(100);
    assert.throws(() => layer.put(0, 0, 100, new Uint8Array(1), 0, 1, 0, true), AssertionError);
    layer.put(0, 0, 120, new Uint8Array(1), 0, 1, 0, true);
    assert.throws(() => layer.put(0, 0, 119, new Uint8Array(1), 0, 1, 0, true), AssertionError);
  });
});
