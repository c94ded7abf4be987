import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { pack } from "tar-stream";
import { ZenithError } from "../../../src/common/errors.ts";
import {
  ForeignDirectory,
  readForeignFile,
  removeForeignTree,
} from "../../../src/common/foreign_directory.ts";
import { clearDataDirectory, unpackBasebackup } from "../../../src/compute/postgres/data_directory.ts";
import { readSettings } from "../../../src/compute/postgres/postgres_conf.ts";
import { closeToOthers, makeOwnedDirectory } from "../../../src/pg_install/pg_user.ts";

const IS_ROOT = process.getuid!() === 0;
const NOBODY = { name: "nobody", uid: 65534, gid: 65534 };

let dir: string;
/** What a tenant's links point at: root's, and not the tenant's to change. */
let treasure: string;
let foreign: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "zenith-foreign-"));
  chmodSync(dir, 0o755);
  treasure = join(dir, "treasure");
  foreign = join(dir, "pgdata");
  mkdirSync(treasure, { mode: 0o755 });
  writeFileSync(join(treasure, "gold"), "gold");
  mkdirSync(foreign, { mode: 0o700 });
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function assertTreasureUnharmed(): void {
  assert.deepEqual(readdirSync(treasure), ["gold"]);
  assert.equal(readFileSync(join(treasure, "gold"), "utf8"), "gold");
  for (const path of [treasure, join(treasure, "gold")]) assert.equal(lstatSync(path).uid, process.getuid!());
}

describe("links in a directory that others write", () => {
  test("are not followed when directories and files are made", () => {
    symlinkSync(treasure, join(foreign, "link"));
    using directory = ForeignDirectory.open(foreign);
    assert.throws(() => directory.makeDirectory("link", NOBODY), /link is a link: Zenith follows none/);
    assert.throws(() => directory.createFile("link", 0o600, NOBODY), ZenithError);
    symlinkSync(join(treasure, "new"), join(foreign, "dangling"));
    assert.throws(() => directory.createFile("dangling", 0o600, NOBODY), ZenithError);
    assertTreasureUnharmed();
  });

  test("are removed, and not what they point at", () => {
    mkdirSync(join(foreign, "base", "5"), { recursive: true });
    symlinkSync(treasure, join(foreign, "base", "5", "link"));
    symlinkSync(treasure, join(foreign, "pg_wal"));
    clearDataDirectory(foreign);
    assert.deepEqual(readdirSync(foreign), []);
    assertTreasureUnharmed();
    symlinkSync(treasure, join(foreign, "x"));
    removeForeignTree(foreign);
    assert.ok(!existsSync(foreign));
    removeForeignTree(foreign);
    removeForeignTree(join(dir, "never", "there"));
    assertTreasureUnharmed();
  });

  test("in the place of pg_stat give nobody what they point at", async () => {
    symlinkSync(treasure, join(foreign, "pg_stat"));
    clearDataDirectory(foreign);
    assert.deepEqual(readdirSync(foreign), []);
    symlinkSync(treasure, join(foreign, "pg_stat"));
    const owner = IS_ROOT ? NOBODY : undefined;
    const tar = pack();
    tar.entry({ name: "pg_stat/", type: "directory" });
    tar.finalize();
    await assert.rejects(
      unpackBasebackup(tar as AsyncIterable<Uint8Array>, foreign, owner),
      /pg_stat is a link/,
    );
    assertTreasureUnharmed();
  });

  test("in the place of a configuration file are not read", () => {
    symlinkSync(join(treasure, "gold"), join(foreign, "postgresql.conf"));
    assert.throws(() => readSettings(foreign), /postgresql\.conf is a link/);
  });

  test("are not given away when a directory changes hands", {
    skip: !IS_ROOT && "only root gives files away",
  }, () => {
    const daemon = { name: "daemon", uid: 1, gid: 1 };
    makeOwnedDirectory(foreign, daemon);
    const run = spawnSync("ln", ["-s", treasure, join(foreign, "link")], { uid: 1, gid: 1 });
    assert.equal(run.status, 0);
    makeOwnedDirectory(foreign, NOBODY);
    assert.equal(lstatSync(join(foreign, "link")).uid, NOBODY.uid);
    assertTreasureUnharmed();
  });
});

test("a pipe or a huge file in the place of a configuration file is an error, not a wait", () => {
  const path = join(foreign, "postgresql.conf");
  assert.equal(spawnSync("mkfifo", [path]).status, 0);
  assert.throws(() => readSettings(foreign), /it is no ordinary file/);
  rmSync(path);
  writeFileSync(path, "x".repeat(101));
  assert.throws(() => readForeignFile(path, 100), /it has 101 bytes, more than 100/);
});

test("a data directory that somebody has opened to others is closed to them again; group access stays", () => {
  for (
    const [found, wanted] of [[0o755, 0o700], [0o777, 0o700], [0o500, 0o700], [0o750, 0o750], [0o700, 0o700]]
  ) {
    chmodSync(foreign, found!);
    closeToOthers(foreign);
    assert.equal(lstatSync(foreign).mode & 0o777, wanted);
  }
});
