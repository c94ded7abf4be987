import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { branchHere } from "../harness/branching.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;

before(async () => {
  env = await ZenithEnv.create();
  main = await env.startCompute("main");
  await main.query("CREATE EXTENSION pg_visibility");
});
after(() => env[Symbol.asyncDispose]());

const SUMMARY = "SELECT all_visible::int, all_frozen::int FROM pg_visibility_map_summary('t')";

/** Every table, index-only scans and all: what the visibility map claims is true of the pages. */
async function assertMapsAreTrue(pg: Compute): Promise<void> {
  for (const check of ["pg_check_visible", "pg_check_frozen"]) {
    const rows = await pg.query(
      `SELECT relname, ${check}(oid)::text AS tid FROM pg_class WHERE relkind IN ('r', 't', 'm')`,
    );
    assert.deepEqual(rows, [], check);
  }
}

describe("the visibility map", () => {
  test("of a branch is true, through updates, deletes, locks and inserts after a vacuum", async () => {
    await main.query(
      "CREATE TABLE t (n int PRIMARY KEY, v text) WITH (fillfactor = 80, autovacuum_enabled = off)",
    );
    await main.query("INSERT INTO t SELECT n, repeat('v', 50) FROM generate_series(1, 20000) n");
    await main.query("VACUUM (FREEZE) t");
    const [frozen] = await main.query(SUMMARY);
    assert.ok(Number(frozen!["all_frozen"]) > 150);
    const first = await branchHere(env, main, "frozen");
    assert.deepEqual(await first.query(SUMMARY), [frozen]);
    await assertMapsAreTrue(first);
    await first.stop();

    await main.query("UPDATE t SET v = 'hot' WHERE n % 1000 = 0");
    await main.query("UPDATE t SET n = n + 100000 WHERE n % 1500 = 0");
    await main.query("DELETE FROM t WHERE n BETWEEN 5000 AND 5200");
    await main.query("INSERT INTO t SELECT n, 'new' FROM generate_series(30001, 31000) n");
    await using locker = await main.connect({ autocommit: false });
    await locker.query("SELECT * FROM t WHERE n BETWEEN 7000 AND 7100 FOR UPDATE");
    await main.query("CHECKPOINT");
    const expected = await main.query(SUMMARY);
    assert.ok(Number(expected[0]["all_visible"]) < Number(frozen!["all_visible"]));
    const second = await branchHere(env, main, "changed");
    await locker.rollback();
    assert.deepEqual(await second.query(SUMMARY), expected);
    await assertMapsAreTrue(second);

    await second.query("VACUUM t");
    await assertMapsAreTrue(second);
    await second.restart();
    await assertMapsAreTrue(second);
    await second.stop();
  });

  test("lets index-only scans on a branch answer without the table, and rightly", async () => {
    const branch = await branchHere(env, main, "index_only");
    await branch.query("VACUUM (ANALYZE) t");
    await branch.restart();
    await using session = await branch.connect();
    const count = "SELECT count(*) FROM t WHERE n BETWEEN 1 AND 31000";
    await session.query("SET enable_indexonlyscan = off");
    await session.query("SET enable_indexscan = off");
    await session.query("SET enable_bitmapscan = off");
    const bySequentialScan = await session.value(count);
    await session.query("RESET ALL");
    await session.query("SET enable_seqscan = off");
    await session.query("SET enable_bitmapscan = off");
    const plan = (await session.query(`EXPLAIN (ANALYZE, TIMING off) ${count}`)).map((row) =>
      row["QUERY PLAN"]
    );
    assert.match(plan.join("\n"), /Index Only Scan/);
    assert.match(plan.join("\n"), /Heap Fetches: 0/);
    assert.equal(await session.value(count), bySequentialScan);
    await branch.stop();
  });

  test("shrinks with its table", async () => {
    await main.query("DELETE FROM t WHERE n > 300");
    await main.query("VACUUM (FREEZE) t");
    const expected = await main.query(SUMMARY);
    const branch = await branchHere(env, main, "shrunk");
    assert.deepEqual(await branch.query(SUMMARY), expected);
    await branch.query("INSERT INTO t SELECT n, repeat('v', 50) FROM generate_series(40000, 50000) n");
    await assertMapsAreTrue(branch);
    await branch.stop();
  });
});
