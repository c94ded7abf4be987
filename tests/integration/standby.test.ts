/** Stock standbys: they follow the safekeepers through everything, and one that follows the compute survives its death. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { asUser, chownRecursive, pgUser } from "../../src/pg_install/pg_user.ts";
import { findPostgres } from "../../src/pg_install/find_postgres.ts";
import { RestoredBackup, streamBackup } from "../harness/restored_backup.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

/** Of this one pg_basebackup is here; of the newest the server's side of it alone. */
const WITH_PROGRAM = 15;
const NEWEST = 18;

const CONTENT = "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM t";

async function follows(standby: RestoredBackup, main: Compute): Promise<void> {
  await main.query("INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 500) n");
  const expected = await main.value(CONTENT);
  await until("the standby has everything", async () => await standby.value(CONTENT) === expected);
}

async function promote(standby: RestoredBackup, main: Compute): Promise<void> {
  const expected = await main.value(CONTENT);
  assert.equal(await standby.value("SELECT pg_promote()"), true, standby.log());
  assert.equal(await standby.value(CONTENT), expected);
  await standby.value("INSERT INTO t VALUES (0, 'promoted') RETURNING n");
  assert.doesNotMatch(standby.log(), /PANIC|invalid resource manager/);
}

for (const major of [WITH_PROGRAM, NEWEST]) {
  describe(`a standby of PostgreSQL ${major}`, () => {
    let env: ZenithEnv;
    let main: Compute;

    before(async () => {
      env = await ZenithEnv.create({ major, safekeepers: 3 });
      main = await env.startCompute("main");
      await main.query("CREATE TABLE t (n int, v text)");
      await main.query("INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 5000) n");
    });
    after(() => env?.[Symbol.asyncDispose]());

    /** Makes a standby by the printed script. Of a major without pg_basebackup, its other lines alone. */
    async function makeStandby(standby: RestoredBackup): Promise<void> {
      const printed = await env.zenith("pg", "standby", "main", "-D", standby.dataDir);
      const lines = printed.split("\n");
      const base = lines.findIndex((line) => /^PGPASSWORD=\S+ pg_basebackup /.test(line));
      if (major !== WITH_PROGRAM) {
        const to = join(standby.directory, "tar");
        await streamBackup(main, to);
        standby.unpackTar(to);
        chownRecursive(standby.dataDir, pgUser());
        lines.splice(base, 1);
      }
      const PATH = `${findPostgres(WITH_PROGRAM).binDir}:/usr/bin:/bin`;
      const done = spawnSync("/bin/sh", ["-e"], {
        ...asUser(pgUser()),
        cwd: standby.directory,
        env: { PATH },
        input: lines.join("\n"),
        encoding: "utf8",
      });
      assert.equal(done.status, 0, done.stderr);
      standby.start("wal_retrieve_retry_interval = 200ms");
    }

    test("follows the safekeepers through kills, stops and starts, and can be promoted", async () => {
      await using standby = new RestoredBackup(major, main.password);
      await makeStandby(standby);
      await follows(standby, main);
      await main.kill9();
      await main.start();
      await follows(standby, main);
      await main.restart();
      await follows(standby, main);
      // It reads from the first that answers.
      await env.safekeepers[0].kill9();
      await follows(standby, main);
      await env.safekeepers[0].start();
      await env.safekeepers[1].kill9();
      await follows(standby, main);
      await env.safekeepers[1].start();
      await promote(standby, main);
    });

    /** Makes a standby that streams from the branch's Postgres. */
    async function makeStandbyOfCompute(standby: RestoredBackup): Promise<void> {
      await makeStandby(standby);
      await standby.stop();
      const conninfo = `primary_conninfo = '${main.conninfo}'\n`;
      appendFileSync(join(standby.dataDir, "postgresql.auto.conf"), conninfo);
      standby.startAgain();
      await follows(standby, main);
    }

    /** Commits a row that no safekeeper has. Returns when the standby has it and the compute is dead. */
    async function getAhead(standby: RestoredBackup, n: number): Promise<void> {
      for (const safekeeper of env.safekeepers) await safekeeper.kill9();
      const waiting = assert.rejects(main.query(`INSERT INTO t VALUES (${n}, 'not acknowledged')`));
      await until("the standby is ahead", async () => {
        return await standby.value(`SELECT count(*)::int FROM t WHERE n = ${n}`) === 1;
      });
      await main.kill9();
      await waiting;
      for (const safekeeper of env.safekeepers) await safekeeper.start();
    }

    const ofCompute = { skip: major === WITH_PROGRAM ? false : "pg_basebackup of 15 takes the base" };
    test(
      "of the compute itself is not left ahead of the branch when the compute is killed",
      ofCompute,
      async () => {
        await using standby = new RestoredBackup(major, main.password);
        await makeStandbyOfCompute(standby);
        await getAhead(standby, -1);
        await main.start();
        assert.equal(await main.value("SELECT count(*)::int FROM t WHERE n = -1"), 1);
        await follows(standby, main);
        await getAhead(standby, -2);
        // A start that is interrupted after its election forgets nothing either.
        const conf = join(main.paths.pgdata, "postgresql.conf");
        const before = readFileSync(conf);
        appendFileSync(conf, "shared_preload_libraries = 'missing'\n");
        assert.match((await env.tryZenith("pg", "start", "main")).stderr, /could not access file "missing"/);
        writeFileSync(conf, before);
        await main.start();
        await follows(standby, main);
        await promote(standby, main);
      },
    );

    test("what a compute has written is given up when another one has written since", ofCompute, async () => {
      await using standby = new RestoredBackup(major, main.password);
      await makeStandbyOfCompute(standby);
      await getAhead(standby, -3);
      const aside = `${main.paths.dir}.aside`;
      renameSync(main.paths.dir, aside);
      const elsewhere = await env.createCompute("main");
      await elsewhere.start();
      await elsewhere.query("INSERT INTO t VALUES (-4, 'elsewhere')");
      await env.zenith("pg", "stop", "main", "--destroy");
      renameSync(aside, main.paths.dir);
      await main.start();
      const rows = await main.query("SELECT n FROM t WHERE n < -2 ORDER BY n");
      assert.deepEqual(rows, [{ n: -4 }]);
      assert.equal(existsSync(main.paths.leftWal), false);
    });
  });
}
