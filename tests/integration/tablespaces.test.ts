/** Tablespaces: where SQL says they are, whose they are, and what is left of them. */
import assert from "node:assert/strict";
import { chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { pgUser } from "../../src/pg_install/pg_user.ts";
import { findAllPostgres } from "../../src/pg_install/find_postgres.ts";
import { checkPidFile, isRunning } from "../../src/process/pid_file.ts";
import { TEST_PG_MAJOR } from "../harness/postgres_major.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

const here = new Set(findAllPostgres().map(({ major }) => major));
/** What a major does differently does not depend on the storage: each of the others has one. */
const SETUPS = ([
  { major: TEST_PG_MAJOR, storage: "lazy" },
  { major: TEST_PG_MAJOR, storage: "eager" },
  { major: 14, storage: "eager" },
  { major: 18, storage: "lazy" },
] as const).filter(({ major }) => here.has(major));

const LOCATION = "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'elsewhere'";

/** Only root covers a directory. */
const isRoot = process.getuid?.() === 0;

for (const { major, storage } of SETUPS) {
  describe(`tablespaces of PostgreSQL ${major} with ${storage} storage`, { skip: !isRoot }, () => {
    let env: ZenithEnv;
    let pg: Compute;
    let directory: string;
    let location: string;

    before(async () => {
      env = await ZenithEnv.create({ major, storage });
      directory = mkdtempSync(join(tmpdir(), "zenith-tablespaces-"));
      location = join(directory, "a \\ b");
      makeLocation();
      pg = await env.startCompute("main");
    });
    after(async () => {
      await env[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true, force: true });
    });

    function makeLocation(): void {
      mkdirSync(location);
      const user = pgUser()!;
      for (const path of [directory, location]) chownSync(path, user.uid, user.gid);
    }

    test("are where their user said after a restart, and nothing is left there for others", async () => {
      await pg.query(`CREATE TABLESPACE elsewhere LOCATION '${location}'`);
      await pg.query("CREATE TABLE t TABLESPACE elsewhere AS SELECT n FROM generate_series(1, 1000) n");
      assert.equal(await pg.value(LOCATION), location);
      await pg.stop();
      assert.deepEqual(readdirSync(location), []);
      for (let i = 0; i < 2; i++) {
        await pg.start();
        assert.equal(await pg.value(LOCATION), location);
        assert.equal(await pg.value("SELECT count(*) FROM t"), "1000");
        await pg.query("CREATE TABLE more (n int) TABLESPACE elsewhere; DROP TABLE more");
        await pg.query("VACUUM FULL t");
        assert.deepEqual(readdirSync(location), []);
        await pg.stop();
      }
      await pg.start();
    });

    test("are a branch's own, at the same location", async () => {
      await env.branch("dev", "main");
      await using dev = await env.startCompute("dev");
      assert.equal(await dev.value(LOCATION), location);
      await pg.query("INSERT INTO t VALUES (2000); CHECKPOINT");
      await dev.query("INSERT INTO t VALUES (3000); CHECKPOINT");
      for (let i = 0; i < 2; i++) {
        assert.equal(await pg.value("SELECT max(n) FROM t"), 2000);
        assert.equal(await dev.value("SELECT max(n) FROM t"), 3000);
        await Promise.all([pg.restart(), dev.restart()]);
      }
      // The namespace of the one that started last keeps nothing of the other alive.
      await pg.restart();
      await dev.restart();
      await pg.restart();
      await dev.stop();
      await dev.start();
      // It gives its location up without taking it away from the other.
      await dev.query("DROP TABLE t");
      await dev.query("DROP TABLESPACE elsewhere");
      await dev.query(`CREATE TABLESPACE elsewhere LOCATION '${location}'`);
      await dev.query("CREATE TABLE t TABLESPACE elsewhere AS SELECT 7 AS n");
      await Promise.all([pg.restart(), dev.restart()]);
      assert.equal(await pg.value("SELECT count(*) FROM t"), "1001");
      assert.equal(await dev.value("SELECT max(n) FROM t"), 7);
    });

    test("are there after a crash of Postgres and of its supervisor", async () => {
      const supervisor = checkPidFile(pg.paths.pidFile);
      assert.ok(supervisor.state === "running");
      process.kill(supervisor.process.pid, "SIGKILL");
      await until("the supervisor is dead", () => !isRunning(supervisor.process));
      await pg.start();
      assert.equal(await pg.value("SELECT count(*) FROM t"), "1001");
      await using session = await pg.connect();
      const backend = Number(await session.value("SELECT pg_backend_pid()"));
      process.kill(backend, "SIGKILL");
      await until("Postgres has started afresh", async () => {
        try {
          return await pg.value("SELECT count(*) FROM t") === "1001" &&
            await pg.value(LOCATION) === location;
        } catch {
          return false;
        }
      });
    });

    test("leave a location that can be used again, also after a kill", async () => {
      await pg.query("DROP TABLE t");
      await pg.query("DROP TABLESPACE elsewhere");
      await pg.restart();
      await pg.query(`CREATE TABLESPACE elsewhere LOCATION '${location}'`);
      await pg.query("CREATE TABLE t TABLESPACE elsewhere AS SELECT 1 AS n");
      assert.equal(readdirSync(location).length, 1);
      const supervisor = checkPidFile(pg.paths.pidFile);
      assert.ok(supervisor.state === "running");
      process.kill(supervisor.process.pid, "SIGKILL");
      await until("the supervisor is dead", () => !isRunning(supervisor.process));
      await pg.start();
      assert.equal(await pg.value("SELECT n FROM t"), 1);
      assert.deepEqual(readdirSync(location), []);
      await pg.query("DROP TABLE t");
      await pg.query("DROP TABLESPACE elsewhere");
      await pg.query(`CREATE TABLESPACE elsewhere LOCATION '${location}'`);
      await pg.query("CREATE TABLE t TABLESPACE elsewhere AS SELECT 2 AS n");
    });

    test("are in the data directory where their location is not", async () => {
      await pg.stop();
      rmSync(location, { recursive: true });
      await pg.start();
      assert.equal(await pg.value("SELECT n FROM t"), 2);
      assert.match(String(await pg.value(LOCATION)), /^pg_tblspc\/\d+$/);
      await pg.stop();
      makeLocation();
      await pg.start();
      assert.equal(await pg.value(LOCATION), location);
      assert.equal(existsSync(pg.paths.tablespaces), storage === "eager");
    });
  });
}
