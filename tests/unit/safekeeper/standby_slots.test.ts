import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { nodeDisk } from "../../../src/common/disk.ts";
import type { Lsn } from "../../../src/common/lsn.ts";
import { StandbySlots } from "../../../src/safekeeper/standby_slots.ts";

const lsn = (n: number) => n as Lsn;

describe("slots of standbys", () => {
  let directory: string;
  let path: string;
  const open = () => new StandbySlots(nodeDisk, path);

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "zenith-standby-slots-"));
    path = join(directory, "standby_slots");
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  test("keep WAL from what the standby that is furthest behind has, up to each one's limit", async () => {
    const slots = open();
    assert.equal(slots.keepFrom(lsn(1_000)), 1_000);
    await slots.create("near", lsn(900), 500);
    await slots.create("far", lsn(100), 600);
    assert.equal(slots.keepFrom(lsn(650)), 100);
    assert.equal(slots.keepFrom(lsn(1_000)), 400);
    assert.equal(slots.keepFrom(lsn(2_000)), 1_400);
    await slots.drop("far");
    assert.equal(slots.keepFrom(lsn(1_000)), 900);
  });

  test("move when their standby confirms, never back, and are the same after a start", async () => {
    const slots = open();
    await slots.create("paris", lsn(100), 10_000);
    {
      using use = slots.use("paris")!;
      use.confirm(lsn(300));
      use.confirm(lsn(200));
      assert.deepEqual(slots.list(), [{ name: "paris", restartLsn: 300, maxBytes: 10_000, active: true }]);
    }
    assert.equal(open().list()[0]?.restartLsn, 100);
    await slots.save();
    assert.deepEqual(open().list(), [{ name: "paris", restartLsn: 300, maxBytes: 10_000, active: false }]);
    await open().create("paris", lsn(900), 5);
    assert.deepEqual(open().list(), [{ name: "paris", restartLsn: 300, maxBytes: 5, active: false }]);
  });

  test("belong to one standby at a time, and are dropped when it has gone", async () => {
    const slots = open();
    await slots.create("paris", lsn(100), 1);
    const use = slots.use("paris")!;
    assert.throws(() => slots.use("paris"), { kind: "conflict", message: /in use by another standby/ });
    await assert.rejects(slots.drop("paris"), { kind: "conflict" });
    use[Symbol.dispose]();
    slots.use("paris")![Symbol.dispose]();
    await slots.drop("paris");
    await assert.rejects(slots.drop("paris"), { kind: "not_found" });
    assert.equal(slots.use("paris"), undefined);
  });

  test("have names as PostgreSQL's slots", async () => {
    for (const name of ["", "Paris", "a b", "a\nb", "x".repeat(64)]) {
      await assert.rejects(open().create(name, lsn(1), 1), { kind: "invalid_argument" });
    }
  });

  test("set a damaged file aside, and say so", async () => {
    await open().create("paris", lsn(0x1_0000), 7);
    assert.match(
      readFileSync(path, "utf8"),
      /^zenith standby slots 2\nparis 0\/10000 7\ncrc32c [0-9a-f]{8}\n$/,
    );
    writeFileSync(path, "zenith standby slots 2\nparis\n");
    const slots = open();
    assert.deepEqual(slots.list(), []);
    assert.match(slots.damage()!, /standby_slots was damaged, and is now .*standby_slots\.damaged/);
  });
});
