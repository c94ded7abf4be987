/** A tenant's superuser is whom Postgres runs as, and can put anything into its data directory. It must get no further. */
import assert from "node:assert/strict";
import { chmodSync, lstatSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parseBranchName } from "../../src/common/id.ts";
import { pgUser } from "../../src/pg_install/pg_user.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

const NOT_ROOT = process.getuid!() !== 0 && "Postgres runs as ourselves: there are no rights to gain";

let env: ZenithEnv;
let main: Compute;
/** A directory of root's. */
let treasure: string;

before(async () => {
  env = await ZenithEnv.create();
  main = await env.startCompute("main");
  treasure = mkdtempSync(join(tmpdir(), "zenith-treasure-"));
});
after(async () => {
  await env[Symbol.asyncDispose]();
  rmSync(treasure, { recursive: true, force: true });
});

describe("a tenant's superuser", { skip: NOT_ROOT }, () => {
  test("gets nothing of root's by links in the data directory", async () => {
    const { pgdata } = env.paths.compute(env.defaultTenant, parseBranchName("main"));
    const shell = (command: string) => main.query(`COPY (SELECT 1) TO PROGRAM '${command}'`);
    await shell(`ln -s ${treasure} ${pgdata}/link && mv ${pgdata}/pg_stat ${pgdata}/was`);
    await shell(`ln -s ${treasure} ${pgdata}/pg_stat`);
    await main.query("CREATE TABLE t (n int)");
    await main.stop();
    rmSync(join(pgdata, "was"), { recursive: true });
    // A copy that was put back, or somebody who wanted to look.
    chmodSync(pgdata, 0o755);
    await main.start();
    assert.equal(await main.value("SELECT count(*)::int FROM t"), 0);
    assert.equal(lstatSync(treasure).uid, 0);
    assert.deepEqual(readdirSync(treasure), []);
    assert.ok(lstatSync(join(pgdata, "pg_stat")).isDirectory());
    assert.equal(lstatSync(pgdata).mode & 0o777, 0o700);
  });

  test("can't lead its supervisor to another compute's socket, where root would be let in", async () => {
    await env.untilArrived("main");
    await env.branch("other", "main");
    const other = await env.startCompute("other");
    const [own, others] = [main, other].map(({ paths, address }) =>
      join(paths.socketDir, `.s.PGSQL.${address.port}`)
    );
    const shell = (command: string) => main.query(`COPY (SELECT 1) TO PROGRAM '${command}'`);
    await shell(`mv ${own} ${own}.was && ln -s ${others} ${own}`);
    await main.query("SELECT pg_terminate_backend(pid) FROM pg_stat_replication");
    await until("its supervisor has noticed", () => /\.s\.PGSQL\.\d+ is no socket/.test(main.log()));
    await shell(`mv -f ${own}.was ${own}`);
    await main.query("INSERT INTO t VALUES (1)");
    await other.stop();
  });

  test("can't write what other tenants are made from, nor can they read its log", () => {
    const cache = env.paths.pageserver.initdbCache;
    for (const name of readdirSync(cache, { recursive: true }) as string[]) {
      assert.equal(lstatSync(join(cache, name)).uid, 0, name);
    }
    const { postgresLog } = env.paths.compute(env.defaultTenant, parseBranchName("main"));
    assert.equal(lstatSync(postgresLog).mode & 0o777, 0o600);
  });

  test("can't write it while initdb makes it either", async () => {
    const cache = env.paths.pageserver.initdbCache;
    for (const version of readdirSync(cache)) rmSync(join(cache, version), { recursive: true });
    const owners = new Set<number>();
    const creating = env.createTenant();
    let isDone = false;
    void creating.finally(() => isDone = true);
    while (!isDone) {
      for (const name of readdirSync(cache).filter((name) => name.endsWith(".running"))) {
        owners.add(lstatSync(join(cache, name), { throwIfNoEntry: false })?.uid ?? 0);
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await creating;
    assert.ok([...owners].some((uid) => uid !== 0), "initdb was seen at work");
    assert.ok(!owners.has(pgUser()!.uid), "not as whom Postgres runs as");
  });

  test("finds its own cache of initdb replaced where an earlier version has left one", async () => {
    const cache = env.paths.pageserver.initdbCache;
    const [version] = readdirSync(cache);
    rmSync(join(cache, version!), { recursive: true });
    const shell = (command: string) => main.query(`COPY (SELECT 1) TO PROGRAM '${command}'`);
    chmodSync(cache, 0o777);
    await shell(`mkdir ${cache}/mine && touch ${cache}/mine/PG_VERSION`);
    chmodSync(cache, 0o755);
    renameSync(join(cache, "mine"), join(cache, version!));
    await env.createTenant();
    assert.equal(lstatSync(join(cache, version!)).uid, 0);
    assert.ok(readdirSync(join(cache, version!)).includes("base"));
  });
});
