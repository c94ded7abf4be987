import assert from "node:assert/strict";
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { lastLines, readSince } from "../../../src/control/log_file.ts";

const dir = mkdtempSync(join(tmpdir(), "zenith-log-"));
after(() => rmSync(dir, { recursive: true }));

test("a log is read on in whole lines of so many bytes, none twice and none left out", () => {
  const file = join(dir, "postgres.log");
  writeFileSync(file, "one\ntwo\n");
  const { text, end } = lastLines(file, 1)!;
  assert.equal(text, "two\n");
  // A line that is still being written, cut in the middle of a letter.
  const bytes = Buffer.from("drei ä\nvier\nfünf\n");
  appendFileSync(file, bytes.subarray(0, 6));
  const none = readSince(file, end, 100)!;
  assert.equal(none.text, "");
  appendFileSync(file, bytes.subarray(6));
  const lines: string[] = [];
  let from = none.end;
  for (let i = 0; i < 5; i++) {
    const part = readSince(file, from, 9)!;
    lines.push(part.text);
    from = part.end;
  }
  assert.deepEqual(lines, ["drei ä\n", "vier\n", "fünf\n", "", ""]);
  appendFileSync(file, `${"x".repeat(12)}\n`);
  const long = readSince(file, from, 9)!;
  assert.equal(long.text, "x".repeat(9));
  assert.equal(readSince(file, long.end, 9)!.text, "xxx\n");
  // Another file of the same name.
  rmSync(file);
  writeFileSync(`${file}.new`, "");
  writeFileSync(file, "new\n");
  assert.equal(readSince(file, from, 100)!.text, "new\n");
  assert.equal(readSince(file, undefined)!.text, "new\n");
  assert.equal(readSince(join(dir, "none"), undefined, 9), undefined);
});
