import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Lsn } from "../../../src/common/lsn.ts";
import { BlockCache, forEachKeyBetween, type LsnRange, TimelineStore } from "../../../src/pagestore/mod.ts";
import { FaultyDisk } from "../../harness/faulty_disk.ts";
import { Random } from "../../harness/random.ts";

const VALUE = Uint8Array.of(1);
const objectOf = (c: number) => ({ kind: 1, a: 1663, b: 5, c, d: 0 });

interface Version {
  readonly rel: number;
  readonly block: number;
  readonly lsn: number;
}

async function keysBetween(store: TimelineStore, range: LsnRange): Promise<string[]> {
  const found = new Set<string>();
  await forEachKeyBetween(
    store,
    range,
    ({ c }) => c !== 3,
    ({ c }, block) => found.add(`${c}/${block}`),
    new AbortController().signal,
  );
  return [...found].sort();
}

describe("the keys between two LSNs", () => {
  test("are those of the versions there, in memory, in layers, and in layers that were merged", async () => {
    const random = new Random(3);
    const disk = new FaultyDisk(new Random(1));
    const store = await TimelineStore.create("/t", {
      disk,
      nowMs: () => 0,
      cache: new BlockCache(1 << 20),
      startLsn: 100 as Lsn,
    });
    const versions: Version[] = [];
    for (let lsn = 101; lsn < 600; lsn++) {
      const [rel, block] = [1 + random.int(3), random.int(200)];
      versions.push({ rel, block, lsn });
      store.noteRecord(lsn - 1);
      store.putValue(store.slot(objectOf(rel)), block, lsn, VALUE, 1, true);
      store.advance(lsn as Lsn);
      if (lsn % 20 === 0) await store.flush();
      if (lsn === 400) assert.notEqual(await store.compact(), null);
    }
    for (let round = 0; round < 100; round++) {
      const after = 100 + random.int(500);
      const upTo = after + random.int(620 - after);
      const expected = versions.filter(({ rel, lsn }) => rel !== 3 && lsn > after && lsn <= upTo);
      assert.deepEqual(
        await keysBetween(store, { after, upTo }),
        [...new Set(expected.map(({ rel, block }) => `${rel}/${block}`))].sort(),
        `${after} to ${upTo}`,
      );
    }
    await store.close();
  });

  test("stay readable while layers are merged, and a long walk can be ended", async () => {
    const disk = new FaultyDisk(new Random(1));
    const store = await TimelineStore.create("/t", {
      disk,
      nowMs: () => 0,
      cache: new BlockCache(1 << 20),
      startLsn: 100 as Lsn,
    });
    for (let lsn = 101; lsn < 200; lsn++) {
      store.putValue(store.slot(objectOf(1)), lsn, lsn, VALUE, 1, true);
      store.advance(lsn as Lsn);
      if (lsn % 10 === 0) await store.flush();
    }
    {
      using held = await store.holdLayers({ after: 100, upTo: 200 });
      assert.ok(held.readers.length > 3);
      await store.collectGarbage(150 as Lsn, []);
      for (const reader of held.readers) reader.verify();
    }
    await assert.rejects(
      forEachKeyBetween(
        store,
        { after: 100, upTo: 200 },
        () => true,
        () => {
          const until = performance.now() + 6;
          while (performance.now() < until);
        },
        AbortSignal.abort(new Error("enough")),
      ),
      /enough/,
    );
    await store.close();
  });
});
