/** A page server's timelines that nobody uses are closed, and used again as if nothing had been. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { until, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;

before(async () => {
  env = await ZenithEnv.create({ safekeepers: 1, start: false });
  writeFileSync(env.paths.pageserver.config, "idle_timeline_s = 1\n");
  await env.zenith("start");
});
after(() => env[Symbol.asyncDispose]());

async function openTimelines(): Promise<number> {
  await using client = env.pageserver.client();
  return (await client.status()).timelines.length;
}

const untilClosed = () => until("all timelines are closed", async () => await openTimelines() === 0);

describe("a timeline that nobody uses", () => {
  test("stays open while a Postgres runs on it, and is closed when that is gone", async () => {
    await using main = await env.startCompute("main");
    await main.query("CREATE TABLE t AS SELECT n, md5(n::text) AS v FROM generate_series(1, 5000) n");
    await env.untilArrived("main");
    await env.branch("dev", "main");
    await until("the branch alone is closed", async () => await openTimelines() === 1);
    assert.equal(await main.value("SELECT count(*)::int FROM t"), 5000);
    await main.stop();
    await untilClosed();
  });

  test("is listed without being opened, with what it was when it was closed", async () => {
    await using client = env.pageserver.client();
    for (const { logical_size_bytes, physical_size_bytes } of await client.branchList(env.defaultTenant)) {
      assert.ok(logical_size_bytes! > 1 << 20);
      assert.ok(physical_size_bytes! >= 0);
    }
    assert.match(await env.zenith("status"), /^all is well$/m);
    assert.match(await env.zenith("branch"), /dev/);
    assert.equal(await openTimelines(), 0);
  });

  test("is used again with all its data, as often as you like", async () => {
    for (let round = 1; round <= 3; round++) {
      for (const branch of ["main", "dev"]) {
        await using pg = await env.startCompute(branch);
        assert.equal(await pg.value("SELECT count(*)::int FROM t"), 5000 + (round - 1) * 100);
        await pg.query(`INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 100) n`);
        await pg.stop();
      }
      await untilClosed();
    }
  });

  test("is told of after a restart: where it ends, and that its logical size is not known", async () => {
    await using client = env.pageserver.client();
    const before = await client.branchList(env.defaultTenant);
    await env.pageserver.stop();
    await env.pageserver.start();
    const after = await client.branchList(env.defaultTenant);
    assert.equal(await openTimelines(), 0);
    const ends = (branches: typeof before) => branches.map(({ name, next_lsn }) => [name, next_lsn]);
    assert.deepEqual(ends(after), ends(before));
    assert.deepEqual(after.map(({ logical_size_bytes }) => logical_size_bytes), [null, null]);
    assert.match(await env.zenith("branch", "list"), /dev/);
  });
});
