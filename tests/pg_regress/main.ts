/**
 * PostgreSQL's own regression and isolation tests on a Zenith compute: lazy, with three safekeepers. Then what they left behind
 * is looked at after a restart, on a branch, and on branches at three moments of the run.
 *
 *   bun tests/pg_regress/main.ts [--pg-source <dir>] [--storage lazy|eager] [--against-stock]
 *
 * Fails when a test gives another result than on a stock server, but for those in differences.ts.
 * What a stock server gives is what the tests expect; with `--against-stock` it is what they find on
 * one: that is for the tests of another minor than the server's. $ZENITH_TEST_PG_VERSION names the
 * major.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { parseStorageChoice } from "../../src/compute/storage.ts";
import { makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { ZENITH_SUPERUSER } from "../../src/pg_install/initdb.ts";
import { addSettings, branchAt, durableLsn } from "../harness/branching.ts";
import {
  runIsolationTests,
  runRegressionTests,
  type SuiteOptions,
  type SuiteResult,
} from "../harness/postgres_suites.ts";
import { amcheck } from "../harness/programs.ts";
import { freePort } from "../harness/ports.ts";
import { StockCluster } from "../harness/stock_cluster.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";
import {
  ISOLATION_DIFFERENCES,
  type KnownDifferences,
  REGRESSION_DIFFERENCES,
  unexpected,
} from "./differences.ts";
import { dump, firstDifference, withoutSequencePositions } from "./dumps.ts";
import { testPostgres } from "../harness/postgres_major.ts";

const { values: options } = parseArgs({
  options: {
    "pg-source": { type: "string" },
    storage: { type: "string", default: "lazy" },
    "against-stock": { type: "boolean", default: false },
  },
});

const DATABASE = "regression";
const DATABASES = [DATABASE, "isolation_regression"];
/** What the tests ask of a server beyond its defaults: prepared transactions. */
const SETTINGS = ["max_prepared_transactions = 10"];
/** A branch is made of the moment at which so many regression tests have ended. */
const MOMENTS = [50, 120, 190];
const MIB = 1 << 20;

let failures = 0;

/** One thing that succeeds or fails; what comes after it goes on in any case. */
async function step(what: string, run: () => Promise<string | void>): Promise<void> {
  const started = performance.now();
  try {
    const said = await run();
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    console.log(`ok      ${what}${said === undefined ? "" : `: ${said}`} (${seconds} s)`);
  } catch (error) {
    failures++;
    console.log(`FAILED  ${what}: ${error instanceof Error ? error.message : error}`);
  }
}

function judge(result: SuiteResult, known: KnownDifferences): string {
  const complaints = unexpected(result, known);
  if (complaints.length > 0) throw new Error(complaints.join("\n"));
  const { tests } = result;
  const passed = tests.filter((test) => test.passed).length;
  const differing = Object.keys(known).length;
  return `${passed} of ${tests.length} as on a stock server` +
    (differing === 0 ? "" : `, ${differing} with a known difference`);
}

function assertSameDump(one: string, other: string): void {
  const difference = firstDifference(one, other);
  if (difference !== undefined) throw new Error(difference);
}

function mib(text: string): string {
  return `${(text.length / MIB).toFixed(1)} MiB`;
}

/** Prepared transactions outlive their session, hold their locks, and would keep pg_dump waiting. */
async function rollbackPrepared(pg: Compute): Promise<number> {
  const prepared = await pg.query("SELECT gid, database FROM pg_prepared_xacts");
  for (const { gid, database } of prepared) {
    await pg.query(`ROLLBACK PREPARED '${gid}'`, { database: String(database) });
  }
  return prepared.length;
}

interface Known {
  readonly regression: KnownDifferences;
  readonly isolation: KnownDifferences;
}

