import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const SRC = join(ROOT, "src");

/** What each part of `src` may import, as docs/architecture.md says; nothing knows who uses it. */
const KNOWS: Readonly<Record<string, readonly string[]>> = {
  common: [],
  process: ["common"],
  pg_install: ["common", "process"],
  auth: ["common", "process"],
  pgwire: ["common", "process"],
  postgres: ["common"],
  pagestore: ["common", "process"],
  archive: ["common", "postgres"],
  protocol: ["auth", "common", "process", "pgwire"],
  consensus: ["common"],
  object_store: ["common"],
  places: ["common"],
  wal_store: ["common", "postgres"],
  pageserver: [
    "archive",
    "auth",
    "common",
    "process",
    "object_store",
    "pagestore",
    "pg_install",
    "pgwire",
    "pgwire",
    "places",
    "postgres",
    "protocol",
    "wal_store",
  ],
  safekeeper: ["auth", "common", "process", "consensus", "pgwire", "postgres", "protocol", "wal_store"],
  compute: ["auth", "common", "process", "consensus", "pg_install", "pgwire", "postgres", "protocol"],
  control: [
    "archive",
    "auth",
    "common",
    "process",
    "compute",
    "consensus",
    "pg_install",
    "pgwire",
    "postgres",
    "protocol",
  ],
  serve: [
    "auth",
    "common",
    "process",
    "compute",
    "control",
    "pg_install",
    "pgwire",
    "protocol",
  ],
  commands: [
    "archive",
    "auth",
    "common",
    "process",
    "compute",
    "control",
    "object_store",
    "pageserver",
    "pagestore",
    "pg_install",
    "postgres",
    "protocol",
    "safekeeper",
    "serve",
  ],
};

/**
 * The rooms of a part, lowest first. A room may import the rooms before it; files that lie in the part's own folder may
 * import every room, and no room imports them.
 */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  pagestore: ["value", "layer", "memory", "files", "flush", "merge"],
  pageserver: ["content", "ingest", "timeline", "tenant", "remote", "service", "workers"],
  compute: ["postgres", "proposer", "lazy"],
  "compute/lazy": ["fuse", "files", "pages"],
  postgres: ["cluster", "wal", "redo", "versions"],
  "postgres/redo": ["page", "heap", "btree", "gin", "hash", "spgist"],
  commands: ["cli", "safekeeper", "dump", "environment", "role", "pg", "branch", "tenant", "token", "remote"],
  control: ["diff", "survey"],
  archive: ["compression", "pgbackrest"],
  serve: ["state", "fleet", "work", "proxy", "http", "sql", "api", "neon", "console"],
};

/** Where the two orders above don't hold: the part's own files lie below its only room. */
const ROOM_ABOVE: ReadonlySet<string> = new Set(["control"]);

const files = readdirSync(SRC, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
const entrypoints = readdirSync(ROOT).filter((name) => name.endsWith(".ts"));

const IMPORT = /\b(?:from |import\()"(\.[^"]+)"/g;

/** The files that one imports, dynamic imports included, relative to `src`. */
function importsOf(file: string): string[] {
  return [...readFileSync(join(SRC, file), "utf8").matchAll(IMPORT)]
    .map(([, path]) => relative(SRC, join(SRC, dirname(file), path!)));
}

function partOf(file: string): string {
  return file.split(sep)[0];
}

/** The room of `part` that a file lies in; undefined when it lies in the part's own folder. */
function roomOf(part: string, file: string): string | undefined {
  const below = file.slice(part.length + 1).split(sep);
  return below.length > 1 ? below[0] : undefined;
}

describe("imports", () => {
  test("point down: no part of src knows one that is not below it", () => {
    const wrong: string[] = [];
    for (const file of files) {
      const part = partOf(file);
      const known = KNOWS[part];
      assert.ok(known !== undefined, `src/${part} has no place in the order`);
      for (const target of importsOf(file)) {
        const other = partOf(target);
        if (other !== part && !known.includes(other)) wrong.push(`${file} imports ${target}`);
      }
    }
    assert.deepEqual(wrong, []);
  });

  test("point down inside a part: no room knows one that is above it", () => {
    const wrong: string[] = [];
    for (const [part, rooms] of Object.entries(ROOMS)) {
      const inPart = (file: string) => file.startsWith(part + sep);
      for (const file of files.filter(inPart)) {
        const room = roomOf(part, file);
        assert.ok(
          room === undefined || rooms.includes(room),
          `src/${part}/${room} has no place in the order`,
        );
        for (const target of importsOf(file).filter(inPart)) {
          if (floorOf(part, rooms, target) > floorOf(part, rooms, file)) {
            wrong.push(`${file} imports ${target}`);
          }
        }
      }
    }
    assert.deepEqual(wrong, []);
  });

  test("lead to no file from itself, later imports included", () => {
    const done = new Set<string>();
    const visit = (file: string, path: readonly string[]): void => {
      assert.ok(!path.includes(file), [...path.slice(path.indexOf(file)), file].join(" → "));
      if (done.has(file)) return;
      for (const target of importsOf(file)) visit(target, [...path, file]);
      done.add(file);
    };
    for (const file of [...files, ...entrypoints.map((name) => join("..", name))]) visit(file, []);
  });

  test("lead out of the console to types of the contract alone, which the build leaves out", () => {
    const root = join(ROOT, "console");
    for (const name of readdirSync(root, { recursive: true, encoding: "utf8" })) {
      if (!/\.tsx?$/.test(name)) continue;
      const text = readFileSync(join(root, name), "utf8");
      for (const [statement, path] of text.matchAll(/^import [^;]*?from "(\.[^"]+)";/gm)) {
        const target = relative(root, join(root, dirname(name), path!));
        if (!target.startsWith("..")) continue;
        assert.equal(target, "../src/serve/api/contract.ts", `console/${name}`);
        assert.match(statement, /^import type /, `console/${name}`);
      }
    }
  });

  test("none leads from src to an entrypoint", () => {
    assert.deepEqual(entrypoints.sort(), ["cli.ts", "server.ts"]);
    for (const file of files) {
      for (const target of importsOf(file)) assert.ok(!target.startsWith(".."), `${file} imports ${target}`);
    }
  });
});

function floorOf(part: string, rooms: readonly string[], file: string): number {
  const room = roomOf(part, file);
  if (room !== undefined) return rooms.indexOf(room);
  return ROOM_ABOVE.has(part) ? -1 : rooms.length;
}
