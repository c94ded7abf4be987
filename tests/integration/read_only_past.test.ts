import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let pg: Compute;
/** The end of the branch when it had 1, 2, … 10 rows. */
const lsns: string[] = [];

before(async () => {
  env = await ZenithEnv.create();
  pg = await env.startCompute("main");
  await pg.query("CREATE TABLE steps (n int PRIMARY KEY)");
  for (let n = 1; n <= 10; n++) {
    await pg.query(`INSERT INTO steps VALUES (${n})`);
    lsns.push(await pg.lsn());
  }
  await pg.stop();
});
after(() => env[Symbol.asyncDispose]());

async function branchEnd(): Promise<string> {
  await env.untilArrived();
  await using wire = await env.pageserver.connect();
  const [main] = await wire.json(`branch_list ${env.defaultTenant}`) as Record<string, string>[];
  return main!["latest_valid_lsn"];
}

describe("a Postgres that looks at the past of its branch", () => {
  for (const storage of ["lazy", "eager"]) {
    test(`sees the data as they were, with ${storage} storage, and leaves the branch alone`, async () => {
      const end = await branchEnd();
      const printed = await env.zenith("pg", "start", "main", "--lsn", lsns[2], "--storage", storage);
      assert.match(printed, new RegExp(`started, read-only at ${lsns[2]}`));
      assert.equal(await pg.value("SELECT array_agg(n ORDER BY n)::text FROM steps"), "{1,2,3}");
      assert.equal(await pg.value("SHOW zenith.read_only_lsn"), lsns[2]);
      await assert.rejects(pg.query("INSERT INTO steps VALUES (99)"), /read-only transaction/);
      await assert.rejects(pg.query("CREATE TABLE more (n int)"), /read-only transaction/);
      // Who insists writes to a copy that nobody will ever see.
      await pg.query("BEGIN READ WRITE; INSERT INTO steps VALUES (99); COMMIT; CHECKPOINT");
      assert.equal(await pg.value("SELECT count(*) FROM pg_stat_replication"), "0");
      assert.match(
        await env.zenith("pg", "list"),
        new RegExp(`main +\\S+ +${lsns[2]} +- +running \\(read-only\\)`),
      );
      await pg.stop();
      assert.equal(await branchEnd(), end);
    });
  }

  test("is followed by one that goes on from the end of the branch", async () => {
    await pg.start();
    assert.equal(await pg.value("SELECT array_agg(n ORDER BY n)::text FROM steps"), "{1,2,3,4,5,6,7,8,9,10}");
    assert.match(await env.zenith("pg", "list"), /running\n/);
    await pg.query("INSERT INTO steps VALUES (11)");
    await pg.stop();
  });

  test("does not keep the branch from being written by another Postgres", async () => {
    await env.zenith("pg", "start", "main", "--lsn", lsns[4]);
    await env.branch("other", "main");
    await using other = await env.startCompute("other");
    await other.query("INSERT INTO steps VALUES (12)");
    assert.equal(await pg.value("SELECT count(*) FROM steps"), "5");
    assert.equal(await other.value("SELECT count(*) FROM steps"), "12");
    const refused = await env.tryZenith("tenant", "delete", env.defaultTenant);
    assert.equal(refused.code, 5);
    assert.match(refused.stderr, /a Postgres runs on main/);
    await pg.stop();
  });

  test("can't look at the future, before the beginning, or at what is no LSN", async () => {
    const future = await env.tryZenith("pg", "start", "main", "--lsn", "0/FFFFFFF0");
    assert.equal(future.code, 2);
    assert.match(future.stderr, /0\/FFFFFFF0 is in the future: branch main ends at 0\//);
    const past = await env.tryZenith("pg", "start", "main", "--lsn", "0/100");
    assert.equal(past.code, 2);
    assert.match(past.stderr, /before the beginning/);
    const bad = await env.tryZenith("pg", "start", "main", "--lsn", "yesterday");
    assert.equal(bad.code, 2);
    assert.match(bad.stderr, /"yesterday" is not an LSN/);
  });
});
