import { describe, test } from "node:test";
import assert from "node:assert/strict";
import {
  type FoundStart,
  RecordStarts,
  STARTS_PER_BLOCK,
} from "../../../../src/pagestore/value/record_starts.ts";
import { Random } from "../../../harness/random.ts";

function build(count: number, random: Random): { starts: RecordStarts; list: number[] } {
  const starts = new RecordStarts();
  const list: number[] = [];
  // Beyond 2^32, as real LSNs are.
  let at = 5 * 2 ** 32;
  for (let i = 0; i < count; i++) {
    at += random.oneIn(1000)
      ? 2 ** 33 + 1
      : random.oneIn(20)
      ? 1 + random.int(70_000)
      : 8 * (3 + random.int(60));
    starts.add(at);
    list.push(at);
  }
  return { starts, list };
}

describe("record starts", () => {
  test("find every start, and the one before it, from any LSN between two", () => {
    const { starts, list } = build(2 * STARTS_PER_BLOCK + 100, new Random(1));
    const found: FoundStart = { start: 0, prev: 0 };
    for (let i = 0; i < list.length; i += 1 + (i % STARTS_PER_BLOCK < 3 ? 0 : 50)) {
      const next = list[i + 1] ?? list[i] + 1000;
      for (const lsn of [list[i], next - 1]) {
        assert.equal(starts.find(lsn, found), true);
        assert.deepEqual(found, { start: list[i], prev: i === 0 ? -1 : list[i - 1] }, `start ${i}`);
      }
    }
  });

  test("know nothing before the first one", () => {
    const { starts, list } = build(10, new Random(2));
    assert.equal(starts.find(list[0] - 1, { start: 0, prev: 0 }), false);
    assert.equal(new RecordStarts().find(1000, { start: 0, prev: 0 }), false);
  });

  test("take about one byte per record of usual size", () => {
    const starts = new RecordStarts();
    for (let i = 0; i < 10_000; i++) starts.add(i * 120);
    let bytes = 0;
    for (const { distances } of starts.blocks()) bytes += distances.length;
    assert.ok(bytes <= 10_000, `${bytes} bytes`);
  });
});
