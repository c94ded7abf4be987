import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { addSettings, branchHere } from "../harness/branching.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;

const SETTINGS = ["max_prepared_transactions = 10"];
const PREPARED = "SELECT gid FROM pg_prepared_xacts ORDER BY gid";

before(async () => {
  env = await ZenithEnv.create();
  main = await env.createCompute("main");
  addSettings(main, ...SETTINGS);
  await main.start();
});
after(() => env[Symbol.asyncDispose]());

async function prepare(pg: Compute, gid: string, ...statements: string[]): Promise<void> {
  await using session = await pg.connect({ autocommit: false });
  for (const statement of statements) await session.query(statement);
  await session.query(`PREPARE TRANSACTION '${gid}'`);
}

async function gids(pg: Compute): Promise<unknown[]> {
  return (await pg.query(PREPARED)).map((row) => row["gid"]);
}

describe("prepared transactions", () => {
  test("are committed and rolled back on the branch only", async () => {
    await main.query("CREATE TABLE t (v text)");
    await prepare(main, "commit me", "INSERT INTO t VALUES ('one')", "INSERT INTO t VALUES ('two')");
    await prepare(
      main,
      "roll me back",
      "INSERT INTO t VALUES ('never')",
      "CREATE TABLE never (v text)",
      "INSERT INTO never VALUES ('gone')",
    );
    await main.query("CHECKPOINT");
    await prepare(main, "after the checkpoint", "SAVEPOINT s", "INSERT INTO t VALUES ('late')", "RELEASE s");
    const branch = await branchHere(env, main, "decided", SETTINGS);
    assert.deepEqual(await gids(branch), ["after the checkpoint", "commit me", "roll me back"]);
    assert.equal(await branch.value("SELECT count(*) FROM t"), "0");

    await branch.query("COMMIT PREPARED 'commit me'");
    await branch.query("ROLLBACK PREPARED 'roll me back'");
    assert.deepEqual(await branch.query("SELECT v FROM t ORDER BY v"), [{ v: "one" }, { v: "two" }]);
    assert.equal(await branch.value("SELECT to_regclass('never')"), null);
    await branch.query("COMMIT PREPARED 'after the checkpoint'");
    assert.deepEqual(await branch.query("SELECT v FROM t ORDER BY v"), [{ v: "late" }, { v: "one" }, {
      v: "two",
    }]);

    // Nothing of that has happened on main.
    assert.deepEqual(await gids(main), ["after the checkpoint", "commit me", "roll me back"]);
    assert.equal(await main.value("SELECT count(*) FROM t"), "0");

    // And it stays decided.
    await branch.restart();
    assert.deepEqual(await gids(branch), []);
    assert.equal(await branch.value("SELECT count(*) FROM t"), "3");
    await branch.stop();
  });

  test("wait across a restart of their compute, with their locks, and can then be ended", async () => {
    await main.query("CREATE TABLE held (id int PRIMARY KEY, v text)");
    await main.query("INSERT INTO held VALUES (1, 'old'), (2, 'old')");
    await prepare(main, "update one", "UPDATE held SET v = 'new' WHERE id = 1");
    await prepare(main, "update two", "UPDATE held SET v = 'new' WHERE id = 2");
    await main.restart();
    assert.ok((await gids(main)).includes("update one"));
    await assert.rejects(
      main.query("SELECT * FROM held WHERE id = 1 FOR UPDATE NOWAIT"),
      /could not obtain lock/,
    );
    await main.query("COMMIT PREPARED 'update one'");
    await main.kill9();
    await main.start();
    await main.query("ROLLBACK PREPARED 'update two'");
    assert.deepEqual(await main.query("SELECT * FROM held ORDER BY id"), [
      { id: 1, v: "new" },
      { id: 2, v: "old" },
    ]);
    await main.query("UPDATE held SET v = 'newer'");
  });

  test("drop the files of relations when they commit", async () => {
    await main.query("CREATE TABLE dropped AS SELECT generate_series(1, 1000) n");
    const path = String(await main.value("SELECT pg_relation_filepath('dropped')"));
    await prepare(main, "drop it", "DROP TABLE dropped");
    const branch = await branchHere(env, main, "dropping", SETTINGS);
    await branch.query("COMMIT PREPARED 'drop it'");
    await branch.restart();
    const size = "SELECT size FROM pg_stat_file($1, true)";
    assert.equal(await branch.value(size, [path]), null);
    assert.equal(await branch.value("SELECT to_regclass('dropped')"), null);
    await main.query("ROLLBACK PREPARED 'drop it'");
    assert.equal(await main.value("SELECT count(*) FROM dropped"), "1000");
    await branch.stop();
  });
});
