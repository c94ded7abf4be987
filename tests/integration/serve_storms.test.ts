/**
 * Crowds of stock clients at the port of `zenith serve`: at branches that sleep, when it is killed, when it is full,
 * and when its certificate changes.
 */
import assert from "node:assert/strict";
import { copyFileSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { connect, type Socket } from "node:net";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { TLSSocket } from "node:tls";
import type pg from "pg";
import { ensureServerCertificate } from "../../src/auth/certificates.ts";
import { parseBranchName } from "../../src/common/id.ts";
import { checkPidFile } from "../../src/process/pid_file.ts";
import { DOMAIN, Serve } from "../harness/serve.ts";
import { until, ZenithEnv } from "../harness/zenith_env.ts";

const BRANCHES = ["main", "a"];
const CLIENTS = 10;
const WRITERS = 8;
/** What a writer has acknowledged before serve is killed, and again afterwards. */
const ROWS = 20;
/** Whether somebody waits for `pg_sleep(1000)`. */
const RUNNING = "SELECT count(*)::int AS n FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1000)' " +
  "AND state = 'active' AND pid <> pg_backend_pid()";
const SLEEPY = ["--suspend-after", "1s"];

let env: ZenithEnv;
let serve: Serve;

before(async () => {
  env = await ZenithEnv.create({ safekeepers: 1, start: false });
  serve = await Serve.start(env, ...SLEEPY);
  // The first start makes the passwords.
  await serve.tryPsql(serve.conninfo("main"), "SELECT 1", "unknown");
  await serve.psql(serve.conninfo("main"), "CREATE TABLE t (writer int, n int, PRIMARY KEY (writer, n))");
  await env.branch("a", "main");
});
after(async () => {
  await serve[Symbol.asyncDispose]();
  await env[Symbol.asyncDispose]();
});

const processOf = (branch: string) => {
  const found = checkPidFile(env.paths.compute(env.defaultTenant, parseBranchName(branch)).pidFile);
  assert.equal(found.state, "running");
  return found.process;
};

const untilAllSleep = () =>
  until("all branches sleep", () => BRANCHES.every((branch) => !serve.isAwake(branch)));

/** What node-postgres keeps to itself. */
interface Insides {
  readonly connection: {
    readonly stream: Socket;
    once(event: "authenticationSASLFinal", listener: () => void): void;
  };
  readonly processID: number;
  readonly secretKey: number;
}

const inside = (client: pg.Client) => client as unknown as Insides;

describe("a storm at branches that sleep", () => {
  test("wakes each once, lets in who knows the password, and keeps nobody who has left", async () => {
    await untilAllSleep();
    const logged = serve.log().length;

    const right = BRANCHES.flatMap((branch) => Array.from({ length: CLIENTS }, () => serve.client(branch)));
    const wrong = Array.from({ length: 2 * CLIENTS }, () => serve.client("main", { password: "wrong" }));
    // These prove who they are, and leave while the Postgres is being started.
    const leavers = Array.from({ length: CLIENTS }, () => serve.client("a"));
    const left = leavers.map((client) =>
      new Promise<void>((resolve) => {
        const { connection } = inside(client);
        connection.once("authenticationSASLFinal", () => {
          connection.stream.destroy();
          resolve();
        });
      })
    );
    const refusals = Promise.all(wrong.map(async (client) => {
      await assert.rejects(client.connect(), (error: { code?: string }) => error.code === "28P01");
    }));
    const gone = Promise.allSettled(leavers.map((client) => client.connect()));
    const answers = await Promise.all(right.map(async (client) => {
      await client.connect();
      return (await client.query("SELECT current_user AS name")).rows[0].name;
    }));
    assert.deepEqual(new Set(answers), new Set(["zenith_owner"]));
    await Promise.all([refusals, gone, ...left]);
    const woken = () => serve.log().slice(logged).match(/"woke a compute"/g)?.length ?? 0;
    await until("the log has it", () => woken() >= BRANCHES.length);
    assert.equal(woken(), BRANCHES.length);
    await Promise.all(right.map((client) => client.end()));
    // A session that nobody has would keep its Postgres awake.
    await untilAllSleep();
  });
});

describe("kill -9 of serve under writes", () => {
  test("harms no Postgres and loses nothing that was acknowledged; clients go on with the next one", async () => {
    const acknowledged = Array.from({ length: WRITERS }, (): number[] => []);
    let isOver = false;
    const branchOf = (writer: number) => writer % 2 === 0 ? "main" : "a";
    const write = async (writer: number): Promise<void> => {
      for (let n = 0; !isOver;) {
        const client = serve.client(branchOf(writer));
        try {
          await client.connect();
          for (; !isOver; n++) {
            await client.query("INSERT INTO t VALUES ($1, $2)", [writer, n]);
            acknowledged[writer]!.push(n);
          }
          await client.end();
        } catch {
          // What was under way may be there or not, so it is not tried again.
          n++;
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      }
    };
    const writers = acknowledged.map((_, writer) => write(writer));
    const untilAllHave = (counts: readonly number[]) =>
      until("all writers go on", () => acknowledged.every((rows, i) => rows.length >= counts[i]!));
    await untilAllHave(acknowledged.map(() => ROWS));
    const before = BRANCHES.map(processOf);
    await serve.kill9();
    const then = acknowledged.map((rows) => rows.length);
    // Nothing sleeps before its writers are back.
    await serve.run("--suspend-after", "5s");
    await untilAllHave(then.map((count) => count + ROWS));
    assert.deepEqual(BRANCHES.map(processOf), before);
    isOver = true;
    await Promise.all(writers);
    for (const [writer, rows] of acknowledged.entries()) {
      const client = await serve.connected(branchOf(writer));
      const found = await client.query("SELECT n FROM t WHERE writer = $1", [writer]);
      await client.end();
      const there = new Set(found.rows.map(({ n }) => n as number));
      assert.deepEqual(rows.filter((n) => !there.has(n)), []);
    }
    // Those that the killed one had opened have ended, too.
    await untilAllSleep();
  });
});

describe("a statement over HTTP", () => {
  test("is canceled when its sender leaves", async () => {
    const client = await serve.connected("main");
    const isRunning = async () => {
      const { rows } = await client.query(RUNNING);
      return rows[0].n === 1;
    };
    const leaving = new AbortController();
    const password = serve.passwordOf("zenith_owner");
    const answer = fetch(`http://127.0.0.1:${serve.httpPort}/sql`, {
      method: "POST",
      headers: {
        "neon-connection-string": `postgres://zenith_owner:${
          encodeURIComponent(password)
        }@main.${DOMAIN}/postgres`,
        "neon-raw-text-output": "true",
      },
      body: JSON.stringify({ query: "SELECT pg_sleep(1000)" }),
      signal: leaving.signal,
    });
    const left = assert.rejects(answer, { name: "AbortError" });
    await until("it runs", isRunning);
    leaving.abort();
    await left;
    await until("it has ended", async () => !await isRunning());
    await client.end();
  });
});

describe("SIGTERM in a storm", () => {
  test("starts nothing after what it has stopped", async () => {
    // More than start together: some wait for their turn.
    const names = Array.from({ length: Math.min(3 * availableParallelism(), 24) }, (_, i) => `s${i}`);
    for (const name of names) {
      const made = await fetch(
        `http://127.0.0.1:${serve.httpPort}/v1/tenants/${env.defaultTenant}/branches`,
        {
          method: "POST",
          headers: { authorization: `Bearer ${env.token}`, "content-type": "application/json" },
          body: JSON.stringify({ name, start: "main" }),
        },
      );
      assert.equal(made.status, 201, await made.text());
    }
    const logged = serve.log().length;
    const storm = Promise.allSettled(names.map((name) => serve.connected(name)));
    await until("one is awake", () => serve.log().includes("woke a compute", logged));
    await serve.stop();
    await storm;
    assert.deepEqual([...BRANCHES, ...names].filter((name) => serve.isAwake(name)), []);
    assert.equal(checkPidFile(env.paths.pageserver.pidFile).state, "absent");
  });
});

describe("a new certificate", () => {
  /** The names in the certificate that the HTTPS port shows. */
  const shownByHttps = () =>
    new Promise<string>((resolve, reject) => {
      const asked = request({
        host: "127.0.0.1",
        port: serve.httpPort,
        path: "/openapi.json",
        servername: `main.${DOMAIN}`,
        ca: readFileSync(serve.ca),
        agent: false,
      }, (answer) => {
        resolve((answer.socket as TLSSocket).getPeerCertificate().subjectaltname ?? "");
        answer.resume();
      });
      asked.on("error", reject).end();
    });

  test("is shown by both ports at once, and a broken one by none", async () => {
    serve.host = "0.0.0.0";
    await serve.run("--suspend-after", "0s");
    const old = await serve.connected("main");
    assert.doesNotMatch(await shownByHttps(), /renewed\.example\.org/);
    const { auth } = env.paths;
    await ensureServerCertificate(auth, [`*.${DOMAIN}`, "127.0.0.1", "localhost", "renewed.example.org"]);
    // psql binds its password to the certificate that it sees.
    const asksWithBinding = () => serve.psql(serve.conninfo("main"), "SELECT 1");
    assert.equal(await asksWithBinding(), "1");
    const shown = async () => {
      const client = await serve.connected("main");
      const { subjectaltname } = (inside(client).connection.stream as TLSSocket).getPeerCertificate();
      await client.end();
      return [subjectaltname, await shownByHttps()];
    };
    for (const names of await shown()) assert.match(names ?? "", /renewed\.example\.org/);
    assert.equal((await old.query("SELECT 1 AS one")).rows[0].one, 1);
    await old.end();

    const kept = join(env.dir, "kept.pem");
    copyFileSync(auth.serverCertificate, kept);
    writeFileSync(auth.serverCertificate, "rubbish\n");
    for (const names of await shown()) assert.match(names ?? "", /renewed\.example\.org/);
    assert.equal(await asksWithBinding(), "1");
    const { stdout } = await env.tryZenith("status");
    assert.match(stdout, /problem: .* are no certificate with its key, in PEM/);
    assert.match(serve.log(), /could not read the certificate again/);
    copyFileSync(kept, auth.serverCertificate);
    rmSync(kept);
    assert.doesNotMatch((await env.tryZenith("status")).stdout, /certificate/);
  });
});

describe("a port that is full", () => {
  test("says so and what to do, and still ends commands", async () => {
    await serve.kill9();
    await serve.run("--max-connections", "2", "--suspend-after", "0s");
    const clients = [await serve.connected("main"), await serve.connected("main")];
    const { stderr } = await serve.tryPsql(serve.conninfo("main"), "SELECT 1");
    assert.match(stderr, /sorry, too many clients already/);
    assert.match(stderr, /HINT:.*--max-connections/);
    const { processID, secretKey } = inside(clients[0]!);
    const canceled = assert.rejects(
      clients[0]!.query("SELECT pg_sleep(1000)"),
      (error: { code?: string }) => error.code === "57014",
    );
    await until("the command runs", async () => (await clients[1]!.query(RUNNING)).rows[0].n === 1);
    const wish = Buffer.alloc(16);
    for (const [i, word] of [16, 80877102, processID].entries()) wish.writeInt32BE(word, 4 * i);
    wish.writeInt32BE(secretKey | 0, 12);
    connect(serve.postgresPort, "127.0.0.1").end(wish);
    await canceled;
    await Promise.all(clients.map((client) => client.end()));
    await until(
      "there is room",
      async () => (await serve.tryPsql(serve.conninfo("main"), "SELECT 1")).code === 0,
    );
  });
});
