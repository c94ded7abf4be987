import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ZenithError } from "../../../../src/common/errors.ts";
import type { Lsn } from "../../../../src/common/lsn.ts";
import { Leases } from "../../../../src/pageserver/timeline/leases.ts";
import { FaultyDisk, PowerLostError } from "../../../harness/faulty_disk.ts";
import { Random, seeds } from "../../../harness/random.ts";

const NOW = Date.UTC(2026, 10, 22);
const lsn = (value: number) => value as Lsn;

function emptyDisk(seed = 1): FaultyDisk {
  const disk = new FaultyDisk(new Random(seed));
  disk.mkdirSync("/t");
  disk.fsyncDirSync("/");
  return disk;
}

const open = (disk: FaultyDisk) => new Leases(disk, "/t/leases");

describe("leases", () => {
  test("last as long as they were taken for", async () => {
    const leases = open(emptyDisk());
    assert.deepEqual(leases.active(NOW), []);
    assert.equal(await leases.take(lsn(0x3000), 5000, NOW), NOW + 5000);
    assert.equal(await leases.take(lsn(0x2000), 1000, NOW), NOW + 1000);
    assert.deepEqual(leases.active(NOW), [0x2000, 0x3000]);
    assert.deepEqual(leases.active(NOW + 1000), [0x3000]);
    assert.deepEqual(leases.active(NOW + 5000), []);
  });

  test("are never shortened by taking them again", async () => {
    const leases = open(emptyDisk());
    await leases.take(lsn(0x2000), 5000, NOW);
    assert.equal(await leases.take(lsn(0x2000), 1000, NOW), NOW + 5000);
    assert.equal(await leases.take(lsn(0x2000), 5000, NOW + 1000), NOW + 6000);
  });

  test("survive a restart, those that have not ended", async () => {
    const disk = emptyDisk();
    const leases = open(disk);
    await leases.take(lsn(0x2000), 1000, NOW);
    await leases.take(lsn(0x3000), 9000, NOW);
    await leases.take(lsn(0x1_0000_0008), 9000, NOW + 2000);
    assert.deepEqual(open(disk).active(NOW + 2000), [0x3000, 0x1_0000_0008]);
    assert.deepEqual(open(disk).active(NOW), [0x3000, 0x1_0000_0008], "what had ended is forgotten");
  });

  test("of a holder are given up before they end, and those of others stay", async () => {
    const disk = emptyDisk();
    const leases = open(disk);
    await leases.take(lsn(0x2000), 5000, NOW, "a");
    await leases.take(lsn(0x2000), 1000, NOW, "b");
    await leases.take(lsn(0x3000), 5000, NOW, "a");
    await leases.take(lsn(0x3000), 1000, NOW);
    assert.deepEqual(leases.active(NOW), [0x2000, 0x3000]);
    await leases.release(lsn(0x2000), "a");
    await leases.release(lsn(0x3000), "a");
    await leases.release(lsn(0x3000), "b");
    for (const each of [leases, open(disk)]) {
      assert.deepEqual(each.active(NOW), [0x2000, 0x3000]);
      assert.deepEqual(each.active(NOW + 1000), []);
    }
    await leases.release(lsn(0x2000), "b");
    assert.deepEqual(open(disk).active(NOW), [0x3000], "what has no holder ends by itself");
  });

  test("of several holders are a file whose last line of an LSN counts for who knows no holders", async () => {
    const disk = emptyDisk();
    const leases = open(disk);
    await leases.take(lsn(0x2000), 9000, NOW, "a");
    await leases.take(lsn(0x2000), 1000, NOW);
    const file = disk.openSync("/t/leases", "read");
    const bytes = new Uint8Array(file.sizeSync());
    file.readSync(bytes, 0, bytes.length, 0);
    file.closeSync();
    const lines = new TextDecoder().decode(bytes).split("\n");
    assert.deepEqual(lines.slice(1, 3), [
      "0/2000 2026-11-22T00:00:01.000000Z",
      "0/2000 2026-11-22T00:00:09.000000Z a",
    ]);
  });

  test("that were acknowledged survive a power failure at any operation", async () => {
    for (const seed of seeds(20)) {
      for (let n = 1;; n++) {
        const disk = emptyDisk(seed);
        const leases = open(disk);
        await leases.take(lsn(0x2000), 9000, NOW);
        disk.failAt(n, { kind: "crash" });
        let taken = true;
        try {
          await leases.take(lsn(0x3000), 9000, NOW);
        } catch (error) {
          assert.ok(error instanceof ZenithError && error.cause instanceof PowerLostError, String(error));
          assert.deepEqual(leases.active(NOW), [0x2000]);
          taken = false;
        }
        disk.crash();
        const left = open(disk).active(NOW);
        assert.ok(left.includes(lsn(0x2000)), `seed ${seed}, operation ${n}`);
        if (taken) {
          assert.deepEqual(left, [0x2000, 0x3000]);
          break;
        }
      }
    }
  });

  test("in a file without a checksum, as they once were, are read", () => {
    const disk = emptyDisk();
    write(disk, "zenith leases 1\n0/3000 2026-11-22T00:00:09.000000Z\n");
    assert.deepEqual(open(disk).active(NOW), [0x3000]);
  });

  test("that are damaged are set aside: more can be taken, and nobody is told that no others are there", async () => {
    for (
      const bad of [
        "",
        "zenith leases 3\n",
        "zenith leases 1\n0/16B5A50\n",
        "zenith leases 1\n0/16B5A50 2026-11-22T",
        "zenith leases 2\n0/3000 2026-11-22T00:00:09.000000Z\ncrc32c 00000000\n",
      ]
    ) {
      const disk = emptyDisk();
      write(disk, bad);
      const leases = open(disk);
      await leases.take(lsn(0x2000), 5000, NOW);
      for (const each of [leases, open(disk)]) {
        assert.throws(
          () => each.active(NOW),
          (error) =>
            error instanceof ZenithError && error.kind === "corrupt_data" &&
            error.message.includes("/t/leases.damaged"),
          bad,
        );
      }
      disk.unlinkSync("/t/leases.damaged");
      assert.deepEqual(open(disk).active(NOW), [0x2000]);
    }
  });
});

function write(disk: FaultyDisk, content: string): void {
  const bytes = new TextEncoder().encode(content);
  const file = disk.openSync("/t/leases", "create");
  file.writeSync(bytes, 0, bytes.length, 0);
  file.closeSync();
}
