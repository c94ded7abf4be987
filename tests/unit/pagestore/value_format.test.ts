/** Values of several kinds, each timeline's of one: layer files name it, and whoever writes and merges them is told. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Lsn } from "../../../src/common/lsn.ts";
import {
  BlockCache,
  flushHere,
  type FlushRequest,
  mergeHere,
  type MergeRequest,
  TimelineStore,
  type TimelineStoreOptions,
} from "../../../src/pagestore/mod.ts";
import { FaultyDisk } from "../../harness/faulty_disk.ts";
import { Random } from "../../harness/random.ts";

const OBJECT = { kind: 1, a: 1663, b: 5, c: 16384, d: 0 };
const VALUE = Uint8Array.of(1, 2, 3);
const LAYERS = 4;

interface Asked {
  readonly flushes: number[];
  readonly merges: number[];
}

function options(disk: FaultyDisk, valueFormat: number, asked: Asked): TimelineStoreOptions {
  const flush = flushHere(disk);
  const merge = mergeHere(disk);
  return {
    disk,
    nowMs: () => 0,
    cache: new BlockCache(1 << 20),
    config: { mergeFanIn: LAYERS },
    valueFormat,
    flushLayer: (request: FlushRequest) => {
      asked.flushes.push(request.valueFormat);
      return flush(request);
    },
    mergeLayers: (request: MergeRequest) => {
      asked.merges.push(request.valueFormat);
      return merge(request);
    },
  };
}

/** A timeline of that format whose layers have been merged once. */
async function makeTimeline(disk: FaultyDisk, valueFormat: number): Promise<Asked> {
  const asked: Asked = { flushes: [], merges: [] };
  const store = await TimelineStore.create("/d", {
    ...options(disk, valueFormat, asked),
    startLsn: 8 as Lsn,
  });
  for (let layer = 1; layer <= LAYERS; layer++) {
    const lsn = 100 * layer;
    store.putValue(store.slot(OBJECT), 0, lsn, VALUE, 0, true);
    store.noteRecord((lsn - 8) as Lsn);
    store.advance(lsn as Lsn);
    await store.flush();
  }
  await store.compact();
  await store.close();
  return asked;
}

describe("a timeline's value format", () => {
  test("goes with every flush and merge, and is what its layers are opened with", async () => {
    const disk = new FaultyDisk(new Random(1));
    const asked = await makeTimeline(disk, 17);
    assert.deepEqual(asked.flushes, new Array(LAYERS).fill(17));
    assert.ok(asked.merges.length > 0);
    assert.ok(asked.merges.every((format) => format === 17));
    const again: Asked = { flushes: [], merges: [] };
    await (await TimelineStore.open("/d", options(disk, 17, again))).close();
  });

  test("of layers that is another one's is refused, with both", async () => {
    const disk = new FaultyDisk(new Random(1));
    await makeTimeline(disk, 18);
    await assert.rejects(
      TimelineStore.open("/d", options(disk, 17, { flushes: [], merges: [] })),
      /\.layer has values of format 18, those of its timeline are of format 17/,
    );
  });

  test("of layers from before there were formats is any", async () => {
    const disk = new FaultyDisk(new Random(1));
    await makeTimeline(disk, 0);
    await (await TimelineStore.open("/d", options(disk, 15, { flushes: [], merges: [] }))).close();
  });
});
