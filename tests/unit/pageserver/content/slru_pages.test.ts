import assert from "node:assert/strict";
import { test } from "node:test";
import type { Lsn } from "../../../../src/common/lsn.ts";
import { COUNTED_PAGES, SlruPages, SlruPatch } from "../../../../src/pageserver/content/slru_pages.ts";
import { BlockCache, TimelineStore } from "../../../../src/pagestore/mod.ts";
import { BLCKSZ } from "../../../../src/postgres/cluster/page_layout.ts";
import { SLRU_COMMIT_TS } from "../../../../src/postgres/cluster/slru.ts";
import { FaultyDisk } from "../../../harness/faulty_disk.ts";
import { Random } from "../../../harness/random.ts";

test("changes of SLRU pages are counted for a bounded number of pages, and pages read the same", async () => {
  const store = await TimelineStore.create("/t", {
    disk: new FaultyDisk(new Random(1)),
    nowMs: () => 0,
    cache: new BlockCache(1 << 20),
    startLsn: 8 as Lsn,
  });
  const slru = new SlruPages(store);
  const patch = new SlruPatch();
  const change = (page: number, at: number, value: number): void => {
    const lsn = (store.lastLsn + 8) as Lsn;
    patch.clear();
    patch.u8(at, value);
    slru.patch(SLRU_COMMIT_TS, page, lsn, patch);
    store.advance(lsn);
  };
  // A page that changes all the time, among many that change once.
  for (let page = 1; page < 5 * COUNTED_PAGES; page++) {
    change(page, 1, 7);
    change(0, page % BLCKSZ, page % 251);
    assert.ok(slru.countedPages <= 2 * COUNTED_PAGES);
  }
  const bytes = new Uint8Array(BLCKSZ);
  slru.read(SLRU_COMMIT_TS, 0, store.lastLsn, bytes, 0);
  for (let at = 1; at < 5 * COUNTED_PAGES; at++) assert.equal(bytes[at], at % 251);
  slru.read(SLRU_COMMIT_TS, 3, store.lastLsn, bytes, 0);
  assert.equal(bytes[1], 7);
});
