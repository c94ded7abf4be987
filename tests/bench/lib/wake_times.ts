/** How long a branch that sleeps under `zenith serve` takes until its first row, against the same branch awake. */
import { Serve } from "../../harness/serve.ts";
import { until, ZenithEnv } from "../../harness/zenith_env.ts";
import { percentile } from "../harness.ts";
import type { GoalRow } from "./goal_table.ts";

const ROUNDS = 20;
const FIRST_QUERY = "SELECT n FROM t LIMIT 1";

/** psql connects through the Postgres port. A supervisor waits, as after any stop. */
export async function measureWakes(): Promise<GoalRow[]> {
  await using env = await ZenithEnv.create({ safekeepers: 1, start: false });
  await using serve = await Serve.start(env);
  await env.zenith("pg", "start", "main");
  const connInfo = serve.conninfo("main");
  await serve.psql(connInfo, "CREATE TABLE t AS SELECT generate_series(1, 1000) n");
  const firstRowMs = async (): Promise<number> => {
    const started = performance.now();
    await serve.psql(connInfo, FIRST_QUERY);
    return performance.now() - started;
  };
  const [asleep, awake]: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    await env.zenith("pg", "stop", "main");
    await until("its supervisor waits", () => env.spares().length > 0);
    asleep.push(await firstRowMs());
    awake.push(await firstRowMs());
  }
  const row = (what: string, goal: string, share: number): GoalRow => {
    const figure = (times: number[]): number => percentile(times.toSorted((a, b) => a - b), share);
    return { what, goal, figures: new Map([["Zenith", figure(asleep)], ["awake", figure(awake)]]) };
  };
  return [
    row("a sleeping branch to first row by zenith serve, ms, p50", "≤ 30 more", 0.5),
    row("the same, p99", "≤ 2 x p50", 0.99),
  ];
}
