import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { unifiedDiff } from "../../../src/common/line_diff.ts";
import { Random } from "../../harness/random.ts";

const numbers = (count: number): string[] => Array.from({ length: count }, (_, i) => `line ${i + 1}`);

/** What `patch` would make of `before`. */
function patched(before: readonly string[], diff: readonly string[]): string[] {
  const after: string[] = [];
  let at = 0;
  for (const line of diff) {
    const match = /^@@ -(\d+),(\d+) \+(\d+),\d+ @@$/.exec(line);
    if (match !== null) {
      const start = Number(match[1]) - (match[2] === "0" ? 0 : 1);
      while (at < start) after.push(before[at++]);
      // The other side's number says the same of what has been written.
      assert.ok(after.length === Number(match[3]) - 1 || after.length === Number(match[3]), line);
      continue;
    }
    if (line[0] !== "+") assert.equal(before[at++], line.slice(1));
    if (line[0] !== "-") after.push(line.slice(1));
  }
  return [...after, ...before.slice(at)];
}

describe("a unified diff", () => {
  test("is empty for the same", () => assert.deepEqual(unifiedDiff(numbers(20), numbers(20)), []));

  test("has three lines around each change, and one hunk for changes that are near", () => {
    const after = numbers(30);
    after[9] = "ten";
    after.splice(14, 1);
    after.splice(24, 0, "new");
    assert.deepEqual(unifiedDiff(numbers(30), after), [
      "@@ -7,12 +7,11 @@",
      " line 7",
      " line 8",
      " line 9",
      "-line 10",
      "+ten",
      " line 11",
      " line 12",
      " line 13",
      " line 14",
      "-line 15",
      " line 16",
      " line 17",
      " line 18",
      "@@ -23,6 +22,7 @@",
      " line 23",
      " line 24",
      " line 25",
      "+new",
      " line 26",
      " line 27",
      " line 28",
    ]);
  });

  test("names the line before what is added to nothing, as diff does", () => {
    assert.deepEqual(unifiedDiff([], ["a"]), ["@@ -0,0 +1,1 @@", "+a"]);
    assert.deepEqual(unifiedDiff(["a"], []), ["@@ -1,1 +0,0 @@", "-a"]);
  });

  test("makes one text of the other, whatever they are", () => {
    const random = new Random(7);
    for (let round = 0; round < 200; round++) {
      const before = Array.from({ length: random.int(40) }, () => `l${random.int(12)}`);
      const after = before.flatMap((line) =>
        random.int(4) > 0 ? [line] : random.int(2) > 0 ? [] : [`l${random.int(12)}`, line]
      );
      assert.deepEqual(patched(before, unifiedDiff(before, after)), after);
    }
  });

  test("does so of long texts that differ everywhere, by the lines that both have once", () => {
    const before = numbers(6000);
    const after = before.map((line, i) => i % 100 === 50 ? `${line} changed` : line);
    after[0] = "first";
    after[5999] = "last";
    const diff = unifiedDiff(before, after);
    assert.equal(diff.filter((line) => line.startsWith("+")).length, 62);
    assert.deepEqual(patched(before, diff), after);
    const other = numbers(6000).map((line) => `other ${line}`);
    assert.deepEqual(patched(before, unifiedDiff(before, other)), other);
  });
});
