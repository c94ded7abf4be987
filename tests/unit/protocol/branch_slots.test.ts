import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import { deflateRawSync } from "node:zlib";
import {
  decodeSlots,
  encodeSlots,
  slotNames,
  SLOTS_WORD,
  slotSnapshotPath,
  slotStatePath,
} from "../../../src/protocol/branch_slots.ts";

describe("the replication slots of a branch", () => {
  test("come back as they were, and are named", () => {
    const files = new Map([
      [slotStatePath("zeta"), Uint8Array.of(1, 0, 255)],
      [slotSnapshotPath(0x1_2345_6789), Uint8Array.of(7)],
      [slotStatePath("alpha"), Uint8Array.of(2)],
    ]);
    const word = encodeSlots(files);
    assert.match(word, SLOTS_WORD);
    const found = decodeSlots(word);
    assert.deepEqual(
      [...found].sort().map(([path, bytes]) => [path, [...bytes]]),
      [...files].sort().map(([path, bytes]) => [path, [...bytes]]),
    );
    assert.deepEqual(slotNames(found), ["alpha", "zeta"]);
    assert.equal(slotSnapshotPath(0x1_2345_6789), "pg_logical/snapshots/1-23456789.snap");
    assert.deepEqual(slotNames(decodeSlots(encodeSlots(new Map()))), []);
  });

  test("that are too large are refused", () => {
    assert.throws(
      () => encodeSlots(new Map([[slotStatePath("s"), randomBytes(100_000)]])),
      /more than 60000/,
    );
  });

  test("that lead anywhere else, or are none at all, are refused", () => {
    const pack = (value: unknown) => deflateRawSync(JSON.stringify(value)).toString("base64");
    for (
      const name of [
        "../state",
        "pg_replslot/../state",
        "pg_replslot/S/state",
        "pg_replslot/s/other",
        "pg_hba.conf",
      ]
    ) {
      assert.throws(() => decodeSlots(pack([[name, ""]])), /is no name of a file/);
    }
    for (const word of ["AAAA", pack({}), pack([["a"]])]) {
      assert.throws(() => decodeSlots(word), /invalid replication slots of a branch/);
    }
  });
});
