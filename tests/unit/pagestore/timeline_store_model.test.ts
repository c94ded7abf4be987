import { describe, test } from "node:test";
import assert from "node:assert/strict";
import type { Lsn } from "../../../src/common/lsn.ts";
import {
  BlockCache,
  checkTimeline,
  mergeHere,
  TimelineStore,
  type TimelineStoreOptions,
} from "../../../src/pagestore/mod.ts";
import { FaultyDisk } from "../../harness/faulty_disk.ts";
import { EXHAUSTIVE, Random, seeds } from "../../harness/random.ts";
import { ingest, reconstruct, TimelineModel } from "../../harness/timeline_model.ts";
import { expectSameReads, randomRecord } from "../../harness/timeline_workload.ts";

const SEEDS = EXHAUSTIVE ? 60 : 30;
const STEPS = 40;
const MAX_TIMELINES = 6;

interface Pair {
  readonly directory: string;
  readonly model: TimelineModel;
  readonly ancestor: Pair | null;
  store: TimelineStore;
}

/** A set of timelines, each beside its model. */
class World {
  readonly random: Random;
  readonly disk: FaultyDisk;
  readonly pairs: Pair[] = [];
  #nowMs = 0;
  #background: Promise<unknown>[] = [];
  #cache = new BlockCache(0);

  constructor(seed: number) {
    this.random = new Random(seed);
    this.disk = new FaultyDisk(this.random);
    this.disk.mkdirSync("/t");
    this.#newCache();
  }

  async run(): Promise<void> {
    await this.#create(null, 100);
    for (let step = 0; step < STEPS; step++) {
      this.#nowMs += 10;
      const pair = this.pairs[this.random.int(this.pairs.length)];
      await this.#step(pair);
      expectSameReads(this.random, pair.store, pair.model, 5);
    }
    await this.#restart();
    for (const { store, model } of this.pairs) {
      expectSameReads(this.random, store, model, 40);
      await store.close();
      assert.deepEqual(checkTimeline(this.disk, store.directory).problems, []);
    }
  }

  async #step(pair: Pair): Promise<void> {
    const { random } = this;
    if (random.oneIn(12)) return await pair.store.flush();
    if (random.oneIn(20)) return await this.#restart();
    if (random.oneIn(3)) await this.#upkeep(pair);
    if (random.oneIn(10) && this.pairs.length < MAX_TIMELINES) {
      return await this.#create(
        pair,
        random.oneIn(2) ? pair.model.lastLsn : random.int(pair.model.lastLsn + 1),
      );
    }
    for (let n = random.int(20); n >= 0; n--) {
      const record = randomRecord(random, pair.model.lastLsn);
      pair.model.add(record);
      ingest(pair.store, record);
      if (random.oneIn(2)) await pair.store.ready();
    }
  }

  /** Merges and garbage collections, now and then with the rest of the world going on. */
  async #upkeep(pair: Pair): Promise<void> {
    const { random } = this;
    let work: Promise<unknown>;
    if (random.oneIn(4)) {
      const { store, model } = pair;
      const cutoff = Math.min(random.int(model.lastLsn + 1), store.diskConsistentLsn);
      const lease = random.int(cutoff + 1) as Lsn;
      work = store.collectGarbage(cutoff as Lsn, [lease]);
      model.collectGarbage(cutoff, [lease, ...this.#branchPoints(model)]);
    } else {
      work = pair.store.compact();
    }
    if (random.oneIn(2)) await work;
    else this.#background.push(work);
  }

  /** Where the timelines that live now read from `model`. */
  #branchPoints(model: TimelineModel): number[] {
    const points: number[] = [];
    for (const pair of this.pairs) {
      let lsn = pair.model.lastLsn;
      for (let at: TimelineModel | null = pair.model; at !== null; at = at.ancestor) {
        if (at === model && at !== pair.model) points.push(lsn);
        lsn = Math.min(lsn, at.ancestorLsn);
      }
    }
    return points;
  }

  async #create(ancestor: Pair | null, lsn: number): Promise<void> {
    const directory = `/t/${this.pairs.length}`;
    const model = new TimelineModel(lsn, ancestor?.model ?? null, lsn);
    if (ancestor !== null && !ancestor.model.readable(lsn)) {
      const refused = { ...this.#options(ancestor, lsn), startLsn: lsn as Lsn };
      await assert.rejects(TimelineStore.create(directory, refused), { kind: "out_of_range" });
      return;
    }
    const options = { ...this.#options(ancestor, lsn), startLsn: lsn as Lsn };
    this.pairs.push({ directory, model, ancestor, store: await TimelineStore.create(directory, options) });
  }

  /** Ends all and starts all, with the WAL that is not in layers coming again. */
  async #restart(): Promise<void> {
    await Promise.all(this.#background);
    this.#background = [];
    for (const { store } of this.pairs) await store.close();
    this.#newCache();
    for (const pair of this.pairs) {
      const options = this.#options(pair.ancestor, pair.model.ancestorLsn);
      const durable = pair.store.diskConsistentLsn;
      pair.store = await TimelineStore.open(pair.directory, options);
      assert.equal(pair.store.diskConsistentLsn, durable);
      expectSameReads(this.random, pair.store, pair.model, 3, pair.store.diskConsistentLsn);
      for (const record of pair.model.records) {
        if (record.end > pair.store.lastLsn) ingest(pair.store, record);
      }
    }
  }

  /** Now and then so small that hardly anything stays. */
  #newCache(): void {
    this.#cache = new BlockCache(this.random.oneIn(2) ? 1 << 20 : 4000);
  }

  #options(ancestor: Pair | null, lsn: number): TimelineStoreOptions {
    const config = {
      layerBytes: 6000 + this.random.int(20_000),
      layerAgeMs: 100,
      memoryChainBytes: 50 + this.random.int(1000),
      mergeFanIn: 2 + this.random.int(3),
      mergedLayerBytes: 500 + this.random.int(4000),
      chainLimits: { maxVersions: 1 + this.random.int(5), maxBytes: 50 + this.random.int(1000) },
    };
    const mergeLayers = mergeHere(this.disk, reconstruct);
    const options = {
      disk: this.disk,
      nowMs: () => this.#nowMs,
      cache: this.#cache,
      config,
      makeImage: reconstruct,
      mergeLayers,
    };
    return ancestor === null ? options : { ...options, ancestor: { store: ancestor.store, lsn: lsn as Lsn } };
  }
}

describe("timelines under random puts, flushes, branches, merges, garbage collections and restarts", () => {
  for (const seed of seeds(SEEDS)) {
    test(`read as the naive model does, seed ${seed}`, () => new World(seed).run());
  }
});
