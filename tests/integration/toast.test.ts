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

/** `chunks` md5 sums in a row: text that does not compress. */
const longText = (seed: string, chunks: string) =>
  `(SELECT string_agg(md5(${seed} || i::text), '') FROM generate_series(1, ${chunks}) i)`;

const CONTENT = "SELECT n, storage, md5(v) AS md5, length(v) AS length FROM t ORDER BY n";

describe("toasted values", () => {
  test("of every storage are read on a branch as they were, through updates and deletes", async () => {
    await main.query(
      "CREATE TABLE t (n int PRIMARY KEY, storage text, v text) WITH (toast_tuple_target = 512)",
    );
    await main.query(
      `INSERT INTO t SELECT n, 'external', ${longText("n::text", "200")} FROM generate_series(1, 60) n`,
    );
    await main.query(
      "INSERT INTO t SELECT n, 'compressed', repeat('ab', 20000) FROM generate_series(61, 80) n",
    );
    await main.query("ALTER TABLE t ALTER v SET COMPRESSION lz4");
    await main.query("INSERT INTO t SELECT n, 'lz4', repeat('cd', 20000) FROM generate_series(81, 100) n");
    await main.query("ALTER TABLE t ALTER v SET STORAGE external");
    await main.query("INSERT INTO t SELECT n, 'plain', repeat('ef', 5000) FROM generate_series(101, 120) n");
    const first = await main.lsn();
    const firstContent = await main.query(CONTENT);
    assert.equal(firstContent.length, 120);
    assert.ok(
      Number(await main.value("SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE relname = 't'")) >
        300_000,
    );

    await main.query(`UPDATE t SET v = ${longText("'new' || n::text", "100")} WHERE n % 3 = 0`);
    await main.query("DELETE FROM t WHERE n % 5 = 0");
    await main.query("UPDATE t SET n = n + 1000 WHERE n % 7 = 0");
    await main.query("VACUUM t");
    const [earlier, later] = [
      await branchAt(env, main, "first", first),
      await branchHere(env, main, "changed"),
    ] as const;
    assert.deepEqual(await earlier.query(CONTENT), firstContent);
    assert.deepEqual(await later.query(CONTENT), await main.query(CONTENT));
    await later.query(
      `INSERT INTO t SELECT n, 'external', ${longText("n::text", "300")} FROM generate_series(2001, 2020) n`,
    );
    const added = await later.query(CONTENT);
    await later.restart();
    assert.deepEqual(await later.query(CONTENT), added);
    await earlier.stop();
    await later.stop();
  });

  test("a value of several megabytes comes back byte for byte", async () => {
    await main.query("CREATE TABLE big (v bytea)");
    await main.query("ALTER TABLE big ALTER v SET STORAGE external");
    await main.query(
      "INSERT INTO big SELECT decode(string_agg(md5(i::text), ''), 'hex') FROM generate_series(1, 250000) i",
    );
    const expected = await main.value("SELECT md5(v) || length(v) FROM big");
    const branch = await branchHere(env, main, "megabytes");
    assert.equal(await branch.value("SELECT md5(v) || length(v) FROM big"), expected);
    await branch.stop();
  });
});
