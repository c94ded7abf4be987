/** PostgreSQL's own tests, run by its own drivers, on whatever server they are pointed at. */
import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { ZenithError } from "../../src/common/errors.ts";
import type { PostgresInstall } from "../../src/pg_install/find_postgres.ts";
import { postgresEnvironment } from "../../src/pg_install/initdb.ts";
import { asUser, chownRecursive, makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { postgresSource } from "./postgres_source.ts";

/** The server under test. It runs on this machine, as {@link pgUser}: tests have it read and write files. */
export interface TestedServer {
  readonly install: PostgresInstall;
  /** An existing directory in which the suites make their own. */
  readonly dir: string;
  /** A host, or the directory of a Unix socket. */
  readonly host: string;
  readonly port: number;
  readonly superuser: string;
  /** The superuser's password, where one is asked for. */
  readonly password?: string;
}

export interface SuiteOptions {
  /** A PostgreSQL source tree; the one that {@link postgresSource} finds when left out. */
  readonly sourceDir?: string | undefined;
  /** Is told how many tests have ended, each time that another one has. */
  readonly onProgress?: (ended: number) => void;
}

export interface SuiteResult {
  /** In the order in which they ended. */
  readonly tests: readonly { readonly name: string; readonly passed: boolean }[];
  /** By the failed test's name: the lines of its output that are not as expected, `-` expected, `+` found. */
  readonly differences: ReadonlyMap<string, readonly string[]>;
}

/** PostgreSQL's regression tests, src/test/regress. They leave their database, `regression`, behind. */
export async function runRegressionTests(
  server: TestedServer,
  options: SuiteOptions = {},
): Promise<SuiteResult> {
  const dir = join(postgresSource(options.sourceDir), "src/test/regress");
  // The driver makes sql and expected complete from input and output, up to 14.
  const names = ["sql", "expected", "input", "output", "data", "parallel_schedule", "resultmap"];
  const input = copyInput(server, "regress", dir, names);
  // Up to 14 the makefile makes the directory of the tests' tablespace.
  if (existsSync(join(dir, "input"))) makeOwnedDirectory(join(input, "testtablespace"), pgUser());
  compileRegressLibrary(dir, join(input, "regress.so"), server.install);
  // Of contrib/spi, which PostgreSQL's own build puts beside it.
  for (const name of ["refint.so", "autoinc.so"]) {
    cpSync(join(pgConfig(server.install, "--pkglibdir"), name), join(input, name));
  }
  const args = ["--schedule=parallel_schedule", "--max-concurrent-tests=20"];
  return await runTests(server, "regress/pg_regress", input, args, options);
}

/** PostgreSQL's isolation tests, src/test/isolation: sessions that get in each other's way, step by step. */
export async function runIsolationTests(
  server: TestedServer,
  options: SuiteOptions = {},
): Promise<SuiteResult> {
  const dir = join(postgresSource(options.sourceDir), "src/test/isolation");
  const input = copyInput(server, "isolation", dir, ["specs", "expected", "isolation_schedule"]);
  const args = ["--schedule=isolation_schedule"];
  return await runTests(server, "isolation/pg_isolation_regress", input, args, options);
}

/** Where the tests read and write: the source tree need not be writable. */
function copyInput(server: TestedServer, name: string, sourceDir: string, files: readonly string[]): string {
  const input = join(server.dir, name);
  makeOwnedDirectory(input, pgUser());
  for (const file of files) {
    const from = join(sourceDir, file);
    if (existsSync(from)) cpSync(from, join(input, file), { recursive: true });
  }
  chownRecursive(input, pgUser());
  return input;
}

/**
 * Where a build of PostgreSQL has things.
 *
 * @throws {ZenithError} `not_found` when it has no pg_config to say so
 */
function pgConfig(install: PostgresInstall, what: string): string {
  const { status, stdout } = spawnSync(join(install.binDir, "pg_config"), [what], { encoding: "utf8" });
  if (status !== 0) {
    throw new ZenithError("not_found", `${install.binDir} has no pg_config`, { hint: serverDev(install) });
  }
  return stdout.trim();
}

function serverDev({ major, version }: PostgresInstall): string {
  return `install postgresql-server-dev-${major}, the very version ${version} of the server`;
}

function compileRegressLibrary(sourceDir: string, library: string, install: PostgresInstall): void {
  const headers = pgConfig(install, "--includedir-server");
  if (!existsSync(join(headers, "postgres.h"))) {
    throw new ZenithError("not_found", `${headers} has no PostgreSQL headers`, { hint: serverDev(install) });
  }
  const args = ["-O2", "-fPIC", "-shared", `-I${headers}`, `-I${sourceDir}`, "-o", library];
  const result = spawnSync("gcc", [...args, join(sourceDir, "regress.c")], { encoding: "utf8" });
  if (result.status !== 0) throw new ZenithError("io", `gcc failed: ${result.error ?? result.stderr}`);
}

/** `test name ... ok 12 ms`; in a group of parallel tests without the first word. Up to 15. */
const TEST_LINE = /^(?:test)?\s+(\S+)\s+\.\.\. (ok|FAILED|failed \(ignored\))/;
/** `ok 12 + name 12 ms`, with `-` for `+` where the test ran alone. From 16 on. */
const TAP_LINE = /^(not )?ok \d+\s+[-+] (\S+)/;
/** What stands at the end, where all tests have run. */
const SUMMARY = /tests? (passed|failed)|^1\.\.\d+$/;

function parseTestLine(line: string): { name: string; passed: boolean } | undefined {
  const tap = TAP_LINE.exec(line);
  if (tap !== null) return { name: tap[2], passed: tap[1] === undefined };
  const match = TEST_LINE.exec(line);
  return match === null ? undefined : { name: match[1], passed: match[2] === "ok" };
}

async function runTests(
  server: TestedServer,
  program: string,
  input: string,
  args: readonly string[],
  options: SuiteOptions,
): Promise<SuiteResult> {
  // pgxs.mk is in lib/pgxs/src/makefiles.
  const path = join(dirname(pgConfig(server.install, "--pgxs")), "../test", program);
  if (!existsSync(path)) {
    throw new ZenithError("not_found", `${path} is not installed`, { hint: serverDev(server.install) });
  }
  const connection = [`--host=${server.host}`, `--port=${server.port}`, `--user=${server.superuser}`];
  const files = ["--inputdir=.", "--outputdir=.", "--dlpath=.", `--bindir=${server.install.binDir}`];
  const child = spawn(path, [...files, ...connection, ...args], {
    ...asUser(pgUser()),
    cwd: input,
    env: {
      ...postgresEnvironment(),
      ...(server.password === undefined ? {} : { PGPASSWORD: server.password }),
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const tests: { name: string; passed: boolean }[] = [];
  let [rest, stderr, summary] = ["", "", false];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) {
      if (SUMMARY.test(line)) summary = true;
      const test = parseTestLine(line);
      if (test === undefined) continue;
      tests.push(test);
      options.onProgress?.(tests.length);
    }
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  await new Promise<void>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", () => resolve());
  });
  if (!summary) throw new ZenithError("io", `${program} did not run to its end: ${stderr}`);
  return { tests, differences: readDifferences(join(input, "regression.diffs")) };
}

/** `regression.diffs` is what diff(1) wrote for each failed test, one behind the other. */
function readDifferences(file: string): Map<string, string[]> {
  const differences = new Map<string, string[]>();
  if (!existsSync(file)) return differences;
  let lines: string[] = [];
  for (const line of readFileSync(file, "utf8").split("\n")) {
    const header = /^diff .* (\S+)$/.exec(line);
    if (header !== null) {
      lines = [];
      differences.set(basename(header[1], ".out"), lines);
    } else if (/^[-+]/.test(line) && !/^(---|\+\+\+) \S+\.out\t/.test(line)) {
      lines.push(line);
    }
  }
  return differences;
}
