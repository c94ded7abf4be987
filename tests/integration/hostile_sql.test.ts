/** Whatever SQL has done to roles, databases and their settings: the next start works, and commits get durable. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

/** Quotes, blanks that a command line would fold, and what ends a command. */
const ODD_NAME = `Who's  "there"; é`;

for (const safekeepers of [1, 0]) {
  describe(`a branch with ${safekeepers} safekeepers starts again`, () => {
    let env: ZenithEnv;
    let pg: Compute;
    const own = { database: "own", user: "own", password: "own" };
    let rows = 0;

    before(async () => {
      env = await ZenithEnv.create({ safekeepers });
      pg = await env.startCompute();
      await pg.query("CREATE ROLE own SUPERUSER LOGIN PASSWORD 'own'");
      await pg.query("CREATE DATABASE own");
      await pg.query("CREATE TABLE t (n int)", own);
    });
    after(() => env[Symbol.asyncDispose]());

    /** Does that to it, restarts it, and commits. */
    async function survives(...statements: string[]): Promise<void> {
      for (const statement of statements) await pg.query(statement, own);
      await pg.restart();
      await pg.query("INSERT INTO t VALUES (1)", own);
      assert.equal(await pg.value("SELECT count(*)::int FROM t", [], own), ++rows);
    }

    test("when its first role has another name", async () => {
      await survives(`ALTER ROLE zenith_admin RENAME TO "${ODD_NAME.replaceAll('"', '""')}"`);
      await survives("CREATE ROLE zenith_admin", "VACUUM FULL pg_authid");
    });

    test("when its first role has settings that break what is not qualified", async () => {
      await survives(
        "UPDATE pg_authid SET rolname = 'first' WHERE oid = 10",
        "CREATE SCHEMA evil",
        "CREATE FUNCTION evil.eq(oid, oid) RETURNS bool LANGUAGE sql AS 'SELECT 1/0 = 1'",
        "CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.eq)",
        "ALTER ROLE first SET search_path = evil, pg_catalog",
        "ALTER ROLE first SET statement_timeout = 1",
        "ALTER ROLE first SET default_transaction_read_only = on",
        "ALTER ROLE first SET local_preload_libraries = 'there is no such library'",
        "ALTER ROLE first SET role = 'zenith_admin'",
        "ALTER DATABASE postgres SET session_replication_role = 'replica'",
        "ALTER DATABASE postgres SET statement_timeout = 1",
      );
    });

    test("when its first role may not log in, is no superuser, and may have no connections", async () => {
      await survives("ALTER ROLE first NOSUPERUSER");
      await survives("ALTER ROLE first NOLOGIN");
      assert.match(pg.log(), /role first was given back what the supervisor needs of it/);
      await survives("ALTER ROLE first NOREPLICATION CONNECTION LIMIT 0 VALID UNTIL '2000-01-01'");
    });

    test("when the databases that initdb makes are closed, renamed or gone", async () => {
      await survives("ALTER DATABASE postgres ALLOW_CONNECTIONS false");
      await survives("ALTER DATABASE postgres RENAME TO other");
      await survives(
        "DROP DATABASE other",
        "ALTER DATABASE template1 IS_TEMPLATE false",
        "DROP DATABASE template1",
        "ALTER DATABASE own CONNECTION LIMIT 0",
        "ALTER ROLE first NOLOGIN NOREPLICATION",
      );
    });
  });
}
