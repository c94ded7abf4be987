import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  blocksOf,
  MAX_HEADER_BYTES,
  nameWithoutPrefix,
  parseIncrementalHeader,
  withPrefix,
} from "../../../src/postgres/cluster/incremental_file.ts";

function file(truncationBlocks: number, blocks: readonly number[], magic = 0xd3ae1f0d): Buffer {
  const words = [magic, blocks.length, truncationBlocks, ...blocks];
  const unpadded = 4 * words.length;
  const header = blocks.length === 0 ? unpadded : Math.ceil(unpadded / 8192) * 8192;
  const bytes = Buffer.alloc(header + 8192 * blocks.length);
  words.forEach((word, i) => bytes.writeUInt32LE(word, 4 * i));
  return bytes;
}

const parse = (bytes: Buffer) =>
  parseIncrementalHeader(bytes.subarray(0, MAX_HEADER_BYTES), bytes.length, "there");

describe("a file of an incremental backup", () => {
  test("says which blocks it has, where they begin, and how long the whole file is", () => {
    const some = parse(file(7, [2, 9]));
    assert.deepEqual(some, { truncationBlocks: 7, blocks: [2, 9], bytes: 8192 });
    assert.equal(blocksOf(some), 10);
    assert.equal(blocksOf(parse(file(7, [2]))), 7);
    const many = parse(file(0, Array.from({ length: 2046 }, (_, i) => i)));
    assert.equal(many.bytes, 2 * 8192);
  });

  test("without blocks is not padded", () => {
    assert.deepEqual(parse(file(7, [])), { truncationBlocks: 7, blocks: [], bytes: 12 });
  });

  test("that makes no sense is refused by name", () => {
    assert.throws(() => parse(Buffer.alloc(11)), /there has 11 bytes/);
    assert.throws(() => parse(file(7, [1], 0xd3ae1f0e)), /there begins with d3ae1f0e/);
    assert.throws(
      () => parse(file(7, [1, 2]).subarray(0, -1)),
      /there has \d+ bytes, expected 24576 for 2 blocks/,
    );
    assert.throws(() => parse(file(7, [131_072])), /there has a block 131072/);
    assert.throws(() => parse(file(131_073, [])), /there is of a file of 131073 blocks/);
  });

  test("is named after the whole one, in its directory", () => {
    assert.equal(withPrefix("base/5/1259.1"), "base/5/INCREMENTAL.1259.1");
    assert.equal(nameWithoutPrefix("pg_tblspc/7/PG_18_1/5/INCREMENTAL.1259"), "pg_tblspc/7/PG_18_1/5/1259");
    assert.equal(nameWithoutPrefix(withPrefix("1259")), "1259");
  });
});
