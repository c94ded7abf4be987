/** A repository of pgBackRest 2.60 with block incremental backups, which Debian 12's does not write. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { parseBlockMap } from "../../../src/archive/pgbackrest/block_map.ts";
import { InfoFile } from "../../../src/archive/pgbackrest/info_file.ts";
import { PgBackRestRepository } from "../../../src/archive/pgbackrest/repository.ts";

const FIXTURE = join(import.meta.dirname!, "fixtures/block_incremental");
const FULL = "20261130-081309F";
/** Its blocks are all newer than the full backup's. */
const DIFFERENTIAL = `${FULL}_20261130-081335D`;
const TABLE = "base/5/16396";

async function filesOf(path: string, label?: string): Promise<Map<string, Buffer>> {
  const backup = await new PgBackRestRepository(path, {}).openBackup(label);
  const files = new Map<string, Buffer>();
  for await (const { name, content } of backup.files()) {
    const parts: Uint8Array[] = [];
    for await (const bytes of content) parts.push(bytes.slice());
    files.set(name, Buffer.concat(parts));
  }
  return files;
}

describe("a block incremental backup", () => {
  test("is put together from the backups that it refers to", async () => {
    const files = await filesOf(FIXTURE);
    assert.deepEqual([...files.keys()].sort(), ["PG_VERSION", "backup_label", "base/5/16396", "base/5/2600"]);
    const table = files.get(TABLE)!;
    assert.equal(table.length, 327_680);
    // What pgBackRest itself restores.
    const digest = createHash("sha1").update(table).digest("hex");
    assert.equal(digest, "c96fad66eb0cc1eb5cb166f1e56c7c0548f208ae");
    assert.equal(files.get("PG_VERSION")!.toString(), "15\n");
    const before = (await filesOf(FIXTURE, FULL)).get(TABLE)!;
    assert.equal(before.length, 286_720);
  });

  test("is damaged when a backup that it refers to is", async () => {
    const copy = mkdtempSync(join(tmpdir(), "zenith-repository-"));
    try {
      cpSync(FIXTURE, copy, { recursive: true });
      const path = join(copy, "backup/main", DIFFERENTIAL, "pg_data", `${TABLE}.pgbi`);
      const bytes = readFileSync(path);
      // Some of its blocks are replaced by the next backup.
      for (let at = 100; at < bytes.length; at += 500) bytes[at]! ^= 1;
      writeFileSync(path, bytes);
      await assert.rejects(filesOf(copy), /backup .*I is damaged: pg_data\/base\/5\/16396 /);
      rmSync(path);
      await assert.rejects(filesOf(copy), /there is no .*16396\.pgbi/);
    } finally {
      rmSync(copy, { recursive: true });
    }
  });
});

test("a block map is refused when it is cut short, or is of another file", () => {
  // One super block of one block: the flags, the reference, the size, its checksum.
  const map = Uint8Array.of(0, 1, 9 * 8 + 1, 1, 2, 3, 4, 5, 6);
  const [block] = parseBlockMap(map, 8192, 6, 8192, "f");
  assert.deepEqual(block, {
    in: { reference: 0, bundleId: 0, offset: 0, storedBytes: 9, bytes: 8192 },
    number: 0,
  });
  for (let length = 0; length < map.length; length++) {
    assert.throws(
      () => parseBlockMap(map.subarray(0, length), 8192, 6, 8192, "f"),
      /f is damaged: it is cut/,
    );
  }
  assert.throws(() => parseBlockMap(map, 8192, 6, 8193, "f"), /it has 1 blocks, the file has 2/);
  assert.throws(() => parseBlockMap(map, 8192, 6, 0, "f"), /it has more blocks than the file/);
  assert.throws(() => parseBlockMap(Uint8Array.of(1), 8192, 6, 8192, "f"), /its version is not known/);
});

describe("an info file", () => {
  const text = readFileSync(join(FIXTURE, "backup/main/backup.info"), "utf8");

  test("has values by section and key", () => {
    const info = new InfoFile(text, "backup.info");
    assert.equal(info.value("db", "db-version"), "15");
    // Beyond what a number can hold.
    assert.match(info.json("db", "db-system-id"), /^\d{19}$/);
    assert.equal([...info.entries("backup:current")].length, 3);
  });

  test("is damaged when anything in it was changed", () => {
    for (
      const [from, to] of [["db-id=1", "db-id=2"], ["[db]", "[dc]"], [FULL, "20261130-081310F"]] as const
    ) {
      assert.throws(() => new InfoFile(text.replace(from, to), "f"), /f is damaged: its checksum is/);
    }
    assert.throws(() => new InfoFile(text.slice(0, 100), "f"), /f is damaged/);
  });
});
