/**
 * What memory the roles take, against what they are configured to take:
 *
 * * `load`: some 2 GB of WAL go from a compute through a safekeeper to the page server; the peak of each process.
 * * `busy-200`, `busy-10`, `busy-1`: so many timelines take in WAL in turns, some 2 GB in all, and pages are read from them meanwhile; the most that
 *   memory layers and caches hold, as `status` says it, and the process's peak. The page server is in this process, and is handed WAL from
 *   files: one Postgres has one slot for one page server. The one timeline's WAL is mostly of indexes, and its layers are merged before
 *   the measurement ends.
 *
 * `npm run bench -- memory [load|busy-200|busy-10|busy-1 …]`, by default all.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "valibot";
import { nodeDisk } from "../../src/common/disk.ts";
import { parseBranchName, type TenantId } from "../../src/common/id.ts";
import { NULL_LOGGER } from "../../src/process/log.ts";
import { type Lsn, parseLsn } from "../../src/common/lsn.ts";
import { PageServerConfigSchema } from "../../src/common/page_server_config.ts";
import { PageServerPaths } from "../../src/common/paths.ts";
import { checkPidFile } from "../../src/process/pid_file.ts";
import { parseStartPoint } from "../../src/pageserver/tenant/branch_files.ts";
import { runPageServer } from "../../src/pageserver/service/run_page_server.ts";
import type { Timeline } from "../../src/pageserver/timeline/timeline.ts";
import { makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { BLCKSZ } from "../../src/postgres/cluster/page_layout.ts";
import { WAL_TLI, walFileName } from "../../src/postgres/wal/page_header.ts";
import { MAIN_FORKNUM } from "../../src/postgres/cluster/relfile.ts";
import { pgbench } from "../harness/pgbench.ts";
import { ZenithEnv } from "../harness/zenith_env.ts";
import { runParts } from "./harness.ts";
import { indexHeavy } from "./ingest.ts";
import { BenchPageServer } from "./lib/page_server.ts";
import { PostgresServer } from "./lib/postgres_server.ts";

const MIB = 1 << 20;
const PAGE_SERVER_GOAL_MIB = 512;
const SAFEKEEPER_GOAL_MIB = 128;
/** memory_layer_bytes, block_cache_bytes and page_cache_bytes together, by default. */
const BOUND_MIB = 256;

/** pgbench writes some 13 MiB of WAL per unit of its scale. */
const LOAD_SCALE = 150;
const POLL_MS = 100;
/** Merges start within some seconds after nothing is taken in any more. */
const SETTLED_POLLS = 100;
/** Pages that are read from a timeline after each piece of WAL. */
const READS_PER_PIECE = 20;
const PIECE_BYTES = 128 << 10;
const SEGMENT_BYTES = 16 << 20;
/** pg_default, src/include/catalog/pg_tablespace.dat. */
const DEFAULT_TABLESPACE = 1663;

interface Row {
  readonly what: string;
  readonly peakMib: number;
  readonly goalMib: number | null;
}

const rows: Row[] = [];

function note(what: string, peakBytes: number, goalMib: number | null): void {
  rows.push({ what, peakMib: Math.round(peakBytes / MIB), goalMib });
  console.log(`${what}: ${rows.at(-1)!.peakMib} MiB`);
}

function peakRssBytes(pid: number): number {
  const match = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(match?.[1] ?? NaN) * 1024;
}

async function load(): Promise<void> {
  await using env = await ZenithEnv.create({ safekeepers: 1 });
  const compute = await env.startCompute();
  const before = parseLsn(await compute.lsn());
  await pgbench(compute, "postgres", "-i", "-q", "-s", String(LOAD_SCALE));
  const wal = parseLsn(await compute.lsn()) - before;
  await env.untilArrived();
  console.log(`${Math.round(wal / MIB)} MiB of WAL through a compute`);
  const supervisor = checkPidFile(compute.paths.pidFile);
  note("load: page server", peakRssBytes(env.pageserver.pid), PAGE_SERVER_GOAL_MIB);
  note("load: safekeeper", peakRssBytes(env.safekeepers[0].pid), SAFEKEEPER_GOAL_MIB);
  if (supervisor.state === "running") {
    note("load: the compute's supervisor", peakRssBytes(supervisor.process.pid), null);
  }
}

/** The part of the page server's `status` that is looked at. */
interface Status {
  readonly memory_layer_bytes: number;
  readonly block_cache_bytes: number;
  readonly page_cache_bytes: number;
}

interface Stage {
  readonly timelines: number;
  readonly table: string;
  /** Makes the WAL. */
  run(source: PostgresServer): void;
}

const STAGES: readonly Stage[] = [
  { timelines: 200, table: "pgbench_accounts", run: (source) => pgbenchTables(source, 1) },
  { timelines: 10, table: "pgbench_accounts", run: (source) => pgbenchTables(source, 10) },
  { timelines: 1, table: "t", run: (source) => source.sql(indexHeavy(1_600_000)) },
];

function pgbenchTables(source: PostgresServer, scale: number): void {
  source.run("pgbench", ["-i", "-q", "-s", String(scale)]);
}

