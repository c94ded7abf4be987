import { V15 } from "../../../../src/postgres/versions/v15.ts";
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Lsn } from "../../../../src/common/lsn.ts";
import { relationKey, TAG_BYTES, TAG_RECORD } from "../../../../src/pageserver/content/keys.ts";
import { PageCache } from "../../../../src/pageserver/content/page_cache.ts";
import { PageReader } from "../../../../src/pageserver/content/page_reader.ts";
import { BlockCache, TimelineStore } from "../../../../src/pagestore/mod.ts";
import { BLCKSZ } from "../../../../src/postgres/cluster/page_layout.ts";
import { MAIN_FORKNUM } from "../../../../src/postgres/cluster/relfile.ts";
import { BKPBLOCK_HAS_DATA } from "../../../../src/postgres/wal/record.ts";
import { RM_GENERIC_ID } from "../../../../src/postgres/wal/rmgr.ts";
import { FaultyDisk } from "../../../harness/faulty_disk.ts";
import { Random, seeds } from "../../../harness/random.ts";
import { bytes, u16, u32, u8 } from "../../postgres/redo/record_fixture.ts";

const RELATION = { spc: 1663, db: 5, rel: 16384, fork: MAIN_FORKNUM };
const BLOCKS = 3;
const START = 1000 as Lsn;

/** A generic WAL record that puts `value` at `offset` of a block. */
function change(block: number, offset: number, value: number): Uint8Array {
  const delta = bytes(u16(offset, 4), u32(value));
  const body = bytes(
    u8(0, BKPBLOCK_HAS_DATA | RELATION.fork),
    u16(delta.length),
    u32(RELATION.spc, RELATION.db, RELATION.rel, block),
    [...delta],
  );
  return bytes(u32(24 + body.length, 0, 0, 0), u8(0, RM_GENERIC_ID, 0, 0), u32(0), [...body]);
}

/** A page without free space, which redo of a generic record would clear. */
function fullPage(fill: number): Uint8Array {
  const page = new Uint8Array(BLCKSZ).fill(fill);
  page.set(bytes(u32(0, 0), u16(0, 0, 8192, 8192, 8192, 0x2004)));
  return page;
}

