import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { branchAt, branchHere } from "../harness/branching.ts";
import type { Connection } from "../harness/connection.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let main: Compute;

before(async () => {
  env = await ZenithEnv.create();
  main = await env.startCompute("main");
});
after(() => env[Symbol.asyncDispose]());

const LOCKERS = 5;
const ROWS = 400;

async function nextMultiXactId(pg: Compute): Promise<number> {
  return Number(await pg.value("SELECT next_multixact_id::text FROM pg_control_checkpoint()"));
}

/** Row, its multixact, and that multixact's members, of rows that more than one transaction has locked. */
const MEMBERS = `
  SELECT t.id, t.xmax::text AS multi, string_agg(m.xid || ' ' || m.mode, ', ' ORDER BY m.xid::text, m.mode) AS members
  FROM t, pg_get_multixact_members(t.xmax) m
  WHERE t.id <= ${ROWS / 2} GROUP BY 1, 2 ORDER BY 1`;

describe("multixacts", () => {
  test("rows that several open transactions lock are the same on a branch", async () => {
    await main.query("CREATE TABLE t (id int PRIMARY KEY, v text)");
    await main.query(`INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, ${ROWS}) n`);
    const nextBefore = await nextMultiXactId(main);

    // All of these are open at once; with each new locker after the first, every row gets a new multixact.
    const lockers: Connection[] = [];
    for (let i = 0; i < LOCKERS; i++) {
      const locker = await main.connect({ autocommit: false });
      lockers.push(locker);
      const locked = await locker.query(`SELECT * FROM t WHERE id <= ${ROWS / 2} FOR KEY SHARE`);
      assert.equal(locked.length, ROWS / 2);
    }
    await main.query("CHECKPOINT");
    const nextAfter = await nextMultiXactId(main);
    const made = (ROWS / 2) * (LOCKERS - 1);
    assert.ok(nextAfter >= nextBefore + LOCKERS - 1, `${nextAfter} after ${nextBefore}`);
    assert.ok(nextAfter <= nextBefore + made, `${nextAfter} after ${nextBefore}: more than were made`);

    const lsn = await main.lsn();
    const members = await main.query(MEMBERS);
    assert.equal(members.length, ROWS / 2);
    for (const row of members) assert.equal(String(row["members"]).split(", ").length, LOCKERS);

    const branch = await branchAt(env, main, "locked", lsn);
    assert.equal(await nextMultiXactId(branch), nextAfter);
    assert.deepEqual(await branch.query(MEMBERS), members);
    assert.deepEqual(
      await branch.query("SELECT * FROM t ORDER BY id"),
      await main.query("SELECT * FROM t ORDER BY id"),
    );

    // The lockers are not running there: nobody holds a lock.
    assert.equal(
      (await branch.query("SELECT id FROM t FOR UPDATE NOWAIT")).length,
      ROWS,
    );
    await branch.query("UPDATE t SET id = id + 1000, v = 'updated on the branch'");
    assert.equal(
      await branch.value("SELECT count(*) FROM t WHERE v = 'updated on the branch'"),
      String(ROWS),
    );
    for (const locker of lockers) {
      await locker.commit();
      await locker.close();
    }
    assert.equal(await main.value("SELECT count(*) FROM t WHERE v LIKE 'row %'"), String(ROWS));
    await branch.stop();
  });

  test("new multixacts of a branch follow on those of its parent", async () => {
    await main.query("CREATE TABLE next (id int PRIMARY KEY)");
    await main.query("INSERT INTO next VALUES (1)");
    await using holder = await main.connect({ autocommit: false });
    await using other = await main.connect({ autocommit: false });
    await holder.query("SELECT * FROM next FOR SHARE");
    await other.query("SELECT * FROM next FOR SHARE");
    await main.query("CHECKPOINT");
    const parentMulti = Number(await main.value("SELECT xmax::text FROM next"));
    const branch = await branchHere(env, main, "following");
    await holder.rollback();
    await other.rollback();

    await using first = await branch.connect({ autocommit: false });
    await using second = await branch.connect({ autocommit: false });
    await first.query("SELECT * FROM next FOR SHARE");
    await second.query("SELECT * FROM next FOR SHARE");
    const branchMulti = Number(await branch.value("SELECT xmax::text FROM next"));
    assert.ok(branchMulti > parentMulti, `${branchMulti} on the branch, ${parentMulti} on its parent`);
    assert.equal(
      await branch.value("SELECT count(*) FROM next n, pg_get_multixact_members(n.xmax)"),
      "2",
    );
    await first.rollback();
    await second.rollback();
    await branch.stop();
  });

  test("an update that a multixact carries is undone or kept on the branch as its transaction ended", async () => {
    await main.query("CREATE TABLE updated (id int PRIMARY KEY, v text)");
    await main.query("INSERT INTO updated VALUES (1, 'old'), (2, 'old')");
    await using locker = await main.connect({ autocommit: false });
    await locker.query("SELECT * FROM updated FOR KEY SHARE");
    await main.query("UPDATE updated SET v = 'new' WHERE id = 1");
    await using updater = await main.connect({ autocommit: false });
    await updater.query("UPDATE updated SET v = 'never' WHERE id = 2");
    await main.query("CHECKPOINT");
    const branch = await branchHere(env, main, "carried");
    assert.deepEqual(await branch.query("SELECT * FROM updated ORDER BY id"), [
      { id: 1, v: "new" },
      { id: 2, v: "old" },
    ]);
    await updater.rollback();
    await locker.rollback();
    await branch.stop();
  });

  test("members and offsets survive many pages, vacuum freezes them away", async () => {
    await main.query("CREATE TABLE many (id int PRIMARY KEY)");
    await main.query("INSERT INTO many SELECT generate_series(1, 3000)");
    const lockers: Connection[] = [];
    for (let i = 0; i < 2; i++) {
      const locker = await main.connect({ autocommit: false });
      lockers.push(locker);
      // Each row is locked by a subtransaction of its own, so that no two rows can share a multixact.
      await locker.query(`DO $$ BEGIN FOR n IN 1..3000 LOOP
        BEGIN PERFORM 1 FROM many WHERE id = n FOR KEY SHARE; EXCEPTION WHEN division_by_zero THEN END;
      END LOOP; END $$`);
    }
    await main.query("CHECKPOINT");
    const next = await nextMultiXactId(main);
    assert.ok(next > 3000, `${next}: more than one page of offsets`);
    const membersOf =
      "SELECT m.id, x.xid::text, x.mode FROM many m, pg_get_multixact_members(m.xmax) x ORDER BY 1, 2";
    const expected = await main.query(membersOf);
    assert.equal(expected.length, 6000);
    const branch = await branchHere(env, main, "many_members");
    assert.deepEqual(await branch.query(membersOf), expected);
    for (const locker of lockers) {
      await locker.rollback();
      await locker.close();
    }
    await branch.query("VACUUM (FREEZE) many");
    assert.equal(await branch.value("SELECT count(*) FROM many WHERE xmax::text <> '0'"), "0");
    await branch.restart();
    assert.equal(await branch.value("SELECT count(*) FROM many WHERE xmax::text <> '0'"), "0");
    assert.equal(await branch.value("SELECT sum(id) FROM many"), String(3000 * 3001 / 2));
    await branch.stop();
  });
});
