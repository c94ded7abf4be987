import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { ZenithError } from "../../../src/common/errors.ts";
import { createLogger } from "../../../src/process/log.ts";
import { Repetitions } from "../../../src/process/repetitions.ts";
import { cutLog } from "../../../src/process/cut_log.ts";
import { openLog } from "../../../src/process/rotating_file.ts";

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

describe("a log that peers fill with nonsense", () => {
  test("says each thing a few times, without stacks, and counts the rest", () => {
    const dir = mkdtempSync(join(tmpdir(), "zenith-log-"));
    const file = join(dir, "role.log");
    try {
      const log = createLogger({ name: "pageserver", file });
      for (let i = 0; i < 100_000; i++) {
        log.child({ i }).warn("connection failed", {
          err: new ZenithError("protocol", `invalid length ${i}`),
        });
      }
      log.warn("another", { command: "x".repeat(1 << 20) });
      const lines = readFileSync(file, "utf8").trim().split("\n").map((line) => JSON.parse(line));
      assert.equal(lines.length, 21);
      assert.deepEqual(lines[0].err, { type: "ZenithError", kind: "protocol", message: "invalid length 0" });
      assert.equal(lines[20].msg, "another");
      assert.ok(statSync(file).size < 10_000);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });

  test("begins anew each minute, and says how much was left out", () => {
    let nowMs = 0;
    const repetitions = new Repetitions(() => nowMs);
    let written = 0;
    for (let i = 0; i < 50; i++) if (repetitions.next(`port ${i}`).write) written++;
    assert.equal(written, 20);
    nowMs = 60_000;
    assert.deepEqual(repetitions.next("port 7"), { write: true, suppressed: 30 });
    assert.deepEqual(repetitions.next("port 8"), { write: true, suppressed: 0 });
  });

  test("can't be made to remember or to say more by words that are new each time", () => {
    const repetitions = new Repetitions(() => 0);
    const word = (i: number): string => i.toString(2).replaceAll("0", "a").replaceAll("1", "b");
    let written = 0;
    for (let i = 0; i < 100_000; i++) if (repetitions.next(word(i)).write) written++;
    assert.equal(written, 220);
  });
});

test("a log that has grown large becomes the old one, and a new one is begun", () => {
  const dir = mkdtempSync(join(tmpdir(), "zenith-log-"));
  const file = join(dir, "role.log");
  try {
    const log = openLog(file, 1000);
    for (let i = 0; i < 100; i++) log.write(`${String(i).padStart(99, "0")}\n`);
    assert.deepEqual(readdirSync(dir).sort(), ["role.log", "role.log.1"]);
    for (const name of readdirSync(dir)) assert.ok(statSync(join(dir, name)).size <= 1000, name);
    const kept = readFileSync(`${file}.1`, "utf8") + readFileSync(file, "utf8");
    assert.deepEqual(kept.trim().split("\n").map(Number), Array.from({ length: 20 }, (_, i) => 80 + i));
    // What is there counts, also of an earlier process.
    openLog(file, 1000).write("after a restart\n");
    assert.equal(readFileSync(file, "utf8"), "after a restart\n");
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

test("a log that another program appends to is cut in place", () => {
  const dir = mkdtempSync(join(tmpdir(), "zenith-log-"));
  const file = join(dir, "postgres.log");
  try {
    writeFileSync(file, "x".repeat(1000), { mode: 0o600 });
    cutLog(file, 1000);
    assert.deepEqual(readdirSync(dir), ["postgres.log"]);
    cutLog(file, 999);
    assert.equal(statSync(file).size, 0);
    assert.equal(statSync(`${file}.1`).size, 1000);
    assert.equal(statSync(`${file}.1`).mode & 0o777, 0o600);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
