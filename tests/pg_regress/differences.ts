/** Where PostgreSQL's tests give something else on Zenith than on a stock server, line by line, and why. */
import type { SuiteResult } from "../harness/postgres_suites.ts";

export interface KnownDifference {
  readonly why: string;
  /** All lines that differ, as diff(1) shows them: `-` expected, `+` found. */
  readonly lines: readonly string[];
}

/** By the test's name. */
export type KnownDifferences = Readonly<Record<string, KnownDifference>>;

export const REGRESSION_DIFFERENCES: KnownDifferences = {};

export const ISOLATION_DIFFERENCES: KnownDifferences = {};

/** What is wrong with a suite's result; nothing when it differs exactly where it is known to. */
export function unexpected({ tests, differences }: SuiteResult, known: KnownDifferences): string[] {
  const complaints: string[] = [];
  for (const { name, passed } of tests) {
    const expected = known[name];
    if (passed && expected === undefined) continue;
    const lines = differences.get(name) ?? [];
    if (expected === undefined) {
      complaints.push(`${name} failed:`, ...lines.map((line) => `    ${line}`));
    } else if (passed) {
      complaints.push(`${name} passed, although a difference is known: ${expected.why}`);
    } else if (lines.join("\n") !== expected.lines.join("\n")) {
      complaints.push(`${name} failed in another way than is known:`, ...lines.map((line) => `    ${line}`));
    }
  }
  for (const name of Object.keys(known)) {
    if (!tests.some((test) => test.name === name)) complaints.push(`${name} was not run`);
  }
  return complaints;
}
