import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { formatBranchPoint, type Moment, parseBranchPoint, parseMoment } from "../../../src/common/moment.ts";
import { msOfTimestamp } from "../../../src/common/timestamp.ts";

/** A Sunday, local time. */
const NOW = new Date(2026, 10, 29, 10, 15, 30, 250);

function timeOf(text: string): Date {
  const moment = parseMoment(text, NOW.getTime());
  assert.equal(moment.kind, "time", text);
  return new Date(msOfTimestamp((moment as Moment & { kind: "time" }).timestamp));
}

describe("a moment", () => {
  test("is the end, or an LSN", () => {
    assert.deepEqual(parseMoment("now"), { kind: "end" });
    assert.deepEqual(parseMoment("0/16B5A50"), { kind: "lsn", lsn: 0x16B5A50 });
    assert.deepEqual(parseMoment("1/0"), { kind: "lsn", lsn: 2 ** 32 });
  });

  test("is so long ago", () => {
    const fiveMinutesAgo = new Date(NOW.getTime() - 300_000);
    for (const text of ["-5m", "-5 minutes", "5m ago", "5 min ago", " -300s "]) {
      assert.deepEqual(timeOf(text), fiveMinutesAgo, text);
    }
  });

  test("is a time of today or of yesterday, by the clock here", () => {
    assert.deepEqual(timeOf("09:30"), new Date(2026, 10, 29, 9, 30));
    assert.deepEqual(timeOf("9:30:15"), new Date(2026, 10, 29, 9, 30, 15));
    assert.deepEqual(timeOf("today"), new Date(2026, 10, 29));
    assert.deepEqual(timeOf("today 00:05"), new Date(2026, 10, 29, 0, 5));
    assert.deepEqual(timeOf("yesterday"), new Date(2026, 10, 28));
    assert.deepEqual(timeOf("Yesterday 14:00"), new Date(2026, 10, 28, 14));
  });

  test("is a time of any day, with a zone or without", () => {
    assert.deepEqual(timeOf("2026-11-22 09:30"), new Date(2026, 10, 22, 9, 30));
    assert.deepEqual(timeOf("2026-11-22T09:30:00Z"), new Date(Date.UTC(2026, 10, 22, 9, 30)));
    assert.deepEqual(timeOf("2026-11-22 09:30+02"), new Date(Date.UTC(2026, 10, 22, 7, 30)));
  });

  test("is refused when it is none of these", () => {
    for (
      const text of ["soon", "25:00", "yesterday 12:61", "5m", "-5", "-", "tomorrow", "2026-13-01", "x/y"]
    ) {
      assert.throws(
        () => parseMoment(text, NOW.getTime()),
        { name: "ZenithError", kind: "invalid_argument" },
        text,
      );
    }
  });
});

describe("a point of a branch", () => {
  test("goes to the page server with its moment in UTC", () => {
    const format = (text: string) => formatBranchPoint(parseBranchPoint(text, NOW.getTime()));
    assert.equal(format("main"), "main");
    assert.equal(format("main@now"), "main");
    assert.equal(format("feature/x@0/1F"), "feature/x@0/1F");
    assert.equal(format("main@2026-11-22T09:30:00Z"), "main@2026-11-22T09:30:00.000000Z");
    const fiveMinutesAgo = new Date(NOW.getTime() - 300_000).toISOString().replace("Z", "000Z");
    assert.equal(format("main@-5m"), `main@${fiveMinutesAgo}`);
  });

  test("needs a moment behind @", () => {
    assert.throws(() => parseBranchPoint("main@"), /no moment after "@"/);
  });
});
