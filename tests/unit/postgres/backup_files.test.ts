import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import { backupFile } from "../../../src/postgres/cluster/backup_files.ts";
import { parseBackupLabel, parseBackupStart } from "../../../src/postgres/cluster/backup_label.ts";
import { parseBackupManifest, runningChecksum } from "../../../src/postgres/cluster/backup_manifest.ts";
import {
  encodeReplicationOrigins,
  parseReplicationOrigins,
} from "../../../src/postgres/cluster/replication_origins.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

describe("a file of a data directory is known by its path", () => {
  const relation = (spc: number, db: number, relNode: number, forkNum: number, segno: number) => ({
    kind: "relation",
    spc,
    db,
    file: { relNode, forkNum, segno, temporary: false },
  });
  const cases: readonly [string, unknown][] = [
    ["base/5/16384", relation(1663, 5, 16384, 0, 0)],
    ["base/5/16384_vm.2", relation(1663, 5, 16384, 2, 2)],
    ["global/1260", relation(1664, 0, 1260, 0, 0)],
    ["pg_tblspc/16400/PG_15_202209061/5/16401_init", relation(16400, 5, 16401, 3, 0)],
    ["base/5/PG_VERSION", { kind: "database", spc: 1663, db: 5 }],
    ["base/5/pg_filenode.map", { kind: "relmap", spc: 1663, db: 5 }],
    ["global/pg_filenode.map", { kind: "relmap", spc: 1664, db: 0 }],
    ["pg_xact/0001", { kind: "slru", slru: 0, segment: 1 }],
    ["pg_multixact/members/00FF", { kind: "slru", slru: 2, segment: 255 }],
    ["pg_twophase/000002F1", { kind: "twophase", xid: 0x2f1 }],
    ["pg_twophase/00000001000002F1", { kind: "twophase", xid: 0x2f1 }],
    ["pg_wal/000000010000000000000003", { kind: "wal", name: "000000010000000000000003" }],
    ["global/pg_control", { kind: "control" }],
    ["PG_VERSION", { kind: "version" }],
    ["backup_label", { kind: "label" }],
    ["tablespace_map", { kind: "tablespaces" }],
    ["pg_logical/replorigin_checkpoint", { kind: "origins" }],
  ];
  for (const [path, file] of cases) test(path, () => assert.deepEqual(backupFile(path), file));

  for (
    const path of [
      "constructor",
      "postgresql.conf",
      "base/pgsql_tmp/pgsql_tmp1.0",
      "base/5/pg_internal.init",
      "base/05/16384",
      "pg_wal/000000010000000000000003.partial",
      "pg_wal/00000002.history",
      "../base/5/16384",
      "pg_xact/zzzz",
    ]
  ) {
    test(`${path} holds nothing of the cluster's content`, () => {
      assert.deepEqual(backupFile(path), { kind: "other" });
    });
  }
});

describe("a backup_label", () => {
  const LABEL = `START WAL LOCATION: 1A/3000028 (file 000000020000001A00000003)
CHECKPOINT LOCATION: 1A/3000060
BACKUP METHOD: streamed
BACKUP FROM: standby
START TIME: 2026-11-30 02:57:04 UTC
LABEL: pg_basebackup base backup
START TIMELINE: 2
`;

  test("says where recovery begins", () => {
    assert.deepEqual(parseBackupLabel(bytes(LABEL)), {
      startLsn: 0x1a_0300_0028,
      checkpointLsn: 0x1a_0300_0060,
      tli: 2,
      fromStandby: true,
    });
  });

  test("that lacks a line is damaged, and one of an incremental backup is not enough", () => {
    const cut = LABEL.slice(0, LABEL.indexOf("BACKUP FROM"));
    assert.throws(() => parseBackupLabel(bytes(cut)), /has no line "START TIMELINE: …"|"BACKUP FROM: …"/);
    assert.throws(
      () => parseBackupLabel(bytes(`${LABEL}INCREMENTAL FROM LSN: 0/2000028\n`)),
      /incremental backup/,
    );
  });
});

