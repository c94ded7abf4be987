/**
 * How benchmarks measure: the subject and its reference run in turns (A B A B …) in one process on one machine, and the
 * figure is the ratio of their medians. Absolute values are printed beside it.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";

/** Has the command line be what people run. @throws when it has not been built */
export function useExecutable(): void {
  const path = process.env["ZENITH_BIN"] ??= join(import.meta.dirname, "..", "..", "dist", "zenith");
  process.env["ZENITH_TEST_SPARES_AHEAD"] ??= "1";
  if (!existsSync(path)) throw new Error(`${path} does not exist: run "npm run build"`);
}

export interface Series {
  median: number;
  min: number;
  max: number;
}

export interface Comparison {
  name: string;
  unit: string;
  subject: Series;
  reference: Series;
  /** subject / reference, of the medians. */
  ratio: number;
}

/** Rounds of each side; BENCH rules ask for at least five. */
export const DEFAULT_ROUNDS = 7;

/** Runs `subject` and `reference` in turns, after one unmeasured round of each. Both return a figure in `unit`. */
export async function compare(
  name: string,
  unit: string,
  subject: () => Promise<number>,
  reference: () => Promise<number>,
  rounds = DEFAULT_ROUNDS,
): Promise<Comparison> {
  await subject();
  await reference();
  const subjects: number[] = [];
  const references: number[] = [];
  for (let round = 0; round < rounds; round++) {
    subjects.push(await subject());
    references.push(await reference());
  }
  const a = summarize(subjects);
  const b = summarize(references);
  return { name, unit, subject: a, reference: b, ratio: a.median / b.median };
}

export function summarize(values: readonly number[]): Series {
  const sorted = [...values].sort((a, b) => a - b);
  return { median: percentile(sorted, 0.5), min: sorted[0], max: sorted[sorted.length - 1] };
}

/** @param sorted ascending, not empty. @param p 0 to 1 */
export function percentile(sorted: ArrayLike<number>, p: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))];
}

/** Prints a table for people and one line of JSON for machines. */
export function report(bench: string, comparisons: readonly Comparison[]): void {
  console.table(Object.fromEntries(comparisons.map((comparison) => [comparison.name, {
    unit: comparison.unit,
    median: round(comparison.subject.median),
    min: round(comparison.subject.min),
    max: round(comparison.subject.max),
    reference: round(comparison.reference.median),
    "ref min": round(comparison.reference.min),
    "ref max": round(comparison.reference.max),
    ratio: round(comparison.ratio),
  }])));
  console.log(JSON.stringify({ bench, results: comparisons }));
}

function round(value: number): number {
  return Number(value.toPrecision(4));
}

/** Runs the parts that are named, all of them when none is, and prints what they have noted in `figures`. */
export async function runParts(
  bench: string,
  parts: Readonly<Record<string, () => Promise<void>>>,
  names: readonly string[],
  figures: readonly object[],
): Promise<void> {
  for (const name of names.length > 0 ? names : Object.keys(parts)) {
    const part = parts[name];
    if (part === undefined) throw new Error(`there is no part "${name}": ${Object.keys(parts).join(", ")}`);
    await part();
  }
  console.table(figures);
  console.log(JSON.stringify({ bench, figures }));
}
