import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let pg: Compute;

before(async () => {
  env = await ZenithEnv.create();
  pg = await env.startCompute("main");
});
after(() => env[Symbol.asyncDispose]());

describe("zenith dump page", () => {
  test("shows the page that Postgres has in its buffers", async () => {
    await pg.query("CREATE EXTENSION pageinspect");
    await pg.query("CREATE TABLE t (id int, v text)");
    await pg.query("INSERT INTO t SELECT g, repeat('x', g) FROM generate_series(1, 40) g");
    const file = await pg.value("SELECT pg_relation_filepath('t')");
    const [header] = await pg.query(
      "SELECT lsn, lower, upper, special FROM page_header(get_raw_page('t', 0))",
    );
    const lines = (await env.zenith("dump", "page", "main", String(file), "0")).split("\n");
    assert.equal(lines[0], `pd_lsn ${header!["lsn"]}`);
    assert.equal(
      lines[2],
      `pd_lower ${header!["lower"]}  pd_upper ${header!["upper"]}  pd_special ${header!["special"]}`,
    );
    assert.equal(lines.filter((line) => /^item \d+: normal/.test(line)).length, 40);
  });

  test("shows the page as it was at an LSN", async () => {
    const file = String(await pg.value("SELECT pg_relation_filepath('t')"));
    const lsn = String(await pg.value("SELECT pg_current_wal_insert_lsn()"));
    await pg.query("INSERT INTO t VALUES (41, 'later')");
    const count = (text: string): number => text.split("\n").filter((line) => line.startsWith("item")).length;
    assert.equal(count(await env.zenith("dump", "page", "main", file, "0", "--lsn", lsn)), 40);
    assert.equal(count(await env.zenith("dump", "page", "main", file, "0")), 41);
  });

  test("says that a block is beyond the relation's end", async () => {
    const file = String(await pg.value("SELECT pg_relation_filepath('t')"));
    const result = await env.tryZenith("dump", "page", "main", file, "9");
    assert.notEqual(result.code, 0);
    assert.match(result.stderr, /has 1 blocks: 9\.\.9 are beyond its end/);
  });

  test("refuses what is not a relation's file", async () => {
    const result = await env.tryZenith("dump", "page", "main", "../../etc/passwd", "0");
    assert.equal(result.code, 2);
    assert.match(result.stderr, /is not a relation's file/);
  });
});
