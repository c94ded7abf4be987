import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { parseLsn } from "../../src/common/lsn.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;

before(async () => {
  env = await ZenithEnv.create();
  main = await env.startCompute("main");
});
after(() => env[Symbol.asyncDispose]());

const XLOG_BLCKSZ = 8192;
const PAGE_HEADER_BYTES = 24;

async function insertLsn(): Promise<string> {
  return String(await main.value("SELECT pg_current_wal_insert_lsn()"));
}

async function emit(bytes: number): Promise<void> {
  await main.query(`SELECT pg_logical_emit_message(false, '', repeat('x', ${bytes}))`);
}

/** Writes WAL until a record ends where a page does; Postgres then names the position behind the next page's header. */
async function fillPage(): Promise<string> {
  const start = parseLsn(await insertLsn());
  await emit(1000);
  const overhead = parseLsn(await insertLsn()) - start - 1000;
  for (let attempt = 0; attempt < 50; attempt++) {
    const left = XLOG_BLCKSZ - parseLsn(await insertLsn()) % XLOG_BLCKSZ;
    if (left > overhead + 300) await emit(left - overhead);
    else await emit(1000);
    const lsn = await insertLsn();
    if (parseLsn(lsn) % XLOG_BLCKSZ === PAGE_HEADER_BYTES) return lsn;
  }
  throw new Error("no record came to end at the end of a page");
}

describe("a branch where a WAL page ends", () => {
  test("starts behind the page header, named or not", async () => {
    await main.query("CREATE TABLE t (i int)");
    await main.query("INSERT INTO t SELECT generate_series(1, 10)");
    const lsn = await fillPage();
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
