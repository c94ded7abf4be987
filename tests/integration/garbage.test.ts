import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let pg: Compute;
let timeline: string;
const lsns: string[] = [];

type Row = Record<string, string>;

async function wire(command: string): Promise<Row> {
  await using connection = await env.pageserver.connect();
  const [row] = await connection.query(command) as Row[];
  return row!;
}

async function json(command: string): Promise<Row> {
  const result = (await wire(command))["result"] as unknown;
  return (typeof result === "string" ? JSON.parse(result) : result) as Row;
}

async function gc(horizon = ""): Promise<Row> {
  await env.untilArrived();
  return await wire(`do_gc ${env.defaultTenant} ${timeline} ${horizon}`);
}
const lease = (lsn: string, duration: string) =>
  json(`lease_lsn ${env.defaultTenant} ${timeline} ${lsn} ${duration}`);

async function counters(branch: string): Promise<unknown> {
  await using compute = await env.startCompute(branch);
  return await compute.value("SELECT min(n) || ' ' || max(n) || ' ' || count(*) FROM counters");
}

before(async () => {
  env = await ZenithEnv.create();
  pg = await env.startCompute("main");
  await pg.query("CREATE TABLE counters (id int PRIMARY KEY, n int) WITH (fillfactor = 50)");
  await pg.query("INSERT INTO counters SELECT id, 0 FROM generate_series(1, 500) id");
  const branches = await json(`branch_list ${env.defaultTenant}`) as unknown as Row[];
  timeline = branches[0]["timeline_id"];
  await using session = await pg.connect();
  for (let n = 1; n <= 6; n++) {
    for (let i = 0; i < 10; i++) await session.query(`UPDATE counters SET n = ${n}`);
    await session.query("VACUUM counters");
    lsns.push(await pg.lsn());
    // Every round into a layer of its own.
    await gc(String(2 ** 40));
  }
});
after(() => env[Symbol.asyncDispose]());

describe("garbage collection", () => {
  test("gives nothing up that the tenant's point-in-time recovery interval covers", async () => {
    assert.deepEqual(await json(`tenant_config ${env.defaultTenant}`), {
      gc_horizon_bytes: 64 << 20,
      pitr_interval: "7d",
    });
    const done = await gc("0");
    assert.equal(done["versions_removed"], "0");
    assert.ok(Number(done["layers_needed_by_pitr"]) > 0, JSON.stringify(done));
    await env.branch("early", `main@${lsns[0]}`);
    assert.equal(await counters("early"), "1 1 500");
  });

  test("gives up what no branch, lease or reader needs, and leaves those right", async () => {
    await env.branch("second", `main@${lsns[1]}`);
    const leased = await lease(lsns[3], "1h");
    assert.ok(Date.parse(leased["expires_at"]) > Date.now() + 3_500_000);
    await json(`tenant_config ${env.defaultTenant} pitr_interval=0s gc_horizon_bytes=0`);
    await pg.query("UPDATE counters SET n = 7");
    const done = await gc();
    assert.ok(Number(done["versions_removed"]) > 0, JSON.stringify(done));
    assert.ok(Number(done["bytes_removed"]) > 0, JSON.stringify(done));
    assert.ok(Number(done["layers_needed_by_branches"]) > 0, JSON.stringify(done));
    for (
      const column of ["layers_total", "layers_needed_by_cutoff", "layers_needed_by_leases", "elapsed_ms"]
    ) {
      assert.match(String(done[column]), /^\d+$/, column);
    }

    assert.equal(await counters("early"), "1 1 500");
    assert.equal(await counters("second"), "2 2 500");
    await env.branch("fourth", `main@${lsns[3]}`);
    assert.equal(await counters("fourth"), "4 4 500");
    assert.equal(await pg.value("SELECT sum(n) FROM counters"), "3500");
    const lost = await env.tryZenith("branch", "third", `main@${lsns[2]}`);
    assert.equal(lost.code, 2);
    assert.match(lost.stderr, /not kept any more/);
  });

  test("keeps its promises across a restart, also to a Postgres that reads at the LSN of its start", async () => {
    await lease(lsns[3], "1h");
    await env.pageserver.kill9();
    await env.pageserver.start();
    // The branches are not open now: what they need is known from disk.
    await pg.query("UPDATE counters SET n = 8");
    const done = await gc();
    assert.ok(Number(done["versions_removed"]) > 0, JSON.stringify(done));
    assert.equal(await counters("early"), "1 1 500");
    assert.equal(await counters("second"), "2 2 500");
    await env.branch("fourth-again", `main@${lsns[3]}`);
    assert.equal(await counters("fourth-again"), "4 4 500");
    assert.equal(await pg.value("SELECT sum(n) FROM counters"), "4000");
  });

  test("is configured on the command line too", async () => {
    const tenant = await env.createTenant();
    assert.equal(
      await env.zenith("tenant", "config", tenant),
      "gc_horizon_bytes = 67108864\npitr_interval = 7d\n",
    );
    await env.zenith("tenant", "config", tenant, "--pitr-interval", "90m");
    const changed = "gc_horizon_bytes = 1000\npitr_interval = 90m\n";
    assert.equal(await env.zenith("tenant", "config", tenant, "--gc-horizon-bytes", "1000"), changed);
    await env.pageserver.restart();
    assert.equal(await env.zenith("tenant", "config", tenant), changed);
    const bad = await env.tryZenith("tenant", "config", tenant, "--gc-horizon-bytes", "lots");
    assert.equal(bad.code, 2);
    assert.match(bad.stderr, /"lots" is not a number of bytes/);
  });

  test("can't lease what is gone, and refuses figures that are none", async () => {
    await assert.rejects(lease(lsns[2], "1h"), /not kept any more/);
    await assert.rejects(lease("FF/0", "1h"), /in the future/);
    await assert.rejects(gc("much"), /horizon is "much"/);
    await assert.rejects(json(`tenant_config ${env.defaultTenant} pitr_interval=long`), /not a duration/);
    await assert.rejects(json(`tenant_config ${env.defaultTenant} colour=red`), /"colour=red" is not/);
  });
});
