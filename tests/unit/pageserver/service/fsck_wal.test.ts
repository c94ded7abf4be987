import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { checkTimelineWal } from "../../../../src/pageserver/service/fsck_wal.ts";
import { V14 } from "../../../../src/postgres/versions/v14.ts";
import { XLOG_FPI } from "../../../../src/postgres/wal/records/xlog.ts";
import { RM_XLOG_ID } from "../../../../src/postgres/wal/rmgr.ts";
import {
  mainTimeline,
  openTinyPageServer,
  TINY_PATHS,
  TINY_TENANT,
  tinyDisk,
  walAfter,
} from "../../../harness/tiny_page_server.ts";

const REL = [1663, 5, 16384] as const;
const BLCKSZ = 8192;
const HOLE = 8000;
/** BKPIMAGE_HAS_HOLE and BKPIMAGE_APPLY of PostgreSQL 14; with 15's flags it would be a compressed image. */
const HOLE_AND_APPLY_14 = 0x01 | 0x04;

describe("the check of a timeline's WAL", () => {
  test("reads it as its major writes it, though no page of it tells which that is", async () => {
    const disk = tinyDisk({ pg: V14 });
    const server = await openTinyPageServer(disk, undefined, V14);
    await server.createTenant(TINY_TENANT);
    const timeline = await mainTimeline(server);
    const wal = walAfter(timeline);
    const { lsn } = wal;
    const bytes = new Uint8Array(BLCKSZ - HOLE).fill(7);
    const image = { bytes, info: HOLE_AND_APPLY_14, holeOff: 24, holeLen: HOLE, compressed: false };
    const { endLsn } = wal.record({
      rmid: RM_XLOG_ID,
      info: XLOG_FPI,
      blocks: [{ id: 0, rel: REL, blkno: 0, image }],
    });
    assert.equal(Math.floor(endLsn / BLCKSZ), Math.floor(lsn / BLCKSZ), "it is all on one page");
    timeline.receive(lsn, wal.bytes.slice(lsn - wal.from));
    const { timelineId } = timeline;
    await server.close();

    const check = await checkTimelineWal(disk, TINY_PATHS.timeline(TINY_TENANT, timelineId));
    assert.deepEqual(check.problems, []);
    assert.ok(check.bytes > BLCKSZ - HOLE, "the record was read");
  });
});
