import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { formatBytes } from "../../src/commands/cli/output.ts";
import { PgClient } from "../../src/pgwire/client.ts";
import { BLCKSZ } from "../../src/postgres/cluster/page_layout.ts";
import { decodeRelationManifest, RELATION_MANIFEST_FILE } from "../../src/protocol/relation_manifest.ts";
import { TarReader } from "../../src/protocol/tar.ts";
import { vacuumAll } from "../harness/vacuum.ts";
import { type Compute, ZenithEnv } from "../harness/zenith_env.ts";

let env: ZenithEnv;
let pg: Compute;

before(async () => {
  env = await ZenithEnv.create();
  pg = await env.startCompute("main");
});
after(() => env[Symbol.asyncDispose]());

interface Sizes {
  readonly logical_size_bytes: number;
  readonly physical_size_bytes: number;
}

async function sizesOf(branch: string): Promise<Sizes> {
  await env.untilArrived(branch);
  await using wire = await env.pageserver.connect();
  const branches = await wire.json(`branch_list ${env.defaultTenant}`) as ({ name: string } & Sizes)[];
  return branches.find(({ name }) => name === branch)!;
}

/** The bytes of all relation files that a start of the branch would be told of. */
async function bytesOfFiles(branch: string): Promise<number> {
  await using server = env.pageserver.client();
  const found = (await server.branchList(env.defaultTenant)).find(({ name }) => name === branch)!;
  const login = { ...env.pageserver.address, user: "zenith_admin", database: "zenith", password: env.token };
  await using wire = await PgClient.connect(login);
  let isManifest = false;
  const manifest: Uint8Array[] = [];
  const reader = new TarReader({
    begin: ({ name }) => isManifest = name === RELATION_MANIFEST_FILE,
    content: (bytes) => isManifest && manifest.push(bytes.slice()),
    end() {},
  });
  for await (const chunk of wire.copyOut(`basebackup ${env.defaultTenant} ${found.timeline_id} lazy`)) {
    reader.push(chunk);
  }
  reader.finish();
  const { entries } = decodeRelationManifest(Buffer.concat(manifest));
  return entries.reduce((sum, { blocks }) => sum + blocks * BLCKSZ, 0);
}

/** What catalogs and their indexes may grow by meanwhile. */
const CATALOG_BYTES = 1 << 20;

function assertAbout(actual: number, expected: number, what: string): void {
  assert.ok(
    Math.abs(actual - expected) <= CATALOG_BYTES,
    `${what}: ${actual} bytes, expected about ${expected}`,
  );
}

describe("the size of a branch", () => {
  test("grows and shrinks as PostgreSQL says", async () => {
    const empty = await sizesOf("main");
    const databases = Number(await pg.value("SELECT sum(pg_database_size(oid)) FROM pg_database"));
    // Free space maps are not kept, 24 kB for each relation that has one; a lazy compute has none. Shared catalogs are in no database.
    assert.ok(empty.logical_size_bytes < databases + CATALOG_BYTES);
    assert.ok(empty.logical_size_bytes > databases / 2);

    await pg.query("CREATE TABLE filler AS SELECT g, repeat('x', 500) AS t FROM generate_series(1, 20000) g");
    await pg.query("CREATE INDEX ON filler (g)");
    await pg.query("VACUUM filler");
    const added = Number(
      await pg.value(`
        SELECT pg_relation_size('filler') + pg_relation_size('filler', 'vm') + pg_relation_size('filler_g_idx')`),
    );
    assert.ok(added > 10 << 20);
    const full = await sizesOf("main");
    assertAbout(full.logical_size_bytes - empty.logical_size_bytes, added, "growth");

    await env.branch("full", "main");
    assert.equal((await sizesOf("full")).logical_size_bytes, (await sizesOf("main")).logical_size_bytes);
    await pg.query("DELETE FROM filler WHERE g > 10000");
    await vacuumAll(pg, "filler");
    const half = await sizesOf("main");
    assertAbout(full.logical_size_bytes - half.logical_size_bytes, 10000 / 20000 * added, "cut by vacuum");
    await pg.query("DROP TABLE filler");
    assertAbout((await sizesOf("main")).logical_size_bytes, empty.logical_size_bytes, "after the drop");
    assertAbout((await sizesOf("full")).logical_size_bytes, full.logical_size_bytes, "on the branch");
  });

  test("is the same after a restart of the page server", async () => {
    await pg.stop();
    const before = await sizesOf("main");
    await env.pageserver.restart();
    assert.equal((await sizesOf("main")).logical_size_bytes, before.logical_size_bytes);
    await pg.start();
  });

  test("is to the page what its files add up to", async () => {
    const exact = async (branch: string, what: string) => {
      assert.equal(
        (await sizesOf(branch)).logical_size_bytes,
        await bytesOfFiles(branch),
        `${branch} ${what}`,
      );
    };
    await pg.query("CREATE DATABASE by_wal");
    await pg.query("CREATE DATABASE by_copy STRATEGY file_copy");
    await pg.query("CREATE TABLE grown AS SELECT g, repeat('x', 500) AS t FROM generate_series(1, 5000) g");
    const lsn = String(await pg.value("SELECT pg_current_wal_insert_lsn()"));
    await pg.query("DELETE FROM grown WHERE g > 2000");
    await vacuumAll(pg, "grown");
    await pg.query("DROP DATABASE by_copy");
    await pg.stop();
    await exact("main", "at its end");
    await env.branch("past", `main@${lsn}`);
    await exact("past", "left before tables were cut");
    await env.pageserver.kill9();
    await env.pageserver.start();
    for (const branch of ["main", "past", "full"]) await exact(branch, "after kill -9");
    await pg.start();
    await pg.query("TRUNCATE grown");
    await pg.stop();
    await exact("main", "after kill -9 and a truncation");
  });

  test("on disk is of its own versions, and in the tenant's", async () => {
    const main = await sizesOf("main");
    const full = await sizesOf("full");
    assert.ok(main.physical_size_bytes > 1 << 20);
    assert.ok(full.physical_size_bytes < main.physical_size_bytes);
    await using wire = await env.pageserver.connect();
    const status = await wire.value("status") as {
      tenant_sizes: { tenant_id: string; physical_size_bytes: number }[];
      timelines: Sizes[];
    };
    const [tenant] = status.tenant_sizes;
    assert.equal(tenant!.tenant_id, env.defaultTenant);
    assert.ok(tenant!.physical_size_bytes >= main.physical_size_bytes + full.physical_size_bytes);
    assert.ok(status.timelines.some((timeline) => timeline.logical_size_bytes === full.logical_size_bytes));
  });

  test("is listed on the command line", async () => {
    const listed = (await env.zenith("branch", "list")).trim().split("\n");
    assert.match(listed[0], /^BRANCH +TIMELINE +LSN +DATA +ON DISK +EXPIRES$/);
    const full = await sizesOf("full");
    // Its columns; no two of them have two spaces within.
    assert.deepEqual(listed[1].split(/ {2,}/).slice(3), [
      formatBytes(full.logical_size_bytes),
      formatBytes(full.physical_size_bytes),
      "never",
    ]);
    assert.match(listed[1], /^full +[0-9a-f]{32} +0\/[0-9A-F]+ /);
    assert.match(listed[2], /^main /);
  });
});
