/** A branch leaves as a plain cluster: stock PostgreSQL verifies it, starts on it, and has what the branch had. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { TenantId } from "../../src/common/id.ts";
import { postgresEnvironment } from "../../src/pg_install/initdb.ts";
import { zenithCommand } from "../harness/cli.ts";
import { contentOf } from "../harness/production.ts";
import { clientProgram } from "../harness/postgres_major.ts";
import { RestoredBackup } from "../harness/restored_backup.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

/** The major of the client programs. */
const WITH_PROGRAMS = 15;
const NEWEST = 18;

const first = (rows: readonly Record<string, unknown>[]) => rows.map((row) => Object.values(row)[0]);
const contentOfCompute = (pg: Compute) =>
  contentOf(async (database, sql) => first(await pg.query(sql, { database })));
const contentOfCluster = (cluster: RestoredBackup) =>
  contentOf(async (database, sql) => first(await cluster.sql(database).unsafe(sql)));

async function fill(pg: Compute): Promise<void> {
  await pg.query("CREATE TABLE t (n int PRIMARY KEY, v text)");
  await pg.query("INSERT INTO t SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 5000) n");
  await pg.query("CREATE UNLOGGED TABLE u (n int)");
  await pg.query("CREATE SEQUENCE s; SELECT nextval('s') FROM generate_series(1, 40)");
  await pg.query("SELECT lo_from_bytea(0, decode(repeat('ab', 9000), 'hex'))");
  await pg.query("CREATE DATABASE another");
  await pg.query("CREATE TABLE here AS SELECT generate_series(1, 100) n", { database: "another" });
}

describe("an export", () => {
  for (const major of [WITH_PROGRAMS, NEWEST]) {
    test(`of a branch of PostgreSQL ${major} is a cluster with the branch's content and settings`, async () => {
      await using env = await ZenithEnv.create({ safekeepers: 0 });
      const tenant: TenantId = major === env.major ? env.defaultTenant : await env.createTenant(major);
      const pg = await env.startCompute("main", tenant);
      await fill(pg);
      await pg.query("ALTER SYSTEM SET work_mem TO '5MB'");
      const before = await pg.lsn();
      const then = await contentOfCompute(pg);
      await pg.query("DELETE FROM t WHERE n % 2 = 0; DROP TABLE u");
      await pg.query("BEGIN; INSERT INTO t VALUES (-1, 'prepared'); ROLLBACK");
      const now = await contentOfCompute(pg);

      for (const [point, expected] of [["main", now], [`main@${before}`, then]] as const) {
        await using cluster = new RestoredBackup(major, pg.password);
        const told = JSON.parse(
          await env.zenith("export", point, "--to", cluster.dataDir, "--json", "--tenantid", tenant),
        );
        assert.equal(told.pg_version, major);
        assert.ok(told.bytes > 1 << 20);
        if (major === WITH_PROGRAMS) verify(cluster.dataDir);
        cluster.start();
        assert.deepEqual(await contentOfCluster(cluster), expected);
        assert.equal(await cluster.value("SHOW work_mem"), "5MB");
        await cluster.sql("postgres").unsafe("INSERT INTO t VALUES (-2, 'stock')");
        assert.doesNotMatch(cluster.log(), /PANIC|could not|redo starts/);
      }
    });
  }

  test("goes into an empty directory or through a pipe, and leaves nothing when it fails", async () => {
    await using env = await ZenithEnv.create({ safekeepers: 0 });
    const pg = await env.startCompute("main");
    await pg.query("CREATE TABLE t AS SELECT generate_series(1, 1000) n");
    const expected = await contentOfCompute(pg);

    const to = join(env.dir, "piped");
    mkdirSync(to);
    const piped = spawnSync("/bin/sh", [
      "-c",
      `"$@" export main --to - | tar -xC ${to}`,
      "sh",
      ...zenithCommand(),
    ], {
      env: { ...process.env, ZENITH_REPO_DIR: env.repoDir },
      encoding: "utf8",
    });
    assert.equal(piped.status, 0, piped.stderr);
    verify(to);

    const full = join(env.dir, "full");
    mkdirSync(full);
    writeFileSync(join(full, "file"), "");
    assert.match((await env.tryZenith("export", "main", "--to", full)).stderr, /full is not empty/);
    assert.deepEqual(readdirSync(full), ["file"]);
    const none = join(env.dir, "none");
    assert.match((await env.tryZenith("export", "nobody", "--to", none)).stderr, /no branch nobody/);
    assert.match((await env.tryZenith("export", "main@0/1", "--to", none)).stderr, /before the beginning/);
    assert.ok(!existsSync(none));

    // What has left comes back.
    const directory = join(env.dir, "out");
    await env.zenith("export", "main", "--to", directory);
    const back = JSON.parse(await env.zenith("import", directory, "--json"));
    const again = await env.startCompute("main", back.tenant_id);
    assert.deepEqual(await contentOfCompute(again), expected);
  });
});

function verify(directory: string): void {
  const done = spawnSync(clientProgram("pg_verifybackup"), [directory], {
    env: postgresEnvironment(),
    encoding: "utf8",
  });
  assert.equal(done.status, 0, done.stderr);
}
