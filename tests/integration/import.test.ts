/** Clusters that others run become tenants: base backups taken under load, and stopped clusters. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parseTenantId, type TenantId } from "../../src/common/id.ts";
import { backUp } from "../harness/backup.ts";
import { amcheck } from "../harness/programs.ts";
import { contentOf, Production } from "../harness/production.ts";
import { RestoredBackup } from "../harness/restored_backup.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

const NEWEST = 18;

interface Imported {
  readonly tenant_id: TenantId;
  readonly pg_version: number;
  readonly history_begins_lsn: string;
  readonly latest_valid_lsn: string;
  readonly verified: string;
}

async function importInto(env: ZenithEnv, ...args: string[]): Promise<Imported> {
  const imported = JSON.parse(await env.zenith("import", ...args, "--json")) as Imported;
  return { ...imported, tenant_id: parseTenantId(imported.tenant_id) };
}

const contentOfCompute = (pg: Compute) =>
  contentOf(async (database, sql) => {
    const rows = await pg.query(sql, { database, user: "postgres" });
    return rows.map((row) => Object.values(row)[0]);
  });

const contentOfBackup = (backup: RestoredBackup) =>
  contentOf(async (database, sql) => {
    const rows = await backup.sql(database).unsafe(sql);
    return rows.map((row) => Object.values(row)[0]);
  });

async function assertSound(pg: Compute): Promise<void> {
  await amcheck(pg, ["postgres", "other_1"]);
}

describe("an import", () => {
  let env: ZenithEnv;

  before(async () => {
    env = await ZenithEnv.create();
  });
  after(() => env?.[Symbol.asyncDispose]());

  for (const major of [15, NEWEST]) {
    test(`of a backup of PostgreSQL ${major} under load is what a stock server recovers from it`, async () => {
      await using production = await Production.start({ major });
      await using stock = new RestoredBackup(major, "", "postgres");
      const backup = join(stock.directory, "backup");
      await production.startLoad();
      const taking = backUp(production.cluster, backup);
      await production.roundsMore(2);
      await taking;
      await production.stopLoad();

      const imported = await importInto(env, backup, "--as", "prod");
      assert.equal(imported.pg_version, major);
      assert.equal(imported.verified, "checksums");
      stock.unpackTar(backup);
      stock.start("max_prepared_transactions = 50");
      const expected = await contentOfBackup(stock);

      const tenant = imported.tenant_id;
      const pg = await env.startCompute("prod", tenant);
      assert.deepEqual(await contentOfCompute(pg), expected);
      await assertSound(pg);
      assert.match(await env.zenith("uri", "prod", "--tenantid", tenant), /^postgres:\/\/postgres:[^@]+@/);

      // The first moment that can be had is the backup's end, and everything works from there.
      await env.branch("first", `prod@${imported.history_begins_lsn}`, tenant);
      const first = await env.startCompute("first", tenant);
      await assertSound(first);
      const total = "SELECT sum(balance) FROM accounts";
      const as = { user: "postgres" };
      assert.equal(String(await first.value(total, [], as)), String(await pg.value(total, [], as)));
      await first.query("UPDATE accounts SET balance = 0; CREATE TABLE mine AS SELECT 1 AS n", as);
      await first.restart();
      assert.equal(await first.value("SELECT n FROM mine", [], as), 1);
      const before = await env.tryZenith("branch", "no", "prod@0/2000028", "--tenantid", tenant);
      assert.match(before.stderr, new RegExp(`history begins at ${imported.history_begins_lsn}`));
      await first.stop();
      await pg.stop();
    });
  }

  test("of a stopped cluster with a tablespace, with checksums and small segments, has all of it", async () => {
    await using production = await Production.start({ segmentMiB: 1, dataChecksums: true });
    const { cluster } = production;
    const location = join(cluster.directory, "space");
    spawnSync("install", ["-d", "-o", "postgres", location]);
    await cluster.sql.unsafe(`CREATE TABLESPACE space LOCATION '${location}'`);
    await cluster.sql.unsafe("CREATE TABLE far TABLESPACE space AS SELECT generate_series(1, 1000) n");
    await production.startLoad();
    await production.stopLoad();
    const expected = await contentOf(async (database, sql) => {
      const session = cluster.session(database);
      try {
        return (await session.unsafe(sql)).map((row) => Object.values(row)[0]);
      } finally {
        await session.end();
      }
    });
    assert.match(
      (await env.tryZenith("import", cluster.dataDir)).stderr,
      /a server runs on .*\nhint: stop the server, or take a base backup/,
    );
    await cluster.stopPostgres();
    const imported = await importInto(env, cluster.dataDir);
    assert.equal(imported.verified, "none");
    const pg = await env.startCompute("main", imported.tenant_id);
    // A clean stop keeps the rows of unlogged tables; an import does not.
    const passing = await pg.value("SELECT count(*)::int FROM passing", [], { user: "postgres" });
    assert.equal(passing, 0);
    const found = await contentOfCompute(pg);
    assert.deepEqual({ ...found, "postgres.passing": null }, { ...expected, "postgres.passing": null });
    await assertSound(pg);
    await pg.stop();
  });
});
