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
      const cached = new PageReader(V15, store, new PageCache(2 * BLCKSZ));
      const uncached = new PageReader(V15, store, new PageCache(0));
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
});
