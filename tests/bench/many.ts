/**
 * What many of a thing cost: tenants, computes, branches below each other, branches of one parent, tables. Memory, disk and time, with a
 * reference where there is one: the same with few.
 *
 * `npm run bench -- many [tenants|computes|chain|branches|crowd|tables …]`, by default all.
 */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { checkPidFile } from "../../src/process/pid_file.ts";
import { generateTenantId, parseBranchName, type TenantId } from "../../src/common/id.ts";
import { parseLsn } from "../../src/common/lsn.ts";
import type { PageServerClient } from "../../src/control/page_server_client.ts";
import { PgClient } from "../../src/pgwire/client.ts";
import { postmasterPid } from "../../src/compute/postgres/postgres_process.ts";
import { durableLsn } from "../harness/branching.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";
import { percentile, runParts } from "./harness.ts";

const TENANTS = 200;
const COMPUTES = 20;
const CHAIN = 100;
/** On every so many-th branch of the chain something is written. */
const CHAIN_WRITES_EVERY = 20;
const BRANCHES = 1_000;
const CROWD = 10_000;
const CROWD_CLIENTS = 8;
/** How many are made one after another, beside all the others. */
const CROWD_SAMPLE = 200;
const TABLES = 5_000;
const TABLES_PER_TRANSACTION = 250;
const EAGER_ROUNDS = 3;

interface Figure {
  readonly what: string;
  readonly value: string;
}

const figures: Figure[] = [];

function note(what: string, value: number, unit: "ms" | "s" | "MiB" | "KiB" | ""): void {
  const digits = unit === "" ? String(value) : value.toPrecision(3);
  figures.push({ what, value: `${Number(digits)} ${unit}`.trim() });
  console.log(`${what}: ${figures.at(-1)!.value}`);
}

const MIB = 1 << 20;
const BYTES_PER_STAT_BLOCK = 512;

function statusKib(pid: number, field: "VmRSS" | "VmHWM"): number {
  const match = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(match?.[1] ?? NaN);
}

/** Memory of a process, what it shares with others divided by how many they are. */
function pssKib(pid: number): number {
  const match = /^Pss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
  return Number(match?.[1] ?? NaN);
}

function rssMib(env: ZenithEnv): number {
  return statusKib(env.pageserver.pid, "VmRSS") / 1024;
}

function diskBytes(dir: string): number {
  let blocks = 0;
  for (const name of readdirSync(dir, { recursive: true, encoding: "utf8" })) {
    blocks += statSync(join(dir, name), { throwIfNoEntry: false })?.blocks ?? 0;
  }
  return blocks * BYTES_PER_STAT_BLOCK;
}

async function timed(run: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await run();
  return performance.now() - started;
}

/** Restarts the page server; until it answers, and until it has opened all timelines. */
async function restart(env: ZenithEnv, tenants: readonly TenantId[]): Promise<void> {
  await env.pageserver.stop();
  note("  restart until the page server answers", await timed(() => env.pageserver.start()), "ms");
  note("  memory then", rssMib(env), "MiB");
  await using client = env.pageserver.client();
  const open = async () => {
    for (const tenant of tenants) await client.branchList(tenant);
  };
  note("  until all timelines are open", await timed(open), "ms");
  note("  memory then", rssMib(env), "MiB");
}

/** Stops it, and waits until the page server has what it wrote last: a branch would leave without that. */
async function stopAndArrive(env: ZenithEnv, compute: Compute): Promise<void> {
  const lsn = parseLsn(await durableLsn(compute));
  await using client = env.pageserver.client();
  await until("the page server has all of it", async () => {
    const found = (await client.branchList(compute.tenant)).find(({ name }) => name === compute.branch);
    return found !== undefined && found.latest_valid_lsn >= lsn;
  });
  await compute.stop();
}

function branch(client: PageServerClient, tenant: TenantId, name: string, start: string): Promise<unknown> {
  return client.branchCreate(tenant, parseBranchName(name), start);
}

async function makeTenants(env: ZenithEnv): Promise<TenantId[]> {
  await using client = env.pageserver.client();
  const tenants = Array.from({ length: TENANTS }, generateTenantId);
  // The first one has initdb run.
  await client.tenantCreate(generateTenantId());
  const [memory, disk] = [rssMib(env), diskBytes(env.paths.pageserver.tenants)];
  const elapsed = await timed(async () => {
    for (const tenant of tenants) {
      await client.tenantCreate(tenant);
      await branch(client, tenant, "dev", "main");
    }
  });
  note(`${TENANTS} tenants with a branch each: time per tenant`, elapsed / TENANTS, "ms");
  note("  memory of the page server before", memory, "MiB");
  note("  memory with them, per tenant", (rssMib(env) - memory) * 1024 / TENANTS, "KiB");
  const perTenant = (diskBytes(env.paths.pageserver.tenants) - disk) / TENANTS;
  note("  disk per tenant", perTenant / MIB, "MiB");
  await restart(env, tenants);
  return tenants;
}

