/**
 * What a branch cycle costs in CPU time, by process: `branch --start`, a scan, `branch delete --stop`. Unlike the time that passes,
 * it means something on a busy machine, though it grows there by a third.
 *
 * `npm run bench -- branch_cpu [cycles, 10 when left out]`: for each supervisor that can take a start, one that has worked, one
 * that was started ahead, and a new one.
 */
import { existsSync } from "node:fs";
import { parseBranchName } from "../../src/common/id.ts";
import { checkPidFile } from "../../src/process/pid_file.ts";
import { Connection } from "../harness/connection.ts";
import { zenithCommand } from "../harness/cli.ts";
import { until, ZenithEnv } from "../harness/zenith_env.ts";
import { useExecutable } from "./harness.ts";
import { cpuMs } from "./lib/cpu_time.ts";
import { ALL_SUPERVISORS, leaveOnly, type Supervisor, untilOneIsAhead } from "./lib/supervisors.ts";

const CYCLES_DEFAULT = 10;
/** After these, the processes that serve have compiled what they use. */
const WARM_UP_CYCLES = 2;
const ROWS = 500_000;

function pidOf(pidFile: string): number {
  const found = checkPidFile(pidFile);
  if (found.state !== "running") throw new Error(`${pidFile}: its process does not run`);
  return found.process.pid;
}

/** Runs a command. @returns what it printed, and its own CPU time */
async function runCounted(env: ZenithEnv, ...args: string[]): Promise<{ text: string; ms: number }> {
  const child = Bun.spawn([...zenithCommand(), ...args], {
    env: { ...process.env, ZENITH_REPO_DIR: env.repoDir },
    stdout: "pipe",
    stderr: "inherit",
  });
  const text = await new Response(child.stdout).text();
  if (await child.exited !== 0) throw new Error(`zenith ${args.join(" ")} has failed`);
  return { text, ms: Number(child.resourceUsage()!.cpuTime.total) / 1000 };
}

/** Counts what the servers take while `run` runs. */
async function whileCounting<T>(pids: Readonly<Record<string, number>>, run: () => Promise<T>) {
  const before = Object.values(pids).map(cpuMs);
  const result = await run();
  const spent = Object.entries(pids).map((
    [name, pid],
    i,
  ): [string, number] => [name, cpuMs(pid) - before[i]]);
  return { result, spent: Object.fromEntries(spent) };
}

type Row = Record<string, number>;

async function cycle(env: ZenithEnv, branch: string, by: Supervisor): Promise<Record<string, Row>> {
  await leaveOnly(env, by);
  const servers = {
    "page server": env.pageserver.pid,
    safekeeper: pidOf(env.safekeepers[0]!.paths.pidFile),
  };
  const spares = new Map(env.spares().map(({ process: { pid } }) => [pid, cpuMs(pid)]));
  const start = await whileCounting(
    servers,
    () => runCounted(env, "branch", branch, "main", "--start", "--json"),
  );
  const supervisor = pidOf(env.paths.compute(env.defaultTenant, parseBranchName(branch)).pidFile);
  const started = cpuMs(supervisor) - (spares.get(supervisor) ?? 0);
  const { hostname: host, port, password } = new URL(JSON.parse(start.result.text).uri);
  const scan = await whileCounting({ ...servers, supervisor }, async () => {
    await using session = await Connection.open({ host, port: Number(port) }, { password });
    await session.query("SET max_parallel_workers_per_gather = 0");
    await session.query("SELECT sum(n) FROM t");
  });
  await untilOneIsAhead(env);
  const { dir } = env.paths.compute(env.defaultTenant, parseBranchName(branch));
  const end = await whileCounting({ ...servers, supervisor }, async () => {
    const command = await runCounted(env, "branch", "delete", branch, "--stop");
    // Its supervisor does the rest, and then waits for the next start.
    await until("the compute is removed", () => !existsSync(dir) && env.spares().length === 2);
    return command;
  });
  return {
    "branch --start": { command: start.result.ms, supervisor: started, ...start.spent },
    "scan of 64 MB": scan.spent,
    "branch delete --stop": { command: end.result.ms, ...end.spent },
  };
}

export async function run([count]: readonly string[]): Promise<void> {
  useExecutable();
  const cycles = count === undefined ? CYCLES_DEFAULT : Number(count);
  await using env = await ZenithEnv.create({ safekeepers: 1 });
  const main = await env.startCompute("main");
  await main.query(
    `CREATE TABLE t AS SELECT n, repeat('x', 90) AS filler FROM generate_series(1, ${ROWS}) n`,
  );
  await main.stop();
  const results: Record<string, Record<string, Row>> = {};
  let branches = 0;
  for (const by of ALL_SUPERVISORS) {
    const sums: Record<string, Row> = {};
    for (let i = 0; i < WARM_UP_CYCLES + cycles; i++) {
      const rows = await cycle(env, `cycle_${branches++}`, by);
      if (i < WARM_UP_CYCLES) continue;
      for (const [operation, row] of Object.entries(rows)) {
        const sum = sums[operation] ??= {};
        for (const [who, ms] of Object.entries(row)) sum[who] = (sum[who] ?? 0) + ms / cycles;
      }
    }
    for (const row of Object.values(sums)) {
      for (const [who, ms] of Object.entries(row)) row[who] = Number(ms.toFixed(1));
    }
    console.log(`the supervisor is ${by}; ms of CPU time, means`);
    console.table(sums);
    results[by] = sums;
  }
  console.log(JSON.stringify({ bench: "branch_cpu", results }));
}
