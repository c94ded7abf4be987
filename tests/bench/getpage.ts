/**
 * GetPage@LSN over the wire: time of a round trip, with the page in the page server's cache (warm), and on the first read
 * after a restart (cold), when it is rebuilt from layer files and some 1, 10 or 100 records. And a hot page, that of a row that was
 * updated 100,000 times, at LSNs all over its history, each of which has to be rebuilt: from the memory layer, and from a file
 * that has not been merged. The reference is a process of the same runtime that answers requests of the same size with 8 KiB that are
 * always the same.
 *
 * `npm run bench -- getpage [rounds]`
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Lsn, parseLsn } from "../../src/common/lsn.ts";
import { makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { REQUEST_PAGES } from "../../src/protocol/pagestream.ts";
import { compare, type Comparison, DEFAULT_ROUNDS, report } from "./harness.ts";
import { BenchPageServer, type BenchTimeline } from "./lib/page_server.ts";
import { type BenchRelation, DEFAULT_TABLESPACE, PageStream } from "./lib/page_stream.ts";
import { PostgresServer } from "./lib/postgres_server.ts";
import { type Driver, Echo, roundTrips } from "./lib/round_trips.ts";

/** Changes of each page, the one that makes it not counted. */
const CHAINS = [1, 10, 100];
const HOT_CHANGES = 100_000;
const HOT_READS = 400;
const DEPTHS = [1, 16];
const PAGES = 400;
const WARM_REQUESTS = 4000;

/** One row per page, which in-place updates change again and again: lengths stay, so HOT pruning has little to do. */
const TABLES = CHAINS.map((changes) => `
CREATE TABLE chain_${changes} (id int, n int, pad text) WITH (fillfactor = 10);
ALTER TABLE chain_${changes} ALTER pad SET STORAGE PLAIN;
INSERT INTO chain_${changes} SELECT g, 0, repeat('x', 600) FROM generate_series(1, ${PAGES}) g;
DO $$ BEGIN FOR i IN 1..${changes} LOOP UPDATE chain_${changes} SET n = n + 1; COMMIT; END LOOP; END $$;
`).join("");

const HOT_TABLE = `
CREATE TABLE hot (id int, n int);
INSERT INTO hot VALUES (1, 0);
DO $$ BEGIN FOR i IN 1..${HOT_CHANGES} LOOP UPDATE hot SET n = n + 1; COMMIT; END LOOP; END $$;
`;

interface Fixture {
  readonly dir: string;
  readonly timeline: BenchTimeline;
  readonly lsn: Lsn;
  readonly relations: ReadonlyMap<number, BenchRelation>;
  readonly hot: BenchRelation;
  /** Where the changes of the hot page begin; they end at {@link lsn}. */
  readonly hotLsn: Lsn;
}

/** @param meanwhile what is to be measured while the page server has everything in memory */
async function prepare(
  dir: string,
  meanwhile: (server: BenchPageServer, fixture: Fixture) => Promise<void>,
): Promise<Fixture> {
  makeOwnedDirectory(dir, pgUser());
  await using server = await BenchPageServer.start(join(dir, "pageserver"));
  const timeline = await server.createTenant();
  await server.basebackup(timeline, join(dir, "source"));
  const source = new PostgresServer(join(dir, "source"), { full_page_writes: "off", autovacuum: "off" });
  source.start();
  try {
    await server.receiveFrom(timeline, source.connInfo);
    source.sql(TABLES);
    const relation = (table: string): BenchRelation => {
      const [db, rel] = source.sql(
        `SELECT oid, pg_relation_filenode('${table}') FROM pg_database WHERE datname = 'postgres'`,
      ).split("|");
      return { spc: DEFAULT_TABLESPACE, db: Number(db), rel: Number(rel) };
    };
    const hotLsn = parseLsn(source.sql("SELECT pg_current_wal_insert_lsn()"));
    source.sql(HOT_TABLE);
    const lsn = parseLsn(source.sql("SELECT pg_current_wal_flush_lsn()"));
    await server.untilReadable(timeline, lsn);
    const relations = new Map(CHAINS.map((changes) => [changes, relation(`chain_${changes}`)]));
    const fixture = { dir, timeline, lsn, relations, hot: relation("hot"), hotLsn };
    await meanwhile(server, fixture);
    return fixture;
  } finally {
    source.stop("immediate");
    await server.stop();
  }
}

