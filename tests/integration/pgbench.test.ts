import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { branchAt } from "../harness/branching.ts";
import { assertConsistent as assertTotals, pgbench } from "../harness/pgbench.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;

before(async () => {
  env = await ZenithEnv.create();
  main = await env.startCompute("main");
});
after(() => env[Symbol.asyncDispose]());

const DATABASE = "postgres";
const LOAD_SECONDS = 6;
const BRANCHES_UNDER_LOAD = 3;

const assertConsistent = (pg: Compute) => assertTotals(pg, DATABASE, 1);

describe("pgbench", () => {
  test("runs TPC-B, and every branch taken meanwhile has consistent totals", async () => {
    await pgbench(main, DATABASE, "-i", "-q", "-s", "1");
    assert.equal(await assertConsistent(main), 0);

    const load = pgbench(main, DATABASE, "-c", "4", "-j", "1", "-T", String(LOAD_SECONDS), "-n");
    const lsns: string[] = [];
    let seen = 0;
    for (let i = 0; i < BRANCHES_UNDER_LOAD; i++) {
      await until("pgbench has done more transactions", async () => {
        const now = Number(await main.value("SELECT count(*) FROM pgbench_history"));
        if (now <= seen + 50) return false;
        seen = now;
        return true;
      });
      const lsn = await main.lsn();
      lsns.push(lsn);
      await env.branch(`under_load_${i}`, `main@${lsn}`);
    }
    assert.match(await load, /number of failed transactions: 0/);
    const done = await assertConsistent(main);

    let before = 0;
    for (let i = 0; i < BRANCHES_UNDER_LOAD; i++) {
      const branch = await env.startCompute(`under_load_${i}`);
      const transactions = await assertConsistent(branch);
      assert.ok(
        transactions > before && transactions <= done,
        `${before}, ${transactions}, ${done} transactions`,
      );
      before = transactions;
      if (i === 1) {
        await pgbench(branch, DATABASE, "-c", "2", "-t", "50", "-n");
        assert.equal(await assertConsistent(branch), transactions + 100);
        await branch.restart();
        assert.equal(await assertConsistent(branch), transactions + 100);
      }
      await branch.stop();
    }
    // The same LSN asked for later is the same.
    const again = await branchAt(env, main, "asked_later", lsns[0]);
    const first = await assertConsistent(again);
    assert.ok(first > 0 && first < before);
    await again.stop();
    assert.equal(await assertConsistent(main), done);
  });
});
