import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { findPostgres } from "../../src/pg_install/find_postgres.ts";
import { postgresEnvironment } from "../../src/pg_install/initdb.ts";
import { branchAt } from "../harness/branching.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;

before(async () => {
  env = await ZenithEnv.create();
  main = await env.startCompute("main");
});
after(() => env[Symbol.asyncDispose]());

const ACCOUNTS = 100_000;
const LOAD_SECONDS = 6;
const BRANCHES_UNDER_LOAD = 3;

function pgbench(pg: Compute, ...args: string[]): Promise<string> {
  const { host, port } = pg.address;
  const child = spawn(
    join(findPostgres().binDir, "pgbench"),
    ["-h", host, "-p", String(port), "-U", "zenith_admin", ...args, "postgres"],
    { env: postgresEnvironment(), stdio: ["ignore", "pipe", "pipe"] },
  );
  let output = "";
  child.stdout.on("data", (text) => output += text);
  child.stderr.on("data", (text) => output += text);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on(
      "close",
      (code) => code === 0 ? resolve(output) : reject(new Error(`pgbench: exit code ${code}\n${output}`)),
    );
  });
}

/** What TPC-B keeps: every delta is in the history, and in one account, one teller and one branch. */
async function assertConsistent(pg: Compute): Promise<number> {
  const [totals] = await pg.query(`
    SELECT (SELECT sum(abalance) FROM pgbench_accounts)::int AS accounts, (SELECT sum(tbalance) FROM pgbench_tellers)::int AS tellers,
      (SELECT sum(bbalance) FROM pgbench_branches)::int AS branches, (SELECT coalesce(sum(delta), 0) FROM pgbench_history)::int AS deltas,
      (SELECT count(*) FROM pgbench_history)::int AS transactions, (SELECT count(*) FROM pgbench_accounts)::int AS count`);
  const { accounts, tellers, branches, deltas, transactions, count } = totals!;
  assert.deepEqual({ tellers, branches, deltas }, {
    tellers: accounts,
    branches: accounts,
    deltas: accounts,
  });
  assert.equal(count, ACCOUNTS);
  await using session = await pg.connect();
  await session.query("SET enable_seqscan = off");
  assert.equal(await session.value("SELECT count(*)::int FROM pgbench_accounts WHERE aid > 0"), ACCOUNTS);
  return Number(transactions);
}

describe("pgbench", () => {
  test("runs TPC-B, and every branch taken meanwhile has consistent totals", async () => {
    await pgbench(main, "-i", "-q", "-s", "1");
    assert.equal(await assertConsistent(main), 0);

    const load = pgbench(main, "-c", "4", "-j", "1", "-T", String(LOAD_SECONDS), "-n");
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
        await pgbench(branch, "-c", "2", "-t", "50", "-n");
        assert.equal(await assertConsistent(branch), transactions + 100);
        await branch.restart();
        assert.equal(await assertConsistent(branch), transactions + 100);
      }
      await branch.stop();
    }
    // The same LSN asked for later is the same.
    const again = await branchAt(env, main, "asked_later", lsns[0]!);
    const first = await assertConsistent(again);
    assert.ok(first > 0 && first < before);
    await again.stop();
    assert.equal(await assertConsistent(main), done);
  });
});
