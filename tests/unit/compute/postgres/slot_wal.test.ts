import assert from "node:assert/strict";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { lsn } from "../../../../src/common/lsn.ts";
import { extendInitialWal } from "../../../../src/compute/postgres/initial_wal.ts";
import { writeMappings } from "../../../../src/compute/postgres/logical_mappings.ts";
import {
  hasSegment,
  linkSegments,
  noteArchived,
  walFiles,
} from "../../../../src/compute/postgres/slot_wal.ts";

const SIZE = 1 << 20;
const START = "000000010000000000000005";
const OLDER = ["000000010000000000000003", "000000010000000000000004"];

let pgdata: string;
let wal: string;

beforeEach(() => {
  pgdata = mkdtempSync(join(tmpdir(), "zenith-slot-wal-"));
  wal = join(pgdata, "pg_wal");
  mkdirSync(wal);
  writeFileSync(join(wal, START), "used part");
  writeFileSync(join(wal, "zenith_wal_owner"), "");
});
afterEach(() => rmSync(pgdata, { recursive: true }));

describe("WAL segments that only slots need", () => {
  const range = { from: lsn(3 * SIZE), to: lsn(5 * SIZE), segmentSize: SIZE, timelines: [] };

  test("are links into the mount, which nobody follows to extend them", async () => {
    linkSegments(pgdata, "/nowhere", range);
    assert.deepEqual(
      OLDER.map((name) => readlinkSync(join(wal, name))),
      OLDER.map((name) => `/nowhere/wal/${name}`),
    );
    const read = walFiles(pgdata, SIZE);
    assert.deepEqual(await read(lsn(5 * SIZE + 5), 8), new TextEncoder().encode("part\0\0\0\0"));
    extendInitialWal(pgdata, SIZE);
    assert.equal(readFileSync(join(wal, START)).length, SIZE);
    const there = [2, 3, 4, 5, 6].map((segment) => hasSegment(pgdata, lsn(segment * SIZE + 100), SIZE));
    assert.deepEqual(there, [false, true, true, true, false]);
    assert.throws(() => read(lsn(4 * SIZE), 8), /is a link/);
  });

  test("are noted as archived, but not the one in which Postgres starts", () => {
    linkSegments(pgdata, "/nowhere", range);
    noteArchived(pgdata, lsn(5 * SIZE), SIZE, undefined);
    assert.deepEqual(readdirSync(join(wal, "archive_status")).sort(), OLDER.map((name) => `${name}.done`));
  });
});

test("files of mappings are written once, and never seen in part", () => {
  const mappings = join(pgdata, "pg_logical", "mappings");
  writeMappings(pgdata, new Map([["map-1", Uint8Array.of(1)]]), undefined);
  writeMappings(pgdata, new Map([["map-1", Uint8Array.of(2)], ["map-2", Uint8Array.of(3)]]), undefined);
  assert.deepEqual([...readFileSync(join(mappings, "map-1")), ...readFileSync(join(mappings, "map-2"))], [
    1,
    3,
  ]);
  assert.deepEqual(readdirSync(join(pgdata, "pg_logical")), ["mappings"]);
});
