import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { type Bounds, searchExhaustively, SMALL_INSTANCE } from "./exhaustive.ts";
import { SEEDED_BUGS } from "./seeded_bugs.ts";

/** All this is computation: a busy machine makes it slow, never wrong. */
const OPTIONS = { timeout: 900_000 };

/** One acceptor: its crash, and two proposers that compete for it, in all orders. */
const ONE_ACCEPTOR: Bounds = { ...SMALL_INSTANCE, acceptors: 1, crashes: 1, victims: 1 };

/** One of them crashes: what it has lost the other may have. */
const TWO_ACCEPTORS: Bounds = { ...SMALL_INSTANCE, acceptors: 2, crashes: 1, victims: 2 };

/** One of three crashes: the others are a quorum without it. */
const THREE_ACCEPTORS: Bounds = { ...SMALL_INSTANCE, records: 1, crashes: 1, victims: 1 };

/** Small enough to be searched without the reduction. */
const WHOLE: readonly Partial<Bounds>[] = [
  { acceptors: 1, records: 2, crashes: 1, victims: 1 },
  { acceptors: 2, records: 1 },
  { acceptors: 2, records: 1, crashes: 1, victims: 1 },
];

/** By where they show: in a crash, or when some are a quorum without the others. The rest is the simulation's. */
const FOUND: readonly (readonly [Bounds, readonly string[]])[] = [
  ...[ONE_ACCEPTOR, TWO_ACCEPTORS].map((bounds) =>
    [bounds, [
      "a vote that is not persisted",
      "a truncation that is skipped",
      "a confirmation before the sync",
      "a history that is replaced before the log is cut",
    ]] as const
  ),
  [SMALL_INSTANCE, ["a proposer that ignores newer terms", "a truncation that is skipped"]],
];

describe("the exhaustive search", () => {
  test(
    "reaches every state of three acceptors, two terms and two records, and finds nothing wrong",
    OPTIONS,
    () => {
      const result = searchExhaustively(SMALL_INSTANCE);
      console.log(`all ${result.states} states of three acceptors, ${result.transitions} transitions`);
      assert.equal(result.complete, true);
      assert.ok(result.committedStates > result.states / 2, "most of them are behind a commit");
      // The number is that of the machines and the bounds: when it changes, one of them has changed.
      assert.equal(result.states, 88_568);
    },
  );

  test("reaches every state of one acceptor that may crash, and finds nothing wrong", OPTIONS, () => {
    const result = searchExhaustively(ONE_ACCEPTOR);
    assert.equal(result.complete, true);
    assert.equal(result.states, 749);
  });

  for (const [bounds, states] of [[TWO_ACCEPTORS, 13_250], [THREE_ACCEPTORS, 273_218]] as const) {
    const { acceptors, victims } = bounds;
    test(
      `reaches every state of ${acceptors} acceptors of which one crashes, and finds nothing wrong`,
      OPTIONS,
      () => {
        const result = searchExhaustively(bounds);
        console.log(`all ${result.states} states of ${acceptors} acceptors, ${victims} of which may crash`);
        assert.equal(result.complete, true);
        assert.equal(result.states, states);
      },
    );
  }

  for (const instance of WHOLE) {
    test(`leaves nothing out that matters: ${JSON.stringify(instance)}`, OPTIONS, () => {
      const bounds = { ...SMALL_INSTANCE, ...instance };
      const whole = searchExhaustively({ ...bounds, reduced: false });
      const reduced = searchExhaustively(bounds);
      assert.equal(whole.complete && reduced.complete, true);
      assert.ok(whole.states > 5 * reduced.states);
      assert.deepEqual([...whole.essences].filter((essence) => !reduced.essences.has(essence)), []);
    });
  }

  for (const [bounds, names] of FOUND) {
    for (const name of names) {
      test(`finds ${name} with ${bounds.acceptors} acceptors`, OPTIONS, () => {
        const { machines } = SEEDED_BUGS.find((bug) => bug.name === name)!;
        assert.throws(() => searchExhaustively(bounds, machines), { name: /^(?:Violation|AssertionError)$/ });
      });
    }
  }
});
