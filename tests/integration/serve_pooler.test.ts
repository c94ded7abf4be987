/** The pooler of `zenith serve`: stock psql and node-postgres through `-pooler` hosts, with Debian's PgBouncer. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { findPgBouncer, preparesStatements } from "../../src/serve/fleet/pgbouncer.ts";
import { childOutput } from "../harness/child_output.ts";
import { clientProgram } from "../harness/postgres_major.ts";
import { Serve } from "../harness/serve.ts";
import { until, ZenithEnv } from "../harness/zenith_env.ts";

const POOL_SIZE = 10;
const CLIENTS = 200;

let env: ZenithEnv;
let serve: Serve;

/** The PgBouncers that run. */
function bouncers(): number[] {
  const directory = join(env.repoDir, "poolers");
  if (!existsSync(directory)) return [];
  return readdirSync(directory).map((name) => join(directory, name, "pgbouncer.pid"))
    .filter((file) => existsSync(file)).map((file) => Number(readFileSync(file, "utf8")))
    .filter((pid) => existsSync(`/proc/${pid}`));
}

const connected = (label = "main-pooler") => serve.connected(label);

const program = findPgBouncer();

describe("a pooler", { skip: program === undefined ? "there is no pgbouncer here" : false }, () => {
  before(async () => {
    env = await ZenithEnv.create({ safekeepers: 1, start: false });
    serve = await Serve.start(env, "--pool-size", String(POOL_SIZE), "--suspend-after", "2s");
    // It makes the passwords, with the first start.
    await serve.tryPsql(serve.conninfo("main"), "SELECT 1", "unknown");
    await serve.psql(serve.conninfo("main"), "CREATE TABLE t (a int)");
    await env.zenith("sql", "main", "-c", "CREATE ROLE app LOGIN PASSWORD 'first'");
  });
  after(async () => {
    await serve[Symbol.asyncDispose]();
    await env[Symbol.asyncDispose]();
  });

  test("lets sessions share a backend, and asks for a password as Postgres does", async () => {
    const pooled = serve.conninfo("main-pooler");
    const pid = "SELECT current_user || ' ' || pg_backend_pid()";
    assert.equal(await serve.psql(pooled, pid), await serve.psql(pooled, pid));
    assert.notEqual(
      await serve.psql(serve.conninfo("main"), pid),
      await serve.psql(serve.conninfo("main"), pid),
    );
    assert.match((await serve.tryPsql(pooled, pid, "wrong")).stderr, /password authentication failed/);
    const byOption = `host=127.0.0.1 port=${serve.postgresPort} user=zenith_owner dbname=postgres`;
    assert.match(await serve.psql(`${byOption} options=endpoint=main-pooler`, pid), /^zenith_owner \d+$/);
    const admin = await serve.tryPsql(serve.conninfo("main-pooler", "", "zenith_admin"), "SELECT 1");
    assert.match(admin.stderr, /zenith_admin can't connect through the pooler/);
    // PgBouncer's own console is nobody's.
    const console = await serve.tryPsql(serve.conninfo("main-pooler", "dbname=pgbouncer"), "SHOW POOLS");
    assert.deepEqual([console.code, console.stdout], [2, ""]);
    assert.equal(bouncers().length, 1);
  });

  test("is behind the API's pooled connection string", async () => {
    const url =
      `http://127.0.0.1:${serve.httpPort}/v1/tenants/${env.defaultTenant}/branches/main/compute/uri?pooled=true`;
    const { uri } = await (await fetch(url, { headers: { authorization: `Bearer ${env.token}` } }))
      .json() as {
        uri: string;
      };
    assert.match(uri, /@ep-[^.]*-pooler\./);
    const child = spawn(
      clientProgram("psql"),
      ["-XAt", "-d", `${uri}&hostaddr=127.0.0.1`, "-c", "SELECT 1"],
      {
        stdio: ["ignore", "pipe", "pipe"],
      },
    );
    assert.deepEqual(await childOutput(child), { code: 0, stdout: "1\n", stderr: "" });
  });

  test("knows a new password at once, for a role that is no superuser", async () => {
    const conninfo = serve.conninfo("main-pooler", "", "app");
    // At once is while it is awake: of one that sleeps, the proxy knows what it was last told.
    const awake = await connected("main");
    assert.equal(await serve.psql(conninfo, "SELECT current_user", "first"), "app");
    await env.zenith("sql", "main", "-c", "ALTER ROLE app PASSWORD 'second'");
    assert.match(
      (await serve.tryPsql(conninfo, "SELECT 1", "first")).stderr,
      /password authentication failed/,
    );
    assert.equal(await serve.psql(conninfo, "SELECT current_user", "second"), "app");
    await awake.end();
  });

  test("carries 200 clients of node-postgres, with parameters and transactions, on 10 sessions", async () => {
    const direct = await connected("main");
    const sessions = async () => {
      const sql = "SELECT count(*)::int AS n FROM pg_stat_activity WHERE usename = 'zenith_owner' " +
        "AND pid <> pg_backend_pid()";
      return (await direct.query(sql)).rows[0].n as number;
    };
    const clients = await Promise.all(Array.from({ length: CLIENTS }, () => connected()));
    const counts: number[] = [await sessions()];
    const work = clients.map(async (client, i) => {
      await client.query("BEGIN");
      await client.query("INSERT INTO t VALUES ($1)", [i]);
      const { rows } = await client.query("SELECT count(*)::int AS n FROM t WHERE a = $1", [i]);
      await client.query("COMMIT");
      return rows[0].n as number;
    });
    counts.push(await sessions());
    assert.deepEqual(new Set(await Promise.all(work)), new Set([1]));
    counts.push(await sessions());
    assert.ok(Math.max(...counts) <= POOL_SIZE, String(counts));
    assert.equal((await direct.query("SELECT count(*)::int AS n FROM t")).rows[0].n, CLIENTS);
    await Promise.all([...clients, direct].map((client) => client.end()));
  });

  test("keeps prepared statements apart, where PgBouncer can", {
    skip: program === undefined || preparesStatements(program) ? false : "this PgBouncer is older than 1.21",
  }, async () => {
    const clients = await Promise.all(Array.from({ length: 2 * POOL_SIZE }, () => connected()));
    for (let round = 0; round < 3; round++) {
      const answers = clients.map(async (client, i) => {
        const { rows } = await client.query({
          name: "one",
          text: `SELECT $1::int + ${i} AS n`,
          values: [round],
        });
        assert.equal(rows[0].n, round + i);
      });
      await Promise.all(answers);
    }
    await Promise.all(clients.map((client) => client.end()));
  });

  test("cancels a command", async () => {
    const sleeper = spawn(
      clientProgram("psql"),
      ["-XAt", "-d", serve.conninfo("main-pooler", "application_name=sleeper"), "-c", "SELECT pg_sleep(100)"],
      {
        env: { ...process.env, PGPASSWORD: serve.passwordOf("zenith_owner") },
        stdio: ["ignore", "pipe", "pipe"],
      },
    );
    const output = childOutput(sleeper);
    const running =
      "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sleeper' AND state = 'active'";
    await until("the command runs", async () => await serve.psql(serve.conninfo("main"), running) === "1");
    sleeper.kill("SIGINT");
    assert.match((await output).stderr, /canceling statement due to user request/);
  });

  test("keeps a compute awake while somebody is connected, and goes to sleep with it", async () => {
    const idle = await connected();
    const before = Date.now();
    await until("it has looked for idle ones", () => Date.now() - before > 5_000);
    assert.ok(serve.isAwake("main"));
    assert.equal((await idle.query("SELECT 1 AS one")).rows[0].one, 1);
    await idle.end();
    await until("it sleeps", () => !serve.isAwake("main"));
    assert.deepEqual(bouncers(), []);
    assert.match(
      (await serve.tryPsql(serve.conninfo("main-pooler"), "SELECT 1", "wrong")).stderr,
      /password auth/,
    );
    assert.ok(!serve.isAwake("main"));
    assert.equal(await serve.psql(serve.conninfo("main-pooler"), "SELECT 1"), "1");
  });

  test("that is killed, or whose compute is stopped, is there again for the next client", async () => {
    const cut = await connected();
    process.kill(bouncers()[0]!, "SIGKILL");
    await assert.rejects(cut.query("SELECT pg_sleep(10)"));
    assert.equal(await serve.psql(serve.conninfo("main-pooler"), "SELECT 1"), "1");
    const left = await connected();
    await env.zenith("pg", "stop", "main");
    await assert.rejects(left.query("SELECT 1"));
    assert.equal(await serve.psql(serve.conninfo("main-pooler"), "SELECT 1"), "1");
  });

  test("of a serve that is killed ends when the next one comes", async () => {
    await serve.psql(serve.conninfo("main-pooler"), "SELECT 1");
    const [before] = bouncers();
    await serve.kill9();
    await serve.run("--pool-size", String(POOL_SIZE));
    await until("it has ended", () => !existsSync(`/proc/${before}`));
    assert.equal(await serve.psql(serve.conninfo("main-pooler"), "SELECT 1"), "1");
    await serve.stop();
    assert.deepEqual(bouncers(), []);
  });
});
