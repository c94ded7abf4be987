import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { formatDuration, parseDuration } from "../../../src/common/duration.ts";

describe("a duration", () => {
  test("is read as people write it", () => {
    const read: [string, number][] = [
      ["250ms", 250],
      ["90s", 90_000],
      ["1 second", 1_000],
      ["2 Seconds", 2_000],
      ["5min", 300_000],
      ["30m", 1_800_000],
      ["2h30m", 9_000_000],
      ["2 hours 30 minutes", 9_000_000],
      [" 1d ", 86_400_000],
      ["1 day 12h", 129_600_000],
      ["2w", 1_209_600_000],
      ["0s", 0],
    ];
    for (const [text, ms] of read) assert.equal(parseDuration(text), ms, text);
  });

  test("is refused when it is something else, however long", () => {
    for (
      const text of ["", "5", "h", "5 parsecs", "-5m", "1.5h", "5m and", "1h  2m", "5m,", "1h".repeat(100)]
    ) {
      assert.throws(() => parseDuration(text), /is not a duration/, text);
    }
    assert.throws(() => parseDuration("1 ".repeat(1 << 20)), /is not a duration/);
  });

  test("is printed so that it is read back", () => {
    for (const ms of [0, 1, 1_500, 90_000, 1_800_000, 7_200_000, 86_400_000]) {
      assert.equal(parseDuration(formatDuration(ms)), ms);
    }
    assert.equal(formatDuration(7_200_000), "2h");
    assert.equal(formatDuration(604_800_000), "7d");
    assert.equal(formatDuration(5_400_000), "90m");
    assert.equal(formatDuration(1500), "1500ms");
    assert.equal(formatDuration(0), "0ms");
  });
});
