/** pgbench's TPC-B, and what it keeps whatever happens to it. */
import assert from "node:assert/strict";
import { runProgram } from "./programs.ts";
import type { Compute } from "./zenith_env.ts";

/** Rows of pgbench_accounts per unit of scale. */
const ACCOUNTS_PER_SCALE = 100_000;

/** Runs pgbench to its end; what it printed. */
export function pgbench(pg: Compute, database: string, ...args: string[]): Promise<string> {
  return runProgram(pg, "pgbench", [...args, database]);
}

/**
 * What TPC-B keeps: every delta is in the history, and in one account, one teller and one branch.
 *
 * @returns how many transactions there were
 */
export async function assertConsistent(pg: Compute, database: string, scale: number): Promise<number> {
  await using session = await pg.connect({ database });
  const [totals] = await session.query(`
    SELECT (SELECT sum(abalance) FROM pgbench_accounts)::int AS accounts, (SELECT sum(tbalance) FROM pgbench_tellers)::int AS tellers,
      (SELECT sum(bbalance) FROM pgbench_branches)::int AS branches, (SELECT coalesce(sum(delta), 0) FROM pgbench_history)::int AS deltas,
      (SELECT count(*) FROM pgbench_history)::int AS transactions, (SELECT count(*) FROM pgbench_accounts)::int AS count`);
  const { accounts, tellers, branches, deltas, transactions, count } = totals!;
  assert.deepEqual({ tellers, branches, deltas }, {
    tellers: accounts,
    branches: accounts,
    deltas: accounts,
  });
  assert.equal(count, scale * ACCOUNTS_PER_SCALE);
  await session.query("SET enable_seqscan = off");
  assert.equal(await session.value("SELECT count(*)::int FROM pgbench_accounts WHERE aid > 0"), count);
  return Number(transactions);
}
