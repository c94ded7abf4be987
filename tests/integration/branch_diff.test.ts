import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ZenithError } from "../../src/common/errors.ts";
import { findPgDump } from "../../src/pg_install/find_pg_dump.ts";
import { addSettings } from "../harness/branching.ts";
import { TEST_PG_MAJOR } from "../harness/postgres_major.ts";
import type { Connection } from "../harness/connection.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

interface TableDiff {
  readonly schema: string;
  readonly table: string;
  readonly only_in: "a" | "b" | null;
  readonly changed_pages: number | null;
  readonly added_rows: number;
  readonly removed_rows: number;
  readonly changed_rows: number;
  readonly notes: readonly string[];
}

interface Diff {
  readonly a: { readonly point: string; readonly lsn: string };
  readonly schema: string | null;
  readonly tables: readonly TableDiff[] | null;
  readonly sequences: readonly Record<string, string | null>[] | null;
}

const TABLES = `
  CREATE EXTENSION IF NOT EXISTS plpgsql;
  CREATE SCHEMA "my Schema";
  CREATE TABLE plain (id int PRIMARY KEY, n int, v text);
  CREATE INDEX ON plain (v);
  INSERT INTO plain SELECT i, i, 'row ' || i FROM generate_series(1, 20000) i;
  CREATE TABLE pairs (a int, b text, n int, PRIMARY KEY (a, b));
  INSERT INTO pairs SELECT i, 'b' || i % 7, i FROM generate_series(1, 500) i;
  CREATE TABLE nokey (a int, b text);
  INSERT INTO nokey SELECT i % 10, CASE WHEN i % 3 = 0 THEN NULL ELSE 'x' END FROM generate_series(1, 300) i;
  CREATE TABLE cut (id int PRIMARY KEY, v text);
  INSERT INTO cut SELECT i, 'c' FROM generate_series(1, 100) i;
  CREATE TABLE packed (id int PRIMARY KEY, v text);
  INSERT INTO packed SELECT i, 'p' FROM generate_series(1, 1000) i;
  CREATE TABLE packed_only (id int PRIMARY KEY);
  INSERT INTO packed_only SELECT generate_series(1, 100);
  CREATE TABLE frozen (id int PRIMARY KEY);
  INSERT INTO frozen SELECT generate_series(1, 1000);
  CREATE TABLE dropped (id int PRIMARY KEY);
  INSERT INTO dropped SELECT generate_series(1, 3);
  CREATE TABLE big (id int PRIMARY KEY, v text);
  INSERT INTO big SELECT i, (SELECT string_agg(md5(i || '/' || j), '') FROM generate_series(1, 500) j)
    FROM generate_series(1, 20) i;
  CREATE TABLE "my Schema"."Odd ""Name""" ("the Key" int PRIMARY KEY, "select" text);
  INSERT INTO "my Schema"."Odd ""Name""" VALUES (1, 'a'), (2, 'b'), (3, NULL);
  CREATE TABLE parts (id int, v text) PARTITION BY RANGE (id);
  CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (100);
  CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (100) TO (200);
  INSERT INTO parts SELECT i, 'p' FROM generate_series(1, 199) i;
  CREATE TABLE wider (id int PRIMARY KEY, v text);
  INSERT INTO wider SELECT i, 'w' FROM generate_series(1, 100) i;
  CREATE TABLE replaced (id int PRIMARY KEY, v text);
  INSERT INTO replaced SELECT i, 'r' FROM generate_series(1, 10) i;
  CREATE TABLE held (id int PRIMARY KEY, v text);
  INSERT INTO held SELECT i, 'h' FROM generate_series(1, 5000) i;
  CREATE TABLE aborted (id int PRIMARY KEY, v text);
  CREATE TABLE untouched AS SELECT generate_series(1, 1000) AS id;
  CREATE MATERIALIZED VIEW seen AS SELECT count(*) AS rows FROM plain;
  CREATE UNLOGGED TABLE unlogged (id int);
  CREATE SEQUENCE counted;
  SELECT setval('counted', 7);
  CREATE SEQUENCE still;
  SELECT nextval('still');
  CREATE SEQUENCE "un Used";
  CREATE SEQUENCE dropped_seq;
  SELECT lo_from_bytea(70001, 'unchanged'), lo_from_bytea(70002, repeat('x', 3000)::bytea), lo_from_bytea(70003, 'gone');
`;