/** Branches that all leave where the source began, and so can all take in what it has written since. */
async function busy(stage: Stage): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "zenith-bench-memory-"));
  makeOwnedDirectory(dir, pgUser());
  try {
    const workdir = join(dir, "pageserver");
    await using server = await BenchPageServer.start(workdir);
    const { tenant, timeline } = await server.createTenant();
    await server.basebackup({ tenant, timeline }, join(dir, "source"));
    await server.stop();
    const source = new PostgresServer(join(dir, "source"), {
      full_page_writes: "off",
      autovacuum: "off",
      max_wal_size: "50GB",
      wal_keep_size: "100GB",
    });
    source.start();
    try {
      await measureBusy(workdir, tenant, source, stage);
    } finally {
      source.stop("immediate");
    }
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

async function measureBusy(workdir: string, tenantId: TenantId, source: PostgresServer, stage: Stage) {
  stage.run(source);
  const end = parseLsn(source.sql("SELECT pg_current_wal_flush_lsn()"));
  const [db, rel, blocks] = source.sql(
    `SELECT oid, pg_relation_filenode('${stage.table}'), pg_relation_size('${stage.table}') / ${BLCKSZ} ` +
      "FROM pg_database WHERE datname = current_database()",
  ).split("|").map(Number);
  const { server, stop } = await runPageServer({
    paths: new PageServerPaths(workdir),
    config: parse(PageServerConfigSchema, {}),
    listen: { host: "127.0.0.1", port: 0 },
    logger: NULL_LOGGER,
  });
  const tenant = server.tenant(tenantId);
  const timelines: Timeline[] = [];
  for (let i = 0; i < stage.timelines; i++) {
    const name = parseBranchName(`b${stage.timelines}_${i}`);
    const { timelineId } = await tenant.branches.create(name, parseStartPoint("main"));
    timelines.push((await tenant.timelines.hold(timelineId)).value);
  }
  resetPeakRss();
  let most = 0;
  const watch = async () => {
    const status = await server.status() as Status;
    most = Math.max(
      most,
      status.memory_layer_bytes + status.block_cache_bytes + status.page_cache_bytes,
    );
  };
  let at = await timelines[0].restartReceiving();
  for (const timeline of timelines.slice(1)) await timeline.restartReceiving();
  const piece = new Uint8Array(PIECE_BYTES);
  const page = new Uint8Array(BLCKSZ);
  let reads = 0;
  while (at < end) {
    const len = readWal(source, at, piece, Math.min(PIECE_BYTES, end - at));
    for (const timeline of timelines) {
      await timeline.ready();
      timeline.receive(at, piece.subarray(0, len));
      const view = timeline.at(timeline.lastRecordLsn);
      const fork = view.fork(DEFAULT_TABLESPACE, db!, rel!, MAIN_FORKNUM);
      for (let i = 0; i < READS_PER_PIECE && fork.blocks > 0; i++) {
        view.readPage(fork, reads++ * 7919 % fork.blocks, page, 0);
      }
    }
    await watch();
    at = (at + len) as Lsn;
  }
  for (const timeline of timelines) await timeline.makeDurable();
  if (stage.timelines === 1) await untilMerged(timelines[0], watch);
  note(`${stage.timelines} busy timelines: layers and caches`, most, BOUND_MIB);
  note(`${stage.timelines} busy timelines: peak RSS`, peakRssBytes(process.pid), PAGE_SERVER_GOAL_MIB);
  console.log(
    `${blocks} blocks of ${stage.table}, ${
      Math.round((end - timelines[0].store.startLsn) / MIB)
    } MiB of WAL each`,
  );
  await stop("fast");
}

/** From PostgreSQL's own files. @returns how many bytes there were before the segment ended */
function readWal(source: PostgresServer, at: Lsn, into: Uint8Array, len: number): number {
  const inSegment = at % SEGMENT_BYTES;
  const path = join(source.pgdata, "pg_wal", walFileName(WAL_TLI, at - inSegment, SEGMENT_BYTES));
  const file = nodeDisk.openSync(path, "read");
  try {
    return file.readSync(into, 0, Math.min(len, SEGMENT_BYTES - inSegment), inSegment);
  } finally {
    file.closeSync();
  }
}

/** Resolves when no layer has come or gone for some time. */
async function untilMerged({ store }: Timeline, watch: () => Promise<void>): Promise<void> {
  let layers = -1;
  for (let settled = 0; settled < SETTLED_POLLS; settled++) {
    const { layerCount } = store.sizes();
    if (layerCount !== layers) settled = 0;
    layers = layerCount;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    await watch();
  }
}

/** proc(5): the next VmHWM begins with what there is now. */
function resetPeakRss(): void {
  writeFileSync("/proc/self/clear_refs", "5");
}

const PARTS: Readonly<Record<string, () => Promise<void>>> = {
  load,
  ...Object.fromEntries(STAGES.map((stage) => [`busy-${stage.timelines}`, () => busy(stage)])),
};

export async function run(args: readonly string[]): Promise<void> {
  const names = args.length > 0 ? args : Object.keys(PARTS);
  if (names.length === 1) return await runParts("memory", PARTS, names, rows);
  // In one process, a part would be left the garbage of the one before.
  for (const name of names) {
    const { status } = spawnSync(process.execPath, [process.argv[1], "memory", name], { stdio: "inherit" });
    if (status !== 0) throw new Error(`part "${name}" failed`);
  }
}
