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

/** SEQ_LOG_VALS, commands/sequence.c: what is fetched ahead of the WAL. */
const LOGGED_AHEAD = 32;

async function nextval(pg: Compute, sequence: string): Promise<number> {
  return Number(await pg.value(`SELECT nextval('${sequence}')`));
}

describe("sequences", () => {
  test("a branch never gives out a value again that its parent gave out before it", async () => {
    await main.query("CREATE SEQUENCE s");
    let last = 0;
    for (let i = 0; i < 50; i++) last = await nextval(main, "s");
    assert.equal(last, 50);
    const branch = await branchHere(env, main, "continuing");
    const first = await nextval(branch, "s");
    assert.ok(first > last && first <= last + LOGGED_AHEAD + 1, `${first} after ${last}`);
    assert.equal(await nextval(branch, "s"), first + 1);
    assert.equal(await nextval(main, "s"), 51);
    await branch.kill9();
    await branch.start();
    assert.ok(await nextval(branch, "s") > first + 1);
    await branch.stop();
  });

  test("setval, RESTART, bounds and increments are as they were", async () => {
    await main.query("CREATE SEQUENCE set_once");
    await main.query("SELECT setval('set_once', 1000)");
    await main.query("CREATE SEQUENCE down INCREMENT -5 MAXVALUE 100 MINVALUE -100 CYCLE");
    const lsn = await main.lsn();
    await main.query("ALTER SEQUENCE set_once RESTART 5");
    const [earlier, later] = [
      await branchAt(env, main, "before_restart", lsn),
      await branchHere(env, main, "after_restart"),
    ] as const;
    assert.equal(await nextval(earlier, "set_once"), 1001);
    assert.equal(await nextval(later, "set_once"), 5);
    assert.equal(await nextval(later, "down"), 100);
    assert.equal(await nextval(later, "down"), 95);
    await earlier.stop();
    await later.stop();
  });

  test("serial and identity columns go on without a conflict", async () => {
    await main.query("CREATE TABLE t (a serial PRIMARY KEY, b int GENERATED ALWAYS AS IDENTITY UNIQUE)");
    for (let i = 0; i < 40; i++) await main.query("INSERT INTO t DEFAULT VALUES");
    const branch = await branchHere(env, main, "serial");
    for (let i = 0; i < 40; i++) await branch.query("INSERT INTO t DEFAULT VALUES");
    assert.equal(await branch.value("SELECT count(DISTINCT (a, b)) FROM t"), "80");
    await branch.stop();
  });
});