describe("reading pages", () => {
  for (const seed of seeds(8)) {
    test(`gives the same page whatever is cached, seed ${seed}`, async () => {
      const random = new Random(seed);
      const disk = new FaultyDisk(random);
      const store = await TimelineStore.create("/t", {
        disk,
        nowMs: () => 0,
        cache: new BlockCache(1 << 20),
        startLsn: START,
      });
      const { spc, db, rel, fork } = RELATION;
      const source = { ...RELATION, slot: store.slot(relationKey(spc, db, rel, fork)) };
      // Room for two of the three pages.
      const cached = new PageReader(V15, store, new PageCache(2 * BLCKSZ), null);
      const uncached = new PageReader(V15, store, new PageCache(0), null);
      const expected = new Uint8Array(BLCKSZ);
      const found = new Uint8Array(BLCKSZ);
      let lsn: number = START;
      let reads = 0;
      for (let step = 0; step < 400; step++) {
        const block = random.int(BLOCKS);
        lsn += 8;
        if (step < BLOCKS || random.oneIn(25)) {
          const image = fullPage(random.int(256));
          store.put(source.slot, step < BLOCKS ? step : block, lsn, image, 0, BLCKSZ, TAG_BYTES, true);
        } else {
          const record = change(block, 24 + 4 * random.int(2000), random.u32());
          store.put(source.slot, block, lsn, record, 0, record.length, TAG_RECORD, false);
        }
        store.advance(lsn as Lsn);
        if (random.oneIn(60)) await store.flush();
        if (step < BLOCKS) continue;
        const at = random.oneIn(3) ? START + 8 * BLOCKS + random.int(lsn - START - 8 * BLOCKS + 1) : lsn;
        const wanted = random.int(BLOCKS);
        uncached.readPage(source, wanted, at, expected, 0);
        cached.readPage(source, wanted, at, found, 0);
        assert.deepEqual(found, expected, `block ${wanted} at ${at}, step ${step}`);
        reads++;
      }
      assert.ok(reads > 300);
      await store.close();
    });
  }

  for (const seed of seeds(8)) {
    test(`gives each of a tree of branches its own page, seed ${seed}`, async () => {
      const random = new Random(seed);
      const disk = new FaultyDisk(random);
      const options = { disk, nowMs: () => 0, cache: new BlockCache(1 << 20) };
      // Of all branches together; room for less than they have.
      const shared = new PageCache(6 * BLCKSZ);
      const root = await TimelineStore.create("/t0", { ...options, startLsn: START });
      const { spc, db, rel, fork } = RELATION;
      const source = { ...RELATION, slot: root.slot(relationKey(spc, db, rel, fork)) };
      const branches: Branch[] = [{
        store: root,
        cached: new PageReader(V15, root, shared, null),
        uncached: new PageReader(V15, root, new PageCache(0), null),
        lsn: START,
      }];
      const write = (branch: Branch, block: number, isImage: boolean): void => {
        branch.lsn += 8;
        const value = isImage
          ? fullPage(random.int(256))
          : change(block, 24 + 4 * random.int(2000), random.u32());
        const tag = isImage ? TAG_BYTES : TAG_RECORD;
        branch.store.put(source.slot, block, branch.lsn, value, 0, value.length, tag, isImage);
        branch.store.advance(branch.lsn as Lsn);
      };
      for (let block = 0; block < BLOCKS; block++) write(branches[0]!, block, true);
      const expected = new Uint8Array(BLCKSZ);
      const found = new Uint8Array(BLCKSZ);
      for (let step = 0; step < 1500; step++) {
        const branch = branches[random.int(branches.length)]!;
        if (branches.length < 12 && random.oneIn(20)) {
          const first = branch.store.startLsn + (branch === branches[0] ? 8 * BLOCKS : 0);
          const at = (first + 8 * random.int((branch.lsn - first) / 8 + 1)) as Lsn;
          const store = await TimelineStore.create(`/t${branches.length}`, {
            ...options,
            ancestor: { store: branch.store, lsn: at },
            startLsn: at,
          });
          branches.push({
            store,
            cached: new PageReader(V15, store, shared, branch.cached),
            uncached: new PageReader(V15, store, new PageCache(0), branch.uncached),
            lsn: at,
          });
        } else if (random.oneIn(4)) write(branch, random.int(BLOCKS), random.oneIn(25));
        else if (random.oneIn(50)) await branch.store.flush();
        const first = branch.store.startLsn + (branch === branches[0] ? 8 * BLOCKS : 0);
        const at = random.oneIn(3) ? first + random.int(branch.lsn - first + 1) : branch.lsn;
        const block = random.int(BLOCKS);
        branch.uncached.readPage(source, block, at, expected, 0);
        branch.cached.readPage(source, block, at, found, 0);
        assert.deepEqual(
          found,
          expected,
          `branch ${branches.indexOf(branch)}, block ${block} at ${at}, step ${step}`,
        );
      }
      assert.equal(branches.length, 12);
      // What a closed one had is not found by others, and they go on.
      const last = branches.at(-1)!;
      last.cached.close(new Error("closed"));
      assert.throws(() => last.cached.readPage(source, 0, last.lsn, found, 0), /closed/);
      for (const branch of branches.slice(0, -1)) {
        for (let block = 0; block < BLOCKS; block++) {
          branch.uncached.readPage(source, block, branch.lsn, expected, 0);
          branch.cached.readPage(source, block, branch.lsn, found, 0);
          assert.deepEqual(found, expected);
        }
      }
      for (const { store } of branches.reverse()) await store.close();
    });
  }

  test("rebuilds a page once for all branches that have the same version of it", async () => {
    const disk = new FaultyDisk(new Random(1));
    const options = { disk, nowMs: () => 0, cache: new BlockCache(1 << 20) };
    const cache = new PageCache(64 * BLCKSZ);
    const root = await TimelineStore.create("/t0", { ...options, startLsn: START });
    const { spc, db, rel, fork } = RELATION;
    const source = { ...RELATION, slot: root.slot(relationKey(spc, db, rel, fork)) };
    const image = fullPage(1);
    root.put(source.slot, 0, START + 8, image, 0, BLCKSZ, TAG_BYTES, true);
    const record = change(0, 24, 7);
    root.put(source.slot, 0, START + 16, record, 0, record.length, TAG_RECORD, false);
    root.advance(START + 16 as Lsn);
    const parent = new PageReader(V15, root, cache, null);
    const page = new Uint8Array(BLCKSZ);
    for (let i = 1; i <= 3; i++) {
      const lsn = START + 16 as Lsn;
      const store = await TimelineStore.create(`/t${i}`, {
        ...options,
        ancestor: { store: root, lsn },
        startLsn: lsn,
      });
      new PageReader(V15, store, cache, parent).readPage(source, 0, lsn, page, 0);
      assert.equal(cache.bytes, BLCKSZ, `after branch ${i}`);
      await store.close();
    }
    await root.close();
  });
});

interface Branch {
  readonly store: TimelineStore;
  readonly cached: PageReader;
  readonly uncached: PageReader;
  lsn: number;
}
