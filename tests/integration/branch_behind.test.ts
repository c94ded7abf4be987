import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { postmasterPid } from "../../src/compute/postgres/postgres_process.ts";
import { checkPidFile } from "../../src/process/pid_file.ts";
import { until, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;

before(async () => {
  env = await ZenithEnv.create();
});
after(() => env[Symbol.asyncDispose]());

const ROW = "INSERT INTO foo SELECT 'long string to consume some space' || g FROM generate_series";

describe("branches at LSNs of the past", () => {
  test("three branches of one history see 100, 100,100 and 200,100 rows", async () => {
    const pg = await env.startCompute("main");
    await using main = await pg.connect();
    await main.query("CREATE TABLE foo (t text)");
    await main.query(`${ROW}(1, 100) g`);
    const lsn100 = await pg.lsn();
    await main.query(`${ROW}(1, 100000) g`);
    const lsn100100 = await pg.lsn();
    await main.query(`${ROW}(1, 100000) g`);
    const lsn200100 = await pg.lsn();

    await env.branch("hundred", `main@${lsn100}`);
    await env.branch("more", `main@${lsn100100}`);
    await env.branch("most", `main@${lsn200100}`);
    const hundred = await env.startCompute("hundred");
    const more = await env.startCompute("more");
    const most = await env.startCompute("most");
    assert.equal(await hundred.value("SELECT count(*) FROM foo"), "100");
    assert.equal(await more.value("SELECT count(*) FROM foo"), "100100");
    assert.equal(await most.value("SELECT count(*) FROM foo"), "200100");
    assert.equal(await main.value("SELECT count(*) FROM foo"), "200100");

    // What is written on a branch is seen nowhere else.
    await hundred.query("INSERT INTO foo VALUES ('on the branch')");
    assert.equal(await hundred.value("SELECT count(*) FROM foo"), "101");
    assert.equal(await main.value("SELECT count(*) FROM foo"), "200100");
    await Promise.all([hundred, more, most, pg].map((compute) => compute.stop()));
  });

  test("a branch of a branch sees its parent's data up to where it left", async () => {
    const tenant = await env.createTenant();
    const history: string[] = [];
    let parent = "main";
    for (let depth = 0; depth < 4; depth++) {
      const pg = await env.startCompute(parent, tenant);
      if (depth === 0) await pg.query("CREATE TABLE steps (n int)");
      await pg.query(`INSERT INTO steps VALUES (${depth})`);
      const lsn = await pg.lsn();
      await pg.query(`INSERT INTO steps VALUES (${depth + 100})`);
      await pg.stop();
      const child = `depth${depth + 1}`;
      await env.branch(child, `${parent}@${lsn}`, tenant);
      history.push(child);
      parent = child;
    }
    for (const [i, branch] of history.entries()) {
      const pg = await env.startCompute(branch, tenant);
      const rows = await pg.query("SELECT n FROM steps ORDER BY n");
      const own = i + 1 < history.length ? [i + 1, i + 101] : [];
      assert.deepEqual(rows.map((row) => row["n"]), [...Array(i + 1).keys(), ...own]);
      await pg.stop();
    }
  });

  test("an LSN in the future or before the beginning is refused", async () => {
    const future = await env.tryZenith("branch", "future", "main@FF/0");
    assert.equal(future.code, 2);
    assert.match(future.stderr, /FF\/0/);
    const past = await env.tryZenith("branch", "past", "main@0/100");
    assert.equal(past.code, 2);
    assert.match(past.stderr, /0\/100/);
    assert.doesNotMatch(await env.zenith("branch"), /future|past/);
  });

  test("a branch name that is taken and a start that is unknown are refused", async () => {
    await env.branch("taken", "main");
    const again = await env.tryZenith("branch", "taken", "main");
    assert.equal(again.code, 5);
    assert.match(again.stderr, /taken/);
    const unknown = await env.tryZenith("branch", "fresh", "nowhere");
    assert.equal(unknown.code, 4);
    assert.match(unknown.stderr, /nowhere/);
    const bad = await env.tryZenith("branch", "../climb", "main");
    assert.equal(bad.code, 2);
    assert.match(bad.stderr, /be a branch name/);
  });
});

test("a branch's end is known after an immediate stop, also of WAL that was on its way", async () => {
  await using env = await ZenithEnv.create({ safekeepers: 1 });
  const pg = await env.startCompute("main");
  await pg.query("CREATE TABLE t (n int)");
  const [keeper] = env.safekeepers;
  const { pid } = keeper!;
  process.kill(pid, "SIGSTOP");
  try {
    await pg.query("SET synchronous_commit = off; INSERT INTO t VALUES (1)");
    const lsn = await pg.lsn();
    await until("it has left Postgres", async () =>
      await pg.value(
        `SELECT bool_and(sent_lsn >= '${lsn}') FROM pg_stat_replication WHERE state = 'streaming'`,
      ) === true);
    const postmaster = postmasterPid(pg.paths.pgdata)!;
    const stopping = pg.stop("immediate");
    await until("Postgres has ended", () => {
      try {
        return !process.kill(postmaster, 0);
      } catch {
        return true;
      }
    });
    process.kill(pid, "SIGCONT");
    await stopping;
  } finally {
    process.kill(pid, "SIGCONT");
  }
  await env.branch("after", "main");
  const after = await env.startCompute("after");
  assert.equal(await after.value("SELECT count(*)::int FROM t"), 1);
});

test("a branch's second start has what only the safekeepers know of the first", async () => {
  await using env = await ZenithEnv.create({ safekeepers: 1 });
  const main = await env.startCompute("main");
  await main.query("CREATE TABLE t (n int)");
  await main.stop();
  await env.branch("b", "main");
  const pg = await env.startCompute("b");
  {
    await using session = await pg.connect();
    // Reads what the statement needs while there is a page server, and writes nothing.
    await session.query("INSERT INTO t SELECT 1 WHERE false");
    await env.pageserver.kill9();
    await session.query("INSERT INTO t SELECT 1");
  }
  await pg.kill9();
  await until("the supervisor has ended", () => checkPidFile(pg.paths.pidFile).state !== "running");
  await env.pageserver.start();
  // The page server takes the branch for one that nobody has written to.
  await pg.start();
  assert.equal(await pg.value("SELECT count(*)::int FROM t"), 1);
});
