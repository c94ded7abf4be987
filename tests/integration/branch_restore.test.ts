import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { Compute, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;

before(async () => {
  env = await ZenithEnv.create();
  main = await env.startCompute("main");
  await main.query("CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) n");
});
after(() => env[Symbol.asyncDispose]());

async function names(): Promise<string[]> {
  const branches = JSON.parse(await env.zenith("branch", "list", "--json")) as { branch: string }[];
  return branches.map(({ branch }) => branch);
}

describe("a branch", () => {
  test("is reset to its parent's end, with its running Postgres", async () => {
    await env.branch("dev", "main");
    const dev = await env.startCompute("dev");
    await dev.query("DELETE FROM t");
    await main.query("INSERT INTO t VALUES (1001)");
    const printed = await env.zenith("branch", "reset", "dev");
    assert.match(printed, /^branch dev restored to main at [0-9A-F]+\/[0-9A-F]+, timeline [0-9a-f]{32}$/m);
    assert.match(printed, /^Postgres of branch dev started again$/m);
    assert.equal(await dev.value("SELECT count(*) FROM t"), "1001");
    assert.deepEqual(await names(), ["dev", "main"]);
    // It writes to the new timeline, also after a restart.
    await dev.query("INSERT INTO t VALUES (1002)");
    await dev.stop();
    await dev.start();
    assert.equal(await dev.value("SELECT count(*) FROM t"), "1002");
    assert.equal(await main.value("SELECT count(*) FROM t"), "1001");
    await dev.stop();
    await env.zenith("branch", "delete", "dev");
  });

  test("goes back into its own past, and what it was stays under another name", async () => {
    const before = await main.value("SELECT pg_current_wal_flush_lsn()");
    await main.query("DROP TABLE t");
    const restored = JSON.parse(await env.zenith("branch", "restore", "main", `main@${before}`, "--json"));
    assert.match(restored.kept_as, /^main-before-\d{8}-\d{6}$/);
    assert.equal(restored.branch, "main");
    assert.equal(await main.value("SELECT count(*) FROM t"), "1001");
    assert.deepEqual(await names(), ["main", restored.kept_as].sort());
    const kept = await env.startCompute(restored.kept_as);
    assert.equal(await kept.value("SELECT to_regclass('t') IS NULL"), true);
    await kept.stop();
    const history = JSON.parse(await env.zenith("branch", "history", "main", "--json"));
    assert.deepEqual(history.kept_as, [restored.kept_as]);
    assert.deepEqual(history.parts.map(({ branch }: { branch: string }) => branch), [
      "main",
      restored.kept_as,
    ]);
    const [own, old] = history.parts;
    assert.ok(own.kept_from_lsn <= own.lsn, own.kept_from_lsn);
    assert.equal(old.lsn, JSON.parse(await env.zenith("branch", "get", "main", "--json")).ancestor_lsn);
    assert.ok(old.kept_from_lsn < old.lsn, old.kept_from_lsn);
    for (const { time } of history.parts) assert.ok(Math.abs(Date.parse(time) - Date.now()) < 600_000, time);
    const shown = await env.zenith("branch", "history", "main");
    assert.match(shown, new RegExp(`^${restored.kept_as} +left +${old.lsn} +\\d{4}-.*Z `, "m"));
    assert.match(shown, /^history is kept for 7d, and for 64\.0 MiB of WAL$/m);
    // All that is there comes from it now.
    const refused = await env.tryZenith("branch", "delete", restored.kept_as);
    assert.equal(refused.code, 5);
    await main.query("INSERT INTO t VALUES (1002)");
    await env.pageserver.restart();
    assert.equal(await main.value("SELECT count(*) FROM t"), "1002");
  });

  test("refuses without harm: its Postgres goes on where it was", async () => {
    await env.branch("dev", "main");
    const dev = await env.startCompute("dev");
    await dev.query("CREATE TABLE mine AS SELECT 1 AS n");
    await env.branch("below", "dev");
    const needed = await env.tryZenith("branch", "reset", "dev");
    assert.equal(needed.code, 5);
    assert.match(needed.stderr, /other branches come from it/);
    assert.match(needed.stderr, /--keep-as/);
    assert.equal(await dev.value("SELECT n FROM mine"), 1);
    const unknown = await env.tryZenith("branch", "restore", "dev", "nowhere");
    assert.equal(unknown.code, 4);
    const root = await env.tryZenith(
      "branch",
      "reset",
      JSON.parse(await env.zenith("branch", "list", "--json"))
        .find((branch: { ancestor_id: string | null }) => branch.ancestor_id === null).branch,
    );
    assert.equal(root.code, 5);
    assert.match(root.stderr, /comes from no other/);
    const printed = await env.zenith("branch", "reset", "dev", "--keep-as", "dev-mine");
    assert.match(printed, /what it was is branch dev-mine now/);
    assert.equal(await dev.value("SELECT to_regclass('mine') IS NULL"), true);
    await dev.stop();
    for (const name of ["dev", "below", "dev-mine"]) await env.zenith("branch", "delete", name);
  });

  test("is protected, and then neither deleted, restored nor expired", async () => {
    await env.branch("dev", "main");
    await env.zenith("branch", "set-expiry", "dev", "1 hour");
    assert.notEqual(JSON.parse(await env.zenith("branch", "get", "dev", "--json")).expires_at, null);
    assert.equal(await env.zenith("branch", "protect", "dev"), "branch dev is protected\n");
    const got = JSON.parse(await env.zenith("branch", "get", "dev", "--json"));
    assert.equal(got.protected, true);
    assert.equal(got.expires_at, null);
    assert.match(await env.zenith("branch", "get", "dev"), /^protected +yes$/m);
    for (const words of [["delete", "dev"], ["reset", "dev"], ["set-expiry", "dev", "1h"]]) {
      const refused = await env.tryZenith("branch", ...words);
      assert.equal(refused.code, 5, words.join(" "));
      assert.match(refused.stderr, /is protected[^]*branch unprotect dev/);
    }
    await env.zenith("branch", "unprotect", "dev");
    assert.equal((await env.tryZenith("branch", "set-expiry", "dev", "0s")).code, 2);
    assert.equal(await env.zenith("branch", "set-expiry", "dev", "never"), "branch dev never expires\n");
    await env.zenith("branch", "delete", "dev");
  });
});

describe("one command", () => {
  test("makes a branch and its running Postgres", async () => {
    const started = JSON.parse(await env.zenith("branch", "quick", "main", "--start", "--json"));
    assert.equal(started.branch, "quick");
    assert.match(started.uri, /^postgres:\/\/zenith_admin:[\w-]{32}@127\.0\.0\.1:\d+\/postgres$/);
    const stray = await env.tryZenith("branch", "stray", "main", "--", "-c", "SELECT 1");
    assert.equal(stray.code, 2);
    assert.match(stray.stderr, /only with --psql/);
    const quick = new Compute(env, "quick", env.defaultTenant, Number(new URL(started.uri).port));
    assert.equal(await quick.value("SELECT count(*) FROM t"), "1002");
    await quick.stop();
    await env.zenith("branch", "delete", "quick");
    assert.ok(!existsSync(quick.paths.dir));
  });

  test("starts a Postgres that was never made, and says so when it runs already", async () => {
    await env.branch("fresh", "main");
    const first = await env.zenith("pg", "start", "fresh");
    assert.match(first, /^Postgres of branch fresh started$/m);
    const again = await env.zenith("pg", "start", "fresh");
    assert.match(again, /^Postgres of branch fresh runs already$/m);
    assert.equal(first.split("\n")[1], again.split("\n")[1]);
    // That would be another one, beside it.
    const elsewhere = await env.tryZenith("pg", "start", "fresh", "--lsn", "0/1");
    assert.equal(elsewhere.code, 2, elsewhere.stderr);
    const nobody = await env.tryZenith("pg", "start", "nosuch");
    assert.equal(nobody.code, 4);
    assert.match(nobody.stderr, /has no branch nosuch/);
    await env.zenith("pg", "stop", "fresh");
    await env.zenith("branch", "delete", "fresh");
  });
});
