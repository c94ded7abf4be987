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

const MD5S = "SELECT oid::int, md5(lo_get(oid)) AS md5 FROM pg_largeobject_metadata ORDER BY oid";

describe("large objects", () => {
  test("are on a branch as they were: made, written into, truncated, unlinked", async () => {
    await main.query(`SELECT lo_from_bytea(50000 + n, (SELECT decode(string_agg(md5(i::text), ''), 'hex')
      FROM generate_series(1, n * 1000) i)) FROM generate_series(1, 8) n`);
    const made = await main.lsn();
    const contentMade = await main.query(MD5S);
    assert.equal(new Set(contentMade.map((row) => row["md5"])).size, 8);

    await main.query("SELECT lo_put(50003, 10000, 'written in the middle')");
    await main.query("SELECT lo_put(50004, 1000000, 'written beyond a gap')");
    await using session = await main.connect({ autocommit: false });
    await session.query("SELECT lo_truncate(lo_open(50005, 131072), 777)");
    await session.query("SELECT lo_unlink(50006)");
    await session.commit();
    await session.query("BEGIN");
    await session.query("SELECT lo_unlink(50007)");
    await session.query("SELECT lo_put(50008, 0, 'never')");
    await session.rollback();

    const [earlier, later] = [
      await branchAt(env, main, "made", made),
      await branchHere(env, main, "changed"),
    ] as const;
    assert.deepEqual(await earlier.query(MD5S), contentMade);
    const contentLater = await later.query(MD5S);
    assert.deepEqual(contentLater, await main.query(MD5S));
    assert.deepEqual(contentLater.map((row) => row["oid"]), [
      50001,
      50002,
      50003,
      50004,
      50005,
      50007,
      50008,
    ]);
    assert.equal(
      await later.value("SELECT convert_from(lo_get(50003, 10000, 21), 'UTF8')"),
      "written in the middle",
    );
    assert.equal(await later.value("SELECT length(lo_get(50005))"), 777);

    const own = await later.value("SELECT lo_from_bytea(0, 'own')");
    assert.equal(await later.value("SELECT convert_from(lo_get($1), 'UTF8')", [own]), "own");
    await earlier.stop();
    await later.stop();
  });
});
