/** Where PostgreSQL's tests give something else on Zenith than on a stock server, line by line, and why. */
import type { SuiteResult } from "../harness/postgres_suites.ts";

export interface KnownDifference {
  readonly why: string;
  /** All lines that differ, as diff(1) shows them: `-` expected, `+` found. */
  readonly lines: readonly string[];
  /** Whether numbers of five digits and more, such as OIDs, may be other ones. */
  readonly anyOids?: boolean;
}

/** By the test's name. */
export type KnownDifferences = Readonly<Record<string, KnownDifference>>;

export const REGRESSION_DIFFERENCES: KnownDifferences = {};

export const ISOLATION_DIFFERENCES: KnownDifferences = {};

function areSame(found: readonly string[], { lines, anyOids = false }: KnownDifference): boolean {
  const text = (of: readonly string[]) => anyOids ? of.join("\n").replace(/\d{5,}/g, "#") : of.join("\n");
  return text(found) === text(lines);
}

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
    } else if (!areSame(lines, expected)) {
      complaints.push(`${name} failed in another way than is known:`, ...lines.map((line) => `    ${line}`));
    }
  }
  for (const name of Object.keys(known)) {
    if (!tests.some((test) => test.name === name)) complaints.push(`${name} was not run`);
  }
  return complaints;
}
