import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ZenithError } from "../../../src/common/errors.ts";
import {
  formatTimestamp,
  msOfTimestamp,
  parseTimestamp,
  timestampOfMs,
} from "../../../src/common/timestamp.ts";

const refused = (why: RegExp) => (error: unknown) =>
  error instanceof ZenithError && error.kind === "invalid_argument" && why.test(error.message);

describe("timestamps", () => {
  test("count microseconds from 2000-01-01 UTC", () => {
    assert.equal(parseTimestamp("2000-01-01T00:00:00Z", "none"), 0);
    assert.equal(parseTimestamp("2000-01-01T00:00:01.000002Z", "none"), 1_000_002);
    assert.equal(parseTimestamp("1999-12-31T23:59:59.999999Z", "none"), -1);
  });

  test("are read in RFC 3339 and in PostgreSQL's style alike", () => {
    const expected = parseTimestamp("2026-11-22T09:30:15.250Z", "none");
    for (
      const same of [
        "2026-11-22 09:30:15.25+00",
        "2026-11-22 10:30:15.25+01",
        "2026-11-22T04:00:15.250000-05:30",
        "2026-11-22 09:30:15.25 UTC",
        "2026-11-22t09:30:15.25z",
        "2026-11-22T08:30:15.2500004-0100",
      ]
    ) assert.equal(parseTimestamp(same, "none"), expected, same);
  });

  test("may leave out seconds, or the time of day", () => {
    assert.equal(formatTimestamp(parseTimestamp("2026-11-22 09:30Z", "none")), "2026-11-22T09:30:00.000000Z");
    assert.equal(formatTimestamp(parseTimestamp("2026-11-22Z", "none")), "2026-11-22T00:00:00.000000Z");
  });

  test("without a zone are local time, where that is allowed", () => {
    const local = new Date(2026, 10, 22, 9, 30, 15).getTime();
    assert.equal(msOfTimestamp(parseTimestamp("2026-11-22 09:30:15", "local")), local);
    assert.throws(() => parseTimestamp("2026-11-22 09:30:15", "none"), refused(/time zone/));
  });

  test("of days and times that do not exist are refused", () => {
    for (
      const text of [
        "2026-02-29Z",
        "2026-04-31T00:00Z",
        "2026-13-01Z",
        "2026-01-01T24:00Z",
        "2026-01-01T10:60Z",
      ]
    ) {
      assert.throws(() => parseTimestamp(text, "none"), refused(/no such day or time/), text);
    }
    assert.equal(formatTimestamp(parseTimestamp("2024-02-29Z", "none")), "2024-02-29T00:00:00.000000Z");
  });

  test("that are something else are refused, naming what was given", () => {
    for (
      const text of [
        "",
        "yesterday",
        "0/16B5A50",
        "22.11.2026",
        "2026-11-22T09:30:15+1",
        "2026-11-22T09:30:15Zx",
      ]
    ) {
      assert.throws(() => parseTimestamp(text, "local"), refused(/is not a point in time/), text);
    }
  });

  test("print what they were read from", () => {
    for (const text of ["2026-11-22T09:30:15.000001Z", "1999-12-31T23:59:59.999999Z"]) {
      assert.equal(formatTimestamp(parseTimestamp(text, "none")), text);
    }
    assert.equal(formatTimestamp(timestampOfMs(0)), "1970-01-01T00:00:00.000000Z");
  });
});
