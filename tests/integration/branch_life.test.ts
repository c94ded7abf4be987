import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parseBranchName, parseTenantId, parseTimelineId, type TenantId } from "../../src/common/id.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;

before(async () => {
  env = await ZenithEnv.create();
  main = await env.startCompute("main");
  await main.query("CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) n");
});
after(() => env[Symbol.asyncDispose]());

type Branch = Record<string, string | null>;

async function branchList(tenant: TenantId = env.defaultTenant): Promise<Branch[]> {
  await using wire = await env.pageserver.connect();
  return await wire.json(`branch_list ${tenant}`) as Branch[];
}

async function branchNames(tenant?: TenantId): Promise<unknown[]> {
  return (await branchList(tenant)).map((branch) => branch["name"]);
}

async function timelineOf(name: string): Promise<string> {
  return (await branchList()).find((branch) => branch["name"] === name)!["timeline_id"]!;
}

function timelineDirectories(tenant: TenantId = env.defaultTenant): string[] {
  return readdirSync(env.paths.pageserver.timelines(tenant));
}

describe("a branch name", () => {
  test("may be one of git with slashes, which its Postgres has too", async () => {
    await env.branch("feature/login-123", "main");
    const compute = await env.startCompute("feature/login-123");
    await compute.query("INSERT INTO t VALUES (1001)");
    assert.equal(await compute.value("SELECT count(*) FROM t"), "1001");
    assert.match(await env.zenith("branch"), /┗━ @[0-9A-F]+\/[0-9A-F]+: feature\/login-123/);
    assert.match(await env.zenith("pg", "list"), /^feature\/login-123 .* running/m);
    await env.branch("fix/größe", "feature/login-123");
    // Both are there after a restart.
    await env.pageserver.restart();
    assert.deepEqual(await branchNames(), ["feature/login-123", "fix/größe", "main"]);
    const completed = await env.zenith("complete", "--", "branch", "delete", "f");
    assert.equal(completed, "feature/login-123\nfix/größe\n");
    await compute.stop();
    await env.zenith("branch", "delete", "fix/größe");
    await env.zenith("branch", "delete", "feature/login-123");
    assert.deepEqual(readdirSync(env.paths.pageserver.branches(env.defaultTenant)), ["main"]);
  });
});

