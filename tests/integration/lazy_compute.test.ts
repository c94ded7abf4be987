/** Computes whose relation files are fetched page by page: the answers are those of any other, whatever happens meanwhile. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { chownRecursive, pgUser } from "../../src/pg_install/pg_user.ts";
import { dropPageCache, isMounted, overlayBytes } from "../harness/lazy_files.ts";
import { Random, seeds } from "../harness/random.ts";
import { vacuumAll } from "../harness/vacuum.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";
import { clientProgram } from "../harness/postgres_major.ts";

const ROWS = 20_000;
/** So small that Postgres has to read and write files all the time. */
const SMALL_CACHE = "shared_buffers = '1MB'\n";

/** Everything in the table, and whether the index says the same. */
const CONTENT = "SELECT count(*) || ' ' || md5(string_agg(a::text, ',' ORDER BY id)) FROM accounts a";

let env: ZenithEnv;

before(async () => {
  env = await ZenithEnv.create({ storage: "lazy" });
  const main = await env.startCompute("main");
  await main.query("CREATE EXTENSION amcheck");
  await main.query("CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL, filler text)");
  await main.query(
    `INSERT INTO accounts SELECT n, 0, repeat(md5(n::text), 4) FROM generate_series(1, ${ROWS}) n`,
  );
  await main.query("CREATE INDEX ON accounts (filler)");
  await main.query("VACUUM ANALYZE accounts");
  await main.stop();
});
after(() => env[Symbol.asyncDispose]());

/** Starts a Postgres on a new branch. */
async function branchOff(name: string, start = "main", settings = SMALL_CACHE): Promise<Compute> {
  await env.branch(name, start);
  const compute = await env.createCompute(name);
  appendFileSync(join(compute.paths.pgdata, "postgresql.conf"), settings);
  await compute.start();
  return compute;
}

async function startEagerly(compute: Compute): Promise<void> {
  await env.zenith("pg", "start", compute.branch, "--storage", "eager");
}

/** pg_amcheck over all tables and indexes; fails with what it found. */
function amcheck(compute: Compute): void {
  const program = clientProgram("pg_amcheck");
  const run = spawnSync(program, ["--heapallindexed"], {
    env: { ...process.env, ...compute.libpq },
    encoding: "utf8",
  });
  assert.equal(run.status, 0, run.stdout + run.stderr);
}

/** Moves money about until told to stop; the sum over all accounts stays zero. */
async function moveMoney(compute: Compute, random: Random, going: () => boolean): Promise<void> {
  await using connection = await compute.connect();
  while (going()) {
    const [from, to] = [1 + random.int(ROWS), 1 + random.int(ROWS)].sort((a, b) => a - b);
    await connection.query(
      `UPDATE accounts SET balance = balance + (CASE id WHEN ${from} THEN 1 ELSE -1 END)
       WHERE id IN (${from}, ${to}) AND ${from} <> ${to}`,
    );
  }
}

