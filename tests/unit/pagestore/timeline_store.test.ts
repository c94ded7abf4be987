import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { BufferPool } from "../../../src/common/buffer_pool.ts";
import type { Lsn } from "../../../src/common/lsn.ts";
import {
  BlockCache,
  flushHere,
  TimelineStore,
  type TimelineStoreOptions,
  ValueChain,
  VERSION_PIECE_BYTES,
} from "../../../src/pagestore/mod.ts";
import { FaultyDisk } from "../../harness/faulty_disk.ts";
import { Random } from "../../harness/random.ts";

const OBJECT = { kind: 1, a: 1663, b: 5, c: 16384, d: 0 };

function setup(options: Partial<TimelineStoreOptions> = {}): {
  disk: FaultyDisk;
  clock: { nowMs: number };
  options: TimelineStoreOptions & { startLsn: Lsn };
} {
  const disk = new FaultyDisk(new Random(1));
  const clock = { nowMs: 0 };
  const all = {
    disk,
    nowMs: () => clock.nowMs,
    cache: new BlockCache(1 << 20),
    startLsn: 100 as Lsn,
    ...options,
  };
  return { disk, clock, options: all };
}

function add(store: TimelineStore, lsn: number, value: Uint8Array): void {
  store.put(store.slot(OBJECT), 0, lsn, value, 0, value.length, 1, true);
  store.advance(lsn as Lsn);
}

function read(store: TimelineStore, lsn: number): Uint8Array {
  const chain = new ValueChain();
  store.collect(store.slot(OBJECT), 0, lsn, chain);
  assert.equal(chain.count, 1);
  return chain.bytes[0].slice(chain.off[0], chain.off[0] + chain.len[0]);
}

