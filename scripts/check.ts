/**
 * Every check that needs no run: types for both runtimes, formatting, lint, comments, imports. Stops
 * at the first that fails.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..");

const CHECKS: readonly (readonly string[])[] = [
  ["tsc", "--noEmit", "-p", "."],
  // It runs in a browser, which has other globals.
  ["tsc", "--noEmit", "-p", "console"],
  ["deno", "check", "--quiet", "cli.ts", "server.ts", "src", "tests/unit"],
  ["deno", "fmt", "--check", "--quiet"],
  ["deno", "lint", "--quiet"],
  ["bun", "test", "./tests/unit/comments.test.ts", "./tests/unit/imports.test.ts"],
];

for (const [command, ...args] of CHECKS) {
  console.log(`=== ${command} ${args.join(" ")}`);
  const run = spawnSync(command!, args, { cwd: ROOT, stdio: "inherit" });
  if (run.error !== undefined) throw run.error;
  if (run.status !== 0) process.exit(run.status ?? 1);
}
