import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ZenithError } from "../../../../src/common/errors.ts";
import { generateTimelineId } from "../../../../src/common/id.ts";
import { lsn } from "../../../../src/common/lsn.ts";
import { POSTGRES_MAJORS } from "../../../../src/common/postgres_major.ts";
import { decodeTimelineInfo, encodeTimelineInfo } from "../../../../src/pageserver/timeline/timeline_info.ts";

describe("what the page server keeps with a timeline", () => {
  test("is read as it was written, with every major, with and without an ancestor", () => {
    for (const pgMajor of POSTGRES_MAJORS) {
      for (const ancestorId of [null, generateTimelineId()]) {
        const info = { ancestorId, walStartLsn: lsn(0x1234_5678_9abc), pgMajor };
        assert.deepEqual(decodeTimelineInfo(encodeTimelineInfo(info), "there"), info);
      }
    }
  });

  test("is of PostgreSQL 15 when it was written before there were others", () => {
    const info = { ancestorId: generateTimelineId(), walStartLsn: lsn(8), pgMajor: 15 };
    const bytes = encodeTimelineInfo(info);
    const before = Uint8Array.of(...bytes.subarray(0, 8), ...bytes.subarray(12));
    assert.deepEqual(decodeTimelineInfo(before, "there"), info);
  });

  test("of a major that this Zenith does not know is refused by name, and so is what has another length", () => {
    const bytes = encodeTimelineInfo({ ancestorId: null, walStartLsn: lsn(8), pgMajor: 27 });
    const refusal = (words: string) => (error: unknown) =>
      error instanceof ZenithError && error.kind === "corrupt_data" && error.message.includes("there") &&
      error.message.includes(words);
    assert.throws(() => decodeTimelineInfo(bytes, "there"), refusal("PostgreSQL 27"));
    assert.throws(() => decodeTimelineInfo(bytes.subarray(0, 25), "there"), refusal("25 bytes"));
  });
});
