/** An environment with an object store: what is uploaded, and what comes back when the host is lost. */
import assert from "node:assert/strict";
import {
  appendFileSync,
  chmodSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { after, describe, test } from "node:test";
import { formatHostPort } from "../../src/common/host_port.ts";
import { parseTenantId } from "../../src/common/id.ts";
import { runZenith } from "../harness/cli.ts";
import { readKeyFile } from "../../src/object_store/key_file.ts";
import { layersOn, recoverEdgeHost } from "../harness/edge_recovery.ts";
import { KeyFile } from "../harness/key_file.ts";
import { until, ZenithEnv } from "../harness/zenith_env.ts";

const OPTIONS = { timeout: 240_000 };
const root = mkdtempSync(join(tmpdir(), "zenith-store-"));
// PostgreSQL's user has to get to environments there.
chmodSync(root, 0o755);
after(() => rmSync(root, { recursive: true, force: true }));

const urlOf = (name: string) => pathToFileURL(join(root, name)).href;

function urlOfServer(env: ZenithEnv): string {
  return `postgres://${formatHostPort(env.pageserver.address)}`;
}

async function survey(env: ZenithEnv) {
  return JSON.parse((await env.tryZenith("status", "--json")).stdout);
}

describe("an environment with an object store", () => {
  test("that dies under load comes back elsewhere with all that was uploaded", OPTIONS, async () => {
    await recoverEdgeHost(urlOf("edge"));
  });

  test("gets one later, and what it has goes up", OPTIONS, async () => {
    await using env = await ZenithEnv.create({ safekeepers: 0 });
    const pg = await env.startCompute();
    await pg.query("CREATE TABLE t AS SELECT generate_series(1, 1000) n");
    assert.equal((await survey(env)).object_store, null);
    await env.zenith("object-store", "set", urlOf("later"));
    // Postgres writes WAL by itself, too, so what is asked next may find some again.
    await until("status says that all is in the store", async () => {
      const { object_store: store } = await survey(env);
      const isSaid = (await env.zenith("status")).includes("everything is in the object store file:");
      return store.tenants.length === 1 && isSaid;
    });
    assert.match(await env.zenith("status"), /what is uploaded is not encrypted/);

    // The same store, encrypted from now on.
    const keyFile = join(root, "later.key");
    const [, id] = /encrypted with key (\w+); keep a copy/.exec(
      await env.zenith("object-store", "set", urlOf("later"), "--key-file", keyFile),
    )!;
    await pg.query("CREATE TABLE secret AS SELECT 'nobody else must read this' AS word");
    await env.zenith("pg", "stop", "main");
    await until("all is in the store", async () => {
      const { object_store: store } = await survey(env);
      return store.tenants[0]?.is_encrypted === true && store.pending_since === null;
    });
    assert.match(
      await env.zenith("status"),
      new RegExp(`encrypted with key ${id} .* from before it was are not`),
    );
    const from = (...args: readonly string[]) =>
      runZenith(["init", "--from", urlOf("later"), ...args], { ZENITH_REPO_DIR: join(root, "refused") });
    const keyless = await from();
    assert.match(keyless.stderr, new RegExp(`is encrypted with key ${id}, and no key is configured`));
    assert.match(keyless.stderr, /--key-file/);
    const rotated = await env.zenith("object-store", "rotate-key");
    assert.match(rotated, /encrypts one tenant's key now/);
    // Only the key before the rotation.
    const kept = new KeyFile([readKeyFile(keyFile)[1]!]);
    const outdated = await from("--key-file", kept.path);
    kept.remove();
    assert.match(outdated.stderr, new RegExp(`there are only ${id}`));
    assert.throws(() => readdirSync(join(root, "refused")), "nothing was made");
    await env.zenith("stop");

    // The host is there, and somebody else has gone on with its data.
    await using other = await ZenithEnv.create({
      init: ["--from", urlOf("later"), "--key-file", keyFile],
      safekeepers: 0,
    });
    const there = await other.startCompute();
    assert.equal(await there.value("SELECT count(*) FROM t"), "1000");
    assert.equal(await there.value("SELECT word FROM secret"), "nobody else must read this");
    // It may notice before it has started what ran before.
    await env.tryZenith("start");
    await until("the first host notices it", async () => {
      return (await survey(env)).problems.some(({ what }: { what: string }) =>
        /has taken it over/.test(what)
      );
    });
    const refused = await env.tryZenith("branch", "new", "main");
    assert.match(refused.stderr, /another page server has taken it over/);
    assert.notEqual(refused.code, 0);
  });

  test("passes a tenant on to another one, and takes it back", OPTIONS, async () => {
    const init = ["--object-store", urlOf("moves")];
    await using one = await ZenithEnv.create({ init, safekeepers: 1 });
    await using other = await ZenithEnv.create({ init, safekeepers: 1 });
    const tenant = await one.createTenant();
    let count = 0;
    await one.zenith(...[
      "remote",
      "add",
      "other",
      urlOfServer(other),
      "--token",
      other.paths.auth.adminToken,
    ]);
    for (const [from, to] of [[one, other], [other, one]] as const) {
      const pg = await from.startCompute("main", tenant);
      if (count === 0) await pg.query("CREATE TABLE t (n int)");
      for (let i = 0; i < 3; i++) await pg.query(`INSERT INTO t VALUES (${count++})`);
      const busy = await from.tryZenith("tenant", "detach", tenant);
      assert.match(busy.stderr, /a Postgres runs on main/);
      await pg.stop();
      await from.zenith("tenant", "detach", tenant);
      const attached = JSON.parse(await to.zenith("tenant", "attach", tenant, "--json"));
      assert.equal(attached.tenant_id, tenant);
    }
    const last = await one.startCompute("main", tenant);
    await last.query(`INSERT INTO t VALUES (${count++})`);
    assert.match((await one.tryZenith("tenant", "move", tenant, "other")).stderr, /a Postgres runs on main/);
    // A copy goes over the wire.
    const pushed = JSON.parse(
      await one.zenith(
        ...["push", "main", "other", "--tenantid", tenant, "--as", "copy-of-main", "--json"],
      ),
    );
    const again = ["push", "main", "other", "--tenantid", tenant, "--to-tenant", pushed.tenant_id];
    const { code, stderr } = await one.tryZenith(...again);
    assert.equal(code, 5, stderr);
    await one.untilArrived("main", tenant);
    await until("all is in the store", async () => (await survey(one)).object_store.pending_since === null);
    const at = new Date().toISOString();
    await one.zenith("branch", "create", "later", "--tenantid", tenant);
    await last.query("DROP TABLE t");
    const recover = ["tenant", "recover", tenant, "--at", at];
    assert.match((await one.tryZenith(...recover, "--yes")).stderr, /a Postgres runs on main/);
    await last.stop();
    const shown = await one.zenith(...recover, "--dry-run");
    assert.match(shown, /later +was not there +0\/[0-9A-F]+\nmain +0\/[0-9A-F]+ +0\//);
    const none = await one.tryZenith("tenant", "recover", tenant, "--at", "2026-01-01T00:00:00Z", "--yes");
    assert.match(none.stderr, /is not all there any more/);
    await one.zenith(...recover, "--yes");
    assert.match(await one.zenith("object-store", "list"), new RegExp(`${tenant} +in use here +\\d`));
    const back = await one.startCompute("main", tenant);
    assert.equal(await back.value("SELECT count(*) FROM t"), String(count));
    await back.query(`INSERT INTO t VALUES (${count++})`);
    await back.stop();
    await one.zenith("tenant", "move", tenant, "other");
    assert.ok(!(await one.zenith("tenant", "list")).includes(tenant));
    assert.match(await one.zenith("object-store", "list"), new RegExp(`${tenant} +not here +\\d`));
    const pushedPg = await other.startCompute("copy-of-main", parseTenantId(pushed.tenant_id));
    assert.equal(await pushedPg.value("SELECT count(*) FROM t"), String(count - 1));
    await pushedPg.stop();
    assert.match(await one.zenith("remote", "list"), /other +postgres:/);
    await one.zenith("remote", "remove", "other");
    assert.match((await one.tryZenith("push", "main", "other")).stderr, /there is no remote other/);
    const pg = await other.startCompute("main", tenant);
    assert.equal(await pg.value("SELECT count(*) FROM t"), String(count));
  });

  test("has more data than its disk may take, and reads them from the store", OPTIONS, async () => {
    const init = ["--object-store", urlOf("large"), "--key-file", join(root, "large.key")];
    await using env = await ZenithEnv.create({ init, safekeepers: 1 });
    await env.zenith("stop");
    const limit = 64 << 20;
    appendFileSync(join(env.repoDir, "pageserver.toml"), `layer_disk_bytes = ${limit}\n`);
    appendFileSync(join(env.repoDir, "pageserver.toml"), "checkpoint_distance_bytes = 8388608\n");
    await env.zenith("start");
    const pg = await env.startCompute();
    await pg.query("CREATE TABLE t (n int PRIMARY KEY, filler bytea)");
    await pg.query("ALTER TABLE t ALTER filler SET STORAGE PLAIN");
    for (let part = 0; part < 5; part++) {
      await pg.query(
        `INSERT INTO t SELECT n, (SELECT string_agg(decode(md5(n::text || i), 'hex'), '')
         FROM generate_series(1, 120) i) FROM generate_series(${part * 10_000}, ${part * 10_000 + 9_999}) n`,
      );
    }
    await pg.stop();
    await until("all is in the store, and the disk within its limit", async () => {
      const { object_store: store } = await survey(env);
      const { fetched_bytes, uploaded_bytes, pending_bytes } = store.disk;
      return store.pending_since === null && pending_bytes === 0 && fetched_bytes + uploaded_bytes <= limit;
    });
    const isRight = `filler = (SELECT string_agg(decode(md5(n::text || i), 'hex'), '')
      FROM generate_series(1, 120) i)`;
    await pg.start();
    assert.equal(await pg.value(`SELECT count(*) FROM t WHERE n % 50 = 0 AND ${isRight}`), "1000");
    const { object_store: store } = await survey(env);
    assert.ok(store.disk.fetched_bytes > 0, "some of it comes from the store");
    assert.ok(layersOn(env).length > 0, "and some of it is here");
    assert.match(await env.zenith("status"), /layers take .* of 64.0 MiB on the page server's disk/);
    await pg.stop();
    await env.zenith("stop");
    await env.zenith("fsck", env.repoDir);
  });

  test("goes on while the store is away, says so, and makes up for it", OPTIONS, async () => {
    await using env = await ZenithEnv.create({ init: ["--object-store", urlOf("away")], safekeepers: 1 });
    const pg = await env.startCompute();
    await pg.query("CREATE TABLE t (n int)");
    // Nothing can be written below a file.
    renameSync(join(root, "away"), join(root, "kept"));
    writeFileSync(join(root, "away"), "");
    const problem = /uploads fail: could not .*away/;
    await until("status says that uploads fail", async () => {
      await pg.query("INSERT INTO t VALUES (1)");
      return (await survey(env)).problems.some(({ what }: { what: string }) => problem.test(what));
    });
    const [before] = await env.safekeepers[0]!.status();
    assert.ok(before!.remote_consistent_lsn < before!.commit_lsn, "the safekeeper keeps its WAL");
    rmSync(join(root, "away"));
    renameSync(join(root, "kept"), join(root, "away"));
    await until("the safekeeper hears that all is uploaded", async () => {
      const [now] = await env.safekeepers[0]!.status();
      return now!.remote_consistent_lsn >= before!.commit_lsn;
    });
    await until("status has no problem", async () => (await survey(env)).problems.length === 0);
  });

  test("is refused when the store can't be used, and leaves nothing behind", OPTIONS, async () => {
    const dir = join(root, "refused");
    const init = (...args: readonly string[]) => runZenith(["init", ...args], { ZENITH_REPO_DIR: dir });
    for (
      const [args, why] of [
        [["--object-store", "s3://bucket?endpoint=nonsense"], /endpoint is "nonsense"/],
        [["--from", urlOf("nothing")], /has no tenants/],
        [["--from", urlOf("a"), "--object-store", urlOf("b")], /exclude each other/],
        [["--from", urlOf("a"), "--key-file", join(root, "no.key")], /there is no file .*no\.key/],
        [["--key-file", join(root, "no.key")], /is for an object store/],
      ] as const
    ) {
      const { code, stderr } = await init(...args);
      assert.match(stderr, why);
      assert.notEqual(code, 0);
    }
    assert.throws(() => readdirSync(dir));
  });
});
