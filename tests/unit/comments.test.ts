import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

const SRC = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "src");
const COLUMNS_MAX = 100;

const files = readdirSync(SRC, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts"));

/** The numbers of the lines that hold nothing but a comment, counted from 1. */
function commentLines(lines: readonly string[]): number[] {
  const found: number[] = [];
  let inBlock = false;
  lines.forEach((line, i) => {
    const text = line.trim();
    const isBeforeCode = text.startsWith("/*") && text.includes("*/") && !text.endsWith("*/");
    if (inBlock || text.startsWith("//") || text.startsWith("/*") && !isBeforeCode) found.push(i + 1);
    if (inBlock) inBlock = !text.includes("*/");
    else inBlock = text.startsWith("/*") && !text.includes("*/");
  });
  return found;
}

describe("comments", () => {
  test(`wrap at ${COLUMNS_MAX} columns`, () => {
    const wrong: string[] = [];
    for (const file of files) {
      const lines = readFileSync(join(SRC, file), "utf8").split("\n");
      for (const number of commentLines(lines)) {
        if (lines[number - 1].length > COLUMNS_MAX) wrong.push(`${file}:${number}`);
      }
    }
    assert.deepEqual(wrong, []);
  });

  test("open every file: one says what the file is for", () => {
    const opening = /^\/\*\*\s+[\s\S]*?[a-z)`][.:;?!]/;
    const without = files.filter((file) => !opening.test(readFileSync(join(SRC, file), "utf8")));
    assert.deepEqual(without, []);
  });
});
