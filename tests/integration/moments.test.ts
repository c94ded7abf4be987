/** Postgres that look at moments of a branch's past, beside the branch's own, which goes on writing. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import type { TenantId } from "../../src/common/id.ts";
import { parseLsn } from "../../src/common/lsn.ts";
import { findAllPostgres } from "../../src/pg_install/find_postgres.ts";
import { allComputePlaces } from "../../src/control/compute_places.ts";
import { checkPidFile, isRunning } from "../../src/process/pid_file.ts";
import { Connection } from "../harness/connection.ts";
import { freePort } from "../harness/ports.ts";
import { TEST_PG_MAJOR } from "../harness/postgres_major.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

const here = new Set(findAllPostgres().map(({ major }) => major));
const MAJORS = [...new Set([TEST_PG_MAJOR, 18])].filter((major) => here.has(major));

/** Through the pages of the table, not by what a planner knows. */
const ROWS = "SELECT count(*) || ' ' || sum(n) || ' ' || max(n) FROM steps";
/** What {@link ROWS} gives when 1, 2, … n are there. */
const upTo = (n: number) => `${n} ${n * (n + 1) / 2} ${n}`;

interface Opened {
  readonly name: string;
  value(sql: string): Promise<unknown>;
}

/** Starts the Postgres of a moment, on a port of the tests. */
async function open(env: ZenithEnv, point: string, ...options: string[]): Promise<Opened> {
  const port = String(await freePort());
  const started = JSON.parse(await env.zenith("pg", "start", point, "--port", port, "--json", ...options));
  assert.equal(started.name, `${started.branch}@${started.read_only_lsn}`);
  assert.equal(started.address, `127.0.0.1:${port}`);
  return {
    name: started.name,
    async value(sql) {
      await using session = await Connection.openUri(started.uri);
      return await session.value(sql);
    },
  };
}

interface Listed {
  readonly name: string;
  readonly branch: string;
  readonly status: string;
  readonly pid: number | null;
  readonly read_only_lsn: string | null;
}

async function list(env: ZenithEnv, ...options: string[]): Promise<Listed[]> {
  return JSON.parse(await env.zenith("pg", "list", "--json", ...options));
}

/** Rows 1, 2, … to `last`, a commit each. @returns the branch's end after the last one */
async function write(pg: Compute, first: number, last: number): Promise<string> {
  await using session = await pg.connect();
  for (let n = first; n <= last; n++) {
    await session.query(`INSERT INTO steps VALUES (${n}, repeat('x', 500))`);
  }
  return String(await session.value("SELECT pg_current_wal_insert_lsn()"));
}

/** Commits on another table until it is stopped. */
class Load implements AsyncDisposable {
  commits = 0;
  #stopping = false;
  readonly #running: Promise<void>;

  constructor(pg: Compute) {
    this.#running = this.#run(pg);
  }

  async #run(pg: Compute): Promise<void> {
    await using session = await pg.connect();
    while (!this.#stopping) {
      await session.query("INSERT INTO load SELECT n, md5(n::text) FROM generate_series(1, 20) n");
      this.commits++;
    }
  }

  /** Waits for some more. */
  async goesOn(): Promise<void> {
    const target = this.commits + 10;
    await until("more is committed", () => this.commits >= target);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping = true;
    await this.#running;
  }
}

