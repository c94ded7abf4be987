import { describe, test } from "node:test";
import assert from "node:assert/strict";
import type { Lsn } from "../../../../src/common/lsn.ts";
import { BlockCache, checkTimeline, dumpLayer, TimelineStore } from "../../../../src/pagestore/mod.ts";
import { FaultyDisk } from "../../../harness/faulty_disk.ts";
import { Random } from "../../../harness/random.ts";

const LAYER = "/t/00000001.layer";

/** Two objects, three keys, four versions, in one layer. */
async function timeline(): Promise<FaultyDisk> {
  const disk = new FaultyDisk(new Random(1));
  const options = { disk, nowMs: () => 0, cache: new BlockCache(1 << 20) };
  const store = await TimelineStore.create("/t", { ...options, startLsn: 100 as Lsn });
  const value = new Uint8Array(50).fill(7);
  store.noteRecord(104);
  const first = store.slot({ kind: 1, a: 2, b: 3, c: 4, d: 5 });
  store.put(first, 9, 120, value, 0, 50, 8, true);
  store.put(first, 9, 130, value, 0, 40, 9, false);
  store.putValue(first, 0xffffffff, 130, value, 0, true);
  store.put(store.slot({ kind: 2, a: 0, b: 0, c: 0, d: 0 }), 0, 130, value, 0, 1, 0, true);
  store.advance(130 as Lsn);
  await store.flush();
  await store.close();
  return disk;
}

describe("checking a timeline", () => {
  test("counts what is there and finds nothing wrong with it", async () => {
    const disk = await timeline();
    const { bytes, ...rest } = checkTimeline(disk, "/t");
    assert.deepEqual(rest, { layers: 1, keys: 3, versions: 4, problems: [], strays: [] });
    assert.equal(bytes, disk.readFileSync(LAYER).length);
  });

  test("names what a crash left, without calling it a problem", async () => {
    const disk = await timeline();
    disk.openSync("/t/00000002.layer.tmp", "create");
    disk.openSync("/t/wal", "create");
    const check = checkTimeline(disk, "/t");
    assert.deepEqual([check.strays, check.problems], [["/t/00000002.layer.tmp"], []]);
  });

  test("finds every damaged byte of a layer, and a layer that is gone", async () => {
    const disk = await timeline();
    const good = disk.readFileSync(LAYER);
    const file = disk.openSync(LAYER, "write");
    for (let at = 0; at < good.length; at++) {
      file.writeSync(Uint8Array.of(good[at] ^ 0x10), 0, 1, at);
      const { problems } = checkTimeline(disk, "/t");
      assert.equal(problems.length, 1, `byte ${at}: ${problems.join("; ")}`);
      assert.match(problems[0], /00000001\.layer/);
      file.writeSync(good, at, 1, at);
    }
    disk.unlinkSync(LAYER);
    assert.equal(checkTimeline(disk, "/t").problems.length, 1);
  });

  test("refuses a place where no timeline is", async () => {
    const disk = await timeline();
    disk.mkdirSync("/u");
    assert.throws(() => checkTimeline(disk, "/u"), { kind: "not_found" });
  });
});

describe("dumping a layer", () => {
  test("shows the file, its keys and their versions", async () => {
    const disk = await timeline();
    const size = disk.readFileSync(LAYER).length;
    assert.deepEqual([...dumpLayer(disk, LAYER, true)], [
      `delta layer, LSNs 0/64 to 0/82, ${size} bytes: 2 objects, 3 keys, 4 versions in 1 blocks`,
      "object 1/2/3/4.5 block 9",
      "  0/78: tag 8, 50 bytes, needs none before",
      "  0/82: tag 9, 40 bytes",
      "object 1/2/3/4.5 size",
      "  0/82: tag 0, 50 bytes, needs none before",
      "object 2/0/0/0.0 block 0",
      "  0/82: tag 0, 1 bytes, needs none before",
    ]);
    assert.equal([...dumpLayer(disk, LAYER, false)].length, 4);
  });

  test("says so when the file is no layer", async () => {
    const disk = await timeline();
    disk.openSync("/t/x", "create").writeSync(new Uint8Array(200), 0, 200, 0);
    assert.throws(() => [...dumpLayer(disk, "/t/x", true)], { kind: "corrupt_data" });
  });
});
