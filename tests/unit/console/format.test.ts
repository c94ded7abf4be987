import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { formatAgo, formatBytes, formatSpan, formatTime, toCsv } from "../../../console/format.ts";

describe("the console's words", () => {
  test("say how much", () => {
    assert.deepEqual([0, 1, 1023, 1024, 1536, 20 << 20, 5 * 2 ** 40].map(formatBytes), [
      "0 B",
      "1 B",
      "1023 B",
      "1.0 KiB",
      "1.5 KiB",
      "20 MiB",
      "5.0 TiB",
    ]);
  });

  test("say when", () => {
    const now = Date.parse("2026-11-30T12:00:00Z");
    assert.equal(formatAgo("2026-11-30T11:58:30Z", now), "1 min ago");
    assert.equal(formatAgo("2026-12-02T13:00:00Z", now), "in 2 d");
    assert.equal(formatAgo("2026-11-30T12:00:00.400Z", now), "now");
    assert.equal(formatSpan(0), "0 s");
    const local = new Date(2026, 0, 2, 3, 4, 5, 6).getTime();
    assert.equal(formatTime(local), "2026-01-02 03:04:05");
    assert.equal(formatTime(local, true), "2026-01-02 03:04:05.006");
  });

  test("export as RFC 4180 has it, where NULL is no empty string", () => {
    assert.equal(toCsv(["a", 'b"'], [["1", null], ["", "x,\ny"]]), 'a,"b"""\r\n1,\r\n"","x,\ny"\r\n');
  });
});