async function tenants(): Promise<void> {
  await using env = await ZenithEnv.create();
  await makeTenants(env);
}

/** Postgres with all its processes, and its supervisor. */
function computeMemoryKib(compute: Compute): { postgres: number; supervisor: number } {
  const postmaster = postmasterPid(compute.paths.pgdata)!;
  const children = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === postmaster;
    } catch {
      return false;
    }
  });
  const found = checkPidFile(compute.paths.pidFile);
  const postgres = [postmaster, ...children].reduce((sum, pid) => sum + pssKib(pid), 0);
  return { postgres, supervisor: found.state === "running" ? pssKib(found.process.pid) : NaN };
}

async function computes(): Promise<void> {
  await using env = await ZenithEnv.create({ storage: "lazy" });
  await using client = env.pageserver.client();
  const running: Compute[] = [];
  const memory = rssMib(env);
  const elapsed = await timed(async () => {
    for (let i = 0; i < COMPUTES; i++) {
      const tenant = generateTenantId();
      await client.tenantCreate(tenant);
      await branch(client, tenant, "dev", "main");
      const compute = await env.startCompute("dev", tenant);
      running.push(compute);
      await compute.query("CREATE TABLE t AS SELECT generate_series(1, 1000) n");
    }
  });
  note(
    `${COMPUTES} computes at once, lazy: time per tenant, branch, start and table`,
    elapsed / COMPUTES,
    "ms",
  );
  const sums = await Promise.all(running.map((compute) => compute.value("SELECT sum(n)::int FROM t")));
  if (!sums.every((sum) => sum === 500_500)) throw new Error(`wrong sums: ${sums}`);
  const sizes = running.map(computeMemoryKib);
  const average = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length / 1024;
  note("  memory of a Postgres", average(sizes.map(({ postgres }) => postgres)), "MiB");
  note("  memory of a supervisor", average(sizes.map(({ supervisor }) => supervisor)), "MiB");
  note("  memory of the page server, per compute", (rssMib(env) - memory) / COMPUTES, "MiB");
  await Promise.all(running.map((compute) => compute.stop()));
}

/** A whole basebackup: every page of every relation is read. */
async function readAll(env: ZenithEnv, tenant: TenantId, timeline: string): Promise<number> {
  return await timed(async () => {
    await using client = await PgClient.connect({
      ...env.pageserver.address,
      database: "zenith",
      password: env.token,
    });
    for await (const _ of client.copyOut(`basebackup ${tenant} ${timeline}`)) { /* read to the end */ }
  });
}

async function chain(): Promise<void> {
  await using env = await ZenithEnv.create();
  await using client = env.pageserver.client();
  const tenant = env.defaultTenant;
  const main = await env.startCompute("main");
  await main.query("CREATE TABLE t AS SELECT n, repeat('x', 500) f FROM generate_series(1, 20000) n");
  await stopAndArrive(env, main);
  const memory = rssMib(env);
  let parent = "main";
  let elapsed = 0;
  for (let depth = 1; depth <= CHAIN; depth++) {
    const [name, start] = [`depth${depth}`, parent];
    elapsed += await timed(() => branch(client, tenant, name, start));
    parent = name;
    if (depth % CHAIN_WRITES_EVERY !== 0) continue;
    const compute = await env.startCompute(name);
    await compute.query(`UPDATE t SET n = n WHERE n % ${CHAIN} = ${depth % CHAIN}`);
    await stopAndArrive(env, compute);
    await env.zenith("pg", "stop", name, "--destroy");
  }
  note(`a chain of ${CHAIN} branches: time per branch`, elapsed / CHAIN, "ms");
  note("  memory of the page server, per branch", (rssMib(env) - memory) * 1024 / CHAIN, "KiB");
  await restart(env, [tenant]);
  const branches = await client.branchList(tenant);
  const timeline = (name: string) => branches.find((branch) => branch.name === name)!.timeline_id;
  const times = { shallow: [] as number[], deep: [] as number[] };
  for (let round = 0; round < 5; round++) {
    times.shallow.push(await readAll(env, tenant, timeline("main")));
    times.deep.push(await readAll(env, tenant, timeline(parent)));
  }
  const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1];
  note("  reading every page at the root", median(times.shallow), "ms");
  note("  reading every page at the end", median(times.deep), "ms");
}