for (const major of MAJORS) {
  describe(`moments of a branch of PostgreSQL ${major} that is being written`, () => {
    let env: ZenithEnv;
    let pg: Compute;

    before(async () => {
      env = await ZenithEnv.create({ major });
      pg = await env.startCompute("main");
      await pg.query("CREATE TABLE steps (n int, filler text)");
      await pg.query("CREATE TABLE load (n int, word text)");
    });
    after(() => env[Symbol.asyncDispose]());

    for (const storage of ["lazy", "eager"]) {
      test(`are there side by side, each with its rows, with ${storage} storage`, async () => {
        await pg.query("TRUNCATE steps");
        const supervisor = checkPidFile(pg.paths.pidFile);
        assert.equal(supervisor.state, "running");
        const log = pg.log();
        await using load = new Load(pg);
        const opened: [Opened, number][] = [];
        const first = await write(pg, 1, 40);
        opened.push([await open(env, `main@${first}`, "--storage", storage), 40]);
        await write(pg, 41, 100);
        const time = await pg.value(
          "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS') || 'Z'",
        );
        // Moments are told apart to the millisecond.
        await pg.query("SELECT pg_sleep(0.005)");
        const third = await write(pg, 101, 150);
        opened.push([await open(env, `main@${time}`, "--storage", storage), 100]);
        await pg.query("DELETE FROM steps WHERE n > 150");
        await write(pg, 151, 200);
        // By the option it is the same, when the branch's own Postgres runs.
        const port = String(await freePort());
        const said = await env.zenith(
          ...["pg", "start", "main", "--lsn", third, "--port", port, "--storage", storage],
        );
        assert.match(said, /^Postgres of branch main@\S+ started, read-only at /);
        const again = JSON.parse(await env.zenith("pg", "start", `main@${third}`, "--json"));
        assert.equal(again.address, `127.0.0.1:${port}`, "the same moment is the same Postgres");
        assert.match(await env.zenith("pg", "start", again.name), /runs already, read-only at/);

        for (const [moment, rows] of opened) assert.equal(await moment.value(ROWS), upTo(rows), moment.name);
        assert.match(await env.zenith("sql", again.name, "--csv", "-c", ROWS), new RegExp(upTo(150)));
        assert.equal(await pg.value(ROWS), upTo(200));
        for (const [moment] of opened) {
          const refused = await env.tryZenith("sql", moment.name, "-c", "INSERT INTO steps VALUES (0)");
          assert.equal(refused.code, 1);
          assert.match(refused.stderr, /cannot execute INSERT in a read-only transaction/);
        }

        await load.goesOn();
        const listed = await list(env);
        assert.deepEqual(listed.map(({ status }) => status), listed.map(() => "running"));
        assert.equal(listed.filter(({ name }) => name.startsWith("main@")).length, 3);
        assert.deepEqual(checkPidFile(pg.paths.pidFile), supervisor, "nobody has taken over from main");
        assert.equal(pg.log(), log, "nor has it anything to say about them");
        const survey = JSON.parse(await env.zenith("status", "--json"));
        assert.deepEqual(survey.problems, []);

        // They do not need it, and it does not mind them.
        await load[Symbol.asyncDispose]();
        await pg.stop();
        for (const [moment, rows] of opened) assert.equal(await moment.value(ROWS), upTo(rows), moment.name);
        await pg.start();
        assert.equal(await pg.value(ROWS), upTo(200));
        await write(pg, 201, 210);
        assert.equal(await pg.value(ROWS), upTo(210));

        for (const { name } of listed.filter(({ name }) => name !== "main")) {
          assert.equal(await env.zenith("pg", "stop", name), `Postgres of branch ${name} stopped\n`);
        }
        assert.deepEqual((await list(env)).map(({ name }) => name), ["main"]);
        const directories = allComputePlaces(env.environment).map(({ name }) => name);
        assert.deepEqual(directories, ["main"]);
      });
    }
  });
}

