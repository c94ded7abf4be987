import { afterEach, beforeEach, describe, test } from "node:test";
import assert from "node:assert/strict";
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AssertionError } from "../../../src/common/assert.ts";
import { type Disk, type DiskFile, nodeDisk } from "../../../src/common/disk.ts";
import { ZenithError } from "../../../src/common/errors.ts";
import type { Lsn } from "../../../src/common/lsn.ts";
import { WalStore } from "../../../src/wal_store/wal_store.ts";

const SEGMENT = 1 << 20;
const START = (SEGMENT * 3 + 0x28) as Lsn;

function at(value: number): Lsn {
  return value as Lsn;
}

/** Bytes that tell their position. */
function pattern(lsn: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = 1 + ((lsn + i) * 31 + ((lsn + i) >> 11)) % 255;
  return bytes;
}

function append(store: WalStore, length: number): void {
  store.write(store.writtenLsn, pattern(store.writtenLsn, length), 0, length);
}

function contents(store: WalStore, from: number, length: number): Uint8Array {
  const into = new Uint8Array(length);
  const got = store.read(at(from), into, 0, length);
  return into.subarray(0, got);
}

interface Hooks {
  write?: (file: string) => void;
  fdatasync?: () => Promise<void>;
  fdatasyncSync?: () => void;
  log?: string[];
}

/** The real disk, watched, and failing where a hook throws. */
function hookedDisk(hooks: Hooks): Disk {
  const wrap = (file: DiskFile): DiskFile => ({
    path: file.path,
    readSync: (into, off, len, position) => file.readSync(into, off, len, position),
    writeSync: (from, off, len, position) => {
      hooks.write?.(file.path);
      file.writeSync(from, off, len, position);
    },
    fsync: () => {
      hooks.log?.push(`fsync ${file.path.slice(-2)}`);
      return file.fsync();
    },
    fsyncSync: () => file.fsyncSync(),
    fdatasync: async () => {
      hooks.log?.push(`fdatasync ${file.path.slice(-2)}`);
      await hooks.fdatasync?.();
      await file.fdatasync();
    },
    fdatasyncSync: () => {
      hooks.log?.push(`fdatasyncSync ${file.path.slice(-2)}`);
      hooks.fdatasyncSync?.();
      file.fdatasyncSync();
    },
    truncateSync: (size) => file.truncateSync(size),
    sizeSync: () => file.sizeSync(),
    closeSync: () => file.closeSync(),
  });
  return {
    ...nodeDisk,
    openSync: (path, mode) => wrap(nodeDisk.openSync(path, mode)),
    unlinkSync: (path) => {
      hooks.log?.push(`unlink ${path.slice(-2)}`);
      nodeDisk.unlinkSync(path);
    },
    fsyncDirSync: (path) => {
      hooks.log?.push("fsync dir");
      nodeDisk.fsyncDirSync(path);
    },
    unlink: (path) => {
      hooks.log?.push(`unlink ${path.slice(-2)}`);
      return nodeDisk.unlink(path);
    },
    fsyncDir: (path) => {
      hooks.log?.push("fsync dir");
      return nodeDisk.fsyncDir(path);
    },
  };
}

