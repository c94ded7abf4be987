/** Read-only computes that follow a branch, any number of them, and see what the branch has committed. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { postmasterPid } from "../../src/compute/postgres/postgres_process.ts";
import { allComputePlaces } from "../../src/control/compute_places.ts";
import { checkPidFile, isRunning } from "../../src/process/pid_file.ts";
import { addSettings } from "../harness/branching.ts";
import { Connection, type ConnectOptions } from "../harness/connection.ts";
import { freePort } from "../harness/ports.ts";
import { type Compute, until, ZenithEnv, type ZenithEnvOptions } from "../harness/zenith_env.ts";

const SETUPS: readonly ZenithEnvOptions[] = [
  { major: 15, safekeepers: 3, storage: "lazy" },
  { major: 18, safekeepers: 3, storage: "lazy" },
  { major: 15, safekeepers: 3, storage: "eager" },
];

const CONTENT = "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM t";

interface Replica {
  readonly name: string;
  connect(options?: ConnectOptions): Promise<Connection>;
  value(sql: string, options?: ConnectOptions): Promise<unknown>;
}

/** Starts a replica of main that does not run yet: a new one on a port of the tests, or one on its own port. */
async function startReplica(env: ZenithEnv, isNew = true): Promise<Replica> {
  const options = isNew ? ["--port", String(await freePort())] : [];
  const started = await env.zenith("pg", "start", "main", "--replica", "--json", ...options);
  const { name, uri } = JSON.parse(started);
  const { port, password } = new URL(uri);
  const connect = (options: ConnectOptions = {}) =>
    Connection.open({ host: "127.0.0.1", port: Number(port) }, { password, ...options });
  return {
    name,
    connect,
    async value(sql, options) {
      await using session = await connect(options);
      return await session.value(sql);
    },
  };
}

function placeOf(env: ZenithEnv, name: string) {
  return allComputePlaces(env.environment).find((found) => found.name === name)!;
}

