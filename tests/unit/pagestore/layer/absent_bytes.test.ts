/** Waits for bytes that have to be fetched. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ZenithError } from "../../../../src/common/errors.ts";
import { nextTurn } from "../../../../src/common/event_loop.ts";
import { AbsentBytes, whenPresent } from "../../../../src/pagestore/mod.ts";

const GONE = new ZenithError("unavailable", "the store does not answer");

/** Whether a fetch that fails later goes unnoticed when it is waited for with this signal. */
async function failLater(signal: AbortSignal, meanwhile: () => void): Promise<void> {
  const unhandled: unknown[] = [];
  const note = (error: unknown): void => void unhandled.push(error);
  process.on("unhandledRejection", note);
  try {
    const { promise, reject } = Promise.withResolvers<void>();
    const arriving = new AbsentBytes("a part", () => promise).arrive(signal);
    meanwhile();
    await assert.rejects(arriving, { message: "left" });
    reject(GONE);
    for (let i = 0; i < 5; i++) await nextTurn();
    assert.deepEqual(unhandled, []);
  } finally {
    process.off("unhandledRejection", note);
  }
}

describe("AbsentBytes", () => {
  test("whoever has left does not hear that the fetch has failed", async () => {
    const leaving = new AbortController();
    await failLater(leaving.signal, () => leaving.abort(new Error("left")));
  });

  test("nor does who had left before", async () => {
    await failLater(AbortSignal.abort(new Error("left")), () => {});
  });

  test("whenPresent reads again once the bytes have arrived, and passes failures on", async () => {
    let fetches = 0;
    const fetch = (): Promise<void> => ++fetches < 3 ? Promise.resolve() : Promise.reject(GONE);
    const read = (needed: number) => (): number => {
      if (fetches < needed) throw new AbsentBytes("a part", fetch);
      return fetches;
    };
    assert.equal(await whenPresent(read(2)), 2);
    await assert.rejects(whenPresent(read(5)), GONE);
    await assert.rejects(whenPresent(() => assert.fail("damaged")), /damaged/);
  });
});
