import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { crc32c } from "../../../src/common/crc32c.ts";
import { lsn } from "../../../src/common/lsn.ts";
import {
  decodeRelationManifest,
  encodeRelationManifest,
  type RelationManifest,
} from "../../../src/protocol/relation_manifest.ts";

const MANIFEST: RelationManifest = {
  lsn: lsn(0x1_0150_0780),
  prev: lsn(0x1_0150_0708),
  entries: [
    { spc: 1664, db: 0, rel: 1262, fork: 0, sourceFork: 0, blocks: 1 },
    { spc: 1663, db: 5, rel: 16384, fork: 2, sourceFork: 2, blocks: 0xffff_fffe },
    { spc: 16390, db: 5, rel: 16391, fork: 0, sourceFork: 3, blocks: 0 },
  ],
};

function withCrc(bytes: Uint8Array): Uint8Array {
  new DataView(bytes.buffer).setUint32(bytes.length - 4, crc32c(bytes, 0, bytes.length - 4));
  return bytes;
}

describe("a relation manifest", () => {
  test("says after the way over the wire what it said before", () => {
    assert.deepEqual(decodeRelationManifest(encodeRelationManifest(MANIFEST)), MANIFEST);
    const empty = { ...MANIFEST, entries: [] };
    assert.deepEqual(decodeRelationManifest(encodeRelationManifest(empty)), empty);
  });

  test("has the bytes of the specification", () => {
    const bytes = encodeRelationManifest({ ...MANIFEST, entries: MANIFEST.entries.slice(2) });
    assert.equal(
      Buffer.from(bytes.subarray(0, -4)).toString("hex"),
      "5a52454c" + "00000001" + "00000001" + "00000000" + "0000000101500780" + "0000000101500708" +
        "00004006" + "00000005" + "00004007" + "00000000" + "00" + "03" + "0000",
    );
  });

  test("is refused when any bit of it has changed", () => {
    const good = encodeRelationManifest(MANIFEST);
    for (let bit = 0; bit < good.length * 8; bit++) {
      const bad = good.slice();
      bad[bit >> 3] ^= 1 << (bit & 7);
      assert.throws(() => decodeRelationManifest(bad), /relation manifest/, `bit ${bit}`);
    }
  });

  test("is refused when it is cut short or longer than it says", () => {
    const good = encodeRelationManifest(MANIFEST);
    for (let length = 0; length < good.length; length++) {
      assert.throws(() => decodeRelationManifest(good.slice(0, length)), /relation manifest/);
    }
    assert.throws(() => decodeRelationManifest(new Uint8Array([...good, 0])), /relation manifest/);
  });

  test("is refused when its version, a fork or a reserved field is unknown, checksum or not", () => {
    for (const [offset, value] of [[7, 2], [15, 1], [48, 4], [49, 4], [51, 1]] as const) {
      const bytes = encodeRelationManifest(MANIFEST);
      bytes[offset] = value;
      assert.throws(() => decodeRelationManifest(withCrc(bytes)), /relation manifest/, `offset ${offset}`);
    }
  });
});
