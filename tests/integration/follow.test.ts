/** A branch follows a primary that somebody runs: through load, kills, a restart and a failover. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ensureServerCertificate } from "../../src/auth/certificates.ts";
import { AuthPaths } from "../../src/common/paths.ts";
import { generateTenantId, parseTenantId, type TenantId } from "../../src/common/id.ts";
import { amcheck } from "../harness/programs.ts";
import { freePort } from "../harness/ports.ts";
import { ACCOUNTS, contentOf, Production } from "../harness/production.ts";
import { RestoredBackup } from "../harness/restored_backup.ts";
import { StockCluster } from "../harness/stock_cluster.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

const NEWEST = 18;
const AS = { user: "postgres" };

interface Followed {
  readonly branch: string;
  readonly tenant_id: string;
  readonly state: string;
  readonly problem: string | null;
  readonly source: string;
  readonly slot: string | null;
  readonly wal_timeline: number;
  readonly lag_bytes: number | null;
  readonly lag_s: number | null;
}

const columns = (rows: readonly Record<string, unknown>[]) => rows.map((row) => Object.values(row)[0]);

/** But for unlogged tables, which no follower has. */
async function contentOfPrimary(cluster: StockCluster): Promise<Record<string, unknown>> {
  const content = await contentOf(async (database, sql) => {
    const session = cluster.session(database);
    try {
      return columns(await session.unsafe(sql));
    } finally {
      await session.end();
    }
  });
  return { ...content, "postgres.passing": null };
}

async function contentOfCompute(pg: Compute): Promise<Record<string, unknown>> {
  const content = await contentOf(async (database, sql) => columns(await pg.query(sql, { database, ...AS })));
  return { ...content, "postgres.passing": null };
}