describe("a lazy compute", () => {
  test("fetches what is read, no more", async () => {
    await using compute = await branchOff("little");
    const tableBytes = Number(await compute.value("SELECT pg_total_relation_size('accounts')"));
    const beforeBytes = overlayBytes(compute.paths);
    assert(beforeBytes < tableBytes, `${beforeBytes} bytes were there before anybody looked`);
    assert.equal(await compute.value("SELECT length(filler) FROM accounts WHERE id = 777"), 128);
    assert.equal(await compute.value("SELECT count(*) FROM accounts"), String(ROWS));
  });

  test("has the same rows and sound indexes as an eager one at the same LSN", async () => {
    await using lazy = await branchOff("same_lazy");
    amcheck(lazy);
    const content = await lazy.value(CONTENT);
    const files =
      "SELECT count(*), sum(pg_relation_size(oid, 'main') + pg_relation_size(oid, 'vm')) FROM pg_class";
    const sizes = await lazy.query(files);
    await lazy.stop();
    await startEagerly(lazy);
    assert.equal(await lazy.value(CONTENT), content);
    assert.deepEqual(await lazy.query(files), sizes);
    assert.equal(isMounted(lazy.paths), false);
  });

  test("reads back what it wrote, from its overlay, when nothing else has it any more", async () => {
    await using compute = await branchOff("overlay");
    await compute.query("UPDATE accounts SET balance = id WHERE id % 7 = 0");
    await compute.query("CHECKPOINT");
    const content = await compute.value(CONTENT);
    dropPageCache(compute.paths);
    assert.equal(await compute.value(CONTENT), content);
    amcheck(compute);
    dropPageCache(compute.paths);
    const multiples = Math.floor(ROWS / 7);
    const sum = String(7 * multiples * (multiples + 1) / 2);
    assert.equal(await compute.value("SELECT sum(balance) FROM accounts"), sum);
  });

  test("never shows half a transfer while pages are fetched and written at once", async () => {
    const [seed = 1] = seeds(1);
    await using compute = await branchOff("concurrent");
    let going = true;
    const workers = [1, 2, 3, 4].map((n) => moveMoney(compute, new Random(seed * 100 + n), () => going));
    try {
      await using reader = await compute.connect();
      for (let round = 0; round < 12; round++) {
        assert.equal(await reader.value("SELECT sum(balance) FROM accounts"), "0", `seed ${seed}`);
        if (round % 4 === 1) await reader.query("CHECKPOINT");
        if (round % 4 === 3) dropPageCache(compute.paths);
      }
    } finally {
      going = false;
    }
    await Promise.all(workers);
    const content = await compute.value(CONTENT);
    amcheck(compute);
    await compute.restart();
    assert.equal(await compute.value(CONTENT), content);
    amcheck(compute);
  });

  test("cuts, extends and drops relations while others are being fetched", async () => {
    await using compute = await branchOff("ddl");
    await compute.query("CREATE TABLE copy AS SELECT * FROM accounts");
    await compute.restart();
    await using reader = await compute.connect();
    await using writer = await compute.connect();
    // Before anybody reads for long: a snapshot from before it would keep the rows.
    await writer.query("DELETE FROM copy WHERE id > 5000");
    const reading = (async () => {
      for (let round = 0; round < 5; round++) {
        assert.equal(await reader.value("SELECT count(*) FROM accounts"), String(ROWS));
      }
    })();
    await vacuumAll(writer, "copy");
    const cutBytes = Number(await writer.value("SELECT pg_relation_size('copy')"));
    assert(cutBytes < Number(await writer.value("SELECT pg_relation_size('accounts')")) / 2);
    dropPageCache(compute.paths);
    await writer.query("INSERT INTO copy SELECT id + 1000000, 1, 'new' FROM accounts");
    assert.equal(await writer.value("SELECT count(*) || ' ' || sum(balance) FROM copy"), `25000 ${ROWS}`);
    await writer.query("TRUNCATE copy");
    assert.equal(await writer.value("SELECT count(*) FROM copy"), "0");
    await writer.query("INSERT INTO copy SELECT * FROM accounts");
    assert.equal(await writer.value("SELECT count(*) FROM copy"), String(ROWS));
    await writer.query("DROP TABLE copy");
    await reading;
    amcheck(compute);
  });

  test("has a twin on another branch of the same parent, and neither sees the other", async () => {
    await using one = await branchOff("twin_one");
    await using other = await branchOff("twin_other");
    await Promise.all([
      one.query("UPDATE accounts SET balance = 1"),
      other.query("UPDATE accounts SET balance = 2 WHERE id <= 10"),
    ]);
    assert.equal(await one.value("SELECT sum(balance) FROM accounts"), String(ROWS));
    assert.equal(await other.value("SELECT sum(balance) FROM accounts"), "20");
    amcheck(one);
    amcheck(other);
  });

  test("keeps databases, copied by file or by WAL, and drops them", async () => {
    await using compute = await branchOff("databases");
    await compute.query("CREATE DATABASE source");
    await compute.query(`CREATE TABLE accounts AS SELECT generate_series(1, ${ROWS}) id`, {
      database: "source",
    });
    await compute.restart();
    await compute.query("CREATE DATABASE by_file TEMPLATE source STRATEGY file_copy");
    await compute.query("CREATE DATABASE by_wal TEMPLATE source STRATEGY wal_log");
    for (const database of ["by_file", "by_wal"]) {
      await using connection = await compute.connect({ database });
      assert.equal(await connection.value("SELECT count(*) FROM accounts"), String(ROWS));
      await connection.query("DELETE FROM accounts WHERE id > 10");
    }
    await compute.restart();
    for (const database of ["by_file", "by_wal"]) {
      assert.equal(await compute.value("SELECT count(*) FROM accounts", [], { database }), "10");
      await compute.query(`DROP DATABASE ${database}`);
    }
    assert.equal(await compute.value("SELECT count(*) FROM accounts"), String(ROWS));
  });

  test("keeps what is in a tablespace across a restart", async () => {
    await using compute = await branchOff("spaces");
    const location = mkdtempSync(join(tmpdir(), "zenith-tablespace-"));
    chownRecursive(location, pgUser());
    try {
      await compute.query(`CREATE TABLESPACE elsewhere LOCATION '${location}'`);
      await compute.query("CREATE TABLE moved TABLESPACE elsewhere AS SELECT * FROM accounts");
      await compute.stop();
    } finally {
      rmSync(location, { recursive: true });
    }
    await compute.start();
    assert.equal(await compute.value("SELECT count(*) FROM moved"), String(ROWS));
    await compute.query("ALTER TABLE accounts SET TABLESPACE elsewhere");
    await compute.restart();
    assert.equal(await compute.value("SELECT count(*) FROM accounts"), String(ROWS));
    amcheck(compute);
  });

  test("sorts, hashes and makes temporary tables in files of its own", async () => {
    await using compute = await branchOff("temporary");
    await using connection = await compute.connect();
    await connection.query("SET work_mem = '64kB'");
    await connection.query("CREATE TEMP TABLE t AS SELECT * FROM accounts ORDER BY md5(id::text)");
    assert.equal(
      await connection.value("SELECT count(*) FROM t JOIN accounts USING (id, filler)"),
      String(ROWS),
    );
  });

  test("waits for a page server that is away, and goes on when it is back", async () => {
    await using compute = await branchOff("patience");
    await using connection = await compute.connect();
    await using observer = await compute.connect();
    assert.equal(await connection.value("SELECT id FROM accounts WHERE id = 1"), 1);
    const pid = await connection.value("SELECT pg_backend_pid()");
    const waitEvent = () => observer.value(`SELECT wait_event FROM pg_stat_activity WHERE pid = ${pid}`);
    assert.equal(await waitEvent(), "ClientRead");
    await env.pageserver.kill9();
    let answered = false;
    const waiting = connection.value("SELECT count(*) FROM accounts").finally(() => answered = true);
    const waits = new RegExp(
      `^patience .* running \\(reads .* wait for the page server at .*:${env.pageserver.address.port}\\)$`,
      "m",
    );
    await until("pg list says what it waits for", async () => waits.test(await env.zenith("pg", "list")));
    await until("the query waits for data", async () => await waitEvent() === "DataFileRead");
    assert.equal(answered, false);
    await env.pageserver.start();
    assert.equal(await waiting, String(ROWS));
    assert.match(await env.zenith("pg", "list"), /^patience .* running$/m);
    amcheck(compute);
  });

  test("says that it has no page server, instead of starting", async () => {
    await using compute = await branchOff("alone");
    await compute.stop();
    await env.pageserver.kill9();
    try {
      const result = await env.tryZenith("pg", "start", compute.branch);
      assert.equal(result.code, 3, result.stderr);
      assert.match(result.stderr, new RegExp(`:${env.pageserver.address.port}`));
      assert.equal(isMounted(compute.paths), false);
    } finally {
      await env.pageserver.start();
    }
  });

  test("reads on at the LSN of its start when the page server gives up the history around it", async () => {
    const tenant = await env.createTenant();
    await using compute = await env.startCompute("main", tenant);
    await compute.query(
      `CREATE TABLE t AS SELECT n, repeat(md5(n::text), 4) f FROM generate_series(1, ${ROWS}) n`,
    );
    await compute.restart();
    await using pageserver = await env.pageserver.connect();
    await pageserver.query(`tenant_config ${tenant} gc_horizon_bytes=0 pitr_interval=0s`);
    await compute.query("UPDATE t SET f = 'new' WHERE n % 10000 = 0");
    await compute.query("CREATE TABLE more AS SELECT * FROM generate_series(1, 200000) n");
    const timeline = await compute.value("SHOW zenith.zenith_timeline");
    const [report] = await pageserver.query(`do_gc ${tenant} ${timeline} 0`);
    assert(Number(report!["layers_total"]) > 0);
    dropPageCache(compute.paths);
    assert.equal(
      await compute.value("SELECT count(*) || ' ' || sum((f = repeat(md5(n::text), 4))::int) FROM t"),
      `${ROWS} ${ROWS - 2}`,
    );
    assert.doesNotMatch(readFileSync(compute.paths.log, "utf8"), /lease/);
  });

  test("leaves nothing mounted when it is stopped or destroyed", async () => {
    const compute = await branchOff("tidy");
    assert.equal(isMounted(compute.paths), true);
    await compute.stop();
    assert.equal(isMounted(compute.paths), false);
    await compute.start();
    await env.zenith("pg", "stop", "tidy", "--destroy", "-m", "immediate");
    assert.equal(isMounted(compute.paths), false);
    await until("the directory is gone", () => spawnSync("test", ["-e", compute.paths.dir]).status === 1);
  });
});
