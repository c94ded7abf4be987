import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { afterEach, describe, test } from "node:test";
import type { MissedRead } from "../../../../../src/compute/lazy/files/fuse_session.ts";
import { Presence, UNIT_BYTES } from "../../../../../src/compute/lazy/files/presence.ts";
import { Random, seeds } from "../../../../harness/random.ts";
import { Kernel } from "./kernel.ts";

const BLOCK = 8192;
const BLOCKS = 64;
/** The overlay's bound. */
const MAX_BLOCKS = 16;

let kernel: Kernel;
afterEach(() => kernel.close());

/** A table of {@link BLOCKS} on the page server, in an overlay of `maxBlocks`. */
function table(maxBlocks = MAX_BLOCKS): number {
  kernel = new Kernel(maxBlocks * BLOCK);
  kernel.populate([{ spc: 1663, db: 5, rel: 16384, fork: 0, sourceFork: 0, blocks: BLOCKS }]);
  return kernel.walk("base/5/16384")!.id;
}

function page(value: number): Uint8Array {
  return new Uint8Array(BLOCK).fill(value);
}

function keep(id: number, block: number, value: number): void {
  kernel.data.keep(kernel.inodes.get(id), block, page(value), 0);
}

function isHere(result: Uint8Array | MissedRead): result is Uint8Array {
  return result instanceof Uint8Array;
}

function blocksHere(id: number): number[] {
  return Array.from({ length: BLOCKS }, (_, block) => block)
    .filter((block) => isHere(kernel.read(id, block * BLOCK, BLOCK)));
}

function diskBytes(id: number): number {
  return statSync(kernel.files.path(id)).blocks * 512;
}

describe("an overlay with a bound", () => {
  test("gives up fetched pages and their disk space, the first ones first", () => {
    const id = table();
    for (let block = 0; block < BLOCKS; block++) {
      keep(id, block, block);
      assert(kernel.space.bytes <= MAX_BLOCKS * BLOCK);
      assert(diskBytes(id) <= MAX_BLOCKS * BLOCK, `${diskBytes(id)} bytes on disk`);
    }
    const here = blocksHere(id);
    assert(here.length >= MAX_BLOCKS - 2, `${here.length} blocks are left`);
    assert.equal(here[0], BLOCKS - here.length);
    for (const block of here) assert.deepEqual(kernel.read(id, block * BLOCK, BLOCK), page(block));
  });

  test("spares those that are read again and again", () => {
    const id = table();
    keep(id, 0, 100);
    for (let block = 1; block < BLOCKS; block++) {
      assert.deepEqual(kernel.read(id, 0, BLOCK), page(100), `at block ${block}`);
      keep(id, block, block);
    }
  });

  test("never gives up what was written, and says when that alone is too much", () => {
    const id = table();
    for (let block = 0; block < MAX_BLOCKS / 2; block++) kernel.write(id, block * BLOCK, page(200 + block));
    for (let block = MAX_BLOCKS; block < BLOCKS; block++) keep(id, block, block);
    assert.deepEqual(kernel.writtenTooMuch, []);
    for (let block = MAX_BLOCKS / 2; block < 2 * MAX_BLOCKS; block++) {
      kernel.write(id, block * BLOCK, page(100 + block));
    }
    assert.deepEqual(kernel.writtenTooMuch, [(MAX_BLOCKS + 1) * BLOCK]);
    keep(id, BLOCKS - 1, 1);
    assert.deepEqual(blocksHere(id), Array.from({ length: 2 * MAX_BLOCKS }, (_, block) => block));
    assert.deepEqual(kernel.read(id, 0, BLOCK), page(200));
    // It is less again after a truncation, and fetched pages find a place.
    kernel.truncate(id, BLOCK);
    assert.equal(kernel.space.bytes, BLOCK);
    assert.deepEqual(kernel.writtenTooMuch, [(MAX_BLOCKS + 1) * BLOCK, 0]);
    for (let block = 0; block < MAX_BLOCKS / 2; block++) kernel.write(id, block * BLOCK, page(0));
    assert.equal(kernel.writtenTooMuch.length, 2);
  });

  test("keeps the written half of a page whose other half it gives up", () => {
    const id = table();
    keep(id, 0, 1);
    kernel.write(id, UNIT_BYTES, new Uint8Array(UNIT_BYTES).fill(2));
    for (let block = 1; block < BLOCKS; block++) keep(id, block, block);
    const miss = kernel.read(id, 0, BLOCK);
    assert(!isHere(miss));
    assert.deepEqual(miss.missing, [0, 1]);
    assert.deepEqual(miss.overlay!.subarray(UNIT_BYTES), new Uint8Array(UNIT_BYTES).fill(2));
  });

  test("has the place of files that are gone", () => {
    const id = table();
    for (let block = 0; block < MAX_BLOCKS; block++) keep(id, block, block);
    const directory = kernel.walk("base/5")!.id;
    kernel.call(10, directory, "16384");
    for (let i = 0; i < 2; i++) kernel.request(2, id, 1, 0);
    assert.equal(kernel.inodes.find(id), undefined);
    assert.equal(kernel.space.bytes, 0);
  });

  test("is right whatever the order of reads, writes and truncations", () => {
    for (const seed of seeds(20)) {
      const random = new Random(seed);
      const id = table(4 + random.int(20));
      const model = new Map<number, number>();
      let blocks = BLOCKS;
      let remoteBlocks = BLOCKS;
      for (let step = 0; step < 600; step++) {
        const block = random.int(blocks + 2);
        if (random.oneIn(100)) {
          blocks = random.int(blocks + 1);
          remoteBlocks = Math.min(remoteBlocks, blocks);
          assert.equal(kernel.truncate(id, blocks * BLOCK).errno, 0);
          for (const written of model.keys()) if (written >= blocks) model.delete(written);
        } else if (random.oneIn(4)) {
          const value = 100 + random.int(100);
          kernel.write(id, block * BLOCK, page(value));
          model.set(block, value);
          blocks = Math.max(blocks, block + 1);
        } else if (block < blocks) {
          const read = kernel.read(id, block * BLOCK, BLOCK);
          const fetchable = block < remoteBlocks && !model.has(block);
          if (isHere(read)) {
            assert.deepEqual(read, page(model.get(block) ?? (fetchable ? block : 0)), `seed ${seed}`);
          } else assert(fetchable, `seed ${seed}: block ${block} was asked for again`);
          if (!isHere(read)) keep(id, block, block);
        }
      }
      kernel.close();
    }
    table();
  });
});

describe("presence", () => {
  test("finds clean units wherever they are among many", () => {
    kernel = new Kernel();
    const presence = new Presence(1000 * UNIT_BYTES);
    presence.addWritten(0, 500);
    for (const unit of [503, 504, 767, 999]) presence.addClean(unit);
    presence.use(504, 505);
    assert.equal(presence.cleanCount, 4);
    assert.equal(presence.findUnused(0), 503);
    assert.equal(presence.giveUp(503, 100), 504);
    assert.equal(presence.findUnused(504), 767);
    assert.equal(presence.findUnused(768), 999);
    assert.equal(presence.findUnused(1000), -1);
    assert.equal(presence.findUnused(0), 504, "the second time round");
    presence.cut(504);
    assert.deepEqual([presence.presentCount, presence.cleanCount], [500, 0]);
  });
});
