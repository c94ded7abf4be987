import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { checkPidFile } from "../../src/process/pid_file.ts";
import { branchHere } from "../harness/branching.ts";
import { WriteHistory } from "../harness/write_history.ts";
import { until, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;

before(async () => {
  env = await ZenithEnv.create();
});
after(() => env[Symbol.asyncDispose]());

const WRITERS = 4;
/** Enough for commits of every writer to be in every state when the kill comes. */
const COMMITS_PER_ROUND = 200;
const ROUNDS = 3;

describe("restarts in good order", () => {
  test("a compute finds its data again, whatever restarts", async () => {
    await env.branch("orderly", "main");
    const pg = await env.startCompute("orderly");
    await pg.query("CREATE TABLE t AS SELECT n, repeat('x', 100) AS filler FROM generate_series(1, 5000) n");
    await pg.restart();
    assert.equal(await pg.value("SELECT count(*) FROM t"), "5000");
    await pg.query("DELETE FROM t WHERE n % 2 = 0");
    await env.pageserver.restart();
    await pg.restart();
    assert.equal(await pg.value("SELECT count(*) FROM t"), "2500");
    await pg.stop();
    await env.pageserver.restart();
    await pg.start();
    assert.equal(await pg.value("SELECT sum(n) FROM t"), String(2500 * 2500));
    await pg.stop();
  });

  test("a stop while everything is busy loses nothing", async () => {
    await env.branch("busy", "main");
    const pg = await env.startCompute("busy");
    await WriteHistory.createTables(pg);
    const history = new WriteHistory(WRITERS);
    history.start(pg);
    await history.untilAcknowledged(COMMITS_PER_ROUND);
    await pg.stop();
    await history.stop();
    await pg.start();
    await history.verify(pg);
    await pg.stop();
  });
});

describe("kill -9 under load loses nothing that was acknowledged", () => {
  test("of Postgres", async () => {
    await env.branch("killed", "main");
    const pg = await env.startCompute("killed");
    await WriteHistory.createTables(pg);
    const history = new WriteHistory(WRITERS);
    for (let round = 0; round < ROUNDS; round++) {
      history.start(pg);
      await history.untilAcknowledged(COMMITS_PER_ROUND);
      await pg.kill9();
      await history.stop();
      await pg.start();
      await history.verify(pg);
    }
    await pg.stop();
  });

  test("of the compute's supervisor", async () => {
    await env.branch("orphaned", "main");
    const pg = await env.startCompute("orphaned");
    await WriteHistory.createTables(pg);
    const history = new WriteHistory(WRITERS);
    history.start(pg);
    await history.untilAcknowledged(COMMITS_PER_ROUND);
    const supervisor = checkPidFile(pg.paths.pidFile);
    assert.ok(supervisor.state === "running");
    process.kill(supervisor.process.pid, "SIGKILL");
    await history.stop();
    await pg.start();
    await history.verify(pg);
    await pg.stop();
  });

  test("of the page server: computes wait for it and go on", async () => {
    await env.branch("patient", "main");
    const pg = await env.startCompute("patient");
    await WriteHistory.createTables(pg);
    const history = new WriteHistory(WRITERS);
    history.start(pg);
    for (let round = 0; round < ROUNDS; round++) {
      await history.untilAcknowledged(COMMITS_PER_ROUND);
      await env.pageserver.kill9();
      await env.pageserver.start();
    }
    await history.untilAcknowledged(COMMITS_PER_ROUND);
    await history.stop();
    await history.verify(pg);
    await pg.restart();
    await history.verify(pg);
    await pg.stop();
  });

  test("of the page server and Postgres together", async () => {
    await env.branch("both", "main");
    const pg = await env.startCompute("both");
    await WriteHistory.createTables(pg);
    const history = new WriteHistory(WRITERS);
    for (let round = 0; round < ROUNDS; round++) {
      history.start(pg);
      await history.untilAcknowledged(COMMITS_PER_ROUND);
      await Promise.all([env.pageserver.kill9(), pg.kill9()]);
      await history.stop();
      await env.pageserver.start();
      await pg.start();
      await history.verify(pg);
    }
    // What the page server has read back from its own WAL is also what a branch sees, of a Postgres that runs or has ended.
    const early = await branchHere(env, pg, "both_early");
    await history.verify(early);
    await early.stop();
    await pg.stop();
    await env.branch("both_late", "both");
    const late = await env.startCompute("both_late");
    await history.verify(late);
    await late.stop();
  });

  test("of a page server that is gone: without safekeepers nothing is acknowledged without it", async () => {
    await using alone = await ZenithEnv.create({ safekeepers: 0 });
    const pg = await alone.startCompute();
    await using session = await pg.connect();
    await using observer = await pg.connect();
    const countWaiting = async () =>
      await observer.value("SELECT count(*)::int FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
    // Both have read what they need: on a lazy compute they would wait for pages, which is not what this is about.
    await session.query("CREATE TABLE t (n int)");
    await session.query("INSERT INTO t VALUES (0)");
    assert.equal(await countWaiting(), 0);
    assert.equal(await observer.value("SELECT count(*)::int FROM t"), 1);
    await alone.pageserver.kill9();
    let acknowledged = false;
    const commit = session.query("INSERT INTO t VALUES (1)").then(() => {
      acknowledged = true;
    });
    await until("the commit waits for its synchronous standby", async () => await countWaiting() === 1);
    assert.equal(acknowledged, false);
    await alone.pageserver.start();
    await commit;
    assert.equal(await observer.value("SELECT count(*)::int FROM t"), 2);
    await pg.stop();
  });
});
