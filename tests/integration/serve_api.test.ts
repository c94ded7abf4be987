/** The HTTP API of `zenith serve`, and SQL over HTTP and WebSockets by the stock serverless driver. */
// deno-lint-ignore-file no-explicit-any -- What an API answers is checked by looking at it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Grant } from "../../src/auth/claims.ts";
import { signToken } from "../../src/auth/sign.ts";
import { generateTenantId, generateTimelineId } from "../../src/common/id.ts";
import { createToken, revokeToken } from "../../src/control/tokens.ts";
import { API } from "../../src/serve/api/contract.ts";
import { NEON } from "../../src/serve/neon/contract.ts";
import type { Route } from "../../src/serve/http/routes.ts";
import { childOutput } from "../harness/child_output.ts";
import { runZenith } from "../harness/cli.ts";
import { Serve } from "../harness/serve.ts";
import { API_ROWS, BY, type Token } from "../harness/serve_matrix.ts";
import { assertStrongTls, SCAN } from "../harness/sslscan.ts";
import { until, ZenithEnv } from "../harness/zenith_env.ts";

const CLIENTS = join(import.meta.dirname, "..", "clients");

let env: ZenithEnv;
let serve: Serve;
let tenant: string;

before(async () => {
  env = await ZenithEnv.create({ safekeepers: 1, start: false });
  serve = await Serve.start(env);
  tenant = env.defaultTenant;
});
after(async () => {
  await serve[Symbol.asyncDispose]();
  await env[Symbol.asyncDispose]();
});

interface Answer {
  readonly status: number;
  readonly body: Record<string, any>;
  readonly headers: Headers;
}

