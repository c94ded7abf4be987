/** `zenith serve`: stock psql through the Postgres port, sleep and wake, and processes that are killed. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { clientProgram } from "../harness/postgres_major.ts";
import { childOutput } from "../harness/child_output.ts";
import { checkPidFile } from "../../src/process/pid_file.ts";
import { Serve } from "../harness/serve.ts";
import { until, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let serve: Serve;

before(async () => {
  env = await ZenithEnv.create({ safekeepers: 1, start: false });
  serve = await Serve.start(env);
});
after(async () => {
  await serve[Symbol.asyncDispose]();
  await env[Symbol.asyncDispose]();
});

describe("psql", () => {
  test("wakes a branch by its host name, and binds SCRAM to the channel", async () => {
    // Somebody who only knows the name learns nothing; the first start makes the passwords.
    const stranger = await serve.tryPsql(serve.conninfo("main"), "SELECT 1", "wrong");
    assert.match(stranger.stderr, /password authentication failed for user "zenith_owner"/);
    await env.zenith("pg", "stop", "main");
    assert.equal(await serve.psql(serve.conninfo("main"), "SELECT current_user"), "zenith_owner");
    assert.ok(serve.isAwake("main"));
    await serve.psql(serve.conninfo("main"), "CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
  });

  test("names the branch by an option where no host name tells it, and passes the others on", async () => {
    const plain = `host=127.0.0.1 port=${serve.postgresPort} user=zenith_owner dbname=postgres`;
    const options = "options='endpoint=main -c work_mem=7MB'";
    assert.equal(await serve.psql(`${plain} ${options}`, "SHOW work_mem"), "7MB");
    assert.equal(await serve.psql(`${plain} sslmode=disable`, "SELECT 1"), "1");
    const other = await serve.tryPsql(`${serve.conninfo("main")} options=endpoint=dev`, "SELECT 1");
    assert.match(other.stderr, /inconsistent endpoint names/);
  });

  test("is told that there is no such endpoint, branch, or password", async () => {
    for (const label of ["ep-no-such-one", "br-no-such-one"]) {
      const { stderr } = await serve.tryPsql(serve.conninfo(label), "SELECT 1");
      assert.match(stderr, new RegExp(`there is no endpoint "${label}"`));
    }
    const missing = await serve.tryPsql(serve.conninfo("nowhere"), "SELECT 1");
    assert.match(missing.stderr, /has no branch nowhere/);
    for (const role of ["nobody", "zenith_owner", "pg_monitor"]) {
      const { stderr } = await serve.tryPsql(serve.conninfo("main", "", role), "SELECT 1", "x");
      assert.match(stderr, new RegExp(`password authentication failed for user "${role}"`));
    }
  });

  test("looks at a moment, read-only", async () => {
    const lsn = await serve.psql(serve.conninfo("main"), "SELECT pg_current_wal_insert_lsn()");
    await serve.psql(serve.conninfo("main"), "INSERT INTO t VALUES (2)");
    const past = serve.conninfo("main", `options=neon_lsn:${lsn}`);
    assert.equal(await serve.psql(past, "SELECT a FROM t"), "1");
    assert.match((await serve.tryPsql(past, "INSERT INTO t VALUES (3)")).stderr, /read-only transaction/);
  });

  test("cancels its own command, and nobody else's", async () => {
    const other = serve.psql(serve.conninfo("main"), "SELECT pg_sleep(2), 'went on'");
    const child = spawn(
      clientProgram("psql"),
      ["-XAt", "-d", serve.conninfo("main", "application_name=sleeper"), "-c", "SELECT pg_sleep(100)"],
      {
        env: { ...process.env, PGPASSWORD: serve.passwordOf("zenith_owner") },
        stdio: ["ignore", "pipe", "pipe"],
      },
    );
    const output = childOutput(child);
    const running =
      "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sleeper' AND state = 'active'";
    await until("the command runs", async () => await serve.psql(serve.conninfo("main"), running) === "1");
    child.kill("SIGINT");
    assert.match((await output).stderr, /canceling statement due to user request/);
    assert.match(await other, /went on/);
  });

  test("receives and sends a lot", async () => {
    const rows = "SELECT repeat('x', 1000) FROM generate_series(1, 20000)";
    assert.equal((await serve.psql(serve.conninfo("main"), rows)).length, 20000 * 1001 - 1);
    const long = "x".repeat(100_000);
    assert.equal(await serve.psql(serve.conninfo("main"), `SELECT length('${long}')`), String(long.length));
  });
});

describe("what is no client", () => {
  /** @returns what the server says to these bytes */
  const say = (bytes: Uint8Array): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connect(serve.postgresPort, "127.0.0.1", () => socket.write(bytes));
      let heard = "";
      socket.on("data", (chunk) => heard += chunk.toString("latin1"));
      socket.on("close", () => resolve(heard));
      socket.on("error", reject);
    });

  test("is told so, and let go", async () => {
    assert.match(await say(Buffer.from("GET / HTTP/1.1\r\n\r\n")), /invalid startup packet/);
    assert.match(await say(Buffer.from([0, 0, 0, 4])), /invalid startup packet/);
    assert.match(await say(Buffer.from([0x7f, 0xff, 0xff, 0xff])), /invalid startup packet/);
    assert.match(await say(Buffer.from([0, 0, 0, 9, 0, 3, 0, 0, 0])), /no user name/);
    assert.match(await say(Buffer.from([0, 0, 0, 8, 0, 2, 0, 0])), /unsupported frontend protocol 2\.0/);
    // A cancellation of nothing is not answered, whatever the key.
    assert.equal(await say(Buffer.from([0, 0, 0, 16, 4, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 0, 0, 0, 2])), "");
    // SSLRequest, and in the same breath what only a man in the middle would send.
    const early = Buffer.from([0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f, 1, 2, 3]);
    assert.match(await say(early), /unencrypted data after SSLRequest/);
    assert.equal(await serve.psql(serve.conninfo("main"), "SELECT 1"), "1");
  });
});

