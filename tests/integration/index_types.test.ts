import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { branchAt, branchHere } from "../harness/branching.ts";
import type { Connection } from "../harness/connection.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;

before(async () => {
  env = await ZenithEnv.create();
  main = await env.startCompute("main");
  for (const extension of ["amcheck", "bloom", "pg_trgm"]) await main.query(`CREATE EXTENSION ${extension}`);
});
after(() => env[Symbol.asyncDispose]());

const TABLE =
  `CREATE TABLE t (id int, words text[], doc tsvector, p point, b box, r int4range, s text, n int, x int, y int)
  WITH (autovacuum_enabled = off)`;

const rows = (from: number, to: number) =>
  `INSERT INTO t
  SELECT g, ARRAY['w' || g % 97, 'v' || g % 13, 'u' || g], to_tsvector('simple', 'a' || g % 50 || ' b' || g % 31 || ' c' || g),
    point(g % 100, g / 100), box(point(g % 100, g / 100), point(g % 100 + 1, g / 100 + 1)), int4range(g, g + g % 20),
    'prefix/' || g % 10 || '/' || md5(g::text), g % 500, g % 41, g % 43
  FROM generate_series(${from}, ${to}) g`;

/** Each index, and a condition that it answers. */
const INDEXES: Readonly<Record<string, { readonly create: string; readonly condition: string }>> = {
  btree: { create: "USING btree (n, id)", condition: "n = 77 AND id > 500" },
  btree_unique: { create: "USING btree (s)", condition: "s = 'prefix/3/' || md5('1233')" },
  hash: { create: "USING hash (n)", condition: "n = 123" },
  gin_array: { create: "USING gin (words)", condition: "words @> ARRAY['w5', 'v7']" },
  gin_text: { create: "USING gin (doc) WITH (fastupdate = on)", condition: "doc @@ 'a7 & b9'::tsquery" },
  gin_trgm: { create: "USING gin (s gin_trgm_ops)", condition: "s LIKE '%abcd%'" },
  gist_point: { create: "USING gist (p)", condition: "p <@ box '(10,3),(20,9)'" },
  gist_box: { create: "USING gist (b)", condition: "b && box '(30,5),(33,8)'" },
  gist_range: { create: "USING gist (r)", condition: "r @> 700" },
  spgist_point: { create: "USING spgist (p)", condition: "p <@ box '(40,1),(50,4)'" },
  spgist_text: { create: "USING spgist (s)", condition: "s ^@ 'prefix/4/ab'" },
  brin: {
    create: "USING brin (id) WITH (pages_per_range = 4, autosummarize = off)",
    condition: "id BETWEEN 1000 AND 1100",
  },
  bloom: { create: "USING bloom (x, y)", condition: "x = 7 AND y = 9" },
};

async function ids(session: Connection, condition: string): Promise<unknown> {
  return await session.value(
    `SELECT coalesce(array_agg(id ORDER BY id)::text, '') FROM t WHERE ${condition}`,
  );
}

/** Every index alone gives the rows that reading the whole table gives. */
async function assertIndexesAgree(pg: Compute): Promise<Record<string, unknown>> {
  await using session = await pg.connect();
  const found: Record<string, unknown> = {};
  for (const [name, { condition }] of Object.entries(INDEXES)) {
    await session.query("SET enable_seqscan = on; SET enable_indexscan = off; SET enable_bitmapscan = off");
    found[name] = await ids(session, condition);
    await session.query("RESET ALL");
    await session.query("BEGIN");
    await session.query("SET LOCAL enable_seqscan = off");
    // Only this one is left for the planner.
    for (const other of Object.keys(INDEXES)) {
      if (other !== name) await session.query(`DROP INDEX ix_${other}`);
    }
    const plan = await session.query(`EXPLAIN SELECT id FROM t WHERE ${condition}`);
    assert.match(plan.map((row) => row["QUERY PLAN"]).join("\n"), new RegExp(`ix_${name}`));
    assert.equal(await ids(session, condition), found[name], name);
    await session.query("ROLLBACK");
  }
  for (const name of ["btree", "btree_unique"]) {
    await session.query(`SELECT bt_index_parent_check('ix_${name}', true, true)`);
  }
  assert.deepEqual(await session.query("SELECT * FROM verify_heapam('t')"), []);
  return found;
}

describe("every index type", () => {
  test("answers on a branch as on its parent, at several LSNs of its life", async () => {
    await main.query(TABLE);
    await main.query(rows(1, 1500));
    for (const [name, { create }] of Object.entries(INDEXES)) {
      await main.query(`CREATE INDEX ix_${name} ON t ${create}`);
    }
    await main.query(rows(1501, 3000));
    const filled = await main.lsn();
    const answersFilled = await assertIndexesAgree(main);
    assert.equal(
      Object.values(answersFilled).filter((answer) => answer === "").length,
      0,
      "every condition finds rows",
    );

    await main.query(
      "UPDATE t SET id = id + 10000, p = point(p[0] + 1, p[1]), words = words || ARRAY['changed'] WHERE id % 7 = 0",
    );
    await main.query("DELETE FROM t WHERE id % 3 = 0");
    await main.query("VACUUM t");
    await main.query(rows(3001, 3600));
    await main.query("SELECT brin_summarize_new_values('ix_brin')");
    await main.query("SELECT gin_clean_pending_list('ix_gin_text')");

    const [atFilled, atEnd] = [
      await branchAt(env, main, "filled", filled),
      await branchHere(env, main, "end"),
    ] as const;
    assert.deepEqual(await assertIndexesAgree(atFilled), answersFilled);
    assert.deepEqual(await assertIndexesAgree(atEnd), await assertIndexesAgree(main));

    // Writing goes on in each of them.
    await atEnd.query(rows(20001, 21000));
    await atEnd.query("DELETE FROM t WHERE id % 5 = 0");
    await atEnd.query("VACUUM t");
    const answers = await assertIndexesAgree(atEnd);
    await atEnd.restart();
    assert.deepEqual(await assertIndexesAgree(atEnd), answers);
    await atFilled.stop();
    await atEnd.stop();
  });
});
