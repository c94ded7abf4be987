import { V15 } from "../../../src/postgres/versions/v15.ts";
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  databasePath,
  FSM_FORKNUM,
  INIT_FORKNUM,
  MAIN_FORKNUM,
  parseRelationFileName,
  parseRelationPath,
  relationPath,
  VISIBILITYMAP_FORKNUM,
} from "../../../src/postgres/cluster/relfile.ts";
import {
  MULTIXACT_MEMBERS_PER_PAGE,
  multixactMemberFlags,
  multixactMemberXid,
  multixactOffsetsCutoffPage,
  parseSlruSegmentFileName,
  SLRU_CLOG,
  SLRU_COMMIT_TS,
  SLRU_MULTIXACT_MEMBERS,
  SLRU_MULTIXACT_OFFSETS,
  slruEntriesPerPage,
  slruMayDeleteSegment,
  slruPage,
  slruSegment,
  slruSegmentPath,
  transactionIdPrecedes,
  truncatedMemberSegments,
} from "../../../src/postgres/cluster/slru.ts";

describe("relation file names", () => {
  test("are PostgreSQL's", () => {
    const table = { spcNode: 1663, dbNode: 5, relNode: 16384 };
    assert.equal(relationPath(V15, table, MAIN_FORKNUM), "base/5/16384");
    assert.equal(relationPath(V15, table, FSM_FORKNUM), "base/5/16384_fsm");
    assert.equal(relationPath(V15, table, VISIBILITYMAP_FORKNUM, 2), "base/5/16384_vm.2");
    assert.equal(relationPath(V15, { spcNode: 1664, dbNode: 0, relNode: 1262 }, MAIN_FORKNUM), "global/1262");
    assert.equal(
      relationPath(V15, { ...table, spcNode: 20000 }, INIT_FORKNUM),
      "pg_tblspc/20000/PG_15_202209061/5/16384_init",
    );
    assert.equal(databasePath(V15, 1663, 5), "base/5");
  });

  test("are taken apart again", () => {
    const paths = [
      "base/5/16384",
      "base/5/16384_vm.2",
      "global/1262_fsm",
      "pg_tblspc/9/PG_15_202209061/5/1_init.1",
    ];
    for (const path of paths) {
      const parsed = parseRelationPath(V15, path)!;
      assert.equal(relationPath(V15, parsed.rel, parsed.forkNum, parsed.segno), path);
      assert.equal(parsed.temporary, false);
    }
    assert.deepEqual(parseRelationFileName("t3_16400_fsm.1"), {
      relNode: 16400,
      forkNum: FSM_FORKNUM,
      segno: 1,
      temporary: true,
    });
    assert.equal(parseRelationFileName("4294967295")!.relNode, 4294967295);
  });

  test("that PostgreSQL would not give are none", () => {
    const names = [
      "",
      "0",
      "016384",
      "16384.0",
      "16384.01",
      "16384_vm_fsm",
      "16384_main",
      "4294967296",
      "t_16384",
      "tx_1",
      "pg_filenode.map",
      "PG_VERSION",
      "16384 ",
      "16384_",
      "16384.",
    ];
    for (const name of names) assert.equal(parseRelationFileName(name), undefined, name);
    for (
      const path of [
        "base/16384",
        "base/05/1",
        "pg_tblspc/9/PG_14_202107181/5/1",
        "global/5/1",
        "../base/5/1",
      ]
    ) {
      assert.equal(parseRelationPath(V15, path), undefined, path);
    }
  });
});

describe("SLRUs", () => {
  test("have PostgreSQL's entries per page", () => {
    assert.equal(slruEntriesPerPage(SLRU_CLOG), 32768);
    assert.equal(slruEntriesPerPage(SLRU_MULTIXACT_OFFSETS), 2048);
    assert.equal(slruEntriesPerPage(SLRU_MULTIXACT_MEMBERS), 1636);
    assert.equal(slruEntriesPerPage(SLRU_COMMIT_TS), 819);
  });

  test("map numbers to pages, segments and files", () => {
    assert.equal(slruPage(SLRU_CLOG, 32767), 0);
    assert.equal(slruPage(SLRU_CLOG, 32768), 1);
    assert.equal(slruPage(SLRU_CLOG, 0xffff_ffff), 131071);
    assert.equal(slruSegment(131071), 0xfff);
    assert.equal(slruSegmentPath(SLRU_CLOG, 0xfff), "pg_xact/0FFF");
    assert.equal(slruSegmentPath(SLRU_MULTIXACT_MEMBERS, 0x14078), "pg_multixact/members/14078");
    assert.equal(slruSegment(slruPage(SLRU_MULTIXACT_MEMBERS, 0xffff_ffff)), 0x14078);
    assert.equal(parseSlruSegmentFileName("0FFF"), 0xfff);
    for (const name of ["FFF", "0fff", "0000000", "00G0", ""]) {
      assert.equal(parseSlruSegmentFileName(name), undefined, name);
    }
  });

  test("keep multixact members in groups of four", () => {
    assert.deepEqual([0, 1, 3, 4].map(multixactMemberFlags), [0, 1, 3, 20]);
    assert.deepEqual([0, 1, 3, 4].map(multixactMemberXid), [4, 8, 16, 24]);
    assert.equal(multixactMemberXid(MULTIXACT_MEMBERS_PER_PAGE - 1), 408 * 20 + 16);
    assert.equal(multixactMemberFlags(MULTIXACT_MEMBERS_PER_PAGE), 0);
  });

  test("compare transactions around the circle", () => {
    assert.ok(transactionIdPrecedes(100, 200));
    assert.ok(transactionIdPrecedes(0xffff_fff0, 100));
    assert.ok(!transactionIdPrecedes(100, 0xffff_fff0));
    assert.ok(transactionIdPrecedes(2, 0xffff_fff0), "the frozen one comes before all");
  });

  test("lose whole segments before a truncation's cutoff, around the circle too", () => {
    const cutoff = slruPage(SLRU_CLOG, 3 * 32 * 32768 + 5);
    assert.deepEqual([0, 1, 2, 3, 4].map((segno) => slruMayDeleteSegment(SLRU_CLOG, segno, cutoff)), [
      true,
      true,
      true,
      false,
      false,
    ]);
    assert.ok(slruMayDeleteSegment(SLRU_CLOG, 0xfff, slruPage(SLRU_CLOG, 5_000_000)));
    assert.ok(!slruMayDeleteSegment(SLRU_CLOG, 0, slruPage(SLRU_CLOG, 0xf000_0000)));
    assert.equal(multixactOffsetsCutoffPage(2048), 0, "the multixact before the limit decides");
    assert.equal(multixactOffsetsCutoffPage(1), slruPage(SLRU_MULTIXACT_OFFSETS, 0xffff_ffff));
    const perSegment = MULTIXACT_MEMBERS_PER_PAGE * 32;
    assert.deepEqual(truncatedMemberSegments(10, 2 * perSegment + 1), [0, 1]);
    assert.deepEqual(truncatedMemberSegments(10, 11), []);
    assert.deepEqual(truncatedMemberSegments(0xffff_fff0, perSegment), [0x14078, 0]);
  });
});
