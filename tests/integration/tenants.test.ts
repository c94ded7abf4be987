import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;

before(async () => {
  env = await ZenithEnv.create();
});
after(() => env[Symbol.asyncDispose]());

describe("tenants", () => {
  test("two tenants have branches of the same name with data of their own", async () => {
    const tenants = [env.defaultTenant, await env.createTenant()];
    await Promise.all(tenants.map(async (tenant, i) => {
      const pg = await env.startCompute("main", tenant);
      await using session = await pg.connect();
      await session.query("CREATE TABLE t (key int PRIMARY KEY, value text)");
      await session.query("INSERT INTO t SELECT n, $1 FROM generate_series(1, 100 * ($2::int + 1)) n", [
        tenant,
        i,
      ]);
      await env.branch("experiment", "main", tenant);
      assert.equal(await session.value("SHOW zenith.zenith_tenant"), tenant);
    }));
    for (const [i, tenant] of tenants.entries()) {
      await using pg = await env.startCompute("experiment", tenant);
      const rows = await pg.query("SELECT value, count(*) AS n FROM t GROUP BY value");
      assert.deepEqual(rows, [{ value: tenant, n: String(100 * (i + 1)) }]);
    }
  });

  test("tenant list and branch list say the same in the CLI and over the wire", async () => {
    const tenant = await env.createTenant();
    await env.branch("b1", "main", tenant);
    await env.branch("b2", "b1", tenant);
    await using wire = await env.pageserver.connect();

    const tenants = await wire.json("tenant_list") as string[];
    assert.deepEqual((await env.zenith("tenant", "list")).trim().split("\n").sort(), [...tenants].sort());
    assert.ok(tenants.includes(tenant));
    assert.ok(tenants.includes(env.defaultTenant));

    const branches = await wire.json(`branch_list ${tenant}`) as Record<string, string>[];
    assert.deepEqual(branches.map((branch) => branch["name"]).sort(), ["b1", "b2", "main"]);
    const [b1] = branches.filter((branch) => branch["name"] === "b1");
    const [main] = branches.filter((branch) => branch["name"] === "main");
    assert.equal(b1!["ancestor_id"], main!["timeline_id"]);
    assert.equal(main!["ancestor_id"], null);

    const tree = await env.zenith("branch", "--tenantid", tenant);
    assert.equal(tree, `main\n┗━ @${b1!["ancestor_lsn"]}: b1\n   ┗━ @${b1!["ancestor_lsn"]}: b2\n`);
  });

  test("a tenant that is created twice is refused, and the first one is unharmed", async () => {
    const tenant = await env.createTenant();
    const again = await env.tryZenith("tenant", "create", tenant);
    assert.equal(again.code, 5);
    assert.match(again.stderr, new RegExp(`^zenith: repo for ${tenant} already exists`));
    assert.equal(await env.zenith("branch", "--tenantid", tenant), "main\n");
  });

  test("a tenant that does not exist is named in the error", async () => {
    const unknown = "0123456789abcdef0123456789abcdef";
    const result = await env.tryZenith("branch", "--tenantid", unknown);
    assert.equal(result.code, 4);
    assert.match(result.stderr, new RegExp(unknown));
  });

  test("ids of digits only stay what they are", async () => {
    const tenant = "12345678901234567890123456789012";
    await env.zenith("tenant", "create", tenant);
    assert.match(await env.zenith("tenant", "list"), new RegExp(`^${tenant}$`, "m"));
    assert.equal(await env.zenith("branch", "--tenantid", tenant), "main\n");
  });
});
