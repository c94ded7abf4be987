import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ZenithError } from "../../../../src/common/errors.ts";
import { generateTimelineId, parseTimelineId } from "../../../../src/common/id.ts";
import { lsn } from "../../../../src/common/lsn.ts";
import { POSTGRES_MAJORS } from "../../../../src/common/postgres_major.ts";
import {
  ancestorAtEnd,
  decodeTimelineInfo,
  encodeTimelineInfo,
} from "../../../../src/pageserver/timeline/timeline_info.ts";

const FLAGS = [[false, false], [true, false], [false, true], [true, true]] as const;

describe("what the page server keeps with a timeline", () => {
  test("is read as it was written, with every major, with and without an ancestor", () => {
    for (const pgMajor of POSTGRES_MAJORS) {
      for (const ancestorId of [null, generateTimelineId()]) {
        for (const [beginsMasked, awaitsBackup] of FLAGS) {
          const info = {
            ancestorId,
            walStartLsn: lsn(0x1234_5678_9abc),
            pgMajor,
            beginsMasked,
            awaitsBackup,
          };
          const bytes = encodeTimelineInfo(info);
          assert.deepEqual(decodeTimelineInfo(bytes, "there"), info);
          assert.equal(ancestorAtEnd(bytes), ancestorId);
        }
      }
    }
  });

  test("is of PostgreSQL 15 when it was written before there were others", () => {
    const info = {
      ancestorId: generateTimelineId(),
      walStartLsn: lsn(8),
      pgMajor: 15,
      beginsMasked: false,
      awaitsBackup: false,
    };
    const bytes = encodeTimelineInfo(info);
    const before = Uint8Array.of(...bytes.subarray(0, 8), ...bytes.subarray(12));
    assert.deepEqual(decodeTimelineInfo(before, "there"), info);
  });

  test("has no flags unless one is set, as before there were any", () => {
    // What the version before this one wrote of a branch at 0/8 of PostgreSQL 16.
    const before = Buffer.from("0800000000000000" + "10000000" + "5".repeat(32), "hex");
    const info = decodeTimelineInfo(before, "there");
    const ancestorId = parseTimelineId("5".repeat(32));
    assert.deepEqual(info, {
      ancestorId,
      walStartLsn: lsn(8),
      pgMajor: 16,
      beginsMasked: false,
      awaitsBackup: false,
    });
    assert.deepEqual(Buffer.from(encodeTimelineInfo(info)), before);
    const masked = Buffer.from("0800000000000000" + "10000000" + "01000000" + "5".repeat(32), "hex");
    assert.deepEqual(decodeTimelineInfo(masked, "there"), { ...info, beginsMasked: true });
  });

  test("with a flag that this Zenith does not know is refused: it may hide something", () => {
    const bytes = encodeTimelineInfo({
      ancestorId: null,
      walStartLsn: lsn(8),
      pgMajor: 15,
      beginsMasked: true,
      awaitsBackup: false,
    });
    bytes[12] |= 4;
    assert.throws(() => decodeTimelineInfo(bytes, "there"), /there: .*unknown flags 5/);
  });

  test("of a major that this Zenith does not know is refused by name, and so is what has another length", () => {
    const bytes = encodeTimelineInfo({
      ancestorId: null,
      walStartLsn: lsn(8),
      pgMajor: 27,
      beginsMasked: false,
      awaitsBackup: false,
    });
    const refusal = (words: string) => (error: unknown) =>
      error instanceof ZenithError && error.kind === "corrupt_data" && error.message.includes("there") &&
      error.message.includes(words);
    assert.throws(() => decodeTimelineInfo(bytes, "there"), refusal("PostgreSQL 27"));
    assert.throws(() => decodeTimelineInfo(bytes.subarray(0, 25), "there"), refusal("25 bytes"));
  });
});
