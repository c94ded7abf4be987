import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import {
  readSettingsFiles,
  settingsOf,
  withSetting,
  writeSettingsFiles,
} from "../../../../src/compute/postgres/settings_files.ts";

function files(conf: string, auto?: string): Map<string, Uint8Array> {
  const encode = (text: string) => new TextEncoder().encode(text);
  return new Map([
    ["postgresql.conf", encode(conf)],
    ...(auto === undefined ? [] : [["postgresql.auto.conf", encode(auto)] as const]),
  ]);
}

describe("a setting", () => {
  test("that is set wins over what the files have said, and is quoted", () => {
    const changed = withSetting(files("work_mem = '1MB'\n", "Work_Mem = '2MB'\n"), "work_mem", "3MB");
    assert.equal(settingsOf(changed).get("work_mem"), "3MB");
    const quoted = withSetting(files(""), "search_path", "a, 'b'");
    assert.equal(settingsOf(quoted).get("search_path"), "a, 'b'");
  });

  test("that is unset is in no file, and all others stay", () => {
    const before = files("# a comment\nwork_mem = '1MB'\nport = 1\n", "work_mem = '2MB'\njit = 'off'\n");
    const changed = withSetting(before, "work_mem", null);
    assert.deepEqual([...settingsOf(changed)], [["port", "1"], ["jit", "off"]]);
    assert.match(new TextDecoder().decode(changed.get("postgresql.conf")), /^# a comment$/m);
  });
});

test("the configuration files of a data directory are taken, and put back into another", () => {
  const directory = mkdtempSync(join(tmpdir(), "zenith-files-"));
  try {
    const [from, to] = [join(directory, "from"), join(directory, "to")];
    for (const path of [from, to]) mkdirSync(path);
    const configuration = [
      "pg_hba.conf",
      "pg_ident.conf",
      "postgresql.auto.conf",
      "postgresql.conf",
      "server.key",
    ];
    for (const name of configuration) writeFileSync(join(from, name), name);
    const others = [
      "PG_VERSION",
      "postmaster.pid",
      "postmaster.opts",
      "backup_label",
      "server.key.tmp",
      ".psqlrc",
    ];
    for (const name of others) writeFileSync(join(from, name), name);
    mkdirSync(join(from, "base"));
    const taken = readSettingsFiles(from);
    assert.deepEqual([...taken.keys()].sort(), configuration);
    writeFileSync(join(to, "old.crt"), "");
    writeFileSync(join(to, "PG_VERSION"), "15");
    writeSettingsFiles(to, taken, undefined);
    assert.deepEqual([...readSettingsFiles(to).keys()].sort(), configuration);
    assert.equal(readFileSync(join(to, "PG_VERSION"), "utf8"), "15");
  } finally {
    rmSync(directory, { recursive: true });
  }
});
