import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { ZenithError } from "../../../src/common/errors.ts";
import type { Lsn } from "../../../src/common/lsn.ts";
import {
  BlockCache,
  checkTimeline,
  mergeHere,
  readMetadata,
  TimelineStore,
  type TimelineStoreOptions,
} from "../../../src/pagestore/mod.ts";
import { type Fault, FaultyDisk, PowerLostError } from "../../harness/faulty_disk.ts";
import { Random, seeds } from "../../harness/random.ts";
import { ingest, reconstruct, TimelineModel } from "../../harness/timeline_model.ts";
import { expectSameReads, randomRecord } from "../../harness/timeline_workload.ts";

const START = 1000;
const BRANCH_AFTER = 6;
const RECORDS = 14;
/** Few records per layer, so that there are layers to merge. */
const FLUSH_EVERY = 4;
const LEASE_AFTER = 2;
const CUTOFF_AFTER = 9;

const ROOT = "/t/root";
const BRANCH = "/t/branch";

/**
 * Creates a timeline, fills and flushes it a few times, makes a branch of its past, fills and flushes that, merges the
 * timeline's layers and collects its garbage.
 */
class Scenario {
  readonly random: Random;
  readonly disk: FaultyDisk;
  readonly root = new TimelineModel(START, null, 0);
  branch: TimelineModel;
  /** What was promised to survive. */
  durableRoot = 0;
  durableBranch = 0;
  garbageCollected = false;
  stores: TimelineStore[] = [];

  constructor(seed: number) {
    this.random = new Random(seed);
    this.disk = new FaultyDisk(new Random(seed + 1));
    this.disk.mkdirSync("/t");
    this.disk.fsyncDirSync("/");
    for (let i = 0; i < RECORDS; i++) this.root.add(randomRecord(this.random, this.root.lastLsn));
    const branchLsn = this.root.records[BRANCH_AFTER].end;
    this.branch = new TimelineModel(branchLsn, this.root, branchLsn);
    for (let i = 0; i < RECORDS; i++) this.branch.add(randomRecord(this.random, this.branch.lastLsn));
  }

  /** Everything that can fail, one step after the other; with `retry`, a step that failed is done again. */
  async run(retry: boolean): Promise<void> {
    const attempt = async (step: () => Promise<void>): Promise<void> => {
      try {
        await step();
      } catch (error) {
        if (!retry || !(error instanceof ZenithError)) throw error;
        assert.ok(
          error.kind === "io" || error.kind === "disk_full",
          `a failing disk shows as ${error.message}`,
        );
        await step();
      }
    };
    let root!: TimelineStore;
    await attempt(async () => {
      root = await TimelineStore.create(ROOT, { ...this.options(null), startLsn: START as Lsn });
    });
    this.stores.push(root);
    this.durableRoot = START;
    for (let i = 0; i < RECORDS; i++) {
      ingest(root, this.root.records[i]);
      if (i % FLUSH_EVERY !== 0 && i !== RECORDS - 1) continue;
      await attempt(() => root.flush());
      this.durableRoot = root.lastLsn;
    }
    let branch!: TimelineStore;
    await attempt(async () => {
      const startLsn = this.branch.startLsn as Lsn;
      branch = await TimelineStore.create(BRANCH, { ...this.options(root), startLsn });
    });
    this.stores.push(branch);
    this.durableBranch = this.branch.startLsn;
    for (const record of this.branch.records) ingest(branch, record);
    await attempt(() => branch.flush());
    this.durableBranch = this.branch.lastLsn;
    await attempt(() => mergeAll(root));
    await attempt(async () => {
      await root.collectGarbage(this.#cutoff, [this.#lease]);
    });
    this.garbageCollected = true;
    await attempt(() => mergeAll(branch));
  }

  get #cutoff(): Lsn {
    return this.root.records[CUTOFF_AFTER].end as Lsn;
  }

