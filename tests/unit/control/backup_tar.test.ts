import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { readTarFile, TAR_NAME } from "../../../src/control/backup_tar.ts";

/** Some that compresses well and some that does not, over many blocks of any compression. */
function content(): Uint8Array {
  const noise = Array.from({ length: 30_000 }, (_, i) => createHash("sha256").update(String(i)).digest());
  return Buffer.concat([
    Buffer.alloc(3 << 20, "zenith "),
    ...noise,
    Buffer.alloc(200_000),
    ...noise.slice(0, 99),
  ]);
}

describe("a tar of a backup", () => {
  let directory: string;
  let tar: string;

  before(() => {
    directory = mkdtempSync(join(tmpdir(), "zenith-tar-"));
    mkdirSync(join(directory, "in/base/5"), { recursive: true });
    writeFileSync(join(directory, "in/base/5/1259"), content());
    writeFileSync(join(directory, "in/PG_VERSION"), "15\n");
    tar = join(directory, "base.tar");
    spawnSync("tar", ["-cf", tar, "-C", join(directory, "in"), "."]);
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  async function read(path: string): Promise<Record<string, string>> {
    const files: Record<string, string> = {};
    for await (const { name, size, content } of readTarFile(path, "")) {
      const hash = createHash("sha256");
      let length = 0;
      for await (const bytes of content) {
        hash.update(bytes);
        length += bytes.length;
      }
      assert.equal(length, size);
      files[name] = hash.digest("hex");
    }
    return files;
  }

  const expected = () => ({
    "PG_VERSION": createHash("sha256").update("15\n").digest("hex"),
    "base/5/1259": createHash("sha256").update(content()).digest("hex"),
  });

  test("has its files", async () => assert.deepEqual(await read(tar), expected()));

  for (
    const [program, args] of [["gzip", ["-k"]], ["zstd", ["-q"]], ["lz4", ["-q"]], ["lz4", [
      "-q",
      "-BI",
      "-B4",
    ]], [
      "lz4",
      ["-q", "-BD", "-BX", "--content-size"],
    ]] as const
  ) {
    const isThere = spawnSync(program, ["--version"], { stdio: "ignore" }).status === 0;
    test(`is known by its first bytes when ${program} ${args.join(" ")} has compressed it`, {
      skip: isThere ? false : `there is no ${program}`,
    }, async () => {
      const packed = join(directory, "packed");
      rmSync(packed, { force: true });
      writeFileSync(packed, spawnSync(program, [...args, "-c", tar], { maxBuffer: 64 << 20 }).stdout);
      assert.deepEqual(await read(packed), expected());
      const bytes = readFileSync(packed);
      writeFileSync(packed, bytes.subarray(0, Math.floor(bytes.length / 2)));
      await assert.rejects(read(packed), /unexpected end|cut short|Unexpected end/);
    });
  }

  test("has the name that pg_basebackup gives it", () => {
    for (const name of ["base.tar", "base.tar.gz", "pg_wal.tar.lz4", "16400.tar.zst"]) {
      assert.match(name, TAR_NAME);
    }
    for (const name of ["backup.tar", "base.tar.bz2", "base.tgz", "0.tar"]) {
      assert.doesNotMatch(name, TAR_NAME);
    }
    assert.ok(existsSync(tar));
  });
});
