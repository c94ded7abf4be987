/**
 * The page store as anyone would write it who did not care for speed: a list of versions per block. Tests do the same to it
 * and to a real store, and compare what they read.
 */
import assert from "node:assert/strict";
import { crc32c } from "../../src/common/crc32c.ts";
import type { Lsn } from "../../src/common/lsn.ts";
import {
  compareObjects,
  type ObjectFilter,
  type ObjectId,
  type Reconstruct,
  type TimelineStore,
  ValueChain,
} from "../../src/pagestore/mod.ts";

export interface ModelVersion {
  readonly object: ObjectId;
  readonly block: number;
  readonly lsn: number;
  readonly tag: number;
  readonly value: Uint8Array;
  readonly willInit: boolean;
}

/** One WAL record: what it changes becomes readable at its end. */
export interface ModelRecord {
  readonly start: number;
  readonly end: number;
  readonly versions: readonly ModelVersion[];
}

export class TimelineModel {
  readonly startLsn: number;
  readonly ancestor: TimelineModel | null;
  readonly ancestorLsn: number;
  readonly records: ModelRecord[] = [];
  lastLsn: number;
  /** Below the cutoff only the points can be read. */
  cutoff = 0;
  points: readonly number[] = [];

  constructor(startLsn: number, ancestor: TimelineModel | null, ancestorLsn: number) {
    this.startLsn = startLsn;
    this.ancestor = ancestor;
    this.ancestorLsn = ancestorLsn;
    this.lastLsn = startLsn;
  }

  add(record: ModelRecord): void {
    this.records.push(record);
    this.lastLsn = record.end;
  }

  collectGarbage(cutoff: number, points: readonly number[]): void {
    this.points = points.filter((point) => point >= this.cutoff || this.points.includes(point));
    this.cutoff = Math.max(this.cutoff, cutoff);
  }

  readable(lsn: number): boolean {
    if (lsn < this.cutoff && !this.points.includes(lsn)) return false;
    return this.ancestor === null || this.ancestor.readable(Math.min(lsn, this.ancestorLsn));
  }

  /** The versions needed to know a block, newest first. */
  chain(object: ObjectId, block: number, lsn: number): ModelVersion[] {
    const own: ModelVersion[] = [];
    for (const record of this.records) {
      if (record.end > lsn) break;
      for (const version of record.versions) {
        if (version.block === block && compareObjects(version.object, object) === 0) own.push(version);
      }
    }
    own.reverse();
    const init = own.findIndex((version) => version.willInit);
    if (init >= 0) return own.slice(0, init + 1);
    if (this.ancestor === null) return own;
    return own.concat(this.ancestor.chain(object, block, Math.min(lsn, this.ancestorLsn)));
  }

  objects(filter: ObjectFilter, lsn: number): ObjectId[] {
    const found: ObjectId[] = this.ancestor === null
      ? []
      : this.ancestor.objects(filter, Math.min(lsn, this.ancestorLsn));
    for (const record of this.records) {
      if (record.end > lsn) break;
      for (const { object } of record.versions) {
        const fits = object.kind === filter.kind && (filter.a ?? object.a) === object.a &&
          (filter.b ?? object.b) === object.b;
        if (fits && !found.some((other) => compareObjects(other, object) === 0)) found.push(object);
      }
    }
    return found.sort(compareObjects);
  }

  /** All starts of records in this history, ascending. */
  starts(): number[] {
    const before = this.ancestor === null
      ? []
      : this.ancestor.starts().filter((start) => start < this.ancestorLsn);
    return before.concat(this.records.map((record) => record.start));
  }

  recordBoundary(lsn: number): { start: number; prev: number } | null {
    if (!this.readable(lsn)) return null;
    const starts = this.starts().filter((start) => start <= lsn);
    if (starts.length < 2) return null;
    return { start: starts.at(-1)!, prev: starts.at(-2)! };
  }
}

