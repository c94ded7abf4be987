/**
 * `npm run sim -- [--seeds N] [--seed S] [--trace]`: N simulations from seed S on (1 by default), or the one of seed S alone, with
 * all that happens in it.
 *
 * `npm run sim -- --exhaustive [--acceptors 3] [--records 2] [--crashes 0] [--victims 0] [--whole] [--first-terms 1,2]`: all states of a small
 * instance. With three acceptors it takes minutes to hours.
 */
import { parseArgs } from "node:util";
import { searchExhaustively, SMALL_INSTANCE } from "./exhaustive.ts";
import { simulate, type SimulationResult } from "./simulation.ts";

const DEFAULT_SEEDS = 2000;

const { values } = parseArgs({
  options: {
    seeds: { type: "string" },
    seed: { type: "string" },
    trace: { type: "boolean" },
    exhaustive: { type: "boolean" },
    acceptors: { type: "string" },
    records: { type: "string" },
    crashes: { type: "string" },
    victims: { type: "string" },
    whole: { type: "boolean" },
    "first-terms": { type: "string" },
  },
});
if (values.exhaustive === true) {
  exhaustive();
  process.exit(0);
}
const first = Number(values.seed ?? 1);
const count = Number(values.seeds ?? (values.seed === undefined ? DEFAULT_SEEDS : 1));
const trace = values.trace === true ? (line: string) => console.log(line) : undefined;

const total = {
  steps: 0,
  terms: 0,
  committedRecords: 0,
  crashes: 0,
  refusals: 0,
  longRecords: 0,
  postgresFetches: 0,
};
const failed: number[] = [];
const began = performance.now();
for (let seed = first; seed < first + count; seed++) {
  try {
    add(simulate(seed, trace === undefined ? {} : { trace }));
  } catch (error) {
    failed.push(seed);
    console.error(`seed ${seed}: ${(error as Error).stack}`);
    console.error(`repeat it with: npm run sim -- --seed ${seed} --trace`);
  }
}
const seconds = ((performance.now() - began) / 1000).toFixed(1);
console.log(
  `${count} seeds in ${seconds} s: ${total.steps} steps, ${total.terms} elections won, ` +
    `${total.crashes} crashes, ${total.committedRecords} records committed, ` +
    `${total.refusals} hostile messages refused, ${total.longRecords} long records, ` +
    `${total.postgresFetches} times a lost part came from Postgres, ${failed.length} failed`,
);
if (failed.length > 0) process.exit(1);

function exhaustive(): void {
  const [first = 1, second = 1] = (values["first-terms"] ?? "").split(",").filter(Boolean).map(Number);
  const bounds = {
    ...SMALL_INSTANCE,
    acceptors: Number(values.acceptors ?? SMALL_INSTANCE.acceptors),
    records: Number(values.records ?? SMALL_INSTANCE.records),
    crashes: Number(values.crashes ?? SMALL_INSTANCE.crashes),
    victims: Number(values.victims ?? SMALL_INSTANCE.victims),
    reduced: values.whole !== true,
    firstTerms: [first, second] as const,
  };
  const start = performance.now();
  const { states, transitions, committedStates } = searchExhaustively(bounds);
  const took = ((performance.now() - start) / 1000).toFixed(1);
  console.log(
    `all ${states} states in ${took} s: ${transitions} transitions, a commit in ${committedStates} states, ` +
      `no invariant broken; ${JSON.stringify(bounds)}`,
  );
}

function add(result: SimulationResult): void {
  total.steps += result.steps;
  total.terms += result.terms;
  total.committedRecords += result.committedRecords;
  total.crashes += result.crashes;
  total.refusals += result.refusals;
  total.longRecords += result.longRecords;
  total.postgresFetches += result.postgresFetches;
}
