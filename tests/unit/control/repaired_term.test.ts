import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { TERM_STEP_MAX } from "../../../src/consensus/bounds.ts";
import { repairedTerm } from "../../../src/control/repaired_term.ts";

const HUGE = Number.MAX_SAFE_INTEGER;

describe("the term that safekeepers are set back to", () => {
  test("is above every log and every honest campaign, wherever they are", () => {
    assert.equal(repairedTerm([{ term: HUGE, historyTerm: 7 }]), 7 + TERM_STEP_MAX);
    assert.equal(
      repairedTerm([{ term: HUGE, historyTerm: 7 }, { term: 12, historyTerm: 9 }, {
        term: HUGE,
        historyTerm: 0,
      }]),
      12 + TERM_STEP_MAX,
    );
  });

  test("is above that of safekeepers whose terms nobody drove up", () => {
    const all = [{ term: 8, historyTerm: 7 }, { term: 0, historyTerm: 0 }];
    assert.ok(all.every(({ term }) => term < repairedTerm(all)));
  });
});