describe("a branch that follows a primary", () => {
  let env: ZenithEnv;

  before(async () => {
    env = await ZenithEnv.create({ safekeepers: 0 });
  });
  after(() => env?.[Symbol.asyncDispose]());

  async function followed(tenant: TenantId): Promise<Followed> {
    const list = JSON.parse(await env.zenith("follow", "list", "--json")) as Followed[];
    const found = list.find(({ tenant_id }) => tenant_id === tenant);
    assert.ok(found !== undefined);
    return found;
  }

  /** Waits until all WAL that a server has now is here. */
  async function untilArrived(tenant: TenantId, end: string): Promise<void> {
    const wanted = Number.parseInt(end.split("/")[1]!, 16);
    await until(`WAL up to ${end} is here`, async () => {
      const { state, problem } = await followed(tenant);
      assert.notEqual(state, "failed", problem ?? "");
      return await branchEnd(tenant) >= wanted;
    });
  }

  async function branchEnd(tenant: TenantId): Promise<number> {
    await using client = env.pageserver.client();
    const { branch } = await followed(tenant);
    return (await client.branchList(tenant)).find(({ name }) => name === branch)!.next_lsn;
  }

  const endOf = async (cluster: StockCluster) =>
    String((await cluster.sql`SELECT pg_current_wal_flush_lsn() AS lsn`)[0]!["lsn"]);

  for (const major of [15, NEWEST]) {
    test(`of PostgreSQL ${major} has what it has, whoever is killed`, async () => {
      const tcpPort = await freePort();
      await using production = await Production.start({ major, tcpPort });
      const { cluster } = production;
      await cluster.sql.unsafe("CREATE ROLE replicator LOGIN REPLICATION PASSWORD 'secret'");
      await production.startLoad();
      const tenant = generateTenantId();
      const from = `postgres://replicator:secret@127.0.0.1:${tcpPort}`;
      const told = await env.zenith("follow", "prod", "--from", from, "--tenantid", tenant);
      assert.match(told, /branch prod follows .*: history from/);
      assert.doesNotMatch(told, /secret/);
      await production.roundsMore(2);
      await env.pageserver.kill9();
      await production.roundsMore(2);
      await env.pageserver.start();
      const middle = await endOf(cluster);
      await production.roundsMore(2);
      await production.stopLoad();
      await untilArrived(tenant, await endOf(cluster));

      const { source, slot } = await followed(tenant);
      assert.doesNotMatch(source, /secret/);
      assert.equal(slot, "zenith_prod");
      // The primary writes a little by itself.
      await until("it has caught up", async () => {
        const { state, lag_bytes, lag_s } = await followed(tenant);
        return state === "streaming" && lag_bytes === 0 && lag_s === 0;
      });
      const own = await env.createCompute("prod", tenant);
      assert.match(
        (await env.tryZenith("pg", "start", "prod", "--tenantid", tenant)).stderr,
        /branch prod follows .*: nobody else writes to it\nhint: make a branch of it/,
      );
      await env.branch("now", "prod", tenant);
      const now = await env.startCompute("now", tenant);
      assert.deepEqual(await contentOfCompute(now), await contentOfPrimary(cluster));
      await amcheck(now, ["postgres", "shop"]);
      await now.stop();
      await env.branch("middle", `prod@${middle}`, tenant);
      const then = await env.startCompute("middle", tenant);
      const total = await then.value("SELECT sum(balance)::int FROM accounts", [], AS);
      assert.equal(total, ACCOUNTS * 1000);
      await then.stop();

      // Stopped, it keeps its place; and the primary may be killed too.
      await env.zenith("follow", "stop", "prod", "--tenantid", tenant);
      await cluster.sql.unsafe("CREATE TABLE while_stopped AS SELECT generate_series(1, 100) n");
      await cluster.stopPostgres("immediate");
      await env.zenith("follow", "resume", "prod", "--tenantid", tenant);
      cluster.startPostgres();
      await cluster.sql.unsafe("INSERT INTO while_stopped SELECT generate_series(101, 200)");
      await untilArrived(tenant, await endOf(cluster));

      assert.match(
        (await env.tryZenith("branch", "delete", "prod", "--tenantid", tenant, "--cascade")).stderr,
        /branch prod of tenant .* follows a primary/,
      );
      await env.zenith("follow", "remove", "prod", "--tenantid", tenant);
      assert.deepEqual([...await cluster.sql`SELECT slot_name FROM pg_replication_slots`], []);
      await own.start();
      assert.equal(await own.value("SELECT count(*)::int FROM while_stopped", [], AS), 200);
      await own.query("DROP TABLE while_stopped", AS);
      await own.stop();
    });
  }

  test("goes on with the standby that takes over, and says when it is on a dead end", async () => {
    const tcpPort = await freePort();
    await using production = await Production.start({ tcpPort });
    const { cluster } = production;
    await using standby = new RestoredBackup(env.major, "", "postgres");
    const copy = ["-Fp", "-R", "-Xstream", "-C", "-S", "standby"];
    await cluster.runAside("pg_basebackup", [
      `--host=${cluster.directory}`,
      `--port=${cluster.port}`,
      "--username=postgres",
      "--checkpoint=fast",
      `--pgdata=${standby.dataDir}`,
      ...copy,
    ]);
    standby.start();
    const from = `postgres://postgres@127.0.0.1:${tcpPort}`;
    const [tenant, lost] = [generateTenantId(), generateTenantId()];
    await env.zenith("follow", "prod", "--from", from, "--tenantid", tenant);
    await env.zenith("follow", "lost", "--from", from, "--tenantid", lost);
    await production.startLoad();
    await production.stopLoad();
    const end = await endOf(cluster);
    await untilArrived(tenant, end);
    await env.zenith("follow", "stop", "prod", "--tenantid", tenant);
    const has = (await branchEnd(tenant)).toString(16).toUpperCase();
    await until(
      "the standby has it too",
      async () => await standby.value(`SELECT pg_last_wal_replay_lsn() >= '0/${has}'`) === true,
    );

    // What only one follower gets is lost with the primary.
    await standby.stop();
    await cluster.sql.unsafe("CREATE TABLE too_late AS SELECT 1 AS n");
    await untilArrived(lost, await endOf(cluster));
    await cluster.stopPostgres("immediate");
    standby.startAgain();
    await standby.value("SELECT pg_promote()");

    const next = `host=${standby.directory} port=${standby.port} user=postgres`;
    await env.zenith("follow", "resume", "prod", "--from", next, "--tenantid", tenant);
    await standby.value("CREATE TABLE after_failover AS SELECT generate_series(1, 500) n; SELECT 1");
    await untilArrived(tenant, String(await standby.value("SELECT pg_current_wal_flush_lsn()")));
    assert.equal((await followed(tenant)).wal_timeline, 2);
    await env.branch("test", "prod", tenant);
    const pg = await env.startCompute("test", tenant);
    assert.equal(await pg.value("SELECT count(*)::int FROM after_failover", [], AS), 500);
    assert.equal(await pg.value("SELECT to_regclass('too_late')", [], AS), null);
    await pg.restart();
    await pg.query("CREATE TABLE mine AS SELECT 1 AS n", AS);
    await pg.stop();

    await env.zenith("follow", "resume", "lost", "--from", next, "--tenantid", lost);
    await until("the dead end is noticed", async () => (await followed(lost)).state === "failed");
    assert.match((await followed(lost)).problem ?? "", /left that timeline at .*: what followed was lost/);
  });

  test("is made and branched by what README says", async () => {
    const readme = readFileSync(join(import.meta.dirname!, "..", "..", "README.md"), "utf8");
    const typed = (pattern: RegExp) => pattern.exec(readme)?.[1]?.split(" ") ?? assert.fail(String(pattern));
    const tcpPort = await freePort();
    await using production = await Production.start({ tcpPort });
    await production.cluster.sql.unsafe("CREATE ROLE replicator LOGIN REPLICATION");
    const follow = typed(/^\$ zenith (follow prod .*)$/m);
    const told = await env.zenith(
      ...follow.map((word) => word.replace("prod.example.com:5432", `127.0.0.1:${tcpPort}`)),
    );
    assert.match(told, /branch prod follows postgres:\/\/replicator:\*\*\*@/);
    const before = new Date();
    await production.cluster.sql.unsafe("DROP TABLE moves");
    await until("the clock has gone on", () => Date.now() > before.getTime() + 1000);
    await production.cluster.sql.unsafe("CREATE TABLE later ()");
    const branch = typed(/^\$ zenith (branch test .*)$/m);
    const moment = `prod@${before.toISOString()}`;
    // Started by the command itself, it would take a port that others may want.
    const words = branch.filter((word) => word !== "--start").map((word) =>
      word.replace("prod@-10m", moment)
    );
    await env.zenith(...words);
    const tenant = parseTenantId(/tenant ([0-9a-f]{32}) copied/.exec(told)![1]!);
    const pg = await env.startCompute("test", tenant);
    const tables = await pg.query("SELECT to_regclass('moves') AS moves, to_regclass('later') AS later", AS);
    assert.deepEqual({ ...tables[0] }, { moves: "moves", later: null });
    await pg.stop();
    await env.zenith("follow", "remove", "prod");
  });

  test("is encrypted as much as its connection string asks for", async () => {
    const tcpPort = await freePort();
    await using cluster = await StockCluster.start({ tcpPort });
    const [auth, other] = ["primary", "other"].map((name) => new AuthPaths(join(env.dir, name)));
    await ensureServerCertificate(auth!, ["127.0.0.1"]);
    await ensureServerCertificate(other!, ["127.0.0.1"]);
    cluster.writeFile("server.crt", readFileSync(auth!.serverCertificate));
    cluster.writeFile("server.key", readFileSync(auth!.serverKey));
    const hba = "local all all trust\nhostssl replication all 127.0.0.1/32 scram-sha-256\n";
    cluster.writeFile("pg_hba.conf", new TextEncoder().encode(hba));
    await cluster.sql.unsafe("CREATE ROLE replicator LOGIN REPLICATION PASSWORD 'secret'");
    await cluster.sql.unsafe("ALTER SYSTEM SET ssl = on");
    await cluster.sql.unsafe("SELECT pg_reload_conf()");
    const from = `postgres://replicator:secret@127.0.0.1:${tcpPort}?sslmode=`;
    const refuse = async (ssl: string, why: RegExp) => {
      const { stderr } = await env.tryZenith("follow", "no", "--from", from + ssl);
      assert.match(stderr, why);
      assert.doesNotMatch(stderr, /secret/);
    };
    await refuse("disable", /no pg_hba\.conf entry .* no encryption/);
    await refuse("verify-full", /sslmode=verify-full needs certificates to verify 127\.0\.0\.1 by/);
    await refuse(`verify-ca&sslrootcert=${other!.caCertificate}`, /does not prove to be that server/);
    await refuse(`require&sslrootcert=${other!.caCertificate}`, /does not prove to be that server/);
    await refuse("verify-full&sslrootcert=/nowhere.pem", /nowhere\.pem/);

    const tenant = generateTenantId();
    const verified = `verify-full&sslrootcert=${auth!.caCertificate}`;
    await env.zenith("follow", "safe", "--from", from + verified, "--tenantid", tenant);
    await cluster.sql.unsafe("CREATE TABLE t AS SELECT generate_series(1, 1000) n");
    await untilArrived(tenant, await endOf(cluster));
    const encrypted = await cluster.sql`
      SELECT s.ssl FROM pg_stat_replication r JOIN pg_stat_ssl s USING (pid)`;
    assert.deepEqual([...encrypted].map(({ ssl }) => ssl), [true]);
    // Of its own accord, too, where the server has TLS.
    for (const ssl of ["prefer", "require"]) {
      await env.zenith("follow", "resume", "safe", "--tenantid", tenant, "--from", from + ssl);
      await cluster.sql.unsafe("INSERT INTO t SELECT generate_series(1, 1000)");
      await untilArrived(tenant, await endOf(cluster));
    }
    await env.zenith("follow", "remove", "safe", "--tenantid", tenant);
  });

  test("is refused when nothing could follow, and leaves nothing", async () => {
    const tcpPort = await freePort();
    await using production = await Production.start({
      tcpPort,
      settings: { synchronous_standby_names: "'*'", synchronous_commit: "local" },
    });
    const { cluster } = production;
    const before = await env.zenith("tenant", "list");
    const refuse = async (from: string, why: RegExp) => {
      const result = await env.tryZenith("follow", "no", "--from", from);
      assert.notEqual(result.code, 0);
      assert.match(result.stderr, why);
      assert.doesNotMatch(result.stderr, /secret/);
      assert.equal(await env.zenith("tenant", "list"), before);
      assert.deepEqual([...await cluster.sql`SELECT slot_name FROM pg_replication_slots`], []);
    };
    const from = `postgres://postgres:secret@127.0.0.1:${tcpPort}`;
    await refuse(from, /commits on .* would wait for Zenith: its synchronous_standby_names is "\*"/);
    await refuse(`postgres://postgres:secret@127.0.0.1:${await freePort()}`, /ECONNREFUSED|connect/);
    await cluster.sql.unsafe("ALTER SYSTEM SET synchronous_standby_names = ''; ");
    await cluster.sql.unsafe("CREATE ROLE plain LOGIN");
    await cluster.sql.unsafe("SELECT pg_reload_conf()");
    await refuse(
      `postgres://plain:secret@127.0.0.1:${tcpPort}`,
      /must be superuser or replication role|permission denied/,
    );
    await assert.rejects(env.zenith("follow", "resume", "nobody"), /follows nothing/);
  });
});
