/** What there is to test, and how each runner says what it has found. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { DEFAULT_PORTS, type Job, lastLines, type Report } from "./jobs.ts";
import { scratchDirectory } from "./scratch.ts";

export const ROOT = join(import.meta.dirname, "..", "..");

export interface Suite {
  readonly jobs: readonly Job[];
  /** It starts computes, and so needs the executable and PostgreSQL's client programs. */
  readonly needsPostgres: boolean;
}

/** ` 18 pass` and ` 0 fail` at the end of `bun test`, `(fail) name [3 ms]` where one fails. */
function readBun(output: string): Report | undefined {
  const passed = /^\s*(\d+) pass$/m.exec(output);
  const failed = /^\s*(\d+) fail$/m.exec(output);
  if (passed === null || failed === null) return undefined;
  const failures = new Set(
    Array.from(output.matchAll(/^\(fail\) (.*?)(?: \[[\d.]+m?s\])?$/gm), ([, name]) => name!),
  );
  const excerpts = excerptsOfBun(output);
  return {
    passed: Number(passed[1]),
    failed: Number(failed[1]),
    failures: [...failures],
    ...(excerpts.length > 0 ? { excerpts } : {}),
  };
}

/** A test's messages stand between the line of the test before and its own. */
function excerptsOfBun(output: string): string[] {
  const excerpts: string[] = [];
  let lines: string[] = [];
  for (const line of output.split("\n")) {
    lines.push(line);
    if (!/^\((?:pass|fail|skip)\) /.test(line)) continue;
    if (line.startsWith("(fail) ")) excerpts.push(lastLines(lines.join("\n")));
    lines = [];
  }
  return excerpts;
}

/**
 * `ok | 3 passed (18 steps) | 0 failed`; what is a test for Bun is a step for Deno. A list of what failed stands between
 * ` FAILURES` and that line, a line each, `name => file:line:column`.
 */
function readDeno(output: string): Report | undefined {
  const match = /(\d+) passed(?: \((\d+) steps?\))? \| (\d+) failed(?: \((\d+) steps?\))?/.exec(output);
  if (match === null) return undefined;
  const [, tests, steps, failedTests, failedSteps] = match;
  const list = output.slice(Math.max(0, output.lastIndexOf("FAILURES")));
  return {
    passed: Number(steps ?? tests),
    failed: Number(failedSteps ?? failedTests),
    failures: Number(failedTests) === 0
      ? []
      : Array.from(list.matchAll(/^(.+) => .+:\d+:\d+$/gm), ([, name]) => name!.trim()),
  };
}

/** What counts nothing itself: one thing that passes or fails. */
const uncounted = () => undefined;

/** No test takes that long; the runner's own limit of five seconds is one that a busy machine goes beyond. */
const TEST_TIMEOUT_MS = 240_000;

function bunTest(name: string, files: readonly string[], minutes: number, env?: Job["env"]): Job {
  return {
    name,
    command: ["bun", "test", "--timeout", String(TEST_TIMEOUT_MS), ...files],
    minutes,
    read: readBun,
    ...(env === undefined ? {} : { env }),
  };
}

/** A program that passes or fails as a whole. */
function program(name: string, command: readonly string[], minutes: number): Job {
  return { name, command, minutes, read: uncounted };
}

function computation(job: Job): Job {
  return { ...job, computes: true };
}

/**
 * What another way of starting a compute, and of making its commits durable, makes a difference to.
 * What happens to a record once it is at the page server is the same either way. Some others, such as
 * wal_archive, go through the modes themselves.
 */
const OF_BOTH_MODES: ReadonlySet<string> = new Set([
  "base_backup",
  "compute",
  "large_records",
  "postgres_crash",
  "restart",
  "twophase",
  "unlogged",
]);

/** Those that take minutes, longest first: they start before the others, so that none of them is what all wait for at the end. */
const LONG = [
  "replication_slots",
  "tablespaces",
  "wal_timelines",
  "branch_diff",
  "packages",
  "serve_neon",
  "tools",
  "wal_archive",
  "page_server_backup",
  "follow",
  "follow_archive",
  "import_archive",
  "large_records",
  "import",
  "lazy_overlay",
  "majors",
  "restart",
  "quorum",
  "lazy_compute",
];

/** The longest first, the others by name. */
function integrationFiles(): string[] {
  const rank = (file: string) => {
    const index = LONG.indexOf(file.replace(".test.ts", ""));
    return index < 0 ? LONG.length : index;
  };
  return readdirSync(join(ROOT, "tests", "integration"))
    .filter((file) => file.endsWith(".test.ts"))
    .sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}

/**
 * They type what a person types, and so get the ports that Zenith chooses. Of two environments that
 * choose at the same moment, one finds its port taken when it starts.
 */
const USES_DEFAULT_PORTS: ReadonlySet<string> = new Set([
  "branch_restore",
  "branch_settings",
  "built_in_postgres",
  "cli_sql",
  "environments",
  "first_start",
  "help_examples",
  // With "built_in_postgres" it shares the executable that both build.
  "packages",
  "recipes",
  "tour",
]);

