/**
 * Runs the tests: those without Postgres on Bun and on Deno, the others on Bun with the built executable.
 *
 *     bun scripts/test.ts [check|unit|sim|integration|integration-eager|majors|conformance|torture …]
 *     bun scripts/test.ts integration/quorum   # of a suite, only the jobs whose names start so
 *
 * Ends with what failed and the line `N passed, N failed`; the exit code is 0 only when none failed.
 */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { testPostgres } from "../tests/harness/postgres_major.ts";
import { type Result, runJobs } from "./test/jobs.ts";
import { DEFAULT_SUITES, ROOT, SIDE_BY_SIDE, type Suite, SUITES } from "./test/suites.ts";

/** All suites together: what has not ended by then is told to end. */
const TOTAL_MINUTES = 84;
/** So many of the slowest are named, for whoever wonders where the time goes. */
const SLOWEST = 12;

/** What the tests run besides the server. An npm package's PostgreSQL has none of them. */
const CLIENT_PROGRAMS = ["psql", "pgbench", "pg_dump", "pg_amcheck", "pg_waldump"];

function missingPrograms(): string[] {
  const { binDir } = testPostgres();
  return CLIENT_PROGRAMS.filter((name) => !existsSync(join(binDir, name)));
}

/** @param asked a suite, or of a suite only those jobs whose names start with what follows the slash */
function findSuite(asked: string): Suite {
  const [name, prefix = ""] = asked.split("/", 2);
  const suite = SUITES[name];
  if (suite === undefined) throw new Error(`there is no suite "${name}": ${Object.keys(SUITES).join(", ")}`);
  const jobs = suite.jobs.filter((job) => job.name.startsWith(prefix));
  if (jobs.length === 0) throw new Error(`the suite ${name} has no job that starts with "${prefix}"`);
  return { ...suite, jobs };
}

function report(results: readonly Result[]): void {
  const slowest = [...results].sort((a, b) => b.seconds - a.seconds).slice(0, SLOWEST);
  console.log(
    `\nslowest: ${slowest.map(({ job, seconds }) => `${job.name} ${seconds.toFixed(0)} s`).join(", ")}`,
  );
  // Once more at the end, where whoever has only that can read it.
  for (const { job, excerpts } of results) {
    for (const excerpt of excerpts) console.log(`\n=== ${job.name}\n${excerpt}`);
  }
  for (const { job, failures } of results) {
    for (const failure of failures) console.log(`failed: ${job.name}: ${failure}`);
  }
  const sum = (key: "passed" | "failed") => results.reduce((total, result) => total + result[key], 0);
  console.log(`\n${sum("passed")} passed, ${sum("failed")} failed`);
  process.exitCode = sum("failed") === 0 ? 0 : 1;
}

async function main(): Promise<void> {
  const asked = process.argv.slice(2);
  const suites = (asked.length > 0 ? asked : DEFAULT_SUITES).map(findSuite);
  const needsPostgres = suites.some((suite) => suite.needsPostgres);
  const missing = needsPostgres ? missingPrograms() : [];
  if (missing.length > 0) {
    console.error(`the tests need PostgreSQL's ${missing.join(", ")}`);
    console.error(
      "hint: install postgresql-15 and postgresql-client-15, or set POSTGRES_DISTRIB_DIR to a whole one",
    );
    process.exitCode = 1;
    return;
  }
  // The environments of tests are not remembered among those of whoever runs them.
  const state = mkdtempSync(join(tmpdir(), "zenith-test-state-"));
  const surroundings = {
    cwd: ROOT,
    env: {
      ...process.env,
      NO_COLOR: "1",
      ZENITH_BIN: join(ROOT, "dist", "zenith"),
      XDG_STATE_HOME: state,
    },
    deadlineMs: Date.now() + TOTAL_MINUTES * 60_000,
  };
  const results: Result[] = [];
  if (needsPostgres) {
    const build = { name: "build", command: ["bun", "scripts/build.ts"], minutes: 5, read: () => undefined };
    const [built] = await runJobs([build], 1, surroundings);
    // It is no test: it counts only when it fails.
    results.push({ ...built, passed: 0 });
  }
  // All of them together: nobody waits for a suite's last job.
  results.push(...await runJobs(suites.flatMap(({ jobs }) => jobs), SIDE_BY_SIDE, surroundings));
  rmSync(state, { recursive: true, force: true });
  report(results);
}

await main();
