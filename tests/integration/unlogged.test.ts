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

/** Every access method has an empty index of its own kind. */
const CREATE = `
  CREATE UNLOGGED TABLE u (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, h int, g int[], p point, t text);
  CREATE INDEX u_hash ON u USING hash (h);
  CREATE INDEX u_gin ON u USING gin (g);
  CREATE INDEX u_gist ON u USING gist (p);
  CREATE INDEX u_spgist ON u USING spgist (t);
  CREATE INDEX u_brin ON u USING brin (h)`;
const FILL = `INSERT INTO u (h, g, p, t)
  SELECT n, ARRAY[n, n % 7], point(n, n), repeat('unlogged', 500) || n FROM generate_series(1, 500) n`;

/** Queries that one index each can answer. */
const BY_INDEX = [
  "id = 77",
  "h = 77",
  "g @> ARRAY[77]",
  "p <@ box '(76.5,76.5),(77.5,77.5)'",
  "t = repeat('unlogged', 500) || 77",
];

async function assertUsable(pg: Compute): Promise<void> {
  await pg.query(FILL);
  await using session = await pg.connect();
  await session.query("SET enable_seqscan = off");
  for (const condition of BY_INDEX) {
    assert.deepEqual(await session.query(`SELECT h FROM u WHERE ${condition}`), [{ h: 77 }], condition);
  }
  assert.equal(await session.value("SELECT count(*) FROM u"), "500");
}

describe("unlogged tables", () => {
  test("are empty on a branch, and usable with all their indexes", async () => {
    await main.query(CREATE);
    await assertUsable(main);
    await main.query("CHECKPOINT");
    const branch = await branchHere(env, main, "emptied");
    assert.equal(await branch.value("SELECT count(*) FROM u"), "0");
    assert.equal(await branch.value("SELECT relpersistence FROM pg_class WHERE relname = 'u'"), "u");
    await assertUsable(branch);
    assert.equal(await main.value("SELECT count(*) FROM u"), "500");
    await branch.stop();
  });

  test("are empty after a restart of their compute, as after a crash", async () => {
    await main.restart();
    assert.equal(await main.value("SELECT count(*) FROM u"), "0");
    await assertUsable(main);
  });

  test("keep their rows when they become logged, and lose them when they become unlogged", async () => {
    await main.query("CREATE UNLOGGED TABLE becomes AS SELECT generate_series(1, 1000) n");
    await main.query("CREATE INDEX ON becomes (n)");
    await main.query("ALTER TABLE becomes SET LOGGED");
    await main.query("CREATE TABLE ceases AS SELECT generate_series(1, 1000) n");
    await main.query("ALTER TABLE ceases SET UNLOGGED");
    const branch = await branchHere(env, main, "changed");
    assert.equal(await branch.value("SELECT count(*) FROM becomes"), "1000");
    await using session = await branch.connect();
    await session.query("SET enable_seqscan = off");
    assert.equal(await session.value("SELECT n FROM becomes WHERE n = 500"), 500);
    assert.equal(await branch.value("SELECT count(*) FROM ceases"), "0");
    await branch.query("INSERT INTO ceases VALUES (1)");
    assert.equal(await branch.value("SELECT count(*) FROM ceases"), "1");
    await branch.stop();
  });

  test("sequences that are unlogged start anew on a branch", async () => {
    await main.query("CREATE UNLOGGED SEQUENCE us START 10");
    assert.equal(await main.value("SELECT nextval('us')"), "10");
    assert.equal(await main.value("SELECT nextval('us')"), "11");
    const branch = await branchHere(env, main, "sequence");
    assert.equal(await branch.value("SELECT nextval('us')"), "10");
    await branch.stop();
  });

  test("of a transaction that was open leave nothing behind", async () => {
    await using session = await main.connect({ autocommit: false });
    await session.query("CREATE UNLOGGED TABLE open_one AS SELECT generate_series(1, 1000) n");
    await main.query("CHECKPOINT");
    const branch = await branchHere(env, main, "open_unlogged");
    assert.equal(await branch.value("SELECT to_regclass('open_one')"), null);
    await branch.query("CREATE UNLOGGED TABLE open_one (n int)");
    assert.equal(await branch.value("SELECT count(*) FROM open_one"), "0");
    await session.rollback();
    await branch.stop();
  });
});
