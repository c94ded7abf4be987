import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { addSettings, branchHere } from "../harness/branching.ts";
import { StockCluster } from "../harness/stock_cluster.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;

const SETTINGS = ["track_commit_timestamp = on"];

before(async () => {
  env = await ZenithEnv.create();
  main = await env.createCompute("main");
  addSettings(main, ...SETTINGS);
  await main.start();
});
after(() => env[Symbol.asyncDispose]());

const STAMPS = "SELECT n, xmin::text AS xid, pg_xact_commit_timestamp(xmin)::text AS stamp FROM t ORDER BY n";

describe("commit timestamps", () => {
  test("are the same on a branch, of subtransactions too", async () => {
    await main.query("CREATE TABLE t (n int)");
    for (let n = 0; n < 20; n++) {
      await main.query(`INSERT INTO t VALUES (${n})`);
      if (n === 10) await main.query("CHECKPOINT");
    }
    await main.query(`DO $$ BEGIN FOR n IN 20..120 LOOP
      BEGIN INSERT INTO t VALUES (n); EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$`);
    const expected = await main.query(STAMPS);
    assert.equal(expected.length, 121);
    for (const row of expected) assert.notEqual(row["stamp"], null, `row ${row["n"]}`);
    assert.ok(new Set(expected.map((row) => row["stamp"])).size >= 21);

    const branch = await branchHere(env, main, "stamped", SETTINGS);
    assert.deepEqual(await branch.query(STAMPS), expected);
    await branch.query("INSERT INTO t VALUES (1000)");
    const own = await branch.query(STAMPS);
    assert.ok(String(own.at(-1)!["stamp"]) > String(expected.at(-1)!["stamp"]));
    await branch.restart();
    assert.deepEqual(await branch.query(STAMPS), own);
    await branch.stop();
  });

  test("that began to be tracked later are there from then on", async () => {
    const tenant = await env.createTenant();
    const late = await env.startCompute("main", tenant);
    await late.query("CREATE TABLE t (n int)");
    await late.query("INSERT INTO t VALUES (1)");
    await late.query("ALTER SYSTEM SET track_commit_timestamp = on");
    await late.restart();
    await late.query("INSERT INTO t VALUES (2)");
    const [untracked, tracked] = await late.query(STAMPS);
    assert.equal(untracked!["stamp"], null);
    assert.notEqual(tracked!["stamp"], null);
    const branch = await branchHere(env, late, "tracked", SETTINGS);
    assert.deepEqual(await branch.query(STAMPS), [untracked, tracked]);
    await branch.stop();

    // Switched off again on a branch, they are gone there, and the branch works.
    const off = await branchHere(env, late, "off");
    await off.query("ALTER SYSTEM SET track_commit_timestamp = off");
    await off.restart();
    await off.query("INSERT INTO t VALUES (3)");
    await assert.rejects(off.query(STAMPS), /could not get commit timestamp data/);
    await off.restart();
    assert.equal(await off.value("SELECT count(*) FROM t"), "3");
    await off.stop();
    await late.stop();
  });

  for (const stop of ["fast", "immediate"] as const) {
    test(`that were off for a while are missing from then on backwards, stopped ${stop}`, async () => {
      const tenant = await env.createTenant();
      const pg = await env.startCompute("main", tenant);
      await using stock = await StockCluster.start();
      await pg.query("CREATE TABLE t (n int)");
      await stock.sql`CREATE TABLE t (n int)`;
      for (const [n, tracking] of ["on", "off", "on"].entries()) {
        await pg.query(`ALTER SYSTEM SET track_commit_timestamp = ${tracking}`);
        await stock.sql.unsafe(`ALTER SYSTEM SET track_commit_timestamp = ${tracking}`);
        await pg.stop(stop);
        await pg.start();
        await stock.stopPostgres();
        stock.startPostgres();
        await pg.query(`INSERT INTO t VALUES (${n})`);
        await stock.sql`INSERT INTO t VALUES (${n})`;
      }
      const hasStamp = "SELECT n, pg_xact_commit_timestamp(xmin) IS NOT NULL AS has_stamp FROM t ORDER BY n";
      const expected = [...await stock.sql.unsafe(hasStamp)].map((row) => ({ ...row }));
      assert.deepEqual(expected.map((row) => row["has_stamp"]), [false, false, true]);
      assert.deepEqual(await pg.query(hasStamp), expected);
      const branch = await branchHere(env, pg, `stamped_${stop}`, SETTINGS);
      assert.deepEqual(await branch.query(hasStamp), expected);
      await branch.stop();
      await pg.stop();
    });
  }
});
