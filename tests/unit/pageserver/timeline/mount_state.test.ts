/** What a timeline's mount file says, as docs/formats/small_files.md has it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { decodeSmallFile, encodeSmallFile } from "../../../../src/common/small_file.ts";
import { MOUNT_FORMAT, type MountState } from "../../../../src/pageserver/timeline/mount_state.ts";
import { mountedFiles } from "../../../../src/pageserver/timeline/mounted_backup.ts";

const SHA1 = "c96fad66eb0cc1eb5cb166f1e56c7c0548f208ae";
const STATE: MountState = {
  location: { path: "/var/lib/pgbackrest", stanza: "main", passphrase: "a secret" },
  label: "20261130-074326F_20261130-074339I",
  files: [{ name: "base/5/16384.1", size: 16384, checksum: SHA1 }],
};

describe("the file of a backup that is not copied", () => {
  test("is read as it was written", () => {
    const bytes = encodeSmallFile(MOUNT_FORMAT, STATE);
    assert.equal(
      new TextDecoder().decode(bytes).replace(/crc32c .*\n$/, ""),
      `zenith mount 2
archive {"path":"/var/lib/pgbackrest","stanza":"main","passphrase":"a secret"}
backup 20261130-074326F_20261130-074339I
file ${SHA1} 16384 base/5/16384.1
`,
    );
    assert.deepEqual(decodeSmallFile(MOUNT_FORMAT, bytes, "mount"), STATE);
    assert.throws(() => MOUNT_FORMAT.decode(["archive {}", "backup x"]), /names no archive/);
    assert.throws(
      () => MOUNT_FORMAT.decode([...MOUNT_FORMAT.encode(STATE).slice(0, 2), `file ${SHA1} 0 base/5/1`]),
      /this names no file/,
    );
  });

  test("names what relations hold, in every tablespace, and nothing that is needed before", () => {
    const later = [
      "base/5/16384",
      "base/5/16384.1",
      "base/5/16384_vm",
      "global/1262",
      "pg_tblspc/9/PG_15_1/5/7",
    ];
    const now = [
      "global/pg_control",
      "base/5/16384_fsm",
      "base/5/t3_16385",
      "pg_xact/0000",
      "base/5/PG_VERSION",
    ];
    const files = [...later, ...now].map((name) => ({ name, size: 8192, checksum: SHA1 }));
    assert.deepEqual(mountedFiles(files).map(({ name }) => name), later);
    assert.deepEqual(mountedFiles([{ name: later[0]!, size: 0, checksum: undefined }]), []);
    assert.throws(
      () => mountedFiles([{ name: later[0]!, size: 8000, checksum: SHA1 }]),
      /base\/5\/16384 does not have a whole number of pages/,
    );
  });
});