describe("where an incremental backup starts", () => {
  const start = (text: string) => parseBackupStart(bytes(text), "/b/backup_label");
  const FULL = "START WAL LOCATION: 1A/3000028 (file 000000020000001A00000003)\nSTART TIMELINE: 2\n";

  test("comes with where the backup starts that it builds on", () => {
    const own = { lsn: 0x1a_0300_0028, tli: 2 };
    assert.deepEqual(start(FULL), { ...own, from: null });
    assert.deepEqual(start(`${FULL}INCREMENTAL FROM LSN: 0/2000028\nINCREMENTAL FROM TLI: 1\n`), {
      ...own,
      from: { lsn: 0x200_0028, tli: 1 },
    });
  });

  test("is damaged when a line is missing", () => {
    assert.throws(
      () => start("START TIMELINE: 2\n"),
      /^ZenithError: \/b\/backup_label has no line "START WAL/,
    );
    assert.throws(
      () => start(`${FULL}INCREMENTAL FROM LSN: 0/2000028\n`),
      /has no line "INCREMENTAL FROM TLI/,
    );
  });
});

describe("a backup_manifest", () => {
  const withChecksum = (body: string): Uint8Array =>
    bytes(`${body}"Manifest-Checksum": "${createHash("sha256").update(body).digest("hex")}"}\n`);
  const BODY = `{ "PostgreSQL-Backup-Manifest-Version": 1,
"Files": [
{ "Path": "base/5/1259", "Size": 8192, "Last-Modified": "2026-11-30 02:57:04 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "0f25c4a1" },
{ "Encoded-Path": "ff", "Size": 1, "Last-Modified": "2026-11-30 02:57:04 GMT" },
{ "Path": "PG_VERSION", "Size": 3, "Last-Modified": "2026-11-30 02:57:04 GMT" }
],
"WAL-Ranges": [
{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000138" }
],
`;

  test("names files with their checksums, and the WAL", () => {
    const manifest = parseBackupManifest(withChecksum(BODY));
    assert.deepEqual([...manifest.files], [
      ["base/5/1259", { size: 8192, checksum: { algorithm: "CRC32C", value: "0f25c4a1" } }],
      ["PG_VERSION", { size: 3, checksum: null }],
    ]);
    assert.deepEqual(manifest.walRanges, [{ tli: 1, startLsn: 0x200_0028, endLsn: 0x200_0138 }]);
  });

  test("that was changed is damaged", () => {
    const changed = new TextDecoder().decode(withChecksum(BODY)).replace("8192", "8193");
    assert.throws(() => parseBackupManifest(bytes(changed)), /damaged: its checksum is/);
    assert.throws(() => parseBackupManifest(bytes("{}")), /does not end with its checksum/);
    assert.throws(() => parseBackupManifest(withChecksum("{ ")), /damaged/);
  });

  test("has checksums that are computed piece by piece", () => {
    const crc = runningChecksum("CRC32C");
    crc.update(bytes("1234"));
    crc.update(bytes("56789"));
    // The CRC of "123456789" is e3069283; its low byte comes first.
    assert.equal(crc.digest(), "839206e3");
    const sha = runningChecksum("SHA256");
    sha.update(bytes("abc"));
    assert.equal(sha.digest(), createHash("sha256").update("abc").digest("hex"));
    assert.throws(() => runningChecksum("MD5"), /MD5/);
  });
});

test("replication origins are read as they are written, unless they are damaged", () => {
  const origins: [number, Uint8Array][] = [[1, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)], [
    7,
    new Uint8Array(8),
  ]];
  const file = encodeReplicationOrigins(origins);
  assert.deepEqual(parseReplicationOrigins(file, "f"), origins);
  assert.deepEqual(parseReplicationOrigins(encodeReplicationOrigins([]), "f"), []);
  file[9] ^= 1;
  assert.throws(() => parseReplicationOrigins(file, "f"), /f is damaged/);
});
