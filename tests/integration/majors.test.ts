/**
 * Tenants of every major that is here, side by side on one page server: each works, branches, goes back in time, and has what it
 * acknowledged after everything was killed.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { POSTGRES_MAJORS } from "../../src/common/postgres_major.ts";
import type { TenantId } from "../../src/common/id.ts";
import { findAllPostgres } from "../../src/pg_install/find_postgres.ts";
import { checkPidFile } from "../../src/process/pid_file.ts";
import { amcheck } from "../harness/programs.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

const ROWS = 5_000;
const COMMITS = 20;
/** Data checksums are initdb's default from here on. */
const CHECKSUMS_FROM = 18;

/** Slots can be given up for being idle from here on. */
const IDLE_SLOT_TIMEOUT_FROM = 18;

const CONTENT = "SELECT count(*) || ' ' || sum(hashtext(t::text)) FROM things t";

const here = new Set(findAllPostgres().map(({ major }) => major));

let env: ZenithEnv;

before(async () => {
  env = await ZenithEnv.create({ safekeepers: 1 });
});
after(() => env[Symbol.asyncDispose]());

/** Every access method, TOAST, sequences, subtransactions, multixacts, and a file that grows by many blocks at once. */
async function work(pg: Compute): Promise<void> {
  await using session = await pg.connect();
  await session.query("CREATE EXTENSION amcheck");
  await session.query(
    "CREATE TABLE things (id serial PRIMARY KEY, tags int[], place point, word text, filler text)",
  );
  await session.query("CREATE INDEX ON things USING gin (tags)");
  await session.query("CREATE INDEX ON things USING gist (place)");
  await session.query("CREATE INDEX ON things USING spgist (word)");
  await session.query("CREATE INDEX ON things USING hash (word)");
  await session.query("CREATE INDEX ON things USING brin (id)");
  await session.query(`
    INSERT INTO things (tags, place, word, filler)
    SELECT ARRAY[n % 10, n % 7], point(n, n % 100), md5(n::text), repeat(md5(n::text), CASE WHEN n % 500 = 0 THEN 300 ELSE 3 END)
    FROM generate_series(1, ${ROWS}) n`);
  await session.query(
    "BEGIN; SAVEPOINT s; UPDATE things SET word = 'sub' WHERE id % 50 = 0; RELEASE s; COMMIT",
  );
  await session.query(
    "BEGIN; SELECT 1 FROM things WHERE id < 10 FOR SHARE; SAVEPOINT s; SELECT 1 FROM things WHERE id < 10 FOR NO KEY UPDATE; COMMIT",
  );
  await session.query("DELETE FROM things WHERE id % 3 = 0");
  await session.query("VACUUM (FREEZE) things");
  await session.query("INSERT INTO things (word) SELECT 'again' FROM generate_series(1, 500)");
  await session.query("CREATE DATABASE another");
}

/** Commits one row after the other until its connection breaks. */
async function writeUntilLost(pg: Compute, acknowledged: { count: number }): Promise<void> {
  await using session = await pg.connect();
  for (;;) {
    try {
      await session.query("INSERT INTO log DEFAULT VALUES");
      acknowledged.count++;
    } catch {
      return;
    }
  }
}

for (const major of POSTGRES_MAJORS) {
  describe(`a tenant on PostgreSQL ${major}`, {
    skip: here.has(major) ? false : `there is no PostgreSQL ${major}: "npm run postgres" fetches it`,
  }, () => {
    let tenant: TenantId;
    let main: Compute;
    let lsn: string;
    let content: unknown;

    before(async () => {
      tenant = await env.createTenant(major);
      main = await env.startCompute("main", tenant);
    });

    test("is made and started as such, with initdb's default of data checksums", async () => {
      const version = Number(await main.value("SHOW server_version_num"));
      assert.equal(Math.floor(version / 10_000), major);
      assert.equal(await main.value("SHOW data_checksums"), major >= CHECKSUMS_FROM ? "on" : "off");
      const listed = await env.zenith("tenant", "list", "--long");
      assert.match(listed, new RegExp(`^${tenant} +${major}`, "m"));
    });

    test("never gives up the slot of whoever makes commits durable, whatever is configured", async () => {
      const limits: readonly (readonly [string, string, string])[] = [
        ["max_slot_wal_keep_size", "16MB", "-1"],
        ...(major < IDLE_SLOT_TIMEOUT_FROM ? [] : [["idle_replication_slot_timeout", "1min", "0"] as const]),
      ];
      for (const [name, value] of limits) await main.query(`ALTER SYSTEM SET ${name} = '${value}'`);
      await main.restart();
      for (const [name, , forced] of limits) assert.equal(await main.value(`SHOW ${name}`), forced);
    });

    test("has branches of its past, which inherit the major, lazy and eager", async () => {
      await work(main);
      content = await main.value(CONTENT);
      lsn = String(await main.value("SELECT pg_current_wal_insert_lsn()"));
      await main.query("UPDATE things SET word = 'later'");
      await main.query("VACUUM things");
      await env.branch("before", `main@${lsn}`, tenant);
      const branch = await env.startCompute("before", tenant);
      assert.equal(await branch.value(CONTENT), content);
      await amcheck(branch, ["postgres", "another"]);
      await branch.stop();
      await env.zenith("pg", "start", "before", "--tenantid", tenant, "--storage", "eager");
      // A page with a wrong checksum would be an error.
      assert.equal(await branch.value(CONTENT), content);
      await amcheck(branch, ["postgres", "another"]);
      await branch.stop();
    });

    test("can be looked at as it was", async () => {
      await main.stop();
      await env.zenith("pg", "start", "main", "--tenantid", tenant, "--lsn", lsn);
      assert.equal(await main.value(CONTENT), content);
      await main.stop();
      await main.start();
      assert.equal(await main.value("SELECT count(*) FROM things WHERE word <> 'later'"), "0");
    });

    test("has what it acknowledged when supervisor, safekeeper and page server were killed at once", async () => {
      await main.query("CREATE TABLE log (n serial PRIMARY KEY)");
      const acknowledged = { count: 0 };
      const writing = writeUntilLost(main, acknowledged);
      await until("it has committed", () => acknowledged.count >= COMMITS);
      const supervisor = checkPidFile(main.paths.pidFile);
      assert.ok(supervisor.state === "running");
      process.kill(supervisor.process.pid, "SIGKILL");
      await Promise.all([env.safekeepers[0].kill9(), env.pageserver.kill9()]);
      await writing;
      await env.zenith("start");
      const found = Number(await main.value("SELECT count(*) FROM log"));
      assert.ok(
        found === acknowledged.count || found === acknowledged.count + 1,
        `${found} of ${acknowledged.count}`,
      );
      await amcheck(main, ["postgres"]);
      await main.stop();
    });
  });
}

describe("majors", () => {
  test("that Zenith does not run are refused by name", async () => {
    const refused = await env.tryZenith("tenant", "create", "--pg-version", "13");
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /--pg-version is "13": expected 14, 15, 16, 17 or 18/);
    await using wire = await env.pageserver.connect();
    await assert.rejects(
      wire.query(`tenant_create ${"ab".repeat(16)} pg_version=13`),
      /pg_version is "13": expected 14, 15, 16, 17 or 18/,
    );
  });
});
