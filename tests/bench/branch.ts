/**
 * `branch_create` over the wire: of a small and of a large database, and with a thousand branches there already; against
 * CREATE DATABASE … TEMPLATE of the same content in stock Postgres, which is its nearest relative.
 *
 * `npm run bench -- branch [rounds [pgbench scale of the large one]]`
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseLsn } from "../../src/common/lsn.ts";
import { makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { compare, type Comparison, report } from "./harness.ts";
import { BenchPageServer } from "./lib/page_server.ts";
import { PostgresServer } from "./lib/postgres_server.ts";

const ROUNDS = 5;
const SMALL_SCALE = 1;
const LARGE_SCALE = 60;
const BRANCHES_PER_ROUND = 20;
const MANY = 1000;

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
    await server.untilReadable(timeline, parseLsn(source.sql("SELECT pg_current_wal_flush_lsn()")));
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
    const copy = (): Promise<number> => {
      const started = performance.now();
      source.sql(`CREATE DATABASE copy_${copies} TEMPLATE template STRATEGY FILE_COPY`);
      const elapsed = performance.now() - started;
      source.sql(`DROP DATABASE copy_${copies++}`);
      return Promise.resolve(elapsed);
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
