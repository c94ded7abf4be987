/** What a tenant may take: whoever exceeds it is told what, how much and what to do; others notice nothing. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { parseBranchName, type TenantId } from "../../src/common/id.ts";
import { PgClient } from "../../src/pgwire/client.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

describe("a tenant with limits", () => {
  let env: ZenithEnv;
  let tenant: TenantId;
  let other: TenantId;
  let main: Compute;
  let token: string;

  before(async () => {
    env = await ZenithEnv.create({ safekeepers: 1, start: false });
    const { limits } = env.paths.pageserver;
    mkdirSync(limits.dir);
    writeFileSync(limits.defaults, "branches = 4\n");
    await env.zenith("start");
    tenant = env.defaultTenant;
    other = await env.createTenant();
    main = await env.startCompute("main");
    token = (await env.zenith("token", "create", "a test", "--scope", "tenant")).trim();
  });
  after(() => env[Symbol.asyncDispose]());

  const limit = (...changes: string[]) => env.zenith("tenant", "limits", tenant, ...changes);
  const refused = async (...command: string[]) => (await env.tryZenith(...command)).stderr;
  const branchOf = (owner: TenantId, name: string) => ["branch", name, "main", "--tenantid", owner];

  test("is told how many branches it may have, by configuration and by its own limit", async () => {
    for (const name of ["b1", "b2", "b3"]) await env.zenith(...branchOf(other, name));
    const message = new RegExp(
      `tenant ${other} may have no more branches: it has 4, its limit is 4[^]*zenith tenant limits ${other} --branches <n>`,
    );
    assert.match(await refused(...branchOf(other, "b4")), message);
    await env.zenith("tenant", "limits", other, "--branches", "none");
    await env.zenith(...branchOf(other, "b4"));
    await limit("--branches", "2");
    await env.zenith(...branchOf(tenant, "dev"));
    assert.match(await refused(...branchOf(tenant, "more")), /no more branches: it has 2, its limit is 2/);
    await env.zenith("restart");
    assert.match(await refused(...branchOf(tenant, "more")), /no more branches: it has 2, its limit is 2/);
    assert.match(await env.zenith("tenant", "limits", other), /^page server +branches +5 +none$/m);
  });

  test("runs as many Postgres as it may, and another tenant runs its own", async () => {
    const counted = async () => /^page server +running computes +1 /m.test(await limit());
    await until("the page server knows of main's Postgres again", counted);
    await limit("--computes", "1");
    await env.zenith("pg", "create", "dev");
    assert.match(
      await refused("pg", "start", "dev"),
      new RegExp(`tenant ${tenant} may have no more running computes: it has 1, its limit is 1`),
    );
    await main.restart();
    await (await env.startCompute("main", other)).query("CREATE TABLE t (n int)");
    await limit("--computes", "default");
  });

  test("has as many connections and requests as it may, at the page server and at safekeepers", async () => {
    const used = Number(/^page server +connections +(\d+) /m.exec(await limit())![1]);
    assert.ok(used > 0, "the compute has some");
    await limit("--connections", String(used + 1));
    const connect = (address: { host: string; port: number }, password: string) =>
      PgClient.connect({ host: address.host, port: address.port, user: "x", password });
    for (const { address } of [env.pageserver, env.safekeepers[0]!]) {
      const taken: PgClient[] = [];
      await assert.rejects(
        async () => {
          for (let i = 0; i <= used + 1; i++) taken.push(await connect(address, token));
        },
        (error: { sqlstate?: string; message: string; hint?: string }) =>
          error.sqlstate === "53300" && error.message.endsWith(`, its limit is ${used + 1}`) &&
          /--connections <n>/.test(error.hint ?? ""),
      );
      assert.ok(taken.length > 0);
      (await connect(address, env.token)).destroy();
      for (const client of taken) client.destroy();
    }
    await limit("--connections", "none", "--requests", "0");
    await using client = await connect(env.pageserver.address, token);
    await assert.rejects(client.query(`branch_list ${tenant}`), {
      sqlstate: "53400",
      message: /no more requests in flight: it has 0, its limit is 0/,
    });
    await using theirs = env.pageserver.client();
    assert.equal((await theirs.branch(other, parseBranchName("main"))).name, "main");
    await limit("--requests", "default");
    await client.query(`branch_list ${tenant}`);
  });

  test("whose disk or WAL rate is used up is slowed down, says so in the log, and makes no branches", async () => {
    await limit("--bytes", "1000", "--branches", "none");
    assert.match(
      await refused(...branchOf(tenant, "late")),
      /no more bytes on disk: it has \d{7,}, its limit is 1000/,
    );
    await main.query("CREATE TABLE big AS SELECT repeat('x', 1000) FROM generate_series(1, 300) n");
    const log = () => readFileSync(env.safekeepers[0]!.paths.log, "utf8");
    await until("the safekeeper says so", () => /has used the 1000 bytes on disk that it may/.test(log()));
    const slowed =
      `tenant ${tenant} has used the 1000 bytes on disk that it may: safekeeper 1 takes in its WAL`;
    assert.match(
      (await env.tryZenith("status")).stdout,
      new RegExp(
        `problem: ${slowed} at 65536 bytes/s\n` +
          `hint: "zenith tenant limits ${tenant} --bytes <n>" raises the limit`,
      ),
    );
    await limit("--bytes", "default");
    await env.untilArrived("main");
    await env.zenith(...branchOf(tenant, "late"));
    await limit("--wal-rate", "1000000");
    const { stdout } = await env.tryZenith("tenant", "limits", tenant, "--json");
    assert.deepEqual(
      JSON.parse(stdout).filter(({ name }: { name: string }) => name === "wal_bytes_per_s"),
      ["page server", "safekeeper 1"].map((server) => ({
        server,
        name: "wal_bytes_per_s",
        used: null,
        limit: 1_000_000,
      })),
    );
    await main.query("INSERT INTO big SELECT repeat('y', 1000) FROM generate_series(1, 2000)");
    assert.equal(await main.value("SELECT count(*)::int FROM big"), 2300);
  });

  test("leaves none behind when it is deleted", async () => {
    const gone = await env.createTenant();
    await env.zenith("tenant", "limits", gone, "--bytes", "1000000000");
    const files = [env.paths.pageserver, env.safekeepers[0]!.paths].map(({ limits }) => limits.of(gone));
    assert.deepEqual(files.map(existsSync), [true, true]);
    await env.zenith("tenant", "delete", gone, "--yes");
    assert.deepEqual(files.map(existsSync), [false, false]);
  });

  test("can't change them, and is told what is wrong with what the operator types", async () => {
    await using client = await PgClient.connect({ ...env.pageserver.address, user: "x", password: token });
    await assert.rejects(
      client.query(`tenant_set_limits ${tenant} branches=none`),
      /is not for tenant_set_limits/,
    );
    await client.query(`tenant_limits ${tenant}`);
    assert.match(
      await refused("tenant", "limits", tenant, "--bytes", "10GB"),
      /--bytes is "10GB": expected a number/,
    );
  });
});
