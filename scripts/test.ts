/**
 * Runs the tests: those without Postgres on Bun and on Deno, the others on Bun with the built executable.
 *
 *     bun scripts/test.ts [check|unit|sim|integration|integration-eager|conformance|torture …]
 *
 * Ends with the line `N passed, N failed`; the exit code is 0 only when none failed.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { testPostgres } from "../tests/harness/postgres_major.ts";

const ROOT = join(import.meta.dirname, "..");

interface Counts {
  passed: number;
  failed: number;
}

interface Suite {
  readonly name: string;
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** What has not ended after so long does not end at all; a few times what it takes on two cores. */
  readonly minutes: number;
  /** Reads the counts from the end of what the runner printed. */
  readonly count: (output: string) => Counts | undefined;
}

/** ` 18 pass` and ` 0 fail` at the end of `bun test`. */
function countBun(output: string): Counts | undefined {
  const passed = /^\s*(\d+) pass$/m.exec(output);
  const failed = /^\s*(\d+) fail$/m.exec(output);
  return passed === null || failed === null
    ? undefined
    : { passed: Number(passed[1]), failed: Number(failed[1]) };
}

/** `ok | 3 passed (18 steps) | 0 failed`; what is a test for Bun is a step for Deno. */
function countDeno(output: string): Counts | undefined {
  const match = /(\d+) passed(?: \((\d+) steps?\))? \| (\d+) failed(?: \((\d+) steps?\))?/.exec(output);
  if (match === null) return undefined;
  const [, tests, steps, failedTests, failedSteps] = match;
  return { passed: Number(steps ?? tests), failed: Number(failedSteps ?? failedTests) };
}

/** No test takes that long; the runner's own limit of five seconds is one that a busy machine goes beyond. */
const TEST_TIMEOUT_MS = 240_000;

/** Every environment of a test has its own ports and directories, but two cores are soon busy: one file at a time. */
function bunSuite(dir: string, minutes: number): Suite {
  return { name: `${dir} on Bun`, command: bunTest(`./tests/${dir}`), minutes, count: countBun };
}

function bunTest(...files: string[]): string[] {
  return ["bun", "test", "--timeout", String(TEST_TIMEOUT_MS), ...files];
}

/** Tests that start no compute, or choose themselves how it gets its files and who makes its commits durable. */
const OF_ONE_MODE =
  /^(lazy_|safekeeper|quorum|whole_cluster|initial_segment|pgwire|wal_decoder|mistakes|status|cli_tools|tour|built_in_postgres|majors)/;

/** The integration tests that another mode makes a difference to. */
function testsOfAnyMode(): string[] {
  return readdirSync(join(ROOT, "tests", "integration"))
    .filter((name) => name.endsWith(".test.ts") && !OF_ONE_MODE.test(name))
    .map((name) => `./tests/integration/${name}`)
    .sort();
}

const SUITES: Readonly<Record<string, readonly Suite[]>> = {
  check: [{ name: "check", command: ["bun", "scripts/check.ts"], minutes: 10, count: () => undefined }],
  unit: [
    bunSuite("unit", 20),
    {
      name: "unit on Deno",
      command: ["deno", "test", "--allow-all", "--no-check", "--quiet", "tests/unit"],
      minutes: 20,
      count: countDeno,
    },
  ],
  sim: [bunSuite("sim", 15), {
    name: "consensus, 2000 simulated histories",
    command: ["bun", "tests/sim/main.ts", "--seeds", "2000"],
    minutes: 10,
    count: () => undefined,
  }],
  /** As the product is when nobody says otherwise. */
  integration: [bunSuite("integration", 45)],
  /** The other way: all data at the start, and the page server itself as synchronous standby. */
  "integration-eager": [{
    name: "integration on Bun, eager, without safekeepers",
    command: bunTest(...testsOfAnyMode()),
    env: { ZENITH_TEST_STORAGE: "eager", ZENITH_TEST_SAFEKEEPERS: "0" },
    minutes: 20,
    count: countBun,
  }],
  /** What runs on other majors than the rest does; tests/integration/majors.test.ts has all of them. */
  majors: [14, 16, 17].map((major) => ({
    name: `the whole cluster on PostgreSQL ${major}`,
    command: bunTest("./tests/integration/whole_cluster.test.ts"),
    env: { ZENITH_TEST_PG_VERSION: String(major) },
    minutes: 5,
    count: countBun,
  })),
  conformance: [{
    name: "redo conformance, own schedule",
    command: ["bun", "tests/conformance/main.ts", "--schedule", "own"],
    minutes: 10,
    count: () => undefined,
  }, {
    name: "redo of damaged records and pages",
    command: ["bun", "tests/conformance/damage.ts", "--seconds", "60"],
    minutes: 5,
    count: () => undefined,
  }],
  torture: [{
    name: "torture, two minutes",
    command: ["bun", "tests/torture/main.ts", "--minutes", "2"],
    minutes: 10,
    count: () => undefined,
  }],
};

