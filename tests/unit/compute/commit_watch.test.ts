import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Lsn } from "../../../src/common/lsn.ts";
import { STALL_MS, StallDetector } from "../../../src/compute/commit_watch.ts";
import type { CommitProgress } from "../../../src/compute/proposer/commit_progress.ts";

function progress(durable: number, written: number, changes: Partial<CommitProgress> = {}): CommitProgress {
  return {
    durableLsn: durable as Lsn,
    writtenLsn: written as Lsn,
    waits: written > durable,
    connected: true,
    who: "2 of 3 safekeepers",
    obstacles: [],
    ...changes,
  };
}

describe("the detector of commits that wait", () => {
  test("says nothing while they advance, however far they are behind", () => {
    const detector = new StallDetector();
    for (let n = 0; n < 100; n++) {
      assert.equal(detector.step(n * STALL_MS, progress(100 + n, 1_000_000)), undefined);
    }
  });

  test("says nothing while the parts of a long record become durable", () => {
    const detector = new StallDetector();
    for (let n = 0; n < 100; n++) {
      const parts = progress(100, 1_000_000, { partsLsn: (200 + n) as Lsn });
      assert.equal(detector.step(n * STALL_MS, parts), undefined);
    }
    const stuck = progress(100, 1_000_000, { partsLsn: 299 as Lsn });
    assert.notEqual(detector.step(100 * STALL_MS, stuck), undefined);
  });

  test("says nothing while none waits", () => {
    const detector = new StallDetector();
    for (let n = 0; n < 100; n++) assert.equal(detector.step(n * STALL_MS, progress(100, 100)), undefined);
  });

  test("tells since when, and why, and stops when they go on", () => {
    const detector = new StallDetector();
    detector.step(0, progress(100, 100));
    assert.equal(detector.step(1_000, progress(100, 200)), undefined);
    assert.equal(detector.step(999 + STALL_MS, progress(100, 300)), undefined);
    const late = progress(100, 300, { obstacles: ["a: gone", "b: mute"] });
    assert.deepEqual(detector.step(1_000 + STALL_MS, late), { sinceMs: 1_000, reason: "a: gone; b: mute" });
    assert.equal(detector.step(2_000 + STALL_MS, progress(200, 300)), undefined);
  });

  test("names who has to confirm when nothing else is known", () => {
    const detector = new StallDetector();
    detector.step(0, progress(100, 200));
    const stall = detector.step(STALL_MS, progress(100, 200));
    assert.deepEqual(stall, { sinceMs: 0, reason: "2 of 3 safekeepers have not confirmed it" });
  });

  test("takes a lost connection for a wait: whoever commits will", () => {
    const detector = new StallDetector();
    const lost = progress(100, 100, { connected: false, obstacles: ["Postgres does not send it: no slot"] });
    detector.step(0, lost);
    assert.equal(detector.step(STALL_MS, lost)?.reason, "Postgres does not send it: no slot");
  });
});
