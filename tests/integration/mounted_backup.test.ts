/** A branch of a backup that is not copied yet: its pages are read from the repository when they are needed. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parseTenantId, type TenantId } from "../../src/common/id.ts";
import { findProgram } from "../../src/process/find_program.ts";
import { PgBackRest } from "../harness/pgbackrest.ts";
import { amcheck } from "../harness/programs.ts";
import { StockCluster } from "../harness/stock_cluster.ts";
import { until, ZenithEnv } from "../harness/zenith_env.ts";

/** What Debian's pgBackRest goes with. */
const MAJOR = 15;
const PASSPHRASE = "a passphrase";
const OPENS = { PGBACKREST_REPO1_CIPHER_PASS: PASSPHRASE };
const AS = { user: "postgres" };

const content = (table: string) =>
  `SELECT count(*) || ' ' || sum(hashtextextended(v::text, 0)) FROM ${table} v`;

const skip = findProgram("pgbackrest") === undefined ? "there is no pgbackrest here" : false;

describe("a backup that is not copied yet", { skip }, () => {
  let env: ZenithEnv;
  let cluster: StockCluster;
  let tool: PgBackRest;

  before(async () => {
    env = await ZenithEnv.create({ safekeepers: 0 });
    cluster = await StockCluster.start({ major: MAJOR });
    tool = new PgBackRest(cluster, [{
      bundle: "y",
      "cipher-type": "aes-256-cbc",
      "cipher-pass": PASSPHRASE,
    }]);
    await tool.startArchiving();
  });
  after(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await env?.[Symbol.asyncDispose]();
  });

  async function followed(tenant: TenantId) {
    const list = JSON.parse(await env.zenith("follow", "list", "--json")) as {
      readonly tenant_id: string;
      readonly state: string;
      readonly problem: string | null;
      readonly lag_bytes: number | null;
      readonly uncopied_bytes: number | null;
    }[];
    return list.find(({ tenant_id }) => tenant_id === tenant)!;
  }

  /** The repository's file of a relation that is not in a bundle. */
  async function storedFile(relation: string): Promise<string> {
    const [row] = await cluster.sql.unsafe(`SELECT pg_relation_filepath('${relation}') AS path`);
    const backups = join(tool.repository(1), "backup", "main");
    const [full] = readdirSync(backups).filter((name) => /^\d{8}-\d{6}F$/.test(name));
    return join(backups, full!, "pg_data", `${row!["path"]}.gz`);
  }

  test("can be read at once, through a fault, kills and all that was written during it", async () => {
    const { sql } = cluster;
    const filled = (n: number) => `SELECT n, repeat(md5(n::text), 4) FROM generate_series(1, ${n}) n`;
    for (const table of ["hot", "cold"]) {
      await sql.unsafe(
        `CREATE TABLE ${table} (n int PRIMARY KEY, v text); INSERT INTO ${table} ${filled(20_000)}`,
      );
    }
    await sql.unsafe("CREATE TABLE gone AS TABLE cold; CREATE UNLOGGED TABLE scratch AS TABLE cold");
    await tool.run("backup", "--type=full", "--compress-type=gz");
    // What an incremental backup copies while it changes is of different moments.
    let isBackingUp = true;
    const writing = (async () => {
      for (let i = 0; isBackingUp || i <= 3; i++) {
        await sql.unsafe(`UPDATE hot SET v = 'changed ${i}' WHERE n % 50 = ${i % 50}`);
        await sql.unsafe(`INSERT INTO hot SELECT max(n) + 1, 'added' FROM hot`);
        if (i !== 3) continue;
        await sql.unsafe("DROP TABLE gone; CREATE TABLE late AS TABLE cold");
        await sql.unsafe("CREATE DATABASE other STRATEGY file_copy");
      }
    })();
    await tool.run("backup", "--type=incr");
    isBackingUp = false;
    await writing;
    for (const text of ["DELETE FROM cold WHERE n % 1000 = 0", "VACUUM cold", "VACUUM (FULL) late"]) {
      await sql.unsafe(text);
    }
    await tool.archiveAll();
    const expected = async (table: string) => Object.values((await sql.unsafe(content(table)))[0]!)[0];

    // One file is not there: the backup can't be copied to its end yet.
    const stored = await storedFile("cold");
    renameSync(stored, `${stored}.away`);
    const made = await env.tryZenithWith(
      OPENS,
      ...["follow", "prod", "--archive", tool.repository(1), "--lazy", "--json"],
    );
    assert.equal(made.code, 0, made.stderr);
    const { tenant_id, timeline_id, history_begins_lsn } = JSON.parse(made.stdout);
    const tenant = parseTenantId(tenant_id);
    const mount = join(env.paths.pageserver.tenants, tenant, "timelines", timeline_id, "mount");
    await until("all WAL of the archive is here", async () => {
      const { state, lag_bytes } = await followed(tenant);
      return state === "waiting" && lag_bytes === 0;
    });
    await env.onBranch("first", "prod", tenant, async (pg) => {
      assert.equal(await pg.value(content("hot"), [], AS), await expected("hot"));
      assert.equal(await pg.value(content("late"), [], AS), await expected("late"));
      assert.equal(await pg.value("SELECT count(*)::int FROM scratch", [], AS), 0);
      assert.equal(await pg.value("SELECT to_regclass('gone')", [], AS), null);
      await assert.rejects(pg.value(content("cold"), [], AS), /could not read/);
      await pg.query("INSERT INTO hot VALUES (-1, 'mine')", AS);
    });
    await until(
      "the list says what can't be read",
      async () =>
        /^backup \S+I of .*, of which not all is copied yet, can't be read: there is no .*\.gz/.test(
          (await followed(tenant)).problem ?? "",
        ),
    );
    assert.ok((await followed(tenant)).uncopied_bytes! > 0);
    assert.ok(existsSync(mount));

    const [high, low] = String(history_begins_lsn).split("/");
    const before = `${high}/${(parseInt(low!, 16) - 8).toString(16).toUpperCase()}`;
    const early = await env.tryZenith("branch", "early", `prod@${before}`, "--tenantid", tenant);
    assert.match(early.stderr, new RegExp(`history begins at ${history_begins_lsn}`));

    // What could not be read is looked for again after a restart.
    await env.pageserver.kill9();
    renameSync(`${stored}.away`, stored);
    await env.pageserver.start();
    await env.onBranch("second", "prod", tenant, async (pg) => {
      assert.equal(await pg.value(content("cold"), [], AS), await expected("cold"));
    });
    await until("all is copied", () => !existsSync(mount));
    assert.equal((await followed(tenant)).uncopied_bytes, 0);

    rmSync(join(tool.repository(1), "backup"), { recursive: true });
    await env.pageserver.kill9();
    await env.pageserver.start();
    await env.onBranch("third", "prod", tenant, async (pg) => {
      for (const table of ["hot", "cold", "late"]) {
        assert.equal(await pg.value(content(table), [], AS), await expected(table));
      }
      await amcheck(pg, ["postgres", "other"]);
    });
  });
});
