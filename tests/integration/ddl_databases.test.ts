import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { branchAt, branchHere } from "../harness/branching.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;

before(async () => {
  env = await ZenithEnv.create();
  main = await env.startCompute("main");
});
after(() => env[Symbol.asyncDispose]());

async function databases(pg: Compute): Promise<unknown[]> {
  const rows = await pg.query("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1");
  return rows.map((row) => row["datname"]);
}

const STRATEGIES = ["file_copy", "wal_log"];

async function copyTemplate(pg: Compute, strategy: string): Promise<void> {
  await pg.query(`CREATE DATABASE copy_${strategy} TEMPLATE template_${strategy} STRATEGY ${strategy}`);
}

/** Rows of the table `t` there, counted by its index too. */
async function rows(pg: Compute, database: string): Promise<number> {
  await using session = await pg.connect({ database });
  const count = Number(await session.value("SELECT count(*) FROM t"));
  await session.query("SET enable_seqscan = off");
  assert.equal(Number(await session.value("SELECT count(*) FROM t WHERE n > 0")), count);
  return count;
}

describe("users and databases", () => {
  test("roles, their rights and their memberships are on a branch from when they were made", async () => {
    const without = await main.lsn();
    await main.query("CREATE ROLE alice LOGIN PASSWORD 'secret'");
    await main.query("CREATE ROLE readers");
    await main.query("GRANT readers TO alice");
    await main.query("CREATE TABLE readable AS SELECT 42 AS n");
    await main.query("CREATE TABLE private AS SELECT 43 AS n");
    await main.query("GRANT SELECT ON readable TO readers");
    const [earlier, later] = [
      await branchAt(env, main, "without_alice", without),
      await branchHere(env, main, "with_alice"),
    ] as const;
    const login = { user: "alice", password: "secret" };
    await assert.rejects(earlier.connect(login), /password authentication failed for user "alice"/);
    await using alice = await later.connect(login);
    assert.equal(await alice.value("SELECT n FROM readable"), 42);
    await assert.rejects(alice.query("SELECT n FROM private"), /permission denied/);
    const password = "SELECT rolpassword FROM pg_authid WHERE rolname = 'alice'";
    assert.equal(await later.value(password), await main.value(password));
    await earlier.stop();
    await later.stop();
  });

  test("databases made by either strategy are on branches from then until they are dropped", async () => {
    for (const strategy of STRATEGIES) {
      await main.query(`CREATE DATABASE template_${strategy}`);
      await using inTemplate = await main.connect({ database: `template_${strategy}` });
      await inTemplate.query("CREATE TABLE t (n int PRIMARY KEY, v text)");
      await inTemplate.query("INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(1, 2000) n");
      await inTemplate.query("VACUUM t");
    }
    const before = await main.lsn();
    for (const strategy of STRATEGIES) await copyTemplate(main, strategy);
    const copied = await main.lsn();
    for (const strategy of STRATEGIES) {
      await using inCopy = await main.connect({ database: `copy_${strategy}` });
      await inCopy.query("DELETE FROM t WHERE n > 1000");
      await inCopy.query("INSERT INTO t VALUES (5000, 'in the copy')");
    }
    const changed = await main.lsn();
    for (const strategy of STRATEGIES) await main.query(`DROP DATABASE copy_${strategy}`);

    const atBefore = await branchAt(env, main, "before", before);
    assert.deepEqual(await databases(atBefore), ["postgres", "template_file_copy", "template_wal_log"]);
    for (const strategy of STRATEGIES) await copyTemplate(atBefore, strategy);
    await atBefore.restart();
    for (const strategy of STRATEGIES) assert.equal(await rows(atBefore, `copy_${strategy}`), 2000);
    await atBefore.stop();

    const atCopied = await branchAt(env, main, "copied", copied);
    for (const strategy of STRATEGIES) {
      assert.equal(await rows(atCopied, `copy_${strategy}`), 2000);
      await atCopied.query(`DROP DATABASE template_${strategy}`);
    }
    await atCopied.restart();
    assert.deepEqual(await databases(atCopied), ["copy_file_copy", "copy_wal_log", "postgres"]);
    for (const strategy of STRATEGIES) assert.equal(await rows(atCopied, `copy_${strategy}`), 2000);
    await atCopied.stop();

    const atChanged = await branchAt(env, main, "changed", changed);
    for (const strategy of STRATEGIES) {
      assert.equal(await rows(atChanged, `copy_${strategy}`), 1001);
      assert.equal(await rows(atChanged, `template_${strategy}`), 2000);
    }
    await atChanged.stop();

    const atDropped = await branchHere(env, main, "dropped");
    assert.deepEqual(await databases(atDropped), ["postgres", "template_file_copy", "template_wal_log"]);
    await atDropped.stop();
  });

  test("a database can be renamed and changed on a branch", async () => {
    await main.query("CREATE DATABASE renamed_later");
    const branch = await branchHere(env, main, "renaming");
    await branch.query("ALTER DATABASE renamed_later RENAME TO renamed");
    await branch.query("ALTER DATABASE renamed SET work_mem = '7MB'");
    await branch.restart();
    assert.equal(await branch.value("SHOW work_mem", [], { database: "renamed" }), "7MB");
    assert.ok((await databases(main)).includes("renamed_later"));
    await branch.stop();
  });
});
