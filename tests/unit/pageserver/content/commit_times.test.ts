import assert from "node:assert/strict";
import { join } from "node:path";
import { beforeEach, describe, test } from "node:test";
import type { Lsn } from "../../../../src/common/lsn.ts";
import { CommitTimes } from "../../../../src/pageserver/content/commit_times.ts";
import { BlockCache, TimelineStore, type TimelineStoreOptions } from "../../../../src/pagestore/mod.ts";
import { FaultyDisk } from "../../../harness/faulty_disk.ts";
import { Random, seeds } from "../../../harness/random.ts";

const START = 0x1000 as Lsn;
const MS = 1000;

const root = "/t";
let options: TimelineStoreOptions;
beforeEach(() => {
  const disk = new FaultyDisk(new Random(1));
  disk.mkdirSync(root);
  options = { disk, nowMs: () => 0, cache: new BlockCache(1 << 20) };
});

function create(name = "main"): Promise<TimelineStore> {
  return TimelineStore.create(join(root, name), { ...options, startLsn: START });
}

function commit(store: TimelineStore, times: CommitTimes, timestamp: number, lsn: number): void {
  times.note(timestamp, lsn);
  store.advance(lsn as Lsn);
}

describe("the index of commit times", () => {
  test("gives the end of the last commit at or before a moment", async () => {
    const store = await create();
    const times = new CommitTimes(store);
    commit(store, times, 10 * MS, 0x2000);
    commit(store, times, 20 * MS, 0x3000);
    commit(store, times, 30 * MS, 0x4000);
    assert.deepEqual(times.find(10 * MS), { where: "within", lsn: 0x2000 });
    assert.deepEqual(times.find(19 * MS), { where: "within", lsn: 0x2000 });
    assert.deepEqual(times.find(20 * MS), { where: "within", lsn: 0x3000 });
    assert.deepEqual(times.find(29 * MS + 999), { where: "within", lsn: 0x3000 });
    assert.deepEqual(times.find(30 * MS), { where: "end" });
    assert.deepEqual(times.find(9 * MS), { where: "before", beginning: 10 * MS });
    assert.equal(times.newest, 30 * MS);
    assert.equal(times.first, 10 * MS);
    await store.close();
  });

  test("has no end before anything was committed", async () => {
    const store = await create();
    const times = new CommitTimes(store);
    assert.deepEqual(times.find(0), { where: "end" });
    assert.equal(times.newest, null);
    assert.equal(times.first, null);
    await store.close();
  });

  test("takes commits of one millisecond together", async () => {
    const store = await create();
    const times = new CommitTimes(store);
    commit(store, times, 10 * MS, 0x2000);
    commit(store, times, 20 * MS + 1, 0x3000);
    commit(store, times, 20 * MS + 900, 0x4000);
    commit(store, times, 21 * MS, 0x5000);
    assert.deepEqual(times.find(20 * MS), { where: "within", lsn: 0x4000 });
    await store.close();
  });

  test("counts a commit behind a set-back clock as of the latest time before it", async () => {
    const store = await create();
    const times = new CommitTimes(store);
    commit(store, times, 10 * MS, 0x2000);
    commit(store, times, 50 * MS, 0x3000);
    commit(store, times, 20 * MS, 0x4000);
    commit(store, times, 60 * MS, 0x5000);
    assert.deepEqual(times.find(30 * MS), { where: "within", lsn: 0x2000 });
    assert.deepEqual(times.find(55 * MS), { where: "within", lsn: 0x4000 });
    await store.close();
  });

  test("knows which moments exist twice while a set-back clock has not caught up", async () => {
    const store = await create();
    let times = new CommitTimes(store);
    const S = 1000 * MS;
    commit(store, times, 100 * S, 0x2000);
    commit(store, times, 200 * S, 0x3000);
    assert.equal(times.setBack, null);
    commit(store, times, 195 * S, 0x3100);
    assert.equal(times.setBack, null, "out of order, but not set back");
    commit(store, times, 120 * S, 0x4000);
    commit(store, times, 130 * S, 0x5000);
    assert.deepEqual(times.setBack, { to: 120 * S, from: 200 * S });
    commit(store, times, 110 * S, 0x6000);
    assert.deepEqual(times.setBack, { to: 110 * S, from: 200 * S });
    await store.flush();
    times = new CommitTimes(store);
    assert.deepEqual(times.setBack, { to: 110 * S, from: 200 * S }, "after a restart");
    commit(store, times, 201 * S, 0x7000);
    assert.equal(times.setBack, null, "caught up");
    await store.close();
  });

  test("goes on in a branch where its parent was left", async () => {
    const parent = await create();
    const before = new CommitTimes(parent);
    commit(parent, before, 10 * MS, 0x2000);
    commit(parent, before, 20 * MS, 0x3000);
    commit(parent, before, 30 * MS, 0x4000);
    const branch = await TimelineStore.create(join(root, "branch"), {
      ...options,
      startLsn: 0x3000 as Lsn,
      ancestor: { store: parent, lsn: 0x3000 as Lsn },
    });
    const times = new CommitTimes(branch);
    assert.deepEqual(times.find(10 * MS), { where: "within", lsn: 0x2000 });
    assert.deepEqual(times.find(20 * MS), { where: "end" });
    commit(branch, times, 40 * MS, 0x5000);
    assert.deepEqual(times.find(35 * MS), { where: "within", lsn: 0x3000 });
    assert.deepEqual(times.find(40 * MS), { where: "end" });
    assert.deepEqual(before.find(25 * MS), { where: "within", lsn: 0x3000 });
    await branch.close();
    await parent.close();
  });

  test("agrees with a list of all commits, across flushes and restarts", async () => {
    for (const seed of seeds(10)) {
      const random = new Random(seed);
      const directory = `seed${seed}`;
      let store = await create(directory);
      let times = new CommitTimes(store);
      const commits: { ms: number; lsn: number }[] = [];
      let lsn: number = START;
      let ms = 1;
      for (let i = 0; i < 300; i++) {
        lsn += 8 * (1 + random.int(100));
        ms += random.int(3);
        commits.push({ ms, lsn });
        commit(store, times, ms * MS + random.int(MS), lsn);
        if (random.oneIn(40)) await store.flush();
        if (random.oneIn(60)) {
          await store.flush();
          await store.close();
          store = await TimelineStore.open(join(root, directory), options);
          times = new CommitTimes(store);
        }
      }
      for (let at = 0; at <= ms + 1; at++) {
        const later = commits.findIndex((commit) => commit.ms > at);
        const expected = later === -1
          ? { where: "end" }
          : later === 0
          ? { where: "before", beginning: commits[0].ms * MS }
          : { where: "within", lsn: commits[later - 1].lsn };
        assert.deepEqual(times.find(at * MS), expected, `seed ${seed}, ${at} ms`);
      }
      await store.close();
    }
  });
});
