import { V15 } from "../../../../../src/postgres/versions/v15.ts";
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import type { ExpectedRead } from "../../../../../src/compute/lazy/files/first_reads.ts";
import {
  collectHotPages,
  decodeHotPages,
  encodeHotPages,
  type HotRange,
} from "../../../../../src/compute/lazy/pages/hot_pages.ts";
import { PrewarmPlan } from "../../../../../src/compute/lazy/pages/prewarm_plan.ts";
import { FUSE_UNLINK } from "../../../../../src/compute/lazy/fuse/protocol.ts";
import { Kernel } from "../files/kernel.ts";

const BLOCK = 8192;
const SEGMENT = 131072;
const TABLE = { spc: 1663, db: 5, rel: 16384, fork: 0 };

let kernel: Kernel;
beforeEach(() => {
  kernel = new Kernel();
});
afterEach(() => kernel.close());

function table(blocks: number, rel = 16384): number {
  kernel.populate([{ ...TABLE, rel, sourceFork: 0, blocks }]);
  return kernel.walk(`base/5/${rel}`)!.id;
}

function hot(): Pick<HotRange, "rel" | "block" | "count">[] {
  return collectHotPages(V15, kernel.inodes.root).map(({ rel, block, count }) => ({ rel, block, count }));
}

function keep(id: number, block: number): void {
  kernel.data.keep(kernel.inodes.get(id), block, new Uint8Array(BLOCK).fill(1), 0);
}

function write(id: number, block: number): void {
  kernel.write(id, block * BLOCK, new Uint8Array(BLOCK).fill(2));
}

describe("hot are", () => {
  test("blocks that were read or written, and neighbours are one range", () => {
    const id = table(20);
    kernel.read(id, 3 * BLOCK, BLOCK);
    kernel.read(id, 5 * BLOCK, 2 * BLOCK);
    write(id, 4);
    kernel.read(id, 12 * BLOCK + 4096, 4096);
    assert.deepEqual(hot(), [{ rel: 16384, block: 3, count: 4 }, { rel: 16384, block: 12, count: 1 }]);
  });

  test("blocks that a file has got here", () => {
    const id = table(3);
    kernel.read(id, 2 * BLOCK, BLOCK);
    write(id, 3);
    write(id, 4);
    assert.deepEqual(hot(), [{ rel: 16384, block: 2, count: 3 }]);
    const made = kernel.create(kernel.walk("base/5")!.id, "16400");
    write(made.id, 0);
    assert.deepEqual(hot()[0], { rel: 16400, block: 0, count: 1 });
  });

  test("not blocks that were fetched and that nobody has read, were cut off, or given up", () => {
    const id = table(10);
    keep(id, 1);
    kernel.read(id, 8 * BLOCK, BLOCK);
    kernel.truncate(id, 5 * BLOCK);
    kernel.read(id, 2 * BLOCK, BLOCK);
    keep(id, 2);
    assert.deepEqual(hot(), [{ rel: 16384, block: 2, count: 1 }]);
    kernel.space.giveUpAll();
    assert.deepEqual(hot(), []);
  });

  test("not temporary relations, nor what is no relation", () => {
    table(1);
    const directory = kernel.walk("base/5")!.id;
    write(kernel.create(directory, "t3_16400").id, 0);
    write(kernel.create(directory, "pg_internal.init").id, 0);
    assert.deepEqual(hot(), []);
  });

  test("counted from the start of the fork, in every segment", () => {
    table(SEGMENT + 10);
    kernel.read(kernel.walk("base/5/16384.1")!.id, 4 * BLOCK, BLOCK);
    assert.deepEqual(hot(), [{ rel: 16384, block: SEGMENT + 4, count: 1 }]);
  });

  test("first those of which it is little, when there are more than can be noted", () => {
    const large = table(100);
    const small = table(10, 16390);
    kernel.read(large, 0, 50 * BLOCK);
    kernel.read(small, 0, BLOCK);
    kernel.read(small, 2 * BLOCK, BLOCK);
    assert.deepEqual(
      collectHotPages(V15, kernel.inodes.root, 2).map(({ rel, block }) => [rel, block]),
      [[16390, 0], [16390, 2]],
    );
  });
});

