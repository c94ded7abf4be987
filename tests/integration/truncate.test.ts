import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { branchAt, branchHere } from "../harness/branching.ts";
import { vacuumAll } from "../harness/vacuum.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;

before(async () => {
  env = await ZenithEnv.create();
  main = await env.startCompute("main");
});
after(() => env[Symbol.asyncDispose]());

const BLOCKS = "SELECT pg_relation_size('tail') / 8192";

describe("truncated relations", () => {
  test("TRUNCATE empties a table from then on, not before, and it can be filled again", async () => {
    await main.query("CREATE TABLE t (n int PRIMARY KEY, v text)");
    await main.query("INSERT INTO t SELECT n, 'first' FROM generate_series(1, 5000) n");
    const full = await main.lsn();
    await main.query("TRUNCATE t");
    const empty = await main.lsn();
    await main.query("INSERT INTO t SELECT n, 'second' FROM generate_series(1, 300) n");
    const branches = [
      await branchAt(env, main, "full", full),
      await branchAt(env, main, "empty", empty),
      await branchHere(env, main, "refilled"),
    ];
    const content = "SELECT v, count(*) AS n FROM t GROUP BY v";
    const found = await Promise.all(branches.map((branch) => branch.query(content)));
    assert.deepEqual(found, [[{ v: "first", n: "5000" }], [], [{ v: "second", n: "300" }]]);
    for (const branch of branches) {
      await branch.query("INSERT INTO t VALUES (9999, 'more')");
      assert.equal(await branch.value("SELECT v FROM t WHERE n = 9999"), "more");
      await branch.stop();
    }
  });

  test("TRUNCATE in the transaction that made the table, and one that is rolled back", async () => {
    await using session = await main.connect({ autocommit: false });
    await session.query("CREATE TABLE young (n int)");
    await session.query("INSERT INTO young SELECT generate_series(1, 2000)");
    await session.query("TRUNCATE young");
    await session.query("INSERT INTO young VALUES (1)");
    await session.commit();
    await session.query("BEGIN");
    await session.query("TRUNCATE t");
    await session.query("INSERT INTO t VALUES (1, 'never')");
    await session.rollback();
    const branch = await branchHere(env, main, "rolled_back");
    assert.equal(await branch.value("SELECT count(*) FROM young"), "1");
    assert.equal(await branch.value("SELECT count(*) FROM t WHERE v = 'second'"), "300");
    await branch.stop();
  });

  test("what vacuum cuts off the end does not come back when the table grows again", async () => {
    await main.query("CREATE TABLE tail (n int, v text)");
    await main.query("INSERT INTO tail SELECT n, repeat('old', 300) FROM generate_series(1, 4000) n");
    const blocksBefore = Number(await main.value(BLOCKS));
    const beforeVacuum = await main.lsn();
    await main.query("DELETE FROM tail WHERE n > 400");
    await vacuumAll(main, "tail");
    const blocksAfter = Number(await main.value(BLOCKS));
    assert.ok(blocksAfter < blocksBefore / 5, `${blocksBefore} blocks became ${blocksAfter}`);
    const cut = await main.lsn();
    await main.query("INSERT INTO tail SELECT n, repeat('new', 300) FROM generate_series(10001, 13000) n");
    const blocksGrown = Number(await main.value(BLOCKS));
    assert.ok(blocksGrown > blocksBefore / 2);

    const content = "SELECT left(v, 3) AS v, count(*) AS n, min(n), max(n) FROM tail GROUP BY 1 ORDER BY 1";
    const [atFull, atCut, atGrown] = [
      await branchAt(env, main, "before_vacuum", beforeVacuum),
      await branchAt(env, main, "cut", cut),
      await branchHere(env, main, "grown"),
    ] as const;
    assert.equal(await atFull.value(BLOCKS), String(blocksBefore));
    assert.equal(await atFull.value("SELECT count(*) FROM tail"), "4000");
    assert.equal(await atCut.value(BLOCKS), String(blocksAfter));
    assert.deepEqual(await atCut.query(content), [{ v: "old", n: "400", min: 1, max: 400 }]);
    assert.equal(await atGrown.value(BLOCKS), String(blocksGrown));
    assert.deepEqual(await atGrown.query(content), [
      { v: "new", n: "3000", min: 10001, max: 13000 },
      { v: "old", n: "400", min: 1, max: 400 },
    ]);

    // Growing on the branch that stands at the cut, where its parent's pages once were.
    await atCut.query("INSERT INTO tail SELECT n, repeat('own', 300) FROM generate_series(20001, 24000) n");
    await atCut.restart();
    assert.deepEqual(await atCut.query(content), [
      { v: "old", n: "400", min: 1, max: 400 },
      { v: "own", n: "4000", min: 20001, max: 24000 },
    ]);
    for (const branch of [atFull, atCut, atGrown]) await branch.stop();
  });

  test("pages that Postgres adds without writing them are zeros, not the old rows", async () => {
    await main.query("CREATE TABLE again (n int, v text)");
    await main.query("CREATE EXTENSION pageinspect");
    await main.query("INSERT INTO again SELECT n, repeat('old', 300) FROM generate_series(1, 2000) n");
    await main.query("DELETE FROM again");
    await vacuumAll(main, "again");
    assert.equal(await main.value("SELECT pg_relation_size('again')"), "0");
    // Several sessions at once extend by more than they write: the rest are new pages that no record mentions.
    await Promise.all(Array.from({ length: 6 }, async (_, i) => {
      await using session = await main.connect();
      for (let k = 0; k < 20; k++) {
        await session.query(`INSERT INTO again SELECT ${i}, repeat('new', 300) FROM generate_series(1, 10)`);
      }
    }));
    const branch = await branchHere(env, main, "zeros");
    const rows =
      "SELECT n, count(*) AS count, min(v) = repeat('new', 300) AS new FROM again GROUP BY n ORDER BY n";
    const expected = Array.from({ length: 6 }, (_, n) => ({ n, count: "200", new: true }));
    assert.deepEqual(await main.query(rows), expected);
    assert.deepEqual(await branch.query(rows), expected);
    await branch.query("INSERT INTO again SELECT 6, repeat('new', 300) FROM generate_series(1, 2000)");
    await branch.restart();
    assert.deepEqual(await branch.query(rows), [...expected, { n: 6, count: "2000", new: true }]);
    const oldLinePointers = `
      SELECT count(*) FROM generate_series(0, pg_relation_size('again') / 8192 - 1) block,
        heap_page_items(get_raw_page('again', block::int)) item
      WHERE encode(item.t_data, 'escape') LIKE '%oldold%'`;
    assert.equal(await branch.value(oldLinePointers), "0");
    await branch.stop();
  });
});
