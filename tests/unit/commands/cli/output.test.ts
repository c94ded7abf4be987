import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { formatBranchTree, formatTable } from "../../../../src/commands/cli/output.ts";
import { parseTimelineId } from "../../../../src/common/id.ts";
import { lsn } from "../../../../src/common/lsn.ts";

const timeline = (n: number) => parseTimelineId(String(n).padStart(32, "0"));

function branch(name: string, id: number, ancestor?: { id: number; lsn: number }) {
  return {
    name,
    timeline_id: timeline(id),
    latest_valid_lsn: lsn(0x2000000),
    next_lsn: lsn(0x2000000),
    ancestor_id: ancestor === undefined ? null : timeline(ancestor.id),
    ancestor_lsn: ancestor === undefined ? null : lsn(ancestor.lsn),
    expires_at: null,
    is_protected: false,
    requires_mask: false,
    masked_from_lsn: null,
  };
}

describe("the branch tree", () => {
  test("hangs every branch below its ancestor, by the LSN where it left it", () => {
    const lines = formatBranchTree([
      branch("late", 4, { id: 1, lsn: 0x1800000 }),
      branch("main", 1),
      branch("grandchild", 3, { id: 2, lsn: 0x1700000 }),
      branch("early", 2, { id: 1, lsn: 0x1600000 }),
    ]);
    assert.deepEqual(lines, [
      "main",
      "┣━ @0/1600000: early",
      "┃  ┗━ @0/1700000: grandchild",
      "┗━ @0/1800000: late",
    ]);
  });

  test("of a tenant without branches is empty", () => {
    assert.deepEqual(formatBranchTree([]), []);
  });
});

describe("a table", () => {
  test("has columns as wide as their widest cell, and no blanks at line ends", () => {
    assert.deepEqual(formatTable([["A", "BB", "C"], ["long", "x", ""]]), ["A     BB  C", "long  x"]);
  });
});