describe("a timeline store", () => {
  test("refuses to create what is there, and to open what is not", async () => {
    const { options } = setup();
    const store = await TimelineStore.create("/t", options);
    await assert.rejects(TimelineStore.create("/t", options), { kind: "already_exists" });
    await assert.rejects(TimelineStore.open("/u", options), { kind: "not_found" });
    await store.close();
  });

  test("refuses a branch of what has not happened yet", async () => {
    const { options } = setup();
    const store = await TimelineStore.create("/t", options);
    const ancestor = { store, lsn: 101 as Lsn };
    await assert.rejects(TimelineStore.create("/u", { ...options, ancestor }), { kind: "out_of_range" });
  });

  test("collects garbage in its turn, however many merges are due", async () => {
    const { options } = setup({ config: { mergeFanIn: 2 } });
    const store = await TimelineStore.create("/t", options);
    for (let lsn = 110; lsn <= 180; lsn += 10) {
      add(store, lsn, new Uint8Array(8));
      await store.flush();
    }
    const order: string[] = [];
    const merging = (async () => {
      while (await store.compact() !== null) order.push("merged");
    })();
    await store.collectGarbage(150 as Lsn, []);
    order.push("garbage collected");
    await merging;
    assert.deepEqual(order.slice(0, 2), ["merged", "garbage collected"]);
    await store.close();
  });

  test("lets nobody wait for a merge that closing has broken off", async () => {
    const { options } = setup({ config: { mergeFanIn: 2 } });
    const store = await TimelineStore.create("/t", options);
    for (let lsn = 110; lsn <= 120; lsn += 10) {
      add(store, lsn, new Uint8Array(8));
      await store.flush();
    }
    const merging = store.compact();
    const garbage = store.collectGarbage(120 as Lsn, []);
    const failed = assert.rejects(garbage, { kind: "unavailable" });
    await Promise.allSettled([store.close(), merging]);
    await failed;
  });

  test("gives back a buffer when the last layer that refers to it is on disk", async () => {
    const buffers = new BufferPool(4096);
    const { options } = setup({ pools: { values: buffers, versions: new BufferPool(VERSION_PIECE_BYTES) } });
    const store = await TimelineStore.create("/t", options);
    const [first, second] = [buffers.take(), buffers.take()];
    add(store, 110, first);
    add(store, 120, second);
    for (const buffer of [first, second]) buffers.release(buffer);
    assert.equal(buffers.freeBytes, 0, "the layer refers to both");
    const flushed = store.flush();
    add(store, 130, second);
    await flushed;
    assert.equal(buffers.freeBytes, 4096, "the next layer refers to the second, too");
    assert.deepEqual(read(store, 130), second);
    await store.flush();
    assert.equal(buffers.freeBytes, 2 * 4096);
    await store.close();
  });

  test("gives its creator's data back", async () => {
    const { options } = setup();
    await (await TimelineStore.create("/t", { ...options, userData: Uint8Array.of(1, 2, 3) })).close();
    assert.deepEqual([...(await TimelineStore.open("/t", options)).userData], [1, 2, 3]);
  });

  test("stores values in the form encodeValue gives them", async () => {
    const { options } = setup();
    const flushLayer = flushHere(options.disk, (tag, bytes, off, len, object, block) => {
      assert.deepEqual([tag, object, block], [1, OBJECT, 0]);
      return { tag: 2, bytes, off: off + 1, len: len - 2 };
    });
    const store = await TimelineStore.create("/t", { ...options, flushLayer });
    add(store, 110, Uint8Array.of(1, 2, 3, 4, 5));
    assert.deepEqual([...read(store, 110)], [1, 2, 3, 4, 5]);
    await store.flush();
    assert.deepEqual([...read(store, 110)], [2, 3, 4]);
  });

  test("flushes by itself when a layer has grown old, and then holds nothing", async () => {
    const { clock, options } = setup({ config: { layerAgeMs: 1000 } });
    const store = await TimelineStore.create("/t", options);
    add(store, 110, Uint8Array.of(1));
    clock.nowMs = 999;
    store.maintain();
    assert.equal(store.sizes().frozenBytes, 0);
    clock.nowMs = 1000;
    store.maintain();
    assert.ok(store.sizes().frozenBytes > 0);
    await store.flush();
    assert.equal(store.diskConsistentLsn, 110);
    assert.equal(store.sizes().frozenBytes, 0);
    assert.equal(store.sizes().layerCount, 1);
  });

  test("holds the writer back while the disk is full, says so, and goes on when it is not", async () => {
    const { disk, clock, options } = setup({
      config: { layerBytes: 2000, maxFrozenLayers: 1, flushRetryMs: 100 },
    });
    const store = await TimelineStore.create("/t", options);
    disk.failAt(1, { kind: "error", code: "ENOSPC", lasting: true });
    add(store, 110, new Uint8Array(2000));
    await store.ready();
    add(store, 120, new Uint8Array(2000));
    await assert.rejects(store.ready(), { kind: "disk_full" });
    await assert.rejects(store.ready(), { kind: "disk_full" });
    assert.equal(read(store, 110).length, 2000);
    assert.equal(store.diskConsistentLsn, 100);
    disk.noFault();
    await assert.rejects(store.ready(), { kind: "disk_full" }, "before it is time to try again");
    clock.nowMs = 100;
    await store.ready();
    await store.flush();
    assert.equal(store.diskConsistentLsn, 120);
    assert.equal(read(store, 115).length, 2000);
  });

  test("flushes what there is, and waits for nothing that its writer adds meanwhile", async () => {
    const { disk, options } = setup({ config: { layerBytes: 100 } });
    let flushed = 0;
    const store: TimelineStore = await TimelineStore.create("/t", {
      ...options,
      flushLayer: async (request) => {
        const written = await flushHere(disk)(request);
        // A writer that is always one layer ahead.
        if (++flushed < 50) add(store, 100 + 10 * (flushed + 1), new Uint8Array(200));
        return written;
      },
    });
    add(store, 110, new Uint8Array(200));
    await store.flush();
    assert.ok(store.diskConsistentLsn >= 110);
    assert.ok(flushed < 5, `${flushed} layers were written`);
    await store.flush();
    await store.close();
  });

  test("refuses to flush half a step of its writer", async () => {
    const { options } = setup();
    const store = await TimelineStore.create("/t", options);
    store.put(store.slot(OBJECT), 0, 110, new Uint8Array(1), 0, 1, 1, true);
    await assert.rejects(store.flush(), { kind: "conflict" });
    store.advance(110 as Lsn);
    await store.flush();
    assert.equal(store.diskConsistentLsn, 110);
  });

  test("makes progress durable that brought no version", async () => {
    const { options } = setup();
    const store = await TimelineStore.create("/t", options);
    store.advance(500 as Lsn);
    await store.flush();
    await store.close();
    const again = await TimelineStore.open("/t", options);
    assert.equal(again.lastLsn, 500);
    assert.equal(again.sizes().layerCount, 0);
  });

  test("does not open when a layer is missing or another one", async () => {
    const { disk, options } = setup();
    const store = await TimelineStore.create("/t", options);
    add(store, 110, Uint8Array.of(1));
    await store.flush();
    add(store, 120, Uint8Array.of(2));
    await store.flush();
    await store.close();
    disk.renameSync("/t/00000001.layer", "/t/00000002.layer");
    await assert.rejects(TimelineStore.open("/t", options), /0000000[12]\.layer/);
  });
});
