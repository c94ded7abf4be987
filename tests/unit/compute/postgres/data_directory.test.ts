import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterEach, beforeEach, describe, test } from "node:test";
import { pack } from "tar-stream";
import { RELATION_MANIFEST_FILE } from "../../../../src/protocol/relation_manifest.ts";
import { clearDataDirectory, unpackBasebackup } from "../../../../src/compute/postgres/data_directory.ts";

let pgdata: string;

beforeEach(() => {
  pgdata = mkdtempSync(join(tmpdir(), "zenith-data-directory-"));
});
afterEach(() => rmSync(pgdata, { recursive: true, force: true }));

interface TarFile {
  name: string;
  content?: string | Uint8Array;
  type?: "directory" | "symlink";
}

const COMPLETE: TarFile[] = [
  { name: "base/", type: "directory" },
  { name: "pg_wal/", type: "directory" },
  { name: "pg_xact/", type: "directory" },
  { name: "global/", type: "directory" },
  { name: "global/pg_control", content: new Uint8Array(8192) },
  { name: "pg_wal/000000010000000000000001", content: new Uint8Array(100) },
  { name: "PG_VERSION", content: "15\n" },
];

async function tarOf(files: readonly TarFile[]): Promise<Uint8Array> {
  const archive = pack();
  for (const { name, content, type } of files) {
    if (type === undefined) archive.entry({ name }, Buffer.from(content ?? ""));
    else archive.entry({ name, type, linkname: type === "symlink" ? "/etc/passwd" : "" });
  }
  archive.finalize();
  const chunks: Uint8Array[] = [];
  for await (const chunk of archive) chunks.push(chunk as Uint8Array);
  return Buffer.concat(chunks);
}

/** The bytes as a stream of pieces of an awkward size. */
function stream(bytes: Uint8Array): Readable {
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += 1000) pieces.push(bytes.subarray(at, at + 1000));
  return Readable.from(pieces);
}

describe("unpacking a basebackup", () => {
  test("goes again after a start that was broken off", async () => {
    const tar = await tarOf([...COMPLETE, { name: RELATION_MANIFEST_FILE, content: "files" }]);
    for (let start = 0; start < 2; start++) {
      clearDataDirectory(pgdata);
      await unpackBasebackup(stream(tar), pgdata, undefined, () => {}, "lazy");
    }
  });

  test("makes files and directories that only their owner can read", async () => {
    const relation = Buffer.alloc(3 * 8192, "x");
    const files = [...COMPLETE, { name: "base/5/1259", content: relation }, {
      name: "base/5/",
      type: "directory" as const,
    }];
    files.splice(1, 0, files.pop()!);
    const result = await unpackBasebackup(stream(await tarOf(files)), pgdata, undefined);
    assert.deepEqual(readFileSync(join(pgdata, "base/5/1259")), relation);
    assert.equal(statSync(join(pgdata, "base/5/1259")).mode & 0o777, 0o600);
    assert.equal(statSync(join(pgdata, "base")).mode & 0o777, 0o700);
    assert.deepEqual(result, { files: 4, bytes: 8192 + 100 + 3 + relation.length });
  });

  test("a tar that is cut short anywhere is an error", async () => {
    const whole = await tarOf(COMPLETE);
    const endOfData = whole.length - 1024;
    for (const length of [0, 511, 512, 700, 4000, endOfData - 512, endOfData - 1]) {
      const dir = join(pgdata, String(length));
      mkdirSync(dir);
      await assert.rejects(
        unpackBasebackup(stream(whole.subarray(0, length)), dir, undefined),
        /basebackup/,
        `cut at ${length}`,
      );
    }
  });

  test("an error of the source comes out as it is", async () => {
    const whole = await tarOf(COMPLETE);
    const failing = new Readable({
      read() {
        this.push(whole.subarray(0, 2000));
        this.destroy(new Error("connection lost"));
      },
    });
    await assert.rejects(unpackBasebackup(failing, pgdata, undefined), /connection lost/);
  });

  for (const name of ["../escape", "base/../../escape", "/etc/escape", "base//x", "pg_hba.conf"]) {
    test(`a file named ${name} is refused`, async () => {
      await assert.rejects(
        unpackBasebackup(stream(await tarOf([{ name, content: "x" }])), pgdata, undefined),
        /is not a name inside a data directory/,
      );
      assert.equal(existsSync(join(pgdata, "..", "escape")), false);
    });
  }

  test("a link is refused", async () => {
    await assert.rejects(
      unpackBasebackup(stream(await tarOf([{ name: "base/x", type: "symlink" }])), pgdata, undefined),
      /base\/x is of type "2"/,
    );
  });

  test("a data directory of another major version is refused", async () => {
    const files = COMPLETE.map((file) => file.name === "PG_VERSION" ? { ...file, content: "13\n" } : file);
    await assert.rejects(
      unpackBasebackup(stream(await tarOf(files)), pgdata, undefined),
      /PG_VERSION is 13/,
    );
  });
});

describe("clearing a data directory", () => {
  test("keeps the user's configuration and removes data, links to tablespaces and signal files", () => {
    const kept = ["postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf", "server.key"];
    const removed = ["PG_VERSION", "postmaster.pid", "standby.signal", "backup_label"];
    for (const name of [...kept, ...removed]) writeFileSync(join(pgdata, name), name);
    for (const dir of ["base/5", "pg_wal", "pg_replslot/old", "pg_stat"]) {
      mkdirSync(join(pgdata, dir), { recursive: true });
    }
    clearDataDirectory(pgdata);
    for (const name of kept) assert.equal(readFileSync(join(pgdata, name), "utf8"), name);
    for (const name of [...removed, "base", "pg_wal", "pg_replslot"]) {
      assert.equal(existsSync(join(pgdata, name)), false, name);
    }
    assert.equal(existsSync(join(pgdata, "pg_stat")), true);
  });
});
