import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { nodeDisk } from "../../../../src/common/disk.ts";
import type { Lsn } from "../../../../src/common/lsn.ts";
import { TimelineSettings } from "../../../../src/pageserver/timeline/settings.ts";

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "zenith-settings-"));
  path = join(directory, "settings");
});
afterEach(() => rmSync(directory, { recursive: true }));

const lsn = (value: number): Lsn => value as Lsn;

describe("the settings of a timeline", () => {
  test("are at each LSN those that were set last", async () => {
    const settings = new TimelineSettings(nodeDisk, path);
    assert.equal(settings.at(lsn(100)), undefined);
    await settings.set(lsn(16), "AAAA");
    await settings.set(lsn(32), "BBBB");
    await settings.set(lsn(32), "CCCC");
    for (const opened of [settings, new TimelineSettings(nodeDisk, path)]) {
      assert.equal(opened.at(lsn(8)), undefined);
      assert.equal(opened.at(lsn(16))?.settings, "AAAA");
      assert.equal(opened.at(lsn(31))?.settings, "AAAA");
      assert.equal(opened.at(lsn(32))?.settings, "CCCC");
    }
  });

  test("are a bounded number of versions, the newest", async () => {
    const settings = new TimelineSettings(nodeDisk, path);
    for (let i = 1; i <= 300; i++) await settings.set(lsn(8 * i), i % 2 === 0 ? "AAAA" : "BBBB");
    assert.equal(readFileSync(path, "utf8").split("\n").filter((line) => /AAAA|BBBB/.test(line)).length, 200);
    assert.equal(settings.at(lsn(8 * 101))?.lsn, 808);
    assert.equal(settings.at(lsn(8 * 100)), undefined);
  });

  test("that are damaged are none, and are told of", () => {
    writeFileSync(path, "zenith settings 2\n0/10 AAAA\ncrc32c 00000000\n");
    const settings = new TimelineSettings(nodeDisk, path);
    assert.equal(settings.at(lsn(100)), undefined);
    assert.match(settings.damage()!.what, /settings was damaged/);
    assert.match(settings.damage()!.hint, /zenith pg config/);
  });

  test("are no other words than settings", async () => {
    const settings = new TimelineSettings(nodeDisk, path);
    await assert.rejects(settings.set(lsn(16), "a b"), /no settings/);
  });
});
