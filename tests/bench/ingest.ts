/**
 * How fast WAL becomes readable pages: bytes per second from a walsender's socket until a read at the last LSN is
 * answered, by a real page server process with its defaults, its WAL store fsynced; against a stock Postgres that replays
 * the same WAL from files in crash recovery, fsync off, with as much shared memory as the page server may take.
 *
 * Both begin with the data directory of a new tenant. The WAL is what stock Postgres writes when it runs a workload on it,
 * with full_page_writes off, as on every compute.
 *
 * A new page server each round: what its runtime takes to compile the code that turns out hot, half a second or more, is in every
 * figure, and weighs less the more WAL there is.
 *
 * `npm run bench -- ingest [rounds [pgbench scale]]`; with scale 80, and as many rows of the other table, it is about 1 GiB.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Lsn, parseLsn } from "../../src/common/lsn.ts";
import { makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { CONTROL_FILE_PATH, DB_IN_PRODUCTION, encodeControlFile } from "../../src/postgres/control_file.ts";
import { compare, type Comparison, report, summarize } from "./harness.ts";
import { BenchPageServer, type BenchTimeline } from "./lib/page_server.ts";
import { PostgresServer } from "./lib/postgres_server.ts";

const ROUNDS = 5;
/** About 1 GiB of WAL each. */
const PGBENCH_SCALE = 80;
/** For each unit of the scale. */
const PGBENCH_TRANSACTIONS = 1_000;
const INDEX_HEAVY_ROWS = 20_000;

const PGBENCH_CLIENTS = 4;

/** The page server's memory goal, given to the reference as shared_buffers. */
const SHARED_BUFFERS = "512MB";

const MIB = 1 << 20;

/** Rows with five indexes, one of each kind that has much to log. */
export const indexHeavy = (rows: number) => `
CREATE TABLE t (id bigserial PRIMARY KEY, a int, b text, c float8, d timestamp) WITH (fillfactor = 90);
CREATE INDEX t_a ON t (a);
CREATE INDEX t_b ON t (b);
CREATE INDEX t_c ON t (c, a);
CREATE INDEX t_d ON t USING hash (d);
SELECT setseed(0.5);
INSERT INTO t (a, b, c, d)
  SELECT (random() * 1e9)::int, md5(g::text), random(), timestamp '2020-01-01' + g * interval '1 second'
  FROM generate_series(1, ${rows}) g;
UPDATE t SET a = a + 1 WHERE id % 5 = 0;
DELETE FROM t WHERE id % 9 = 0;
VACUUM t;
`;

interface Workload {
  readonly name: string;
  run(postgres: PostgresServer): void;
}

/** WAL with what came before it, on both sides. */
interface Fixture {
  readonly dir: string;
  /** A page server's directory with the tenant, before the WAL. */
  readonly pageServer: string;
  /** The same as a data directory, with the WAL in pg_wal and a control file that calls for recovery. */
  readonly toRecover: string;
  /** Postgres that has run the workload, and sends its WAL. */
  readonly source: PostgresServer;
  readonly timeline: BenchTimeline;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
}

const SOURCE_SETTINGS = {
  full_page_writes: "off",
  wal_level: "replica",
  wal_keep_size: "100GB",
  max_wal_size: "50GB",
  checkpoint_timeout: "1h",
  shared_buffers: SHARED_BUFFERS,
  synchronous_commit: "off",
  autovacuum: "off",
};

async function prepare(workload: Workload): Promise<Fixture> {
  const dir = mkdtempSync(join(tmpdir(), "zenith-bench-ingest-"));
  makeOwnedDirectory(dir, pgUser());
  const pageServer = join(dir, "pageserver");
  await using server = await BenchPageServer.start(pageServer);
  const timeline = await server.createTenant();
  const sourceDir = join(dir, "source");
  await server.basebackup(timeline, sourceDir);
  await server.stop();
  const toRecover = join(dir, "to_recover");
  cpSync(sourceDir, toRecover, { recursive: true });

  const source = new PostgresServer(sourceDir, SOURCE_SETTINGS);
  source.start();
  const startLsn = parseLsn(source.sql("SELECT pg_current_wal_insert_lsn()"));
  workload.run(source);
  const endLsn = parseLsn(source.sql("SELECT pg_switch_wal()"));
  cpSync(join(sourceDir, "pg_wal"), join(toRecover, "pg_wal"), { recursive: true, force: true });
  const controlFile = join(toRecover, CONTROL_FILE_PATH);
  writeFileSync(controlFile, encodeControlFile(readFileSync(controlFile), { state: DB_IN_PRODUCTION }));
  return { dir, pageServer, toRecover, source, timeline, startLsn, endLsn };
}

