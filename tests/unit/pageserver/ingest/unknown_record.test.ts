import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Lsn } from "../../../../src/common/lsn.ts";
import type { Timeline } from "../../../../src/pageserver/timeline/timeline.ts";
import { BKPIMAGE_APPLY } from "../../../../src/postgres/wal/record.ts";
import { XLOG_CHECKPOINT_REDO, XLOG_FPI } from "../../../../src/postgres/wal/records/xlog.ts";
import { RM_XACT_ID, RM_XLOG_ID } from "../../../../src/postgres/wal/rmgr.ts";
import {
  mainTimeline,
  openTinyPageServer,
  TINY_TENANT,
  tinyDisk,
  walAfter,
} from "../../../harness/tiny_page_server.ts";
import type { RecordSpec } from "../../../harness/wal_builder.ts";

const REL = [1663, 5, 16384] as const;
const BLCKSZ = 8192;
const XLOG_XACT_HAS_INFO = 0x80;

const KNOWN: RecordSpec = {
  rmid: RM_XLOG_ID,
  info: XLOG_FPI,
  blocks: [{
    id: 0,
    rel: REL,
    blkno: 0,
    image: { bytes: new Uint8Array(BLCKSZ).fill(7), info: BKPIMAGE_APPLY },
  }],
};

/**
 * Receives a known record, `unknown`, and another one: the timeline ends behind the first, also
 * after a restart.
 */
async function endsBefore(unknown: RecordSpec, complaint: RegExp): Promise<void> {
  const disk = tinyDisk();
  const server = await openTinyPageServer(disk);
  await server.createTenant(TINY_TENANT);
  const timeline = await mainTimeline(server);
  const wal = walAfter(timeline);
  const lsn = wal.lsn;
  const known = wal.record(KNOWN);
  wal.record(unknown);
  wal.record();

  assert.throws(() => timeline.receive(lsn, wal.bytes.slice(lsn - wal.from)), complaint);
  assertEndsAt(timeline, known.endLsn);
  await server.close();
  const again = await openTinyPageServer(disk);
  assertEndsAt(await mainTimeline(again), known.endLsn);
  await again.close();
}

function assertEndsAt(timeline: Timeline, end: Lsn): void {
  assert.deepEqual([timeline.lastRecordLsn, timeline.position], [end, end]);
  const view = timeline.at(end);
  const page = new Uint8Array(BLCKSZ);
  view.readPage(view.fork(...REL, 0), 0, page, 0);
  assert.equal(page[BLCKSZ - 1], 7);
}

describe("a record that the major does not have", () => {
  test("ends a timeline, which stays readable up to there, by the name of its type", () => {
    // From PostgreSQL 17 on there is one.
    const unknown = { rmid: RM_XLOG_ID, info: XLOG_CHECKPOINT_REDO, main: new Uint8Array(4) };
    return endsBefore(unknown, /PostgreSQL 15 has no XLOG record of type 0xe0/);
  });

  test("does so by the flags of an image", () => {
    const bytes = new Uint8Array(BLCKSZ);
    const unknown = {
      ...KNOWN,
      blocks: [{ id: 0, rel: REL, blkno: 0, image: { bytes, info: BKPIMAGE_APPLY | 0x40 } }],
    };
    return endsBefore(unknown, /image.*flags.*0x4/);
  });

  test("does so by the flags of a commit", () => {
    // xact_time, then xinfo: one bit beyond those that there are.
    const main = new Uint8Array(12);
    new DataView(main.buffer).setUint32(8, 1 << 20, true);
    const unknown = { rmid: RM_XACT_ID, info: XLOG_XACT_HAS_INFO, xid: 2000, main };
    return endsBefore(unknown, /0x100000/);
  });
});
