/** Three safekeepers under a compute: what was acknowledged is there, whoever is killed. */
import assert from "node:assert/strict";
import { appendFileSync, existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { formatHostPort } from "../../src/common/host_port.ts";
import { parseBranchName } from "../../src/common/id.ts";
import { parseLsn } from "../../src/common/lsn.ts";
import { EnvironmentPaths } from "../../src/common/paths.ts";
import { PgClient } from "../../src/pgwire/client.ts";
import { addOwnSettings } from "../harness/branching.ts";
import { runZenith } from "../harness/cli.ts";
import { Connection } from "../harness/connection.ts";
import { freePort } from "../harness/ports.ts";
import { Random, seeds } from "../harness/random.ts";
import { WriteHistory } from "../harness/write_history.ts";
import { type Compute, type SafekeeperHandle, until, ZenithEnv } from "../harness/zenith_env.ts";

const OPTIONS = { timeout: 120_000 };
const WRITERS = 4;

let env: ZenithEnv;
let pg: Compute;
let history: WriteHistory;

/** The page server's view of the only timeline. */
async function pageServerStatus() {
  await using client = env.pageserver.client();
  const [timeline] = (await client.status()).timelines;
  assert.ok(timeline !== undefined, "the timeline is open");
  return timeline;
}

async function untilPageServerHas(lsn: string): Promise<void> {
  await until(`the page server has ${lsn}`, async () => {
    return (await pageServerStatus()).last_record_lsn >= parseLsn(lsn);
  });
}

async function flushedAt(safekeeper: SafekeeperHandle): Promise<number> {
  const [timeline] = await safekeeper.status();
  return timeline!.flush_lsn;
}

before(async () => {
  env = await ZenithEnv.create({ safekeepers: 3 });
  pg = await env.startCompute();
  await WriteHistory.createTables(pg);
  history = new WriteHistory(WRITERS);
}, OPTIONS);
after(() => env[Symbol.asyncDispose]());

describe("a compute with three safekeepers", () => {
  test("waits for them, and says so in SQL", OPTIONS, async () => {
    assert.equal(
      await pg.value("SHOW zenith.wal_acceptors"),
      env.safekeepers.map(({ address }) => formatHostPort(address)).join(","),
    );
    const rows = await pg.query("SELECT application_name, sync_state FROM pg_stat_replication");
    assert.deepEqual(rows, [{ application_name: "walproposer", sync_state: "sync" }]);
  });

  test("commits 1,000 times while one after the other is restarted", OPTIONS, async () => {
    const [seed] = seeds(1);
    console.log(`seed ${seed}`);
    const random = new Random(seed!);
    history.start(pg);
    const target = history.acknowledged + 1_000;
    let restarts = 0;
    while (history.acknowledged < target || restarts < 3) {
      const safekeeper = env.safekeepers[random.int(3)];
      await (random.oneIn(2) ? safekeeper.kill9() : safekeeper.stop());
      await history.untilAcknowledged(50);
      await safekeeper.start();
      restarts++;
    }
    await history.stop();
    await history.verify(pg);
    await pg.restart();
    await history.verify(pg);
  });

  test("freezes with two of them down, and goes on when one is back", OPTIONS, async () => {
    const [first, second, third] = env.safekeepers;
    await using session = await pg.connect();
    await using observer = await pg.connect();
    await session.query("CREATE TABLE frozen (n int)");
    await first!.kill9();
    await second!.kill9();
    let done = false;
    const before = parseLsn(await pg.lsn());
    const insert = session.query("INSERT INTO frozen VALUES (1)").then(() => done = true);
    await until("the third one has the commit", async () => await flushedAt(third!) > before);
    await until("Postgres waits for the quorum", async () => {
      return await observer.value(
        "SELECT count(*)::int FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
      ) === 1;
    });
    assert.equal(done, false);
    assert.deepEqual(await observer.query("SELECT * FROM frozen"), []);
    await first!.start();
    await insert;
    await second!.start();
  });

  test("commits without the page server, which catches up before the next start", OPTIONS, async () => {
    history.start(pg);
    // A lazy compute needs the page server for what nobody on it has read before: let them have read it.
    await history.untilAcknowledged(100);
    await env.pageserver.kill9();
    await history.untilAcknowledged(100);
    await pg.kill9();
    await history.stop();
    await env.pageserver.start();
    await pg.start();
    await history.verify(pg);
  });

  test("has its WAL read from another safekeeper when the one that is read from hangs", OPTIONS, async () => {
    await pg.query("INSERT INTO frozen VALUES (2)");
    await untilPageServerHas(await pg.lsn());
    const source = (await pageServerStatus()).wal_receiver?.source ?? "nowhere";
    const reading = env.safekeepers.find(({ address }) => source.includes(`port=${address.port} `));
    assert.ok(reading !== undefined, source);
    const { pid } = reading;
    process.kill(pid, "SIGSTOP");
    try {
      await pg.query("INSERT INTO frozen VALUES (3)");
      await untilPageServerHas(await pg.lsn());
    } finally {
      process.kill(pid, "SIGCONT");
    }
  });

  test("is stopped, and says why, when another compute takes its timeline over", OPTIONS, async () => {
    await pg.query("CREATE TABLE owners (name text)");
    await pg.query("INSERT INTO owners VALUES ('first')");
    const repo = join(env.dir, "second");
    const zenith = async (...args: string[]) => {
      const result = await runZenith(args, { ZENITH_REPO_DIR: repo });
      assert.equal(result.code, 0, result.stderr);
      return result.stdout;
    };
    const port = await freePort();
    const tenant = ["--tenantid", env.defaultTenant];
    const token = ["--token", env.paths.auth.adminToken];
    await zenith(
      "init",
      "--remote-pageserver",
      `postgres://${formatHostPort(env.pageserver.address)}`,
      ...token,
    );
    await zenith("pg", "create", "main", "--port", String(port), ...tenant);
    const { config } = new EnvironmentPaths(repo).compute(pg.tenant, parseBranchName("main"));
    const acceptors = readFileSync(pg.paths.config, "utf8")
      .split("\n").filter((line) => line.startsWith("zenith.wal_acceptors"));
    appendFileSync(config, `${acceptors.at(-1)}\n`);
    await zenith("pg", "start", "main", ...tenant);
    try {
      await until(
        "the first one has ended",
        async () => (await env.zenith("pg", "list")).includes("crashed"),
      );
      assert.match(await env.zenith("pg", "list"), /another compute has taken over timeline/);
      await assert.rejects(pg.value("SELECT 1"));
      await using second = await Connection.openUri(await zenith("uri", "main", ...tenant));
      await second.query("INSERT INTO owners VALUES ('second')");
      assert.deepEqual(await second.query("SELECT name FROM owners"), [{ name: "first" }, {
        name: "second",
      }]);
      await pg.start();
      await assert.rejects(second.query("INSERT INTO owners VALUES ('fenced')"));
      assert.deepEqual(await pg.query("SELECT name FROM owners"), [{ name: "first" }, { name: "second" }]);
    } finally {
      await zenith("stop", "-m", "immediate");
    }
  });

  test("leaves its branch alone when it has ended, so that it can be deleted at once", OPTIONS, async () => {
    for (const name of ["brief1", "brief2", "brief3"]) {
      await env.branch(name, "main");
      const brief = await env.startCompute(name);
      await brief.query("CREATE TABLE lots AS SELECT generate_series(1, 100000) n");
      await brief.stop("immediate");
      await env.zenith("branch", "delete", name);
    }
  });

  test("is shown with the safekeepers' terms and positions", OPTIONS, async () => {
    const lines = (await env.zenith("safekeeper", "list")).trimEnd().split("\n");
    assert.match(lines[0], /^ID +ADDRESS +TENANT +TIMELINE +TERM +FLUSH +COMMIT +PAGE SERVER +LAG$/);
    assert.equal(lines.length, 4);
    for (const line of lines.slice(1)) {
      assert.match(line, new RegExp(`${env.defaultTenant} +[0-9a-f]{32} +\\d+ +0/`));
    }
  });
});

describe("an environment with one safekeeper", () => {
  test("keeps branches apart, and starts and stops as a whole", OPTIONS, async () => {
    await using single = await ZenithEnv.create({ safekeepers: 1 });
    const main = await single.startCompute();
    await main.query("CREATE TABLE t (n int)");
    await main.query("INSERT INTO t VALUES (1)");
    // What was acknowledged just now is on the branch, although the page server comes behind.
    await single.branch("dev", "main");
    const dev = await single.startCompute("dev");
    await dev.query("INSERT INTO t VALUES (2)");
    await main.query("INSERT INTO t VALUES (3)");
    assert.match((await single.tryZenith("status")).stdout, /^safekeeper 1 +running /m);
    await single.zenith("stop");
    assert.match((await single.tryZenith("status")).stdout, /^safekeeper 1 +stopped /m);
    await single.zenith("start");
    assert.deepEqual(await main.query("SELECT n FROM t ORDER BY n"), [{ n: 1 }, { n: 3 }]);
    assert.deepEqual(await dev.query("SELECT n FROM t ORDER BY n"), [{ n: 1 }, { n: 2 }]);
    await single.zenith("stop");
  });
});

describe("a Postgres whose list of safekeepers was changed", () => {
  test(
    "is not started where it would lose what only the others have, until the branch is released",
    OPTIONS,
    async () => {
      // Without the page server it must not need a page.
      await using own = await ZenithEnv.create({ safekeepers: 3, storage: "eager" });
      const compute = await own.startCompute();
      await compute.query("CREATE TABLE t AS SELECT 1 AS n");
      // What comes now is at the safekeepers only.
      await own.pageserver.kill9();
      await compute.query("INSERT INTO t VALUES (2)");
      await compute.kill9();
      await own.pageserver.start();
      const [first, ...others] = own.safekeepers.map(({ address }) => formatHostPort(address));
      for (const list of [first!, ""]) {
        addOwnSettings(compute, `zenith.wal_acceptors = '${list}'`);
        const refused = await own.tryZenith("pg", "start", "main");
        assert.equal(refused.code, 5);
        assert.match(
          refused.stderr,
          /is at the safekeepers 127.0.0.1:\d+, .* but zenith.wal_acceptors names/,
        );
        assert.match(refused.stderr, /zenith safekeeper release/);
      }
      addOwnSettings(compute, `zenith.wal_acceptors = '${[...others, first].join()}'`);
      await compute.start();
      assert.equal((await own.tryZenith("safekeeper", "release", "main")).code, 5);
      await compute.stop();
      assert.match(await own.zenith("safekeeper", "release", "main"), /branch main released/);
      addOwnSettings(compute, `zenith.wal_acceptors = '${first}'`);
      await compute.start();
      await compute.query("INSERT INTO t VALUES (3)");
      await compute.kill9();
      await compute.start();
      assert.equal(await compute.value("SELECT string_agg(n::text, ' ' ORDER BY n) FROM t"), "1 2 3");
    },
  );
});

describe("the WAL of a branch that is deleted", () => {
  test("goes from the safekeepers too, at once or when one that was down is back", OPTIONS, async () => {
    await using own = await ZenithEnv.create({ safekeepers: 3 });
    const main = await own.startCompute();
    await main.query("CREATE TABLE t (n int)");
    const timelinesAt = async (safekeeper: SafekeeperHandle) =>
      (await safekeeper.status()).map(({ timeline_id }) => timeline_id);
    const [first, second, third] = own.safekeepers as [SafekeeperHandle, SafekeeperHandle, SafekeeperHandle];
    const [mainTimeline] = await timelinesAt(first);
    const branches = ["one", "two"];
    for (const branch of branches) {
      await own.branch(branch, "main");
      const compute = await own.startCompute(branch);
      await compute.query("INSERT INTO t VALUES (1)");
      assert.match(
        await own.zenith("pg", "list"),
        new RegExp(`^${branch} +\\S+ +0/\\S+ +\\d+\\.?\\d* \\w+ +running$`, "m"),
      );
    }
    const others = (await timelinesAt(first)).filter((timeline) => timeline !== mainTimeline);
    assert.equal(others.length, 2);
    // The safekeeper itself sees to it that nobody writes.
    await using wire = await PgClient.connect({ ...first.address, user: "zenith", password: own.token });
    await assert.rejects(
      wire.query(`TIMELINE_DELETE ${own.defaultTenant} ${others[0]}`),
      /a compute writes to timeline/,
    );
    for (const branch of branches) await own.zenith("pg", "stop", branch);

    await own.zenith("branch", "delete", "one");
    for (const safekeeper of own.safekeepers) assert.equal((await timelinesAt(safekeeper)).length, 2);
    await third.kill9();
    const deleted = await own.tryZenith("branch", "delete", "two");
    assert.equal(deleted.code, 0);
    assert.match(deleted.stderr, /safekeeper 3 keeps WAL that nobody needs.*zenith safekeeper prune/);
    await third.start();
    assert.equal((await timelinesAt(third)).length, 2);
    // Nobody is there to be asked.
    const asked = await own.tryZenith("safekeeper", "prune");
    assert.equal(asked.code, 5);
    assert.match(asked.stdout, /^timeline [0-9a-f]{32} of tenant [0-9a-f]{32}: .* of WAL\n$/);
    assert.match(asked.stderr, /nothing was removed.*--yes/s);
    assert.equal((await timelinesAt(third)).length, 2);
    assert.match(
      await own.zenith("safekeeper", "prune", "--yes"),
      /^timeline .* of WAL\ntimeline [0-9a-f]{32} of tenant [0-9a-f]{32} removed\n$/,
    );
    for (const safekeeper of own.safekeepers) assert.deepEqual(await timelinesAt(safekeeper), [mainTimeline]);
    assert.deepEqual(
      readdirSync(join(second.paths.workdir, own.defaultTenant)),
      [mainTimeline],
      "nothing is left on disk",
    );
    assert.equal(await own.zenith("safekeeper", "prune"), "");
    // Once more is no error.
    for (const timeline of others) await wire.query(`TIMELINE_DELETE ${own.defaultTenant} ${timeline}`);

    const tenant = await own.createTenant();
    const compute = await own.startCompute("main", tenant);
    await compute.query("CREATE TABLE t (n int)");
    await compute.stop();
    await own.zenith("tenant", "delete", tenant);
    for (const safekeeper of own.safekeepers) {
      assert.deepEqual(await timelinesAt(safekeeper), [mainTimeline]);
      assert.equal(existsSync(safekeeper.paths.tenant(tenant)), false);
    }
    assert.equal(await main.value("SELECT count(*) FROM t"), "0");
  });
});
