/** Ranges of operating system users: never root, and nothing that is no user. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseUidRange } from "../../../src/common/uid_range.ts";

test("a range of users has two ends, in order, without root", () => {
  assert.deepEqual(parseUidRange("200000-209999"), { first: 200_000, last: 209_999 });
  assert.deepEqual(parseUidRange("1-1"), { first: 1, last: 1 });
  assert.deepEqual(parseUidRange("1-4294967294"), { first: 1, last: 4_294_967_294 });
  for (
    const text of ["", "5", "5-", "-5", "0-10", "10-5", "1-4294967295", "1 - 5", "1-5-9", "a-b", "1e3-2e3"]
  ) {
    assert.equal(parseUidRange(text), undefined, text);
  }
});