describe("deleting a branch", () => {
  test("removes its name, its data and its stopped Postgres, and leaves its parent as it is", async () => {
    await env.branch("short", "main");
    const timeline = await timelineOf("short");
    const compute = await env.startCompute("short");
    await compute.query("INSERT INTO t VALUES (1001)");
    await compute.stop();
    assert.equal(await env.zenith("branch", "delete", "short"), "branch short deleted\n");
    assert.deepEqual(await branchNames(), ["main"]);
    assert.ok(!timelineDirectories().some((name) => name.startsWith(timeline)));
    assert.ok(!existsSync(compute.paths.dir));
    assert.equal(await main.value("SELECT count(*) FROM t"), "1000");
    // The name is free again.
    await env.branch("short", "main");
    assert.notEqual(await timelineOf("short"), timeline);
    await env.zenith("branch", "delete", "short");
  });

  test("is refused while others come from it, and takes them along with --cascade", async () => {
    await env.branch("trunk", "main");
    await env.branch("twig", "trunk");
    await env.branch("leaf", "twig");
    await env.branch("other", "main");
    const refused = await env.tryZenith("branch", "delete", "trunk");
    assert.equal(refused.code, 5);
    assert.match(refused.stderr, /other branches come from trunk: leaf, twig/);
    assert.match(refused.stderr, /--cascade/);
    assert.deepEqual(await branchNames(), ["leaf", "main", "other", "trunk", "twig"]);
    const printed = await env.zenith("branch", "delete", "trunk", "--cascade");
    assert.deepEqual(printed.trim().split("\n").sort(), [
      "branch leaf deleted",
      "branch trunk deleted",
      "branch twig deleted",
    ]);
    assert.deepEqual(await branchNames(), ["main", "other"]);
    assert.equal(timelineDirectories().length, 2);
    await env.zenith("branch", "delete", "other");
  });

  test("is refused while a Postgres runs on it, also by the page server itself", async () => {
    await env.branch("busy", "main");
    await env.branch("below", "busy");
    const compute = await env.startCompute("below");
    const refused = await env.tryZenith("branch", "delete", "busy", "--cascade");
    assert.equal(refused.code, 5);
    assert.match(refused.stderr, /a Postgres runs on below/);
    await using wire = await env.pageserver.connect();
    await assert.rejects(
      wire.query(`branch_delete ${env.defaultTenant} busy cascade`),
      /a Postgres runs on below/,
    );
    assert.equal(await compute.value("SELECT count(*) FROM t"), "1000");
    await compute.stop();
    await env.zenith("branch", "delete", "busy", "--cascade");
  });

  test("goes with its running Postgres when that is asked for, unless something is in the way", async () => {
    await env.branch("used", "main");
    await env.branch("child", "used");
    const used = await env.startCompute("used");
    const child = await env.startCompute("child");
    for (const pg of [used, child]) await pg.query("CREATE TABLE own AS SELECT generate_series(1, 1000) n");
    const parents = await env.tryZenith("branch", "delete", "used", "--stop");
    assert.equal(parents.code, 5);
    assert.match(parents.stderr, /other branches come from used: child/);
    await env.zenith("branch", "protect", "child");
    const kept = await env.tryZenith("branch", "delete", "used", "--stop", "--cascade");
    assert.match(kept.stderr, /branch child is protected/);
    // Whoever is refused finds everything as it was.
    for (const pg of [used, child]) assert.equal(await pg.value("SELECT count(*) FROM own"), "1000");
    await env.zenith("branch", "unprotect", "child");
    const gone = await env.zenith("branch", "delete", "used", "--stop", "--cascade");
    assert.deepEqual(gone.trim().split("\n").sort(), ["branch child deleted", "branch used deleted"]);
    assert.deepEqual(await branchNames(), ["main"]);
    await until(
      "each Postgres has ended and is removed",
      () => [used, child].every(({ paths }) => !existsSync(paths.dir)),
    );
    assert.equal(timelineDirectories().length, 1);
  });

  test("goes right after its Postgres was stopped, with WAL still on its way", async () => {
    for (const name of ["brief1", "brief2", "brief3"]) {
      await env.branch(name, "main");
      const pg = await env.startCompute(name);
      await pg.query("CREATE TABLE lots AS SELECT generate_series(1, 200000) n");
      await pg.stop("immediate");
      await env.zenith("branch", "delete", name);
      assert.ok(!(await branchNames()).includes(name));
    }
  });

  test("is refused for what all branches come from, for unknown names and for stray words", async () => {
    const unknown = await env.tryZenith("branch", "delete", "nowhere");
    assert.equal(unknown.code, 4);
    assert.match(unknown.stderr, /no branch nowhere/);
    await using wire = await env.pageserver.connect();
    await assert.rejects(wire.query(`branch_delete ${env.defaultTenant} main`), /main is where all others/);
    await assert.rejects(
      wire.query(`branch_delete ${env.defaultTenant} main force`),
      /"force" is not "cascade"/,
    );
  });

  test("tells who still reads from it", async () => {
    await env.branch("read", "main");
    const timeline = await timelineOf("read");
    await using wire = await env.pageserver.connect();
    const future = wire.query(`basebackup ${env.defaultTenant} ${timeline} FF/0`).then(
      () => "finished",
      (error: Error) => error.message,
    );
    await env.zenith("branch", "delete", "read");
    assert.match(await future, /was deleted/);
    await using later = await env.pageserver.connect();
    await assert.rejects(later.query(`basebackup ${env.defaultTenant} ${timeline}`), /has no timeline/);
  });

  test("that a crash interrupted is finished at the next start", async () => {
    await env.branch("half", "main");
    await env.branch("kept", "main");
    const half = parseTimelineId(await timelineOf("half"));
    await main.stop();
    await env.pageserver.stop();
    // As far as a deletion comes when the power fails right after its decisive step.
    const { pageserver } = env.paths;
    renameSync(
      pageserver.timeline(env.defaultTenant, half),
      pageserver.deletedTimeline(env.defaultTenant, half),
    );
    await env.pageserver.start();
    assert.deepEqual(await branchNames(), ["kept", "main"]);
    assert.ok(!existsSync(pageserver.branch(env.defaultTenant, parseBranchName("half"))));
    assert.ok(!timelineDirectories().some((name) => name.startsWith(half)));
    await main.start();
    await env.zenith("branch", "delete", "kept");
  });
});