describe("a list of hot pages", () => {
  const ranges = [{ ...TABLE, block: 7, count: 9 }, {
    spc: 1664,
    db: 0,
    rel: 1262,
    fork: 2,
    block: 0,
    count: 1,
  }];

  test("is read as it was written", () => {
    assert.deepEqual(decodeHotPages(encodeHotPages(ranges)), ranges);
    assert.deepEqual(decodeHotPages(encodeHotPages([])), []);
  });

  test("is refused when any bit of it is wrong, or a part is missing", () => {
    const bytes = encodeHotPages(ranges);
    for (let at = 0; at < bytes.length; at++) {
      const damaged = bytes.slice();
      damaged[at] ^= 1;
      assert.throws(() => decodeHotPages(damaged), /list of hot pages/);
      assert.throws(() => decodeHotPages(bytes.subarray(0, at)), /list of hot pages/);
    }
  });
});

describe("a plan to prewarm", () => {
  function plan(ranges: readonly HotRange[]): PrewarmPlan {
    return new PrewarmPlan(
      { pg: V15, inodes: kernel.inodes, data: kernel.data, space: kernel.space },
      ranges,
    );
  }

  function blocksOf(reads: readonly ExpectedRead[]): number[] {
    return reads.flatMap(({ block, blocks }) => Array.from({ length: blocks }, (_, i) => block + i));
  }

  test("goes through all that is hot in small steps, and ends", () => {
    table(300);
    const steps = plan([{ ...TABLE, block: 10, count: 200 }]);
    const all: number[] = [];
    for (let reads = steps.next(); reads.length > 0; reads = steps.next()) {
      const blocks = blocksOf(reads);
      assert(blocks.length <= 64);
      all.push(...blocks);
    }
    assert.deepEqual(all, Array.from({ length: 200 }, (_, i) => 10 + i));
    assert.deepEqual(steps.next(), []);
  });

  test("leaves out what has been fetched or written by then", () => {
    const id = table(10);
    const steps = plan([{ ...TABLE, block: 0, count: 10 }]);
    keep(id, 3);
    write(id, 4);
    kernel.write(id, 6 * BLOCK, new Uint8Array(4096));
    assert.deepEqual(blocksOf(steps.next()), [0, 1, 2, 5, 6, 7, 8, 9]);
  });

  test("leaves out what has been cut off, dropped or never heard of", () => {
    const id = table(10);
    table(10, 16390);
    const steps = plan([
      { ...TABLE, block: 2, count: 100 },
      { ...TABLE, rel: 16390, block: 0, count: 5 },
      { ...TABLE, rel: 16391, block: 0, count: 5 },
      { ...TABLE, db: 77, block: 0, count: 5 },
      { ...TABLE, block: SEGMENT, count: 5 },
    ]);
    kernel.truncate(id, 4 * BLOCK);
    kernel.call(FUSE_UNLINK, kernel.walk("base/5")!.id, "16390");
    assert.deepEqual(blocksOf(steps.next()), [2, 3]);
    assert.deepEqual(steps.next(), []);
  });

  test("ends when the overlay would have to give something up for more", () => {
    kernel.close();
    kernel = new Kernel(100 * BLOCK);
    const id = table(300);
    const steps = plan([{ ...TABLE, block: 0, count: 300 }]);
    for (const block of blocksOf(steps.next())) keep(id, block);
    assert.equal(kernel.space.bytes, 64 * BLOCK);
    assert.deepEqual(steps.next(), []);
    assert.deepEqual(kernel.writtenTooMuch, []);
  });
});
