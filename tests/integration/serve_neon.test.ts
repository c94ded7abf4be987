/** Neon's own clients against `zenith serve`: both generations of neonctl, and the API client of npm. */
// deno-lint-ignore-file no-explicit-any -- What an API answers is checked by looking at it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { signToken } from "../../src/auth/sign.ts";
import { generateTenantId } from "../../src/common/id.ts";
import { type ChildOutput, childOutput } from "../harness/child_output.ts";
import { clientProgram } from "../harness/postgres_major.ts";
import { DOMAIN, Serve } from "../harness/serve.ts";
import { until, ZenithEnv } from "../harness/zenith_env.ts";

const CLIENTS = join(import.meta.dirname, "..", "clients");
const skip = !existsSync(join(CLIENTS, "node_modules", "neonctl")) && '"npm run clients" fetches them';

let env: ZenithEnv;
let serve: Serve;

before(async () => {
  if (skip !== false) return;
  env = await ZenithEnv.create({ safekeepers: 1, start: false });
  serve = await Serve.start(env, "--suspend-after", "2s");
});
after(async () => {
  await serve?.[Symbol.asyncDispose]();
  await env?.[Symbol.asyncDispose]();
});

/** Runs a command of the CLI. @param version the package's directory */
async function tryNeon(version: string, args: readonly string[], key = env.token): Promise<ChildOutput> {
  const dir = join(CLIENTS, "node_modules", version);
  const { bin } = JSON.parse(readFileSync(join(dir, "package.json"), "utf8"));
  return await childOutput(
    spawn(
      "node",
      [join(dir, bin.neonctl), "--no-analytics", "--config-dir", env.dir, "-o", "json", ...args],
      {
        cwd: env.dir,
        env: {
          ...process.env,
          HOME: env.dir,
          NEON_API_HOST: `http://127.0.0.1:${serve.httpPort}/api/v2`,
          NEON_API_KEY: key,
        },
        stdio: ["ignore", "pipe", "pipe"],
      },
    ),
  );
}

async function neon(version: string, ...args: readonly string[]): Promise<any> {
  const { code, stdout, stderr } = await tryNeon(version, args);
  if (code !== 0) throw new Error(`${version} ${args.join(" ")}: ${stderr}${stdout}\n${serve.log()}`);
  try {
    return JSON.parse(stdout);
  } catch {
    return stdout.trim();
  }
}

/** The connection string of the CLI for libpq: no name server knows the test's hosts. */
function reachable(uri: string): string {
  return `${uri}&hostaddr=127.0.0.1&sslrootcert=${encodeURIComponent(serve.ca)}`;
}

describe("neonctl 5", { skip }, () => {
  const version = "neonctl";

  test("creates, branches, connects, restores and deletes", async () => {
    const n = (...args: string[]) => neon(version, ...args);
    assert.equal((await n("me")).login, "the command line");
    const made = await n("projects", "create", "--name", "shop");
    const project = ["--project-id", made.project.id];
    assert.equal((await n("projects", "get", made.project.id)).name, "shop");
    assert.ok(
      (await n("projects", "list")).projects.some(({ id }: { id: string }) => id === made.project.id),
    );

    // psql by the connection string of the CLI, at the branch's own name.
    const main = reachable(await n("connection-string", "main", ...project));
    await serve.psql(main, "CREATE TABLE t AS SELECT 1 AS a");
    const moment = await serve.psql(
      main,
      "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')",
    );
    await serve.psql(main, "SELECT pg_sleep(0.01); INSERT INTO t VALUES (2)");
    const past = reachable(await n("connection-string", `main@${moment}`, ...project));
    assert.equal(await serve.psql(past, "SELECT string_agg(a::text, ',') FROM t"), "1");

    const dev = await n("branches", "create", "--name", "dev", "--parent", moment, ...project);
    assert.match(dev.branch.id, /^br-/);
    const devUri = reachable(await n("connection-string", "dev", ...project));
    assert.equal(await serve.psql(devUri, "SELECT string_agg(a::text, ',') FROM t"), "1");
    await until("it sleeps", () => !serve.isAwake("dev", made.project.id));

    await n("branches", "rename", "dev", "dev2", ...project);
    await n("branches", "restore", "dev2", "main", ...project);
    assert.equal(await serve.psql(devUri, "SELECT string_agg(a::text, ',' ORDER BY a) FROM t"), "1,2");
    await n("branches", "reset", "dev2", "--parent", ...project);
    await n("branches", "restore", "dev2", `^self@${moment}`, "--preserve-under-name", "kept", ...project);
    assert.equal(await serve.psql(devUri, "SELECT string_agg(a::text, ',') FROM t"), "1");

    await n("projects", "delete", made.project.id);
    assert.equal((await tryNeon(version, ["projects", "get", made.project.id])).code, 1);
  });

  test("manages computes, roles, databases and addresses", async () => {
    const n = (...args: string[]) => neon(version, ...args);
    const project = ["--project-id", env.defaultTenant];
    const main = reachable(await n("connection-string", "main", ...project));
    await n("branches", "create", "--name", "dev2", ...project);
    await n("branches", "create", "--name", "bare", "--no-compute", ...project);
    await n("branches", "add-compute", "bare", "--type", "read_write", ...project);
    await n("branches", "set-expiration", "bare", "--expires-at", "2030-01-01T00:00:00Z", ...project);
    assert.ok((await n("branches", "get", "bare", ...project)).expires_at);
    await n("branches", "set-default", "bare", ...project);
    await n("branches", "set-default", "main", ...project);
    const names = (await n("branches", "list", ...project)).map(({ name }: { name: string }) => name);
    assert.deepEqual(names.sort(), ["bare", "dev2", "main"]);

    const at = ["--branch", "dev2", ...project];
    await n("roles", "create", "--name", "alice", ...at);
    await n("databases", "create", "--name", "shop", "--owner-name", "alice", ...at);
    const alice = await n(
      "connection-string",
      "dev2",
      "--role-name",
      "alice",
      "--database-name",
      "shop",
      ...project,
    );
    assert.equal(
      await serve.psql(reachable(alice), "SELECT current_user", new URL(alice).password),
      "alice",
    );
    assert.equal((await n("databases", "list", ...at)).length, 2);
    await n("databases", "delete", "shop", ...at);
    await n("roles", "delete", "alice", ...at);
    assert.deepEqual((await n("roles", "list", ...at)).map(({ name }: { name: string }) => name), [
      "zenith_owner",
    ]);

    await n("ip-allow", "add", "192.0.2.1", ...project);
    assert.match((await serve.tryPsql(main, "SELECT 1")).stderr, /not among those/);
    await n("ip-allow", "reset", ...project);
    assert.ok((await n("operations", "list", ...project)).length > 5);
    await n("branches", "delete", "dev2", ...project);
    await n("projects", "update", env.defaultTenant, "--name", "old shop");
  });

  test("sees what its key is for, and no more", async () => {
    const tenant = generateTenantId();
    const { text } = await signToken(env.paths.auth, "a test", { scope: "tenant", tenant });
    const own = env.defaultTenant;
    const other = await tryNeon(version, ["branches", "list", "--project-id", own], text);
    assert.match(other.stderr, new RegExp(`is for tenant ${tenant}, not ${own}`));
    assert.match(
      (await tryNeon(version, ["projects", "create", "--name", "x"], text)).stderr,
      /is not for project_create/,
    );
    assert.notEqual((await tryNeon(version, ["me"], "nobody")).code, 0);
  });
});

