import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { parseLsn } from "../../src/common/lsn.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;

before(async () => {
  env = await ZenithEnv.create();
  main = await env.startCompute("main");
});
after(() => env[Symbol.asyncDispose]());

const XLOG_BLCKSZ = 8192;
const PAGE_HEADER_BYTES = 24;

async function insertLsn(pg: Compute): Promise<string> {
  return String(await pg.value("SELECT pg_current_wal_insert_lsn()"));
}

async function emit(pg: Compute, bytes: number): Promise<void> {
  await pg.query(`SELECT pg_logical_emit_message(false, '', repeat('x', ${bytes}))`);
}

/** Writes WAL until a record ends where a page does; Postgres then names the position behind the next page's header. */
async function fillPage(pg: Compute): Promise<string> {
  const start = parseLsn(await insertLsn(pg));
  await emit(pg, 1000);
  const overhead = parseLsn(await insertLsn(pg)) - start - 1000;
  for (let attempt = 0; attempt < 50; attempt++) {
    const left = XLOG_BLCKSZ - parseLsn(await insertLsn(pg)) % XLOG_BLCKSZ;
    if (left > overhead + 300) await emit(pg, left - overhead);
    else await emit(pg, 1000);
    const lsn = await insertLsn(pg);
    if (parseLsn(lsn) % XLOG_BLCKSZ === PAGE_HEADER_BYTES) return lsn;
  }
  throw new Error("no record came to end at the end of a page");
}

interface BranchEnd {
  readonly name: string;
  readonly latest_valid_lsn: string;
}

/** What no commit waits for is lost with a Postgres that is killed before it has been sent. */
async function untilArrived(where: ZenithEnv, end: number): Promise<void> {
  await using wire = await where.pageserver.connect();
  await until("the page server has it", async () => {
    const branches = await wire.json(`branch_list ${where.defaultTenant}`) as BranchEnd[];
    return parseLsn(branches.find(({ name }) => name === "main")!.latest_valid_lsn) >= end;
  });
}

describe("a branch where a WAL page ends", () => {
  test("starts behind the page header, named or not", async () => {
    await main.query("CREATE TABLE t (i int)");
    await main.query("INSERT INTO t SELECT generate_series(1, 10)");
    const lsn = await fillPage(main);
    await env.branch("named", `main@${lsn}`);
    await env.branch("at_the_end", "main");
    for (const name of ["named", "at_the_end"]) {
      const branch = await env.startCompute(name);
      assert.equal(await branch.value("SELECT count(*) FROM t"), "10");
      await branch.query("INSERT INTO t VALUES (11)");
      assert.equal(await branch.value("SELECT count(*) FROM t"), "11");
      await branch.stop();
    }
  });
});

describe("the position behind the page header", () => {
  test("is the past for a read-only start, though no record has come behind it", async () => {
    const lsn = await fillPage(main);
    await untilArrived(env, parseLsn(lsn) - PAGE_HEADER_BYTES);
    await main.stop("immediate");
    await env.zenith("pg", "start", "main", "--lsn", lsn);
    assert.equal(await main.value("SELECT count(*) FROM t"), "10");
    await main.restart();
  });
});

describe("WAL that ends where a page does", () => {
  for (const safekeepers of [0, 1]) {
    test(`goes on after Postgres was killed there, with ${safekeepers} safekeepers`, async () => {
      await using other = await ZenithEnv.create({ safekeepers });
      const pg = await other.startCompute();
      await pg.query("CREATE TABLE t (i int)");
      for (let round = 1; round <= 2; round++) {
        await pg.query(`INSERT INTO t VALUES (${round})`);
        // The page's end is all that has come: its header comes with the next record.
        const end = parseLsn(await fillPage(pg)) - PAGE_HEADER_BYTES;
        await untilArrived(other, end);
        await pg.kill9();
        await pg.start();
        assert.equal(await pg.value("SELECT count(*)::int FROM t"), round);
      }
    });
  }
});
