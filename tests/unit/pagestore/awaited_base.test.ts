/** Versions that are older than all others may come later, in any order. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Lsn } from "../../../src/common/lsn.ts";
import {
  AbsentBytes,
  type AwaitedKeys,
  BlockCache,
  TimelineStore,
  ValueChain,
  whenPresent,
} from "../../../src/pagestore/mod.ts";
import { FaultyDisk } from "../../harness/faulty_disk.ts";
import { Random } from "../../harness/random.ts";

const LATE = { kind: 1, a: 1663, b: 5, c: 16384, d: 0 };
const LATER = { ...LATE, c: 16385 };
const OTHER = { ...LATE, c: 16390 };
const IMAGE = 1;
const RECORD = 2;
const CALM = new AbortController().signal;

function versions(store: TimelineStore, object: typeof LATE, lsn: number): number[] {
  const chain = new ValueChain();
  store.collect(store.slot(object), 0, lsn, chain);
  return Array.from({ length: chain.count }, (_, i) => chain.bytes[i]![chain.off[i]!]!);
}

async function install(store: TimelineStore, object: typeof LATE, value: number): Promise<void> {
  const bulk = store.startBase();
  bulk.put(object, 0, Uint8Array.of(value), IMAGE);
  await bulk.pause(CALM);
  await bulk.finish();
  await store.installBase(bulk);
}

describe("a timeline whose oldest versions come later", () => {
  test("waits for them, in branches too, and merges nothing before all are here", async () => {
    const disk = new FaultyDisk(new Random(1));
    const options = {
      disk,
      nowMs: () => 0,
      cache: new BlockCache(1 << 20),
      startLsn: 1 as Lsn,
      config: { mergeFanIn: 2 },
    };
    let store = await TimelineStore.create("/t", options);
    const missing = new Set([LATE, LATER]);
    const awaited = (of: TimelineStore): AwaitedKeys => ({
      check(slot) {
        for (const object of missing) {
          if (of.slot(object) !== slot) continue;
          throw new AbsentBytes("it", async () => {
            await install(of, object, object.c & 0xff);
            missing.delete(object);
          });
        }
      },
    });
    await install(store, OTHER, 9);
    store.awaitBase(awaited(store));
    const change = async (lsn: number, value: number) => {
      for (const object of [LATE, OTHER]) {
        store.put(store.slot(object), 0, lsn, Uint8Array.of(value), 0, 1, RECORD, false);
      }
      store.advance(lsn as Lsn);
      await store.flush();
    };
    store.noteRecord(2);
    await change(10, 1);
    await change(20, 2);
    const branch = await TimelineStore.create("/b", {
      ...options,
      startLsn: 20 as Lsn,
      ancestor: { store, lsn: 20 as Lsn },
    });
    assert.deepEqual(versions(store, OTHER, 20), [2, 1, 9]);
    // Nothing tells a missing version from one that never was, but those who know.
    assert.throws(() => versions(store, LATE, 20), AbsentBytes);
    assert.throws(() => versions(branch, LATER, 20), AbsentBytes);
    assert.equal(await store.compact(), null);
    assert.equal(await store.collectGarbage(15 as Lsn, []), null);
    assert.throws(() => versions(store, OTHER, 14), /LSN 0\/E is not kept any more/);
    assert.deepEqual(await whenPresent(() => versions(branch, LATER, 20)), [LATER.c & 0xff]);
    await branch.close();
    await store.close();

    // A crash leaves what is here, and what is said to be missing.
    store = await TimelineStore.open("/t", options);
    store.awaitBase(awaited(store));
    assert.deepEqual(versions(store, LATER, 20), [LATER.c & 0xff]);
    assert.deepEqual(await whenPresent(() => versions(store, LATE, 20)), [2, 1, LATE.c & 0xff]);
    await store.endBase(Uint8Array.of(7));
    const merged = await store.compact();
    assert.equal(merged?.layersBefore, 2);
    assert.deepEqual(versions(store, LATE, 20), [2, 1, LATE.c & 0xff]);
    await store.close();
    store = await TimelineStore.open("/t", options);
    assert.deepEqual(store.userData, Uint8Array.of(7));
    assert.deepEqual(versions(store, OTHER, 20), [2, 1, 9]);
    await store.close();
  });
});
