import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { Violation } from "./checker.ts";
import { searchExhaustively, SMALL_INSTANCE } from "./exhaustive.ts";
import { SEEDED_BUGS } from "./seeded_bugs.ts";

/** All this is computation: a busy machine makes it slow, never wrong. */
const OPTIONS = { timeout: 120_000 };

/** One acceptor: its crash, and two proposers that compete for it, in all orders. */
const ONE_ACCEPTOR = { ...SMALL_INSTANCE, acceptors: 1, crashes: 1 };

/** Those that show with one acceptor; the others need a quorum that is not everyone, and are the simulation's. */
const FOUND_WITH_ONE = [
  "a vote that is not persisted",
  "a truncation that is skipped",
  "a confirmation before the sync",
];

describe("the exhaustive search", () => {
  test("reaches every state of one acceptor that may crash, and finds nothing wrong", OPTIONS, () => {
    const result = searchExhaustively(ONE_ACCEPTOR);
    assert.equal(result.complete, true);
    assert.ok(result.committedStates > result.states / 2, "most of them are behind a commit");
    // The number is that of the machines and the bounds: when it changes, one of them has changed.
    assert.equal(result.states, 29_081);
  });

  for (const name of FOUND_WITH_ONE) {
    test(`finds ${name}`, OPTIONS, () => {
      const { machines } = SEEDED_BUGS.find((bug) => bug.name === name)!;
      assert.throws(() => searchExhaustively(ONE_ACCEPTOR, machines), Violation);
    });
  }
});
