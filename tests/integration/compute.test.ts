import assert from "node:assert/strict";
import { appendFileSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { checkPidFile } from "../../src/process/pid_file.ts";
import { postmasterPid } from "../../src/compute/postgres/postgres_process.ts";
import { pgUser } from "../../src/pg_install/pg_user.ts";
import { runZenith } from "../harness/cli.ts";
import { until, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;

before(async () => {
  env = await ZenithEnv.create();
});
after(() => env[Symbol.asyncDispose]());

describe("a compute", () => {
  test("knows its tenant, timeline and page server, and runs without fsync", async () => {
    await using pg = await env.startCompute("main");
    const conf = readFileSync(pg.paths.config, "utf8");
    await using client = env.pageserver.client();
    const [main] = await client.branchList(env.defaultTenant);
    assert.match(conf, new RegExp(`^zenith\\.zenith_tenant = '${env.defaultTenant}'$`, "m"));
    assert.match(conf, new RegExp(`^zenith\\.zenith_timeline = '${main!.timeline_id}'$`, "m"));
    assert.match(
      conf,
      new RegExp(
        `^zenith\\.page_server_connstring = 'host=127.0.0.1 port=${env.pageserver.address.port}'$`,
        "m",
      ),
    );
    await using session = await pg.connect();
    assert.equal(await session.value("SHOW zenith.zenith_tenant"), env.defaultTenant);
    assert.equal(await session.value("SHOW zenith.zenith_timeline"), main!.timeline_id);
    assert.equal(await session.value("SHOW fsync"), "off");
    assert.equal(await session.value("SHOW full_page_writes"), "off");
    assert.equal(
      await session.value("SHOW synchronous_standby_names"),
      env.safekeepers.length > 0 ? "walproposer" : "pageserver",
    );
    assert.match(String(await session.value("SHOW server_version")), /^15\./);
  });

  test("keeps what the user has put into its configuration, by hand and by ALTER SYSTEM", async () => {
    await env.branch("configured", "main");
    const pg = await env.createCompute("configured");
    appendFileSync(join(pg.paths.pgdata, "postgresql.conf"), "work_mem = '7MB'\n");
    appendFileSync(join(pg.paths.pgdata, "pg_hba.conf"), "# a line of the user's\n");
    await pg.start();
    await pg.query("ALTER SYSTEM SET maintenance_work_mem = '77MB'");
    await pg.restart();
    assert.equal(await pg.value("SHOW work_mem"), "7MB");
    assert.equal(await pg.value("SHOW maintenance_work_mem"), "77MB");
    assert.match(readFileSync(join(pg.paths.pgdata, "pg_hba.conf"), "utf8"), /^# a line of the user's$/m);
    await pg.stop();
  });

  test("has its data after its directory is destroyed", async () => {
    await env.branch("phoenix", "main");
    const pg = await env.startCompute("phoenix");
    await pg.query("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n");
    await env.zenith("pg", "stop", "phoenix", "--destroy");
    assert.doesNotMatch(await env.zenith("pg", "list"), /phoenix/);
    const again = await env.createCompute("phoenix");
    await again.start();
    assert.equal(await again.value("SELECT sum(n) FROM t"), "500500");
    await again.stop();
  });

  test("ends when its Postgres is killed, is listed as crashed, and starts again", async () => {
    await env.branch("killed", "main");
    const pg = await env.startCompute("killed");
    await pg.kill9();
    assert.match(
      await env.zenith("pg", "list"),
      /^killed +\S+ +\S+ +\S.* +crashed \(ended: Postgres was ended by SIGKILL\)$/m,
    );
    assert.match(readFileSync(pg.paths.log, "utf8"), /Postgres was ended by SIGKILL/);
    await pg.start();
    assert.match(await env.zenith("pg", "list"), /^killed +\S+ +\S+ +\S.* +running$/m);
    await pg.stop();
    assert.match(await env.zenith("pg", "list"), /^killed +\S+ +\S+ +\S.* +stopped$/m);
  });

  test("takes its Postgres along when its supervisor is killed", async () => {
    await env.branch("orphaned", "main");
    const pg = await env.startCompute("orphaned");
    const supervisor = checkPidFile(pg.paths.pidFile);
    assert.ok(supervisor.state === "running");
    process.kill(supervisor.process.pid, "SIGKILL");
    await until("Postgres has ended", () => postmasterPid(pg.paths.pgdata) === undefined);
    await pg.start();
    assert.equal(await pg.value("SELECT 1"), 1);
    await pg.stop();
  });

  test("is followed again when the page server comes back", async () => {
    await env.branch("patient", "main");
    const pg = await env.startCompute("patient");
    await pg.query("CREATE TABLE t (n int)");
    await using session = await pg.connect();
    // It has read what it needs: on a lazy compute it would wait for pages, which is not what this is about.
    await session.query("INSERT INTO t VALUES (0)");
    assert.equal(await session.value("SELECT count(*) FROM t"), "1");
    await env.pageserver.stop();
    const waiting = session.query("INSERT INTO t VALUES (1)");
    await env.pageserver.start();
    await waiting;
    assert.equal(await session.value("SELECT count(*) FROM t"), "2");
    await pg.stop();
  });

  test("whose port is taken does not start, and says whose fault it is", async () => {
    await env.branch("crowded", "main");
    const pg = await env.createCompute("crowded");
    const squatter = createServer();
    await new Promise<void>((resolve) => squatter.listen(pg.address.port, "127.0.0.1", resolve));
    const refused = await env.tryZenith("pg", "start", "crowded");
    assert.equal(refused.code, 5);
    assert.match(refused.stderr, new RegExp(`:${pg.address.port} is in use by process ${process.pid} `));
    await new Promise((resolve) => squatter.close(resolve));
    await pg.start();
    await pg.stop();
  });

  if (process.getuid?.() === 0) {
    test("is started by another user than before, whatever that one has left", async () => {
      await env.branch("inherited", "main");
      await using pg = await env.createCompute("inherited");
      const startAs = async (user: string) => {
        const variables = { ZENITH_REPO_DIR: env.repoDir, ZENITH_PG_USER: user };
        const started = await runZenith(["pg", "start", "inherited"], variables);
        assert.equal(started.code, 0, started.stderr);
      };
      await startAs("nobody");
      await pg.query("CREATE TABLE t AS SELECT 42 AS n");
      await pg.kill9();
      await startAs(pgUser()!.name);
      assert.equal(await pg.value("SELECT n FROM t"), 42);
    });
  }

  test("is not made twice, not started twice, not found where there is none", async () => {
    await env.branch("single", "main");
    await using pg = await env.startCompute("single");
    const created = await env.tryZenith("pg", "create", "single");
    assert.equal(created.code, 5);
    assert.match(created.stderr, /has a Postgres already/);
    assert.match(await env.zenith("pg", "start", "single"), /^Postgres of branch single runs already$/m);
    assert.equal(await pg.value("SELECT 1"), 1);
    assert.equal((await env.tryZenith("pg", "start", "nobody")).code, 4);
    assert.equal((await env.tryZenith("pg", "create", "nobody")).code, 4);
    assert.equal((await env.tryZenith("pg", "stop", "nobody")).code, 4);
  });

  test("with a mistake in its configuration says which", async () => {
    await env.branch("mistaken", "main");
    const pg = await env.createCompute("mistaken");
    appendFileSync(join(pg.paths.pgdata, "postgresql.conf"), "shared_buffers = 'many'\n");
    const refused = await env.tryZenith("pg", "start", "mistaken");
    assert.equal(refused.code, 3);
    assert.match(refused.stderr, /shared_buffers/);
  });
});
