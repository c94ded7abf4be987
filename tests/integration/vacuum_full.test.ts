import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { branchAt, branchHere } from "../harness/branching.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;

before(async () => {
  env = await ZenithEnv.create();
  main = await env.startCompute("main");
});
after(() => env[Symbol.asyncDispose]());

describe("rewritten relations", () => {
  test("VACUUM FULL and CLUSTER leave the same rows in new files, before and after on branches", async () => {
    await main.query("CREATE TABLE t (n int PRIMARY KEY, v text)");
    await main.query("INSERT INTO t SELECT n, repeat('x', n % 100) FROM generate_series(1, 10000) n");
    await main.query("DELETE FROM t WHERE n % 2 = 0");
    const beforeLsn = await main.lsn();
    const beforePath = await main.value("SELECT pg_relation_filepath('t')");
    await main.query("VACUUM FULL t");
    const vacuumed = await main.lsn();
    await main.query("CLUSTER t USING t_pkey");
    await main.query("INSERT INTO t VALUES (10001, 'after')");

    const content =
      "SELECT count(*) AS count, sum(n) AS sum, sum(length(v)) AS length FROM t WHERE n <= 10000";
    const expected = await main.query(content);
    const branches = [
      await branchAt(env, main, "before_full", beforeLsn),
      await branchAt(env, main, "after_full", vacuumed),
      await branchHere(env, main, "clustered"),
    ];
    const paths = new Set<unknown>();
    for (const branch of branches) {
      assert.deepEqual(await branch.query(content), expected);
      paths.add(await branch.value("SELECT pg_relation_filepath('t')"));
      await using session = await branch.connect();
      await session.query("SET enable_seqscan = off");
      assert.equal(await session.value("SELECT length(v) FROM t WHERE n = 4567"), 67);
    }
    assert.equal(paths.size, 3);
    assert.ok(paths.has(beforePath));
    // The file of before the rewrite is not there after it.
    assert.equal(await branches[2].value("SELECT size FROM pg_stat_file($1, true)", [beforePath]), null);
    for (const branch of branches) await branch.stop();
  });

  test("VACUUM FULL of every catalog, mapped and shared ones too", async () => {
    const mapped = `SELECT string_agg(relname || pg_relation_filenode(oid), ' ' ORDER BY relname)
      FROM pg_class WHERE relfilenode = 0 AND relkind IN ('r', 'i', 't')`;
    const beforeLsn = await main.lsn();
    const nodesBefore = await main.value(mapped);
    await main.query("VACUUM FULL");
    const nodesAfter = await main.value(mapped);
    assert.notEqual(nodesAfter, nodesBefore);
    const [old, fresh] = [
      await branchAt(env, main, "old_catalogs", beforeLsn),
      await branchHere(env, main, "new_catalogs"),
    ] as const;
    assert.equal(await old.value(mapped), nodesBefore);
    assert.equal(await fresh.value(mapped), nodesAfter);
    for (const branch of [old, fresh]) {
      await branch.query("CREATE TABLE made_here (n int PRIMARY KEY)");
      await branch.query("CREATE ROLE made_here");
      await branch.restart();
      assert.equal(await branch.value("SELECT count(*) FROM made_here"), "0");
      assert.equal(await branch.value("SELECT count(*) FROM pg_roles WHERE rolname = 'made_here'"), "1");
      await branch.stop();
    }
  });

  test("ALTER TABLE that rewrites, and one that is rolled back", async () => {
    await main.query("CREATE TABLE typed (n int, v text)");
    await main.query("INSERT INTO typed SELECT n, n::text FROM generate_series(1, 1000) n");
    await main.query("ALTER TABLE typed ALTER v TYPE bigint USING v::bigint * 2");
    await using session = await main.connect({ autocommit: false });
    await session.query("ALTER TABLE typed ALTER n TYPE text");
    await session.rollback();
    const branch = await branchHere(env, main, "altered");
    assert.equal(await branch.value("SELECT sum(v - 2 * n) FROM typed"), "0");
    assert.equal(await branch.value("SELECT pg_typeof(n)::text FROM typed LIMIT 1"), "integer");
    await branch.stop();
  });
});