/** @returns bytes per second, and what it took */
async function ingest(fixture: Fixture): Promise<{ rate: number; peakRssBytes: number; cpuSeconds: number }> {
  const dir = join(fixture.dir, "round_pageserver");
  cpSync(fixture.pageServer, dir, { recursive: true });
  try {
    await using server = await BenchPageServer.start(dir);
    const started = performance.now();
    await server.receiveFrom(fixture.timeline, fixture.source.connInfo);
    await server.untilReadable(fixture.timeline, fixture.endLsn);
    const seconds = (performance.now() - started) / 1000;
    return {
      rate: (fixture.endLsn - fixture.startLsn) / seconds,
      peakRssBytes: server.peakRssBytes(),
      cpuSeconds: server.cpuSeconds(),
    };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Recovers a copy of the cluster. @returns bytes per second, from the first record to the last */
function recover(fixture: Fixture): Promise<number> {
  const pgdata = join(fixture.dir, "round_recover");
  cpSync(fixture.toRecover, pgdata, { recursive: true });
  try {
    // The source runs in the same directory, on its own port.
    const postgres = new PostgresServer(pgdata, { ...SOURCE_SETTINGS, port: "57801" });
    postgres.start();
    postgres.stop("immediate");
    const log = postgres.log();
    const from = /redo starts at (\S+)/.exec(log);
    const done = /redo done at (\S+) .*elapsed: ([\d.]+) s/.exec(log);
    if (from === null || done === null) throw new Error(`no recovery in the log:\n${log}`);
    return Promise.resolve((parseLsn(done[1]) - parseLsn(from[1])) / Number(done[2]));
  } finally {
    rmSync(pgdata, { recursive: true, force: true });
    rmSync(`${pgdata}.log`, { force: true });
  }
}

/** Not a measurement: what the page server is meant to stay below. */
const PEAK_RSS_GOAL_MIB = 512;

async function measure(workload: Workload, rounds: number): Promise<Comparison[]> {
  const fixture = await prepare(workload);
  try {
    console.log(`${workload.name}: ${Math.round((fixture.endLsn - fixture.startLsn) / MIB)} MiB of WAL`);
    const peaks: number[] = [];
    const cpu: number[] = [];
    const speed = await compare(
      `${workload.name}, WAL to pages`,
      "MiB/s",
      async () => {
        const { rate, peakRssBytes, cpuSeconds } = await ingest(fixture);
        peaks.push(peakRssBytes / MIB);
        cpu.push(cpuSeconds);
        return rate / MIB;
      },
      async () => await recover(fixture) / MIB,
      rounds,
    );
    const goal = { median: PEAK_RSS_GOAL_MIB, min: PEAK_RSS_GOAL_MIB, max: PEAK_RSS_GOAL_MIB };
    const peak = summarize(peaks);
    console.log(`${workload.name}: page server's CPU time, median ${summarize(cpu).median.toFixed(2)} s`);
    return [speed, {
      name: `${workload.name}, page server's peak RSS`,
      unit: "MiB",
      subject: peak,
      reference: goal,
      ratio: peak.median / goal.median,
    }];
  } finally {
    fixture.source.stop("immediate");
    rmSync(fixture.dir, { recursive: true, force: true });
  }
}

export async function run(args: readonly string[]): Promise<void> {
  const rounds = Number(args[0] ?? ROUNDS);
  const scale = Number(args[1] ?? PGBENCH_SCALE);
  const workloads: Workload[] = [
    {
      name: "pgbench",
      run(postgres) {
        postgres.run("pgbench", ["-i", "-q", "-s", String(scale)]);
        const perClient = Math.ceil(PGBENCH_TRANSACTIONS * scale / PGBENCH_CLIENTS);
        postgres.run("pgbench", ["-n", "-c", String(PGBENCH_CLIENTS), "-t", String(perClient)]);
      },
    },
    { name: "index-heavy", run: (postgres) => postgres.sql(indexHeavy(INDEX_HEAVY_ROWS * scale)) },
  ];
  const results: Comparison[] = [];
  for (const workload of workloads) results.push(...await measure(workload, rounds));
  report("ingest", results);
}
