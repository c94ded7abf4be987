/** What a stock server is made to do: our own workload, PostgreSQL's regression tests, its isolation tests. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  runIsolationTests,
  runRegressionTests,
  type SuiteResult,
  type TestedServer,
} from "../harness/postgres_suites.ts";
import { type StockCluster, SUPERUSER } from "./cluster.ts";

export interface Schedule {
  readonly name: string;
  /** More lines for postgresql.conf. */
  readonly settings: string;
  /**
   * Runs to its end on a server that is up; may restart it, and leaves it up.
   *
   * @param pause called between the parts, while nothing else is running: the WAL so far can be checked, and goes then
   */
  run(cluster: StockCluster, pause: () => void): void | Promise<void>;
}

const WORKLOAD_DIR = join(import.meta.dirname, "workload");

/** Logical decoding and commit timestamps bring record types of their own. */
const OWN_SETTINGS = `
wal_level = logical
track_commit_timestamp = on
`;

/**
 * Every workload/*.sql in a database of its own, then workload/concurrent/*.sql, each by several pgbench clients at once,
 * then a crash.
 *
 * @param only the name of one file to run instead of all
 * @param seconds how long the concurrent part runs
 */
export function ownSchedule(only?: string, seconds = SECONDS): Schedule {
  return {
    name: "own",
    settings: OWN_SETTINGS,
    run(cluster, pause) {
      for (const file of sqlFiles(WORKLOAD_DIR)) {
        if (only !== undefined && file !== only) continue;
        const database = file.replace(/\.sql$/, "");
        cluster.sql(`CREATE DATABASE ${database}`);
        cluster.sql(forMajor(cluster.pg.major, readFileSync(join(WORKLOAD_DIR, file), "utf8")), database);
        pause();
      }
      if (only !== undefined) return;
      runConcurrently(cluster, "concurrent", seconds, []);
      pause();
      moveHorizons(cluster);
      crash(cluster);
    },
  };
}

/** What the workload says in the words of 15 and later, for 14: CREATE DATABASE copies files there, backups have other names. */
const WORDS_OF_14: readonly (readonly [RegExp, string])[] = [
  [/ STRATEGY = \w+/g, ""],
  [/pg_backup_start\((.*)\)/g, "pg_start_backup($1, false)"],
  [/pg_backup_stop\(/g, "pg_stop_backup(false, "],
];

/** A script of the workload as that major understands it. */
export function forMajor(major: number, script: string): string {
  if (major >= 15) return script;
  return WORDS_OF_14.reduce((text, [word, before]) => text.replaceAll(word, before), script);
}

const CLIENTS = 8;
export const SECONDS = 10;

/** Makes `database` and runs workload/concurrent there. `more` are further scripts, with pgbench's `@weight`. */
function runConcurrently(
  cluster: StockCluster,
  database: string,
  seconds: number,
  more: readonly string[],
): void {
  const dir = join(WORKLOAD_DIR, "concurrent");
  cluster.sql(`CREATE DATABASE ${database}`);
  cluster.sql(readFileSync(join(dir, "setup.sql"), "utf8"), database);
  const files = sqlFiles(dir).filter((file) => file !== "setup.sql");
  const scripts = files.map((file) => `${join(dir, file)}@100`);
  cluster.run("pgbench", [
    "--no-vacuum",
    `--client=${CLIENTS}`,
    `--time=${seconds}`,
    "--max-tries=10",
    ...[...scripts, ...more].flatMap((script) => ["-f", script]),
    database,
  ]);
}

/** Enough transactions for a new page of the commit log, and a freeze of everything, after which old ones can go. */
function moveHorizons(cluster: StockCluster): void {
  cluster.sql(`
    DO $$ BEGIN FOR i IN 1..70000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$;
    ALTER DATABASE template0 ALLOW_CONNECTIONS true;
  `);
  cluster.run("vacuumdb", ["--all", "--freeze", "--quiet"]);
}

/** A crash in the middle of things: what recovery itself logs. */
function crash(cluster: StockCluster): void {
  cluster.sql("CREATE TABLE before_crash AS SELECT generate_series(1, 1000) AS i");
  cluster.stop("immediate");
  cluster.start();
  cluster.sql("INSERT INTO before_crash SELECT generate_series(1, 1000)");
}

const IMAGE_SETTINGS = `
full_page_writes = on
wal_log_hints = on
`;

/**
 * The concurrent workload with full-page writes, images for hint bits and checkpoints all the time, so that pages come as
 * images too: plain ones, and compressed in every way that this build of PostgreSQL knows.
 */
export function imagesSchedule(): Schedule {
  return {
    name: "images",
    settings: IMAGE_SETTINGS,
    run(cluster, pause) {
      for (const method of compressionMethods(cluster)) {
        reconfigure(cluster, "wal_compression", method);
        const checkpoints = join(WORKLOAD_DIR, "images", "checkpoint.sql");
        runConcurrently(cluster, `images_${method}`, SECONDS / 2, [`${checkpoints}@1`]);
        pause();
      }
      reconfigure(cluster, "full_page_writes", "off");
      reconfigure(cluster, "full_page_writes", "on");
    },
  };
}

/** Values of wal_compression: "on" is another name for pglz, but where it is a boolean, before PostgreSQL 15. */
function compressionMethods(cluster: StockCluster): string[] {
  if (cluster.pg.major < 15) return ["off", "on"];
  const values = cluster.sql(
    "SELECT unnest(enumvals) FROM pg_settings WHERE name = 'wal_compression'",
  );
  return values.trim().split("\n").filter((value) => value !== "on");
}

function reconfigure(cluster: StockCluster, setting: string, value: string): void {
  cluster.sql(`ALTER SYSTEM SET ${setting} = '${value}'`);
  cluster.sql("SELECT pg_reload_conf()");
  // The checkpointer logs a change of full_page_writes when it has read it, at the latest with a checkpoint.
  cluster.sql("CHECKPOINT");
}

function sqlFiles(dir: string): string[] {
  return readdirSync(dir).filter((file) => file.endsWith(".sql")).sort();
}

/** PostgreSQL's regression tests. */
export function regressSchedule(sourceDir?: string): Schedule {
  return {
    name: "regress",
    settings: "",
    run: async (cluster) => report(await runRegressionTests(tested(cluster), { sourceDir })),
  };
}

/** PostgreSQL's isolation tests. */
export function isolationSchedule(sourceDir?: string): Schedule {
  return {
    name: "isolation",
    settings: "wal_level = logical\n",
    run: async (cluster) => report(await runIsolationTests(tested(cluster), { sourceDir })),
  };
}

function tested({ install, dir, socketDir, port }: StockCluster): TestedServer {
  return { install, dir, host: socketDir, port, superuser: SUPERUSER };
}

/** A test that fails by its output is reported but is no failure of ours: the WAL that it wrote counts. */
function report({ tests }: SuiteResult): void {
  const failed = tests.filter((test) => !test.passed);
  console.log(`${tests.length - failed.length} of ${tests.length} tests passed`);
  for (const { name } of failed) console.log(`${name} FAILED`);
}
