import { describe, test } from "node:test";
import assert from "node:assert/strict";
import type { Lsn } from "../../../src/common/lsn.ts";
import {
  checkTermHistory,
  commonPrefixEnd,
  formatTermHistory,
  historyTerm,
  lastLogTerm,
  startTerm,
  type TermHistory,
} from "../../../src/consensus/term_history.ts";
import { isSameHistory } from "../../sim/search_reduction.ts";

const START = 100 as Lsn;

function history(...entries: [term: number, startLsn: number][]): TermHistory {
  return entries.map(([term, startLsn]) => ({ term, startLsn: startLsn as Lsn }));
}

function common(leader: TermHistory, log: TermHistory, flushLsn: number): number {
  return commonPrefixEnd(leader, log, flushLsn as Lsn, START);
}

describe("a term history", () => {
  test("says whose the end of a log is: the newest entry at or below it", () => {
    const entries = history([1, 100], [3, 200], [4, 200], [7, 300]);
    assert.equal(lastLogTerm(entries, 99 as Lsn), 0);
    assert.equal(lastLogTerm(entries, 199 as Lsn), 1);
    assert.equal(lastLogTerm(entries, 200 as Lsn), 4);
    assert.equal(lastLogTerm(entries, 300 as Lsn), 7);
    assert.equal(historyTerm(entries), 7);
    assert.equal(historyTerm([]), 0);
  });

  test("of a new term is the donor's up to where it starts, and its own", () => {
    const donor = history([1, 100], [3, 200], [4, 300]);
    assert.deepEqual(startTerm(donor, 250 as Lsn, 9), history([1, 100], [3, 200], [9, 250]));
    assert.deepEqual(startTerm(donor, 300 as Lsn, 9), history([1, 100], [3, 200], [4, 300], [9, 300]));
    assert.deepEqual(startTerm([], START, 1), history([1, 100]));
  });

  test("tells where two logs part", () => {
    const leader = history([1, 100], [3, 200], [5, 300]);
    assert.equal(common(leader, leader, 350), 350, "the same log");
    assert.equal(common(leader, history([1, 100], [3, 200]), 280), 280, "shorter than the leader's term");
    assert.equal(
      common(leader, history([1, 100], [3, 200]), 380),
      300,
      "longer than where the leader's began",
    );
    assert.equal(common(leader, history([1, 100], [4, 150]), 190), 150, "another term since 150");
    assert.equal(
      common(leader, history([1, 100], [4, 250]), 290),
      200,
      "the leader has another term since 200",
    );
    assert.equal(common(leader, history([2, 100]), 180), 100, "nothing in common");
    assert.equal(common(leader, [], 100), 100, "no log at all");
    assert.equal(common(leader, leader, 250), 250, "a log that does not reach its newest entry");
  });

  test("terms rise, positions don't fall", () => {
    checkTermHistory([]);
    checkTermHistory(history([1, 100], [2, 100], [5, 300]));
    assert.throws(() => checkTermHistory(history([0, 100])), { kind: "protocol" });
    assert.throws(() => checkTermHistory(history([2, 100], [2, 200])), { kind: "protocol" });
    assert.throws(() => checkTermHistory(history([1, 200], [2, 100])), { kind: "protocol" });
  });

  test("compares and prints", () => {
    const entries = history([1, 100], [3, 256]);
    assert.ok(isSameHistory(entries, history([1, 100], [3, 256])));
    assert.ok(!isSameHistory(entries, history([1, 100])));
    assert.ok(!isSameHistory(entries, history([1, 100], [3, 257])));
    assert.equal(formatTermHistory(entries), "1@0/64 3@0/100");
    assert.equal(formatTermHistory([]), "(empty)");
  });
});
