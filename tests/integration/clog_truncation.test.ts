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

const XIDS_PER_PAGE = 8192 * 4;
const XIDS_PER_SEGMENT = XIDS_PER_PAGE * 32;

const XIDS_PER_ROUND = 50_000;

async function nextXid(pg: Compute): Promise<number> {
  return Number(await pg.value("SELECT split_part(next_xid, ':', 2) FROM pg_control_checkpoint()"));
}

async function segments(pg: Compute): Promise<string[]> {
  const rows = await pg.query("SELECT name FROM pg_ls_dir('pg_xact') name ORDER BY name");
  return rows.map((row) => String(row["name"]));
}

/** Uses up transaction ids until the next one is beyond `beyond`: half of them by transactions, half by subtransactions. */
async function burnXids(pg: Compute, beyond: number): Promise<void> {
  await using session = await pg.connect();
  await session.query("SET synchronous_commit = off");
  await session.query("CREATE TEMP TABLE burn ()");
  for (let round = 0;; round++) {
    if (Number(await session.value("SELECT pg_current_xact_id()::text")) > beyond) return;
    // What is written to a temporary table takes an id and leaves no WAL but the commit's.
    await session.query(
      round % 2 === 0
        ? `DO $$ BEGIN FOR i IN 1..${XIDS_PER_ROUND} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$`
        : `DO $$ BEGIN FOR i IN 1..${XIDS_PER_ROUND} LOOP
             BEGIN INSERT INTO burn DEFAULT VALUES; EXCEPTION WHEN division_by_zero THEN NULL; END;
           END LOOP; END $$`,
    );
  }
}

describe("pg_xact", () => {
  test("of a branch has the segments of its LSN, before and after truncation", async () => {
    await main.query("CREATE TABLE t (n int, v text)");
    await main.query("INSERT INTO t SELECT n, 'early' FROM generate_series(1, 1000) n");
    await using aborted = await main.connect({ autocommit: false });
    await aborted.query("INSERT INTO t VALUES (0, 'aborted early')");
    await aborted.rollback();
    await burnXids(main, XIDS_PER_SEGMENT + 1000);
    await main.query("INSERT INTO t VALUES (1001, 'late')");
    await aborted.query("BEGIN");
    await aborted.query("INSERT INTO t VALUES (0, 'aborted late')");
    await aborted.rollback();
    await main.query("CHECKPOINT");
    assert.deepEqual(await segments(main), ["0000", "0001"]);
    const whole = await main.lsn();

    // Databases that take no connections hold the horizon back as well.
    await main.query("UPDATE pg_database SET datallowconn = true WHERE datname = 'template0'");
    const databases = await main.query("SELECT datname FROM pg_database");
    for (const row of databases) {
      await using session = await main.connect({ database: String(row["datname"]) });
      await session.query("SET vacuum_freeze_min_age = 0");
      await session.query("SET vacuum_freeze_table_age = 0");
      await session.query("VACUUM (FREEZE)");
    }
    assert.deepEqual(await segments(main), ["0001"]);
    const truncated = await main.lsn();
    await main.query("INSERT INTO t VALUES (1002, 'after')");

    const [before, after] = [
      await branchAt(env, main, "whole", whole),
      await branchAt(env, main, "truncated", truncated),
    ] as const;
    assert.deepEqual(await segments(before), ["0000", "0001"]);
    assert.deepEqual(await segments(after), ["0001"]);
    const content = "SELECT v, count(*) AS n FROM t GROUP BY v ORDER BY v";
    const expected = [{ v: "early", n: "1000" }, { v: "late", n: "1" }];
    assert.deepEqual(await before.query(content), expected);
    assert.deepEqual(await after.query(content), expected);
    assert.ok(await nextXid(before) > XIDS_PER_SEGMENT);

    for (const branch of [before, after]) {
      await branch.query("INSERT INTO t VALUES (1003, 'own')");
      await branch.restart();
      assert.deepEqual(await branch.query(content), [...expected, { v: "own", n: "1" }]);
      await branch.stop();
    }
  });

  test("of a branch at the end has what was committed after the truncation", async () => {
    const branch = await branchHere(env, main, "end");
    assert.equal(await branch.value("SELECT count(*) FROM t WHERE v = 'after'"), "1");
    assert.equal(await branch.value("SELECT count(*) FROM t"), "1002");
    await branch.stop();
  });
});
