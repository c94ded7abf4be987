/** Segments in which a compute was stopped and started are whole: for archives, and for stock standbys that read from their beginning. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { findPostgres } from "../../src/pg_install/find_postgres.ts";
import { parseLsn } from "../../src/common/lsn.ts";
import { makeOwnedDirectory, pgUser } from "../../src/pg_install/pg_user.ts";
import { segmentOffset, WAL_SEGMENT_SIZE_DEFAULT, walFileName } from "../../src/postgres/wal/page_header.ts";
import { addSettings } from "../harness/branching.ts";
import { StockCopy } from "../harness/stock_copy.ts";
import { type Compute, until, ZenithEnv } from "../harness/zenith_env.ts";

const MODES = [
  { storage: "lazy", safekeepers: 0 },
  { storage: "lazy", safekeepers: 1 },
  { storage: "eager", safekeepers: 0 },
  { storage: "eager", safekeepers: 1 },
] as const;

/** Refuses another file of the same name, as PostgreSQL's manual wants it. */
function archiveTo(directory: string): string[] {
  return [
    "archive_mode = on",
    `archive_command = 'if [ -e ${directory}/%f ]; then cmp %p ${directory}/%f; else cp %p ${directory}/%f; fi'`,
  ];
}

async function insert(pg: Compute, rows: number): Promise<void> {
  await pg.query(`INSERT INTO t SELECT generate_series(1, ${rows})`);
}

/** Ends the segment and waits until it is archived. */
async function archived(pg: Compute, directory: string): Promise<void> {
  const file = join(directory, String(await pg.value("SELECT pg_walfile_name(pg_switch_wal())")));
  await until(`${file} is archived`, () => existsSync(file));
}

function segmentOf(pg: Compute, lsn: string): Uint8Array {
  const name = walFileName(1, parseLsn(lsn), WAL_SEGMENT_SIZE_DEFAULT);
  return readFileSync(join(pg.paths.pgdata, "pg_wal", name));
}

for (const mode of MODES) {
  describe(`WAL of a ${mode.storage} compute with ${mode.safekeepers} safekeepers`, () => {
    test("is followed by a standby, and recovered from an archive, across stops and crashes", async () => {
      await using env = await ZenithEnv.create(mode);
      const archive = join(env.dir, "archive");
      makeOwnedDirectory(archive, pgUser());
      await using recovered = await StockCopy.of(env, "main");
      await using standby = await StockCopy.of(env, "main");
      const pg = await env.createCompute("main");
      addSettings(pg, ...archiveTo(archive));
      await pg.start();
      await pg.query("CREATE TABLE t (i int)");
      standby.start(
        "standby.signal",
        `primary_conninfo = '${pg.conninfo}'`,
        "wal_retrieve_retry_interval = 200ms",
      );
      await insert(pg, 1000);
      await standby.until("SELECT count(*)::int FROM t", 1000);
      await pg.restart();
      await insert(pg, 2000);
      // It connects again, and asks from the segment's beginning.
      await standby.until("SELECT count(*)::int FROM t", 3000);
      await standby.stop();
      // And recovers from what it was sent.
      standby.start("standby.signal");
      await standby.until("SELECT count(*)::int FROM t", 3000);
      await insert(pg, 500);
      await standby.until("SELECT count(*)::int FROM t", 3500);
      // What is not committed anywhere else yet must not be there.
      await standby.stop();
      await pg.stop("immediate");
      await pg.start();
      const start = await pg.lsn();
      assert.ok(
        segmentOffset(parseLsn(start), WAL_SEGMENT_SIZE_DEFAULT) > 8192,
        "it starts within a segment",
      );
      await insert(pg, 4000);
      await archived(pg, archive);
      recovered.start("recovery.signal", `restore_command = 'cp ${archive}/%f %p'`);
      await recovered.until("SELECT count(*)::int FROM t", 7500);
    });
  });
}

describe("the segment in which a branch leaves its parent", () => {
  test("leads to the branch's own WAL on lazy storage", async () => {
    await using env = await ZenithEnv.create({ storage: "lazy", major: 15 });
    const main = await env.startCompute("main");
    await main.query("CREATE TABLE t (i int)");
    await insert(main, 1000);
    await env.branch("child", "main");
    const child = await env.startCompute("child");
    await using client = env.pageserver.client();
    const start = (await client.branchList(env.defaultTenant)).find(({ name }) => name === "child")!
      .ancestor_lsn!;
    const segment = walFileName(1, start, WAL_SEGMENT_SIZE_DEFAULT);
    const file = join(child.paths.pgdata, "pg_wal", segment);
    const pgWaldump = join(findPostgres(15).binDir, "pg_waldump");
    // The second start finds WAL of the branch itself in its segment.
    for (const rows of [1000, 2000]) {
      await insert(child, rows);
      const dump = spawnSync(pgWaldump, ["-n", "100", file], { encoding: "utf8" });
      const records = dump.stdout.split("\n");
      assert.match(records[0]!, /CHECKPOINT_SHUTDOWN/, dump.stderr);
      assert.equal(parseLsn(/lsn: ([0-9A-F/]+)/.exec(records[0]!)![1]!), start);
      assert.ok(records.length > 100);
      await child.restart();
    }
  });

  test("begins with the parent's WAL on eager storage", async () => {
    await using env = await ZenithEnv.create({ storage: "eager" });
    const main = await env.startCompute("main");
    await main.query("CREATE TABLE t (i int)");
    await insert(main, 1000);
    await env.branch("child", "main");
    await using client = env.pageserver.client();
    const from = (await client.branchList(env.defaultTenant)).find(({ name }) => name === "child")!
      .ancestor_lsn!;
    const child = await env.startCompute("child");
    await insert(child, 1000);
    await child.restart();
    const lsn = await child.lsn();
    const offset = segmentOffset(from, WAL_SEGMENT_SIZE_DEFAULT);
    assert.ok(offset > 8192);
    const [ours, parents] = [segmentOf(child, lsn), segmentOf(main, lsn)];
    assert.ok(Buffer.compare(ours.subarray(0, offset), parents.subarray(0, offset)) === 0);
  });
});