async function branches(): Promise<void> {
  await using env = await ZenithEnv.create();
  await using client = env.pageserver.client();
  const tenant = env.defaultTenant;
  const [memory, disk] = [rssMib(env), diskBytes(env.paths.pageserver.tenants)];
  const make = async (from: number, to: number) => {
    for (let i = from; i < to; i++) await branch(client, tenant, `b${i}`, "main");
  };
  const sample = BRANCHES / 10;
  note(
    `${BRANCHES} branches of one parent: time of each of the first`,
    await timed(() => make(0, sample)) / sample,
    "ms",
  );
  await make(sample, BRANCHES - sample);
  note("  time of each of the last", await timed(() => make(BRANCHES - sample, BRANCHES)) / sample, "ms");
  note("  memory of the page server, per branch", (rssMib(env) - memory) * 1024 / BRANCHES, "KiB");
  note("  disk per branch", (diskBytes(env.paths.pageserver.tenants) - disk) / BRANCHES / 1024, "KiB");
  note("  listing them", await timed(() => client.branchList(tenant)), "ms");
  note("  zenith branch", await timed(() => env.zenith("branch")), "ms");
  await restart(env, [tenant]);
  note("  listing them again", await timed(() => client.branchList(tenant)), "ms");
}

/** Ten thousand branches of one parent, made by several clients at once. */
async function crowd(): Promise<void> {
  await using env = await ZenithEnv.create();
  await using client = env.pageserver.client();
  const tenant = env.defaultTenant;
  let made = 0;
  const elapsed = await timed(() =>
    Promise.all(Array.from({ length: CROWD_CLIENTS }, async () => {
      await using own = env.pageserver.client();
      while (made < CROWD) await branch(own, tenant, `b${made++}`, "main");
    }))
  );
  note(`${CROWD} branches by ${CROWD_CLIENTS} clients: made per second`, CROWD / (elapsed / 1000), "");
  const times: number[] = [];
  for (let i = 0; i < CROWD_SAMPLE; i++) {
    times.push(await timed(() => branch(client, tenant, `more${i}`, "main")));
  }
  times.sort((a, b) => a - b);
  note("  one more, by one client: p50", percentile(times, 0.5), "ms");
  note("  one more, by one client: p99", percentile(times, 0.99), "ms");
  note("  listing them", await timed(() => client.branchList(tenant)), "ms");
  note("  zenith branch", await timed(() => env.zenith("branch")), "ms");
  await env.pageserver.stop();
  note("  restart until the page server answers", await timed(() => env.pageserver.start()), "ms");
  note("  memory with all asleep", rssMib(env), "MiB");
  note("  listing them then", await timed(() => client.branchList(tenant)), "ms");
  note("  memory then", rssMib(env), "MiB");
}

async function tables(): Promise<void> {
  await using env = await ZenithEnv.create();
  await using client = env.pageserver.client();
  const start = async (storage: string): Promise<number> => {
    const elapsed = await timed(() => env.zenith("pg", "start", "main", "--storage", storage));
    note(`  ${storage} start`, elapsed, "ms");
    return elapsed;
  };
  const main = await env.createCompute("main");
  console.log("one empty database");
  await start("eager");
  await main.stop();
  await start("lazy");
  const memory = rssMib(env);
  const elapsed = await timed(async () => {
    await using session = await main.connect();
    for (let i = 0; i < TABLES; i += TABLES_PER_TRANSACTION) {
      await session.query(
        `DO $$ BEGIN FOR i IN ${i}..${i + TABLES_PER_TRANSACTION - 1} LOOP
           EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, v text)', i);
           EXECUTE format('INSERT INTO t%s VALUES (1, ''one'')', i);
         END LOOP; END $$`,
      );
    }
  });
  note(`${TABLES} tables with an index each: time of each`, elapsed / TABLES, "ms");
  note("  memory of the page server more", rssMib(env) - memory, "MiB");
  note("  a branch of them", await timed(() => branch(client, env.defaultTenant, "dev", "main")), "ms");
  await main.stop();
  await start("lazy");
  note("  memory of the supervisor", computeMemoryKib(main).supervisor / 1024, "MiB");
  await main.stop();
  // In turns, each in the place of what it has made before.
  const copy = `${main.paths.pgdata}.copy`;
  for (let round = 0; round < EAGER_ROUNDS; round++) {
    await start("eager");
    await main.stop();
    const copied = await timed(async () => {
      rmSync(copy, { recursive: true, force: true });
      if (spawnSync("cp", ["-a", main.paths.pgdata, copy]).status !== 0) throw new Error("cp failed");
    });
    note("  rm -rf and cp -a of its data directory", copied, "ms");
  }
  await restart(env, [env.defaultTenant]);
}

const PARTS: Readonly<Record<string, () => Promise<void>>> = {
  tenants,
  computes,
  chain,
  branches,
  crowd,
  tables,
};

export async function run(args: readonly string[]): Promise<void> {
  await runParts("many", PARTS, args, figures);
}