describe("a moment that is looked at", () => {
  let env: ZenithEnv;
  let pg: Compute;
  let timeline: string;
  const lsns: string[] = [];

  before(async () => {
    env = await ZenithEnv.create();
    pg = await env.startCompute("main");
    await pg.query("CREATE TABLE steps (n int, filler text)");
    for (let n = 1; n <= 5; n++) lsns.push(await write(pg, n, n));
    await using wire = await env.pageserver.connect();
    [{ timeline_id: timeline }] = await wire.json(`branch_list ${env.defaultTenant}`) as [
      { timeline_id: string },
    ];
  });
  after(() => env[Symbol.asyncDispose]());

  /** The holders of leases on an LSN. */
  function holders(lsn: string): string[] {
    const text = readFileSync(
      `${env.repoDir}/tenants/${env.defaultTenant}/timelines/${timeline}/leases`,
      "utf8",
    );
    return text.split("\n").filter((line) => line.startsWith(`${lsn} `)).flatMap((line) =>
      line.split(" ").slice(2)
    );
  }

  async function collectGarbage(): Promise<void> {
    await env.untilArrived();
    await using wire = await env.pageserver.connect();
    await wire.query(`do_gc ${env.defaultTenant} ${timeline} 0`);
  }

  test("is told by its time only as long as that is the same moment", async () => {
    const ahead = await env.tryZenith("pg", "start", "main@FF/0");
    assert.equal(ahead.code, 2);
    assert.match(ahead.stderr, /FF\/0 is in the future: branch main ends at /);
    const early = await env.tryZenith("pg", "start", "main@2001-01-01");
    assert.equal(early.code, 2);
    assert.match(early.stderr, /before the history of timeline .* begins/);
    const none = await env.tryZenith("sql", "main@now", "-c", "SELECT 1");
    assert.equal(none.code, 4);
    assert.match(none.stderr, /no Postgres looks at main@\S+\nhint: "zenith pg start main@/);
    const both = await env.tryZenith("pg", "start", "main@-5m", "--lsn", "0/1");
    assert.equal(both.code, 2);
    assert.match(both.stderr, /names a moment already/);

    const now = await open(env, "main@now");
    assert.equal(await now.value("SELECT count(*) FROM steps"), "5");
    await write(pg, 6, 6);
    assert.equal(await now.value("SELECT count(*) FROM steps"), "5");
    assert.match(
      await env.zenith("uri", now.name),
      /^postgres:\/\/zenith_admin:[\w-]{32}@127\.0\.0\.1:\d+\/postgres\n$/,
    );
    assert.match(await env.zenith("psql", now.name, "--", "-Atc", "SELECT max(n) FROM steps"), /^5\n$/);
    assert.match(await env.zenith("logs", now.name), new RegExp(`==> Postgres of branch ${now.name}: `));
    assert.match(await env.zenith("status"), new RegExp(`^${now.name} +running, read-only at `, "m"));
    // Anybody may set a parameter; the branch does not have it then.
    await now.value("ALTER SYSTEM SET work_mem = '77MB'");
    await env.zenith("pg", "stop", now.name, "--destroy");
    assert.equal(await env.zenith("pg", "config", "main", "work_mem"), "");
  });

  test("keeps its branch from being deleted and restored, and the other way round stops nobody", async () => {
    await env.branch("dev", "main");
    await using dev = await env.startCompute("dev");
    await dev.query("INSERT INTO steps VALUES (100)");
    const moment = await open(env, "dev@now");
    // The branch point and what is before it are main's.
    const before = await open(env, `main@${lsns[4]}`);
    await dev.query("INSERT INTO steps VALUES (101)");
    await dev.stop();
    for (const command of [["delete", "dev"], ["reset", "dev"], ["restore", "dev", "dev@now"]]) {
      const refused = await env.tryZenith("branch", ...command);
      assert.equal(refused.code, 5, refused.stderr);
      assert.ok(refused.stderr.includes(moment.name), refused.stderr);
      assert.ok(refused.stderr.includes(`zenith pg stop ${moment.name}`), refused.stderr);
    }
    assert.equal(await moment.value("SELECT max(n) FROM steps"), 100);
    const gone = allComputePlaces(env.environment).find(({ name }) => name === moment.name)!;
    await env.zenith("branch", "delete", "dev", "--stop");
    await until("its Postgres has ended and is removed", () => !existsSync(gone.paths.dir));
    assert.equal(await before.value("SELECT max(n) FROM steps"), 5);
    await env.zenith("pg", "stop", before.name);
  });

  for (const storage of ["lazy", "eager"]) {
    test(`is lost with its supervisor, with ${storage} storage, and found again by the next start`, async () => {
      const moment = await open(env, `main@${lsns[4]}`, "--storage", storage);
      const found = allComputePlaces(env.environment).find(({ name }) => name === moment.name)!;
      const running = checkPidFile(found.paths.pidFile);
      assert.ok(running.state === "running");
      process.kill(running.process.pid, "SIGKILL");
      await until("the supervisor is dead", () => !isRunning(running.process));
      assert.equal((await list(env)).find(({ name }) => name === moment.name)?.status, "crashed");
      await write(pg, 7, 7);
      const again = JSON.parse(await env.zenith("pg", "start", moment.name, "--json", "--storage", storage));
      assert.equal(again.name, moment.name);
      assert.equal(await moment.value("SELECT max(n) FROM steps"), 5);

      const second = checkPidFile(found.paths.pidFile);
      assert.ok(second.state === "running");
      process.kill(second.process.pid, "SIGKILL");
      await until("the supervisor is dead again", () => !isRunning(second.process));
      assert.match(await env.zenith("pg", "stop", moment.name), /is not running/);
      assert.equal(existsSync(found.paths.dir), false);
      await pg.query("DELETE FROM steps WHERE n = 7");
    });
  }

  test("belongs to its tenant", async () => {
    const other: TenantId = await env.createTenant();
    const theirs = await env.startCompute("main", other);
    await theirs.query("CREATE TABLE steps AS SELECT 1000 AS n");
    const moment = await open(env, "main@now", "--tenantid", other);
    await theirs.query("INSERT INTO steps VALUES (2000)");
    assert.equal(await moment.value("SELECT max(n) FROM steps"), 1000);
    assert.deepEqual((await list(env, "--tenantid", other)).map(({ name }) => name), ["main", moment.name]);
    assert.equal((await list(env)).length, 1);
    await theirs.stop();
    const refused = await env.tryZenith("tenant", "delete", other);
    assert.equal(refused.code, 5);
    assert.ok(refused.stderr.includes(`zenith pg stop ${moment.name} --tenantid ${other}`), refused.stderr);
    await env.zenith("pg", "stop", moment.name, "--tenantid", other);
    await env.zenith("tenant", "delete", other);
  });

  test("stays readable as long as somebody looks at it, and what nobody looks at is refused when it is gone", async () => {
    const lazy = await open(env, `main@${lsns[1]}`, "--storage", "lazy");
    const eager = await open(env, `main@${lsns[3]}`, "--storage", "eager");
    for (const { name } of [lazy, eager]) {
      await until(`${name} has a lease`, () => holders(name.slice("main@".length)).length === 1);
    }
    const configured = await env.zenith("tenant", "config", env.defaultTenant, "--json");
    await env.zenith(
      "tenant",
      "config",
      env.defaultTenant,
      "--pitr-interval",
      "0s",
      "--gc-horizon-bytes",
      "0",
    );
    try {
      for (let i = 0; i < 3; i++) await pg.query("UPDATE steps SET filler = filler || 'y'");
      await pg.query("VACUUM FULL steps");
      await collectGarbage();
      assert.equal(await lazy.value(ROWS), upTo(2));
      assert.equal(await eager.value(ROWS), upTo(4));
      const gone = await env.tryZenith("pg", "start", `main@${lsns[2]}`);
      assert.equal(gone.code, 2, gone.stderr);
      assert.match(gone.stderr, /not kept any more/);
      assert.deepEqual((await list(env)).length, 3, "nothing is made for it");
    } finally {
      const { pitr_interval, gc_horizon_bytes } = JSON.parse(configured);
      await env.zenith(
        ...["tenant", "config", env.defaultTenant, "--pitr-interval", pitr_interval],
        ...["--gc-horizon-bytes", String(gc_horizon_bytes)],
      );
    }
    for (const { name } of [lazy, eager]) {
      await env.zenith("pg", "stop", name);
      assert.deepEqual(holders(name.slice("main@".length)), [], "it is given up");
    }
  });

  test("is over when everything is stopped, and nobody's to bring back", async () => {
    const moment = await open(env, "main@now");
    const stopped = await env.zenith("stop");
    assert.ok(stopped.includes(`Postgres of branch ${moment.name} stopped\n`), stopped);
    assert.doesNotMatch(await env.zenith("start"), /main@/);
    assert.deepEqual((await list(env)).map(({ name, status }) => [name, status]), [["main", "running"]]);
    assert.ok(parseLsn(await pg.lsn()) > parseLsn(lsns[4]!));
  });
});
