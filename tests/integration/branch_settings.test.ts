/** The settings of a branch: kept with it, inherited, and as they were then in the past. */
import assert from "node:assert/strict";
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parseBranchName } from "../../src/common/id.ts";
import { readSettingsFiles } from "../../src/compute/postgres/settings_files.ts";
import { decodeSettings, settingsHash } from "../../src/protocol/branch_settings.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

for (const major of [15, 18]) {
  describe(`the settings of a branch, PostgreSQL ${major}`, () => {
    let env: ZenithEnv;
    let main: Compute;
    let lsnBefore: string;

    before(async () => {
      env = await ZenithEnv.create({ major });
      main = await env.startCompute("main");
      await main.query("ALTER SYSTEM SET work_mem = '5MB'");
      await untilKept(main);
      await main.query("CREATE TABLE t AS SELECT 42 AS n");
      lsnBefore = await main.lsn();
      await main.query("CREATE ROLE app LOGIN PASSWORD 'right'");
    });
    after(() => env?.[Symbol.asyncDispose]());

    /** The supervisor looks at the files now and then. */
    async function untilKept(pg: Compute): Promise<void> {
      await using client = env.pageserver.client();
      const branch = (await client.branchList(pg.tenant)).find(({ name }) => name === pg.branch)!;
      await until("the page server has its settings", async () => {
        const { settings } = await client.timelineSettings(pg.tenant, branch.timeline_id);
        const local = readSettingsFiles(pg.paths.pgdata);
        return settings !== null && settingsHash(decodeSettings(settings)) === settingsHash(local);
      });
    }

    test("are its parent's: who gets in, what ALTER SYSTEM has set, what it needs to start", async () => {
      const hba = join(main.paths.pgdata, "pg_hba.conf");
      writeFileSync(hba, `host all app all scram-sha-256\n${readFileSync(hba, "utf8")}`);
      writeFileSync(join(main.paths.pgdata, "server.crt"), "a certificate\n");
      await env.zenith("pg", "config", "main", "max_prepared_transactions=7");
      await main.query("ALTER SYSTEM SET work_mem = '6MB'");
      await main.restart();
      await main.query("BEGIN; INSERT INTO t VALUES (43); PREPARE TRANSACTION 'open'");
      await env.branch("dev", "main");
      const dev = await env.startCompute("dev");
      assert.equal(await dev.value("SHOW work_mem"), "6MB");
      await dev.query("COMMIT PREPARED 'open'");
      assert.equal(await dev.value("SELECT sum(n)::int FROM t"), 85);
      await assert.rejects(dev.connect({ user: "app", password: "wrong" }), /password/);
      await using app = await dev.connect({ user: "app", password: "right" });
      assert.equal(await app.value("SELECT 1"), 1);
      assert.equal(readFileSync(join(dev.paths.pgdata, "server.crt"), "utf8"), "a certificate\n");
      assert.notEqual(dev.address.port, main.address.port);
      await main.query("ROLLBACK PREPARED 'open'");
    });

    test("are in the past what they were then, also after the page server was killed", async () => {
      await env.pageserver.kill9();
      await env.pageserver.start();
      await env.branch("past", `main@${lsnBefore}`);
      const past = await env.startCompute("past");
      assert.equal(await past.value("SHOW work_mem"), "5MB");
      assert.equal(await past.value("SHOW max_prepared_transactions"), "0");
      await past.stop();
    });

    test("are there when its Postgres is made elsewhere, and changed there are changed here", async () => {
      await env.branch("roaming", "main");
      const roaming = await env.startCompute("roaming");
      appendFileSync(join(roaming.paths.pgdata, "postgresql.conf"), "maintenance_work_mem = '9MB'\n");
      await untilKept(roaming);
      await env.zenith("pg", "stop", "roaming", "--destroy");
      assert.match(await env.zenith("pg", "config", "roaming", "maintenance_work_mem"), /9MB/);
      await env.zenith("pg", "config", "roaming", "maintenance_work_mem=10MB");
      const again = await env.createCompute("roaming");
      await again.start();
      assert.equal(await again.value("SHOW maintenance_work_mem"), "10MB");
      await again.stop();
    });

    test("are shown, set and unset by zenith pg config", async () => {
      await env.branch("shown", "main");
      const shown = await env.startCompute("shown");
      const config = (...args: string[]) => env.zenith("pg", "config", "shown", ...args);
      assert.match(await config(), /^work_mem +6MB$/m);
      assert.equal(await config("work_mem=8MB"), "work_mem = 8MB\n");
      assert.match(await config("shared_buffers=1MB"), /from the next start/);
      assert.equal(await shown.value("SELECT setting FROM pg_file_settings WHERE name = 'work_mem'"), "8MB");
      const wrong = await env.tryZenith("pg", "config", "shown", "work_mem=many");
      assert.equal(wrong.code, 2);
      assert.match(wrong.stderr, /invalid value for parameter "work_mem": "many"/);
      await shown.restart();
      assert.equal(await shown.value("SHOW shared_buffers"), "1MB");
      assert.equal(await shown.value("SHOW work_mem"), "8MB");
      await config("work_mem", "--unset");
      await shown.stop();
      await config("shared_buffers", "--unset");
      assert.doesNotMatch(await config(), /work_mem +8MB|shared_buffers/);
      await shown.start();
      assert.equal(await shown.value("SHOW work_mem"), "4MB");
      const own = await env.tryZenith("pg", "config", "shown", "port=1");
      assert.match(own.stderr, /port belongs to one Postgres/);
      await shown.stop();
    });

    test("are given at pg create, with where it listens, which no branch of it has", async () => {
      await env.branch("made", "main");
      await env.zenith(
        "pg",
        "create",
        "made",
        "-c",
        "work_mem=3MB",
        "-c",
        "archive_mode=on",
        "--listen",
        "*",
      );
      await env.zenith("pg", "start", "made");
      const printed = JSON.parse(await env.zenith("pg", "config", "made", "--json"));
      assert.equal(printed.work_mem, "3MB");
      await env.branch("child", "made");
      const made = await env.zenith("pg", "create", "child");
      assert.match(made, /archive_mode of branch child is off/);
      const conf = readFileSync(
        env.paths.compute(env.defaultTenant, parseBranchName("child")).config,
        "utf8",
      );
      assert.match(conf, /listen_addresses = '127\.0\.0\.1'/);
      await env.zenith("pg", "stop", "made");
    });
  });
}
