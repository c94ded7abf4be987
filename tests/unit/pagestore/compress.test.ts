import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import { crc32c } from "../../../src/common/crc32c.ts";
import { compressBlock, storeBlock } from "../../../src/pagestore/compress.ts";
import { DATA_BLOCK_BYTES, decompressBlock } from "../../../src/pagestore/layer_format.ts";

/** Bytes that compress, differently for each seed. */
function text(length: number, seed: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, i) => (i * seed) & 0x3f);
}

const nowhere = () => "a test";

describe("compressing blocks", () => {
  test("gives the same result in the other thread as in this one", async () => {
    const raw = text(DATA_BLOCK_BYTES, 7);
    const here = storeBlock(raw.slice());
    const there = await compressBlock(raw.slice());
    assert.ok(here.bytes.length < raw.length / 10);
    assert.deepEqual(there, here);
    assert.equal(there.crc, crc32c(there.bytes, 0, there.bytes.length));
    assert.deepEqual(decompressBlock(there.bytes, raw.length, there.crc, nowhere), raw);
  });

  test("stores as it is what does not get shorter", async () => {
    const random = Uint8Array.from(randomBytes(DATA_BLOCK_BYTES));
    const stored = await compressBlock(random.slice());
    assert.deepEqual(stored.bytes, random);
  });

  test("tells many blocks under way apart, small and large", async () => {
    const raws = Array.from({ length: 40 }, (_, i) => text(i % 2 === 0 ? 1000 : DATA_BLOCK_BYTES, i + 1));
    const stored = await Promise.all(raws.map((raw) => compressBlock(raw.slice())));
    stored.forEach(({ bytes, crc }, i) => {
      assert.deepEqual(decompressBlock(bytes, raws[i]!.length, crc, nowhere), raws[i]);
    });
  });

  test("takes a large block's buffer, so that nobody changes it meanwhile", async () => {
    const raw = text(DATA_BLOCK_BYTES, 3);
    const stored = compressBlock(raw);
    assert.equal(raw.length, 0);
    await stored;
  });
});
