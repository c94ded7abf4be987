import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import {
  generateStoreKey,
  readKeyFile,
  readOrMakeKeyFile,
  writeKeyFile,
} from "../../../src/object_store/key_file.ts";

const directory = mkdtempSync(join(tmpdir(), "zenith-keys-"));
after(() => rmSync(directory, { recursive: true }));

describe("the key file of an object store", () => {
  const path = join(directory, "made.key");

  test("is made once, for its owner alone", () => {
    const made = readOrMakeKeyFile(path);
    assert.ok(made.isNew);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const again = readOrMakeKeyFile(path);
    assert.deepEqual(again, { keys: made.keys, isNew: false });
  });

  test("keeps the order of its keys, and each has its own id", () => {
    const [one, two] = [generateStoreKey(), generateStoreKey()];
    assert.notEqual(one.id, two.id);
    writeKeyFile(path, [one, two]);
    assert.deepEqual(readKeyFile(path), [one, two]);
  });

  test("is refused when others may read it", () => {
    for (const mode of [0o640, 0o604, 0o660]) {
      chmodSync(path, mode);
      assert.throws(() => readKeyFile(path), { kind: "forbidden", message: /others than its owner/ });
    }
    chmodSync(path, 0o600);
    readKeyFile(path);
  });

  test("is refused when a key was mistyped, there is none, or it is another file", () => {
    const text = readFileSync(path, "utf8");
    const write = (changed: string) => writeFileSync(path, changed);
    const isRefused = (message: RegExp) =>
      assert.throws(() => readKeyFile(path), { kind: "invalid_argument", message });
    const lower = /^[0-9a-f]{16} .*?([a-y])/m.exec(text)!;
    const at = lower.index + lower[0].length - 1;
    write(`${text.slice(0, at)}z${text.slice(at + 1)}`);
    isRefused(/is not the one that it says it is/);
    write("# nothing\n");
    isRefused(/has no key/);
    write("[section]\n");
    isRefused(/is not a key/);
    rmSync(path);
    isRefused(/there is no file/);
  });
});
