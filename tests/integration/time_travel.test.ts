import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let pg: Compute;

before(async () => {
  env = await ZenithEnv.create();
  pg = await env.startCompute("main");
  await pg.query("CREATE TABLE steps (n int)");
});
after(() => env[Symbol.asyncDispose]());

/** The present by the server's clock, with two milliseconds of nothing on both sides. */
async function moment(compute: Compute): Promise<string> {
  const sql =
    `SELECT pg_sleep(0.002) IS NULL, to_char(clock_timestamp(), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at`;
  const [row] = await compute.query(sql);
  await compute.query("SELECT pg_sleep(0.002)");
  return String(row!["at"]);
}

async function lsnAt(timestamp: string, branch = "main"): Promise<string> {
  return (await env.zenith("lsn-at", branch, timestamp)).trim();
}

/** What a branch of main at that moment sees of the table. */
async function stepsOn(branch: string): Promise<unknown> {
  await using compute = await env.startCompute(branch);
  return await compute.value("SELECT array_agg(n ORDER BY n)::text FROM steps");
}

describe("moments of the past", () => {
  test("have the LSN at which all that was committed by then is there, and nothing later", async () => {
    const moments: string[] = [];
    for (let n = 1; n <= 3; n++) {
      await pg.query(`INSERT INTO steps VALUES (${n})`);
      moments.push(await moment(pg));
    }
    await pg.query("INSERT INTO steps VALUES (4)");
    await env.branch("second", `main@${moments[1]}`);
    assert.equal(await stepsOn("second"), "{1,2}");
    // The same through the LSN.
    await env.branch("third", `main@${await lsnAt(moments[2])}`);
    assert.equal(await stepsOn("third"), "{1,2,3}");
    const lsns = await Promise.all(moments.map((at) => lsnAt(at)));
    assert.equal(new Set(lsns).size, 3);
  });

  test("are found while transactions overlap: a commit is there from when it was made", async () => {
    await using first = await pg.connect({ autocommit: false });
    await using second = await pg.connect({ autocommit: false });
    await first.query("INSERT INTO steps VALUES (10)");
    await second.query("INSERT INTO steps VALUES (20)");
    await second.commit();
    const between = await moment(pg);
    await first.commit();
    await env.branch("overlap", `main@${between}`);
    assert.equal(await stepsOn("overlap"), "{1,2,3,4,20}");
  });

  test("bring a dropped database back", async () => {
    await pg.query("CREATE DATABASE precious");
    await using precious = await pg.connect({ database: "precious" });
    await precious.query("CREATE TABLE kept AS SELECT 42 AS answer");
    await precious.close();
    const before = await moment(pg);
    await pg.query("DROP DATABASE precious");
    await pg.query("INSERT INTO steps VALUES (30)");
    await env.branch("rescue", `main@${before}`);
    await using rescued = await env.startCompute("rescue");
    assert.equal(await rescued.value("SELECT answer FROM kept", [], { database: "precious" }), 42);
  });

  test("survive a restart of the page server", async () => {
    const at = await moment(pg);
    await pg.query("INSERT INTO steps VALUES (40)");
    const lsn = await lsnAt(at);
    await env.pageserver.restart();
    assert.equal(await lsnAt(at), lsn);
    await env.pageserver.kill9();
    await env.pageserver.start();
    assert.equal(await lsnAt(at), lsn);
  });

  test("before a branch left its parent are found in the parent", async () => {
    const tenant = await env.createTenant();
    const parent = await env.startCompute("main", tenant);
    await parent.query("CREATE TABLE steps AS SELECT 1 AS n");
    const at = await moment(parent);
    await parent.query("INSERT INTO steps VALUES (2)");
    await env.branch("child", "main", tenant);
    const own = await env.zenith("lsn-at", "main", at, "--tenantid", tenant);
    const found = await env.zenith("lsn-at", "child", at, "--tenantid", tenant);
    assert.equal(found, `${own.trim()}  on main, before child began\n`);
    await env.branch("grandchild", `child@${at}`, tenant);
    await using compute = await env.startCompute("grandchild", tenant);
    assert.equal(await compute.value("SELECT count(*) FROM steps"), "1");
    await parent.stop();
  });

  test("in PostgreSQL's style and in other time zones are the same", async () => {
    const at = await moment(pg);
    await pg.query("INSERT INTO steps VALUES (50)");
    const shifted = new Date(new Date(at).getTime() + 3_600_000).toISOString().replace("T", " ").replace(
      "Z",
      "",
    );
    assert.equal(await lsnAt(`${shifted}+01`), await lsnAt(at));
  });

  test("outside of history are refused, and so is what is no moment", async () => {
    const early = await env.tryZenith("lsn-at", "main", "2001-01-01T00:00:00Z");
    assert.equal(early.code, 2);
    assert.match(
      early.stderr,
      /2001-01-01T00:00:00\.000000Z is before the history of timeline .* begins, at 20/,
    );
    const late = await env.tryZenith("branch", "tomorrow", "main@2286-01-01T00:00:00Z");
    assert.equal(late.code, 2);
    assert.match(late.stderr, /is in the future/);
    const bad = await env.tryZenith("lsn-at", "main", "someday");
    assert.equal(bad.code, 2);
    assert.match(bad.stderr, /"someday" is neither an LSN nor a point in time/);
    const unknown = await env.tryZenith("lsn-at", "nowhere", "2026-01-01Z");
    assert.equal(unknown.code, 4);
    await using wire = await env.pageserver.connect();
    const [main] = await wire.json(`branch_list ${env.defaultTenant}`) as Record<string, string>[];
    await assert.rejects(
      wire.query(`lsn_at ${env.defaultTenant} ${main!["timeline_id"]} 2026-01-01 10:00`),
      /it needs a time zone/,
    );
  });
});