describe("renaming a branch", () => {
  test("changes its name and nothing else", async () => {
    await env.branch("draft", "main");
    const [draft] = (await branchList()).filter((branch) => branch["name"] === "draft");
    assert.equal(await env.zenith("branch", "rename", "draft", "final"), "branch draft is now final\n");
    const [final] = (await branchList()).filter((branch) => branch["name"] === "final");
    assert.deepEqual(final, { ...draft, name: "final" });
    await env.pageserver.restart();
    assert.deepEqual(await branchNames(), ["final", "main"]);
    await env.zenith("branch", "delete", "final");
  });

  test("to a name that is taken, or that is a command, is refused", async () => {
    await env.branch("one", "main");
    const taken = await env.tryZenith("branch", "rename", "one", "main");
    assert.equal(taken.code, 5);
    assert.match(taken.stderr, /main already exists/);
    for (const word of ["delete", "rename", "list"]) {
      const reserved = await env.tryZenith("branch", "rename", "one", word);
      assert.equal(reserved.code, 2);
      assert.match(reserved.stderr, new RegExp(`can't be called "${word}"`));
      await using wire = await env.pageserver.connect();
      await assert.rejects(
        wire.query(`branch_create ${env.defaultTenant} ${word} main`),
        new RegExp(`can't be called "${word}"`),
      );
    }
    const running = await env.tryZenith("branch", "rename", "main", "trunk");
    assert.equal(running.code, 5);
    assert.match(running.stderr, /branch main has a Postgres/);
    await env.zenith("branch", "delete", "one");
  });
});

describe("a branch that expires", () => {
  test("is removed when it is due, also when the page server was down then", async () => {
    const printed = await env.zenith("branch", "passing", "main", "--expires", "2s");
    assert.match(printed, /until 20\d\d-/);
    await env.zenith("branch", "lasting", "main", "--expires", "2h");
    const [lasting] = (await branchList()).filter((branch) => branch["name"] === "lasting");
    const hours = (Date.parse(lasting!["expires_at"]!) - Date.now()) / 3_600_000;
    assert.ok(hours > 1.9 && hours <= 2, `expires in ${hours} h`);
    await env.pageserver.restart();
    await until("the branch has gone", async () => !(await branchNames()).includes("passing"));
    assert.deepEqual(await branchNames(), ["lasting", "main"]);
    await env.zenith("branch", "delete", "lasting");
  });

  test("stays while others come from it", async () => {
    await env.zenith("branch", "parent", "main", "--expires", "5s");
    await env.branch("child", "parent");
    await until(
      "the log says so",
      () => /branch parent has expired and stays for now/.test(env.pageserver.log()),
    );
    await env.zenith("branch", "delete", "child");
    await until("the branch has gone", async () => !(await branchNames()).includes("parent"));
  });

  test("needs a duration", async () => {
    const bad = await env.tryZenith("branch", "never", "main", "--expires", "tomorrow");
    assert.equal(bad.code, 2);
    assert.match(bad.stderr, /"tomorrow" is not a duration/);
    assert.deepEqual(await branchNames(), ["main"]);
  });
});

describe("deleting a tenant", () => {
  test("removes all of it, and nothing of another's", async () => {
    const tenant = await env.createTenant();
    await env.branch("b", "main", tenant);
    const compute = await env.startCompute("main", tenant);
    const refused = await env.tryZenith("tenant", "delete", tenant);
    assert.equal(refused.code, 5);
    assert.match(refused.stderr, /a Postgres runs on main/);
    await using wire = await env.pageserver.connect();
    await assert.rejects(wire.query(`tenant_delete ${tenant}`), /a Postgres runs on main/);
    await compute.stop();
    assert.equal(await env.zenith("tenant", "delete", tenant), `tenant ${tenant} deleted\n`);
    assert.ok(!existsSync(env.paths.pageserver.tenant(tenant)));
    assert.ok(!existsSync(compute.paths.dir));
    assert.deepEqual((await env.zenith("tenant", "list")).trim(), env.defaultTenant);
    assert.equal(await main.value("SELECT count(*) FROM t"), "1000");
    const gone = await env.tryZenith("tenant", "delete", tenant);
    assert.equal(gone.code, 4);
  });

  test("that a crash interrupted is finished at the next start", async () => {
    const tenant = parseTenantId("f".repeat(32));
    const left = env.paths.pageserver.deletedTenant(tenant);
    mkdirSync(join(left, "branches"), { recursive: true });
    writeFileSync(join(left, "branches", "main"), "whatever is left");
    await env.pageserver.restart();
    assert.ok(!existsSync(left));
    assert.deepEqual((await env.zenith("tenant", "list")).trim(), env.defaultTenant);
  });
});