/** Long ones that were seen to know no difference between a disk and memory. */
const IN_MEMORY: ReadonlySet<string> = new Set([
  "branch_diff",
  "compute",
  "console",
  "deleted_computes",
  "export",
  "first_start",
  "follow_archive",
  "help_examples",
  "import_incremental",
  "mounted_backup",
  "object_store",
  "object_store_s3",
  "packages",
  "page_server_backup",
  "page_servers",
  "replication_slots",
  "scrub",
  "security_matrix",
  "serve",
  "serve_api",
  "serve_pooler",
  "serve_storms",
  "spares",
  "status",
  "tablespaces",
  "tools",
  "wal_archive",
  "wal_timelines",
]);

/** A job for each file: every environment of a test has ports and directories of its own. */
function integrationJobs(suffix: string, files: readonly string[], env?: Job["env"]): Job[] {
  const inMemory = { TMPDIR: scratchDirectory() };
  return files.map((file) => {
    const name = file.replace(".test.ts", "");
    const scratch = IN_MEMORY.has(name) ? inMemory : {};
    const job = bunTest(`${name}${suffix}`, [`./tests/integration/${file}`], 15, { ...scratch, ...env });
    return USES_DEFAULT_PORTS.has(name) ? { ...job, needsAlone: DEFAULT_PORTS } : job;
  });
}

/**
 * How many jobs run at once. Two cores are kept busy by one that computes and two that start
 * processes, which mostly wait for them.
 */
export const SIDE_BY_SIDE = 3;

/** All but the one that the other suites run. */
const OTHER_MAJORS = [14, 16, 17, 18];
/**
 * Those whose records differ most from 15's. For the others, the whole cluster is compared, and `bun tests/conformance/main.ts` by
 * hand: it takes five minutes for each.
 */
const CONFORMANCE_MAJORS = [14, 18];
/** Plus the major: several may run at once. */
const CONFORMANCE_PORT = 57200;

export const SUITES: Readonly<Record<string, Suite>> = {
  check: {
    jobs: [computation(program("check", ["bun", "scripts/check.ts"], 10))],
    needsPostgres: false,
  },
  unit: {
    jobs: [
      computation(bunTest("unit on Bun", ["./tests/unit"], 30)),
      computation({
        name: "unit on Deno",
        command: ["deno", "test", "--allow-all", "--no-check", "--quiet", "tests/unit"],
        minutes: 30,
        read: readDeno,
      }),
    ],
    needsPostgres: false,
  },
  sim: {
    jobs: [
      computation(bunTest("sim on Bun", ["./tests/sim"], 15)),
      computation(
        program("consensus, 2000 simulated histories", ["bun", "tests/sim/main.ts", "--seeds", "2000"], 15),
      ),
    ],
    needsPostgres: false,
  },
  /** As the product is when nobody says otherwise. */
  integration: {
    jobs: integrationJobs("", integrationFiles()),
    needsPostgres: true,
  },
  /** The other way: all data at the start, and the page server itself as synchronous standby. */
  "integration-eager": {
    jobs: integrationJobs(
      ", eager, without safekeepers",
      integrationFiles().filter((file) => OF_BOTH_MODES.has(file.replace(".test.ts", ""))),
      { ZENITH_TEST_STORAGE: "eager", ZENITH_TEST_SAFEKEEPERS: "0" },
    ),
    needsPostgres: true,
  },
  /** What runs on other majors than the rest does; tests/integration/majors.test.ts has all of them. */
  majors: {
    jobs: [
      ...OTHER_MAJORS.map((major) =>
        bunTest(
          `the whole cluster on PostgreSQL ${major}`,
          ["./tests/integration/whole_cluster.test.ts"],
          15,
          {
            ZENITH_TEST_PG_VERSION: String(major),
          },
        )
      ),
      ...CONFORMANCE_MAJORS.map((major) =>
        computation(program(
          `redo conformance on PostgreSQL ${major}, own schedule`,
          [
            ...["bun", "tests/conformance/main.ts", "--schedule", "own", "--seconds", "3"],
            ...["--pg-version", String(major), "--port", String(CONFORMANCE_PORT + major)],
          ],
          20,
        ))
      ),
    ],
    needsPostgres: true,
  },
  conformance: {
    jobs: [
      computation(program(
        "redo conformance, own schedule, and damage",
        ["bun", "tests/conformance/main.ts", "--schedule", "own", "--damage", "30"],
        20,
      )),
    ],
    needsPostgres: true,
  },
  torture: {
    jobs: [program("torture, two minutes", ["bun", "tests/torture/main.ts", "--minutes", "2"], 10)],
    needsPostgres: true,
  },
};

/** What `npm test` runs; the rest takes minutes more and has commands of its own. */
export const DEFAULT_SUITES = ["unit", "sim", "integration"];
