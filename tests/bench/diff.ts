/**
 * What it takes to find 1,000 changed rows in a large table, beside the least that `branch diff` can take (two equal moments: it
 * makes two branches and starts a Postgres on each) and beside reading the table once.
 *
 * `npm run bench -- diff [GiB]`
 */
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";
import { summarize, useExecutable } from "./harness.ts";
import { cpuMs } from "./lib/cpu_time.ts";

const GIB = 2 ** 30;
const CHANGED_ROWS = 1000;
const ROWS_PER_STEP = 200_000;
const ROUNDS = 3;

/** Rows of 1 kB, in transactions of some 200 MB. @returns the number of rows */
async function fill(main: Compute, bytes: number): Promise<number> {
  // A vacuum between the two moments changes pages too, and they are read as well.
  await main.query(
    "CREATE TABLE t (id bigint PRIMARY KEY, n int, filler text) WITH (autovacuum_enabled = off)",
  );
  let rows = 0;
  while (Number(await main.value("SELECT pg_table_size('t')")) < bytes) {
    await main.query(
      `INSERT INTO t SELECT i, 0, repeat(md5(i::text), 30) FROM generate_series(${rows + 1}, ${
        rows + ROWS_PER_STEP
      }) i`,
    );
    rows += ROWS_PER_STEP;
  }
  return rows;
}

function assertCount(count: number, expected: number): void {
  if (count !== expected) throw new Error(`${count} changed rows, expected ${expected}`);
}

export async function run(args: readonly string[]): Promise<void> {
  useExecutable();
  const gib = Number(args[0] ?? 1);
  await using env = await ZenithEnv.create({ safekeepers: 0 });
  const main = await env.startCompute("main");
  const rows = await fill(main, gib * GIB);
  await main.query("CHECKPOINT");
  const before = await main.lsn();
  // By the index: to read all of such a table takes minutes.
  const step = Math.floor(rows / CHANGED_ROWS);
  const [{ changed }] = await main.query(
    `WITH changed AS (UPDATE t SET n = 1 WHERE id = ANY (ARRAY(SELECT generate_series(1, ${rows}, ${step}))) RETURNING id)
     SELECT count(*)::int AS changed FROM changed`,
  ) as [{ changed: number }];
  const after = await main.lsn();
  await main.stop();
  console.log(`${rows} rows, ${changed} changed`);

  const found: Record<string, object> = {};
  const measure = async (what: string, work: () => Promise<void>) => {
    const [elapsed, cpu]: [number[], number[]] = [[], []];
    for (let round = 0; round < ROUNDS; round++) {
      const [start, cpuStart] = [performance.now(), cpuMs(env.pageserver.pid)];
      await work();
      elapsed.push(performance.now() - start);
      cpu.push(cpuMs(env.pageserver.pid) - cpuStart);
    }
    found[what] = {
      "ms, median": Math.round(summarize(elapsed).median),
      min: Math.round(summarize(elapsed).min),
      "page server's CPU ms": Math.round(summarize(cpu).median),
    };
  };
  const diff = async (a: string, b: string, expected: number) => {
    const printed = await env.zenith("branch", "diff", `main@${a}`, `main@${b}`, "--data", "--json");
    const { tables } = JSON.parse(printed) as { tables: { changed_rows: number }[] };
    assertCount(tables.reduce((sum, table) => sum + table.changed_rows, 0), expected);
  };
  const rowsOf = async (a: string, b: string, expected: number) => {
    const printed = await env.zenith("branch", "diff", `main@${a}`, `main@${b}`, "--rows", "t");
    assertCount(printed.split("\n").filter((line) => line.startsWith("~")).length, expected);
  };
  await measure("--rows, 1,000 changed rows", () => rowsOf(before, after, changed));
  await measure("--rows, two equal moments", () => rowsOf(after, after, 0));
  await measure("--data, 1,000 changed rows", () => diff(before, after, changed));
  const read = await env.startCompute("main");
  await measure("reading the table once", async () => {
    await read.restart();
    await read.query("SET enable_indexscan = off; SELECT sum(length(filler)) FROM t");
  });
  console.table(found);
  console.log(JSON.stringify({ bench: "diff", rows, found }));
}
