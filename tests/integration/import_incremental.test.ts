/** Incremental backups of PostgreSQL 17 and later, imported together with the backups that they build on. */
import assert from "node:assert/strict";
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parseTenantId } from "../../src/common/id.ts";
import { backUpUnpacked } from "../harness/incremental_backup.ts";
import { amcheck } from "../harness/programs.ts";
import { StockCluster } from "../harness/stock_cluster.ts";
import { ZenithEnv } from "../harness/zenith_env.ts";

const MAJOR = 18;

const SEED = `
  CREATE TABLE updated (id int PRIMARY KEY, v text) WITH (fillfactor = 50);
  INSERT INTO updated SELECT n, md5(n::text) FROM generate_series(1, 20000) n;
  CREATE TABLE shrunk AS SELECT n AS id, repeat('x', 500) AS v FROM generate_series(1, 2000) n;
  CREATE TABLE grown AS SELECT n AS id, repeat('y', 500) AS v FROM generate_series(1, 100) n;
  CREATE TABLE untouched AS SELECT n AS id, repeat('z', 100) AS v FROM generate_series(1, 1000) n;
  CREATE TABLE dropped AS SELECT 1 AS id, ''::text AS v;
  CREATE TABLE rewritten AS SELECT n AS id, 'w' AS v FROM generate_series(1, 1000) n;
`;

/** Shrunk ends in the first third of what it was, then grows again: blocks beyond are not the old ones. */
const CHANGES = [
  `UPDATE updated SET v = 'once' WHERE id % 997 = 0;
   DELETE FROM shrunk WHERE id > 600; VACUUM shrunk;
   INSERT INTO grown SELECT n, repeat('y', 500) FROM generate_series(101, 3000) n;
   DROP TABLE dropped;
   CREATE TABLE added AS SELECT n AS id, 'a' AS v FROM generate_series(1, 1000) n;
   VACUUM FULL rewritten;`,
  `UPDATE updated SET v = 'twice' WHERE id % 1999 = 0;
   INSERT INTO shrunk SELECT n, repeat('n', 500) FROM generate_series(5001, 5800) n;
   UPDATE grown SET v = 'g' WHERE id < 50;
   INSERT INTO added SELECT n, 'b' FROM generate_series(1001, 2000) n;`,
];

const TABLES = ["updated", "shrunk", "grown", "untouched", "rewritten", "added"];
const CONTENT = TABLES.map((table) =>
  `SELECT '${table}' AS t, count(*)::int AS n, sum(hashtextextended(t::text, 0))::text AS h FROM ${table} t`
).join(" UNION ALL ");

