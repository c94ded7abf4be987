/** Who gets into a compute: with its password whoever has that, and its supervisor whatever the branch's files say. */
import assert from "node:assert/strict";
import { lstatSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { TEST_PG_MAJOR } from "../harness/postgres_major.ts";
import { Connection } from "../harness/connection.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

/** As earlier versions made it. */
const TRUSTING =
  "local all all trust\nhost all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n";

// Before 16, the branch's files are copied; from then on they are included. The page server connects by TCP.
for (
  const { major, safekeepers } of [{ major: TEST_PG_MAJOR, safekeepers: 1 }, { major: 18, safekeepers: 0 }]
) {
  describe(`PostgreSQL ${major} with ${safekeepers} safekeepers`, () => {
    let env: ZenithEnv;
    let main: Compute;

    before(async () => {
      env = await ZenithEnv.create({ major, safekeepers });
      main = await env.startCompute("main");
      await main.query("CREATE TABLE t (n int)");
    });
    after(() => env?.[Symbol.asyncDispose]());

    const hba = (pg: Compute): string => join(pg.paths.pgdata, "pg_hba.conf");
    const commit = (pg: Compute) => pg.query("INSERT INTO t VALUES (1)");

    /** Reads it until the rules are in force: a copy is made within a second. */
    async function untilRefused(pg: Compute, reason: RegExp): Promise<void> {
      await until(`connections are refused: ${reason}`, async () => {
        try {
          await pg.value("SELECT pg_reload_conf()");
          return false;
        } catch (error) {
          assert.match(String(error), reason);
          return true;
        }
      });
    }

    test("a password is asked for, and is in a file that only its owner reads", async () => {
      await using session = await Connection.openUri(await env.zenith("uri"));
      assert.equal(await session.value("SELECT 1"), 1);
      await assert.rejects(main.connect({ password: "guessed" }), /password authentication failed/);
      await assert.rejects(Connection.open(main.address), /password/);
      assert.equal(lstatSync(main.paths.pgpass).mode & 0o777, 0o600);
      assert.equal(lstatSync(main.paths.socketDir).mode & 0o777, 0o700);
    });

    test("the branch's rules lock everybody out but the supervisor, who makes commits durable", async () => {
      await using session = await main.connect();
      const own = readFileSync(hba(main), "utf8");
      writeFileSync(
        hba(main),
        "local all all reject\nhost all all all reject\nhost replication all all reject\n",
      );
      await untilRefused(main, /pg_hba.conf rejects connection/);
      await session.query("SELECT pg_terminate_backend(pid) FROM pg_stat_replication");
      await session.query("INSERT INTO t VALUES (1)");
      await session.close();
      await main.restart();
      await untilRefused(main, /pg_hba.conf rejects connection/);
      writeFileSync(hba(main), own);
      await main.restart();
      await commit(main);
    });

    test("the owner does what a database's owner does, and gets neither to files nor to other rights", async () => {
      const owner = { user: "zenith_owner" };
      await using session = await main.connect(owner);
      await session.query("CREATE SCHEMA shop; CREATE TABLE shop.t AS SELECT 1 AS n");
      await session.query("INSERT INTO public.t VALUES (2)");
      await session.query("CREATE EXTENSION pg_trgm");
      await session.query("CREATE DATABASE shop");
      assert.equal(
        await main.value("SELECT count(*)::int FROM t", [], { ...owner, database: "shop" }).catch(String),
        'PostgresError: relation "t" does not exist',
      );
      const refused = [
        "COPY t TO PROGRAM 'cat'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT lo_export(0, '/tmp/x')",
        "ALTER SYSTEM SET work_mem = '1GB'",
        "GRANT pg_execute_server_program TO zenith_owner",
        "ALTER ROLE zenith_admin PASSWORD 'mine'",
        "GRANT zenith_admin TO zenith_owner",
        "CREATE ROLE deputy SUPERUSER",
        "SET ROLE zenith_admin",
      ];
      for (const statement of refused) {
        await assert.rejects(
          session.query(statement),
          /permission denied|must be superuser|must have/i,
          statement,
        );
      }
      if (major < 16) return;
      await session.query(
        "CREATE ROLE app; SET ROLE app; RESET ROLE; GRANT pg_monitor TO app; DROP ROLE app",
      );
    });

    test("doctor says that everybody is asked for a password", async () => {
      assert.match(await env.zenith("doctor"), /^ok +passwords:/m);
    });

    test("a branch has its parent's password, and need not write it", async () => {
      await env.untilArrived("main");
      await env.branch("dev", "main");
      const dev = await env.startCompute("dev");
      const row = "SELECT xmin::text || rolpassword FROM pg_authid WHERE oid = 10";
      assert.equal(await dev.value(row), await main.value(row));
      await dev.stop();
    });

    test("a password that SQL has changed, and one that is new in the file, hold from the next start on", async () => {
      await main.query("ALTER ROLE zenith_admin PASSWORD NULL VALID UNTIL '2000-01-01'");
      await assert.rejects(main.value("SELECT 1"), /password authentication failed/);
      await main.restart();
      await commit(main);
      const file = readFileSync(main.paths.pgpass, "utf8");
      writeFileSync(
        main.paths.pgpass,
        file.replace(/^(\*:\*:\*:zenith_admin:).*$/m, "$1it's \\: a \\\\ secret"),
      );
      await main.restart();
      assert.equal(await main.value("SELECT 1", [], { password: "it's : a \\ secret" }), 1);
      assert.equal(await env.zenith("sql", "-c", "SELECT 1 AS one", "--csv"), "one\n1\n");
      await main.restart();
      await commit(main);
    });

    test("what an earlier version has left goes on: no password, rules that trust", async () => {
      await main.query("ALTER ROLE zenith_admin PASSWORD NULL");
      writeFileSync(hba(main), TRUSTING);
      await main.stop();
      rmSync(main.paths.pgpass);
      // As after a kill, when another process has the number of the one that was killed.
      writeFileSync(join(main.paths.socketDir, `.s.PGSQL.${main.address.port}.lock`), `${process.pid}\n`);
      await main.start();
      const warning = /^warn +passwords: the pg_hba.conf of main trusts connections/m;
      assert.match(await env.zenith("doctor"), warning);
      await using session = await Connection.open(main.address);
      assert.match(String(await session.value("SELECT rolpassword FROM pg_authid WHERE oid = 10")), /^SCRAM/);
      await commit(main);
    });
  });
}
