import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { number, optional, strictObject, string } from "valibot";
import { ZenithError } from "../../../src/common/errors.ts";
import { PageServerConfigSchema } from "../../../src/common/page_server_config.ts";
import { parseTomlText, readTomlFile, writeTomlFile } from "../../../src/common/toml.ts";

const Schema = strictObject({ name: string(), nested: optional(strictObject({ size: number() })) });

let dir: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "zenith-toml-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe("config files", () => {
  test("what is written is read back, and no temporary file stays", () => {
    const path = join(dir, "config");
    writeTomlFile(path, "two\nlines", { name: 'a "b" \\ ü', nested: { size: 3 } });
    assert.deepEqual(readTomlFile(path, Schema), { name: 'a "b" \\ ü', nested: { size: 3 } });
    assert.equal(existsSync(`${path}.tmp`), false);
  });

  test("a file that is not there is named", () => {
    assert.throws(
      () => readTomlFile(join(dir, "absent"), Schema),
      (error: unknown) =>
        error instanceof ZenithError && error.kind === "not_found" && /absent/.test(error.message),
    );
  });

  for (
    const [what, text, message] of [
      ["an unknown key", 'name = "x"\nnmae = "y"', /^file: unknown key "nmae"$/],
      [
        "an unknown key further down",
        'name = "x"\n[nested]\nsize = 1\nsiez = 2',
        /unknown key "nested.siez"/,
      ],
      ["a missing key", "", /^file: key "name" is missing$/],
      ["a key of the wrong type", "name = 3", /key "name": .*string/],
      ["what is not TOML", "name = ", /^file: /],
    ] as const
  ) {
    test(`${what} is named together with the file`, () => {
      assert.throws(() => parseTomlText(text, Schema, "file"), (error: unknown) => {
        assert.ok(error instanceof ZenithError);
        assert.equal(error.kind, "invalid_argument");
        assert.match(error.message, message);
        assert.equal(error.message.includes("\n"), false);
        return true;
      });
    });
  }

  test("a file in the way of a directory is an io error that names it", () => {
    writeFileSync(join(dir, "plain"), "");
    assert.throws(
      () => writeTomlFile(join(dir, "plain", "config"), "", {}),
      /could not write .*plain\/config/,
    );
  });
});

describe("pageserver.toml", () => {
  test("an empty file is a complete one", () => {
    const config = parseTomlText("", PageServerConfigSchema, "pageserver.toml");
    assert.equal(config.listen, "127.0.0.1:64000");
    assert.equal(config.log_level, "info");
  });

  test("an address without a port and a size below the smallest are refused by key", () => {
    assert.throws(
      () => parseTomlText('listen = "here"', PageServerConfigSchema, "f"),
      /key "listen": expected host:port/,
    );
    assert.throws(
      () => parseTomlText("checkpoint_distance_bytes = 10", PageServerConfigSchema, "f"),
      /key "checkpoint_distance_bytes"/,
    );
  });
});
