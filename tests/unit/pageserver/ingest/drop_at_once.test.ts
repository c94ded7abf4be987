/** What a record removes may have been made by one just before it, which nobody can read yet. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { BKPIMAGE_APPLY } from "../../../../src/postgres/wal/record.ts";
import { XLOG_FPI } from "../../../../src/postgres/wal/records/xlog.ts";
import { RM_DBASE_ID, RM_XLOG_ID } from "../../../../src/postgres/wal/rmgr.ts";
import {
  mainTimeline,
  openTinyPageServer,
  TINY_TENANT,
  tinyDisk,
  walAfter,
} from "../../../harness/tiny_page_server.ts";

const SPC = 1663;
const DB = 16500;
const RELATIONS = [1259, 1247, 16384];
const BLCKSZ = 8192;

// Of PostgreSQL 15: xl_dbase_create_wal_log_rec, xl_dbase_drop_rec
const XLOG_DBASE_CREATE_WAL_LOG = 0x10;
const XLOG_DBASE_DROP = 0x20;

function words(...values: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

describe("a database that is dropped in the same piece of WAL in which it was made", () => {
  test("leaves no relation behind", async () => {
    const server = await openTinyPageServer(tinyDisk());
    await server.createTenant(TINY_TENANT);
    const timeline = await mainTimeline(server);
    const wal = walAfter(timeline);
    const { lsn } = wal;
    wal.record({ rmid: RM_DBASE_ID, info: XLOG_DBASE_CREATE_WAL_LOG, main: words(DB, SPC) });
    const image = { bytes: new Uint8Array(BLCKSZ).fill(7), info: BKPIMAGE_APPLY };
    let made = lsn;
    for (const rel of RELATIONS) {
      const blocks = [{ id: 0, rel: [SPC, DB, rel] as const, blkno: 0, image }];
      made = wal.record({ rmid: RM_XLOG_ID, info: XLOG_FPI, blocks }).endLsn;
    }
    const main = words(DB, 1, SPC);
    const { endLsn } = wal.record({ rmid: RM_DBASE_ID, info: XLOG_DBASE_DROP, main });
    timeline.receive(lsn, wal.bytes.slice(lsn - wal.from));

    const blocks = (at: typeof lsn) => RELATIONS.map((rel) => timeline.at(at).fork(SPC, DB, rel, 0).blocks);
    assert.deepEqual(blocks(made), RELATIONS.map(() => 1));
    assert.deepEqual([...timeline.at(endLsn).forks({ spc: SPC, db: DB })], []);
    await server.close();
  });
});
