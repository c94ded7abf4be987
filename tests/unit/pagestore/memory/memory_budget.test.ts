import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Lsn } from "../../../../src/common/lsn.ts";
import { BlockCache, MemoryBudget, TimelineStore } from "../../../../src/pagestore/mod.ts";
import { FaultyDisk } from "../../../harness/faulty_disk.ts";
import { Random } from "../../../harness/random.ts";

const OBJECT = { kind: 0, a: 1663, b: 5, c: 20000, d: 0 };
const VALUE = new Uint8Array(1000);
const CAPACITY_BYTES = 48 << 20;
/** An empty memory layer holds some of it too. */
const WRITTEN_BYTES = 112 << 20;

/** Writes to all timelines in turns, each as fast as it may. @returns the most that they held, and what is left when all is quiet */
async function fill(count: number): Promise<{ mostBytes: number; leftBytes: number }> {
  const disk = new FaultyDisk(new Random(1));
  disk.mkdirSync("/t");
  let nowMs = 0;
  const memoryBudget = new MemoryBudget(CAPACITY_BYTES);
  const options = { disk, memoryBudget, cache: new BlockCache(1 << 20), nowMs: () => nowMs };
  const stores: TimelineStore[] = [];
  for (let i = 0; i < count; i++) {
    stores.push(await TimelineStore.create(`/t/${i}`, { ...options, startLsn: 8 as Lsn }));
  }
  let mostBytes = 0;
  const perTurn = 20;
  for (let written = 0; written < WRITTEN_BYTES;) {
    const held = stores.reduce((sum, store) => sum + store.sizes().memoryBytes, 0);
    mostBytes = Math.max(mostBytes, held);
    for (const store of stores) {
      const slot = store.slot(OBJECT);
      for (let i = 0; i < perTurn; i++) {
        store.noteRecord(store.lastLsn);
        store.putValue(slot, i, store.lastLsn + 8, VALUE, 1, true);
        store.advance(store.lastLsn + 8 as Lsn);
        written += VALUE.length;
      }
      if (store.congested) await store.ready();
    }
  }
  // Idle ones are written out when they are old enough.
  nowMs += 3_600_000;
  for (const store of stores) store.maintain();
  for (const store of stores) await store.flush();
  const leftBytes = stores.reduce((sum, store) => sum + store.sizes().memoryBytes, 0);
  assert.ok(Math.abs(memoryBudget.usedBytes - leftBytes) < 1 << 20, "the budget keeps the right account");
  for (const store of stores) await store.close();
  assert.equal(memoryBudget.usedBytes, 0);
  return { mostBytes, leftBytes };
}

describe("memory layers", () => {
  for (const count of [1, 10, 200]) {
    test(`of ${count} timelines that are all written to hold no more than they may together`, async () => {
      const { mostBytes, leftBytes } = await fill(count);
      assert.ok(mostBytes <= CAPACITY_BYTES, `${mostBytes} bytes of ${CAPACITY_BYTES}`);
      assert.ok(leftBytes <= count * (64 << 10), `${leftBytes} bytes are left when all is written out`);
    });
  }
});
