import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import { crc32c } from "../../../../src/common/crc32c.ts";
import { storeBlock } from "../../../../src/pagestore/layer/compress.ts";
import { DATA_BLOCK_BYTES, decompressBlock } from "../../../../src/pagestore/layer/layer_format.ts";

describe("storing blocks", () => {
  test("compresses what gets shorter by that", () => {
    const raw = Uint8Array.from({ length: DATA_BLOCK_BYTES }, (_, i) => (i * 7) & 0x3f);
    const { bytes, crc } = storeBlock(raw);
    assert.ok(bytes.length < raw.length / 10);
    assert.equal(crc, crc32c(bytes, 0, bytes.length));
    assert.deepEqual(decompressBlock(bytes, raw.length, crc, () => "a test"), raw);
  });

  test("stores as it is what does not", () => {
    const random = Uint8Array.from(randomBytes(DATA_BLOCK_BYTES));
    assert.equal(storeBlock(random).bytes, random);
  });
});
