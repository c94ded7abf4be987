import { afterEach, beforeEach, describe, test } from "node:test";
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nodeDisk, replaceFileSync } from "../../../src/common/disk.ts";

describe("nodeDisk", () => {
  let dir = "";
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "zenith-disk-"));
  });
  afterEach(() => {
    rmSync(dir, { recursive: true });
  });

  test("reads back what was written, at any position, and says how much there was", async () => {
    const file = nodeDisk.openSync(join(dir, "f"), "createNew");
    file.writeSync(Uint8Array.of(1, 2, 3, 4), 1, 3, 0);
    file.writeSync(Uint8Array.of(9, 8), 0, 2, 5);
    await file.fsync();
    await file.fdatasync();
    const into = new Uint8Array(10);
    assert.equal(file.readSync(into, 1, 9, 0), 7);
    assert.deepEqual([...into], [0, 2, 3, 4, 0, 0, 9, 8, 0, 0]);
    file.truncateSync(2);
    assert.equal(file.sizeSync(), 2);
    file.closeSync();
    file.closeSync();
  });

  test("keeps the promises of each open mode", () => {
    const path = join(dir, "f");
    assert.throws(() => nodeDisk.openSync(path, "read"), { code: "ENOENT" });
    assert.throws(() => nodeDisk.openSync(path, "write"), { code: "ENOENT" });
    const file = nodeDisk.openSync(path, "createNew");
    file.writeSync(Uint8Array.of(1), 0, 1, 0);
    file.closeSync();
    assert.throws(() => nodeDisk.openSync(path, "createNew"), { code: "EEXIST" });
    nodeDisk.openSync(path, "write").closeSync();
    assert.equal(nodeDisk.statSync(path)?.size, 1);
    nodeDisk.openSync(path, "create").closeSync();
    assert.equal(nodeDisk.statSync(path)?.size, 0);
  });

  test("stat of nothing is null, removal of no tree is nothing", () => {
    assert.equal(nodeDisk.statSync(join(dir, "none")), null);
    nodeDisk.removeTreeSync(join(dir, "none"));
    nodeDisk.mkdirsSync(join(dir, "a", "b"));
    assert.equal(nodeDisk.statSync(join(dir, "a", "b"))?.isDirectory, true);
    nodeDisk.removeTreeSync(join(dir, "a"));
    assert.deepEqual(nodeDisk.readdirSync(dir), []);
  });

  test("replaceFileSync leaves the new content and no temporary file", () => {
    const path = join(dir, "f");
    replaceFileSync(nodeDisk, dir, path, Uint8Array.of(1, 2));
    replaceFileSync(nodeDisk, dir, path, Uint8Array.of(3));
    assert.deepEqual([...nodeDisk.readFileSync(path)], [3]);
    assert.deepEqual(nodeDisk.readdirSync(dir), ["f"]);
  });
});
