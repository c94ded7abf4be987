/** The data directory that is fetched while safekeepers hold their election. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { EarlyFetch } from "../../../src/compute/early_fetch.ts";
import type { Lsn } from "../../../src/common/lsn.ts";

const LSN = 0x1000028 as Lsn;

/** A fetch that goes on until it is ended, and takes a moment to end. */
async function untilAborted(_lsn: Lsn, signal: AbortSignal, onEnd: () => void): Promise<void> {
  await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
  await new Promise<void>((resolve) => setTimeout(resolve, 5));
  onEnd();
  throw signal.reason;
}

test("a fetch for the LSN at which Postgres starts is used as it is", async () => {
  const fetched: Lsn[] = [];
  const early = new EarlyFetch(LSN, new AbortController().signal, async (lsn) => void fetched.push(lsn));
  await early.done();
  assert.deepEqual(fetched, [LSN]);
  // As at the end of a start that fails later.
  await early.giveUp();
});

test("once a fetch is given up, nothing of it is going on", async () => {
  let hasEnded = false;
  const early = new EarlyFetch(
    LSN,
    new AbortController().signal,
    (lsn, signal) => untilAborted(lsn, signal, () => hasEnded = true),
  );
  await early.giveUp();
  assert.equal(hasEnded, true);
});

test("a start that is given up ends it with the start's error", async () => {
  const start = new AbortController();
  const early = new EarlyFetch(LSN, start.signal, (lsn, signal) => untilAborted(lsn, signal, () => {}));
  start.abort(new Error("stopped while starting"));
  await assert.rejects(early.done(), /stopped while starting/);
});

test("its error is reported when the fetch is needed, and not before", async () => {
  const early = new EarlyFetch(LSN, new AbortController().signal, () => Promise.reject(new Error("gone")));
  await new Promise((resolve) => setTimeout(resolve, 5));
  await assert.rejects(early.done(), /gone/);
  await early.giveUp();
});