/** What `npm test` runs; the rest takes minutes more and has commands of its own. */
const DEFAULT_SUITES = ["unit", "sim", "integration"];

/** All suites together: what has not ended by then is told to end. */
const TOTAL_MINUTES = 80;
/** For the runner to end what it has started; it is killed then. */
const GRACE_MS = 20_000;

const startedMs = Date.now();

/** Tells a suite to end when its time is up. @returns to be called when it has ended */
function limitTime(child: ChildProcess, suite: Suite): () => void {
  const leftMs = startedMs + TOTAL_MINUTES * 60_000 - Date.now();
  const limitMs = Math.max(0, Math.min(suite.minutes * 60_000, leftMs));
  let grace: ReturnType<typeof setTimeout> | undefined;
  const limit = setTimeout(() => {
    console.log(`\n=== ${suite.name} has not ended after ${Math.round(limitMs / 1000)} s: it is ended`);
    child.kill("SIGTERM");
    grace = setTimeout(() => {
      child.kill("SIGKILL");
      // What it has started may go on holding the other ends.
      child.stdout?.destroy();
      child.stderr?.destroy();
    }, GRACE_MS);
  }, limitMs);
  return () => {
    clearTimeout(limit);
    clearTimeout(grace);
  };
}

async function runSuite(suite: Suite): Promise<Counts> {
  console.log(`\n=== ${suite.name}`);
  const [command, ...args] = suite.command;
  const child = spawn(command!, args, {
    cwd: ROOT,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NO_COLOR: "1", ZENITH_BIN: join(ROOT, "dist", "zenith"), ...suite.env },
  });
  let output = "";
  const collect = (chunk: Uint8Array) => {
    process.stdout.write(chunk);
    output += chunk.toString();
  };
  child.stdout.on("data", collect);
  child.stderr.on("data", collect);
  const ended = limitTime(child, suite);
  const status = await new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve(code ?? 1));
  });
  ended();
  // What prints no counts is one thing that passes or fails.
  const counts = suite.count(output) ?? { passed: status === 0 ? 1 : 0, failed: 0 };
  // A runner that breaks down without having counted a failure has failed all the same.
  if (status !== 0 && counts.failed === 0) counts.failed = 1;
  return counts;
}

const WITHOUT_POSTGRES: ReadonlySet<string> = new Set(["check", "unit", "sim"]);

/** What the other tests run. An npm package's PostgreSQL has none of them. */
const CLIENT_PROGRAMS = ["psql", "pgbench", "pg_dump", "pg_amcheck", "pg_waldump"];

function missingPrograms(): string[] {
  const { binDir } = testPostgres();
  return CLIENT_PROGRAMS.filter((name) => !existsSync(join(binDir, name)));
}

async function main(): Promise<void> {
  const asked = process.argv.slice(2);
  const names = asked.length > 0 ? asked : DEFAULT_SUITES;
  const suites = names.flatMap((name) => {
    const found = SUITES[name];
    if (found === undefined) {
      throw new Error(`there is no suite "${name}": ${Object.keys(SUITES).join(", ")}`);
    }
    return found;
  });
  const missing = names.every((name) => WITHOUT_POSTGRES.has(name)) ? [] : missingPrograms();
  if (missing.length > 0) {
    console.error(`the tests need PostgreSQL's ${missing.join(", ")}`);
    console.error(
      "hint: install postgresql-15 and postgresql-client-15, or set POSTGRES_DISTRIB_DIR to a whole one",
    );
    process.exitCode = 1;
    return;
  }
  const total: Counts = { passed: 0, failed: 0 };
  if (names.some((name) => name.startsWith("integration") || name === "majors" || name === "torture")) {
    const build = await runSuite({
      name: "build",
      command: ["bun", "scripts/build.ts"],
      minutes: 5,
      count: () => undefined,
    });
    total.failed += build.failed;
  }
  for (const suite of suites) {
    const counts = await runSuite(suite);
    console.log(`=== ${suite.name}: ${counts.passed} passed, ${counts.failed} failed`);
    total.passed += counts.passed;
    total.failed += counts.failed;
  }
  console.log(`\n${total.passed} passed, ${total.failed} failed`);
  process.exitCode = total.failed === 0 ? 0 : 1;
}

await main();
