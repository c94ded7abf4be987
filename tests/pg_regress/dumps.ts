/** Databases as pg_dump shows them, and whether two are the same. */
import { spawnSync } from "node:child_process";
import { clientProgram } from "../harness/postgres_major.ts";
import { runProgram } from "../harness/programs.ts";
import type { Compute } from "../harness/zenith_env.ts";

/**
 * Gives a dump its first and last words, which otherwise are random in every dump. Minor releases
 * before August 2025 have neither them nor the option.
 */
function restrictKey(): string[] {
  const { stdout } = spawnSync(clientProgram("pg_dump"), ["--help"], { encoding: "utf8" });
  return stdout.includes("--restrict-key") ? ["--restrict-key=zenith"] : [];
}

/** All of a database as SQL, rows in the order in which they lie in their files. Waiting a minute for a lock fails it. */
export function dump(pg: Compute, database: string, more: readonly string[] = []): Promise<string> {
  const args = ["--lock-wait-timeout=60s", ...restrictKey(), ...more, database];
  return runProgram(pg, "pg_dump", args);
}

/** The first line in which two dumps differ; undefined when they are equal. */
export function firstDifference(one: string, other: string): string | undefined {
  if (one === other) return undefined;
  const [a, b] = [one.split("\n"), other.split("\n")];
  const at = a.findIndex((line, i) => line !== b[i]);
  const from = Math.max(0, at - 3);
  const show = (lines: string[]) => lines.slice(from, at + 3).join("\n");
  return `line ${at + 1}:\n${show(a)}\n--- but\n${show(b)}`;
}

const SETVAL = /^SELECT pg_catalog\.setval\(/;

/**
 * A dump without the positions of sequences. WAL has them up to 32 numbers ahead of what was given out (SEQ_LOG_VALS in sequence.c),
 * so after a start from WAL, as after a crash of a stock server, they stand further on than before.
 */
export function withoutSequencePositions(text: string): string {
  return text.split("\n").filter((line) => !SETVAL.test(line)).join("\n");
}