/** @param token the operator's unless another is given; null for none */
async function ask(
  method: string,
  path: string,
  body?: unknown,
  { token = env.token, headers = {} }: { token?: string | null; headers?: Record<string, string> } = {},
): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${serve.httpPort}${path}`, {
    method,
    headers: {
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  const isJson = response.headers.get("content-type") === "application/json";
  return { status: response.status, body: isJson ? JSON.parse(text) : { text }, headers: response.headers };
}

async function ok(method: string, path: string, body?: unknown): Promise<Record<string, any>> {
  const answer = await ask(method, path, body);
  if (answer.status >= 300) {
    throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  }
  return answer.body;
}

const branches = () => `/v1/tenants/${tenant}/branches`;

describe("branches", () => {
  test("live and die over the API, with their ids", async () => {
    await serve.psql(serve.conninfo("main"), "SELECT 1", serve.passwordOf("zenith_owner")).catch(() => {});
    await ok("POST", `${branches()}/main/compute/start`);
    await serve.psql(serve.conninfo("main"), "CREATE TABLE t AS SELECT 1 AS a");
    const lsn = await serve.psql(serve.conninfo("main"), "SELECT pg_current_wal_insert_lsn()");
    await serve.psql(serve.conninfo("main"), "INSERT INTO t VALUES (2)");

    const made = await ok("POST", branches(), {
      name: "feature/a",
      start: `main@${lsn}`,
      suspend_after: "1s",
    });
    assert.match(made.id, /^br-[a-z0-9]+-[a-z0-9]+-[a-z0-9]+$/);
    assert.equal(made.parent_name, "main");
    assert.equal(made.compute.state, "asleep");
    const { uri } = await ok("GET", `${branches()}/feature%2Fa/compute/uri`);
    assert.match(uri, new RegExp(`^postgresql://zenith_owner:[^@]+@${made.compute.endpoint_id}\\.`));
    const superuser = await ok("GET", `${branches()}/feature%2Fa/compute/uri?role=zenith_admin`);
    assert.match(superuser.uri, /^postgresql:\/\/zenith_admin@/, "without its password");
    const label = made.compute.endpoint_id as string;
    assert.equal(await serve.psql(serve.conninfo(label), "SELECT a FROM t"), "1");
    await serve.psql(serve.conninfo(label), "INSERT INTO t VALUES (3)");
    await until("it sleeps by its own setting", () => !serve.isAwake("feature/a"));

    const restored = await ok("POST", `${branches()}/${made.id}/restore`, {
      source: "main",
      keep_as: "before",
    });
    assert.equal(restored.id, made.id);
    assert.notEqual(restored.timeline_id, made.timeline_id);
    assert.equal(
      await serve.psql(serve.conninfo(label), "SELECT string_agg(a::text, ',' ORDER BY a) FROM t"),
      "1,2",
    );
    const before = await ok("GET", `${branches()}/before`);
    assert.equal(before.timeline_id, made.timeline_id);
    await ok("POST", `${branches()}/before/reset`, {});

    await ok("POST", `${branches()}/${made.id}/compute/stop`, { mode: "fast" });
    const renamed = await ok("PATCH", `${branches()}/${made.id}`, { name: "b", protected: true });
    assert.deepEqual([renamed.id, renamed.name, renamed.protected], [made.id, "b", true]);
    assert.equal((await ask("DELETE", `${branches()}/b`)).body.code, "conflict");
    const open = await ok("PATCH", `${branches()}/b`, { protected: false, expires_in: "1h" });
    assert.ok(Date.parse(open.expires_at) > Date.now());
    assert.deepEqual(await ok("DELETE", `${branches()}/b`), { deleted: ["b"] });
    assert.equal((await ask("GET", `${branches()}/${made.id}`)).status, 404);
  });

  test("serve clients that come while their Postgres is stopped or restored", async () => {
    await ok("POST", branches(), { name: "busy" });
    const answers: ReturnType<typeof serve.tryPsql>[] = [];
    for (let i = 0; i < 4; i++) {
      answers.push(serve.tryPsql(serve.conninfo("busy"), "SELECT 1"));
      await ok("POST", `${branches()}/busy/compute/stop`, {});
      answers.push(serve.tryPsql(serve.conninfo("busy"), "SELECT 1"));
    }
    // A session that has begun may be ended; nobody is refused.
    for (const { stdout, stderr } of await Promise.all(answers)) {
      if (stdout.trim() !== "1") assert.match(stderr, /terminating connection|server closed/);
    }
    assert.equal(await serve.psql(serve.conninfo("busy"), "SELECT 1"), "1");
    await ok("DELETE", `${branches()}/busy`);
  });

  test("are restored and renamed although somebody has looked at their past", async () => {
    const { compute } = await ok("POST", branches(), { name: "seen" });
    const label = compute.endpoint_id as string;
    const look = async () => {
      const lsn = await serve.psql(serve.conninfo(label), "SELECT pg_current_wal_insert_lsn()");
      await serve.psql(serve.conninfo(label), "CREATE TABLE IF NOT EXISTS after AS SELECT 1 AS a");
      const past = serve.conninfo(label, `options=neon_lsn:${lsn}`);
      assert.equal(await serve.psql(past, "SELECT to_regclass('after') IS NULL"), "t");
    };
    await look();
    await ok("POST", `${branches()}/seen/restore`, { source: "main" });
    await look();
    await ok("POST", `${branches()}/seen/compute/stop`, {});
    await ok("PATCH", `${branches()}/seen`, { name: "seen-before" });
    await ok("DELETE", `${branches()}/seen-before`);
  });

  test("begin in time at the moment of their parent, whether it goes on or not", async () => {
    const sql = (text: string) => serve.psql(serve.conninfo("main"), text);
    await sql("CREATE TABLE IF NOT EXISTS times AS SELECT 1 AS a");
    const clock = async () => (await sql("SELECT pg_sleep(0.01); SELECT clock_timestamp()")).trim();
    const past = await clock();
    await sql("INSERT INTO times VALUES (2)");
    const later = await clock();
    const ofEnd = await ok("POST", branches(), { name: "of-end" });
    await sql("INSERT INTO times VALUES (3)");
    const ofPast = await ok("POST", branches(), {
      name: "of-past",
      start: `main@${new Date(past).toISOString()}`,
    });
    const { items } = await ok("GET", `/v1/tenants/${tenant}/history?limit=1000`);
    const begins = (id: string) => Date.parse(items.find((item: { id: string }) => item.id === id).begins_at);
    assert.equal(begins(ofEnd.id), Date.parse(ofEnd.created_at));
    assert.ok(begins(ofPast.id) <= Date.parse(past));
    assert.ok(begins(ofEnd.id) >= Date.parse(later));
    const main = items.find(({ name }: { name: string }) => name === "main");
    assert.equal(main.begins_at, null);
    assert.ok(Date.parse(main.last_commit_at) > Date.parse(past));
    // Nothing of it was removed, so its first moment is that of its first commit.
    assert.ok(Date.parse(main.kept_from) < Date.parse(past));
    const own = await ok("GET", `${branches()}/main/history`);
    assert.equal(own.items.at(-1).kept_from, main.kept_from);
    await ok("DELETE", `${branches()}/of-end`);
    await ok("DELETE", `${branches()}/of-past`);
  });

  test("come in pages", async () => {
    for (const name of ["p1", "p2", "p3"]) await ok("POST", branches(), { name });
    const names: string[] = [];
    for (let cursor: string | null = ""; cursor !== null;) {
      const page: Record<string, any> = await ok("GET", `${branches()}?limit=2&cursor=${cursor}`);
      assert.ok(page.items.length <= 2);
      names.push(...page.items.map(({ name }: { name: string }) => name));
      cursor = page.next;
    }
    const all = await ok("GET", branches());
    assert.deepEqual(names, all.items.map(({ name }: { name: string }) => name));
    assert.ok(["main", "p1", "p2", "p3"].every((name) => names.includes(name)));
  });
});

