import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Lsn } from "../../../src/common/lsn.ts";
import { databasePath, parseRelationPath } from "../../../src/postgres/cluster/relfile.ts";
import {
  PG_MAJORS,
  pgVersion,
  pgVersionOfCatalog,
  pgVersionOfWal,
} from "../../../src/postgres/versions/find_version.ts";
import type { PgVersion } from "../../../src/postgres/versions/pg_version.ts";
import { V14 } from "../../../src/postgres/versions/v14.ts";
import { V15 } from "../../../src/postgres/versions/v15.ts";
import { V17 } from "../../../src/postgres/versions/v17.ts";
import { V18 } from "../../../src/postgres/versions/v18.ts";
import { restoreBlockImage } from "../../../src/postgres/wal/block_image.ts";
import { cutRecord } from "../../../src/postgres/wal/cut_record.ts";
import { WalDecoder } from "../../../src/postgres/wal/decoder.ts";
import { parseRecord } from "../../../src/postgres/wal/parse.ts";
import {
  BKPIMAGE_APPLY,
  BKPIMAGE_COMPRESS_PGLZ,
  BKPIMAGE_HAS_HOLE,
  WalRecord,
} from "../../../src/postgres/wal/record.ts";
import { parseClogTruncate, parseClogZeroPage } from "../../../src/postgres/wal/records/clog.ts";
import { parseCommitTsTruncate } from "../../../src/postgres/wal/records/commit_ts.ts";
import { parseDbase } from "../../../src/postgres/wal/records/dbase.ts";
import { parseMultixactZeroPage } from "../../../src/postgres/wal/records/multixact.ts";
import { parseRelmapUpdate } from "../../../src/postgres/wal/records/relmap.ts";
import {
  isKnownRecordType,
  recordTypeName,
  RM_DBASE_ID,
  RM_HEAP2_ID,
  RM_MAX_BUILTIN_ID,
  RM_XACT_ID,
  RM_XLOG_ID,
} from "../../../src/postgres/wal/rmgr.ts";
import { parseAbort, parseCommit, twophaseFileName } from "../../../src/postgres/wal/xact.ts";
import { encodeRecord, type RecordSpec, WalBuilder } from "../../harness/wal_builder.ts";
import { bytes, u32 } from "./redo/record_fixture.ts";

const REL = [1663, 5, 16384] as const;

function parsed(spec: RecordSpec, pg: PgVersion): WalRecord {
  const rec = new WalRecord();
  parseRecord(rec, encodeRecord(spec, 0), 0, pg);
  return rec;
}

function imageOf(info: number, image: Uint8Array, holeLen?: number): RecordSpec {
  const hole = holeLen === undefined ? {} : { holeOff: 100, holeLen, compressed: false };
  return {
    rmid: RM_XLOG_ID,
    info: 0xb0,
    blocks: [{ id: 0, rel: REL, blkno: 7, image: { bytes: image, info, ...hole } }],
  };
}

