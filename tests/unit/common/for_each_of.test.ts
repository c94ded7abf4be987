import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { forEachOf } from "../../../src/common/for_each_of.ts";

describe("work for each of many", () => {
  test("is done once for each, in order, and no more at a time than allowed", async () => {
    const begun: number[] = [];
    let running = 0;
    await forEachOf([1, 2, 3, 4, 5, 6, 7], 3, async (item) => {
      begun.push(item);
      assert.ok(++running <= 3);
      await new Promise((resolve) => setImmediate(resolve));
      running--;
    });
    assert.deepEqual(begun, [1, 2, 3, 4, 5, 6, 7]);
    await forEachOf([], 3, () => Promise.reject(new Error("there is nothing to do")));
  });

  test("ends with the first failure, once all that was begun has ended", async () => {
    const ended: number[] = [];
    const all = forEachOf([1, 2, 3, 4], 2, async (item) => {
      if (item === 2) throw new Error("no 2");
      await new Promise((resolve) => setImmediate(resolve));
      ended.push(item);
      if (item === 1) throw new Error("no 1");
    });
    await assert.rejects(all, /no 2/);
    assert.deepEqual(ended, [1]);
  });
});
