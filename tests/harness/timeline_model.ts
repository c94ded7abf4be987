/**
 * The page store as anyone would write it who did not care for speed: a list of versions per block. Tests do the same to it
 * and to a real store, and compare what they read.
 */
import assert from "node:assert/strict";
import type { Lsn } from "../../src/common/lsn.ts";
import {
  compareObjects,
  type ObjectFilter,
  type ObjectId,
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

const chain = new ValueChain();

/** Fails unless store and model agree on a block at an LSN. */
export function expectSameChain(
  store: TimelineStore,
  model: TimelineModel,
  object: ObjectId,
  block: number,
  lsn: number,
): void {
  store.collect(store.slot(object), block, lsn, chain);
  const expected = model.chain(object, block, lsn);
  const found = Array.from({ length: chain.count }, (_, i) => ({
    lsn: chain.lsn[i],
    tag: chain.tag[i],
    value: Array.from(chain.bytes[i]!.subarray(chain.off[i]!, chain.off[i]! + chain.len[i]!)),
  }));
  const what = `object ${JSON.stringify(object)} block ${block} at ${lsn}`;
  assert.deepEqual(
    found,
    expected.map(({ lsn, tag, value }) => ({ lsn, tag, value: Array.from(value) })),
    what,
  );
  assert.equal(chain.complete, expected.at(-1)?.willInit ?? false, `${what}: complete`);
}
