import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { crc32c } from "../../../src/common/crc32c.ts";
import { ZenithError } from "../../../src/common/errors.ts";
import { parseTenantId, parseTimelineId } from "../../../src/common/id.ts";
import { MAX_LSN, parseLsn } from "../../../src/common/lsn.ts";
import { newAcceptorControl, NOBODY } from "../../../src/consensus/acceptor.ts";
import { decodeControlFile, encodeControlFile } from "../../../src/safekeeper/control_file.ts";

const IDENTITY = {
  tenantId: parseTenantId("0123456789abcdef0123456789abcdef"),
  timelineId: parseTimelineId("fedcba9876543210fedcba9876543210"),
  systemId: 0xfedc_ba98_7654_3210n,
  pgVersion: 15,
  segmentSize: 16 << 20,
};

const CONTROL = {
  term: 2 ** 40,
  history: [{ term: 1, startLsn: parseLsn("0/16B5A50") }, { term: 9, startLsn: parseLsn("7/2000028") }],
  timelineStartLsn: parseLsn("0/16B5A50"),
  electedId: "0123456789abcdef".repeat(2),
  commitLsn: parseLsn("7/2000100"),
  backupLsn: parseLsn("1/0"),
  remoteConsistentLsn: MAX_LSN,
};

/** With the checksum that its bytes have. */
function sealed(bytes: Uint8Array): Uint8Array {
  const end = bytes.length - 4;
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(end, crc32c(bytes, 0, end), true);
  return bytes;
}

describe("a safekeeper control file", () => {
  test("comes back as it was written", () => {
    for (const control of [CONTROL, newAcceptorControl()]) {
      const bytes = encodeControlFile(IDENTITY, control);
      assert.deepEqual(decodeControlFile(bytes, "f"), { identity: IDENTITY, control });
    }
  });

  test("with any bit flipped is refused, by name", () => {
    const bytes = encodeControlFile(IDENTITY, CONTROL);
    for (let i = 0; i < bytes.length; i++) {
      const damaged = new Uint8Array(bytes);
      damaged[i] ^= 1 << (i % 8);
      assert.throws(() => decodeControlFile(damaged, "the/file"), {
        kind: "corrupt_data",
        message: /the\/file/,
      });
    }
  });

  test("cut short or lengthened is refused", () => {
    const bytes = encodeControlFile(IDENTITY, CONTROL);
    for (let length = 0; length < bytes.length; length++) {
      assert.throws(() => decodeControlFile(bytes.subarray(0, length), "f"), ZenithError);
    }
    assert.throws(() => decodeControlFile(new Uint8Array([...bytes, 0]), "f"), { kind: "corrupt_data" });
  });

  test("of another version is refused, with both versions named", () => {
    const bytes = encodeControlFile(IDENTITY, CONTROL);
    bytes[8] = 3;
    assert.throws(() => decodeControlFile(sealed(bytes), "f"), {
      message: /version 3, this program knows 1 and 2/,
    });
  });

  test("of version 1 is read: nobody is known to have been elected", () => {
    const bytes = encodeControlFile(IDENTITY, CONTROL);
    const old = new Uint8Array(bytes.length - 16);
    old.set(bytes.subarray(0, 100));
    old.set(bytes.subarray(116), 100);
    old[8] = 1;
    assert.deepEqual(decodeControlFile(sealed(old), "f"), {
      identity: IDENTITY,
      control: { ...CONTROL, electedId: NOBODY },
    });
  });

  test("with a history out of order is refused, though its checksum is right", () => {
    const bytes = encodeControlFile(IDENTITY, { ...CONTROL, history: [...CONTROL.history].reverse() });
    assert.throws(() => decodeControlFile(bytes, "f"), { kind: "corrupt_data", message: /history/ });
  });
});