for (const setup of SETUPS) {
  describe(`replicas of PostgreSQL ${setup.major} with ${setup.storage} storage`, () => {
    let env: ZenithEnv;
    let main: Compute;
    const replicas: Replica[] = [];

    before(async () => {
      env = await ZenithEnv.create(setup);
      main = await env.createCompute("main");
      addSettings(main, "max_prepared_transactions = 7", "max_connections = 37");
      await main.start();
      await main.query("CREATE TABLE t (n int, v text)");
      await main.query("CREATE INDEX t_n ON t (n)");
      await main.query("CREATE EXTENSION amcheck");
      await main.query("INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 3000) n");
    });
    after(() => env?.[Symbol.asyncDispose]());

    /** Waits until every replica has replayed what is committed now, and compares. */
    async function assertSame(sql = CONTENT, options: ConnectOptions = {}): Promise<void> {
      const expected = await main.value(sql, [], options);
      for (const replica of replicas) {
        let found: unknown;
        const isSame = async () => {
          found = await replica.value(sql, options).catch((error: unknown) => error);
          return found === expected;
        };
        await until(`${replica.name} has what main has`, isSame).catch((error) => {
          throw new Error(`${error}: ${found} instead of ${expected}`);
        });
      }
    }

    test("see what was open when they started once it is committed, and only then", async () => {
      const before = await main.value(CONTENT);
      const sessions: Connection[] = [];
      const begin = async (...statements: string[]): Promise<void> => {
        const session = await main.connect({ autocommit: false });
        for (const statement of statements) await session.query(statement);
        sessions.push(session);
      };
      await begin("INSERT INTO t SELECT n, 'inserted' FROM generate_series(10001, 10500) n");
      await begin(
        "SAVEPOINT a",
        "INSERT INTO t VALUES (20001, 'a')",
        "SAVEPOINT b",
        "INSERT INTO t VALUES (20002, 'b')",
        "RELEASE b",
        "SAVEPOINT c",
        "INSERT INTO t VALUES (20003, 'c')",
        "ROLLBACK TO c",
      );
      await begin("UPDATE t SET v = 'updated' WHERE n <= 500");
      await begin("DELETE FROM t WHERE n BETWEEN 501 AND 700");
      await main.query("BEGIN; INSERT INTO t VALUES (30001, 'prepared'); PREPARE TRANSACTION 'p'");
      await main.query("BEGIN; INSERT INTO t VALUES (40001, 'aborted'); ROLLBACK");

      replicas.push(await startReplica(env));
      // These reads note on the pages what they take for aborted.
      for (let i = 0; i < 2; i++) assert.equal(await replicas[0]!.value(CONTENT), before);
      for (const session of sessions) {
        await session.query("COMMIT");
        await session[Symbol.asyncDispose]();
      }
      await main.query("COMMIT PREPARED 'p'");
      await assertSame();
      assert.equal(await replicas[0]!.value("SELECT count(*)::int FROM t WHERE n > 10000"), 503);
      assert.equal(await replicas[0]!.value("SELECT count(*)::int FROM t WHERE v = 'updated'"), 500);
      // A replica that can't follow is started afresh, which would hide it.
      const [, listed] = JSON.parse(await env.zenith("pg", "list", "--json"));
      assert.deepEqual([listed.name, listed.notes], ["main@replica1", []]);
    });

    test("share no tablespace with the branch's Postgres that is made while they run", async () => {
      const location = mkdtempSync(join(tmpdir(), "zenith-replicas-"));
      try {
        makeOwnedDirectory(location, pgUser());
        await main.query(`CREATE TABLESPACE elsewhere LOCATION '${location}'`);
        await main.query(
          "CREATE TABLE apart TABLESPACE elsewhere AS SELECT n FROM generate_series(1, 5000) n",
        );
        await assertSame("SELECT sum(n)::text FROM apart");
        await main.query("UPDATE apart SET n = n + 1");
        await main.query("CHECKPOINT");
        await assertSame("SELECT sum(n)::text FROM apart");
        await main.query("DROP TABLE apart");
        await main.query("DROP TABLESPACE elsewhere");
        await assertSame();
      } finally {
        rmSync(location, { recursive: true, force: true });
      }
    });

    // After the start, what follows is the same with both kinds of storage.
    if (setup.storage === "eager") return;

    test("follow side by side through every kind of change, and change nothing themselves", async () => {
      replicas.push(await startReplica(env));
      assert.deepEqual(replicas.map(({ name }) => name), ["main@replica1", "main@replica2"]);
      await main.query("UPDATE t SET v = v || 'x' WHERE n % 3 = 0");
      await main.query("DELETE FROM t WHERE n % 7 = 0");
      await main.query("VACUUM (FREEZE) t");
      await main.query("ALTER TABLE t ADD COLUMN w int DEFAULT 5");
      await main.query("INSERT INTO t SELECT n, 'more', n FROM generate_series(1, 20000) n");
      await main.query("VACUUM FULL t");
      await main.query("CREATE TABLE gone AS SELECT * FROM t; TRUNCATE gone; DROP TABLE gone");
      await main.query(
        "BEGIN; SELECT 1 FROM t WHERE n < 10 FOR SHARE; SAVEPOINT s; UPDATE t SET w = 1 WHERE n < 10; COMMIT",
      );
      await main.query("CREATE DATABASE another");
      await main.query("CREATE TABLE there AS SELECT 1 AS n", { database: "another" });
      await assertSame();
      await assertSame("SELECT count(*)::text FROM there", { database: "another" });
      for (const { value } of replicas) {
        await assert.rejects(
          value("INSERT INTO t VALUES (0)"),
          /cannot execute INSERT in a read-only transaction/,
        );
        await value("SELECT bt_index_check('t_n', true)");
      }
      const lags = (list: readonly Record<string, unknown>[]) =>
        list.filter(({ name }) => name !== "main").map((found) => found["replay_lag_bytes"]);
      await until("pg list says that they have everything", async () => {
        const lag = lags(JSON.parse(await env.zenith("pg", "list", "--json")));
        return lag.length === replicas.length && lag.every((bytes) => bytes === 0);
      });
      const survey = JSON.parse(await env.zenith("status", "--json"));
      assert.deepEqual(survey.problems, []);
      assert.deepEqual(lags(survey.computes).map((bytes) => typeof bytes), replicas.map(() => "number"));
    });

    test("go on in their sessions when the branch's Postgres is killed, stopped and started, and a safekeeper dies", async () => {
      await using session = await replicas[0]!.connect();
      const pid = await session.value("SELECT pg_backend_pid()");
      await using open = await main.connect({ autocommit: false });
      await open.query("INSERT INTO t SELECT n, 'lost' FROM generate_series(1, 100) n");
      await main.query("INSERT INTO t VALUES (50001, 'before the kill')");
      await main.kill9();
      await main.start();
      await main.query("INSERT INTO t VALUES (50002, 'after the kill')");
      await assertSame();
      await main.restart();
      await main.query("INSERT INTO t VALUES (50003, 'after the stop')");
      await assertSame();
      for (const safekeeper of env.safekeepers.slice(0, 2)) {
        await safekeeper.kill9();
        await main.query("INSERT INTO t VALUES (50004, 'without a safekeeper')");
        await assertSame();
        await safekeeper.start();
      }
      assert.equal(await session.value("SELECT pg_backend_pid()"), pid);
    });

    test("are started afresh when a backend crashes, or when one is promoted, and again after a kill", async () => {
      const { name, value } = replicas[0]!;
      const { paths } = placeOf(env, name);
      const untilAfresh = async (postmaster: number | undefined): Promise<void> => {
        await until("it runs afresh", async () => {
          const now = postmasterPid(paths.pgdata);
          return now !== undefined && now !== postmaster &&
            await value("SELECT 1").then(() => true, () => false);
        });
      };
      let postmaster = postmasterPid(paths.pgdata);
      await using session = await replicas[0]!.connect();
      process.kill(Number(await session.value("SELECT pg_backend_pid()")), "SIGKILL");
      await untilAfresh(postmaster);
      postmaster = postmasterPid(paths.pgdata);
      await value("SELECT pg_promote(false)");
      await untilAfresh(postmaster);
      await until("it is a replica again", async () => await value("SELECT pg_is_in_recovery()") === true);
      await main.query("INSERT INTO t VALUES (60001, 'afresh')");
      await assertSame();

      const supervisor = checkPidFile(paths.pidFile);
      assert.ok(supervisor.state === "running");
      process.kill(supervisor.process.pid, "SIGKILL");
      await until("the supervisor is dead", () => !isRunning(supervisor.process));
      await main.query("INSERT INTO t VALUES (60002, 'away')");
      assert.match(await env.zenith("pg", "start", name), /^Postgres of branch main@replica1 started\n/);
      await assertSame();
    });

    test("come back with everything else, and can be stopped and removed", async () => {
      await env.zenith("stop");
      const started = await env.zenith("start");
      for (const { name } of replicas) {
        assert.match(started, new RegExp(`Postgres of branch ${name} started on`));
      }
      await main.query("INSERT INTO t VALUES (70001, 'back')");
      await assertSame();
      const refused = await env.tryZenith("branch", "reset", "main");
      assert.notEqual(refused.code, 0);
      const { name } = replicas.pop()!;
      assert.match(await env.zenith("pg", "stop", name), /main@replica2 stopped/);
      assert.match(await env.zenith("pg", "list"), /^main@replica2 .*stopped/m);
      // The number is free again.
      replicas.push(await startReplica(env, false));
      assert.equal(replicas[1]!.name, "main@replica2");
      await assertSame();
      for (const { name } of replicas.splice(0)) await env.zenith("pg", "stop", name, "--destroy");
      assert.deepEqual(allComputePlaces(env.environment).map(({ name }) => name), ["main"]);
      await main.stop();
      const without = await env.tryZenith(
        "pg",
        "start",
        "main",
        "--replica",
        "--port",
        String(await freePort()),
      );
      assert.equal(without.code, 5);
      assert.match(without.stderr, /a replica starts from a checkpoint .*\nhint: .*zenith pg start main/);
      await env.zenith("pg", "stop", "main@replica1", "--destroy");
    });
  });
}