describe("a request", () => {
  test("with the same key is done once", async () => {
    const headers = { "idempotency-key": "the-same" };
    const first = await ask("POST", branches(), { name: "once" }, { headers });
    const second = await ask("POST", branches(), { name: "once" }, { headers });
    assert.equal(first.status, 201);
    assert.deepEqual([second.status, second.body], [first.status, first.body]);
    assert.equal(second.headers.get("idempotent-replayed"), "true");
    assert.equal((await ask("POST", branches(), { name: "twice" }, { headers })).status, 422);
  });

  test("can be waited for elsewhere, and is remembered", async () => {
    const answer = await ask("POST", branches(), { name: "later" }, { headers: { prefer: "respond-async" } });
    assert.equal(answer.status, 202);
    const place = answer.headers.get("location")!;
    await until("it is done", async () => (await ok("GET", place)).status === "finished");
    const { items } = await ok("GET", `/v1/tenants/${tenant}/operations?limit=1`);
    assert.equal(items[0].id, answer.body.operation_id);
  });

  test("that makes no sense is refused", async () => {
    const cases: [string, string, unknown, number][] = [
      ["GET", "/nothing", undefined, 404],
      ["GET", "/v1/nothing", undefined, 404],
      ["PUT", "/v1/tenants", undefined, 405],
      ["GET", "/v1/tenants/..%2f..%2fetc", undefined, 400],
      ["GET", "/v1/tenants/%zz", undefined, 400],
      ["GET", `${branches()}?limit=0`, undefined, 400],
      ["GET", `${branches()}?limit=2000`, undefined, 400],
      ["GET", `${branches()}?other=1`, undefined, 400],
      ["POST", branches(), "{", 400],
      ["POST", branches(), "[]", 400],
      ["POST", branches(), { name: "x", other: 1 }, 400],
      ["POST", branches(), '{"name":"x","__proto__":{"a":1}}', 201],
      ["POST", branches(), { name: "x y" }, 400],
      ["POST", branches(), { name: "../x" }, 400],
      ["POST", branches(), { name: "y", start: "main expires=1s" }, 400],
      ["POST", branches(), { name: "y", start: "main@0/FFFFFFF" }, 400],
      ["POST", branches(), { name: "y", start: "nowhere" }, 404],
      ["POST", branches(), { name: "z".repeat(2 << 20) }, 413],
      ["PATCH", `/v1/tenants/${tenant}`, { allowed_ips: ["everywhere"] }, 400],
    ];
    for (const [method, path, body, status] of cases) {
      const answer = await ask(method, path, body);
      assert.equal(answer.status, status, `${method} ${path}: ${JSON.stringify(answer.body)}`);
      if (status < 300) continue;
      assert.deepEqual(Object.keys(answer.body), ["code", "message", "request_id", "hint"]);
      assert.equal(answer.body.request_id, answer.headers.get("x-request-id"));
    }
    const form = await ask("POST", branches(), "name=x", { headers: { "content-type": "text/plain" } });
    assert.equal(form.status, 415);
  });

  test("that never ends is ended", async () => {
    const heard = await new Promise<string>((resolve, reject) => {
      const socket = connect(serve.httpPort, "127.0.0.1", () => {
        socket.write(`GET /v1/status HTTP/1.1\r\nHost: x\r\nX: ${"y".repeat(100_000)}\r\n\r\n`);
      });
      let text = "";
      socket.on("data", (chunk) => text += chunk.toString());
      socket.on("close", () => resolve(text));
      socket.on("error", (error) => text === "" ? reject(error) : resolve(text));
    });
    assert.match(heard, /^HTTP\/1\.1 4(00|31) /);
  });
});

