import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseBaseBackup } from "../../../../src/pageserver/service/base_backup_command.ts";

const PLAIN = {
  label: "base backup",
  wal: false,
  progress: false,
  maxRate: null,
  manifest: false,
  checksums: "CRC32C",
};

describe("BASE_BACKUP", () => {
  test("is read as pg_basebackup of each major sends it", () => {
    assert.deepEqual(parseBaseBackup("BASE_BACKUP"), PLAIN);
    // 14 sends words.
    assert.deepEqual(
      parseBaseBackup(
        "BASE_BACKUP LABEL 'pg_basebackup ''x''' PROGRESS FAST WAL NOWAIT MAX_RATE 32768 TABLESPACE_MAP " +
          "NOVERIFY_CHECKSUMS MANIFEST 'yes' MANIFEST_CHECKSUMS 'SHA256'",
      ),
      {
        label: "pg_basebackup 'x'",
        wal: true,
        progress: true,
        maxRate: 32768,
        manifest: true,
        checksums: "SHA256",
      },
    );
    // 15 and later send a list.
    assert.deepEqual(
      parseBaseBackup(
        "BASE_BACKUP ( LABEL 'pg_basebackup, base', PROGRESS, CHECKPOINT 'fast', WAL, WAIT 0, MAX_RATE 32, " +
          "TABLESPACE_MAP, VERIFY_CHECKSUMS 0, MANIFEST 'yes', MANIFEST_CHECKSUMS 'none', TARGET 'client')",
      ),
      {
        label: "pg_basebackup, base",
        wal: true,
        progress: true,
        maxRate: 32,
        manifest: true,
        checksums: null,
      },
    );
    assert.deepEqual(parseBaseBackup("BASE_BACKUP (WAL false, MANIFEST 'no', COMPRESSION 'none')"), PLAIN);
  });

  test("is refused when it can't be read, or asks for what there is not", () => {
    for (
      const [text, problem] of [
        ["BASE_BACKUP (", /could not read/],
        ["BASE_BACKUP (WAL", /could not read/],
        ["BASE_BACKUP (WAL true PROGRESS)", /could not read/],
        ["BASE_BACKUP LABEL", /could not read/],
        ["BASE_BACKUP (WAL maybe)", /WAL is "maybe": expected a boolean/],
        ["BASE_BACKUP (MAX_RATE 31)", /MAX_RATE is "31"/],
        ["BASE_BACKUP (CELLO 1)", /no option CELLO/],
        ["BASE_BACKUP (MANIFEST 'yes', MANIFEST_CHECKSUMS 'MD5')", /"MD5" is no checksum algorithm/],
        ["BASE_BACKUP (MANIFEST_CHECKSUMS 'SHA256')", /MANIFEST_CHECKSUMS needs MANIFEST/],
        ["BASE_BACKUP (COMPRESSION 'gzip')", /can't make compression at the server/],
        ["BASE_BACKUP (TARGET 'server')", /can't make the target "server"/],
        ["BASE_BACKUP (INCREMENTAL)", /can't make an incremental backup/],
      ] as const
    ) {
      assert.throws(() => parseBaseBackup(text), { message: problem }, text);
    }
  });
});