describe("neonctl 2, which the actions pin", { skip }, () => {
  test("makes a branch, resets it to its parent, connects and deletes it", async () => {
    const n = (...args: string[]) => neon("neonctl-2", ...args);
    const project = ["--project-id", env.defaultTenant];
    const made = await n("branches", "create", "--name", "pr-2", ...project);
    const extended = await n("cs", "pr-2", "--extended", ...project);
    assert.equal(extended.password, serve.passwordOf("zenith_owner"));
    assert.equal(await serve.psql(reachable(extended.connection_string), "SELECT 1"), "1");
    const reset = await n("branches", "reset", "pr-2", "--parent", ...project);
    assert.equal(reset.id, made.branch.id);
    assert.ok((await n("branches", "list", ...project)).some(({ id }: { id: string }) => id === reset.id));
    await n("branches", "delete", "pr-2", ...project);
  });
});

describe("the schema of a branch", { skip }, () => {
  test("is what pg_dump prints, and the CLI compares two", async () => {
    assert.ok(existsSync(clientProgram("pg_dump")));
    const project = ["--project-id", env.defaultTenant];
    await neon("neonctl", "branches", "create", "--name", "more", ...project);
    const uri = reachable(await neon("neonctl", "connection-string", "more", ...project));
    await serve.psql(uri, "CREATE TABLE added (a int)");
    const { code, stdout, stderr } = await tryNeon("neonctl-2", [
      "branches",
      "schema-diff",
      "main",
      "more",
      "--database",
      "postgres",
      ...project,
    ]);
    assert.equal(code, 0, `${stderr}\n${serve.log()}`);
    assert.match(stdout, /\+CREATE TABLE public\.added/);
  });
});

describe("@neondatabase/api-client", { skip }, () => {
  test("makes the requests of the branch actions", async () => {
    const { createApiClient } = await import(
      join(CLIENTS, "node_modules/@neondatabase/api-client/dist/index.js")
    );
    const client = createApiClient({
      apiKey: env.token,
      baseURL: `http://127.0.0.1:${serve.httpPort}/api/v2`,
    });
    const project = env.defaultTenant;
    const made = await client.createProjectBranch(project, {
      branch: { name: "pr-1" },
      endpoints: [{ type: "read_write" }],
      annotation_value: {},
    });
    const { id } = made.data.branch;
    const found = await client.listProjectBranches({ projectId: project, search: "pr-1", limit: 10000 });
    assert.deepEqual(found.data.branches.map((branch: { id: string }) => branch.id), [id]);
    const { data: { endpoints } } = await client.listProjectBranchEndpoints(project, id);
    assert.ok(endpoints[0].host.includes(DOMAIN));
    assert.equal(
      (await client.getProjectBranchDatabase(project, id, "postgres")).data.database.name,
      "postgres",
    );
    assert.equal(
      (await client.getProjectBranchRole(project, id, "zenith_owner")).data.role.name,
      "zenith_owner",
    );
    const { data: { password } } = await client.getProjectBranchRolePassword(project, id, "zenith_owner");
    assert.equal(password, serve.passwordOf("zenith_owner"));
    const { data: { uri } } = await client.getConnectionUri({
      projectId: project,
      branch_id: id,
      database_name: "postgres",
      role_name: "zenith_owner",
    });
    assert.equal(await serve.psql(reachable(uri), "SELECT 1"), "1");
    await client.deleteProjectBranch({ projectId: project, branchId: id });
    const left = await client.listProjectBranches({ projectId: project, search: "pr-1", limit: 10000 });
    assert.deepEqual(left.data.branches, []);
  });
});
