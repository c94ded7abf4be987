import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { ZenithError } from "../../../src/common/errors.ts";
import type { Lsn } from "../../../src/common/lsn.ts";
import { BlockCache, TimelineStore, type TimelineStoreOptions } from "../../../src/pagestore/mod.ts";
import { type Fault, FaultyDisk, PowerLostError } from "../../harness/faulty_disk.ts";
import { Random, seeds } from "../../harness/random.ts";
import { ingest, TimelineModel } from "../../harness/timeline_model.ts";
import { expectSameReads, randomRecord } from "../../harness/timeline_workload.ts";

const START = 1000;
const BRANCH_AFTER = 6;
const RECORDS = 14;

const ROOT = "/t/root";
const BRANCH = "/t/branch";

/** Creates a timeline, fills and flushes it twice, makes a branch in between and flushes that too. */
class Scenario {
  readonly random: Random;
  readonly disk: FaultyDisk;
  readonly root = new TimelineModel(START, null, 0);
  branch: TimelineModel;
  /** What was promised to survive. */
  durableRoot = 0;
  durableBranch = 0;
  stores: TimelineStore[] = [];

  constructor(seed: number) {
    this.random = new Random(seed);
    this.disk = new FaultyDisk(new Random(seed + 1));
    this.disk.mkdirSync("/t");
    this.disk.fsyncDirSync("/");
    for (let i = 0; i < RECORDS; i++) this.root.add(randomRecord(this.random, this.root.lastLsn));
    const branchLsn = this.root.records[BRANCH_AFTER]!.end;
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
      ingest(root, this.root.records[i]!);
      if (i !== BRANCH_AFTER && i !== RECORDS - 1) continue;
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
    expectSameReads(this.random, store, model, 10);
  }

  options(ancestor: TimelineStore | null): TimelineStoreOptions {
    const options = { disk: this.disk, nowMs: () => 0, cache: new BlockCache(1 << 20) };
    return ancestor === null
      ? options
      : { ...options, ancestor: { store: ancestor, lsn: this.branch.startLsn as Lsn } };
  }
}

/** Runs the scenario with each of its operations failing in turn. */
async function failEverywhere(
  seed: number,
  fault: Fault,
  run: (scenario: Scenario) => Promise<void>,
): Promise<number> {
  const rehearsal = new Scenario(seed);
  const before = rehearsal.disk.operations;
  await rehearsal.run(false);
  const operations = rehearsal.disk.operations - before;
  for (let n = 1; n <= operations; n++) {
    const scenario = new Scenario(seed);
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

const SLOW = { timeout: 60_000 };

describe("create, flush and branch", () => {
  for (const seed of seeds(3)) {
    test(
      `lose nothing that was promised when the power goes at any operation, seed ${seed}`,
      SLOW,
      async () => {
        const operations = await failEverywhere(seed, { kind: "crash" }, async (scenario) => {
          await assert.rejects(scenario.run(false), (error: Error) => {
            return error instanceof PowerLostError || error.cause instanceof PowerLostError;
          });
        });
        assert.ok(operations > 30, `the scenario has ${operations} operations`);
      },
    );

    for (const code of ["EIO", "ENOSPC"] as const) {
      test(`go on after ${code} at any operation when asked again, seed ${seed}`, SLOW, async () => {
        await failEverywhere(seed, { kind: "error", code }, (scenario) => scenario.run(true));
      });
    }
  }
});