describe("incremental backups", () => {
  let env: ZenithEnv;
  let cluster: StockCluster;
  let chain: string[];
  let expected: unknown;

  before(async () => {
    cluster = await StockCluster.start({
      major: MAJOR,
      dataChecksums: true,
      settings: { summarize_wal: "on", autovacuum: "off" },
    });
    const run = async (sql: string) => {
      for (const statement of sql.split(";").filter((text) => text.trim() !== "")) {
        await cluster.sql.unsafe(statement);
      }
    };
    chain = ["full", "first", "second"].map((name) => join(cluster.directory, name));
    await run(SEED);
    await backUpUnpacked(cluster, chain[0], null);
    for (const [i, changes] of CHANGES.entries()) {
      await run(changes);
      await backUpUnpacked(cluster, chain[i + 1], chain[i]);
    }
    expected = [...await cluster.sql.unsafe(CONTENT)];
    env = await ZenithEnv.create();
  });
  after(async () => {
    await env?.[Symbol.asyncDispose]();
    await cluster?.[Symbol.asyncDispose]();
  });

  const args = ([full, ...others]: readonly string[]) => [
    full,
    ...others.flatMap((directory) => ["--incremental", directory]),
  ];

  test("are put together with the full one, to what the cluster was at the end of the last", async () => {
    const files = readdirSync(chain[2], { recursive: true, encoding: "utf8" });
    assert.ok(files.some((name) => name.includes("INCREMENTAL.")));
    const imported = JSON.parse(await env.zenith("import", ...args(chain), "--as", "prod", "--json"));
    assert.equal(imported.pg_version, MAJOR);
    assert.equal(imported.verified, "newest");
    const tenant = parseTenantId(imported.tenant_id);
    const pg = await env.startCompute("prod", tenant);
    assert.deepEqual(await pg.query(CONTENT, { user: "postgres" }), expected);
    await amcheck(pg, ["postgres"]);
    await pg.stop();
    // One of them is enough to begin with.
    const early = JSON.parse(
      await env.zenith("import", ...args(chain.slice(0, 2)), "--as", "early", "--json"),
    );
    const first = await env.startCompute("early", parseTenantId(early.tenant_id));
    assert.equal(await first.value("SELECT count(*)::int FROM added", [], { user: "postgres" }), 1000);
    await first.stop();
  });

  test("are refused when they don't follow each other", async () => {
    const refused = async (directories: readonly string[], why: RegExp) => {
      const failed = await env.tryZenith("import", ...args(directories), "--as", "x");
      assert.notEqual(failed.code, 0);
      assert.match(failed.stderr, why);
    };
    const [full, first, second] = chain;
    await refused([full, second], /second builds on the backup that starts at .*full starts at/);
    await refused(
      [first, second],
      /first is an incremental backup: the full one that it builds on comes first/,
    );
    await refused([full, full], /full is a full backup: it builds on no other/);
    await refused([first], /this is an incremental backup/);
    await refused(
      [full, join(cluster.directory, "nowhere")],
      /is no unpacked backup: it has no backup_label/,
    );
    await using other = await StockCluster.start({ major: MAJOR, settings: { summarize_wal: "on" } });
    const foreign = join(other.directory, "full");
    await backUpUnpacked(other, foreign, null);
    const mixed = join(other.directory, "mixed");
    cpSync(first, mixed, { recursive: true });
    // The same place in another cluster's WAL.
    const label = readFileSync(join(mixed, "backup_label"), "utf8");
    const start = /^START WAL LOCATION: (\S+)/m.exec(readFileSync(join(foreign, "backup_label"), "utf8"))![1];
    writeFileSync(
      join(mixed, "backup_label"),
      label.replace(/^INCREMENTAL FROM LSN: .*$/m, `INCREMENTAL FROM LSN: ${start}`),
    );
    await refused([foreign, mixed], /full is of system \d+, .*mixed of system \d+/);
  });

  test("are refused when one is damaged", async () => {
    const damage = async (change: (directory: string, name: string) => void, which: number, why: RegExp) => {
      const copy = join(cluster.directory, "copy");
      cpSync(chain[which], copy, { recursive: true });
      const name = readdirSync(copy, { recursive: true, encoding: "utf8" })
        .filter((name) => name.includes("INCREMENTAL.") && readFileSync(join(copy, name)).length > 8192)[0];
      change(copy, name);
      const failed = await env.tryZenith("import", ...args(chain.with(which, copy)), "--as", "x");
      rmSync(copy, { recursive: true });
      assert.notEqual(failed.code, 0);
      assert.match(failed.stderr, why);
    };
    const flip = (directory: string, name: string) => {
      const bytes = readFileSync(join(directory, name));
      bytes[bytes.length - 100] ^= 1;
      writeFileSync(join(directory, name), bytes);
    };
    await damage(flip, 2, /INCREMENTAL\.\S+ has the CRC32C checksum/);
    await damage((directory, name) => rmSync(join(directory, name)), 2, /INCREMENTAL\.\S+ is missing/);
    const cut = (directory: string, name: string) => {
      writeFileSync(join(directory, name), readFileSync(join(directory, name)).subarray(0, -8192));
    };
    await damage(cut, 1, /the backup is damaged: \S+INCREMENTAL\.\S+ has \d+ bytes, expected \d+/);
  });
});
