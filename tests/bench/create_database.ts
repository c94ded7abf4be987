/**
 * What a copy of a whole database does to the page server and to others: CREATE DATABASE … STRATEGY FILE_COPY is one record of WAL. The
 * page server's memory meanwhile, and another tenant's page requests, one at a time, against the same alone.
 *
 * `npm run bench -- create_database [pgbench scale [rounds]]`; scale 19 makes a database of some 286 MiB.
 */
import { readFileSync, writeFileSync } from "node:fs";
import type { TenantId } from "../../src/common/id.ts";
import { INVALID_LSN } from "../../src/common/lsn.ts";
import { PgClient } from "../../src/pgwire/client.ts";
import { pgbench } from "../harness/pgbench.ts";
import { ZenithEnv } from "../harness/zenith_env.ts";
import { percentile, summarize, useExecutable } from "./harness.ts";
import { cpuMs } from "./lib/cpu_time.ts";
import { PageStream } from "./lib/page_stream.ts";
import { makePagesTable } from "./lib/pages_table.ts";
import { type Driver, roundTrips } from "./lib/round_trips.ts";

const SCALE = 19;
const ROUNDS = 3;
const PAGES = 200;
const MIB = 1 << 20;
const MEMORY_GOAL_MIB = 64;
const P99_GOAL_MS = 20;
const REQUESTS_ALONE = 3_000;

function memoryBytes(pid: number, field: "VmRSS" | "VmHWM"): number {
  const match = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(match?.[1] ?? NaN) * 1024;
}

/** One request after the other until `work` is done. @returns how long each took, ascending, in ms */
async function whileReading(pages: Driver, work: Promise<unknown>): Promise<number[]> {
  const elapsed: number[] = [];
  let running = true;
  const ended = work.finally(() => running = false);
  for (let i = 0; running; i++) {
    const began = performance.now();
    await new Promise<void>((resolve) => {
      pages.onReply = resolve;
      pages.send(i);
    });
    elapsed.push(performance.now() - began);
    // Lets the client that waits for the copy hear of its end.
    if (i % 64 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await ended;
  return elapsed.sort((a, b) => a - b);
}

export async function run(args: readonly string[]): Promise<void> {
  useExecutable();
  const scale = Number(args[0] ?? SCALE);
  const rounds = Number(args[1] ?? ROUNDS);
  await using env = await ZenithEnv.create({ safekeepers: 1 });
  const { host, port } = env.pageserver.address;
  const connect = () => PgClient.connect({ host, port, user: "bench", password: env.token });
  const other: TenantId = await env.createTenant();
  const { relation, ...where } = await makePagesTable(
    env,
    other,
    await env.startCompute("main", other),
    PAGES,
  );
  const main = await env.startCompute();
  await main.query("CREATE DATABASE source");
  await pgbench(main, "source", "-i", "-q", "-s", String(scale));
  await main.query("CHECKPOINT");
  await env.untilArrived();
  const size = Number(await main.value("SELECT pg_database_size('source')"));
  console.log(`a database of ${Math.round(size / MIB)} MiB`);

  const found: Record<string, object> = {};
  const measure = async (what: string) => {
    const [seconds, more, peak, cpu, p50, p99, max]: number[][] = Array.from({ length: 7 }, () => []);
    await using stream = await PageStream.open({ connect }, where);
    const pages = stream.reader(relation, PAGES, INVALID_LSN);
    const alone = await stream.orFail(roundTrips(pages, REQUESTS_ALONE, 1));
    for (let round = 0; round < rounds; round++) {
      const { pid } = env.pageserver;
      // proc(5): the next VmHWM begins with what there is now.
      writeFileSync(`/proc/${pid}/clear_refs`, "5");
      const [before, cpuBefore, began] = [memoryBytes(pid, "VmRSS"), cpuMs(pid), performance.now()];
      const copied = async () => {
        await main.query(`CREATE DATABASE copy${round} TEMPLATE source STRATEGY file_copy`);
        await env.untilArrived();
      };
      const elapsed = await stream.orFail(whileReading(pages, copied()));
      seconds!.push((performance.now() - began) / 1000);
      more!.push((memoryBytes(pid, "VmHWM") - before) / MIB);
      peak!.push(memoryBytes(pid, "VmHWM") / MIB);
      cpu!.push((cpuMs(pid) - cpuBefore) / 1000);
      p50!.push(percentile(elapsed, 0.5));
      p99!.push(percentile(elapsed, 0.99));
      max!.push(elapsed.at(-1)!);
      await main.query(`DROP DATABASE copy${round}`);
      await env.untilArrived();
    }
    const median = (values: number[] | undefined) => Number(summarize(values!).median.toPrecision(3));
    const range = (values: number[] | undefined) =>
      `${median(values)} (${summarize(values!).min.toPrecision(3)}-${summarize(values!).max.toPrecision(3)})`;
    found[what] = {
      "copy, s": range(seconds),
      "CPU, s": range(cpu),
      [`MiB more, goal ${MEMORY_GOAL_MIB}`]: range(more),
      "peak MiB": range(peak),
      "others' p50, ms": range(p50),
      [`p99, goal ${P99_GOAL_MS}`]: range(p99),
      "max, ms": range(max),
      "alone: p50, p99": `${(alone.p50Us / 1000).toFixed(2)}, ${(alone.p99Us / 1000).toFixed(2)}`,
    };
  };
  await measure("by the server that took in the source");
  await env.pageserver.restart();
  await measure("by a restarted one");
  console.table(found);
  console.log(JSON.stringify({ bench: "create_database", databaseBytes: size, found }));
}
