import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Lsn } from "../../../../src/common/lsn.ts";
import { RelationForks } from "../../../../src/pageserver/content/relation_forks.ts";
import { BlockCache, flushHere, mergeHere, TimelineStore } from "../../../../src/pagestore/mod.ts";
import { FaultyDisk } from "../../../harness/faulty_disk.ts";
import { Random, seeds } from "../../../harness/random.ts";

const START = 1000 as Lsn;
const SPC = 1663;
const DATABASES = [1, 5];
const RELATIONS = 6;

/** A store, the forks in it, and how often blocks have been looked up. */
class Subject {
  readonly store: TimelineStore;
  readonly forks: RelationForks;
  readonly #reads: Int32Array;

  private constructor(store: TimelineStore, reads: Int32Array) {
    this.store = store;
    this.forks = new RelationForks(store);
    this.#reads = reads;
  }

  static async make(
    disk: FaultyDisk,
    directory: string,
    parent?: { of: Subject; lsn: Lsn },
  ): Promise<Subject> {
    const reads = new Int32Array(1);
    const ancestor = parent === undefined ? {} : { ancestor: { store: parent.of.store, lsn: parent.lsn } };
    const options = { ...Subject.#options(disk), ...ancestor, reads };
    const startLsn = parent?.lsn ?? START;
    return new Subject(await TimelineStore.create(directory, { ...options, startLsn }), reads);
  }

  static async open(disk: FaultyDisk, directory: string): Promise<Subject> {
    const reads = new Int32Array(1);
    return new Subject(await TimelineStore.open(directory, { ...Subject.#options(disk), reads }), reads);
  }

  static #options(disk: FaultyDisk) {
    return {
      disk,
      nowMs: () => 0,
      cache: new BlockCache(1 << 20),
      flushLayer: flushHere(disk),
      mergeLayers: mergeHere(disk),
    };
  }

  /** What one record does to sizes. */
  change(random: Random): void {
    const lsn = this.store.lastLsn + 8;
    const { forks } = this;
    for (let changes = 1 + random.int(3); changes > 0; changes--) {
      const db = DATABASES[random.int(DATABASES.length)];
      const rel = 16384 + random.int(RELATIONS);
      const fork = forks.get(SPC, db, rel, random.int(4));
      const kind = random.int(6);
      if (kind === 0) forks.create(fork, lsn);
      else if (kind === 1) forks.truncate(fork, random.int(10), lsn);
      else if (kind === 2) forks.drop(fork, lsn);
      else if (kind === 3) forks.dropRelation(SPC, db, rel, lsn);
      else forks.extend(fork, random.int(20), lsn);
    }
    forks.save(lsn);
    this.advance();
  }

  advance(): void {
    this.store.advance(this.store.lastLsn + 8 as Lsn);
  }

  /** The total is right, and nothing was looked up for it. */
  expectTotal(what: string): void {
    const before = this.#reads[0];
    const total = this.forks.totalBlocks();
    assert.equal(this.#reads[0], before, `${what}: the total is known`);
    assert.equal(total, this.forks.countBlocks(), what);
  }
}

describe("the total of all relations' sizes", () => {
  for (const seed of seeds(6)) {
    test(`is right at any LSN, on branches, and after a crash, seed ${seed}`, async () => {
      const random = new Random(seed);
      const disk = new FaultyDisk(random);
      let main = await Subject.make(disk, "/main");
      let branches = 0;
      for (let step = 0; step < 300; step++) {
        main.change(random);
        main.expectTotal(`step ${step}`);
        const event = random.int(12);
        if (event === 0) await main.store.flush();
        else if (event === 1) await main.store.compact();
        else if (event === 2) await main.store.collectGarbage(main.store.diskConsistentLsn, []);
        else if (event === 3) {
          // What was not flushed is gone, as if it were to be replayed.
          await main.store.close();
          main = await Subject.open(disk, "/main");
          main.expectTotal(`opened after step ${step}`);
        } else if (event === 4) {
          const from = main.store.diskConsistentLsn;
          const lsn = from + random.int(main.store.lastLsn - from + 1) as Lsn;
          const branch = await Subject.make(disk, `/branch${branches++}`, { of: main, lsn });
          // An LSN without a record of its own is as good as the one before it.
          if (lsn > START) branch.expectTotal(`a branch at ${lsn} after step ${step}`);
          for (let i = 0; i < 10; i++) branch.change(random);
          branch.expectTotal(`a branch at ${lsn} that was written to`);
          await branch.store.close();
        }
      }
      await main.store.close();
    });

    test(`is counted where it was not kept, and kept from then on, seed ${seed}`, async () => {
      const random = new Random(seed);
      const disk = new FaultyDisk(random);
      const before = await Subject.make(disk, "/main");
      before.forks.extend(before.forks.get(SPC, 5, 16384, 0), 7, START + 8);
      before.advance();
      await before.store.flush();
      await before.store.close();

      let main = await Subject.open(disk, "/main");
      main.change(random);
      await main.store.flush();
      await main.store.close();
      main = await Subject.open(disk, "/main");
      assert.equal(main.forks.totalBlocks(), main.forks.countBlocks());
      const counted = main.store.lastLsn;
      for (let i = 0; i < 10; i++) main.change(random);
      main.expectTotal("kept");
      const past = await Subject.make(disk, "/past", { of: main, lsn: counted });
      assert.equal(past.forks.totalBlocks(), past.forks.countBlocks());
      await past.store.close();
      await main.store.flush();
      await main.store.close();
      main = await Subject.open(disk, "/main");
      main.expectTotal("opened");
      await main.store.close();
    });
  }
});

test("relations that are made and dropped again leave nothing in memory", async () => {
  const subject = await Subject.make(new FaultyDisk(new Random(1)), "/main");
  const { forks, store } = subject;
  for (let rel = 20_000; rel < 21_000; rel++) {
    const lsn = store.lastLsn + 8;
    forks.extend(forks.get(SPC, 5, rel, 0), 3, lsn);
    subject.advance();
    forks.dropRelation(SPC, 5, rel, store.lastLsn + 8);
    forks.extend(forks.get(SPC, 5, 16384, 0), 1 + rel % 7, store.lastLsn + 8);
    subject.advance();
  }
  assert.ok(forks.trackedForks < 20, `${forks.trackedForks} forks`);
  assert.equal(forks.get(SPC, 5, 20_500, 0).blocks, -1);
  assert.equal(forks.totalBlocks(), forks.countBlocks());
});
