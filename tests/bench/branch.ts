/**
 * `branch_create` over the wire: of a small and of a large database, and with a thousand branches there already; against
 * CREATE DATABASE … TEMPLATE of the same content in stock Postgres, which is its nearest relative. And what reads cost at the end
 * of a chain of a hundred branches, against those on the first of them.
 *
 * `npm run bench -- branch [rounds [pgbench scale of the large one]]`
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TimelineId } from "../../src/common/id.ts";
import { INVALID_LSN, parseLsn } from "../../src/common/lsn.ts";
import { makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { compare, type Comparison, report } from "./harness.ts";
import { BenchPageServer, type BenchTimeline } from "./lib/page_server.ts";
import { type BenchRelation, DEFAULT_TABLESPACE, PageStream } from "./lib/page_stream.ts";
import { PostgresServer } from "./lib/postgres_server.ts";
import { roundTrips } from "./lib/round_trips.ts";

const ROUNDS = 5;
const SMALL_SCALE = 1;
const LARGE_SCALE = 60;
const BRANCHES_PER_ROUND = 20;
const MANY = 1000;
const DEPTH = 100;
const READS = 3000;

const ACCOUNTS =
  `SELECT d.oid, pg_relation_filenode('pgbench_accounts'), pg_relation_size('pgbench_accounts') / 8192
FROM pg_database d WHERE datname = current_database()`;

interface Accounts extends BenchRelation {
  readonly blocks: number;
}

/** A chain of branches, each of the one before: what the last ones cost, and reads at its end. */
async function deep(
  server: BenchPageServer,
  { tenant }: BenchTimeline,
  { blocks, ...relation }: Accounts,
  copy: () => Promise<number>,
  rounds: number,
): Promise<Comparison[]> {
  await using client = await server.connect();
  const chain: TimelineId[] = [];
  const extend = async (): Promise<void> => {
    const parent = chain.at(-1) ?? "main";
    const { rows } = await client.query(`branch_create ${tenant} d${chain.length} ${parent}`);
    chain.push(JSON.parse(rows[0][0]!).timeline_id);
  };
  while (chain.length < DEPTH) await extend();
  const end = chain[DEPTH - 1];
  const longer = async (): Promise<number> => {
    const started = performance.now();
    for (let i = 0; i < BRANCHES_PER_ROUND; i++) await extend();
    return (performance.now() - started) / BRANCHES_PER_ROUND;
  };
  const results = [await compare(`at the end of a chain of ${DEPTH}`, "ms", longer, copy, rounds)];
  const reads = async (timeline: TimelineId): Promise<number> => {
    await using stream = await PageStream.open(server, { tenant, timeline });
    const pages = stream.reader(relation, blocks, INVALID_LSN);
    return (await stream.orFail(roundTrips(pages, READS, 16))).perSecond;
  };
  const name = `reads at depth ${DEPTH}, against depth 1`;
  results.push(await compare(name, "1/s", () => reads(end), () => reads(chain[0]), rounds));
  return results;
}

/** Results for a database of one size. */
async function measure(scale: number, rounds: number, withMany: boolean): Promise<Comparison[]> {
  const dir = mkdtempSync(join(tmpdir(), "zenith-bench-branch-"));
  makeOwnedDirectory(dir, pgUser());
  await using server = await BenchPageServer.start(join(dir, "pageserver"));
  const timeline = await server.createTenant();
  await server.basebackup(timeline, join(dir, "source"));
  const source = new PostgresServer(join(dir, "source"), {
    full_page_writes: "off",
    autovacuum: "off",
    max_wal_size: "10GB",
  });
  source.start();
  try {
    await server.receiveFrom(timeline, source.connInfo);
    source.sql("CREATE DATABASE template");
    source.run("pgbench", ["-i", "-q", "-s", String(scale), "template"]);
    // A branch does not have to wait for what the reference has given the page server and the disk to do.
    const settle = async (): Promise<void> => {
      await server.untilReadable(timeline, parseLsn(source.sql("SELECT pg_current_wal_flush_lsn()")));
      spawnSync("sync");
    };
    await settle();
    await using client = await server.connect();
    let branches = 0;
    const branch = async (count: number): Promise<number> => {
      const started = performance.now();
      for (let i = 0; i < count; i++) {
        await client.query(`branch_create ${timeline.tenant} b${branches++} main`);
      }
      return (performance.now() - started) / count;
    };
    let copies = 0;
    const copy = async (): Promise<number> => {
      const started = performance.now();
      source.sql(`CREATE DATABASE copy_${copies} TEMPLATE template STRATEGY FILE_COPY`);
      const elapsed = performance.now() - started;
      source.sql(`DROP DATABASE copy_${copies++}`);
      await settle();
      return elapsed;
    };
    const name = `pgbench -s ${scale}`;
    const results = [await compare(name, "ms", () => branch(BRANCHES_PER_ROUND), copy, rounds)];
    if (withMany) {
      await branch(MANY - branches);
      results.push(
        await compare(
          `${name}, ${MANY} branches there`,
          "ms",
          () => branch(BRANCHES_PER_ROUND),
          copy,
          rounds,
        ),
      );
      const [db, rel, blocks] = source.run("psql", ["-XAtq", "-c", ACCOUNTS, "template"]).trim().split("|");
      const relation = { spc: DEFAULT_TABLESPACE, db: Number(db), rel: Number(rel), blocks: Number(blocks) };
      results.push(...await deep(server, timeline, relation, copy, rounds));
    }
    return results;
  } finally {
    source.stop("immediate");
    rmSync(dir, { recursive: true, force: true });
  }
}

export async function run(args: readonly string[]): Promise<void> {
  const rounds = Number(args[0] ?? ROUNDS);
  const large = Number(args[1] ?? LARGE_SCALE);
  report("branch", [...await measure(SMALL_SCALE, rounds, true), ...await measure(large, rounds, false)]);
}
