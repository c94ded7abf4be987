import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "node:test";
import { parseSlotState } from "../../../src/postgres/cluster/replication_slot.ts";

/** A slot's state as PostgreSQL wrote it, without the zeros that fill its names. */
function state(head: string, name: string, middle: string, plugin: string): Uint8Array {
  const nul = (text: string) => Buffer.from(text.padEnd(64, "\0")).toString("hex");
  const bytes = Buffer.from(head + nul(name) + middle + nul(plugin), "hex");
  return new Uint8Array(Buffer.concat([bytes, Buffer.alloc(200 - bytes.length)]));
}

const LOGICAL_15 = state(
  "a11c05017a0ca5c502000000b8000000",
  "s",
  "050000000000000000000000d4020000101b5101000000000000000000000000481b5101000000000000000000000000",
  "",
);
LOGICAL_15.set(Buffer.from("pgoutput"), 129);
const PHYSICAL_18 = state(
  "a11c05012f99f69505000000b8000000",
  "ph",
  "0000000000000000000000000000000050b2740100000000",
  "",
);

describe("the state of a replication slot", () => {
  test("is read from what PostgreSQL 15 and 18 have written", () => {
    assert.deepEqual(parseSlotState(LOGICAL_15), {
      name: "s",
      isLogical: true,
      isPersistent: true,
      isInvalidated: false,
      restartLsn: 0x1511b10,
      confirmedLsn: 0x1511b48,
    });
    assert.deepEqual(parseSlotState(PHYSICAL_18), {
      name: "ph",
      isLogical: false,
      isPersistent: true,
      isInvalidated: false,
      restartLsn: 0x174b250,
      confirmedLsn: 0,
    });
  });

  test("that is torn, or another file, is none", () => {
    for (let at = 0; at < LOGICAL_15.length; at++) {
      const flipped = LOGICAL_15.slice();
      flipped[at] ^= 1;
      assert.equal(parseSlotState(flipped), null, `byte ${at}`);
      assert.equal(parseSlotState(LOGICAL_15.subarray(0, at)), null, `${at} bytes`);
    }
  });
});
