/** WAL archives as different tools lay them out. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { WalArchive } from "../../../src/archive/wal_archive.ts";

const SEGMENT = Buffer.alloc(1 << 20, "wal");
const SHA1 = createHash("sha1").update(SEGMENT).digest("hex");
const FOLDER = "0000000200000001";
const name = (number: number) => FOLDER + number.toString(16).toUpperCase().padStart(8, "0");

let directory: string;
const write = (path: string, content: Uint8Array | string) => writeFileSync(join(directory, path), content);

beforeEach(() => {
  if (directory !== undefined) rmSync(directory, { recursive: true });
  directory = mkdtempSync(join(tmpdir(), "zenith-archive-"));
  mkdirSync(join(directory, FOLDER));
});
after(() => rmSync(directory, { recursive: true, force: true }));

async function contentOf(archive: WalArchive, segment: string): Promise<Buffer> {
  const path = await archive.find(segment);
  assert.ok(path !== null);
  const parts: Uint8Array[] = [];
  for await (const bytes of archive.read(path)) parts.push(bytes.slice());
  return Buffer.concat(parts);
}

describe("a WAL archive", () => {
  test("has segments side by side or in folders, by name, with what each tool adds", async () => {
    write(name(1), SEGMENT);
    write(`${name(2)}.gz`, gzipSync(SEGMENT));
    write(`${FOLDER}/${name(3)}-${SHA1}.gz`, gzipSync(SEGMENT));
    // As barman leaves it: compressed, without an extension.
    write(`${FOLDER}/${name(4)}`, gzipSync(SEGMENT));
    for (const other of [`${name(5)}.partial`, `${name(5)}.00000028.backup`, `${name(6)}.tmp`]) {
      write(other, "x");
      write(`${FOLDER}/${other}`, "x");
    }
    const archive = new WalArchive(directory);
    for (const number of [1, 2, 3, 4]) {
      assert.equal((await contentOf(archive, name(number))).equals(SEGMENT), true, String(number));
    }
    for (const number of [5, 6, 7]) assert.equal(await archive.find(name(number)), null);
    assert.equal(await archive.hasPartial(name(5)), true);
    assert.equal(await archive.hasPartial(name(6)), false);
    assert.deepEqual(await archive.segmentsOf(2), { first: name(1), last: name(4) });
    assert.equal(await archive.segmentsOf(1), null);
  });

  test("is damaged when a segment is not what its name says", async () => {
    write(`${FOLDER}/${name(1)}-${"0".repeat(40)}`, SEGMENT);
    await assert.rejects(contentOf(new WalArchive(directory), name(1)), new RegExp(`SHA1 checksum ${SHA1}`));
  });

  test("has the histories that are complete, and sees what comes later", async () => {
    const archive = new WalArchive(directory);
    write("00000002.history", "");
    assert.equal((await archive.histories()).size, 0);
    write("00000002.history", "1\t1/5\tno reason\n");
    assert.deepEqual((await archive.histories()).get(2), [{ tli: 1, lsn: 0x1_0000_0005 }]);
    // Long unchanged, so that its list may be remembered.
    utimesSync(directory, 1, 1);
    for (let i = 0; i < 2; i++) assert.equal((await archive.histories()).size, 1);
    write("00000003.history.gz", gzipSync("1\t1/5\tno reason\n2\t1/7\tno reason\n"));
    assert.equal((await archive.histories()).get(3)!.length, 2);
    rmSync(directory, { recursive: true });
    await assert.rejects(archive.histories(), /there is no directory/);
    mkdirSync(directory);
  });
});