describe("a version of PostgreSQL", () => {
  test("is found by its major, its clusters and its WAL", () => {
    assert.deepEqual(PG_MAJORS, [14, 15, 16, 17, 18]);
    for (const major of PG_MAJORS) {
      const pg = pgVersion(major);
      assert.equal(pg.major, major);
      assert.equal(pgVersionOfCatalog(pg.catalogVersion), pg);
      assert.equal(pgVersionOfWal(pg.walPageMagic), pg);
    }
  });

  test("that is not known is refused by name, with those that are", () => {
    const hint = "the supported PostgreSQL majors are 14, 15, 16, 17, 18";
    assert.throws(() => pgVersion(13), {
      kind: "not_implemented",
      message: "PostgreSQL 13 is not supported",
      hint,
    });
    assert.throws(() => pgVersionOfCatalog(209912311), { message: /catalog version 209912311 is not/, hint });
    assert.throws(() => pgVersionOfWal(0xd999), { message: /WAL with page magic 0xd999 is not/, hint });
  });

  test("has a directory of its own in each tablespace", () => {
    assert.equal(databasePath(V17, 9, 5), "pg_tblspc/9/PG_17_202406281/5");
    assert.equal(parseRelationPath(V17, "pg_tblspc/9/PG_17_202406281/5/1")!.rel.relNode, 1);
    assert.equal(parseRelationPath(V17, "pg_tblspc/9/PG_15_202209061/5/1"), undefined);
  });

  test("names two-phase files by the xid, from 17 on by the full one", () => {
    const next = 3 * 2 ** 32 + 800;
    assert.equal(twophaseFileName(V15, 0x2ee, next), "000002EE");
    assert.equal(twophaseFileName(V17, 0x2ee, next), "00000003000002EE");
    assert.equal(
      twophaseFileName(V17, 0xffff_fff0, next),
      "00000002FFFFFFF0",
      "from before the last wraparound",
    );
  });

  test("has names for its record types, and none for others'", () => {
    assert.equal(recordTypeName(V14, RM_DBASE_ID, 0x10), "DROP");
    assert.equal(recordTypeName(V15, RM_DBASE_ID, 0x10), "CREATE_WAL_LOG");
    assert.equal(recordTypeName(V15, RM_HEAP2_ID, 0x10), "PRUNE");
    assert.equal(recordTypeName(V17, RM_HEAP2_ID, 0x10), "PRUNE_ON_ACCESS");
    assert.deepEqual([V15, V17].map((pg) => isKnownRecordType(pg, RM_XLOG_ID, 0xe0)), [false, true]);
    assert.deepEqual([V14, V15].map((pg) => isKnownRecordType(pg, RM_DBASE_ID, 0x20)), [false, true]);
    assert.ok(isKnownRecordType(V15, RM_XACT_ID, 0x80), "xinfo follows");
    assert.ok(isKnownRecordType(V15, 130, 0x50), "an extension's");
    for (const major of PG_MAJORS) {
      for (let rmid = 0; rmid <= RM_MAX_BUILTIN_ID; rmid++) {
        assert.ok(
          [0, 0x10].some((info) => isKnownRecordType(pgVersion(major), rmid, info)),
          `${major} ${rmid}`,
        );
      }
    }
  });
});

