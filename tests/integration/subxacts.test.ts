import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { branchHere } from "../harness/branching.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;

before(async () => {
  env = await ZenithEnv.create();
  main = await env.startCompute("main");
});
after(() => env[Symbol.asyncDispose]());

/** More than PGPROC_MAX_CACHED_SUBXIDS: the rest is known by pg_subtrans and pg_xact alone. */
const MANY = 2000;

describe("subtransactions", () => {
  test("committed ones count on a branch, rolled back ones don't", async () => {
    await main.query("CREATE TABLE t (n int, kept boolean)");
    await using session = await main.connect({ autocommit: false });
    for (let i = 0; i < 100; i++) {
      await session.query(`SAVEPOINT s; INSERT INTO t VALUES (${i}, ${i % 3 !== 0})`);
      await session.query(i % 3 === 0 ? "ROLLBACK TO s" : "RELEASE s");
    }
    await session.commit();
    const branch = await branchHere(env, main, "mixed");
    assert.equal(await branch.value("SELECT count(*) FROM t WHERE kept"), "66");
    assert.equal(await branch.value("SELECT count(*) FROM t WHERE NOT kept"), "0");
    await branch.stop();
  });

  test("those of a transaction that was open are gone with it on the branch", async () => {
    await main.query("CREATE TABLE open_ones (n int)");
    await using session = await main.connect({ autocommit: false });
    await session.query("SAVEPOINT a; INSERT INTO open_ones VALUES (1); RELEASE a");
    await session.query("SAVEPOINT b; INSERT INTO open_ones VALUES (2)");
    await main.query("CHECKPOINT");
    const branch = await branchHere(env, main, "opened");
    await session.query("RELEASE b");
    await session.commit();
    assert.equal(await branch.value("SELECT count(*) FROM open_ones"), "0");
    assert.equal(await main.value("SELECT count(*) FROM open_ones"), "2");
    await branch.query("INSERT INTO open_ones SELECT generate_series(1, 10)");
    assert.equal(await branch.value("SELECT count(*) FROM open_ones"), "10");
    await branch.stop();
  });

  test(`${MANY} nested and successive ones in one transaction commit together`, async () => {
    await main.query("CREATE TABLE many (n int)");
    await main.query(`DO $$ BEGIN FOR n IN 1..${MANY} LOOP
      BEGIN INSERT INTO many VALUES (n);
        BEGIN INSERT INTO many VALUES (-n); IF n % 2 = 0 THEN RAISE division_by_zero; END IF;
        EXCEPTION WHEN division_by_zero THEN NULL; END;
      EXCEPTION WHEN others THEN NULL; END;
    END LOOP; END $$`);
    const branch = await branchHere(env, main, "many_subxacts");
    for (const pg of [main, branch]) {
      assert.equal(await pg.value("SELECT count(*) FROM many WHERE n > 0"), String(MANY));
      assert.equal(await pg.value("SELECT count(*) FROM many WHERE n < 0"), String(MANY / 2));
    }
    // The statuses are in pg_xact, not in hint bits alone.
    assert.equal(
      await branch.value("SELECT count(*) FROM many WHERE pg_xact_status(xmin::text::xid8) = 'committed'"),
      String(MANY + MANY / 2),
    );
    await branch.stop();
  });
});
