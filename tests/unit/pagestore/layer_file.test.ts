import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { ZenithError } from "../../../src/common/errors.ts";
import { BlockCache } from "../../../src/pagestore/layer/block_cache.ts";
import { KEYS_PER_INDEX_BLOCK, LAYER_DELTA } from "../../../src/pagestore/layer/layer_format.ts";
import { localLayers } from "../../../src/pagestore/layer/layer_files.ts";
import { type LayerInfo, LayerReader } from "../../../src/pagestore/layer/layer_reader.ts";
import { LayerWriter } from "../../../src/pagestore/layer/layer_writer.ts";
import { type ObjectId, ObjectTable } from "../../../src/pagestore/value/object_id.ts";
import { RecordStarts } from "../../../src/pagestore/value/record_starts.ts";
import { ValueChain } from "../../../src/pagestore/value/value_chain.ts";
import { FaultyDisk } from "../../harness/faulty_disk.ts";
import { Random } from "../../harness/random.ts";

const PATH = "/d/1.layer";
const END = 2 ** 40;

function object(c: number): ObjectId {
  return { kind: 1, a: 1663, b: 5, c, d: 0 };
}

function newDisk(): FaultyDisk {
  const disk = new FaultyDisk(new Random(1));
  disk.mkdirSync("/d");
  return disk;
}

function write(disk: FaultyDisk, fill: (writer: LayerWriter) => void): LayerInfo {
  const writer = new LayerWriter(disk, "/d", PATH, LAYER_DELTA, 0, END);
  fill(writer);
  const starts = new RecordStarts();
  for (let i = 1; i <= 5; i++) starts.add(i * 100);
  const { fileSize, footerCrc } = writer.finish(starts.blocks());
  return { kind: LAYER_DELTA, startLsn: 0, endLsn: END, fileSize, footerCrc };
}

function open(disk: FaultyDisk, info: LayerInfo, objects: ObjectTable): LayerReader {
  return new LayerReader(localLayers(disk), PATH, info, new BlockCache(1 << 24), objects);
}

function isCorrupt(error: unknown): boolean {
  return error instanceof ZenithError && error.kind === "corrupt_data" && error.message.includes(PATH);
}

