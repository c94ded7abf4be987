/** From `pg start` to the first row, by the supervisor that takes the start, against `pg_ctl start` of a stock cluster. */
import { ZenithEnv } from "../../harness/zenith_env.ts";
import { Connection } from "../../harness/connection.ts";
import { StockCluster } from "../../harness/stock_cluster.ts";
import { percentile } from "../harness.ts";
import type { GoalRow } from "./goal_table.ts";
import { ALL_SUPERVISORS, leaveOnly, untilOneIsAhead } from "./supervisors.ts";

const ROUNDS = 20;
const TABLE = "CREATE TABLE t AS SELECT generate_series(1, 1000) n";
const FIRST_QUERY = "SELECT n FROM t LIMIT 1";

async function timed(times: number[], run: () => Promise<unknown>): Promise<void> {
  const started = performance.now();
  await run();
  times.push(performance.now() - started);
}

export async function measureStarts(): Promise<GoalRow[]> {
  await using env = await ZenithEnv.create({ safekeepers: 1 });
  await using main = await env.startCompute("main");
  await main.query(TABLE);
  await using cluster = await StockCluster.start();
  await cluster.sql.unsafe(TABLE);
  await cluster.stopPostgres();
  const times = new Map(ALL_SUPERVISORS.map((name): [string, number[]] => [name, []]));
  const stock: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    for (const name of ALL_SUPERVISORS) {
      await untilOneIsAhead(env);
      await main.stop();
      await leaveOnly(env, name);
      await timed(times.get(name)!, async () => {
        await env.zenith("pg", "start", "main");
        await using _session = await Connection.open(main.address, { password: main.password }, FIRST_QUERY);
      });
    }
    await timed(stock, async () => {
      cluster.startPostgres();
      await cluster.sql.unsafe(FIRST_QUERY);
    });
    await cluster.stopPostgres();
  }
  const row = (what: string, goal: string, share: number): GoalRow => {
    const figures = [...times, ["pg_ctl", stock] as const].map(([name, all]): [string, number] => {
      return [name, percentile(all.toSorted((a, b) => a - b), share)];
    });
    return { what, goal, figures: new Map(figures), reference: "pg_ctl" };
  };
  return [row("pg start to first row, ms, p50", "≤ 100", 0.5), row("the same, p99", "≤ 2 x p50", 0.99)];
}