  get #lease(): Lsn {
    return this.root.records[LEASE_AFTER].end as Lsn;
  }

  /** What a restart finds must be complete as far as it was promised, and right as far as it says. */
  async expectRecovered(): Promise<void> {
    let root: TimelineStore;
    if (this.disk.statSync(ROOT) === null) {
      assert.equal(this.durableRoot, 0, "a timeline that was created is there");
      root = await TimelineStore.create(ROOT, { ...this.options(null), startLsn: START as Lsn });
    } else {
      root = await TimelineStore.open(ROOT, this.options(null));
    }
    const { cutoff, points } = readMetadata(this.disk, ROOT).retention;
    if (this.garbageCollected || cutoff !== 0) {
      assert.deepEqual({ cutoff, points }, {
        cutoff: this.#cutoff,
        points: [this.#lease, this.branch.startLsn],
      });
    }
    this.root.collectGarbage(cutoff, points);
    await this.#expectRestored(root, this.root, this.durableRoot, ROOT);
    let branch: TimelineStore;
    if (this.disk.statSync(BRANCH) === null) {
      assert.equal(this.durableBranch, 0, "a branch that was created is there");
      const startLsn = this.branch.startLsn as Lsn;
      branch = await TimelineStore.create(BRANCH, { ...this.options(root), startLsn });
    } else {
      branch = await TimelineStore.open(BRANCH, this.options(root));
    }
    await this.#expectRestored(branch, this.branch, this.durableBranch, BRANCH);
    await branch.close();
    await root.close();
  }

  async #expectRestored(
    store: TimelineStore,
    model: TimelineModel,
    durable: number,
    directory: string,
  ): Promise<void> {
    assert.ok(
      store.diskConsistentLsn >= durable,
      `durable up to ${store.diskConsistentLsn}, promised ${durable}`,
    );
    expectSameReads(this.random, store, model, 10, store.diskConsistentLsn);
    // One file per layer and the metadata: nothing else stays, whatever the crash left.
    assert.equal(this.disk.readdirSync(directory).length, store.sizes().layerCount + 1);
    for (const record of model.records) {
      if (record.end > store.lastLsn) ingest(store, record);
    }
    expectSameReads(this.random, store, model, 10);
    await store.flush();
    await mergeAll(store);
    expectSameReads(this.random, store, model, 10);
    const check = checkTimeline(this.disk, directory);
    assert.deepEqual([check.problems, check.strays], [[], []]);
  }

  /** Opens what there is; how far that says to be durable is promised. */
  async expectReopened(): Promise<void> {
    if (this.disk.statSync(ROOT) === null) return;
    const root = await TimelineStore.open(ROOT, this.options(null));
    this.durableRoot = Math.max(this.durableRoot, root.diskConsistentLsn);
    if (this.disk.statSync(BRANCH) === null) return;
    const branch = await TimelineStore.open(BRANCH, this.options(root));
    this.durableBranch = Math.max(this.durableBranch, branch.diskConsistentLsn);
  }

  options(ancestor: TimelineStore | null): TimelineStoreOptions {
    const options = {
      disk: this.disk,
      nowMs: () => 0,
      cache: new BlockCache(1 << 20),
      config: CONFIG,
      makeImage: reconstruct,
      mergeLayers: mergeHere(this.disk, reconstruct),
    };
    return ancestor === null
      ? options
      : { ...options, ancestor: { store: ancestor, lsn: this.branch.startLsn as Lsn } };
  }
}

async function mergeAll(store: TimelineStore): Promise<void> {
  while ((await store.compact()) !== null);
}

/** Runs the scenario with each of its operations failing in turn. */
async function failEverywhere(
  seed: number,
  faultOf: (n: number) => Fault,
  run: (scenario: Scenario) => Promise<void>,
): Promise<number> {
  const rehearsal = new Scenario(seed);
  const before = rehearsal.disk.operations;
  await rehearsal.run(false);
  const operations = rehearsal.disk.operations - before;
  for (let n = 1; n <= operations; n++) {
    const scenario = new Scenario(seed);
    const fault = faultOf(n);
    scenario.disk.failAt(n, fault);
    try {
      await run(scenario);
      assert.ok(scenario.disk.faulted, "the fault has happened");
      scenario.disk.crash();
      await scenario.expectRecovered();
    } catch (error) {
      throw new Error(`operation ${n} of ${operations} failing with ${JSON.stringify(fault)}, seed ${seed}`, {
        cause: error,
      });
    }
  }
  return operations;
}

const CONFIG = {
  memoryChainBytes: 300,
  mergeFanIn: 2,
  mergedLayerBytes: 800,
  chainLimits: { maxVersions: 2, maxBytes: 200 },
};

const SLOW = { timeout: 60_000 };

describe("create, flush, branch, merge and garbage collection", () => {
  for (const seed of seeds(1)) {
    test(
      `lose nothing that was promised when the power goes at any operation, seed ${seed}`,
      SLOW,
      async () => {
        const operations = await failEverywhere(seed, () => ({ kind: "crash" }), async (scenario) => {
          // It may even come to its end: the last thing a merge does is to remove the old files as far as that works.
          await scenario.run(false).catch((error: Error) => {
            if (!(error instanceof PowerLostError || error.cause instanceof PowerLostError)) throw error;
          });
        });
        assert.ok(operations > 100, `the scenario has ${operations} operations`);
      },
    );

    test(
      `keep what is there after a kill at any operation when the power goes next, seed ${seed}`,
      SLOW,
      async () => {
        await failEverywhere(seed, () => ({ kind: "crash" }), async (scenario) => {
          await scenario.run(false).catch((error: Error) => {
            if (!(error instanceof PowerLostError || error.cause instanceof PowerLostError)) throw error;
          });
          scenario.disk.kill();
          await scenario.expectReopened();
        });
      },
    );

    test(`go on after an error at any operation when asked again, seed ${seed}`, SLOW, async () => {
      const fault = (n: number): Fault => ({ kind: "error", code: n % 2 === 0 ? "EIO" : "ENOSPC" });
      await failEverywhere(seed, fault, (scenario) => scenario.run(true));
    });
  }
});