describe("a layer file", () => {
  test("finds each of many keys over several index blocks, and no key beside them", async () => {
    const disk = newDisk();
    const perObject = KEYS_PER_INDEX_BLOCK - 1000;
    const value = Uint8Array.of(1, 2, 3, 4);
    const info = write(disk, (writer) => {
      for (let c = 0; c < 3; c++) {
        for (let block = 0; block < perObject; block++) {
          writer.startKey(object(10 * c), 2 * block);
          writer.add(1000 + c * perObject + block, value, 0, 4, c, 1);
        }
      }
    });
    const objects = new ObjectTable();
    // Slots in another order than the file's.
    const slots = [2, 1, 0].map((c) => objects.slot(1, 1663, 5, 10 * c, 0)).reverse();
    const reader = open(disk, info, objects);
    const chain = new ValueChain();
    for (let c = 0; c < 3; c++) {
      for (let block = 0; block < perObject; block++) {
        chain.clear();
        reader.collect(slots[c], 2 * block, END, -1, chain);
        assert.equal(chain.count, 1);
        assert.equal(chain.lsn[0], 1000 + c * perObject + block);
        reader.collect(slots[c], 2 * block + 1, END, -1, chain);
        reader.collect(objects.slot(1, 1663, 5, 10 * c + 1, 0), 2 * block, END, -1, chain);
        assert.equal(chain.count, 1);
      }
    }
  });

  test("reads a hot key at any LSN, over many data blocks, without those above", async () => {
    const disk = newDisk();
    const random = new Random(3);
    const versions = 5000;
    const info = write(disk, (writer) => {
      writer.startKey(object(1), 0);
      for (let i = 1; i <= versions; i++) {
        writer.add(10 * i, random.bytes(100), 0, 100, 0, i % 1000 === 1 ? 1 : 0);
      }
    });
    const objects = new ObjectTable();
    const slot = objects.slot(1, 1663, 5, 1, 0);
    const chain = new ValueChain();
    for (const version of [1, 2, 999, 1000, 1001, 1002, 3456, 5000]) {
      const reader = open(disk, info, objects);
      const before = disk.operations;
      chain.clear();
      reader.collect(slot, 0, 10 * version + 9, -1, chain);
      assert.equal(chain.count, (version - 1) % 1000 + 1);
      assert.equal(chain.lsn[0], 10 * version);
      assert.equal(chain.complete, true);
      // The file, footer, head and index, and at most three of the nine blocks.
      assert.ok(disk.operations - before <= 4 + 3, `${disk.operations - before} operations`);
    }
  });

  test("takes values of any size, the empty one included", async () => {
    const disk = newDisk();
    const sizes = [0, 1, 65_535, 65_536, 1_000_000, 0, 3];
    const random = new Random(4);
    const values = sizes.map((size) => random.bytes(size));
    const info = write(disk, (writer) => {
      for (const [block, value] of values.entries()) {
        writer.startKey(object(1), block);
        writer.add(77, value, 0, value.length, 9, 1);
      }
    });
    const objects = new ObjectTable();
    const reader = open(disk, info, objects);
    const chain = new ValueChain();
    for (const [block, value] of values.entries()) {
      chain.clear();
      reader.collect(objects.slot(1, 1663, 5, 1, 0), block, 77, -1, chain);
      assert.deepEqual(chain.bytes[0].slice(chain.off[0], chain.off[0] + chain.len[0]), value);
    }
  });

  test("knows its record starts", async () => {
    const disk = newDisk();
    const info = write(disk, (writer) => {
      writer.startKey(object(1), 0);
      writer.add(1, new Uint8Array(1), 0, 1, 0, 1);
    });
    const reader = open(disk, info, new ObjectTable());
    const found = { start: 0, prev: 0 };
    assert.equal(reader.findStart(399, found), true);
    assert.deepEqual(found, { start: 300, prev: 200 });
    assert.equal(reader.findStart(99, found), false);
    assert.equal(reader.lastStart(), 500);
  });

  test("says so when any byte of it is wrong, and never gives a wrong value", async () => {
    const disk = newDisk();
    const info = write(disk, (writer) => {
      for (let block = 0; block < 20; block++) {
        writer.startKey(object(block >> 2), block);
        writer.add(block + 1, new Random(block).bytes(5), 0, 5, block, 1);
      }
    });
    const good = disk.readFileSync(PATH);
    assert.equal(good.length, info.fileSize);
    const file = disk.openSync(PATH, "write");
    for (let at = 0; at < good.length; at++) {
      file.writeSync(Uint8Array.of(good[at] ^ (1 << (at % 8))), 0, 1, at);
      assert.throws(() => readAll(disk, info), isCorrupt, `byte ${at} of ${good.length}`);
      file.writeSync(good, at, 1, at);
    }
    readAll(disk, info);
    file.truncateSync(good.length - 1);
    assert.throws(() => readAll(disk, info), isCorrupt);
  });

  test("is not taken for another one", async () => {
    const disk = newDisk();
    const fill = (value: number) => (writer: LayerWriter) => {
      writer.startKey(object(1), 0);
      writer.add(1, Uint8Array.of(value), 0, 1, 0, 1);
    };
    const info = write(disk, fill(1));
    write(disk, fill(2));
    assert.throws(() => readAll(disk, info), isCorrupt);
  });
});

function readAll(disk: FaultyDisk, info: LayerInfo): void {
  const objects = new ObjectTable();
  const reader = open(disk, info, objects);
  reader.verify();
  const chain = new ValueChain();
  for (let block = 0; block < 20; block++) {
    chain.clear();
    reader.collect(objects.slot(1, 1663, 5, block >> 2, 0), block, END, -1, chain);
    assert.equal(chain.count, 1);
    assert.deepEqual(chain.bytes[0].slice(chain.off[0], chain.off[0] + 5), new Random(block).bytes(5));
  }
  assert.equal(reader.findStart(500, { start: 0, prev: 0 }), true);
}
