import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { DirectoryStore } from "../../../src/object_store/directory.ts";
import { objectStoreSuite } from "../../harness/object_store_suite.ts";

const root = mkdtempSync(join(tmpdir(), "zenith-store-"));
after(() => rmSync(root, { recursive: true, force: true }));

describe("an object store in a directory", () => {
  objectStoreSuite(() => new DirectoryStore(join(root, "made", "when", "needed")));

  test("leaves nothing beside the objects, whoever wins", async () => {
    const store = new DirectoryStore(join(root, "tidy"));
    await store.put("a/b", Uint8Array.of(1));
    await store.putIfAbsent("a/b", Uint8Array.of(2)).catch(() => {});
    await store.putIfAbsent("a/c", Uint8Array.of(3));
    assert.deepEqual(readdirSync(join(root, "tidy", "a")).sort(), ["b", "c"]);
  });

  test("does not list what a crash left half written", async () => {
    const store = new DirectoryStore(join(root, "crashed"));
    await store.put("a/b", Uint8Array.of(1));
    writeFileSync(join(root, "crashed", "a", ".0123456789abcdef"), "half");
    assert.deepEqual((await store.list("")).objects.map(({ key }) => key), ["a/b"]);
  });

  test("names the file that it can't write", async () => {
    writeFileSync(join(root, "file"), "no directory");
    const store = new DirectoryStore(join(root, "file"));
    await assert.rejects(store.put("a", Uint8Array.of(1)), {
      kind: "io",
      message: /could not write .*file\/a/,
    });
  });
});
