import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import { deflateRawSync } from "node:zlib";
import {
  decodeSettings,
  encodeSettings,
  SETTINGS_WORD,
  settingsHash,
} from "../../../src/protocol/branch_settings.ts";

function files(...entries: readonly (readonly [string, string])[]): Map<string, Uint8Array> {
  return new Map(entries.map(([name, text]) => [name, new TextEncoder().encode(text)]));
}

describe("the settings of a branch", () => {
  test("come back as they were, whatever bytes they are", () => {
    const some = files(["pg_hba.conf", "local all all trust\n"], ["postgresql.conf", ""]);
    some.set("server.der", Uint8Array.of(0, 255, 10, 13));
    const word = encodeSettings(some);
    assert.match(word, SETTINGS_WORD);
    assert.deepEqual(
      [...decodeSettings(word)].map(([name, bytes]) => [name, [...bytes]]),
      [...some].map(([name, bytes]) => [name, [...bytes]]),
    );
  });

  test("are the same in whatever order, and not with another byte", () => {
    const hash = settingsHash(files(["a", "1"], ["b", "2"]));
    assert.equal(settingsHash(files(["b", "2"], ["a", "1"])), hash);
    assert.notEqual(settingsHash(files(["a", "1"], ["b", "3"])), hash);
  });

  test("that are too large are refused", () => {
    assert.throws(() => encodeSettings(new Map([["big", randomBytes(100_000)]])), /more than 60000/);
  });

  test("that lead out of the directory, or are none at all, are refused", () => {
    const pack = (value: unknown) => deflateRawSync(JSON.stringify(value)).toString("base64");
    for (const name of ["../postgresql.conf", "a/b", ".hidden", "", "-x"]) {
      assert.throws(() => decodeSettings(pack([[name, ""]])), /is no name of a file/);
    }
    for (const word of ["AAAA", pack({}), pack([["a"]]), pack("x")]) {
      assert.throws(() => decodeSettings(word), /invalid settings of a branch/);
    }
    const bomb = deflateRawSync(new Uint8Array(64 << 20)).toString("base64");
    assert.throws(() => decodeSettings(bomb), /invalid settings of a branch/);
  });
});