/** Where a stock server of this version gives something else than the tests expect. */
async function differencesOfStock(suite: SuiteOptions): Promise<Known> {
  await using stock = await StockCluster.start({
    tcpPort: await freePort(),
    settings: { max_prepared_transactions: "10" },
  });
  const server = {
    install: stock.install,
    dir: join(stock.directory, "tests"),
    host: "127.0.0.1",
    port: stock.port,
    superuser: "postgres",
  };
  makeOwnedDirectory(server.dir, pgUser());
  const of = (suiteName: string, { tests, differences }: SuiteResult): KnownDifferences => {
    const failed = tests.filter(({ passed }) => !passed).map(({ name }) => name);
    console.log(`stock   ${suiteName}: ${failed.length} of ${tests.length} differ: ${failed.join(", ")}`);
    return Object.fromEntries(
      failed.map((name) => {
        const lines = differences.get(name) ?? [];
        return [name, { why: "a stock server differs", lines, anyOids: true }];
      }),
    );
  };
  return {
    regression: of("regression tests", await runRegressionTests(server, suite)),
    isolation: of("isolation tests", await runIsolationTests(server, suite)),
  };
}

async function main(): Promise<void> {
  const { version, distribDir } = testPostgres();
  console.log(`PostgreSQL ${version} from ${distribDir}`);
  await using env = await ZenithEnv.create({
    safekeepers: 3,
    storage: parseStorageChoice(options.storage),
  });
  const pg = await env.createCompute("main");
  addSettings(pg, ...SETTINGS);
  await pg.start();

  const server = {
    install: testPostgres(),
    dir: `${env.dir}/tests`,
    host: pg.address.host,
    port: pg.address.port,
    superuser: ZENITH_SUPERUSER,
    password: pg.password,
  };
  makeOwnedDirectory(server.dir, pgUser());
  const suite = { sourceDir: options["pg-source"] };
  const known = options["against-stock"]
    ? await differencesOfStock(suite)
    : { regression: REGRESSION_DIFFERENCES, isolation: ISOLATION_DIFFERENCES };

  const moments: { tests: number; lsn: Promise<string> }[] = [];
  const onProgress = (tests: number) => {
    if (MOMENTS.includes(tests)) moments.push({ tests, lsn: durableLsn(pg) });
  };
  await step("regression tests", async () => {
    return judge(await runRegressionTests(server, { ...suite, onProgress }), known.regression);
  });
  await step("isolation tests", async () => {
    return judge(await runIsolationTests(server, suite), known.isolation);
  });

  let before = "";
  let after = "";
  await step("the database is dumped", async () => {
    // A start from WAL empties unlogged tables, as after a crash of a stock server.
    before = await dump(pg, DATABASE, ["--no-unlogged-table-data"]);
    return mib(before);
  });
  await step("after a restart the dump is the same, but for sequences", async () => {
    await pg.restart();
    after = await dump(pg, DATABASE);
    const logged = await dump(pg, DATABASE, ["--no-unlogged-table-data"]);
    assertSameDump(withoutSequencePositions(before), withoutSequencePositions(logged));
  });
  await step("a branch has the same dump, byte for byte", async () => {
    const branch = await branchAt(env, pg, "end", await durableLsn(pg), SETTINGS);
    assertSameDump(after, await dump(branch, DATABASE));
    await amcheck(branch, DATABASES);
    await branch.stop();
    return `pg_amcheck finds nothing wrong there`;
  });
  await step("pg_amcheck finds nothing wrong on the parent", () => amcheck(pg, DATABASES));

  await step("moments of the run were noted", () => {
    assert.equal(moments.length, MOMENTS.length);
    return Promise.resolve();
  });
  for (const { tests, lsn } of moments) {
    await step(`a branch of the moment after ${tests} tests starts, is dumped, and is sound`, async () => {
      const branch = await branchAt(env, pg, `after_${tests}`, await lsn, SETTINGS);
      const prepared = await rollbackPrepared(branch);
      const text = await dump(branch, DATABASE);
      await amcheck(branch, [DATABASE]);
      await branch.stop();
      return `LSN ${await lsn}, ${mib(text)}, ${prepared} prepared transactions rolled back`;
    });
  }
  console.log(failures === 0 ? "passed" : `${failures} failed`);
  process.exitCode = failures === 0 ? 0 : 1;
}

await main();
