/** Stock standbys: they follow the safekeepers through everything, and one that follows the compute survives its death. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { asUser, chownRecursive, pgUser } from "../../src/pg_install/pg_user.ts";
import { parseLsn } from "../../src/common/lsn.ts";
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

    test("goes on after it was away, for which the safekeepers keep WAL up to a limit", async () => {
      await using standby = new RestoredBackup(major, main.password);
      await makeStandby(standby);
      await follows(standby, main);
      const from = (await slot()).restart_lsn;
      await standby.stop();
      for (let n = 0; n < 4; n++) {
        await main.query("INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 500) n");
        await main.query("SELECT pg_switch_wal()");
      }
      await settleWal();
      const away = await slot();
      assert.equal(away.active, false);
      assert.ok(away.behind_bytes > 3 * (16 << 20), JSON.stringify(away));
      assert.equal(away.lost, false);
      // The command again gives the slot another limit, and changes nothing else of it.
      await env.zenith("pg", "standby", "main", "--keep-gib", "1");
      assert.deepEqual(await slot(), { ...away, max_bytes: 1 << 30 });
      standby.startAgain();
      await follows(standby, main);
      await until("its slot has moved", async () => parseLsn((await slot()).restart_lsn) > parseLsn(from));
      assert.equal((await slot()).active, true);
      const another = await env.tryZenith("standby", "drop", "main", "standby");
      assert.match(another.stderr, /standby slot standby is in use/);
      await standby.stop();
      // The others have dropped it.
      await env.zenith("pg", "standby", "main", "--keep-gib", "1");
      const [down] = env.safekeepers;
      await down!.stop();
      const listed = await env.tryZenith("standby", "list");
      assert.equal(listed.code, 3);
      assert.match(listed.stdout, /^main +standby .*(away|streaming)$/m);
      assert.match(listed.stderr, /^zenith: what safekeeper 1 keeps is not shown: .*is not running/m);
      const dropped = await env.tryZenith("standby", "drop", "main", "standby");
      assert.deepEqual([dropped.code, dropped.stdout], [3, ""]);
      assert.match(dropped.stderr, /is not running[^]*standby slot standby of branch main dropped at 2 of 3/);
      await down!.start();
      await env.zenith("standby", "drop", "main", "standby");
      assert.equal(await env.zenith("standby", "list", "--json"), "[]\n");
      await settleWal();
      await until("the WAL goes that was kept for it", async () => {
        const [first] = await Promise.all(env.safekeepers.map(async (one) => (await one.status())[0]!));
        return first!.wal_start_lsn! > parseLsn(from);
      });
    });

    async function slot() {
      const listed = JSON.parse(await env.zenith("standby", "list", "--json")) as {
        readonly restart_lsn: string;
        readonly behind_bytes: number;
        readonly max_bytes: number;
        readonly active: boolean;
        readonly lost: boolean;
      }[];
      assert.equal(listed.length, 1);
      return listed[0]!;
    }

    /** Returns when nobody but standbys needs the WAL before the newest segment. */
    async function settleWal(): Promise<void> {
      await using client = env.pageserver.client();
      await using wire = await env.pageserver.connect();
      const branch = (await client.branchList(main.tenant)).find(({ name }) => name === "main")!;
      await until("the page server has it durably", async () => {
        await wire.query(`do_gc ${main.tenant} ${branch.timeline_id} ${2 ** 40}`);
        const found = await Promise.all(env.safekeepers.map(async (one) => (await one.status())[0]!));
        return found.every(({ remote_consistent_lsn, commit_lsn }) =>
          remote_consistent_lsn > commit_lsn - (1 << 20)
        );
      });
    }

    /** Makes a standby that streams from the branch's Postgres. @returns how it would from the safekeepers */
    async function makeStandbyOfCompute(standby: RestoredBackup): Promise<string> {
      await makeStandby(standby);
      const ofSafekeepers = String(await standby.value("SHOW primary_conninfo"));
      await standby.stop();
      const conninfo = `primary_conninfo = '${main.conninfo}'\nprimary_slot_name = ''\n`;
      appendFileSync(join(standby.dataDir, "postgresql.auto.conf"), conninfo);
      standby.startAgain();
      await follows(standby, main);
      return ofSafekeepers;
    }

    /** Commits a row that no safekeeper has. Returns when the standby has it and the compute is dead. */
    async function getAhead(standby: RestoredBackup, n: number, v = "'not acknowledged'"): Promise<void> {
      for (const safekeeper of env.safekeepers) await safekeeper.kill9();
      const waiting = assert.rejects(main.query(`INSERT INTO t VALUES (${n}, ${v})`));
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
      const ofSafekeepers = await makeStandbyOfCompute(standby);
      // So much that the branch does not pass it.
      await getAhead(standby, -3, "(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 90000) g)");
      const aside = `${main.paths.dir}.aside`;
      renameSync(main.paths.dir, aside);
      const elsewhere = await env.createCompute("main");
      await elsewhere.start();
      const follow = (conninfo: string): Promise<unknown> => {
        const file = join(standby.dataDir, "postgresql.auto.conf");
        appendFileSync(file, `primary_conninfo = '${conninfo.replaceAll("'", "''")}'\n`);
        return standby.value("SELECT pg_reload_conf()");
      };
      const told = (): number =>
        standby.log().match(/new timeline 2 forked off .* timeline 1 before current recovery point/g)
          ?.length ?? 0;
      await follow(elsewhere.conninfo);
      await until("it is told by the compute", () => told() > 0);
      await follow(ofSafekeepers);
      const before = told();
      await until("it is told by a safekeeper", () => told() > before + 1);
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
