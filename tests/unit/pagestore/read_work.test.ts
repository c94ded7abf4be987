/** What a read costs, counted in what it looks at: neither a page's age nor the depth of branching may make it more. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Lsn } from "../../../src/common/lsn.ts";
import {
  BlockCache,
  mergeHere,
  TimelineStore,
  type TimelineStoreOptions,
  ValueChain,
} from "../../../src/pagestore/mod.ts";
import { FaultyDisk } from "../../harness/faulty_disk.ts";
import { Random } from "../../harness/random.ts";
import { reconstruct } from "../../harness/timeline_model.ts";

/** Counts what is asked of it: each layer that a lookup comes to asks for its head at least. */
class CountingCache extends BlockCache {
  lookups = 0;

  override get(layerId: number, blockNo: number): object | undefined {
    this.lookups++;
    return super.get(layerId, blockNo);
  }
}

const OBJECT = { kind: 0, a: 1663, b: 5, c: 20000, d: 0 };
const CACHE_BYTES = 64 << 20;

function setUp(): { options: TimelineStoreOptions; cache: CountingCache } {
  const disk = new FaultyDisk(new Random(1));
  disk.mkdirSync("/t");
  const cache = new CountingCache(CACHE_BYTES);
  const config = { layerBytes: 1 << 30, layerAgeMs: Infinity };
  return {
    cache,
    options: { disk, cache, nowMs: () => 0, config, mergeLayers: mergeHere(disk, reconstruct) },
  };
}

/** Gives blocks a new version each, and makes that durable. */
async function change(store: TimelineStore, blocks: readonly number[], willInit: boolean): Promise<void> {
  const slot = store.slot(OBJECT);
  for (const block of blocks) {
    const lsn = store.lastLsn + 8;
    store.noteRecord(store.lastLsn);
    store.putValue(slot, block, lsn, Uint8Array.of(block, lsn), 1, willInit);
    store.advance(lsn as Lsn);
  }
  await store.flush();
}

describe("a read at the end of a chain of branches", () => {
  const BLOCKS = 1000;
  const DEPTH = 100;

  test("looks at as many layers as one at the chain's beginning, and finds the same", async () => {
    const { options, cache } = setUp();
    const all = Array.from({ length: BLOCKS }, (_, block) => block);
    const root = await TimelineStore.create("/t/0", { ...options, startLsn: 8 as Lsn });
    await change(root, all, true);
    const stores = [root];
    /** By block, the LSN of its newest version at the end of the chain. */
    const newest = all.map((block) => 16 + 8 * block);
    for (let depth = 1; depth <= DEPTH; depth++) {
      const parent = stores.at(-1)!;
      const lsn = parent.lastLsn;
      const ancestor = { store: parent, lsn };
      const store = await TimelineStore.create(`/t/${depth}`, { ...options, ancestor, startLsn: lsn });
      const block = 7 * depth;
      newest[block] = lsn + 8;
      await change(store, [block], true);
      // The parent goes on: that is none of the branch's business.
      await change(parent, [block + 1], true);
      stores.push(store);
    }
    const cost = (store: TimelineStore): number => {
      const chain = new ValueChain();
      const slot = store.slot(OBJECT);
      const read = () => all.forEach((block) => store.collect(slot, block, store.lastLsn, chain));
      read();
      cache.lookups = 0;
      read();
      return cache.lookups / BLOCKS;
    };
    const shallow = cost(stores[1]);
    const deep = cost(stores.at(-1)!);
    // One more for the filter.
    assert.ok(deep <= shallow + 1.25, `${deep} lookups per read at depth ${DEPTH}, ${shallow} at depth 1`);
    const end = stores.at(-1)!;
    const chain = new ValueChain();
    for (const block of all) {
      end.collect(end.slot(OBJECT), block, end.lastLsn, chain);
      assert.equal(chain.lsn[0], newest[block], `block ${block}`);
    }
    for (const store of stores.reverse()) await store.close();
  });
});

describe("a block that is changed again and again", () => {
  const CHANGES = 1_000_000;
  const LAYERS = 25;
  const MAX_VERSIONS = 16;

  test("is read with few versions at any LSN, in memory and in a layer that was never merged", async () => {
    const { options } = setUp();
    const memoryChainBytes = 4000;
    const config = { ...options.config, memoryChainBytes };
    const withImages = { ...options, config, makeImage: reconstruct, startLsn: 8 as Lsn };
    const store = await TimelineStore.create("/t/fresh", withImages);
    const slot = store.slot(OBJECT);
    const changes = 100_000;
    for (let i = 0; i < changes; i++) {
      const lsn = store.lastLsn + 8;
      store.putValue(slot, 0, lsn, Uint8Array.of(i, i >> 8), 1, i === 0);
      store.advance(lsn as Lsn);
    }
    const random = new Random(1);
    const chain = new ValueChain();
    const expectShort = () => {
      for (let i = 0; i < 500; i++) {
        const lsn = 16 + 8 * random.int(changes);
        store.collect(slot, 0, lsn, chain);
        assert.equal(chain.lsn[0], lsn);
        assert.ok(
          chain.complete && chain.count <= memoryChainBytes / 24,
          `${chain.count} versions at ${lsn}`,
        );
      }
    };
    expectShort();
    await store.flush();
    expectShort();
    await store.close();
  });

  test("is read with as few versions at any LSN as one that is changed seldom", async () => {
    const { options, cache } = setUp();
    const store = await TimelineStore.create("/t/hot", { ...options, startLsn: 8 as Lsn });
    for (let layer = 0; layer < LAYERS; layer++) {
      await change(store, new Array(CHANGES / LAYERS).fill(0), layer === 0);
      while (await store.compact() !== null);
    }
    const random = new Random(1);
    const chain = new ValueChain();
    const slot = store.slot(OBJECT);
    // What no merge has come to yet is what was written last.
    const merged = store.lastLsn - 8 * 3 * CHANGES / LAYERS;
    cache.lookups = 0;
    const reads = 500;
    for (let i = 0; i < reads; i++) {
      const lsn = 16 + 8 * random.int((merged - 16) / 8);
      store.collect(slot, 0, lsn, chain);
      assert.equal(chain.lsn[0], lsn);
      assert.ok(chain.complete && chain.count <= 2 * MAX_VERSIONS, `${chain.count} versions at ${lsn}`);
    }
    assert.ok(cache.lookups <= 8 * reads, `${cache.lookups / reads} lookups per read`);
    await store.close();
  });
});