const CHANGES = `
  INSERT INTO plain SELECT i, i, 'new ' || i FROM generate_series(20001, 20010) i;
  UPDATE plain SET n = -n WHERE id BETWEEN 100 AND 104;
  UPDATE plain SET v = 'moved' WHERE id BETWEEN 9000 AND 9002;
  UPDATE plain SET id = 30000 WHERE id = 15000;
  UPDATE plain SET n = n WHERE id BETWEEN 12000 AND 12100;
  DELETE FROM plain WHERE id BETWEEN 5000 AND 5006;
  UPDATE pairs SET n = 0 WHERE a < 5;
  DELETE FROM pairs WHERE a = 500;
  DELETE FROM nokey WHERE ctid = (SELECT min(ctid) FROM nokey WHERE a = 3);
  UPDATE nokey SET b = 'y' WHERE a = 5;
  INSERT INTO nokey VALUES (1, 'x'), (1, 'x');
  TRUNCATE cut;
  INSERT INTO cut VALUES (1, 'c'), (2, 'new');
  UPDATE packed SET v = 'q' WHERE id = 7;
  VACUUM FULL packed;
  VACUUM FULL packed_only;
  VACUUM FREEZE frozen;
  DROP TABLE dropped;
  CREATE TABLE added (id int);
  INSERT INTO added VALUES (1), (1);
  UPDATE big SET v = v || 'more' WHERE id = 3;
  UPDATE "my Schema"."Odd ""Name""" SET "select" = 'it''s' WHERE "the Key" = 3;
  INSERT INTO parts VALUES (0, 'low');
  ALTER TABLE wider ADD COLUMN more int DEFAULT 5;
  UPDATE wider SET v = 'x' WHERE id = 1;
  ALTER TABLE replaced DROP COLUMN v;
  ALTER TABLE replaced ADD COLUMN v text DEFAULT 's';
  REFRESH MATERIALIZED VIEW seen;
  INSERT INTO unlogged VALUES (1);
  SELECT setval('counted', 1000);
  SELECT setval('"un Used"', 5);
  DROP SEQUENCE dropped_seq;
  CREATE SEQUENCE added_seq;
  SELECT lo_put(70002, 0, 'y'), lo_unlink(70003), lo_create(70004);
`;

/** Every table of a side: its primary key's columns, and what tells its rows apart. */
async function everything(side: Connection): Promise<Map<string, { key: string; rows: string[][] }>> {
  await side.query("SET search_path = pg_catalog");
  const tables = await side.query(
    `SELECT n.nspname AS schema, c.relname AS "table", c.oid::text AS oid FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
      WHERE relkind IN ('r', 'm') AND relpersistence = 'p' 
        AND (nspname IN ('public', 'my Schema') OR c.oid IN ('pg_largeobject'::regclass, 'pg_largeobject_metadata'::regclass))`,
  );
  const found = new Map<string, { key: string; rows: string[][] }>();
  for (const { schema, table, oid } of tables) {
    const [columns] = await side.query(
      `SELECT coalesce((SELECT string_agg(quote_ident(attname), ',' ORDER BY attname) FROM pg_index i JOIN pg_attribute a
         ON attrelid = indrelid AND attnum = ANY(indkey) WHERE indrelid = ${oid} AND indisprimary), '') AS key,
         (SELECT string_agg(quote_ident(attname), ',' ORDER BY attname) FROM pg_attribute
           WHERE attrelid = ${oid} AND attnum > 0 AND NOT attisdropped AND attname <> 'more') AS all`,
    );
    const name = `"${schema}"."${String(table).replaceAll('"', '""')}"`;
    const rows = await side.query(
      `SELECT ROW(${
        columns.key || columns.all
      })::text AS k, ROW(${columns.all})::text AS r FROM ONLY ${name}`,
    );
    found.set(`${schema}.${table}`, {
      key: String(columns.key),
      rows: rows.map(({ k, r }) => [String(k), String(r)]),
    });
  }
  return found;
}

/** Each whole table compared with the other, in the words of the command. */
async function compareAll(one: Compute, other: Compute): Promise<Record<string, string>> {
  await using x = await one.connect();
  await using y = await other.connect();
  const [before, after] = [await everything(x), await everything(y)];
  const found: Record<string, string> = {};
  for (const name of new Set([...before.keys(), ...after.keys()])) {
    const olds = new Map<string, string[]>();
    for (const [key, row] of before.get(name)?.rows ?? []) olds.set(key, [...olds.get(key) ?? [], row]);
    let [added, removed, changed] = [0, 0, 0];
    for (const [key, row] of after.get(name)?.rows ?? []) {
      const old = olds.get(key)?.pop();
      if (old === undefined) added++;
      else if (old !== row) changed++;
    }
    for (const rest of olds.values()) removed += rest.length;
    const where = !after.has(name) ? "a" : !before.has(name) ? "b" : null;
    if (where !== null || added + removed + changed > 0) {
      found[name] = inWords({
        only_in: where,
        added_rows: added,
        removed_rows: removed,
        changed_rows: changed,
      });
    }
  }
  return found;
}

