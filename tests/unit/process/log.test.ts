import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { createLogger } from "../../../src/process/log.ts";

describe("a log file", () => {
  test("has a line of JSON per call, with what was bound, at once", () => {
    const dir = mkdtempSync(join(tmpdir(), "zenith-log-"));
    const file = join(dir, "role.log");
    try {
      const log = createLogger({ name: "pageserver", file });
      log.child({ tenant: "t1" }).warn("slow", { ms: 12 });
      log.error("failed", { err: new Error("inner", { cause: new Error("root cause") }) });
      log.debug("not at this level");
      const lines = readFileSync(file, "utf8").trim().split("\n").map((line) => JSON.parse(line));
      assert.equal(lines.length, 2);
      assert.equal(lines[0].level, "warn");
      assert.equal(lines[0].name, "pageserver");
      assert.equal(lines[0].tenant, "t1");
      assert.equal(lines[0].ms, 12);
      assert.equal(lines[0].msg, "slow");
      assert.ok(Math.abs(Date.parse(lines[0].time) - Date.now()) < 60_000);
      assert.match(lines[1].err.stack, /root cause/);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });
});
