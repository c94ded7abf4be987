/** Replication slots live as long as their branch: a stock subscriber goes on, wherever and however the compute starts again. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, mkdirSync, readdirSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { findPostgres } from "../../src/pg_install/find_postgres.ts";
import { checkPidFile } from "../../src/process/pid_file.ts";
import { postmasterPid } from "../../src/compute/postgres/postgres_process.ts";
import { TEST_PG_MAJOR } from "../harness/postgres_major.ts";
import { RestoredBackup } from "../harness/restored_backup.ts";
import { freePort } from "../harness/ports.ts";
import { StockCluster } from "../harness/stock_cluster.ts";
import { addSettings } from "../harness/branching.ts";
import { type Compute, until, ZenithEnv, type ZenithEnvOptions } from "../harness/zenith_env.ts";

const ROWS = 500;

/** Who was cut off comes back soon. */
const RETRY = { wal_retrieve_retry_interval: "200ms" };

const SETUPS: readonly ZenithEnvOptions[] = [
  { major: TEST_PG_MAJOR, safekeepers: 1, storage: "lazy" },
  { major: 18, safekeepers: 0, storage: "eager" },
];

/** What logical decoding needs to see a rewritten catalog as it was. */
function mappingFiles({ paths }: Compute): Map<string, string> {
  const directory = join(paths.pgdata, "pg_logical", "mappings");
  return new Map(
    readdirSync(directory).sort().map((name) => [name, readFileSync(join(directory, name), "hex")]),
  );
}

/** Without a moment for anything orderly. */
async function killAll(pg: Compute): Promise<void> {
  const supervisor = checkPidFile(pg.paths.pidFile);
  assert.equal(supervisor.state, "running");
  process.kill(supervisor.process.pid, "SIGKILL");
  const postmaster = postmasterPid(pg.paths.pgdata);
  if (postmaster !== undefined) process.kill(postmaster, "SIGKILL");
  // Until then, a start would say that it runs.
  await until("the supervisor has ended", () => checkPidFile(pg.paths.pidFile).state !== "running");
}

