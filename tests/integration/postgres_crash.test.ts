/**
 * A process of Postgres dies: its postmaster must not recover from the compute's data directory, where pages may be torn, and WAL has
 * no images of them. The supervisor starts afresh. `ZENITH_CRASH_ROUNDS` says how often backends are killed while they write.
 */
import assert from "node:assert/strict";
import { appendFileSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { findMount } from "../../src/compute/lazy/fuse/mount.ts";
import { postmasterPid } from "../../src/compute/postgres/postgres_process.ts";
import { childrenOfPostgres, huntWriter, killChild, untilStartedAfresh } from "../harness/backends.ts";
import type { Connection } from "../harness/connection.ts";
import { amcheck } from "../harness/programs.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

const ROUNDS = Number(process.env["ZENITH_CRASH_ROUNDS"] ?? 3);

/** What Postgres says when it recovers from what it finds in its data directory. */
const RECOVERY =
  /automatic recovery in progress|redo starts at|all server processes terminated; reinitializing/;

/** @returns the postmaster that it had */
function postmasterOf(pg: Compute): number {
  const pid = postmasterPid(pg.paths.pgdata);
  assert(pid !== undefined, "Postgres runs");
  return pid;
}

describe("when a process of Postgres is killed", () => {
  let env: ZenithEnv;
  let pg: Compute;

  before(async () => {
    env = await ZenithEnv.create();
    pg = await env.startCompute();
    await pg.query("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n");
  });
  after(() => env[Symbol.asyncDispose]());

  test("Postgres is started afresh, with all that was committed, and says so", async () => {
    const postmaster = postmasterOf(pg);
    await using session = await pg.connect();
    const victim = Number(await session.value("SELECT pg_backend_pid()"));
    await pg.query("INSERT INTO t VALUES (1001)");
    assert(killChild(victim));
    await untilStartedAfresh(pg, postmaster);
    assert.equal(await pg.value("SELECT count(*)::int FROM t"), 1001);
    await pg.query("INSERT INTO t VALUES (1002)");
    assert.doesNotMatch(pg.postgresLog(), RECOVERY);
    const crash = new RegExp(`server process \\(PID ${victim}\\) was terminated by signal 9`);
    assert.match(pg.log(), crash);
    assert.match(
      await env.zenith("pg", "list"),
      new RegExp(`running \\(started afresh at \\S+: .*${crash.source}`),
    );
    assert.match(await env.zenith("status"), /^all is well$/m, "what is over is no problem");
  });

  test("it does not matter which process it was", async () => {
    for (const title of ["checkpointer", "walwriter", "walsender"]) {
      const postmaster = postmasterOf(pg);
      await until(
        `there is a ${title}`,
        () => childrenOfPostgres(pg).some((child) => child.title.includes(title)),
      );
      const victim = childrenOfPostgres(pg).find((child) => child.title.includes(title))!;
      assert(killChild(victim.pid));
      await untilStartedAfresh(pg, postmaster);
    }
    assert.equal(await pg.value("SELECT count(*)::int FROM t"), 1002);
    assert.doesNotMatch(pg.postgresLog(), RECOVERY);
  });

  test("neither SQL nor a configuration file makes Postgres recover by itself, or limits the slot", async () => {
    await pg.query("ALTER SYSTEM SET restart_after_crash = on");
    await pg.query("ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'");
    appendFileSync(join(pg.paths.pgdata, "postgresql.conf"), "restart_after_crash = on\n");
    await pg.query("SELECT pg_reload_conf()");
    await pg.restart();
    assert.equal(await pg.value("SHOW restart_after_crash"), "off");
    assert.equal(await pg.value("SHOW max_slot_wal_keep_size"), "-1");
  });

  test("a start afresh waits for the page server, says so, and can be stopped meanwhile", async () => {
    const postmaster = postmasterOf(pg);
    await using session = await pg.connect();
    const victim = Number(await session.value("SELECT pg_backend_pid()"));
    await env.pageserver.kill9();
    assert(killChild(victim));
    await until("it says why it waits", async () => {
      const { stdout } = await env.tryZenith("status");
      return /problem: the Postgres of branch main: starting afresh: .*page server/.test(stdout);
    });
    assert.match(await env.zenith("pg", "list"), /running \(starting afresh: /);
    await pg.stop();
    await env.pageserver.start();
    await pg.start();
    assert.notEqual(postmasterOf(pg), postmaster);
    assert.equal(await pg.value("SELECT count(*)::int FROM t"), 1002);
  });
});

const NO_LAZY = { skip: !existsSync("/dev/fuse") };
const ROWS = 60_000;
const WRITERS = 4;
/** So little that whoever writes has to wait for the pages before. */
const DIRTY_MAX_BYTES = 1 << 20;
/** On a quiet machine nobody may be seen waiting; then any session is killed. */
const HUNT_MS = 3_000;

describe("backends of a lazy compute that are killed inside pwrite", NO_LAZY, () => {
  let env: ZenithEnv;
  let pg: Compute;

  before(async () => {
    env = await ZenithEnv.create({ storage: "lazy" });
    pg = await env.createCompute();
    appendFileSync(
      join(pg.paths.pgdata, "postgresql.conf"),
      "shared_buffers = '1MB'\nbgwriter_lru_maxpages = 0\nautovacuum = off\n",
    );
    await pg.start();
    await pg.query("CREATE EXTENSION amcheck");
    await pg.query(
      "CREATE TABLE torn (n int PRIMARY KEY, changes int NOT NULL, filler text) WITH (fillfactor = 70)",
    );
    await pg.query(`INSERT INTO torn SELECT n, 0, repeat('x', 40) FROM generate_series(1, ${ROWS}) n`);
  });
  after(() => env[Symbol.asyncDispose]());

  test("leave no torn page behind, on the branch or on one made of it", async () => {
    for (let round = 0; round < ROUNDS; round++) {
      limitDirty(pg);
      const postmaster = postmasterOf(pg);
      // All of them first: who is killed while another one connects would take that for an error.
      const sessions = await Promise.all(Array.from({ length: WRITERS }, () => pg.connect()));
      const writing = sessions.map((session, writer) => writeUntilLost(session, writer));
      const victim = await huntWriter(pg, HUNT_MS);
      assert(killChild(victim));
      await Promise.all(writing);
      await untilStartedAfresh(pg, postmaster);
      await assertWhole(pg, `round ${round}`);
    }
    assert.doesNotMatch(pg.postgresLog(), RECOVERY);
    await pg.restart();
    await assertWhole(pg, "after a restart");
    await env.untilArrived();
    await env.zenith("branch", "child", "main");
    await assertWhole(await env.startCompute("child"), "on a branch");
  });
});

function limitDirty(pg: Compute): void {
  const mounted = findMount(pg.paths.mount);
  assert(mounted !== undefined, "the relation files are mounted");
  const path = `/sys/class/bdi/${mounted.device}/max_bytes`;
  // Only root may, and only since Linux 6.3.
  if (process.getuid!() === 0 && existsSync(path)) writeFileSync(path, String(DIRTY_MAX_BYTES));
}

/** Changes rows all over the table until the session is lost. */
async function writeUntilLost(connected: Connection, writer: number): Promise<void> {
  await using session = connected;
  for (let n = writer;; n++) {
    const changed = `n % 97 = ${n * WRITERS % 97}`;
    const statement =
      `UPDATE torn SET changes = changes + 1, filler = repeat('y', 20 + n % 40) WHERE ${changed}`;
    const isLost = await session.query(statement).then(() => false, (error) => !isDeadlock(error));
    if (isLost) return;
  }
}

function isDeadlock(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "40P01";
}

async function assertWhole(pg: Compute, when: string): Promise<void> {
  await using session = await pg.connect();
  await session.query(
    "SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off",
  );
  const [row] = await session.query(
    "SELECT count(*)::int AS rows, count(DISTINCT n)::int AS numbers, min(n) AS first, max(n) AS last FROM torn",
  );
  assert.deepEqual(row, { rows: ROWS, numbers: ROWS, first: 1, last: ROWS }, when);
  await amcheck(pg, ["postgres"]);
}
