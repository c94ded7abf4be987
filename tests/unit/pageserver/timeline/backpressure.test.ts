import assert from "node:assert/strict";
import { test } from "node:test";
import { NULL_LOGGER } from "../../../../src/process/log.ts";
import { Backpressure } from "../../../../src/pageserver/timeline/backpressure.ts";

test("backpressure says whether it holds now, how often and how long in all, and not too often in the log", async () => {
  let nowMs = 0;
  const lines: string[] = [];
  const logger = { ...NULL_LOGGER, info: (message: string) => void lines.push(message) };
  const backpressure = new Backpressure(logger, () => nowMs);
  assert.deepEqual(backpressure.state, { held_back: false, held_back_times: 0, held_back_ms: 0 });

  let go!: () => void;
  const held = backpressure.hold(new Promise((resolve) => (go = resolve)), 1);
  nowMs = 100;
  assert.deepEqual(backpressure.state, { held_back: true, held_back_times: 1, held_back_ms: 100 });
  go();
  await held;
  assert.deepEqual(backpressure.state, { held_back: false, held_back_times: 1, held_back_ms: 100 });

  const failed = backpressure.hold(Promise.reject(new Error("disk full")), 1);
  await assert.rejects(failed, /disk full/);
  assert.deepEqual(backpressure.state, { held_back: false, held_back_times: 2, held_back_ms: 100 });
  assert.equal(lines.length, 1);
  nowMs = 20_000;
  await backpressure.hold(Promise.resolve(), 1);
  assert.equal(lines.length, 2);
});