describe("WAL of a major", () => {
  test("is refused by the decoder of another, which names both", () => {
    const wal = new WalBuilder({ startLsn: 1 << 20, segmentSize: 1 << 20 });
    wal.record({ main: new Uint8Array(9000) });
    const decoder = new WalDecoder({ pg: V17, startLsn: (1 << 20) as Lsn, segmentSize: 1 << 20 });
    decoder.feed(wal.bytes, (1 << 20) as Lsn);
    assert.throws(
      () => decoder.next(new WalRecord()),
      /page magic is 0xd110, expected 0xd116 of PostgreSQL 17/,
    );
  });

  test("has images whose flags mean what they mean in that major", () => {
    const rec14 = parsed(imageOf(0x05, new Uint8Array(8000).fill(7), 192), V14);
    assert.equal(rec14.imageInfo[0], BKPIMAGE_HAS_HOLE | BKPIMAGE_APPLY);
    const rec15 = parsed(imageOf(0x03, new Uint8Array(8000).fill(7), 192), V15);
    assert.equal(rec15.imageInfo[0], BKPIMAGE_HAS_HOLE | BKPIMAGE_APPLY);
    const page = new Uint8Array(8192);
    restoreBlockImage(rec14, 0, page, 0);
    assert.deepEqual([page[99], page[100], page[291], page[292]], [7, 0, 0, 7]);
    assert.equal(
      parsed(imageOf(0x06, new Uint8Array(50)), V14).imageInfo[0],
      BKPIMAGE_APPLY | BKPIMAGE_COMPRESS_PGLZ,
    );
  });

  test("keeps its image flags when a record is cut down", () => {
    const rec = parsed(imageOf(0x05, new Uint8Array(8000).fill(7), 192), V14);
    const cut = new Uint8Array(rec.xl_tot_len);
    const length = cutRecord(rec, 0, cut, 0);
    const again = new WalRecord();
    parseRecord(again, cut.slice(0, length), 0, V14);
    assert.deepEqual([again.imageInfo[0], again.holeLen[0]], [rec.imageInfo[0], 192]);
  });

  test("with image flags that the major does not know is refused by name", () => {
    assert.throws(
      () => parsed(imageOf(0x0c, new Uint8Array(50)), V14),
      /flags 0xc, which PostgreSQL 14 does not know/,
    );
    assert.throws(() => parsed(imageOf(0x22, new Uint8Array(8192)), V15), /flags 0x22, which PostgreSQL 15/);
  });

  test("numbers SLRU pages with 64 bits from 17 on", () => {
    const main = bytes(u32(5, 0, 700, 3));
    assert.equal(parseClogZeroPage(parsed({ main }, V15), V15), 5);
    assert.deepEqual(parseClogTruncate(parsed({ main }, V17), V17), {
      pageno: 5,
      oldestXact: 700,
      oldestXactDb: 3,
    });
    assert.deepEqual(parseCommitTsTruncate(parsed({ main }, V17), V17), { pageno: 5, oldestXid: 700 });
    assert.equal(parseMultixactZeroPage(parsed({ main: bytes(u32(1, 1)) }, V17), V17), 2 ** 32 + 1);
    assert.throws(() => parseClogZeroPage(parsed({ main: bytes(u32(1)) }, V17), V17), { name: "WalError" });
  });

  test("has relation maps of the major's size only", () => {
    const update = (size: number) => bytes(u32(5, 1663, size), Array.from({ length: size }, () => 1));
    assert.equal(parseRelmapUpdate(parsed({ main: update(512) }, V15), V15).data.length, 512);
    assert.equal(parseRelmapUpdate(parsed({ main: update(524) }, V18), V18).data.length, 524);
    assert.throws(
      () => parseRelmapUpdate(parsed({ main: update(512) }, V17), V17),
      /512 bytes, expected 524/,
    );
  });

  test("creates and drops databases by the major's types", () => {
    const copy = bytes(u32(7, 1663, 1, 1664));
    const dbase = (info: number, main: Uint8Array, pg: PgVersion) =>
      parseDbase(parsed({ rmid: RM_DBASE_ID, info, main }, pg), pg);
    const created = {
      kind: "create_file_copy",
      db_id: 7,
      tablespace_id: 1663,
      src_db_id: 1,
      src_tablespace_id: 1664,
    };
    const dropped = { kind: "drop", db_id: 7, tablespace_ids: [1663] };
    assert.deepEqual(dbase(0x00, copy, V14), created);
    assert.deepEqual(dbase(0x00, copy, V18), created);
    assert.deepEqual(dbase(0x10, bytes(u32(7, 1, 1663)), V14), dropped);
    assert.deepEqual(dbase(0x20, bytes(u32(7, 1, 1663)), V15), dropped);
    assert.deepEqual(dbase(0x10, copy, V15), { kind: "create_wal_log", db_id: 7, tablespace_id: 1663 });
    assert.throws(() => dbase(0x20, copy, V14), /PostgreSQL 14 has no Database record of type 0x20/);
  });

  test("ends transactions with what the major knows", () => {
    const end = (xinfo: number, ...rest: number[][]) => ({
      rmid: RM_XACT_ID,
      info: 0x80,
      main: bytes(u32(0, 0), u32(xinfo), ...rest),
    });
    const stats = 1 << 8;
    const item15 = end(stats, u32(1), u32(2, 5, 16384));
    const item18 = end(stats, u32(1), u32(2, 5, 16384, 1));
    assert.equal(parseCommit(parsed(item15, V17), V17).stats[0].objid, 16384n);
    assert.equal(parseAbort(parsed(item18, V18), V18).stats[0].objid, (1n << 32n) + 16384n);
    assert.throws(() => parseCommit(parsed(item15, V14), V14), /xinfo 0x100 .* PostgreSQL 14 does not know/);
    assert.throws(
      () => parseCommit(parsed(end(1 << 9), V18), V18),
      /xinfo 0x200 .* PostgreSQL 18 does not know/,
    );
    const standby = (0b111 << 29) >>> 0;
    assert.equal(parseCommit(parsed(end(standby), V14), V14).xinfo, standby, "what a standby has to do");
  });
});
