/** Tenants with operating system users of their own: the superuser of one gets at nothing of another's. */
import assert from "node:assert/strict";
import { lstatSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { saveEnvironment } from "../../src/control/environment.ts";
import { postmasterPid } from "../../src/compute/postgres/postgres_process.ts";
import { pgUser } from "../../src/pg_install/pg_user.ts";
import { TEST_PG_MAJOR } from "../harness/postgres_major.ts";
import { Compute, ZenithEnv } from "../harness/zenith_env.ts";

const NOT_ROOT = process.getuid!() !== 0 && "only root can run Postgres as several users";

const FIRST = 2_100_000_000;

// Of 18, the mount of lazy storage is read by several processes of its own.
for (const major of [TEST_PG_MAJOR, 18]) {
  describe(`tenants of PostgreSQL ${major}`, { skip: NOT_ROOT }, () => {
    let env: ZenithEnv;
    let hostile: Compute;
    let victim: Compute;

    before(async () => {
      env = await ZenithEnv.create({ major });
      hostile = await env.startCompute("main");
      await hostile.query("CREATE TABLE t (n int)");
    });
    after(() => env?.[Symbol.asyncDispose]());

    /** Runs a program as the user that the hostile tenant's Postgres runs as. */
    const shell = (command: string) =>
      hostile.query(`COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; ${command}'`);
    const ownerOf = (path: string) => lstatSync(path).uid;

    test("get one each when none of their Postgres runs, with the files that they had", async () => {
      assert.equal(ownerOf(hostile.paths.pgdata), pgUser()!.uid);
      const { paths, config } = env.environment;
      const tenant_uids = `${FIRST}-${FIRST + 9}`;
      saveEnvironment({ paths, config: { ...config, tenant_uids } });
      await env.branch("dev", "main");
      const dev = await env.startCompute("dev");
      assert.equal(ownerOf(dev.paths.pgdata), pgUser()!.uid, "its tenant's other Postgres runs");
      await dev.stop();
      await hostile.restart();
      victim = await env.startCompute("main", await env.createTenant());
      await victim.query("CREATE TABLE t (n int)");
      assert.deepEqual([hostile, victim].map(({ paths }) => ownerOf(join(paths.pgdata, "pg_hba.conf"))), [
        FIRST,
        FIRST + 1,
      ]);
      await dev.start();
      assert.equal(ownerOf(join(dev.paths.pgdata, "postgresql.conf")), FIRST);
      await dev.stop();
      await shell(`test "$(id -u) $(id -G)" = "${FIRST} ${FIRST}"`);
    });

    test("reach their own files and processes, and none of another's", async () => {
      const attempts = ({ paths }: Compute): string[] => {
        const pid = postmasterPid(paths.pgdata)!;
        return [
          `test -r ${paths.pgdata}/pg_hba.conf`,
          `ls ${paths.pgdata}/base/1`,
          `ls ${paths.socketDir}`,
          `ls ${paths.dir}/mount`,
          `head -c 1 ${paths.log}`,
          `head -c 1 ${paths.config}`,
          `kill -0 ${pid}`,
          `cat /proc/${pid}/environ`,
          `readlink /proc/${pid}/cwd`,
          `ls /proc/${pid}/fd/`,
        ];
      };
      for (const command of attempts(hostile)) await shell(`(${command}) >/dev/null`);
      for (const command of attempts(victim)) {
        await assert.rejects(shell(command), /program .* failed/, command);
      }
      await assert.rejects(
        hostile.query(`SELECT pg_read_file('${victim.paths.pgdata}/PG_VERSION')`),
        /denied/,
      );
    });

    test("get at no secret, no other data and no socket of the environment", async () => {
      const { root, auth, pageserver, safekeepers } = env.paths;
      const closed = [
        `cat ${hostile.paths.pgpass}`,
        `cat ${victim.paths.pgpass}`,
        `cat ${hostile.paths.postgresLog}`,
        `cat ${hostile.paths.tenantUid}`,
        `ls ${hostile.paths.dir}/..`,
        `cat ${hostile.paths.token}`,
        `ls ${auth.dir}`,
        `cat ${auth.adminToken}`,
        `ls ${pageserver.tenants}`,
        `ls ${safekeepers}`,
        `touch ${pageserver.initdbCache}/mine`,
        `touch ${root}/mine`,
        `touch ${hostile.paths.dir}/mine`,
        `psql -w -h ${victim.paths.socketDir} -p ${victim.address.port} -U zenith_admin postgres -c "SELECT 1"`,
        `psql -w -h 127.0.0.1 -p ${victim.address.port} -U zenith_admin postgres -c "SELECT 1"`,
        `psql -w -h ${hostile.paths.socketDir} -p ${hostile.address.port} -U zenith_admin postgres -c "SELECT 1"`,
      ];
      for (const command of closed) await assert.rejects(shell(command), /program .* failed/, command);
      await victim.query("INSERT INTO t VALUES (1)");
    });

    test("have their supervisor's rights given back, although the user has no name", async () => {
      await hostile.query("CREATE ROLE own SUPERUSER LOGIN PASSWORD 'own'");
      await hostile.query("ALTER ROLE zenith_admin NOLOGIN", { user: "own", password: "own" });
      await hostile.restart();
      assert.match(hostile.log(), /role zenith_admin was given back/);
      await hostile.query("INSERT INTO t VALUES (1)");
      assert.ok(!readFileSync("/etc/passwd", "utf8").includes(String(FIRST)));
    });
  });
}
