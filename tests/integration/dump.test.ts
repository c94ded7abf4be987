import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { clientProgram } from "../harness/postgres_major.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;
let past: string;

before(async () => {
  env = await ZenithEnv.create({ major: 15 });
  main = await env.startCompute("main");
  await main.query("CREATE TABLE t AS SELECT n FROM generate_series(1, 100) n; CREATE TABLE other (n int)");
  past = await main.lsn();
  await main.query("DROP TABLE t; INSERT INTO other VALUES (7)");
});
after(() => env[Symbol.asyncDispose]());

async function names(): Promise<string[]> {
  const branches = JSON.parse(await env.zenith("branch", "list", "--json")) as { branch: string }[];
  return branches.map(({ branch }) => branch);
}

describe("zenith dump", () => {
  test("dumps what runs now, a moment of the past, and a branch that does not run", async () => {
    const now = await env.zenith("dump", "main");
    assert.match(now, /^COPY public\.other .*\n7$/m);
    assert.doesNotMatch(now, /public\.t\b/);
    const file = join(env.paths.root, "t.sql");
    await env.zenith("dump", `main@${past}`, "-t", "t", "-t", "other", "-f", file);
    const then = readFileSync(file, "utf8");
    assert.match(then, /^COPY public\.t .*\n1\n2\n3$/m);
    assert.match(then, /^COPY public\.other .*\n\\\.$/m);
    await env.branch("dev", "main");
    assert.match(await env.zenith("dump", "dev", "--schema-only"), /^CREATE TABLE public\.other/m);
    assert.deepEqual(await names(), ["dev", "main"]);
    await env.zenith("branch", "delete", "dev");
  });

  test("hands on pg_dump's arguments, and its exit code", async () => {
    const file = join(env.paths.root, "custom.dump");
    await env.zenith("dump", `main@${past}`, "-f", file, "--", "-Fc", "--no-owner");
    const list = spawnSync(clientProgram("pg_restore"), ["--list", file], { encoding: "utf8" });
    assert.match(list.stdout, /TABLE DATA public t /);
    const failed = await env.tryZenith("dump", `main@${past}`, "--db", "nowhere");
    assert.equal(failed.code, 1);
    assert.match(failed.stderr, /pg_dump: error: .*database "nowhere" does not exist/);
    assert.equal((await env.tryZenith("dump", "nowhere")).code, 4);
    assert.deepEqual(await names(), ["main"]);
  });

  test("says when there is no pg_dump for the tenant's major", async () => {
    const tenant = await env.createTenant(18);
    const refused = await env.tryZenith("dump", "main", "--tenantid", tenant);
    assert.equal(refused.code, 4);
    assert.match(refused.stderr, /there is no pg_dump for PostgreSQL 18: [^]*postgresql-client-18/);
  });
});
