/**
 * The whole of a data directory: what the page server makes of a history's WAL against what stock recovery makes of it on
 * the same base, file by file and byte by byte.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, cpSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { formatLsn } from "../../src/common/lsn.ts";
import { postgresEnvironment } from "../../src/pg_install/initdb.ts";
import { asUser, chownRecursive, pgUser } from "../../src/pg_install/pg_user.ts";
import { CONTROL_FILE_PATH, parseControlFile } from "../../src/postgres/control_file.ts";
import { pgVersion } from "../../src/postgres/versions/find_version.ts";
import { BLCKSZ } from "../../src/postgres/cluster/page_layout.ts";
import { pageChecksum, storedPageChecksum } from "../../src/postgres/cluster/page_checksum.ts";
import { FSM_FORKNUM, MAIN_FORKNUM, parseRelationPath } from "../../src/postgres/cluster/relfile.ts";
import { forMajor } from "../conformance/schedules.ts";
import { addSettings } from "../harness/branching.ts";
import { unpackBranch } from "../harness/stock_copy.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";
import { clientProgram, TEST_PG_MAJOR, testPostgres } from "../harness/postgres_major.ts";

let env: ZenithEnv;

before(async () => {
  // The files are compared as they lie in a stopped data directory: a lazy one has none there.
  env = await ZenithEnv.create({ storage: "eager" });
});
after(() => env[Symbol.asyncDispose]());

const { binDir } = testPostgres();
const PG = pgVersion(TEST_PG_MAJOR);

/** What recovery needs at least as large as where the WAL was written. */
const SETTINGS = ["wal_level = logical", "max_prepared_transactions = 10", "track_commit_timestamp = on"];

// Redo of one record depends on whether hint bits are logged: 18 does so for its data checksums,
// 16 because of this, others don't.
const MAJOR_THAT_LOGS_HINTS = 16;
if (TEST_PG_MAJOR === MAJOR_THAT_LOGS_HINTS) SETTINGS.push("wal_log_hints = on");

/** Workloads of the conformance suite: every access method, in the shapes that make every type of record. */
const WORKLOADS = [
  "heap",
  "btree",
  "sequence",
  "hash",
  "gin",
  "gist",
  "spgist",
  "brin",
  "generic",
  "transactions",
];

/** What no relation block tells: databases, maps, prepared transactions, multixacts, files that come and go. */
const OTHERS = `
  SET client_min_messages = warning;
  CREATE TABLE kept AS SELECT g AS i, md5(g::text) AS t FROM generate_series(1, 3000) g;
  CREATE DATABASE wal_copy TEMPLATE template0 STRATEGY = wal_log;
  CREATE DATABASE file_copy TEMPLATE template0 STRATEGY = file_copy;
  CREATE DATABASE dropped;
  DROP DATABASE dropped;
  CREATE TABLE gone AS SELECT generate_series(1, 1000) i;
  DROP TABLE gone;
  BEGIN; CREATE TABLE never AS SELECT generate_series(1, 1000) i; ROLLBACK;
  CREATE UNLOGGED TABLE unlogged (i int PRIMARY KEY);
  INSERT INTO unlogged SELECT generate_series(1, 100);
  CREATE TABLE cut AS SELECT g AS i, repeat('x', 500) AS t FROM generate_series(1, 2000) g;
  DELETE FROM cut WHERE i > 100;
  VACUUM cut;
  INSERT INTO cut SELECT g, repeat('y', 500) FROM generate_series(1, 500) g;
  SELECT lo_from_bytea(0, decode(repeat('ab', 10000), 'hex'));
  BEGIN; INSERT INTO kept VALUES (-1, 'prepared'); PREPARE TRANSACTION 'left prepared';
  BEGIN; SAVEPOINT s; INSERT INTO kept VALUES (-2, 'decided'); RELEASE s; PREPARE TRANSACTION 'decided';
  COMMIT PREPARED 'decided';
  BEGIN; SELECT * FROM kept WHERE i < 10 FOR SHARE; SAVEPOINT s; SELECT * FROM kept WHERE i < 10 FOR NO KEY UPDATE; COMMIT;
  VACUUM FULL pg_class;
  VACUUM FULL pg_database;
  VACUUM (FREEZE);
`;

