/** Random work for a {@link TimelineModel} and the store beside it: few objects and blocks, so that they meet often. */
import assert from "node:assert/strict";
import type { Lsn } from "../../src/common/lsn.ts";
import { type ObjectId, SIZE_BLOCK, type TimelineStore } from "../../src/pagestore/mod.ts";
import type { Random } from "./random.ts";
import {
  expectSameBlock,
  type ModelRecord,
  type ModelVersion,
  type TimelineModel,
} from "./timeline_model.ts";

const KINDS = 2;
/** Dense ones, both sides of a leaf, far beyond the directory, the last one, and the size. */
const BLOCKS = [
  0,
  1,
  2,
  3,
  63,
  64,
  65,
  1000,
  2 ** 24 - 1,
  2 ** 24,
  3_000_000_000,
  SIZE_BLOCK - 1,
  SIZE_BLOCK,
];

/** Most versions go to a few hot blocks, so that there are long chains; the others are for the corners of the key space. */
const HOT_OBJECTS: readonly ObjectId[] = [
  { kind: 0, a: 1663, b: 1, c: 16384, d: 0 },
  { kind: 1, a: 1663, b: 0, c: 16385, d: 0 },
];
const HOT_BLOCKS = [0, 1, SIZE_BLOCK];

function randomObject(random: Random): ObjectId {
  if (!random.oneIn(4)) return HOT_OBJECTS[random.int(HOT_OBJECTS.length)];
  return {
    kind: random.int(KINDS),
    a: random.oneIn(10) ? 0xffffffff : 1663,
    b: random.int(2),
    c: 16384 + random.int(4),
    d: random.oneIn(4) ? 255 : 0,
  };
}

function randomBlock(random: Random): number {
  if (!random.oneIn(4)) return HOT_BLOCKS[random.int(HOT_BLOCKS.length)];
  return BLOCKS[random.int(BLOCKS.length)];
}

/** A record that begins where the timeline ends, or a little behind that. */
export function randomRecord(random: Random, lastLsn: number): ModelRecord {
  const start = lastLsn + (random.oneIn(5) ? random.int(40) : 8 * random.int(4));
  const end = start + 24 + random.int(200);
  const versions: ModelVersion[] = [];
  for (let n = random.int(4); n >= 0; n--) {
    versions.push({
      object: randomObject(random),
      block: randomBlock(random),
      lsn: end,
      tag: random.int(250),
      value: randomValue(random),
      willInit: random.oneIn(6),
    });
  }
  return { start, end, versions };
}

function randomValue(random: Random): Uint8Array {
  if (random.oneIn(10)) return new Uint8Array(0);
  if (random.oneIn(300)) return random.bytes(70_000 + random.int(10_000));
  return random.bytes(1 + random.int(120));
}

/** Compares `reads` random reads of each kind, at random LSNs of the timeline's whole history up to `upTo`. */
export function expectSameReads(
  random: Random,
  store: TimelineStore,
  model: TimelineModel,
  reads: number,
  upTo: number = model.lastLsn,
): void {
  for (let i = 0; i < reads; i++) {
    const lsn = random.oneIn(3) ? upTo : random.int(upTo + 1);
    expectSameBlock(store, model, randomObject(random), randomBlock(random), lsn);
  }
  // A record that starts at `upTo` itself need not be known when the model goes on behind it.
  const lsn = Math.min(upTo === model.lastLsn ? upTo : upTo - 1, randomPosition(random, model));
  assert.deepEqual(store.recordBoundary(lsn as Lsn), model.recordBoundary(lsn), `record boundary at ${lsn}`);
  const filters = [{ kind: 0 }, { kind: 1, a: 1663 }, { kind: 0, a: 1663, b: 1 }];
  const filter = filters[random.int(filters.length)];
  if (model.readable(lsn)) {
    assert.deepEqual(store.objects(filter, lsn), model.objects(filter, lsn), `objects at ${lsn}`);
  }
}

/** Any LSN, or one where something begins or ends. */
function randomPosition(random: Random, model: TimelineModel): number {
  if (random.oneIn(2)) return random.int(model.lastLsn + 1);
  const starts = model.starts();
  if (starts.length === 0 || random.oneIn(3)) return model.startLsn;
  return starts[random.int(starts.length)] - random.int(2);
}