describe("sleep", () => {
  test("comes when nobody is connected, and ends when somebody is", async () => {
    await serve.stop();
    await serve.run("--suspend-after", "1s");
    const sessions = "SELECT pg_sleep(3)";
    await serve.psql(serve.conninfo("main"), sessions);
    await until("it sleeps", () => !serve.isAwake("main"));
    // A wrong password wakes nobody.
    const { stderr } = await serve.tryPsql(serve.conninfo("main"), "SELECT 1", "wrong");
    assert.match(stderr, /password authentication failed/);
    assert.ok(!serve.isAwake("main"));
    const many = Array.from(
      { length: 10 },
      () => serve.psql(serve.conninfo("main"), "SELECT count(*) FROM t"),
    );
    assert.deepEqual(new Set(await Promise.all(many)), new Set(["2"]));
    assert.equal(serve.log().match(/"compute":"main".*put a compute to sleep/g)?.length, 1);
    await until("it sleeps again", () => !serve.isAwake("main"));
    // What has changed since somebody logged in last is known, too.
    const app = serve.conninfo("main", "", "app");
    await env.zenith("pg", "start", "main");
    await env.zenith("sql", "main", "-c", "CREATE ROLE app LOGIN PASSWORD 'first'");
    await env.zenith("pg", "stop", "main");
    const before = "SELECT current_user FROM pg_sleep(1)";
    assert.equal(await serve.psql(app, before, "first"), "app");
    await env.zenith("sql", "main", "-c", "ALTER ROLE app PASSWORD 'second'");
    await until("it sleeps with a new password", () => !serve.isAwake("main"));
    assert.match((await serve.tryPsql(app, "SELECT 1", "first")).stderr, /password authentication failed/);
    assert.ok(!serve.isAwake("main"));
    assert.equal(await serve.psql(app, "SELECT 1", "second"), "1");
    await until("it sleeps once more", () => !serve.isAwake("main"));
    // Somebody else starts it, and changes that.
    await env.zenith("pg", "start", "main");
    await env.zenith("sql", "main", "-c", "ALTER ROLE app PASSWORD 'third'");
    await env.zenith("pg", "stop", "main");
    assert.equal(await serve.psql(app, "SELECT 1", "third"), "1");
    await until("it sleeps in the end", () => !serve.isAwake("main"));
    // zenith start would bring back what somebody has started; nobody has.
    assert.match(await env.zenith("pg", "list"), /main .*stopped/);
  });
});

describe("kill -9", () => {
  test("of serve takes no session and no row along, and the next one goes on", async () => {
    await serve.psql(serve.conninfo("main"), "INSERT INTO t VALUES (10)");
    await serve.kill9();
    assert.ok(serve.isAwake("main"));
    await serve.run("--suspend-after", "1s");
    assert.equal(await serve.psql(serve.conninfo("main"), "SELECT count(*) FROM t WHERE a = 10"), "1");
    // It knows that it may put to sleep what the one before has woken.
    await until("it sleeps", () => !serve.isAwake("main"));
  });

  test("of a server is mended", async () => {
    await env.pageserver.kill9();
    const { pidFile } = env.paths.pageserver;
    await until("the page server is back", () => checkPidFile(pidFile).state === "running");
    await env.safekeepers[0]!.kill9();
    await until(
      "the safekeeper is back",
      () => checkPidFile(env.safekeepers[0]!.paths.pidFile).state === "running",
    );
    assert.equal(await serve.psql(serve.conninfo("main"), "SELECT count(*) FROM t"), "3");
  });
});

describe("a config that somebody is editing", () => {
  test("ends nothing", async () => {
    const { config } = env.paths;
    const text = readFileSync(config);
    writeFileSync(config, "half a = ");
    try {
      await until("serve has read it", () => serve.log().includes("could not look for what was killed"));
    } finally {
      writeFileSync(config, text);
    }
    assert.equal(await serve.psql(serve.conninfo("main"), "SELECT count(*) FROM t"), "3");
  });
});

describe("SIGTERM", () => {
  test("stops all of it", async () => {
    await serve.stop();
    assert.ok(!serve.isAwake("main"));
    for (const pidFile of [env.paths.pageserver.pidFile, env.safekeepers[0]!.paths.pidFile]) {
      assert.equal(checkPidFile(pidFile).state, "absent");
    }
    assert.match(serve.log(), /"msg":"stopped"/);
  });
});

describe("zenith stop", () => {
  test("ends serve first, which would start everything again", async () => {
    await serve.run();
    assert.match(await env.zenith("status"), /zenith serve, process \d+, keeps all of it running/);
    assert.match(await env.zenith("stop"), /zenith serve stopped/);
    assert.equal(checkPidFile(env.paths.servePidFile).state, "absent");
    assert.equal(checkPidFile(env.paths.pageserver.pidFile).state, "absent");
    assert.equal(JSON.parse((await env.tryZenith("status", "--json")).stdout).serve_pid, null);
  });
});

describe("an insecure environment", () => {
  test("is not served to other machines", async () => {
    await using open = await ZenithEnv.create({ init: ["--insecure"], safekeepers: 0, start: false });
    const { code, stderr } = await open.tryZenith(
      "serve",
      "--http",
      "0.0.0.0:1",
      "--postgres",
      "127.0.0.1:1",
    );
    assert.equal(code, 2);
    assert.match(stderr, /insecure, so 0\.0\.0\.0:1 can't be where it is served/);
    await open.zenith("stop");
  });
});
