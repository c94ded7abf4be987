/** What backups are compressed with, against the programs that compress. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import { deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import {
  type Compression,
  compressionOf,
  decompress,
  decompressAny,
} from "../../../src/archive/compression/decompress.ts";
import { findProgram } from "../../../src/process/find_program.ts";
import { Random } from "../../harness/random.ts";

async function* pieces(bytes: Uint8Array, length: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

async function unpacked(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of source) parts.push(part.slice());
  return Buffer.concat(parts);
}

/** Text with words and runs that come again, of several blocks of bzip2. */
function text(bytes: number): Buffer {
  const random = new Random(3);
  const out = Buffer.alloc(bytes);
  for (let at = 0; at < bytes;) {
    const length = 1 + random.int(random.int(20) === 0 ? 700 : 9);
    if (random.int(3) === 0) out.fill(random.int(256), at, at + length);
    else out.write(`word${random.int(400)} `, at, length, "latin1");
    at += length;
  }
  return out;
}

const TEXT = text(450_000);
const digest = (bytes: Uint8Array) => createHash("sha1").update(bytes).digest("hex");

describe("what is compressed", () => {
  test("is recognized by its first bytes, and unpacked", async () => {
    for (const [compression, packed] of [["gz", gzipSync(TEXT)], ["zst", zstdCompressSync(TEXT)]] as const) {
      assert.equal(compressionOf(packed), compression);
      assert.equal(digest(await unpacked(decompressAny(pieces(packed, 1000)))), digest(TEXT));
    }
    assert.equal(compressionOf(TEXT), "none");
    assert.equal(digest(await unpacked(decompressAny(pieces(TEXT, 1000)))), digest(TEXT));
    assert.equal((await unpacked(decompressAny(pieces(Buffer.alloc(0), 1)))).length, 0);
  });

  test("has no header in a bundle", async () => {
    const packed = deflateSync(TEXT);
    assert.equal(digest(await unpacked(decompress(pieces(packed, 4096), "gz", true))), digest(TEXT));
  });

  test("never gives more than there was when it is cut short", async () => {
    const cut: [Compression, Buffer][] = [["gz", gzipSync(TEXT)], ["zst", zstdCompressSync(TEXT)]];
    for (const [compression, packed] of cut) {
      const half = packed.subarray(0, packed.length >> 1);
      // Not every runtime calls half a zstd frame an error, so whoever reads looks at the length.
      const found = await unpacked(decompress(pieces(half, 1000), compression)).catch(() => null);
      assert.ok(found === null || found.length < TEXT.length);
      if (compression === "gz") assert.equal(found, null);
    }
  });
});

describe("bzip2", () => {
  const KNOWN: Readonly<Record<string, readonly [packed: string, content: Buffer]>> = {
    nothing: ["QlpoORdyRThQkAAAAAA=", Buffer.alloc(0)],
    "one byte": ["QlpoOTFBWSZTWRmTm2sAAAABACAAIAAhGEaC7kinChIDMnNtYA==", Buffer.from("a")],
    runs: [
      "QlpoMTFBWSZTWcGjqUwAAAXBCOAAPAAAAIAIoAAxBkxAimpNp6p5SQB7gN31hcM1tjryxwHkr38XckU4UJDBo6lM",
      Buffer.concat([
        Buffer.alloc(3000),
        Buffer.from("ababbbbb" + "c".repeat(259) + "d".repeat(260)),
        Buffer.alloc(5, 0xff),
      ]),
    ],
  };

  for (const [name, [packed, content]] of Object.entries(KNOWN)) {
    test(`unpacks ${name}, however it comes`, async () => {
      const bytes = Buffer.from(packed, "base64");
      assert.equal(compressionOf(bytes), "bz2");
      for (const length of [1, 7, 1000]) {
        assert.deepEqual(await unpacked(decompress(pieces(bytes, length), "bz2")), content);
      }
      const twice = Buffer.concat([bytes, bytes]);
      assert.equal((await unpacked(decompress(pieces(twice, 50), "bz2"))).length, 2 * content.length);
    });
  }

  test("finds each bit that was changed, and each byte that is missing", async () => {
    const [packed, content] = KNOWN["runs"]!;
    const bytes = Buffer.from(packed, "base64");
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const damaged = Buffer.from(bytes);
      damaged[bit >> 3]! ^= 0x80 >> (bit & 7);
      // The level may be another one, and the last bits only fill a byte.
      const found = await unpacked(decompress(pieces(damaged, 4096), "bz2")).catch((error: Error) => error);
      if (found instanceof Error) assert.match(found.message, /^the bzip2 data is damaged: /);
      else assert.ok(found.equals(content), `bit ${bit}`);
    }
    for (let length = 1; length < bytes.length; length++) {
      await assert.rejects(unpacked(decompress(pieces(bytes.subarray(0, length), 4096), "bz2")), /damaged/);
    }
  });

  const skip = findProgram("bzip2") === undefined ? "there is no bzip2 here" : false;
  test("unpacks what the program has packed, of every level", { skip }, async () => {
    for (const level of [1, 2, 9]) {
      const packed = spawnSync("bzip2", [`-${level}`, "-c"], { input: TEXT, maxBuffer: 1 << 24 }).stdout;
      assert.equal(digest(await unpacked(decompress(pieces(packed, 65_536), "bz2"))), digest(TEXT));
    }
  });
});

/** A thousand bytes of it are not all. */
const KNOWN_BZIP2 = Buffer.concat(
  Array.from(
    { length: 60 },
    () => Buffer.from("QlpoOTFBWSZTWRmTm2sAAAABACAAIAAhGEaC7kinChIDMnNtYA==", "base64"),
  ),
);

test("what is no longer read is closed, whatever it is compressed with", async () => {
  for (const packed of [TEXT, gzipSync(TEXT), zstdCompressSync(TEXT), KNOWN_BZIP2]) {
    let isClosed = false;
    const source = (async function* () {
      try {
        yield* pieces(packed, 1000);
      } finally {
        isClosed = true;
      }
    })();
    for await (const _bytes of decompressAny(source)) break;
    assert.equal(isClosed, true);
  }
});