const INVALID: ReadonlySet<string> = new Set(["expired", "revoked", "none", "not a token"]);

describe("tokens", () => {
  test("let each request in by those that it is for, and by no other", async () => {
    const { auth } = env.paths;
    const own = generateTenantId();
    const sign = async (grant: Grant, lifetimeMs?: number) =>
      (await signToken(auth, "a test", grant, lifetimeMs)).text;
    const { text: revoked, claims } = await createToken(auth, "a test", { scope: "admin" }, undefined);
    await revokeToken(auth, claims.jti);
    const other = generateTenantId();
    const tokens: Record<string, string | null> = {
      admin: await sign({ scope: "admin" }),
      tenant: await sign({ scope: "tenant", tenant: own }),
      read: await sign({ scope: "read", tenant: own }),
      "tenant of another": await sign({ scope: "tenant", tenant: other }),
      "read of another": await sign({ scope: "read", tenant: other }),
      "read of one timeline": await sign({ scope: "read", tenant: own, timeline: generateTimelineId() }),
      safekeeper: await sign({ scope: "safekeeper" }),
      pageserver: await sign({ scope: "pageserver" }),
      expired: await sign({ scope: "admin" }, -3_600_000),
      revoked,
      none: null,
      "not a token": "postgres",
    };
    const letIn = async (what: string, method: string, url: string, body: unknown): Promise<string[]> => {
      const found: string[] = [];
      for (const [name, token] of Object.entries(tokens)) {
        const { status, body: said } = await ask(method, url, body, { token });
        assert.notEqual(status, 500, `${what} as ${name}: ${JSON.stringify(said)}`);
        // Nobody is told whether a tenant exists that is not his.
        if (status !== 401 && status !== 403) found.push(name);
      }
      return found;
    };
    const fill = (path: string): string =>
      path.replace("{tenant}", own).replace("{branch}", "main").replace(/\{\w+\}/, "no-such-thing");
    const everybody = Object.keys(tokens).filter((name) => !INVALID.has(name));
    for (const [key, { method, path, access }] of Object.entries(API) as [keyof typeof API, Route][]) {
      const { by, body, query = "" } = API_ROWS[key];
      assert.deepEqual(
        await letIn(key, method, `/v1${fill(path)}${query}`, body),
        access === null ? everybody : [...by] satisfies Token[],
        key,
      );
    }
    for (const [key, { method, path, access }] of Object.entries(NEON) as [string, Route][]) {
      const by = access === null ? everybody : BY[access as keyof typeof BY];
      const body = method === "POST" || method === "PATCH" ? {} : undefined;
      assert.deepEqual(await letIn(key, method, `/api/v2${fill(path)}`, body), by, key);
    }
  });

  test("are made and revoked, and changes are in the audit log", async () => {
    const made = await ok("POST", "/v1/tokens", { name: "ci", scope: "tenant", tenant_id: tenant });
    assert.equal((await ask("GET", branches(), undefined, { token: made.token })).status, 200);
    assert.equal((await ask("POST", branches(), { name: "by-ci" }, { token: made.token })).status, 201);
    assert.equal((await ask("DELETE", `/v1/tokens/${made.id}`)).status, 204);
    assert.equal((await ask("GET", branches(), undefined, { token: made.token })).status, 401);
    const audit = readFileSync(env.paths.serveAuditLog, "utf8").trim().split("\n").map((line) =>
      JSON.parse(line)
    );
    const entry = audit.find(({ args }) => args.name === "by-ci");
    assert.deepEqual([entry.token, entry.for, entry.command, entry.outcome], [
      made.id,
      "ci",
      "branch_create",
      "done",
    ]);
    assert.ok(audit.some(({ outcome, command }) => outcome === "refused" && command === "tenant_delete"));
    assert.ok(!JSON.stringify(audit).includes(made.token));
  });
});

