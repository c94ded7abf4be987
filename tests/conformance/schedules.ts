/** What a stock server is made to do: our own workload, PostgreSQL's regression tests, its isolation tests. */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ZenithError } from "../../src/common/errors.ts";
import { asUser, chownRecursive, makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import type { StockCluster } from "./cluster.ts";
import { postgresSource } from "./postgres_source.ts";

export interface Schedule {
  readonly name: string;
  /** More lines for postgresql.conf. */
  readonly settings: string;
  /** Runs to its end on a server that is up; may restart it, and leaves it up. */
  run(cluster: StockCluster): void;
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
 */
export function ownSchedule(only?: string): Schedule {
  return {
    name: "own",
    settings: OWN_SETTINGS,
    run(cluster) {
      for (const file of sqlFiles(WORKLOAD_DIR)) {
        if (only !== undefined && file !== only) continue;
        const database = file.replace(/\.sql$/, "");
        cluster.sql(`CREATE DATABASE ${database}`);
        cluster.sql(readFileSync(join(WORKLOAD_DIR, file), "utf8"), database);
      }
      if (only !== undefined) return;
      runConcurrently(cluster, "concurrent", SECONDS, []);
      moveHorizons(cluster);
      crash(cluster);
    },
  };
}

const CLIENTS = 8;
const SECONDS = 10;

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
 * images too: plain ones, and compressed in every way that PostgreSQL 15 knows.
 */
export function imagesSchedule(): Schedule {
  return {
    name: "images",
    settings: IMAGE_SETTINGS,
    run(cluster) {
      for (const method of ["off", "pglz", "lz4", "zstd"]) {
        reconfigure(cluster, "wal_compression", method);
        const checkpoints = join(WORKLOAD_DIR, "images", "checkpoint.sql");
        runConcurrently(cluster, `images_${method}`, SECONDS / 2, [`${checkpoints}@1`]);
      }
      reconfigure(cluster, "full_page_writes", "off");
      reconfigure(cluster, "full_page_writes", "on");
    },
  };
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

/** PostgreSQL's regression tests, src/test/regress. */
export function regressSchedule(sourceDir?: string): Schedule {
  return {
    name: "regress",
    settings: "",
    run(cluster) {
      const dir = join(postgresSource(sourceDir), "src/test/regress");
      const input = copyInput(cluster, dir, ["sql", "expected", "data", "parallel_schedule", "resultmap"]);
      compileRegressLibrary(dir, join(input, "regress.so"), cluster);
      // Of contrib/spi, which PostgreSQL's own build puts beside it.
      for (const name of ["refint.so", "autoinc.so"]) {
        cpSync(join(cluster.install.distribDir, "lib", name), join(input, name));
      }
      runTests(cluster, "regress/pg_regress", input, [
        "--schedule=parallel_schedule",
        "--max-concurrent-tests=20",
      ]);
    },
  };
}

/** PostgreSQL's isolation tests, src/test/isolation: sessions that get in each other's way, step by step. */
export function isolationSchedule(sourceDir?: string): Schedule {
  return {
    name: "isolation",
    settings: "wal_level = logical\n",
    run(cluster) {
      const dir = join(postgresSource(sourceDir), "src/test/isolation");
      const input = copyInput(cluster, dir, ["specs", "expected", "isolation_schedule"]);
      runTests(cluster, "isolation/pg_isolation_regress", input, ["--schedule=isolation_schedule"]);
    },
  };
}

/** Where the tests read and write: the source tree need not be writable. */
function copyInput(cluster: StockCluster, sourceDir: string, names: readonly string[]): string {
  const input = join(cluster.dir, "tests");
  makeOwnedDirectory(input, pgUser());
  for (const name of names) cpSync(join(sourceDir, name), join(input, name), { recursive: true });
  chownRecursive(input, pgUser());
  return input;
}

function compileRegressLibrary(sourceDir: string, library: string, cluster: StockCluster): void {
  const headers = "/usr/include/postgresql/15/server";
  if (!existsSync(join(headers, "postgres.h"))) {
    throw new ZenithError("not_found", `${headers} has no PostgreSQL headers`, {
      hint: `install postgresql-server-dev-15, the very version ${cluster.install.version} of the server`,
    });
  }
  const args = ["-O2", "-fPIC", "-shared", `-I${headers}`, `-I${sourceDir}`, "-o", library];
  const result = spawnSync("gcc", [...args, join(sourceDir, "regress.c")], { encoding: "utf8" });
  if (result.status !== 0) throw new ZenithError("io", `gcc failed: ${result.error ?? result.stderr}`);
}

/** A test that fails by its output is reported but is no failure of ours: the WAL that it wrote counts. */
function runTests(cluster: StockCluster, program: string, input: string, args: readonly string[]): void {
  const path = join(cluster.install.distribDir, "lib/pgxs/src/test", program);
  if (!existsSync(path)) {
    throw new ZenithError("not_found", `${path} is not installed`, {
      hint: "install postgresql-server-dev-15",
    });
  }
  const connection = [`--host=${cluster.socketDir}`, `--port=${cluster.port}`];
  const files = ["--inputdir=.", "--outputdir=.", "--dlpath=.", `--bindir=${cluster.install.binDir}`];
  const result = spawnSync(path, [...files, ...connection, ...args], {
    ...asUser(pgUser()),
    cwd: input,
    env: cluster.environment,
    encoding: "utf8",
    maxBuffer: 64 << 20,
  });
  const output = result.stdout.split("\n");
  for (const line of output.filter((line) => /FAILED|tests (passed|failed)/.test(line))) console.log(line);
  if (result.status === null || !output.some((line) => /tests? (passed|failed)/.test(line))) {
    throw new ZenithError("io", `${program} did not run: ${result.error ?? result.stderr}`);
  }
}
