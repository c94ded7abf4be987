import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as zlib from "node:zlib";
import { decompressFrame } from "../../../../src/pagestore/layer/decompress.ts";

const content = (bytes: number) => Uint8Array.from({ length: bytes }, (_, i) => (i * 7) & 0x3f);

/** Offset of the content's length in a frame of one segment without a dictionary: RFC 8878, 3.1.1.1. */
const SIZE_AT = 5;

describe("decompressing frames", () => {
  // The frame's header has 1, 2, 4 bytes for the length.
  for (const bytes of [1, 255, 256, 65_791, 65_792, 300_000]) {
    test(`gives back ${bytes} bytes`, () => {
      const frame = zlib.zstdCompressSync(content(bytes));
      assert.deepEqual(new Uint8Array(decompressFrame(frame, bytes)), content(bytes));
    });
  }

  test("takes a frame that does not say how long its content is", async () => {
    const stream = zlib.createZstdCompress();
    const chunks: Uint8Array[] = [];
    stream.on("data", (chunk: Uint8Array) => chunks.push(chunk));
    const ended = new Promise((resolve) => stream.on("end", resolve));
    stream.write(content(1000));
    stream.end(content(1000));
    await ended;
    const expected = new Uint8Array([...content(1000), ...content(1000)]);
    assert.deepEqual(new Uint8Array(decompressFrame(Buffer.concat(chunks), 2000)), expected);
  });

  test("refuses content that is longer than expected", () => {
    assert.throws(() => decompressFrame(zlib.zstdCompressSync(content(5000)), 4999));
  });

  test("makes nothing of a length that the header has wrong", () => {
    for (const says of [4000, 6000]) {
      const frame = new Uint8Array(zlib.zstdCompressSync(content(5000)));
      new DataView(frame.buffer).setUint16(SIZE_AT, says - 256, true);
      assert.throws(() => decompressFrame(frame, says));
    }
  });

  test("makes nothing of what is cut off, or is no frame", () => {
    const frame = zlib.zstdCompressSync(content(5000));
    for (const length of [0, 3, 4, 5, 6, 20, frame.length - 1]) {
      assert.notEqual(lengthOf(frame.subarray(0, length), 5000), 5000);
    }
    assert.notEqual(lengthOf(content(100), 5000), 5000);
  });
});

/** Runtimes differ in whether an empty frame has no content, or is an error. */
function lengthOf(frame: Uint8Array, rawLen: number): number {
  try {
    return decompressFrame(frame, rawLen).length;
  } catch {
    return -1;
  }
}
