/** Branches by the thousand, and chains of hundreds: over the wire, on one page server. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TimelineId } from "../../../src/common/id.ts";
import { INVALID_LSN, parseLsn } from "../../../src/common/lsn.ts";
import { makeOwnedDirectory, pgUser } from "../../../src/pg_install/pg_user.ts";
import { percentile, summarize } from "../harness.ts";
import type { GoalRow } from "./goal_table.ts";
import { BenchPageServer, type BenchTimeline } from "./page_server.ts";
import { type BenchRelation, DEFAULT_TABLESPACE, PageStream } from "./page_stream.ts";
import { PostgresServer } from "./postgres_server.ts";
import { roundTrips } from "./round_trips.ts";

const IN_A_ROW = 1_000;
const CLIENTS = 8;
const LISTS = 5;

const CHAIN = 500;
const SCALE = 1;
const READS = 20_000;
const IN_FLIGHT = 16;
const ROUNDS = 10;

function rssBytes(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(match![1]) * 1024;
}

function ours(what: string, goal: string, figure: number): GoalRow {
  return { what, goal, figures: new Map([["Zenith", figure]]) };
}

/** A page server of its own in a directory that is gone afterwards. */
async function withPageServer<T>(use: (server: BenchPageServer, dir: string) => Promise<T>): Promise<T> {
  const dir = mkdtempSync(join(tmpdir(), "zenith-bench-branches-"));
  try {
    makeOwnedDirectory(dir, pgUser());
    await using server = await BenchPageServer.start(join(dir, "pageserver"));
    return await use(server, dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** @param total how many there are in the end */
export function measureManyBranches(total: number): Promise<GoalRow[]> {
  return withPageServer(async (server) => {
    const { tenant } = await server.createTenant();
    await using client = await server.connect();
    let made = 0;
    const next = (): string => `branch_create ${tenant} b${made++} main`;
    const inARow = async (count: number): Promise<number[]> => {
      const times: number[] = [];
      for (let i = 0; i < count; i++) {
        const started = performance.now();
        await client.query(next());
        times.push(performance.now() - started);
      }
      return times.sort((a, b) => a - b);
    };
    const first = await inARow(IN_A_ROW);
    const before = rssBytes(server.pid);
    const started = performance.now();
    const atOnce = total - IN_A_ROW;
    await Promise.all(Array.from({ length: CLIENTS }, async () => {
      await using own = await server.connect();
      while (made < total) await own.query(next());
    }));
    const perSecond = atOnce / (performance.now() - started) * 1000;
    const memory = (rssBytes(server.pid) - before) / atOnce;
    const last = await inARow(IN_A_ROW);
    const lists: number[] = [];
    for (let i = 0; i < LISTS; i++) {
      const listing = performance.now();
      await client.query(`branch_list ${tenant}`);
      lists.push(performance.now() - listing);
    }
    return [
      ours(`${IN_A_ROW} branches in a row, ms each, p50`, "≤ 10 p99", percentile(first, 0.5)),
      ours("the same, p99", "≤ 10", percentile(first, 0.99)),
      ours(`branches with ${total} there, ms each, p50`, "≤ 10 p99", percentile(last, 0.5)),
      ours("the same, p99", "≤ 10", percentile(last, 0.99)),
      ours(`branches by ${CLIENTS} clients, each second`, "≥ 1,000", perSecond),
      ours(`list of ${made} branches, ms`, "≤ 100", summarize(lists).median),
      ours("memory of a branch that was just made, KiB", "≤ 4 asleep", memory / 1024),
    ];
  });
}

const ACCOUNTS =
  `SELECT d.oid, pg_relation_filenode('pgbench_accounts'), pg_relation_size('pgbench_accounts') / 8192
FROM pg_database d WHERE datname = current_database()`;

/** Pages of a branch far down a chain, and of one among many, against those of a branch of main. */
export function measureDepth(): Promise<GoalRow[]> {
  return withPageServer(async (server, dir) => {
    const timeline = await server.createTenant();
    const { relation, blocks } = await loadAccounts(server, timeline, dir);
    await using client = await server.connect();
    const branch = async (name: string, parent: string): Promise<TimelineId> => {
      const { rows } = await client.query(`branch_create ${timeline.tenant} ${name} ${parent}`);
      return JSON.parse(rows[0]![0]!).timeline_id;
    };
    const first = await branch("first", "main");
    let end = first;
    for (let i = 1; i < CHAIN; i++) end = await branch(`d${i}`, i === 1 ? "first" : `d${i - 1}`);
    const reads = async (of: TimelineId): Promise<number> => {
      await using stream = await PageStream.open(server, { tenant: timeline.tenant, timeline: of });
      const pages = stream.reader(relation, blocks, INVALID_LSN);
      return (await stream.orFail(roundTrips(pages, READS, IN_FLIGHT))).perSecond;
    };
    /** In turns, after a round that is not measured. */
    const against = async (of: TimelineId): Promise<[string, number][]> => {
      const [own, reference]: [number[], number[]] = [[], []];
      for (let round = 0; round <= ROUNDS; round++) {
        // Whoever comes second in a round was faster by a tenth, so they take turns in that too.
        const order = round % 2 === 0 ? [of, first] : [first, of];
        for (const timeline of order) {
          const perSecond = await reads(timeline);
          if (round > 0) (timeline === of ? own : reference).push(perSecond);
        }
      }
      return [["Zenith", summarize(own).median], ["depth 1", summarize(reference).median]];
    };
    const row = (what: string, figures: [string, number][]): GoalRow => {
      return { what, goal: "≥ 0.95", figures: new Map(figures), reference: "depth 1" };
    };
    const deep = row(`pages each second at depth ${CHAIN}`, await against(end));
    for (let i = 1; i < CHAIN; i++) end = await branch(`s${i}`, "main");
    return [deep, row(`pages each second of one of ${CHAIN} siblings`, await against(end))];
  });
}

interface Accounts {
  readonly relation: BenchRelation;
  readonly blocks: number;
}

/** Fills the timeline by a Postgres that is gone afterwards. */
async function loadAccounts(
  server: BenchPageServer,
  timeline: BenchTimeline,
  dir: string,
): Promise<Accounts> {
  await server.basebackup(timeline, join(dir, "source"));
  const source = new PostgresServer(join(dir, "source"), { full_page_writes: "off", autovacuum: "off" });
  source.start();
  try {
    await server.receiveFrom(timeline, source.connInfo);
    source.run("pgbench", ["-i", "-q", "-s", String(SCALE), "postgres"]);
    await server.untilReadable(timeline, parseLsn(source.sql("SELECT pg_current_wal_flush_lsn()")));
    const [db, rel, blocks] = source.run("psql", ["-XAtq", "-c", ACCOUNTS, "postgres"]).trim().split("|");
    const relation = { spc: DEFAULT_TABLESPACE, db: Number(db), rel: Number(rel) };
    return { relation, blocks: Number(blocks) };
  } finally {
    source.stop("immediate");
  }
}
