import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { BKPIMAGE_APPLY } from "../../../../src/postgres/wal/record.ts";
import { XLOG_CHECKPOINT_REDO, XLOG_FPI } from "../../../../src/postgres/wal/records/xlog.ts";
import { RM_XLOG_ID } from "../../../../src/postgres/wal/rmgr.ts";
import {
  mainTimeline,
  openTinyPageServer,
  TINY_TENANT,
  tinyDisk,
  walAfter,
} from "../../../harness/tiny_page_server.ts";

const REL = [1663, 5, 16384] as const;
const BLCKSZ = 8192;

describe("a record of a type that the major does not have", () => {
  test("ends a timeline, which stays readable up to there, by name", async () => {
    const server = await openTinyPageServer(tinyDisk());
    await server.createTenant(TINY_TENANT);
    const timeline = await mainTimeline(server);
    const wal = walAfter(timeline);
    const lsn = wal.lsn;
    const known = wal.record({
      rmid: RM_XLOG_ID,
      info: XLOG_FPI,
      blocks: [{
        id: 0,
        rel: REL,
        blkno: 0,
        image: { bytes: new Uint8Array(BLCKSZ).fill(7), info: BKPIMAGE_APPLY },
      }],
    });
    // From PostgreSQL 17 on there is one.
    wal.record({ rmid: RM_XLOG_ID, info: XLOG_CHECKPOINT_REDO, main: new Uint8Array(4) });
    wal.record();

    assert.throws(
      () => timeline.receive(lsn, wal.bytes.slice(lsn - wal.from)),
      /PostgreSQL 15 has no XLOG record of type 0xe0/,
    );
    assert.deepEqual([timeline.lastRecordLsn, timeline.position], [known.endLsn, known.endLsn]);
    const view = timeline.at(known.endLsn);
    const page = new Uint8Array(BLCKSZ);
    view.readPage(view.fork(...REL, 0), 0, page, 0);
    assert.equal(page[BLCKSZ - 1], 7);
    await server.close();
  });
});