function psql(pg: Compute, ...args: string[]): void {
  const done = spawnSync(clientProgram("psql"), [
    "-XqtA",
    "-v",
    "ON_ERROR_STOP=1",
    ...args,
  ], {
    env: { ...postgresEnvironment(), ...pg.libpq },
    stdio: ["ignore", "ignore", "pipe"],
    encoding: "utf8",
  });
  assert.equal(done.status, 0, `psql ${args.join(" ")}: ${done.stderr}`);
}

/** Stock recovery of `directory` up to its last record, the shutdown checkpoint at `checkpoint`, and no further. */
function recover(directory: string, checkpoint: string): void {
  const log = join(env.dir, "recovery.log");
  appendFileSync(
    join(directory, "postgresql.conf"),
    [
      ...SETTINGS,
      "listen_addresses = ''",
      `unix_socket_directories = '${directory}'`,
      "hot_standby = off",
      "restore_command = 'false'",
      `recovery_target_lsn = '${checkpoint}'`,
      "recovery_target_action = shutdown",
      "",
    ].join("\n"),
  );
  writeFileSync(join(directory, "recovery.signal"), "");
  writeFileSync(join(directory, "pg_hba.conf"), "local all all reject\n");
  writeFileSync(join(directory, "pg_ident.conf"), "");
  chownRecursive(directory, pgUser());
  const done = spawnSync(join(binDir, "postgres"), ["-D", directory], {
    ...asUser(pgUser()),
    cwd: directory,
    env: postgresEnvironment(),
    stdio: ["ignore", "pipe", "pipe"],
    encoding: "utf8",
  });
  writeFileSync(log, done.stdout + done.stderr);
  assert.match(done.stderr, /recovery stopping after WAL location/, done.stderr);
  assert.match(done.stderr, /database system is shut down/, done.stderr);
}

/** Directories whose files are the history's; the rest is a server's own. */
const COMPARED = ["base", "global", "pg_xact", "pg_multixact", "pg_commit_ts", "pg_twophase", "pg_tblspc"];

/** Written by every server for itself: the control file, and a cache of the catalog. */
const OWN_FILES = /(?:^|\/)(?:pg_control|pg_internal\.init)$/;

function filesBelow(directory: string): Set<string> {
  const found = new Set<string>();
  for (const top of COMPARED) {
    for (const name of readdirSync(join(directory, top), { recursive: true, encoding: "utf8" })) {
      const path = join(top, name);
      if (statSync(join(directory, path)).isFile() && !OWN_FILES.test(path)) found.add(path);
    }
  }
  return found;
}

/** Neither is logged: free space maps, and what unlogged relations hold besides their init forks. */
function isOutsideHistory(path: string, files: Set<string>): boolean {
  const relation = parseRelationPath(PG, path);
  if (relation === undefined) return false;
  if (relation.forkNum === FSM_FORKNUM) return true;
  return relation.forkNum === MAIN_FORKNUM && files.has(`${path.replace(/\.\d+$/, "")}_init`);
}

interface Difference {
  readonly path: string;
  readonly what: string;
}

// GISTPageOpaqueData at the end of a page, src/include/access/gist.h
const GIST_FLAGS = 8188;
const GIST_PAGE_ID = 8190;
const GIST_PAGE_ID_VALUE = 0xff81;
const F_TUPLES_DELETED = 1 << 2;

const PD_CHECKSUM = 8;

/**
 * Some minor versions of PostgreSQL set F_TUPLES_DELETED, others don't, and in those that do primary and standby differ: the redo of
 * gistprunepage's record sets it, gistprunepage does not. Nothing reads it.
 */
function clearTuplesDeleted(page: Uint8Array): Uint8Array {
  // Not by slice: that of a Buffer is the same memory.
  const copy = new Uint8Array(page);
  if ((copy[GIST_PAGE_ID] | (copy[GIST_PAGE_ID + 1] << 8)) === GIST_PAGE_ID_VALUE) {
    copy[GIST_FLAGS] &= ~F_TUPLES_DELETED;
  }
  return copy;
}

/** What is wrong with a page's checksum, if anything is. */
function checksumFault(page: Uint8Array, block: number, whose: string): string[] {
  if (page.every((byte) => byte === 0)) return [];
  const [stored, expected] = [storedPageChecksum(page), pageChecksum(page, block)];
  if (stored === expected) return [];
  return [`block ${block}, ${whose}: its checksum is ${stored}, of what it holds ${expected}`];
}

/**
 * @param checksums whether the file has pages, and those have checksums: each side's must be right,
 * and are not compared
 */
