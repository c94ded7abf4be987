import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Run } from "../../../../src/pagestore/files/layer_map.ts";
import { pickGarbage, pickMerge } from "../../../../src/pagestore/merge/merge_policy.ts";
import { NOTHING_GIVEN_UP, Retention } from "../../../../src/pagestore/value/retention.ts";
import { Random } from "../../../harness/random.ts";

function run(startLsn: number, endLsn: number, sizeBytes: number, more: Partial<Run> = {}): Run {
  return { startLsn, endLsn, level: 0, givenUp: NOTHING_GIVEN_UP, sizeBytes, layers: [], ...more };
}

/** A run as a garbage collection with `retention` leaves it. */
function collected(of: Run, retention: Retention): Run {
  return { ...of, givenUp: retention.givenUp(of.startLsn, of.endLsn) };
}

describe("merging for the sake of reads", () => {
  test("takes the oldest neighbours of the lowest level that has enough of them", () => {
    const runs = [1, 1, 1, 0, 0, 0, 0, 0].map((level, i) => run(10 * i, 10 * i + 10, 1, { level }));
    assert.deepEqual(pickMerge(runs, 4), { first: runs[3], last: runs[6] });
    assert.deepEqual(pickMerge(runs, 3), { first: runs[3], last: runs[5] });
    assert.deepEqual(pickMerge(runs.slice(0, 6), 3), { first: runs[3], last: runs[5] });
    assert.deepEqual(pickMerge(runs.slice(0, 5), 3), { first: runs[0], last: runs[2] });
    assert.equal(pickMerge(runs.slice(0, 6), 4), null);
  });
});

describe("merging for the sake of garbage", () => {
  test("rewrites a run once a quarter of it has fallen below the cutoff, and again after the next quarter", () => {
    const one = run(1000, 2000, 100);
    assert.equal(pickGarbage([one], new Retention(900, [])), null);
    assert.equal(pickGarbage([one], new Retention(1200, [])), null);
    const retention = new Retention(1300, []);
    assert.deepEqual(pickGarbage([one], retention), { first: one, last: one });
    const again = collected(one, retention);
    assert.equal(pickGarbage([again], retention), null);
    assert.equal(pickGarbage([again], new Retention(1500, [])), null);
    assert.deepEqual(pickGarbage([again], new Retention(1600, [])), { first: again, last: again });
  });

  test("takes an older run along when the newer ones come to a quarter of it", () => {
    const before = new Retention(1000, []);
    const large = collected(run(0, 1000, 800), before);
    const small = run(1000, 1100, 100);
    const next = run(1100, 1200, 100);
    assert.deepEqual(pickGarbage([large, small], new Retention(1100, [])), { first: small, last: small });
    assert.deepEqual(pickGarbage([large, small, next], new Retention(1200, [])), {
      first: large,
      last: next,
    });
  });

  test("leaves older runs alone as long as the newest reaches beyond the cutoff", () => {
    const old = collected(run(0, 1000, 10), new Retention(1000, []));
    const newest = run(1000, 2000, 100);
    assert.deepEqual(pickGarbage([old, newest], new Retention(1999, [])), { first: newest, last: newest });
    assert.deepEqual(pickGarbage([old, newest], new Retention(2000, [])), { first: old, last: newest });
  });

  test("rewrites a run, however old, when branches that led into it are gone", () => {
    const points = [100, 200, 300, 400];
    const old = collected(run(0, 1000, 800), new Retention(1000, points));
    const newer = collected(run(1000, 1100, 10), new Retention(1100, points));
    const runs = [old, newer];
    assert.equal(pickGarbage(runs, new Retention(1100, points)), null);
    assert.equal(
      pickGarbage(runs, new Retention(1100, points.slice(1))),
      null,
      "one of four, and what is newest",
    );
    assert.deepEqual(pickGarbage(runs, new Retention(1100, points.slice(2))), { first: old, last: old });
    // A branch that left above the range of a run has kept nothing in it but what is newest.
    assert.equal(pickGarbage([collected(newer, new Retention(1100, [5]))], new Retention(1100, [])), null);
  });

  test("writes in proportion to what is added and leaves little garbage, however much history there is", () => {
    const random = new Random(1);
    const KEYS = 2000;
    const ADDED = 20;
    // A run of this model has a set of keys, each with its last version only: its size.
    const keysOf = new Map<number, Set<number>>();
    let runs: Run[] = [];
    const all = new Set<number>();
    let written = 0;
    const steps = 3000;
    for (let step = 0; step < steps; step++) {
      const keys = new Set(Array.from({ length: ADDED }, () => random.int(KEYS)));
      for (const key of keys) all.add(key);
      runs.push(run(step, step + 1, keys.size));
      keysOf.set(step + 1, keys);
      const retention = new Retention(step + 1, []);
      for (let due = pickGarbage(runs, retention); due !== null; due = pickGarbage(runs, retention)) {
        const { first, last } = due;
        const merged = runs.filter((one) => first.startLsn <= one.startLsn && one.endLsn <= last.endLsn);
        const union = new Set(merged.flatMap((one) => [...keysOf.get(one.endLsn)!]));
        written += union.size;
        keysOf.set(last.endLsn, union);
        const one = collected(run(first.startLsn, last.endLsn, union.size), retention);
        runs = [...runs.slice(0, runs.indexOf(first)), one, ...runs.slice(runs.indexOf(last) + 1)];
      }
      const size = runs.reduce((sum, one) => sum + one.sizeBytes, 0);
      assert.ok(size <= 1.5 * all.size, `step ${step}: ${size} versions of ${all.size} keys`);
      assert.ok(runs.length <= 8, `step ${step}: ${runs.length} runs`);
    }
    assert.ok(written <= 12 * steps * ADDED, `${written} versions written for ${steps * ADDED} added`);
  });
});
