/**
 * What redo of one record makes of a heap page's LSN depends on the cluster: does it log changes of
 * hint bits?
 */
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import type { Timeline } from "../../../../src/pageserver/timeline/timeline.ts";
import { MAIN_FORKNUM, VISIBILITYMAP_FORKNUM } from "../../../../src/postgres/cluster/relfile.ts";
import { XLOG_HEAP2_VISIBLE } from "../../../../src/postgres/redo/heap/heap_record.ts";
import { BKPIMAGE_APPLY } from "../../../../src/postgres/wal/record.ts";
import { XLOG_FPI, XLOG_PARAMETER_CHANGE } from "../../../../src/postgres/wal/records/xlog.ts";
import { RM_HEAP2_ID, RM_XLOG_ID } from "../../../../src/postgres/wal/rmgr.ts";
import type { FaultyDisk } from "../../../harness/faulty_disk.ts";
import {
  mainTimeline,
  openTinyPageServer,
  TINY_TENANT,
  tinyDisk,
  walAfter,
} from "../../../harness/tiny_page_server.ts";
import type { BuiltRecord, WalBuilder } from "../../../harness/wal_builder.ts";

const REL = [1663, 5, 16384] as const;
const BLCKSZ = 8192;
const PD_ALL_VISIBLE = 4;
const ALL_VISIBLE = 1;

let disk: FaultyDisk;

beforeEach(() => {
  disk = tinyDisk();
});

/** A page without tuples. */
function emptyPage(): Uint8Array {
  const page = new Uint8Array(BLCKSZ);
  const view = new DataView(page.buffer);
  view.setUint16(12, 24, true);
  view.setUint16(14, BLCKSZ, true);
  view.setUint16(16, BLCKSZ, true);
  view.setUint16(18, BLCKSZ | 4, true);
  return page;
}

function image(wal: WalBuilder, blkno: number): BuiltRecord {
  const bytes = emptyPage();
  return wal.record({
    rmid: RM_XLOG_ID,
    info: XLOG_FPI,
    blocks: [{ id: 0, rel: REL, blkno, image: { bytes, info: BKPIMAGE_APPLY } }],
  });
}

/**
 * @param mapImage whether the record has an image of the map's page, so that a layer file keeps
 * only a part of it
 */
function visible(wal: WalBuilder, blkno: number, mapImage = false): BuiltRecord {
  const main = new Uint8Array(5);
  main[4] = ALL_VISIBLE;
  return wal.record({
    rmid: RM_HEAP2_ID,
    info: XLOG_HEAP2_VISIBLE,
    main,
    blocks: [{
      id: 0,
      fork: VISIBILITYMAP_FORKNUM,
      rel: REL,
      blkno: 0,
      ...(mapImage ? { image: { bytes: emptyPage(), info: BKPIMAGE_APPLY } } : {}),
    }, { id: 1, fork: MAIN_FORKNUM, rel: REL, blkno }],
  });
}

function setWalLogHints(wal: WalBuilder, on: boolean): void {
  const main = new Uint8Array(26);
  const view = new DataView(main.buffer);
  [100, 8, 10, 0, 64, 1].forEach((value, i) => view.setInt32(4 * i, value, true));
  view.setUint8(24, on ? 1 : 0);
  wal.record({ rmid: RM_XLOG_ID, info: XLOG_PARAMETER_CHANGE, main });
}

/** Takes in what `build` writes, from the timeline's end on. */
function receive(timeline: Timeline, build: (wal: WalBuilder) => void): void {
  const wal = walAfter(timeline);
  const { lsn } = wal;
  build(wal);
  timeline.receive(lsn, wal.bytes.slice(lsn - wal.from));
}

function pageLsn(timeline: Timeline, blkno: number): number {
  const page = new Uint8Array(BLCKSZ);
  const view = timeline.at(timeline.lastRecordLsn);
  view.readPage(view.fork(...REL, MAIN_FORKNUM), blkno, page, 0);
  const fields = new DataView(page.buffer);
  assert.equal(fields.getUint16(10, true), PD_ALL_VISIBLE);
  return fields.getUint32(0, true) * 0x1_0000_0000 + fields.getUint32(4, true);
}

describe("the heap page of a record that sets its bits in the visibility map", () => {
  test("keeps its LSN while hint bits are not logged, and gets the record's while they are", async () => {
    const server = await openTinyPageServer(disk);
    await server.createTenant(TINY_TENANT);
    const timeline = await mainTimeline(server);
    const ends: number[] = [];
    receive(timeline, (wal) => {
      ends.push(image(wal, 0).endLsn);
      image(wal, 1);
      image(wal, 2);
      visible(wal, 0);
      setWalLogHints(wal, true);
      ends.push(visible(wal, 1).endLsn, visible(wal, 2, true).endLsn);
      setWalLogHints(wal, false);
      ends.push(image(wal, 3).endLsn);
      visible(wal, 3);
    });
    const expected = ends;
    assert.deepEqual([0, 1, 2, 3].map((blkno) => pageLsn(timeline, blkno)), expected);
    await timeline.flush();
    assert.deepEqual([0, 1, 2, 3].map((blkno) => pageLsn(timeline, blkno)), expected);
    await server.close();
  });

  test("gets it after a restart too", async () => {
    const server = await openTinyPageServer(disk);
    await server.createTenant(TINY_TENANT);
    const before = await mainTimeline(server);
    receive(before, (wal) => setWalLogHints(wal, true));
    await before.flush();
    await server.close();

    const again = await openTinyPageServer(disk);
    const timeline = await mainTimeline(again);
    let end = 0;
    receive(timeline, (wal) => {
      image(wal, 0);
      end = visible(wal, 0).endLsn;
    });
    assert.equal(pageLsn(timeline, 0), end);
    await again.close();
  });

  test("gets it in a cluster with data checksums", async () => {
    disk = tinyDisk({ dataChecksums: true });
    const server = await openTinyPageServer(disk);
    await server.createTenant(TINY_TENANT);
    const timeline = await mainTimeline(server);
    let end = 0;
    receive(timeline, (wal) => {
      image(wal, 0);
      setWalLogHints(wal, false);
      end = visible(wal, 0).endLsn;
    });
    assert.equal(pageLsn(timeline, 0), end);
    await server.close();
  });
});