function compareFiles(path: string, stock: Uint8Array, ours: Uint8Array, checksums: boolean): Difference[] {
  if (stock.length !== ours.length) {
    return [{ path, what: `stock recovery has ${stock.length} bytes, the page server ${ours.length}` }];
  }
  const differences: Difference[] = [];
  for (let at = 0; at < stock.length; at += BLCKSZ) {
    const a = clearTuplesDeleted(stock.subarray(at, at + BLCKSZ));
    const b = clearTuplesDeleted(ours.subarray(at, at + BLCKSZ));
    if (checksums) {
      for (
        const what of [
          ...checksumFault(stock.subarray(at, at + BLCKSZ), at / BLCKSZ, "stock"),
          ...checksumFault(ours.subarray(at, at + BLCKSZ), at / BLCKSZ, "ours"),
        ]
      ) differences.push({ path, what });
      // The flag that is cleared goes into it.
      a.fill(0, PD_CHECKSUM, PD_CHECKSUM + 2);
      b.fill(0, PD_CHECKSUM, PD_CHECKSUM + 2);
    }
    if (Buffer.compare(a, b) === 0) continue;
    const bytes: string[] = [];
    for (let i = 0; i < a.length && bytes.length < 12; i++) {
      if (a[i] !== b[i]) bytes.push(`${i}: ${a[i]} ${b[i]}`);
    }
    differences.push({ path, what: `block ${at / BLCKSZ}, byte: stock, ours: ${bytes.join("; ")}` });
  }
  return differences;
}

describe("the whole cluster", () => {
  test("is what stock recovery makes of the same WAL", async () => {
    const pg = await env.createCompute("main");
    addSettings(pg, ...SETTINGS, "wal_keep_size = 10GB", "max_wal_size = 10GB");
    const stock = join(env.dir, "stock");
    await unpackBranch(env, pg.tenant, pg.branch, stock);

    await pg.start();
    for (const workload of WORKLOADS) {
      await pg.query(`CREATE DATABASE ${workload}`);
      const script = readFileSync(
        join(import.meta.dirname, "../conformance/workload", `${workload}.sql`),
        "utf8",
      );
      const file = join(env.dir, `${workload}.sql`);
      writeFileSync(file, forMajor(TEST_PG_MAJOR, script));
      psql(pg, "-d", workload, "-f", file);
    }
    await pg.query("CHECKPOINT");
    const others = join(env.dir, "others.sql");
    writeFileSync(others, forMajor(TEST_PG_MAJOR, OTHERS));
    psql(pg, "-d", "postgres", "-f", others);
    await pg.stop();

    const control = parseControlFile(readFileSync(join(pg.paths.pgdata, CONTROL_FILE_PATH)));
    cpSync(join(pg.paths.pgdata, "pg_wal"), join(stock, "pg_wal"), { recursive: true });
    recover(stock, formatLsn(control.checkPoint));
    const ours = join(env.dir, "ours");
    await unpackBranch(env, pg.tenant, pg.branch, ours);

    const stockFiles = filesBelow(stock);
    const ourFiles = filesBelow(ours);
    const differences: Difference[] = [];
    const counts = new Map<string, number>();
    for (const path of [...new Set([...stockFiles, ...ourFiles])].sort()) {
      if (isOutsideHistory(path, ourFiles)) continue;
      if (!stockFiles.has(path)) differences.push({ path, what: "only the page server has it" });
      else if (!ourFiles.has(path)) differences.push({ path, what: "only stock recovery has it" });
      else {
        const kind = path.startsWith("base") || path.startsWith("global")
          ? "relation files"
          : path.split("/")[0];
        counts.set(kind, (counts.get(kind) ?? 0) + 1);
        differences.push(
          ...compareFiles(
            path,
            readFileSync(join(stock, path)),
            readFileSync(join(ours, path)),
            control.data_checksum_version !== 0 && parseRelationPath(PG, path) !== undefined,
          ),
        );
      }
    }
    const table = [...counts].map(([kind, files]) => `${files} ${kind}`).join(", ");
    console.log(`compared with stock recovery: ${table}; ${differences.length} differences`);
    assert.deepEqual(differences, []);
    assert.ok(counts.get("relation files")! > 4000);
    for (const kind of ["pg_xact", "pg_multixact", "pg_commit_ts", "pg_twophase"]) {
      assert.ok(counts.get(kind)! > 0, `${kind} holds nothing to compare`);
    }
  });
});