/** Does to a store what {@link TimelineModel.add} does to the model. */
export function ingest(store: TimelineStore, record: ModelRecord): void {
  store.noteRecord(record.start);
  // As in WAL: what one record brings lies together in one buffer.
  let length = 0;
  for (const { value } of record.versions) length += value.length;
  const wal = new Uint8Array(length + 8);
  let off = 8;
  for (const { object, block, lsn, value, tag, willInit } of record.versions) {
    const slot = store.slot(object);
    if (tag % 2 === 0) {
      const own = value.slice();
      store.putValue(slot, block, lsn, own, tag, willInit);
      own.fill(0xee);
    } else {
      wal.set(value, off);
      store.put(slot, block, lsn, wal, off, value.length, tag, willInit);
      off += value.length;
    }
  }
  store.advance(record.end as Lsn);
}

/** The tag of values that {@link reconstruct} makes. */
const TAG_IMAGE = 255;

/** What stands in for redo: a block is the checksum of all values that made it, in their order. */
function evaluate(chain: ValueChain): number {
  let state = 0;
  for (let i = chain.count - 1; i >= 0; i--) {
    const bytes = chain.bytes[i];
    const off = chain.off[i];
    if (chain.tag[i] === TAG_IMAGE) {
      state = new DataView(bytes.buffer, bytes.byteOffset + off).getUint32(0, true);
    } else {
      state = crc32c(Uint8Array.of(chain.tag[i]), 0, 1, crc32c(bytes, off, chain.len[i], state));
    }
  }
  return state;
}

const imageBytes = new Uint8Array(6);

/** Makes an image; not of chains without a beginning, and not of one object, to have some that never get any. */
export const reconstruct: Reconstruct = (object, _block, lsn, chain) => {
  assert.equal(chain.lsn[0], lsn);
  if (!chain.complete || object.c === 16384) return null;
  new DataView(imageBytes.buffer).setUint32(1, evaluate(chain), true);
  return { tag: TAG_IMAGE, bytes: imageBytes, off: 1, len: 4 };
};

const found = new ValueChain();
const expected = new ValueChain();

/** Fails unless store and model agree on a block at an LSN. */
export function expectSameBlock(
  store: TimelineStore,
  model: TimelineModel,
  object: ObjectId,
  block: number,
  lsn: number,
): void {
  const what = `object ${JSON.stringify(object)} block ${block} at ${lsn}`;
  const slot = store.slot(object);
  if (!model.readable(lsn)) {
    assert.throws(() => store.collect(slot, block, lsn, found), { kind: "out_of_range" }, what);
    return;
  }
  expected.clear();
  for (const { lsn: at, tag, value, willInit } of model.chain(object, block, lsn)) {
    expected.push(at, tag, value, 0, value.length, willInit);
  }
  store.collect(slot, block, lsn, found);
  assert.equal(found.complete, expected.complete, `${what}: complete`);
  assert.equal(found.count === 0, expected.count === 0, `${what}: empty`);
  assert.equal(
    found.lsn[0],
    expected.count === 0 ? found.lsn[0] : expected.lsn[0],
    `${what}: newest version`,
  );
  assert.equal(evaluate(found), evaluate(expected), `${what}: ${found.count} versions for ${expected.count}`);
  expectFloorsRespected(store, slot, block, lsn);
}

/** With a floor, a chain is the same as without, up to the first version at or below it. `found` is the one without. */
function expectFloorsRespected(store: TimelineStore, slot: number, block: number, lsn: number): void {
  if (found.count === 0) return;
  const whole = Array.from(found.lsn.subarray(0, found.count));
  const floor = whole[whole.length >> 1];
  const short = whole.slice(0, whole.findIndex((at) => at <= floor) + 1);
  store.collect(slot, block, lsn, found, floor);
  assert.deepEqual(Array.from(found.lsn.subarray(0, found.count)), short, `with floor ${floor}`);
}
