/** A branch follows the archive of a cluster that somebody runs: its servers are never asked for anything. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { generateTenantId, parseTenantId, type TenantId } from "../../src/common/id.ts";
import { makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { findProgram } from "../../src/process/find_program.ts";
import { backUp } from "../harness/backup.ts";
import { zenithCommand } from "../harness/cli.ts";
import { PgBackRest } from "../harness/pgbackrest.ts";
import { RestoredBackup } from "../harness/restored_backup.ts";
import { StockCluster } from "../harness/stock_cluster.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

/** What Debian's pgBackRest goes with. */
const MAJOR = 15;
const PASSPHRASE = "a passphrase";
const AS = { user: "postgres" };

interface Followed {
  readonly tenant_id: string;
  readonly source: string;
  readonly state: string;
  readonly problem: string | null;
  readonly slot: string | null;
  readonly wal_timeline: number;
  readonly lag_bytes: number | null;
}

describe("a branch that follows an archive", () => {
  let env: ZenithEnv;

  before(async () => {
    env = await ZenithEnv.create({ safekeepers: 0 });
  });
  after(() => env?.[Symbol.asyncDispose]());

  async function follow(args: readonly string[], variables: Readonly<Record<string, string>> = {}) {
    const result = await env.tryZenithWith(variables, "follow", "prod", ...args, "--json");
    assert.equal(result.code, 0, result.stderr);
    return parseTenantId(JSON.parse(result.stdout).tenant_id);
  }

  async function followed(tenant: TenantId): Promise<Followed> {
    const list = JSON.parse(await env.zenith("follow", "list", "--json")) as Followed[];
    return list.find(({ tenant_id }) => tenant_id === tenant)!;
  }

  /** Waits until the branch has all of an archive whose last segment has a commit in it. */
  async function untilArrived(tenant: TenantId, timeline = 1): Promise<void> {
    await until("all WAL of the archive is here", async () => {
      const { state, problem, lag_bytes, wal_timeline } = await followed(tenant);
      assert.notEqual(state, "failed", problem ?? "");
      return state === "waiting" && lag_bytes === 0 && wal_timeline === timeline;
    });
  }

  const count = (pg: Compute) => pg.value("SELECT count(*)::int FROM t", [], AS);

  const skip = findProgram("pgbackrest") === undefined ? "there is no pgbackrest here" : false;
  test("of pgBackRest has each segment soon after it was archived, through a restart", { skip }, async () => {
    await using cluster = await StockCluster.start({ major: MAJOR });
    const tool = new PgBackRest(cluster, [{ "cipher-type": "aes-256-cbc", "cipher-pass": PASSPHRASE }]);
    await tool.startArchiving();
    await cluster.sql.unsafe("CREATE TABLE t AS SELECT generate_series(1, 1000) n");
    await tool.run("backup", "--type=full", "--compress-type=lz4");
    await cluster.sql.unsafe("INSERT INTO t SELECT generate_series(1, 1000)");
    await tool.archiveAll();

    const archive = tool.repository(1);
    const tenant = await follow(["--archive", archive], { PGBACKREST_REPO1_CIPHER_PASS: PASSPHRASE });
    await untilArrived(tenant);
    const { source, slot } = await followed(tenant);
    assert.equal(source, `archive ${archive}`);
    assert.equal(slot, null);
    assert.equal(await env.onBranch("first", "prod", tenant, count), 2000);

    await env.pageserver.kill9();
    await cluster.sql.unsafe("INSERT INTO t SELECT generate_series(1, 100000)");
    await tool.archiveAll();
    await env.pageserver.start();
    await untilArrived(tenant);
    await env.onBranch("second", "prod", tenant, async (pg) => {
      assert.equal(await count(pg), 102_000);
      await pg.query("CREATE TABLE mine ()", AS);
    });

    await env.zenith("follow", "stop", "prod", "--tenantid", tenant);
    assert.equal((await followed(tenant)).state, "stopped");
    await env.zenith("follow", "resume", "prod", "--tenantid", tenant);
    const other = await env.tryZenith("follow", "resume", "prod", "--tenantid", tenant, "--from", "host=h");
    assert.match(other.stderr, /branch prod follows archive .*, not a primary/);
    await env.zenith("follow", "remove", "prod", "--tenantid", tenant);
    assert.equal(await followed(tenant), undefined);
  });

  /** Two servers that archive by cp into one directory, the second one a standby of the first. */
  async function failover(
    work: (found: {
      readonly archive: string;
      readonly base: string;
      readonly primary: StockCluster;
      readonly standby: RestoredBackup;
      readonly segments: () => string[];
    }) => Promise<void>,
  ): Promise<void> {
    const archive = join(env.dir, "archive");
    rmSync(archive, { recursive: true, force: true });
    mkdirSync(archive);
    makeOwnedDirectory(archive, pgUser());
    await using primary = await StockCluster.start({
      settings: { archive_mode: "on", archive_command: `'cp %p ${archive}/%f'`, wal_keep_size: "'1GB'" },
    });
    await primary.sql.unsafe("CREATE TABLE t AS SELECT generate_series(1, 1000) n");
    const base = join(primary.directory, "base");
    await backUp(primary, base, "-Fp", "-Xnone");
    await using standby = new RestoredBackup(env.major, "", "postgres");
    const copy = ["-Fp", "-R", "-Xstream", "-C", "-S", "standby"];
    await backUp(primary, standby.dataDir, ...copy);
    standby.start();
    const segments = () => readdirSync(archive).filter((name) => /^[0-9A-F]{24}$/.test(name)).sort();
    await work({ archive, base, primary, standby, segments });
  }

  /** Ends the segment, and waits until the archive has it. */
  async function archiveAll(sql: (text: string) => Promise<unknown>, archive: string): Promise<string> {
    await sql("SELECT pg_logical_emit_message(true, 'test', 'end')");
    const name = String(await sql("SELECT pg_walfile_name(pg_switch_wal())"));
    await until(`${name} is archived`, () => existsSync(join(archive, name)));
    return name;
  }

  test("does not exist when its base copy is killed midway, and can begin again", async () => {
    await failover(async ({ archive, primary }) => {
      const onPrimary = async (text: string) => Object.values((await primary.sql.unsafe(text))[0] ?? {})[0];
      const tars = join(primary.directory, "tars");
      await backUp(primary, tars, "-Ft", "-Xnone");
      await archiveAll(onPrimary, archive);
      const tenant = generateTenantId();
      const args = ["follow", "prod", "--archive", archive, "--base", "-", "--tenantid", tenant];
      const names = () => readdirSync(env.paths.pageserver.tenants).filter((name) => name.startsWith(tenant));
      /** Sends a part of the base, and returns while the page server waits for the rest. */
      const begin = async () => {
        const [file, ...words] = [...zenithCommand(), ...args];
        const client = spawn(file!, words, {
          env: { ...process.env, ZENITH_REPO_DIR: env.repoDir },
          stdio: ["pipe", "ignore", "ignore"],
        });
        client.stdin.on("error", () => {});
        client.stdin.write(readFileSync(join(tars, "base.tar")).subarray(0, 5 << 20));
        await until("the copy has begun", () => names().includes(`${tenant}.creating`));
        return client;
      };
      const left = await begin();
      left.kill("SIGKILL");
      await until("nothing of it is left", () => names().length === 0);
      const orphan = await begin();
      await env.pageserver.kill9();
      orphan.kill("SIGKILL");
      await env.pageserver.start();
      assert.deepEqual(names(), []);
      assert.equal(await followed(tenant), undefined);
      await follow(["--archive", archive, "--base", tars, "--tenantid", tenant]);
      await untilArrived(tenant);
      assert.equal(await env.onBranch("whole", "prod", tenant, count), 1000);
      await env.zenith("follow", "remove", "prod", "--tenantid", tenant);
    });
  });

  test("by cp goes through a failover, with what the old primary archived too late", async () => {
    await failover(async ({ archive, base, primary, standby, segments }) => {
      const onPrimary = async (text: string) => Object.values((await primary.sql.unsafe(text))[0] ?? {})[0];
      const onStandby = (text: string) => standby.value(text);
      await archiveAll(onPrimary, archive);
      const tenant = await follow(["--archive", archive, "--base", base]);
      await primary.sql.unsafe("INSERT INTO t SELECT generate_series(1, 1000)");
      const shared = String(await onPrimary("SELECT pg_current_wal_flush_lsn()"));
      await until(
        "the standby has it",
        async () => await standby.value(`SELECT pg_last_wal_replay_lsn() >= '${shared}'`) === true,
      );
      // The standby is away: what the primary writes from now on is lost, though it is archived.
      const receiver = "ALTER SYSTEM SET primary_conninfo = ''; SELECT pg_reload_conf()";
      for (const part of receiver.split("; ")) await standby.sql("postgres").unsafe(part);
      await until(
        "it receives no more",
        async () => await standby.value("SELECT count(*)::int FROM pg_stat_wal_receiver") === 0,
      );
      await standby.value("SELECT pg_promote()");
      await standby.value("CREATE TABLE after_failover AS SELECT generate_series(1, 500) n; SELECT 1");
      // Hidden while it is incomplete, as in an archive whose history comes late.
      await until("the history is archived", () => existsSync(join(archive, "00000002.history")));
      await archiveAll(onStandby, archive);
      await primary.sql.unsafe("CREATE TABLE too_late AS SELECT 1 AS n");
      await archiveAll(onPrimary, archive);
      const last = await archiveAll(onStandby, archive);
      await until("both are there", () => segments().includes(last));

      await untilArrived(tenant, 2);
      await env.onBranch("test", "prod", tenant, async (pg) => {
        assert.equal(await count(pg), 2000);
        assert.equal(await pg.value("SELECT count(*)::int FROM after_failover", [], AS), 500);
        assert.equal(await pg.value("SELECT to_regclass('too_late')", [], AS), null);
      });

      // Whoever comes later reads the same archive from the start.
      const later = parseTenantId(
        JSON.parse(await env.zenith("import", base, "--wal", archive, "--as", "prod", "--json")).tenant_id,
      );
      await env.onBranch("test", "prod", later, async (pg) => {
        assert.equal(await pg.value("SELECT count(*)::int FROM after_failover", [], AS), 500);
        assert.equal(await pg.value("SELECT to_regclass('too_late')", [], AS), null);
      });
      await env.zenith("follow", "remove", "prod", "--tenantid", tenant);
    });
  });

  test("names the segment that is missing, and waits for one that is not complete", async () => {
    await failover(async ({ archive, base, primary, standby, segments }) => {
      await standby.stop();
      const onPrimary = async (text: string) => Object.values((await primary.sql.unsafe(text))[0] ?? {})[0];
      await archiveAll(onPrimary, archive);
      const tenant = await follow(["--archive", archive, "--base", base]);
      await untilArrived(tenant);
      await env.zenith("follow", "stop", "prod", "--tenantid", tenant);
      await primary.sql.unsafe("INSERT INTO t SELECT generate_series(1, 1000)");
      const gap = await archiveAll(onPrimary, archive);
      await primary.sql.unsafe("INSERT INTO t SELECT generate_series(1, 1000)");
      await archiveAll(onPrimary, archive);
      const aside = join(primary.directory, gap);
      renameSync(join(archive, gap), aside);
      await env.zenith("follow", "resume", "prod", "--tenantid", tenant);
      const problem = async (pattern: RegExp) =>
        await until(`it says ${pattern}`, async () => pattern.test((await followed(tenant)).problem ?? ""));
      await problem(new RegExp(`WAL segment ${gap} is missing in the archive, though later ones are there`));
      assert.equal((await followed(tenant)).state, "waiting");

      cpSync(aside, join(archive, gap));
      truncateSync(join(archive, gap), 1 << 20);
      await problem(new RegExp(`${gap} is not complete: it has 1048576 bytes`));
      cpSync(aside, join(archive, gap));
      await untilArrived(tenant);
      assert.equal((await followed(tenant)).problem, null);
      assert.equal(await env.onBranch("test", "prod", tenant, count), 3000);

      // A segment of another cluster under the next name.
      await using other = await StockCluster.start({
        settings: { archive_mode: "on", archive_command: `'cp %p ${archive}/%f.other'` },
      });
      await other.sql.unsafe("SELECT pg_switch_wal()");
      await until("it is archived", () => readdirSync(archive).some((name) => name.endsWith(".other")));
      const foreign = readdirSync(archive).find((name) => name.endsWith(".other"))!;
      const next = segments().at(-1)!;
      const following = next.slice(0, 16) +
        (Number.parseInt(next.slice(16), 16) + 1).toString(16).padStart(8, "0");
      renameSync(join(archive, foreign), join(archive, following.toUpperCase()));
      await until("it fails", async () => (await followed(tenant)).state === "failed");
      assert.match((await followed(tenant)).problem ?? "", /is of system \d+, the branch follows \d+/);
      await env.zenith("follow", "remove", "prod", "--tenantid", tenant);
    });
  });

  test("is refused without an archive, or a backup to begin with, and leaves nothing", async () => {
    const before = await env.zenith("tenant", "list");
    const refuse = async (args: readonly string[], why: RegExp) => {
      const result = await env.tryZenith("follow", "no", ...args);
      assert.notEqual(result.code, 0);
      assert.match(result.stderr, why);
      assert.equal(await env.zenith("tenant", "list"), before);
    };
    const empty = join(env.dir, "empty");
    spawnSync("mkdir", [empty]);
    await refuse([], /what is no to follow\?\nhint: a primary, .* or an --archive/);
    await refuse(["--archive", empty], /is no pgBackRest repository: it has only WAL\nhint: .*--base/);
    await refuse(["--archive", join(env.dir, "nowhere"), "--base", empty], /there is no directory .*nowhere/);
    await refuse(["--archive", empty, "--base", empty], /is no backup/);
    await refuse(
      ["--from", "host=127.0.0.1 port=1", "--base", empty],
      /--base means nothing without --archive/,
    );
  });
});