describe("WalStore", () => {
  let dir = "";
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "zenith-wal-store-"));
  });
  afterEach(() => {
    rmSync(dir, { recursive: true });
  });

  function open(disk: Disk = nodeDisk, startLsn = START): Promise<WalStore> {
    return WalStore.open(join(dir, "wal"), { segmentSize: SEGMENT, disk, startLsn });
  }

  test("is empty at first, and makes its directory", async () => {
    const store = await open();
    assert.deepEqual([store.startLsn, store.writtenLsn, store.syncedLsn, store.isEndKnown], [
      START,
      START,
      START,
      true,
    ]);
    assert.deepEqual(store.sizes(), { segments: 0, bytes: 0 });
    assert.equal(await store.sync(), START);
    assert.deepEqual(readdirSync(join(dir, "wal")), []);
  });

  test("keeps WAL in PostgreSQL's segment files, each of full size, at its place", async () => {
    const store = await open();
    append(store, SEGMENT * 2);
    assert.equal(await store.sync(), START + 2 * SEGMENT);
    const names = readdirSync(join(dir, "wal")).sort();
    assert.deepEqual(names, [
      "000000010000000000000003",
      "000000010000000000000004",
      "000000010000000000000005",
    ]);
    for (const name of names) assert.equal(statSync(join(dir, "wal", name)).size, SEGMENT);
    const first = readFileSync(join(dir, "wal", names[0]));
    assert.deepEqual(first.subarray(0, 0x28), Buffer.alloc(0x28));
    assert.deepEqual(new Uint8Array(first.subarray(0x28)), pattern(START, SEGMENT - 0x28));
    await store.close();
  });

  test("reads what was written before it is synced, across segments, up to the end", async () => {
    const store = await open();
    append(store, SEGMENT);
    append(store, 1000);
    const near = START + SEGMENT - 500;
    assert.deepEqual(contents(store, near, 5000), pattern(near, 1500));
    assert.equal(contents(store, store.writtenLsn, 10).length, 0);
    assert.throws(() => contents(store, START - 1, 1), { kind: "out_of_range" });
    assert.throws(() => contents(store, store.writtenLsn + 1, 1), { kind: "out_of_range" });
    let lsn = START as number;
    for (const chunk of store.iterate(START, store.writtenLsn)) {
      assert.equal(chunk.lsn, lsn);
      assert.deepEqual(chunk.bytes, pattern(lsn, chunk.bytes.length));
      lsn += chunk.bytes.length;
    }
    assert.equal(lsn, store.writtenLsn);
    await store.close();
  });

  test("refuses gaps and overlaps", async () => {
    const store = await open();
    append(store, 100);
    const bytes = new Uint8Array(8);
    assert.throws(() => store.write(at(START + 101), bytes, 0, 8), AssertionError);
    assert.throws(() => store.write(at(START + 99), bytes, 0, 8), AssertionError);
    await store.close();
  });

  test("calls that come while a sync runs share one more", async () => {
    const gates: (() => void)[] = [];
    const store = await open(hookedDisk({
      fdatasync: () => new Promise((resolve) => gates.push(() => resolve())),
    }));
    append(store, 100);
    const first = store.sync();
    append(store, 100);
    const second = store.sync();
    append(store, 100);
    const third = store.sync();
    assert.equal(gates.length, 1);
    gates[0]();
    assert.equal(await first, START + 100);
    while (gates.length < 2) await Promise.resolve();
    append(store, 100);
    gates[1]();
    assert.deepEqual(await Promise.all([second, third]), [START + 300, START + 300]);
    assert.equal(gates.length, 2);
    assert.equal(store.syncedLsn, START + 300);
    await store.close();
  });

  test("a sync covers every segment that was written since the last one", async () => {
    const log: string[] = [];
    const store = await open(hookedDisk({ log }));
    append(store, 100);
    await store.sync();
    log.length = 0;
    append(store, SEGMENT * 2);
    await store.sync();
    // The name of 04 before 05 is made, the name of 05 with what is in it.
    assert.deepEqual(log, ["fsync dir", "fdatasync 03", "fdatasync 04", "fdatasync 05", "fsync dir"]);
    await store.close();
  });

  test("syncs in this thread only what is little, in one segment whose name is durable", async () => {
    const log: string[] = [];
    const store = await open(hookedDisk({ log }));
    append(store, 100);
    assert.equal(store.syncHere(1000), false, "the segment's name is not durable");
    await store.sync();
    log.length = 0;
    append(store, 1001);
    assert.equal(store.syncHere(1000), false);
    assert.equal(store.syncHere(1001), true);
    assert.equal(store.syncedLsn, START + 1101);
    append(store, 1);
    const running = store.sync();
    assert.equal(store.syncHere(1000), false, "another sync runs");
    await running;
    append(store, SEGMENT);
    assert.equal(store.syncHere(2 * SEGMENT), false, "two segments");
    assert.deepEqual(log, ["fdatasyncSync 03", "fdatasync 03"]);
    await store.close();
  });

  test("after a sync in this thread has failed nothing more is taken either", async () => {
    const store = await open(hookedDisk({
      fdatasyncSync: () => {
        throw new Error("EIO: i/o error");
      },
    }));
    append(store, 100);
    await store.sync();
    append(store, 100);
    assert.throws(() => store.syncHere(1000), { kind: "io" });
    assert.equal(store.syncedLsn, START + 100);
    await assert.rejects(store.sync(), { kind: "io" });
    await store.close();
  });

  test("after a failed sync nothing more is taken: the kernel may have dropped the pages", async () => {
    let broken = false;
    const store = await open(hookedDisk({
      fdatasync: () => broken ? Promise.reject(new Error("EIO: i/o error")) : Promise.resolve(),
    }));
    append(store, 100);
    await store.sync();
    append(store, 100);
    broken = true;
    const first = store.sync();
    const shared = store.sync();
    await assert.rejects(first, { kind: "io" });
    await assert.rejects(shared, { kind: "io" });
    broken = false;
    await assert.rejects(store.sync(), { kind: "io" });
    assert.throws(() => append(store, 1), { kind: "io" });
    assert.equal(store.syncedLsn, START + 100);
    assert.deepEqual(contents(store, START, 200), pattern(START, 200));
    await store.close();
  });

  test("a full disk is named, and the write can be tried again", async () => {
    let full = false;
    const store = await open(hookedDisk({
      write: (path) => {
        if (full && path.endsWith("04")) throw Object.assign(new Error("ENOSPC"), { code: "ENOSPC" });
      },
    }));
    append(store, SEGMENT - 0x28 - 50);
    full = true;
    const end = store.writtenLsn;
    assert.throws(() => append(store, 100), (error) => {
      assert.ok(error instanceof ZenithError);
      assert.equal(error.kind, "disk_full");
      return true;
    });
    assert.equal(store.writtenLsn, end);
    full = false;
    append(store, 100);
    await store.sync();
    assert.deepEqual(contents(store, end, 100), pattern(end, 100));
    await store.close();
  });

  test("cutting removes segments from the last one down, each durably, and zeroes the rest", async () => {
    const log: string[] = [];
    const store = await open(hookedDisk({ log }));
    append(store, SEGMENT * 3);
    await store.sync();
    log.length = 0;
    const cut = at(SEGMENT * 4 + 4096);
    await store.truncate(cut);
    assert.deepEqual(log, ["unlink 06", "fsync dir", "unlink 05", "fsync dir", "fsync 04"]);
    assert.deepEqual([store.writtenLsn, store.syncedLsn], [cut, cut]);
    const file = readFileSync(join(dir, "wal", "000000010000000000000004"));
    assert.equal(file.length, SEGMENT);
    assert.deepEqual(new Uint8Array(file.subarray(0, 4096)), pattern(SEGMENT * 4, 4096));
    assert.ok(file.subarray(4096).every((byte) => byte === 0));
    append(store, 10);
    assert.deepEqual(contents(store, cut - 5, 100), pattern(cut - 5, 15));
    await store.close();
  });

  test("cuts at a segment's first byte and at its own start", async () => {
    const store = await open();
    append(store, SEGMENT * 2);
    await store.truncate(at(SEGMENT * 4));
    assert.deepEqual(readdirSync(join(dir, "wal")), ["000000010000000000000003"]);
    append(store, 10);
    assert.deepEqual(contents(store, SEGMENT * 4 - 10, 20), pattern(SEGMENT * 4 - 10, 20));
    await store.truncate(START);
    const [name] = readdirSync(join(dir, "wal"));
    assert.equal(name, "000000010000000000000003");
    assert.ok(readFileSync(join(dir, "wal", name)).every((byte) => byte === 0));
    await assert.rejects(store.truncate(at(START + 1)), { kind: "out_of_range" });
    await assert.rejects(store.truncate(at(START - 1)), { kind: "out_of_range" });
    await store.close();
  });

  test("bytes that were cut unsynced in an earlier segment are durable before the cut is", async () => {
    const log: string[] = [];
    const store = await open(hookedDisk({ log }));
    append(store, SEGMENT * 2);
    await store.truncate(at(SEGMENT * 5));
    assert.deepEqual(log.filter((entry) => entry.startsWith("fdatasync")), [
      "fdatasync 03",
      "fdatasync 04",
      "fdatasync 05",
    ]);
    await store.close();
  });

  test("opened again, it takes nothing before its end was said; then it goes on from there", async () => {
    const before = await open();
    append(before, SEGMENT + 100);
    await before.close();
    const log: string[] = [];
    const store = await open(hookedDisk({ log }));
    assert.equal(store.isEndKnown, false);
    assert.equal(store.writtenLsn, SEGMENT * 5);
    assert.throws(() => append(store, 1), AssertionError);
    await assert.rejects(store.removeBefore(at(SEGMENT * 4)), AssertionError);
    const end = at(START + SEGMENT + 50);
    await store.truncate(end);
    assert.deepEqual(
      log.filter((entry) => entry !== "fsync dir"),
      ["fsync 03", "fsync 04", "fsync 04"],
      "what the killed process had written becomes durable",
    );
    append(store, 100);
    await store.sync();
    assert.deepEqual(contents(store, START, SEGMENT * 2), pattern(START, SEGMENT + 150));
    await store.close();
  });

  test("a segment that a crash left short reads as zeros", async () => {
    const before = await open();
    append(before, 1000);
    await before.close();
    truncateSync(join(dir, "wal", "000000010000000000000003"), 100);
    const store = await open();
    const got = contents(store, START, 200);
    assert.deepEqual(got.subarray(0, 100 - 0x28), pattern(START, 100 - 0x28));
    assert.ok(got.subarray(100 - 0x28).every((byte) => byte === 0));
    await store.truncate(at(SEGMENT * 3 + 100));
    assert.equal(statSync(join(dir, "wal", "000000010000000000000003")).size, SEGMENT);
    await store.close();
  });

  test("trimming removes whole segments from the first one up, and never the last", async () => {
    const log: string[] = [];
    const store = await open(hookedDisk({ log }));
    append(store, SEGMENT * 4 - 0x28);
    await store.sync();
    log.length = 0;
    assert.equal(await store.removeBefore(at(SEGMENT * 5 - 1)), 1);
    assert.deepEqual(log, ["unlink 03", "fsync dir"]);
    assert.equal(store.startLsn, SEGMENT * 4);
    assert.throws(() => contents(store, START, 1), { kind: "out_of_range" });
    assert.equal(await store.removeBefore(at(SEGMENT * 7)), 2);
    assert.deepEqual(store.sizes(), { segments: 1, bytes: SEGMENT });
    await store.close();

    const again = await open();
    assert.equal(again.startLsn, SEGMENT * 6);
    await again.truncate(at(SEGMENT * 7));
    append(again, 10);
    assert.deepEqual(contents(again, SEGMENT * 7 - 1, 20), pattern(SEGMENT * 7 - 1, 11));
    await again.close();
  });

  test("a missing segment is damage", async () => {
    const store = await open();
    append(store, SEGMENT * 3);
    await store.close();
    rmSync(join(dir, "wal", "000000010000000000000004"));
    await assert.rejects(open(), { kind: "corrupt_data", message: /000000010000000000000004 is missing/ });
  });

  test("files that are not segments of its timeline are left alone", async () => {
    const store = await open();
    append(store, 10);
    await store.close();
    writeFileSync(join(dir, "wal", "safekeeper.control"), "x");
    writeFileSync(join(dir, "wal", "000000020000000000000009"), "x");
    const again = await open();
    assert.deepEqual(again.sizes(), { segments: 1, bytes: SEGMENT });
    await again.close();
  });

  test("the head of a first segment that starts in its middle can be written, and read as part of the segment", async () => {
    const store = await open();
    store.writeHead(at(SEGMENT * 3), pattern(0, 0x28));
    append(store, 10);
    const into = new Uint8Array(100);
    assert.equal(store.readSegments(at(SEGMENT * 3), into, 0, 100), 0x28 + 10);
    assert.deepEqual(into.subarray(0, 0x28), pattern(0, 0x28));
    assert.throws(() => store.writeHead(at(SEGMENT * 3), pattern(0, 1)), AssertionError);
    await store.close();
  });
});
