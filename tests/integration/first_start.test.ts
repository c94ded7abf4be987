/** The first start of a branch: what it has of its parent's that reaches out is not started, and SQL of the user's comes first. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { addSettings, durableLsn } from "../harness/branching.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

const ROWS = 500;

for (const major of [15, 18]) {
  describe(`a branch of a subscriber, PostgreSQL ${major}`, () => {
    let env: ZenithEnv;
    let publisher: Compute;
    let subscriber: Compute;

    before(async () => {
      env = await ZenithEnv.create({ major, safekeepers: 1 });
      await env.branch("publisher", "main");
      publisher = await env.createCompute("publisher");
      addSettings(publisher, "wal_level = logical");
      await publisher.start();
      subscriber = await env.startCompute("main");
      for (const pg of [publisher, subscriber]) await pg.query("CREATE TABLE t (n int PRIMARY KEY)");
      await publisher.query("CREATE PUBLICATION p FOR TABLE t");
      // By default a subscription commits asynchronously, and tells its publisher what is flushed here: that may be lost.
      await subscriber.query(
        `CREATE SUBSCRIPTION s CONNECTION '${publisher.conninfo}' PUBLICATION p WITH (synchronous_commit = on)`,
      );
      await publish(1);
      await received(ROWS);
    });
    after(() => env?.[Symbol.asyncDispose]());

    async function publish(from: number): Promise<void> {
      await publisher.query(`INSERT INTO t SELECT generate_series(${from}, ${from + ROWS - 1})`);
    }

    async function received(count: number): Promise<void> {
      await until(
        `${count} rows are there`,
        async () => await subscriber.value("SELECT count(*)::int FROM t") === count,
      );
    }

    test("takes no rows from it: its subscriptions are disabled, without a slot", async () => {
      await env.branch("dev", "main");
      const dev = await env.startCompute("dev");
      assert.deepEqual(await dev.query("SELECT subname, subenabled, subslotname FROM pg_subscription"), [
        { subname: "s", subenabled: false, subslotname: null },
      ]);
      assert.match(
        await env.zenith("pg", "list"),
        /^dev .*its subscription was disabled at the branch's first/m,
      );
      await publish(ROWS + 1);
      await received(2 * ROWS);
      assert.equal(await dev.value("SELECT count(*)::int FROM t"), ROWS);
      // It is an ordinary subscription: without a slot it can be dropped, and what was done stays done.
      await dev.restart();
      assert.equal(await dev.value("SELECT subenabled FROM pg_subscription"), false);
      await dev.query("DROP SUBSCRIPTION s");
      await dev.stop();
      await publish(2 * ROWS + 1);
      await received(3 * ROWS);
    });

    test("looked at in the past takes none either", async () => {
      const lsn = await durableLsn(subscriber);
      await env.branch("past", "main");
      const past = await env.createCompute("past");
      await env.zenith("pg", "start", "past", "--lsn", lsn);
      assert.equal(
        await past.value("SELECT count(*)::int FROM pg_stat_activity WHERE backend_type LIKE 'logical%'"),
        0,
      );
      await past.stop();
    });

    test("goes on with it when that is asked for", async () => {
      await env.branch("heir", "main");
      const heir = await env.createCompute("heir");
      await subscriber.stop();
      await env.zenith("pg", "start", "heir", "--keep-subscriptions");
      assert.deepEqual(await heir.query("SELECT subenabled, subslotname FROM pg_subscription"), [
        { subenabled: true, subslotname: "s" },
      ]);
      await publish(3 * ROWS + 1);
      await until(
        "the heir has the rows",
        async () => await heir.value("SELECT count(*)::int FROM t") === 4 * ROWS,
      );
      await heir.stop();
    });
  });
}

describe("the first start of a branch", () => {
  let env: ZenithEnv;
  let main: Compute;

  before(async () => {
    env = await ZenithEnv.create();
    main = await env.startCompute("main");
    await main.query("CREATE TABLE people (email text); INSERT INTO people VALUES ('ann@example.com')");
  });
  after(() => env?.[Symbol.asyncDispose]());

  test("runs SQL before anybody else gets in, which is then the branch's", async () => {
    const sql = join(env.dir, "mask.sql");
    writeFileSync(
      sql,
      "UPDATE people SET email = 'masked';\nCREATE TABLE seen AS SELECT inet_server_addr() IS NULL AS locally;\n",
    );
    await env.branch("masked", "main");
    const masked = await env.createCompute("masked");
    await env.zenith("pg", "start", "masked", "--first-start-sql", sql);
    assert.equal(await masked.value("SELECT email FROM people"), "masked");
    assert.equal(await masked.value("SELECT locally FROM seen"), true);
    await masked.kill9();
    await masked.start();
    assert.equal(await masked.value("SELECT email FROM people"), "masked");
    assert.equal(await main.value("SELECT email FROM people"), "ann@example.com");
    await masked.stop();
    const again = await env.tryZenith("pg", "start", "masked", "--first-start-sql", sql);
    assert.match(again.stderr, /--first-start-sql is for the first start of a branch/);
  });

  test("loses nothing of it when it fills several segments of WAL, and the Postgres is stopped at once", async () => {
    const sql = join(env.dir, "big.sql");
    writeFileSync(
      sql,
      "CREATE TABLE big AS SELECT n, repeat('x', 1000) AS v FROM generate_series(1, 40000) n;",
    );
    await env.branch("big", "main");
    const big = await env.createCompute("big");
    await env.zenith("pg", "start", "big", "--first-start-sql", sql);
    await big.stop();
    await big.start();
    assert.equal(await big.value("SELECT count(*)::int FROM big"), 40_000);
    await big.stop();
  });

  test("does not happen when the SQL fails, and nothing of it is kept", async () => {
    const sql = join(env.dir, "wrong.sql");
    await env.branch("wrong", "main");
    const wrong = await env.createCompute("wrong");
    writeFileSync(sql, "DELETE FROM people; SELECT 1/0;");
    const failed = await env.tryZenith("pg", "start", "wrong", "--first-start-sql", sql);
    assert.notEqual(failed.code, 0);
    assert.match(failed.stderr, /wrong\.sql: .*division by zero/);
    writeFileSync(sql, "INSERT INTO people VALUES ('bob@example.com')");
    await env.zenith("pg", "start", "wrong", "--first-start-sql", sql);
    assert.equal(await wrong.value("SELECT count(*)::int FROM people"), 2);
    await wrong.stop();
  });

  test("leaves pg_cron out, whose jobs are the parent's", async () => {
    await env.branch("quiet", "main");
    const quiet = await env.createCompute("quiet");
    addSettings(quiet, "shared_preload_libraries = 'pg_cron, auto_explain'");
    await quiet.start();
    assert.equal(await quiet.value("SHOW shared_preload_libraries"), "auto_explain");
    await quiet.stop();
    // The next start has it, or fails for it where it is not installed.
    const next = await env.tryZenith("pg", "start", "quiet");
    if (next.code !== 0) return assert.match(next.stderr, /pg_cron/);
    assert.equal(await quiet.value("SHOW shared_preload_libraries"), "pg_cron, auto_explain");
    await quiet.stop();
  });
});
