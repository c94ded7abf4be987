import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { Violation } from "./checker.ts";
import { HOSTILE_BUGS, LONG_RECORD_BUGS, SEEDED_BUGS } from "./seeded_bugs.ts";
import { simulate, type SimulationResult } from "./simulation.ts";

const SEEDS = 40;
/**
 * Within this many seeds each bug has to show. The rarest, a crash between two effects of one
 * message, shows in one of 375 (8 of 3,000); the exhaustive search finds it in milliseconds.
 */
const BUG_SEEDS = 2_000;
/** All this is computation: a busy machine makes it slow, never wrong. */
const OPTIONS = { timeout: 240_000 };

describe("the simulation", () => {
  test("finds nothing wrong, and sees elections, crashes and commits", OPTIONS, () => {
    const total = {
      terms: 0,
      committedRecords: 0,
      crashes: 0,
      refusals: 0,
      longRecords: 0,
      postgresFetches: 0,
    };
    for (let seed = 1; seed <= SEEDS; seed++) {
      const result = simulate(seed);
      total.terms += result.terms;
      total.committedRecords += result.committedRecords;
      total.crashes += result.crashes;
      total.refusals += result.refusals;
      total.longRecords += result.longRecords;
      total.postgresFetches += result.postgresFetches;
    }
    assert.ok(total.terms > 2 * SEEDS, `${total.terms} elections`);
    assert.ok(total.crashes > 2 * SEEDS, `${total.crashes} crashes`);
    assert.ok(total.longRecords > 4 * SEEDS, `${total.longRecords} long records`);
    assert.ok(total.postgresFetches > SEEDS, `${total.postgresFetches} times a lost part came again`);
    assert.ok(total.refusals > 2 * SEEDS, `${total.refusals} hostile messages refused`);
    assert.ok(total.committedRecords > 20 * SEEDS, `${total.committedRecords} records`);
  });

  test("of one seed is the same every time", OPTIONS, () => {
    const runs: { result: SimulationResult; lines: string[] }[] = [];
    for (let i = 0; i < 2; i++) {
      const lines: string[] = [];
      runs.push({ result: simulate(7, { trace: (line) => lines.push(line) }), lines });
    }
    assert.ok(runs[0].lines.length > 100);
    assert.deepEqual(runs[0], runs[1]);
  });

  for (const { name, machines } of [...SEEDED_BUGS, ...HOSTILE_BUGS, ...LONG_RECORD_BUGS]) {
    test(`finds ${name}`, OPTIONS, () => {
      for (let seed = 1; seed <= BUG_SEEDS; seed++) {
        try {
          simulate(seed, { machines });
        } catch (error) {
          assert.ok(error instanceof Violation, String(error));
          return;
        }
      }
      assert.fail(`nothing was found in ${BUG_SEEDS} seeds`);
    });
  }
});
