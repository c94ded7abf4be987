import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

const SRC = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "src");

/** What each part of `src` knows, as docs/architecture.md says it; nothing knows who uses it. */
const KNOWS: Readonly<Record<string, readonly string[]>> = {
  common: [],
  pg_install: ["common"],
  pgwire: ["common"],
  postgres: ["common"],
  pagestore: ["common"],
  protocol: ["common"],
  consensus: ["common"],
  wal_store: ["common", "postgres"],
  pageserver: ["common", "pagestore", "pg_install", "pgwire", "postgres", "protocol", "wal_store"],
  safekeeper: ["common", "consensus", "pgwire", "postgres", "protocol", "wal_store"],
  compute: ["common", "consensus", "pg_install", "pgwire", "postgres", "protocol"],
  control: ["common", "compute", "consensus", "pg_install", "pgwire", "protocol"],
  commands: [
    "common",
    "compute",
    "control",
    "pageserver",
    "pagestore",
    "pg_install",
    "postgres",
    "safekeeper",
  ],
};

const files = readdirSync(SRC, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));

const STATIC = /\bfrom "(\.[^"]+)"/g;
const STATIC_OR_LATER = /\b(?:from |import\()"(\.[^"]+)"/g;

/** The files of `src` that one of them imports. */
function importsOf(file: string, pattern: RegExp): string[] {
  return [...readFileSync(join(SRC, file), "utf8").matchAll(pattern)]
    .map(([, path]) => relative(SRC, join(SRC, dirname(file), path!)))
    .filter((target) => !target.startsWith(".."));
}

function partOf(file: string): string {
  return file.split(sep)[0]!;
}

describe("imports", () => {
  test("point down: no part of src knows one that is not below it", () => {
    const wrong: string[] = [];
    for (const file of files) {
      const part = partOf(file);
      const known = KNOWS[part];
      assert.ok(known !== undefined, `src/${part} has no place in the order`);
      for (const target of importsOf(file, STATIC_OR_LATER)) {
        const other = partOf(target);
        if (other !== part && !known.includes(other)) wrong.push(`${file} imports ${target}`);
      }
    }
    assert.deepEqual(wrong, []);
  });

  test("lead to no file from itself", () => {
    const done = new Set<string>();
    const visit = (file: string, path: readonly string[]): void => {
      assert.ok(!path.includes(file), [...path.slice(path.indexOf(file)), file].join(" → "));
      if (done.has(file)) return;
      for (const target of importsOf(file, STATIC)) visit(target, [...path, file]);
      done.add(file);
    };
    for (const file of files) visit(file, []);
  });
});