async function warm(fixture: Fixture, echo: Echo, rounds: number): Promise<Comparison[]> {
  await using server = await BenchPageServer.start(join(fixture.dir, "pageserver"));
  await using stream = await PageStream.open(server, fixture.timeline);
  const results: Comparison[] = [];
  for (const depth of DEPTHS) {
    const pages = stream.reader(fixture.relations.get(CHAINS.at(-1)!)!, PAGES, fixture.lsn);
    results.push(
      await compare(
        `warm, ${depth} in flight, p50`,
        "µs",
        async () => (await stream.orFail(roundTrips(pages, WARM_REQUESTS, depth))).p50Us,
        async () => (await roundTrips(echo, WARM_REQUESTS, depth)).p50Us,
        rounds,
      ),
      await compare(
        `warm, ${depth} in flight, p99`,
        "µs",
        async () => (await stream.orFail(roundTrips(pages, WARM_REQUESTS, depth))).p99Us,
        async () => (await roundTrips(echo, WARM_REQUESTS, depth)).p99Us,
        rounds,
      ),
    );
  }
  return results;
}

async function cold(fixture: Fixture, echo: Echo, changes: number, rounds: number): Promise<Comparison> {
  return await compare(
    `cold, ${changes} changes, p50`,
    "µs",
    async () => {
      await using server = await BenchPageServer.start(join(fixture.dir, "pageserver"));
      await using stream = await PageStream.open(server, fixture.timeline);
      const pages = stream.reader(fixture.relations.get(changes)!, PAGES, fixture.lsn);
      return (await stream.orFail(roundTrips(pages, PAGES, 1))).p50Us;
    },
    async () => (await roundTrips(echo, PAGES, 1)).p50Us,
    rounds,
  );
}

/** Reads the hot page as it was at LSNs that descend, so that no page is a step on the way to the next. */
async function readHot(server: BenchPageServer, { timeline, hot, lsn, hotLsn }: Fixture): Promise<number> {
  await using stream = await PageStream.open(server, timeline);
  Object.assign(stream.request, hot, { tag: REQUEST_PAGES, fork: 0, blkno: 0, count: 1 });
  const step = Math.floor((lsn - hotLsn) * 0.9 / HOT_READS);
  const driver: Driver = {
    onReply: () => {},
    send(i) {
      stream.request.lsn = (lsn - i * step) as Lsn;
      stream.send();
    },
  };
  stream.onResponse = () => driver.onReply();
  return (await stream.orFail(roundTrips(driver, HOT_READS, 1))).p50Us;
}

async function hotInMemory(
  server: BenchPageServer,
  fixture: Fixture,
  echo: Echo,
  rounds: number,
): Promise<Comparison> {
  return await compare(
    `in memory, ${HOT_CHANGES} changes, p50`,
    "µs",
    () => readHot(server, fixture),
    async () => (await roundTrips(echo, HOT_READS, 1)).p50Us,
    rounds,
  );
}

async function hotInFile(fixture: Fixture, echo: Echo, rounds: number): Promise<Comparison> {
  return await compare(
    `in a file, ${HOT_CHANGES} changes, p50`,
    "µs",
    async () => {
      await using server = await BenchPageServer.start(join(fixture.dir, "pageserver"));
      return await readHot(server, fixture);
    },
    async () => (await roundTrips(echo, HOT_READS, 1)).p50Us,
    rounds,
  );
}

export async function run(args: readonly string[]): Promise<void> {
  const rounds = Number(args[0] ?? DEFAULT_ROUNDS);
  const dir = mkdtempSync(join(tmpdir(), "zenith-bench-getpage-"));
  using echo = await Echo.start();
  try {
    const results: Comparison[] = [];
    const fixture = await prepare(dir, async (server, fixture) => {
      results.push(await hotInMemory(server, fixture, echo, rounds));
    });
    results.push(await hotInFile(fixture, echo, rounds), ...await warm(fixture, echo, rounds));
    for (const changes of CHAINS) results.push(await cold(fixture, echo, changes, rounds));
    report("getpage", results);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
