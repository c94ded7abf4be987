/**
 * `npm run sim -- [--seeds N] [--seed S] [--from S] [--trace]`: N simulations from seed S on (1 by default), or the one of seed
 * S alone with all that happens in it.
 */
import { parseArgs } from "node:util";
import { simulate, type SimulationResult } from "./simulation.ts";

const DEFAULT_SEEDS = 2000;

const { values } = parseArgs({
  options: { seeds: { type: "string" }, seed: { type: "string" }, trace: { type: "boolean" } },
});
const first = Number(values.seed ?? 1);
const count = Number(values.seeds ?? (values.seed === undefined ? DEFAULT_SEEDS : 1));
const trace = values.trace === true ? (line: string) => console.log(line) : undefined;

const total = { steps: 0, terms: 0, committedRecords: 0, crashes: 0 };
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
    `${total.crashes} crashes, ${total.committedRecords} records committed, ${failed.length} failed`,
);
if (failed.length > 0) process.exit(1);

function add(result: SimulationResult): void {
  total.steps += result.steps;
  total.terms += result.terms;
  total.committedRecords += result.committedRecords;
  total.crashes += result.crashes;
}