for (const setup of SETUPS) {
  describe(`a stock subscriber of PostgreSQL ${setup.major}, ${setup.storage}, ${setup.safekeepers} safekeepers`, () => {
    let env: ZenithEnv;
    let main: Compute;
    let subscriber: StockCluster;
    let published = 0;

    before(async () => {
      env = await ZenithEnv.create(setup);
      main = await env.createCompute("main");
      addSettings(main, "wal_level = logical");
      await main.start();
      subscriber = await StockCluster.start({ settings: { wal_level: "logical", ...RETRY } });
      await main.query("CREATE TABLE t (n int PRIMARY KEY, v text)");
      await main.query("CREATE PUBLICATION p FOR TABLE t");
      await subscriber.sql`CREATE TABLE t (n int PRIMARY KEY, v text)`;
      await subscriber.sql.unsafe(
        `CREATE SUBSCRIPTION s CONNECTION '${main.conninfo}' PUBLICATION p`,
      );
      await publish();
      await received();
    });
    after(async () => {
      await subscriber?.[Symbol.asyncDispose]();
      await env?.[Symbol.asyncDispose]();
    });

    async function publish(): Promise<void> {
      await main.query(`INSERT INTO t SELECT generate_series(${published + 1}, ${published + ROWS})`);
      published += ROWS;
    }

    /** A row that came twice would violate the primary key, and stop everything. */
    async function received(): Promise<void> {
      await until(`${published} rows are there`, async () => {
        const [row] = await subscriber.sql`SELECT count(*)::int AS n FROM t`;
        return row?.["n"] === published;
      });
    }

    function slots(pg = main): Promise<unknown> {
      return pg.value(
        "SELECT coalesce(string_agg(slot_name, ' ' ORDER BY slot_name), '') FROM pg_replication_slots " +
          "WHERE slot_name NOT IN ('walproposer', 'pageserver')",
      );
    }

    async function stored(): Promise<string | null> {
      const path = env.environment.paths.pageserver.timelineSlots(main.tenant, await timelineId("main"));
      return readFileSync(path, "utf8");
    }

    async function timelineId(branch: string) {
      await using client = env.pageserver.client();
      return (await client.branchList(main.tenant)).find(({ name }) => name === branch)!.timeline_id;
    }

    test("gets every row across a stop and a start", async () => {
      await publish();
      await main.stop();
      await main.start();
      assert.equal(await slots(), "s");
      await publish();
      await received();
      assert.ok(await stored());
    });

    test("gets every row when the supervisor and Postgres are killed", async () => {
      await publish();
      await killAll(main);
      await main.start();
      assert.equal(await slots(), "s");
      await publish();
      await received();
    });

    test("gets every row when a backend crashes, and all is started afresh", async () => {
      await publish();
      await using session = await main.connect();
      const pid = Number(await session.value("SELECT pg_backend_pid()"));
      const postmaster = postmasterPid(main.paths.pgdata);
      process.kill(pid, "SIGKILL");
      await until("Postgres runs again", async () => {
        const now = postmasterPid(main.paths.pgdata);
        return now !== undefined && now !== postmaster && await slots().then(() => true, () => false);
      });
      assert.equal(await slots(), "s");
      await publish();
      await received();
    });

    test("gets every row when the Postgres is made elsewhere", async () => {
      await publish();
      await env.zenith("pg", "stop", "main", "--destroy");
      main = await env.createCompute("main");
      await main.start();
      assert.equal(await slots(), "s");
      await subscriber.sql.unsafe(
        `ALTER SUBSCRIPTION s CONNECTION '${main.conninfo}'`,
      );
      await publish();
      await received();
    });

    test("gets what it has not fetched for many segments, and catalogs as they were then", async () => {
      await subscriber.sql`ALTER SUBSCRIPTION s DISABLE`;
      await publish();
      await main.query(
        "BEGIN; ALTER TABLE t ADD COLUMN w text DEFAULT 'x'; ALTER TABLE t DROP COLUMN w; " +
          `INSERT INTO t SELECT generate_series(${published + 1}, ${published + ROWS}); COMMIT`,
      );
      published += ROWS;
      await main.query("VACUUM FULL pg_class");
      await main.query("VACUUM FULL pg_attribute");
      await main.query(
        "CREATE TABLE filler AS SELECT repeat('x', 1000) AS x FROM generate_series(1, 100000)",
      );
      await main.query("CHECKPOINT");
      await env.untilArrived();
      await env.pageserver.stop();
      await env.pageserver.start();
      await main.query("CREATE TABLE filler2 AS SELECT * FROM filler LIMIT 30000");
      await env.untilArrived();
      await killAll(main);
      const mappings = mappingFiles(main);
      assert.ok(mappings.size > 0);
      await env.pageserver.kill9();
      await env.pageserver.start();
      await main.start();
      if (setup.storage === "eager") assert.deepEqual(mappingFiles(main), mappings);
      await publish();
      await subscriber.sql`ALTER SUBSCRIPTION s ENABLE`;
      await received();
      // A lazy compute makes them when somebody reads the WAL that they come from.
      if (setup.storage === "lazy") assert.deepEqual(mappingFiles(main), mappings);
    });

    test("is not a branch's: that begins without slots, and says so", async () => {
      await env.branch("dev", "main");
      const dev = await env.startCompute("dev");
      assert.equal(await slots(dev), "");
      assert.match(await env.zenith("pg", "list"), /^dev .*without its parent's replication slot s/m);
      await dev.stop();
    });

    test("a slot that is dropped does not come back", async () => {
      await main.query("SELECT pg_create_physical_replication_slot('kept', true)");
      await main.query("SELECT pg_create_physical_replication_slot('brief', true)");
      await main.query("SELECT pg_create_physical_replication_slot('passing', true, true)");
      const before = await stored();
      await until("they are stored", async () => await stored() !== before);
      await main.query("SELECT pg_drop_replication_slot('brief')");
      await main.restart();
      assert.equal(await slots(), "kept s");
      await subscriber.sql`DROP SUBSCRIPTION s`;
      await main.restart();
      assert.equal(await slots(), "kept");
      await main.query("SELECT pg_drop_replication_slot('kept')");
      await main.restart();
      assert.equal(await slots(), "");
      assert.match((await stored())!, /hold none/);
    });
  });
}

describe("a stock standby, and pg_receivewal", () => {
  let env: ZenithEnv;
  let main: Compute;
  let standby: RestoredBackup;
  let rows = 0;

  before(async () => {
    env = await ZenithEnv.create({ major: 15, storage: "eager", safekeepers: 1 });
    main = await env.startCompute("main");
    await main.query("CREATE TABLE t (n int)");
    standby = new RestoredBackup(15, main.password);
    const args = ["-d", main.conninfo, "-D", standby.dataDir, "-R", "-C", "-S", "standby", "-c", "fast"];
    const done = spawnSync(join(findPostgres(15).binDir, "pg_basebackup"), args, { encoding: "utf8" });
    assert.equal(done.status, 0, done.stderr);
    standby.start(`wal_retrieve_retry_interval = ${RETRY.wal_retrieve_retry_interval}`);
  });
  after(async () => {
    await standby?.[Symbol.asyncDispose]();
    await env?.[Symbol.asyncDispose]();
  });

  async function follows(): Promise<void> {
    rows += ROWS;
    await main.query(`INSERT INTO t SELECT generate_series(1, ${ROWS})`);
    await until(
      `${rows} rows are there`,
      async () => await standby.value("SELECT count(*)::int FROM t") === rows,
    );
  }

  test("go on after a stop and a start", async () => {
    await follows();
    await main.restart();
    await follows();
  });

  test("go on after a kill", async () => {
    await killAll(main);
    await main.start();
    await follows();
  });

  test("get what was written while they were away, through many segments", async () => {
    await main.query("SELECT pg_create_physical_replication_slot('archive', true)");
    await standby.stop();
    await main.query("CREATE TABLE filler AS SELECT repeat('x', 1000) AS x FROM generate_series(1, 100000)");
    await main.query("CHECKPOINT");
    await env.untilArrived();
    await env.pageserver.stop();
    await env.pageserver.start();
    await main.restart();
    standby.startAgain();
    await follows();
    const { restart_lsn: from } = (await main.query(
      "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'archive'",
    ))[0];
    const end = await main.lsn();
    const archive = join(env.dir, "archive");
    mkdirSync(archive);
    const args = ["-d", main.conninfo, "-D", archive];
    const done = spawnSync(
      join(findPostgres(15).binDir, "pg_receivewal"),
      [...args, "-S", "archive", "--endpos", end, "--no-loop"],
      { encoding: "utf8" },
    );
    assert.equal(done.status, 0, done.stderr);
    for (const name of readdirSync(archive)) {
      renameSync(join(archive, name), join(archive, name.replace(/\.partial$/, "")));
    }
    const dumped = spawnSync(
      join(findPostgres(15).binDir, "pg_waldump"),
      ["-q", "-p", archive, "-s", String(from), "-e", end],
      { encoding: "utf8" },
    );
    assert.equal(dumped.status, 0, dumped.stderr);
    assert.ok(readdirSync(archive).length > 5);
  });
});

describe("a slot that nobody uses", () => {
  let env: ZenithEnv;

  before(async () => {
    env = await ZenithEnv.create({ major: 15, start: false });
    appendFileSync(env.paths.pageserver.config, `slot_wal_max_bytes = ${32 << 20}\n`);
    await env.zenith("start");
  });
  after(() => env?.[Symbol.asyncDispose]());

  test("is a problem when it holds back much, and is lost with a word at the limit", async () => {
    const main = await env.createCompute("main");
    addSettings(main, "wal_level = logical");
    await main.start();
    await main.query("SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput')");
    await main.query("CREATE TABLE filler AS SELECT repeat('x', 1000) AS x FROM generate_series(1, 100000)");
    await until("it is a problem", async () => {
      return /replication slot forgotten held back 16 MiB/.test((await env.tryZenith("status")).stdout);
    });
    await env.untilArrived();
    await env.pageserver.stop();
    await env.pageserver.start();
    await main.restart();
    assert.equal(
      await main.value("SELECT count(*)::int FROM pg_replication_slots WHERE slot_name = 'forgotten'"),
      0,
    );
    assert.match(await env.zenith("pg", "list"), /it has lost replication slot forgotten/);
    // It has been said.
    await main.restart();
    assert.doesNotMatch(await env.zenith("pg", "list"), /forgotten/);
  });
});

describe("a logical slot with failover", () => {
  let env: ZenithEnv;

  before(async () => {
    env = await ZenithEnv.create({ major: 18, safekeepers: 1 });
  });
  after(() => env?.[Symbol.asyncDispose]());

  test("gives away nothing that no safekeeper has", async () => {
    const main = await env.createCompute("main");
    addSettings(main, "wal_level = logical");
    await main.start();
    await main.query("CREATE TABLE t (n int); CREATE PUBLICATION p FOR TABLE t");
    await main.query("SELECT pg_create_logical_replication_slot('sure', 'pgoutput', failover => true)");
    await main.query("SELECT pg_create_logical_replication_slot('quick', 'pgoutput')");
    const count = async (slot: string): Promise<number> => {
      await using session = await main.connect();
      await session.query("SET statement_timeout = '3s'");
      return Number(
        await session.value(
          "SELECT count(*)::int FROM pg_logical_slot_peek_binary_changes(" +
            `'${slot}', NULL, NULL, 'proto_version', '1', 'publication_names', 'p')`,
        ),
      );
    };
    await main.query("INSERT INTO t VALUES (1)");
    assert.ok(await count("sure") > 0);
    const [safekeeper] = env.safekeepers;
    await safekeeper!.stop();
    const waiting = main.query("INSERT INTO t VALUES (2)");
    await until("the other slot gives it away", async () => await count("quick") > 4);
    await assert.rejects(count("sure"), /statement timeout/);
    await safekeeper!.start();
    await waiting;
    assert.ok(await count("sure") > 4);
    await main.stop();
  });
});

describe("a subscription on a compute", () => {
  let env: ZenithEnv;
  let publisher: StockCluster;

  before(async () => {
    env = await ZenithEnv.create({ major: 15, storage: "lazy", safekeepers: 1 });
    publisher = await StockCluster.start({ settings: { wal_level: "logical" }, tcpPort: await freePort() });
    await publisher.sql`CREATE TABLE t (n int)`;
    await publisher.sql`CREATE PUBLICATION p FOR TABLE t`;
  });
  after(async () => {
    await env?.[Symbol.asyncDispose]();
    await publisher?.[Symbol.asyncDispose]();
  });

  test("that reports what is not acknowledged is a problem, until it is told not to", async () => {
    const main = await env.startCompute("main");
    await main.query("CREATE TABLE t (n int)");
    await main.query(
      `CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=${publisher.port} user=postgres dbname=postgres' PUBLICATION p`,
    );
    await main.query("CHECKPOINT");
    await until("it is a problem", async () => {
      const { stdout } = await env.tryZenith("status");
      return /subscription s can lose rows[^]*ALTER SUBSCRIPTION s SET \(synchronous_commit = on\)/.test(
        stdout,
      );
    });
    await main.query("ALTER SUBSCRIPTION s SET (synchronous_commit = on)");
    await main.query("CHECKPOINT");
    await until("it is none", async () => !/can lose rows/.test(await env.zenith("pg", "list")));
    await main.query("DROP SUBSCRIPTION s");
    await main.stop();
  });
});
