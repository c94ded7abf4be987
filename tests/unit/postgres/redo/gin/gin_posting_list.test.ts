import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  decodePostingList,
  encodePostingList,
  mergeItems,
  postingListSize,
} from "../../../../../src/postgres/redo/gin/gin_posting_list.ts";
import { BLCKSZ, SCRATCH, W8 } from "../../../../../src/postgres/redo/page/workspace.ts";

const CAPACITY = 4096;
const decoded = new Float64Array(CAPACITY);

/** An item pointer as the 43-bit integer that posting lists count in. */
function item(block: number, offset: number): number {
  return block * 2048 + offset;
}

function encode(items: number[], capacity = BLCKSZ): number {
  return encodePostingList(Float64Array.from(items), items.length, SCRATCH, capacity);
}

function bytes(size: number): number[] {
  return [...W8.subarray(SCRATCH, SCRATCH + size)];
}

function put(...segment: number[]): number {
  W8.set(segment, SCRATCH);
  return SCRATCH + segment.length;
}

function decode(end: number): number[] {
  return [...decoded.subarray(0, decodePostingList(SCRATCH, end, decoded))];
}

describe("a posting list", () => {
  test("of one item is that item in full, and no bytes", () => {
    assert.deepEqual(bytes(encode([item(0x12345678, 9)])), [0x34, 0x12, 0x78, 0x56, 9, 0, 0, 0]);
  });

  test("holds differences of 7 bits to a byte, least significant first, padded to an even number", () => {
    // 1 -> 01; one block on is 2048 -> 80 10; 300 -> ac 02
    const size = encode([item(0, 1), item(0, 2), item(1, 2), item(1, 302)]);
    assert.deepEqual(bytes(size), [0, 0, 0, 0, 1, 0, 5, 0, 0x01, 0x80, 0x10, 0xac, 0x02, 0]);
  });

  test("holds the widest difference, from the first item to the last there can be, in 7 bytes", () => {
    const items = [item(0, 1), item(0xffffffff, 2047)];
    const size = encode(items);
    assert.deepEqual(bytes(size).slice(6), [7, 0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0]);
    assert.deepEqual(decode(SCRATCH + size), items);
  });

  test("decodes to what was encoded", () => {
    const step = fc.oneof(
      fc.integer({ min: 1, max: 200 }),
      fc.integer({ min: 1, max: 2 ** 29 }),
      fc.constantFrom(
        127,
        128,
        2 ** 14 - 1,
        2 ** 14,
        2 ** 21,
        2 ** 28 - 1,
        2 ** 28,
        2 ** 28 + 1,
        2 ** 35,
        2 ** 38,
      ),
    );
    fc.assert(fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const items = [1];
      for (const by of steps) {
        let next = items.at(-1)! + by;
        if (next % 2048 === 0) next++;
        if (next < 2 ** 43) items.push(next);
      }
      const size = encode(items);
      assert.equal(size % 2, 0);
      assert.equal(postingListSize(SCRATCH, SCRATCH + size), size);
      assert.deepEqual(decode(SCRATCH + size), items);
    }));
  });

  test("that does not fit is refused, and one that just fits is not", () => {
    const items = [1, 2, 3, 4, 5];
    assert.equal(encode(items, 12), 12);
    assert.throws(() => encode(items, 11), /does not fit into 11 bytes/);
  });

  test("is not written behind its room", () => {
    const room = SCRATCH + 16;
    W8.fill(0x5a, room, room + 32);
    const items = Array.from({ length: 50 }, (_, i) => 1 + i * 2 ** 36);
    assert.throws(() => encode(items, 16), /does not fit/);
    assert.ok(W8.subarray(room, room + 32).every((byte) => byte === 0x5a));
  });

  test("of items that do not ascend is refused", () => {
    assert.throws(() => encode([5, 5]), /do not ascend/);
    assert.throws(() => encode([5, 4]), /do not ascend/);
  });
});

describe("a damaged posting list", () => {
  const first = [0, 0, 0, 0, 1, 0];

  test("that reaches beyond its room is an error", () => {
    assert.throws(() => decode(put(...first, 4, 0, 1, 1)), /of 12 bytes, but only 10/);
    assert.throws(() => decode(put(...first)), /cut off/);
  });

  test("that ends within an integer is an error", () => {
    assert.throws(() => decode(put(...first, 2, 0, 1, 0x80)), /ends within an integer/);
  });

  test("with an integer of 8 bytes is an error", () => {
    const integer = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    assert.throws(() => decode(put(...first, 8, 0, ...integer)), /more than 7 bytes/);
  });

  test("with an integer of more than 43 bits is an error", () => {
    const integer = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0];
    assert.throws(() => decode(put(...first, 7, 0, ...integer)), /outside 1 to 2\^43-1/);
  });

  test("with a difference of zero is an error", () => {
    assert.throws(() => decode(put(...first, 2, 0, 1, 0)), /difference 0/);
  });

  test("that counts beyond the last block is an error", () => {
    const list = [0xff, 0xff, 0xff, 0xff, 1, 0, 2, 0, 0xff, 0x7f];
    assert.throws(() => decode(put(...list)), /beyond the last block/);
  });

  test("whose first item has no offset, or one too large, is an error", () => {
    assert.throws(() => decode(put(0, 0, 0, 0, 0, 0, 0, 0)), /offset 0/);
    assert.throws(() => decode(put(0, 0, 0, 0, 0, 8, 0, 0)), /offset 2048/);
  });

  test("of more items than there is room for is an error", () => {
    const end = put(...first, 4, 0, 1, 1, 1, 1);
    assert.throws(() => decodePostingList(SCRATCH, end, new Float64Array(4)), /more than 4 items/);
    assert.equal(decodePostingList(SCRATCH, end, new Float64Array(5)), 5);
  });
});

describe("merging item lists", () => {
  function merge(a: number[], b: number[]): number[] {
    const merged = new Float64Array(a.length + b.length);
    const count = mergeItems(Float64Array.from(a), a.length, Float64Array.from(b), b.length, merged);
    return [...merged.subarray(0, count)];
  }

  test("gives their union in order, whatever their overlap", () => {
    const list = fc.uniqueArray(fc.integer({ min: 1, max: 60 })).map((items) => items.sort((x, y) => x - y));
    fc.assert(fc.property(list, list, (a, b) => {
      assert.deepEqual(merge(a, b), [...new Set([...a, ...b])].sort((x, y) => x - y));
    }));
  });
});