function inWords(
  { only_in, added_rows, removed_rows, changed_rows }: Pick<
    TableDiff,
    "only_in" | "added_rows" | "removed_rows" | "changed_rows"
  >,
): string {
  return `${only_in === null ? "" : `only in ${only_in}: `}+${added_rows} -${removed_rows} ~${changed_rows}`;
}

function told({ tables }: Diff): Record<string, string> {
  return Object.fromEntries(tables!.map((table) => [`${table.schema}.${table.table}`, inWords(table)]));
}

/** Whether this machine has a pg_dump for it: Debian 12 has none for 18. */
function hasPgDump(major: number): boolean {
  try {
    findPgDump(major);
    return true;
  } catch (error) {
    if (error instanceof ZenithError && error.kind === "not_found") return false;
    throw error;
  }
}

for (const major of new Set([TEST_PG_MAJOR, 18])) {
  // How it is asked for, and what it shows, is the same for each major.
  const shown = { skip: major === TEST_PG_MAJOR ? false : `as on ${TEST_PG_MAJOR}` };

  describe(`branch diff, PostgreSQL ${major}`, () => {
    let env: ZenithEnv;
    let main: Compute;
    let first: string;
    let second: string;

    const diff = async (...words: string[]): Promise<Diff> =>
      JSON.parse(await env.zenith("branch", "diff", ...words, "--json")) as Diff;
    const branches = async (): Promise<string[]> =>
      (JSON.parse(await env.zenith("branch", "list", "--json")) as { branch: string }[])
        .map(({ branch }) => branch);
    /** What comparing everything finds between two moments. */
    const oracle = async (a: string, b: string): Promise<Record<string, string>> => {
      await env.branch("old", a);
      await env.branch("now", b);
      const found = await compareAll(await env.startCompute("old"), await env.startCompute("now"));
      for (const name of ["old", "now"]) {
        await env.zenith("pg", "stop", name, "-m", "immediate");
        await env.zenith("branch", "delete", name);
      }
      return found;
    };

    before(async () => {
      env = await ZenithEnv.create({ major });
      // It has all its files; those that are compared fetch theirs.
      main = await env.createCompute("main");
      // With checksums, a vacuum changes every page of a table.
      addSettings(main, "autovacuum = off");
      await env.zenith("pg", "start", "main", "--storage", "eager");
      await using session = await main.connect();
      for (const statement of TABLES.split(";\n")) await session.query(statement);
      // A transaction that has written, and commits when the first moment is over.
      await using late = await main.connect({ autocommit: false });
      await late.query("INSERT INTO held VALUES (10001, 'late')");
      await late.query("SAVEPOINT s");
      await late.query("UPDATE held SET v = 'late' WHERE id = 2500");
      await late.query("RELEASE SAVEPOINT s");
      await using failing = await main.connect({ autocommit: false });
      await failing.query("INSERT INTO aborted VALUES (1, 'never')");
      await session.query("CHECKPOINT");
      first = await main.lsn();
      await late.query("COMMIT");
      await failing.query("ROLLBACK");
      for (const statement of CHANGES.split(";\n")) await session.query(statement);
      second = await main.lsn();
      await session.query("UPDATE plain SET n = 0");
    });
    after(() => env[Symbol.asyncDispose]());

    test("finds the rows that a comparison of everything finds", async () => {
      const [a, b] = [`main@${first}`, `main@${second}`];
      const expected = await oracle(a, b);
      assert.equal(expected["public.held"], "+1 -0 ~1");
      assert.equal(expected["public.plain"], "+11 -8 ~8");
      assert.equal(expected["pg_catalog.pg_largeobject"], "+0 -1 ~1");
      assert.equal(expected["pg_catalog.pg_largeobject_metadata"], "+1 -1 ~0");
      const found = await diff(a, b);
      assert.deepEqual(told(found), expected);
      const plain = found.tables!.find(({ table }) => table === "plain")!;
      assert.ok(plain.changed_pages! > 3 && plain.changed_pages! < 30, `${plain.changed_pages} pages`);
      const cut = found.tables!.find(({ table }) => table === "cut")!;
      assert.equal(cut.changed_pages, null);
      assert.match(cut.notes.join(), /its file is another/);
      assert.match(found.tables!.find(({ table }) => table === "wider")!.notes.join(), /columns differ/);
      // The other way round everything that was added is removed.
      const back = await diff(b, a, "--data");
      assert.deepEqual(
        told(back),
        Object.fromEntries(
          Object.entries(expected).map(([name, words]) => [
            name,
            words.replace(
              /^(?:only in (\w): )?\+(\d+) -(\d+)/,
              (_, where, added, removed) =>
                `${where === undefined ? "" : `only in ${where === "a" ? "b" : "a"}: `}+${removed} -${added}`,
            ),
          ]),
        ),
      );
      assert.deepEqual(await branches(), ["main"]);
    });

    test("finds the sequences that have another position", async () => {
      const { sequences } = await diff(`main@${first}`, `main@${second}`, "--data");
      assert.deepEqual(sequences, [
        { schema: "public", sequence: "added_seq", only_in: "b", before: null, after: null },
        { schema: "public", sequence: "counted", only_in: null, before: "7", after: "1000" },
        { schema: "public", sequence: "dropped_seq", only_in: "a", before: null, after: null },
        { schema: "public", sequence: "un Used", only_in: null, before: null, after: "5" },
      ]);
    });

    test("shows a person a table, and what is the same", shown, async () => {
      const printed = await env.zenith("branch", "diff", `main@${first}`, `main@${second}`, "--data");
      assert.match(printed, /^TABLE +ADDED +REMOVED +CHANGED +PAGES +NOTES$/m);
      assert.match(printed, /^public\.dropped +0 +3 +0 +all +only at main@/m);
      assert.match(printed, /^public\.parts_low +1 +0 +0 +1 +no primary key/m);
      assert.match(printed, /^SEQUENCE +BEFORE +AFTER$/m);
      assert.match(printed, /^public\.added_seq +none +unused$/m);
      assert.match(printed, /^public\.counted +7 +1000$/m);
      assert.doesNotMatch(printed, /public\.still|untouched|packed_only|frozen|aborted|unlogged/);
      assert.equal(
        await env.zenith("branch", "diff", `main@${second}`, `main@${second}`, "--data"),
        "all tables have the same rows\n",
      );
    });

    test("shows the rows of a table by their keys", shown, async () => {
      const [a, b] = [`main@${first}`, `main@${second}`];
      const odd = await env.tryZenith("branch", "diff", a, b, "--rows", 'my Schema.Odd "Name"');
      assert.equal(odd.stdout, `~ "the Key"=3 "select"=NULL -> 'it''s'\n`);
      const quoted = ["branch", "diff", a, b, "--rows", '"my Schema"."Odd ""Name"""', "--json"];
      assert.deepEqual(JSON.parse(await env.zenith(...quoted)), [{
        change: "changed",
        key: { "the Key": 3 },
        before: { "the Key": 3, "select": null },
        after: { "the Key": 3, "select": "it's" },
      }]);
      const plain = (await env.zenith("branch", "diff", a, b, "--rows", "plain")).trim().split("\n");
      assert.deepEqual(plain.filter((line) => line.startsWith("-")).sort(), [
        "- id=15000 n=15000 v='row 15000'",
        ...Array.from({ length: 7 }, (_, i) => `- id=${5000 + i} n=${5000 + i} v='row ${5000 + i}'`),
      ]);
      assert.ok(plain.includes("+ id=30000 n=15000 v='row 15000'"));
      assert.ok(plain.includes("~ id=103 n=103 -> -103"));
      assert.equal(plain.length, 27);
      const cut = await env.tryZenith("branch", "diff", a, b, "--rows", "public.cut");
      assert.equal(cut.stdout.trim().split("\n").length, 99);
      assert.match(cut.stderr, /^public\.cut: compared as a whole/m);
      const added = await env.tryZenith("branch", "diff", a, b, "--rows", "added");
      assert.equal(added.stdout, "+ id=1\n+ id=1\n");
      assert.equal(await env.zenith("branch", "diff", a, b, "--rows", "untouched", "--json"), "[]\n");
      const nowhere = await env.tryZenith("branch", "diff", a, b, "--rows", "nowhere");
      assert.equal(nowhere.code, 4);
      assert.match(nowhere.stderr, /neither side has a table nowhere/);
      assert.equal((await env.tryZenith("branch", "diff", a, b, "--rows", "plain", "--schema")).code, 2);
    });

    test("compares a parent, its children and theirs, while they run", shown, async () => {
      await env.branch("left", `main@${second}`);
      await env.branch("right", `main@${second}`);
      const [left, right] = [await env.startCompute("left"), await env.startCompute("right")];
      await left.query("UPDATE plain SET n = 1 WHERE id = 1; CREATE TABLE both_made AS SELECT 1 AS n");
      await right.query("DELETE FROM plain WHERE id = 2; CREATE TABLE both_made AS SELECT 2 AS n");
      await env.untilArrived("left");
      await env.branch("below", "left");
      const below = await env.startCompute("below");
      await below.query("INSERT INTO pairs VALUES (-1, 'below', 0)");
      for (const [a, b] of [["left", "right"], ["below", "right"], ["main", "below"], ["below", "left"]]) {
        assert.deepEqual(told(await diff(a, b)), await oracle(a, b), `${a} and ${b}`);
      }
      for (const name of ["below", "left", "right"]) {
        await env.zenith("pg", "stop", name, "-m", "immediate");
        await env.zenith("branch", "delete", name);
      }
    });

    test("says what is wrong", shown, async () => {
      const nowhere = await env.tryZenith("branch", "diff", "main", "nowhere");
      assert.equal(nowhere.code, 4);
      const unknown = await env.tryZenith("branch", "diff", "main", "main", "--data", "--db", "shop");
      assert.equal(unknown.code, 4);
      assert.match(unknown.stderr, /there is no database shop at main[^]*--db/);
      const before = await env.tryZenith("branch", "diff", "main@2001-01-01T00:00:00Z", "main");
      assert.equal(before.code, 2);
      assert.match(before.stderr, /is before the history of timeline/);
      assert.deepEqual(await branches(), ["main"]);
    });

    if (hasPgDump(major)) {
      test("shows the schemas as pg_dump writes them, in a unified diff", async () => {
        const { schema } = await diff(`main@${first}`, `main@${second}`, "--schema");
        assert.match(schema!, /^--- main@.*\n\+\+\+ main@.*\n@@ -\d+,\d+ \+\d+,\d+ @@$/m);
        assert.match(schema!, /^-CREATE TABLE public\.dropped \($/m);
        assert.match(schema!, /^\+CREATE TABLE public\.added \($/m);
        assert.match(schema!, /^\+ {4}more integer DEFAULT 5$/m);
        assert.doesNotMatch(schema!, /restrict|CREATE TABLE public.plain/);
        const same = await env.zenith("branch", "diff", `main@${first}`, `main@${first}`);
        assert.equal(same, "the schemas are the same\n\nall tables have the same rows\n");
      });
    } else {
      test("says that there is no pg_dump for it, and compares the rows all the same", async () => {
        const result = await env.tryZenith("branch", "diff", `main@${second}`, `main@${second}`);
        assert.equal(result.code, 0);
        assert.equal(result.stdout, "all tables have the same rows\n");
        assert.match(
          result.stderr,
          new RegExp(`there is no pg_dump for PostgreSQL ${major}[^]*postgresql-client-${major}`),
        );
        assert.equal((await env.tryZenith("branch", "diff", "main", "main", "--schema")).code, 4);
      });
    }

    test("compares a branch that outlives the history around it", async () => {
      await env.branch("anchor", `main@${first}`);
      await main.query("UPDATE pairs SET n = n + 1; CHECKPOINT");
      await env.untilArrived();
      await using pages = await env.pageserver.connect();
      const timeline = JSON.parse(await env.zenith("branch", "get", "main", "--json")).timeline_id;
      await env.zenith(
        "tenant",
        "config",
        env.defaultTenant,
        "--gc-horizon-bytes",
        "0",
        "--pitr-interval",
        "0s",
      );
      await pages.query(`do_gc ${env.defaultTenant} ${timeline} 0`);
      const gone = await env.tryZenith("branch", "diff", `main@${second}`, "main", "--data");
      assert.equal(gone.code, 2);
      assert.match(gone.stderr, /not kept any more|before the history/);
      const expected = await oracle("anchor", "main");
      assert.equal(expected["public.held"], "+1 -0 ~1");
      assert.deepEqual(told(await diff("anchor", "main", "--data")), expected);
      await env.zenith("branch", "delete", "anchor");
    });
  });
}
