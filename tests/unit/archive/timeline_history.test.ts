import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseHistory, stretchesOfSegment, wayFrom } from "../../../src/archive/timeline_history.ts";
import { lsn } from "../../../src/common/lsn.ts";

test("a timeline's history names those before it, and where each was left", () => {
  const text = "1\t0/3000148\tno recovery target specified\n\n  # a remark\n2\t1A/10\tbefore 2026-11-30\n";
  assert.deepEqual(parseHistory(text), [{ tli: 1, lsn: 0x300_0148 }, { tli: 2, lsn: 0x1a_0000_0010 }]);
  assert.deepEqual(parseHistory(""), []);
});

describe("the way from a timeline", () => {
  const MIB = 1 << 20;
  const left = (tli: number, mib: number) => ({ tli, lsn: lsn(mib * MIB) });
  const histories = new Map([
    [2, [left(1, 20.5)]],
    // From timeline 1 as well, and not from 2: somebody has restored a backup there.
    [3, [left(1, 30.25)]],
    [5, [left(1, 20.5), left(2, 40), left(4, 41.5)]],
  ]);

  test("leads to the newest one that comes from it", () => {
    assert.deepEqual(wayFrom(1, new Map()), [{ tli: 1, leftAt: null }]);
    assert.deepEqual(wayFrom(3, histories), [{ tli: 3, leftAt: null }]);
    assert.deepEqual(wayFrom(2, histories), [
      { tli: 2, leftAt: 40 * MIB },
      { tli: 4, leftAt: 41.5 * MIB },
      { tli: 5, leftAt: null },
    ]);
    assert.equal(wayFrom(1, histories)[0]!.leftAt, 20.5 * MIB);
  });

  test("goes, for a segment, through each timeline that has a part of it", () => {
    const way = wayFrom(1, histories);
    const of = (mib: number) => stretchesOfSegment(way, lsn(mib * MIB), MIB).map(({ tli }) => tli);
    assert.deepEqual(of(19), [1]);
    assert.deepEqual(of(20), [2, 1]);
    assert.deepEqual(of(21), [2]);
    assert.deepEqual(of(39), [2]);
    // It was left between two segments.
    assert.deepEqual(of(40), [4]);
    assert.deepEqual(of(41), [5, 4]);
    assert.deepEqual(of(42), [5]);
  });
});