describe("an address list", () => {
  test("keeps clients out of Postgres", async () => {
    await ok("PATCH", `/v1/tenants/${tenant}`, { allowed_ips: ["192.0.2.0/24"] });
    const { stderr } = await serve.tryPsql(serve.conninfo("main"), "SELECT 1");
    assert.match(stderr, /address 127\.0\.0\.1 is not among those/);
    await ok("PATCH", `/v1/tenants/${tenant}`, { allowed_ips: ["127.0.0.0/8"] });
    assert.equal(await serve.psql(serve.conninfo("main"), "SELECT 1"), "1");
    await ok("PATCH", `/v1/tenants/${tenant}`, { allowed_ips: [] });
  });
});

const hasClients = existsSync(join(CLIENTS, "node_modules", "@neondatabase"));

/** Runs the driver's script. @returns what it has printed, by name */
async function driver(...more: readonly string[]): Promise<Record<string, any>> {
  const url = `postgresql://zenith_owner:${serve.passwordOf("zenith_owner")}@main.db.localhost/postgres`;
  const child = spawn("node", [join(CLIENTS, "driver.mjs"), String(serve.httpPort), url, ...more], {
    env: { ...process.env, NODE_EXTRA_CA_CERTS: serve.ca },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const { code, stdout, stderr } = await childOutput(child);
  assert.equal(code, 0, `${stderr}${serve.log()}`);
  return Object.fromEntries(stdout.trim().split("\n").map((line) => JSON.parse(line)));
}

describe("the serverless driver", { skip: !hasClients && '"npm run clients" fetches it' }, () => {
  test("queries by template, in transactions and by a pool, and gets errors as Postgres says them", async () => {
    const got = await driver();
    assert.deepEqual(got.template, [{ n: 2, a: [1, 2], j: { b: [1] }, z: null }]);
    assert.deepEqual(got.full, { rows: [[1, "y"]], command: "SELECT", rowCount: 1, names: ["x", "y"] });
    assert.deepEqual(got.types, [{ b: true, f: 1.5, n: "12345678901234567890", t: ["a", "b c"], z: null }]);
    assert.deepEqual(got.transaction, [[{ level: "repeatable read", ro: "on" }], [{ x: null }]]);
    assert.equal(got.duplicate.name, "NeonDbError");
    assert.equal(got.duplicate.code, "23505");
    assert.deepEqual(got["rolled back"], [{ n: 0 }]);
    assert.equal(got.syntax.code, "42601");
    assert.equal(got.password.code, "28P01");
    assert.deepEqual(got.pool, [1, 2, 3, 4]);
    assert.equal(got.session, 5000);
    assert.equal(got.large, 1_000_000);
    assert.match(got["pool password"].message, /password authentication failed/);
  });
});

describe("all addresses", () => {
  test("are served with TLS alone, to clients of every kind", async () => {
    await serve.stop();
    serve.host = "0.0.0.0";
    await serve.run();
    const { stderr, code } = await tryCurl("http");
    assert.notEqual(code, 0, stderr);
    const { stdout } = await tryCurl("https");
    assert.equal(JSON.parse(stdout).computes_awake, 0);
    assert.equal(await serve.psql(serve.conninfo("main"), "SELECT 1"), "1");
    if (hasClients) assert.equal((await driver("tls")).session, 5000);
    const own = Object.values(networkInterfaces()).flat().find((found) =>
      found?.family === "IPv4" && !found.internal
    );
    if (own === undefined) return;
    const plain =
      `host=${own.address} port=${serve.postgresPort} user=zenith_owner dbname=postgres sslmode=disable`;
    assert.match((await serve.tryPsql(plain, "SELECT 1")).stderr, /from other machines have to be encrypted/);
  });

  test("serve the command line of another machine", async () => {
    const token = join(env.dir, "remote_token");
    writeFileSync(token, `${env.token}\n`);
    const there = [
      "--remote",
      `https://localhost:${serve.httpPort}`,
      "--token",
      `@${token}`,
      "--ca",
      serve.ca,
    ];
    const nowhere = { ZENITH_REPO_DIR: join(env.dir, "nowhere") };
    const tried = (...args: string[]) => runZenith([...args, ...there], nowhere);
    const remote = async (...args: string[]) => {
      const { code, stdout, stderr } = await tried(...args);
      assert.equal(code, 0, `${args.join(" ")}: ${stderr}`);
      return stdout;
    };
    assert.match(await remote("branches", "create", "--name", "far", "--start"), /branch far created at 0\//);
    assert.match(await remote("branch", "list"), /^far +main@\S+ .* awake /m);
    assert.equal(await remote("sql", "far", "-c", "CREATE TABLE f AS SELECT 1 a, 'x,y' b"), "SELECT 1\n");
    assert.equal(await remote("sql", "far", "--csv", "-c", "SELECT * FROM f"), 'a,b\n1,"x,y"\n');
    const missing = await tried("sql", "far", "-c", "SELECT * FROM g");
    assert.deepEqual([missing.code, missing.stderr], [1, 'ERROR: relation "g" does not exist\n']);
    assert.match(
      await remote("uri", "far", "--db", "shop"),
      /^postgresql:\/\/zenith_owner:.*\/shop\?sslmode=require/,
    );
    assert.match(await remote("branch", "reset", "far", "--keep-as", "far-old"), /far is as its parent is/);
    assert.equal((await tried("sql", "far", "-c", "SELECT * FROM f")).code, 1);
    assert.match(await remote("branch", "restore", "far", "far-old", "--discard"), /is as far-old was/);
    assert.equal(await remote("sql", "far", "--csv", "-c", "SELECT a FROM f"), "a\n1\n");
    assert.match(await remote("operation", "list"), /branch_restore +far +finished/);
    assert.match(await remote("pg", "stop", "far"), /is asleep/);
    await remote("branch", "rename", "far", "farther");
    const deleted = await remote("branch", "delete", "far-old", "--cascade");
    assert.match(deleted, /branch far-old deleted/);
    assert.match(await remote("status"), /page server runs on/);
    assert.equal((await tried("branch", "get", "nowhere")).code, 4);
    const local = await tried("pg", "config", "main");
    assert.match(local.stderr, /"zenith pg config" can't be used with --remote/);
    const option = await tried("branch", "create", "x", "--psql");
    assert.match(option.stderr, /--psql can't be used with --remote/);
    const stranger = await runZenith(["branch", ...there.slice(0, 2)], nowhere);
    assert.equal(stranger.code, 3);
    assert.match(stranger.stderr, /--ca names its authority's certificate/);
    const plain = await runZenith(["branch", "--remote", "http://db.example.org"], nowhere);
    assert.match(plain.stderr, /everybody on the way could read the token/);
  });

  test("have nothing weak for sslscan", SCAN, async () => {
    await assertStrongTls({ host: "localhost", port: serve.postgresPort }, "--starttls-psql");
    await assertStrongTls({ host: "localhost", port: serve.httpPort });
  });

  function tryCurl(scheme: string) {
    return childOutput(spawn("node", [
      "-e",
      `fetch("${scheme}://localhost:${serve.httpPort}/v1/status", { headers: { authorization: "Bearer ${env.token}" } })
        .then((response) => response.text()).then(console.log)`,
    ], { env: { ...process.env, NODE_EXTRA_CA_CERTS: serve.ca }, stdio: ["ignore", "pipe", "pipe"] }));
  }
});

describe("/metrics", () => {
  test("is for the operator, and counts", async () => {
    const get = (token?: string) =>
      childOutput(spawn("node", [
        "-e",
        `fetch("https://localhost:${serve.httpPort}/metrics", { headers: ${
          JSON.stringify(token === undefined ? {} : { authorization: `Bearer ${token}` })
        } }).then((response) => response.text()).then(console.log)`,
      ], { env: { ...process.env, NODE_EXTRA_CA_CERTS: serve.ca }, stdio: ["ignore", "pipe", "pipe"] }));
    const { stdout } = await get(env.token);
    assert.match(stdout, /^zenith_up\{role="pageserver",id=""\} 1$/m);
    assert.match(stdout, /^zenith_compute_wakes_total [1-9]/m);
    assert.match(stdout, /^zenith_pageserver_tenants 1$/m);
    for (const line of stdout.trim().split("\n")) {
      assert.match(
        line,
        /^(# (HELP|TYPE) [a-z_]+ \S.*|[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? -?[0-9.e+-]+)$/,
      );
    }
    assert.match((await get()).stdout, /"code":"unauthorized"/);
  });
});
