import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { Lsn } from "../../../../src/common/lsn.ts";
import { LsnWaiters } from "../../../../src/pageserver/timeline/waiters.ts";

const LONG_MS = 60_000;
const where = () => "the timeline ends at 0/10";

describe("those who wait for an LSN", () => {
  test("are woken as it arrives, and the others wait on", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ lsn: fc.integer({ min: 1, max: 30 }), leaves: fc.boolean() }), {
          maxLength: 40,
        }),
        fc.integer({ min: 0, max: 31 }),
        async (wanted, reached) => {
          const waiters = new LsnWaiters();
          const outcomes: (string | undefined)[] = wanted.map(() => undefined);
          const signals = wanted.map(({ leaves }) => leaves ? new AbortController() : undefined);
          wanted.forEach(({ lsn }, i) => {
            waiters.wait(lsn as Lsn, LONG_MS, where, signals[i]?.signal).then(
              () => (outcomes[i] = "arrived"),
              (error: Error) => (outcomes[i] = error.message),
            );
          });
          for (const signal of signals) signal?.abort(new Error("left"));
          waiters.reached(reached as Lsn);
          const left = waiters.size;
          waiters.abandon(new Error("abandoned"));
          await new Promise((resolve) => setImmediate(resolve));
          const expected = wanted.map(({ lsn, leaves }) =>
            leaves ? "left" : lsn <= reached ? "arrived" : "abandoned"
          );
          assert.deepEqual(outcomes, expected);
          assert.equal(left, expected.filter((outcome) => outcome === "abandoned").length);
        },
      ),
    );
  });

  test("give up after their time, with the place in the error", async () => {
    const waiters = new LsnWaiters();
    await assert.rejects(
      waiters.wait(0x20 as Lsn, 1, where),
      /LSN 0\/20 did not arrive within 1 ms: the timeline ends at 0\/10/,
    );
    assert.equal(waiters.size, 0);
  });

  test("are given up in no time, as many as they are", async () => {
    // With a search through all of them for each that expires, this takes minutes.
    const count = 60_000;
    const waiters = new LsnWaiters();
    const waits = Array.from({ length: count }, (_, i) => waiters.wait((1 + i) as Lsn, 1, where));
    const outcomes = await Promise.allSettled(waits);
    assert.equal(outcomes.filter(({ status }) => status === "rejected").length, count);
    assert.equal(waiters.size, 0);
  });
});
