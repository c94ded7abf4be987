import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { nextTurn } from "../../../../src/common/event_loop.ts";
import type { Lsn } from "../../../../src/common/lsn.ts";
import {
  BlockCache,
  flushHere,
  type FlushLayer,
  MemoryBudget,
  TimelineStore,
  type TimelineStoreOptions,
} from "../../../../src/pagestore/mod.ts";
import { FaultyDisk } from "../../../harness/faulty_disk.ts";
import { Random } from "../../../harness/random.ts";

const OBJECT = { kind: 0, a: 1663, b: 5, c: 20000, d: 0 };
const VALUE = new Uint8Array(1000);
const CAPACITY_BYTES = 48 << 20;
/** An empty memory layer holds some of it too. */
const WRITTEN_BYTES = 112 << 20;
const LOOK_TURNS = 100;

function heldBy(stores: readonly TimelineStore[]): number {
  return stores.reduce((sum, store) => sum + store.sizes().memoryBytes, 0);
}

/** @returns the bytes of the values */
function put(store: TimelineStore, values: number): number {
  const slot = store.slot(OBJECT);
  for (let i = 0; i < values; i++) {
    store.noteRecord(store.lastLsn);
    store.putValue(slot, i, store.lastLsn + 8, VALUE, 1, true);
    store.advance(store.lastLsn + 8 as Lsn);
  }
  store.maintain();
  return values * VALUE.length;
}

/** A flush that takes as long as many turns of writers do, as on a disk whose syncs are slow. */
function slowFlush(disk: FaultyDisk): FlushLayer {
  const flush = flushHere(disk);
  return async (layer) => {
    for (let turn = 0; turn < 50; turn++) await nextTurn();
    return await flush(layer);
  };
}

/**
 * Writes to all timelines at once, each as fast as it may.
 *
 * @returns the most that they held, and what is left when all is quiet
 */
async function fill(count: number, slow = false): Promise<{ mostBytes: number; leftBytes: number }> {
  const disk = new FaultyDisk(new Random(1));
  disk.mkdirSync("/t");
  let nowMs = 0;
  const memoryBudget = new MemoryBudget(CAPACITY_BYTES);
  const options = {
    disk,
    memoryBudget,
    cache: new BlockCache(1 << 20),
    nowMs: () => nowMs,
    ...(slow ? { flushLayer: slowFlush(disk) } : {}),
  };
  const stores: TimelineStore[] = [];
  for (let i = 0; i < count; i++) {
    stores.push(await TimelineStore.create(`/t/${i}`, { ...options, startLsn: 8 as Lsn }));
  }
  let mostBytes = 0;
  let written = 0;
  let turns = 0;
  await Promise.all(stores.map(async (store) => {
    while (written < WRITTEN_BYTES) {
      if (store.congested) await store.ready();
      written += put(store, 20);
      if (turns++ % LOOK_TURNS === 0) mostBytes = Math.max(mostBytes, heldBy(stores));
      await nextTurn();
    }
  }));
  // Idle ones are written out when they are old enough.
  nowMs += 3_600_000;
  for (const store of stores) store.maintain();
  for (const store of stores) await store.flush();
  const leftBytes = heldBy(stores);
  assert.ok(Math.abs(memoryBudget.usedBytes - leftBytes) < 1 << 20, "the budget keeps the right account");
  for (const store of stores) await store.close();
  assert.equal(memoryBudget.usedBytes, 0);
  return { mostBytes, leftBytes };
}

describe("memory layers", () => {
  for (const count of [1, 10]) {
    test(`of ${count} timelines that are all written to hold no more than they may together`, async () => {
      const { mostBytes, leftBytes } = await fill(count);
      assert.ok(mostBytes <= CAPACITY_BYTES, `${mostBytes} bytes of ${CAPACITY_BYTES}`);
      assert.ok(leftBytes <= count * (64 << 10), `${leftBytes} bytes are left when all is written out`);
    });
  }

  test("of 200 timelines hold no more when it takes long to write them out", async () => {
    const { mostBytes } = await fill(200, true);
    assert.ok(mostBytes <= CAPACITY_BYTES, `${mostBytes} bytes of ${CAPACITY_BYTES}`);
  });

  test("that can't be written hold up their own timeline only", async () => {
    const disk = new FaultyDisk(new Random(1));
    disk.mkdirSync("/t");
    const memoryBudget = new MemoryBudget(8 << 20);
    const create = (name: string, more: Partial<TimelineStoreOptions> = {}) =>
      TimelineStore.create(`/t/${name}`, {
        ...{ disk, memoryBudget, cache: new BlockCache(1 << 20), nowMs: () => 0, startLsn: 8 as Lsn },
        ...more,
      });
    const failing = await create("failing", {
      flushLayer: () => Promise.reject(new Error("this disk has failed")),
    });
    const other = await create("other");
    await assert.rejects(async () => {
      for (;;) {
        put(failing, 20);
        if (failing.congested) await failing.ready();
      }
    }, /this disk has failed/);
    for (let written = 0; written < 2 << 20;) {
      written += put(other, 20);
      if (other.congested) await other.ready();
    }
    await other.close();
    await failing.close();
    assert.equal(memoryBudget.usedBytes, 0);
  });
});
