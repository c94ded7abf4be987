/** The decoder against a real cluster: every record, as the server itself reads its WAL, and every page image. */
import type { PgVersion } from "../../src/postgres/versions/pg_version.ts";
import { V15 } from "../../src/postgres/versions/v15.ts";
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { dumpWal } from "../../src/commands/dump/wal.ts";
import { formatLsn, type Lsn, parseLsn } from "../../src/common/lsn.ts";
import { parseControlFile } from "../../src/postgres/control_file.ts";
import { pageChecksum, storedPageChecksum } from "../../src/postgres/cluster/page_checksum.ts";
import { isPageNew } from "../../src/postgres/cluster/page_layout.ts";
import { parseRelationPath, relationPath, RELSEG_SIZE } from "../../src/postgres/cluster/relfile.ts";
import { restoreBlockImage } from "../../src/postgres/wal/block_image.ts";
import { WalDecoder } from "../../src/postgres/wal/decoder.ts";
import { parseWalFileName } from "../../src/postgres/wal/page_header.ts";
import {
  BKPBLOCK_FORK_MASK,
  BKPBLOCK_HAS_IMAGE,
  BKPIMAGE_COMPRESS_LZ4,
  BKPIMAGE_COMPRESS_PGLZ,
  BKPIMAGE_COMPRESS_ZSTD,
  BKPIMAGE_COMPRESSED,
  WalRecord,
} from "../../src/postgres/wal/record.ts";
import { parseDbase } from "../../src/postgres/wal/records/dbase.ts";
import { parseMultixactCreate } from "../../src/postgres/wal/records/multixact.ts";
import { parseRelmapUpdate } from "../../src/postgres/wal/records/relmap.ts";
import { parseSmgrCreate, parseSmgrTruncate } from "../../src/postgres/wal/records/smgr.ts";
import { parseCheckpointRecord } from "../../src/postgres/wal/records/xlog.ts";
import { recordTypeName, RM_XLOG_ID, rmgrName } from "../../src/postgres/wal/rmgr.ts";
import {
  parseAbort,
  parseCommit,
  twophaseFileContent,
  twophaseFileName,
} from "../../src/postgres/wal/xact.ts";
import { StockCluster } from "../harness/stock_cluster.ts";

const TEST_TIMEOUT_MS = 240_000;
const BLCKSZ = 8192;
/** 2000-01-01, where TimestampTz starts, in seconds since the Unix epoch. */
const POSTGRES_EPOCH_S = 946684800;

const IMAGE_KIND: Record<string, number> = {
  off: 0,
  pglz: BKPIMAGE_COMPRESS_PGLZ,
  lz4: BKPIMAGE_COMPRESS_LZ4,
  zstd: BKPIMAGE_COMPRESS_ZSTD,
};

const PARSERS: Record<string, (rec: WalRecord, pg: PgVersion) => unknown> = {
  "Transaction/COMMIT": parseCommit,
  "Transaction/COMMIT_PREPARED": parseCommit,
  "Transaction/ABORT": parseAbort,
  "Transaction/ABORT_PREPARED": parseAbort,
  "Database/CREATE_FILE_COPY": parseDbase,
  "Database/CREATE_WAL_LOG": parseDbase,
  "Database/DROP": parseDbase,
  "Storage/CREATE": parseSmgrCreate,
  "Storage/TRUNCATE": parseSmgrTruncate,
  "MultiXact/CREATE_ID": parseMultixactCreate,
  "RelMap/UPDATE": parseRelmapUpdate,
  "XLOG/CHECKPOINT_ONLINE": parseCheckpointRecord,
};

/** pd_lsn and pd_checksum: an image has them as they were when it was taken. */
const PAGE_HEADER_CHANGING = 10;
/** pd_lower, and behind it pd_upper: the page's hole. */
const PD_LOWER = 12;

/** Calls `visit` with every record in the cluster's pg_wal that starts at `from` or later, fed in pieces of `pieceSize`. */
function visitWal(
  cluster: StockCluster,
  segmentSize: number,
  from: Lsn,
  pieceSize: number,
  visit: (rec: WalRecord) => void,
): void {
  const walDir = join(cluster.dataDir, "pg_wal");
  const decoder = new WalDecoder({ pg: V15, startLsn: from, segmentSize, zerosAreEnd: true });
  const rec = new WalRecord();
  for (const name of readdirSync(walDir).sort()) {
    const position = parseWalFileName(name, segmentSize);
    if (position === undefined || position.lsn + segmentSize <= from) continue;
    const bytes = new Uint8Array(readFileSync(join(walDir, name)));
    for (let at = Math.max(0, from - position.lsn); at < bytes.length; at += pieceSize) {
      decoder.feed(bytes.subarray(at, at + pieceSize), (position.lsn + at) as Lsn);
      while (decoder.next(rec)) visit(rec);
      if (decoder.ended) return;
    }
  }
}

/** One line per record with all that pg_walinspect tells about it. */
function describeAsServer(rec: WalRecord): string {
  let images = 0;
  for (let id = 0; id < rec.blockCount; id++) images += rec.blockInUse[id] === 1 ? rec.imageLen[id] : 0;
  return [
    formatLsn(rec.lsn as Lsn),
    formatLsn(rec.endLsn as Lsn),
    formatLsn(rec.xl_prev as Lsn),
    rec.xl_xid,
    rmgrName(rec.xl_rmid),
    recordTypeName(V15, rec.xl_rmid, rec.xl_info),
    rec.xl_tot_len,
    rec.mainLen,
    images,
  ].join(" ");
}

async function currentLsn(cluster: StockCluster): Promise<Lsn> {
  const [row] = await cluster.sql`select pg_current_wal_insert_lsn()::text as lsn`;
  return parseLsn(row!["lsn"]);
}

/** Work that leaves records of most resource managers. */
async function workload(cluster: StockCluster): Promise<void> {
  const { sql } = cluster;
  await sql.unsafe(`
    create table accounts (id int primary key, balance int, filler text);
    insert into accounts select i, 0, repeat('x', i % 200) from generate_series(1, 20000) i;
    create index on accounts using hash (balance);
    create index on accounts using brin (id);
    create index on accounts using spgist (filler);
    create table documents (id serial, words int[], place point);
    insert into documents (words, place) select array[i % 97, i % 89, i], point(i, -i) from generate_series(1, 5000) i;
    create index on documents using gin (words);
    create index on documents using gist (place);
    insert into documents (words, place) select array[i % 7], point(i, i) from generate_series(1, 2000) i;
    create unlogged table scratch as select generate_series(1, 100) as i;
    -- Records across many pages.
    create table wide (t text);
    alter table wide alter column t set storage external;
    insert into wide select repeat(md5(i::text), 3000) from generate_series(1, 40) i;
    select pg_logical_emit_message(true, 'test', repeat('m', 300000));
  `);
  for (let i = 0; i < 300; i++) {
    await sql`update accounts set balance = balance + ${i} where id = ${1 + (i * 7919) % 20000}`;
  }
  await sql.unsafe("checkpoint");
  await sql.unsafe("update accounts set balance = balance + 1 where id % 3 = 0");
  await sql.unsafe("delete from documents where id % 2 = 0");
  await sql.unsafe("vacuum (freeze) accounts");
  await sql.unsafe("vacuum documents");
  await sql.begin(async (tx) => {
    await tx`insert into accounts values (-1, 0, 'parent')`;
    await tx.savepoint((inner) => inner`insert into accounts values (-2, 0, 'child')`);
  });
  await assert.rejects(sql.begin(async (tx) => {
    await tx`insert into accounts values (-3, 0, 'never')`;
    await tx`select * from no_such_table`;
  }));
  await sql.unsafe("select pg_switch_wal()");
  await sql.unsafe("select pg_create_restore_point('here')");
  await sql.unsafe("vacuum full pg_class");
  await sql.unsafe("create database copied strategy file_copy");
  await sql.unsafe("create database logged strategy wal_log");
  await sql.unsafe("drop database copied");
  await sql.unsafe("truncate wide");
  await sql.unsafe("drop table documents");
}

describe("the WAL decoder on a real cluster", () => {
  for (const segmentMiB of [1, 16]) {
    test(
      `sees what the server sees, in ${segmentMiB} MiB segments`,
      { timeout: TEST_TIMEOUT_MS },
      async () => {
        await using cluster = await StockCluster.start({
          segmentMiB,
          settings: { wal_keep_size: "1GB", track_commit_timestamp: "on", wal_compression: "pglz" },
        });
        await cluster.sql`create extension pg_walinspect`;
        await cluster.sql.unsafe("checkpoint");
        const [start] = await cluster.sql`select redo_lsn::text as lsn from pg_control_checkpoint()`;
        await workload(cluster);
        const end = formatLsn(await currentLsn(cluster));

        const records = await cluster.sql.unsafe(`
        select start_lsn::text, end_lsn::text, prev_lsn::text, xid::text, resource_manager, record_type,
          record_length, main_data_length, fpi_length
        from pg_get_wal_records_info('${start!["lsn"]}', '${end}')`);
        const expected = records.map((row) => Object.values(row).join(" "));
        const from = parseLsn(records[0]["start_lsn"]);
        assert.ok(expected.length > 10_000);
        for (const pieceSize of [64 << 10, 1000]) {
          const found: string[] = [];
          visitWal(cluster, segmentMiB << 20, from, pieceSize, (rec) => {
            if (rec.lsn < parseLsn(end)) found.push(describeAsServer(rec));
          });
          assert.equal(found.length, expected.length);
          const different = found.findIndex((line, i) => line !== expected[i]);
          assert.equal(found[different], expected[different], `record ${different} is the same`);
        }

        const counts = await cluster.sql.unsafe(`
        select "resource_manager/record_type" as type, count::int, record_size::int, fpi_size::int
        from pg_get_wal_stats('${start!["lsn"]}', '${end}', true) where count > 0`);
        assert.ok(counts.length > 50, `${counts.length} record types`);
        const lines: string[] = [];
        dumpWal(
          cluster.dataDir,
          { from, to: parseLsn(end), stats: true, json: true },
          (line) => lines.push(line),
        );
        assert.deepEqual(
          lines.map((line) => JSON.parse(line)),
          counts.map((row) => ({
            type: row["type"],
            records: row["count"],
            record_bytes: row["record_size"],
            image_bytes: row["fpi_size"],
          })).sort((a, b) => a.type < b.type ? -1 : 1),
        );
      },
    );
  }

  test(
    "restores page images, compressed in any way that the server has",
    { timeout: TEST_TIMEOUT_MS },
    async () => {
      await using cluster = await StockCluster.start({
        settings: { wal_keep_size: "1GB", autovacuum: "off" },
      });
      const { sql } = cluster;
      const [setting] = await sql`select enumvals from pg_settings where name = 'wal_compression'`;
      const methods: string[] = [
        "off",
        ...(setting!["enumvals"] as string[]).filter((m) => m !== "on" && m !== "off"),
      ];
      assert.ok(methods.includes("pglz"));
      await sql.unsafe(`
      create table t (i int, s text);
      insert into t select i, md5(i::text) || repeat('y', i % 500) from generate_series(1, 20000) i`);
      for (const method of methods) {
        await cluster.sql.unsafe(`alter system set wal_compression = '${method}'`);
        await cluster.sql.unsafe("select pg_reload_conf()");
        // A new connection has the new setting.
        await cluster.reconnect();
        const from = await currentLsn(cluster);
        // Building an index logs every page of it as an image, and nothing else changes it then.
        const paths: string[] = [];
        for (
          const [am, column] of [["btree", "i"], ["btree", "s"], ["spgist", "s"]] as const
        ) {
          const name = `t_${method}_${am}_${column}`;
          await cluster.sql.unsafe(`create index ${name} on t using ${am} (${column})`);
          const [row] = await cluster.sql`select pg_relation_filepath(${name}::regclass) as path`;
          paths.push(row!["path"]);
        }
        await cluster.sql.unsafe("checkpoint");

        const files = new Map(
          paths.map((path) => [path, new Uint8Array(readFileSync(join(cluster.dataDir, path)))]),
        );
        const images = new Map<string, Uint8Array>();
        const kinds = new Set<number>();
        let holes = 0;
        visitWal(cluster, 16 << 20, from, 64 << 10, (rec) => {
          for (let id = 0; id < rec.blockCount; id++) {
            if (rec.blockInUse[id] === 0 || (rec.blockFlags[id] & BKPBLOCK_HAS_IMAGE) === 0) continue;
            const page = new Uint8Array(BLCKSZ).fill(0xa5);
            restoreBlockImage(rec, id, page, 0);
            const rel = { spcNode: rec.spcNode[id], dbNode: rec.dbNode[id], relNode: rec.relNode[id] };
            const path = relationPath(V15, rel, rec.blockFlags[id] & BKPBLOCK_FORK_MASK);
            if (!files.has(path) || rec.xl_rmid !== RM_XLOG_ID) continue;
            images.set(`${path} ${rec.blkno[id]}`, page);
            kinds.add(rec.imageInfo[id] & BKPIMAGE_COMPRESSED);
            if (rec.holeLen[id] > 0) holes++;
          }
        });
        assert.ok(images.size > 200, `${images.size} images with ${method}`);
        assert.ok(holes > 100, `${holes} of them have a hole`);
        assert.ok(kinds.has(IMAGE_KIND[method]), `some are compressed with ${method}`);
        for (const [path, file] of files) {
          for (let blkno = 0; blkno < file.length / BLCKSZ; blkno++) {
            const image = images.get(`${path} ${blkno}`);
            assert.ok(image !== undefined, `there is an image of block ${blkno} of ${path}`);
            const page = file.slice(blkno * BLCKSZ, (blkno + 1) * BLCKSZ);
            // What a page has in its hole is anything; an image has zeros there.
            const [lower, upper] = new Uint16Array(page.buffer, PD_LOWER, 2);
            page.fill(0, lower, upper);
            assert.ok(
              Buffer.compare(image.subarray(PAGE_HEADER_CHANGING), page.subarray(PAGE_HEADER_CHANGING)) === 0,
              `image of block ${blkno} of ${path} is the page`,
            );
          }
        }
      }
    },
  );

  test("reads what records without pages say", { timeout: TEST_TIMEOUT_MS }, async () => {
    await using cluster = await StockCluster.start({
      settings: { wal_keep_size: "1GB", max_prepared_transactions: "4", autovacuum: "off" },
    });
    const { sql } = cluster;
    await sql.unsafe("create table t (i int primary key); insert into t select generate_series(1, 100)");
    const [before] =
      await sql`select pg_relation_filenode('t')::int as t, pg_relation_filenode('t_pkey')::int as pkey`;
    const [database] =
      await sql`select oid::int, dattablespace::int as spc from pg_database where datname = 'postgres'`;
    const from = await currentLsn(cluster);

    const connection = await sql.reserve();
    await connection.unsafe("begin");
    await connection.unsafe("insert into t values (1000)");
    await connection.unsafe("savepoint a");
    await connection.unsafe("insert into t values (1001)");
    await connection.unsafe("release a");
    const [parent] = await connection`select pg_current_xact_id()::text::int as xid`;
    await connection.unsafe("prepare transaction 'a prepared one'");
    connection.release();
    const twophasePath = join(cluster.dataDir, "pg_twophase", twophaseFileName(V15, parent!["xid"], 0));
    await sql.unsafe("checkpoint");
    const twophaseFile = new Uint8Array(readFileSync(twophasePath));
    await sql.unsafe("commit prepared 'a prepared one'");
    await assert.rejects(sql.begin(async (tx) => {
      await tx`create table gone (i int)`;
      await tx`select * from no_such_table`;
    }));
    await sql.unsafe("drop table t");
    await sql.unsafe("create database copied strategy file_copy");
    const [copied] = await sql`select oid::int from pg_database where datname = 'copied'`;
    await sql.unsafe("create database logged strategy wal_log");
    const [logged] = await sql`select oid::int from pg_database where datname = 'logged'`;
    await sql.unsafe("drop database copied");
    await sql.unsafe("vacuum full pg_class");
    await sql.unsafe("create table lockable as select 1 as i");
    const shared = await Promise.all([sql.reserve(), sql.reserve()]);
    for (const holder of shared) await holder.unsafe("begin; select * from lockable for key share");
    const lockers: number[] = [];
    for (const holder of shared) {
      const [row] = await holder`select pg_current_xact_id()::text::int as xid`;
      lockers.push(row!["xid"]);
      await holder.unsafe("commit");
      holder.release();
    }
    await sql.unsafe("checkpoint");
    const [next] = await sql`select next_oid::int as oid, split_part(next_xid, ':', 2)::int as xid,
      next_multixact_id::text::int as multi, redo_lsn::text as redo from pg_control_checkpoint()`;

    const seen: Record<string, unknown[]> = {};
    let prepareContent: Uint8Array | undefined;
    visitWal(cluster, 16 << 20, from, 64 << 10, (rec) => {
      const type = `${rmgrName(rec.xl_rmid)}/${recordTypeName(V15, rec.xl_rmid, rec.xl_info)}`;
      if (type === "Transaction/PREPARE") prepareContent = twophaseFileContent(rec);
      const parse = PARSERS[type];
      if (parse !== undefined) (seen[type] ??= []).push(parse(rec, V15));
    });
    const all = <T>(type: string): T[] => (seen[type] ?? []) as T[];

    assert.deepEqual(prepareContent, twophaseFile);
    const [committed] = all<ReturnType<typeof parseCommit>>("Transaction/COMMIT_PREPARED");
    assert.equal(committed!.xid, parent!["xid"]);
    assert.equal(committed!.twophase_xid, parent!["xid"]);
    assert.deepEqual(committed!.subxacts, [parent!["xid"] + 1]);
    assert.ok(Math.abs(committed!.xact_time / 1e6 + POSTGRES_EPOCH_S - Date.now() / 1000) < 3600);

    const aborted = all<ReturnType<typeof parseAbort>>("Transaction/ABORT");
    assert.ok(
      aborted.some((abort) => abort.xnodes.length === 1),
      "the table that never was is dropped at abort",
    );
    const dropped = all<ReturnType<typeof parseCommit>>("Transaction/COMMIT").find((commit) =>
      commit.xnodes.some((rel) => rel.relNode === before!["t"])
    );
    assert.deepEqual(
      dropped!.xnodes.map((rel) => rel.relNode).sort(),
      [before!["t"], before!["pkey"]].sort(),
    );
    assert.equal(dropped!.xnodes[0].dbNode, database!["oid"]);
    assert.equal(dropped!.dbId, database!["oid"]);
    assert.ok(dropped!.nmsgs > 0);
    assert.ok(dropped!.stats.length > 0, "its statistics are dropped too");

    const template = { src_db_id: 1, src_tablespace_id: database!["spc"] };
    assert.deepEqual(all("Database/CREATE_FILE_COPY"), [
      { kind: "create_file_copy", db_id: copied!["oid"], tablespace_id: database!["spc"], ...template },
    ]);
    assert.deepEqual(all("Database/CREATE_WAL_LOG"), [
      { kind: "create_wal_log", db_id: logged!["oid"], tablespace_id: database!["spc"] },
    ]);
    assert.deepEqual(all("Database/DROP"), [
      { kind: "drop", db_id: copied!["oid"], tablespace_ids: [database!["spc"]] },
    ]);

    const maps = all<ReturnType<typeof parseRelmapUpdate>>("RelMap/UPDATE");
    const own = maps.filter((map) => map.dbid === database!["oid"]).at(-1)!;
    const file = new Uint8Array(
      readFileSync(join(cluster.dataDir, "base", String(own.dbid), "pg_filenode.map")),
    );
    assert.deepEqual(own.data, file);

    const created = all<ReturnType<typeof parseMultixactCreate>>("MultiXact/CREATE_ID");
    assert.equal(created.length, 1);
    assert.deepEqual(created[0].members.map((member) => member.xid), lockers);
    assert.deepEqual(created[0].members.map((member) => member.status), [0, 0]);
    assert.equal(created[0].mid + 1, next!["multi"]);

    const checkpoint = all<ReturnType<typeof parseCheckpointRecord>>("XLOG/CHECKPOINT_ONLINE").at(-1)!;
    assert.equal(checkpoint.nextXid, next!["xid"]);
    assert.equal(checkpoint.nextOid, next!["oid"]);
    assert.equal(checkpoint.nextMulti, next!["multi"]);
    assert.equal(formatLsn(checkpoint.redo), next!["redo"]);
  });
});

describe("files of a real cluster", () => {
  test(
    "control file, relation names and page checksums are understood",
    { timeout: TEST_TIMEOUT_MS },
    async () => {
      await using cluster = await StockCluster.start({ segmentMiB: 4, dataChecksums: true });
      const [system] = await cluster
        .sql`select system_identifier::text, pg_control_version, catalog_version_no
      from pg_control_system()`;
      const [init] = await cluster.sql`select * from pg_control_init()`;
      await cluster.sql.unsafe("create table t as select i, md5(i::text) from generate_series(1, 10000) i");
      await cluster.sql.unsafe("vacuum t");
      const named = await cluster.sql`select relfilenode::int as file, pg_relation_filepath(oid) as path
      from pg_class where relkind in ('r', 'i', 't') and relfilenode <> 0`;
      for (const row of named) {
        const parsed = parseRelationPath(V15, row["path"]);
        assert.equal(parsed!.rel.relNode, row["file"]);
        assert.equal(relationPath(V15, parsed!.rel, parsed!.forkNum), row["path"]);
      }
      await cluster.stopPostgres();

      const control = parseControlFile(
        new Uint8Array(readFileSync(join(cluster.dataDir, "global/pg_control"))),
      );
      assert.equal(String(control.system_identifier), system!["system_identifier"]);
      assert.equal(control.xlog_seg_size, 4 << 20);
      assert.equal(control.blcksz, init!["database_block_size"]);
      assert.equal(control.relseg_size, RELSEG_SIZE);
      assert.equal(control.data_checksum_version, 1);
      assert.equal(control.MaxConnections, 100);
      assert.equal(control.checkPointCopy.redo, control.checkPoint);

      let checked = 0;
      for (const directory of ["global", "base/1", "base/5"]) {
        for (const name of readdirSync(join(cluster.dataDir, directory))) {
          if (parseRelationPath(V15, `${directory}/${name}`) === undefined) continue;
          const file = new Uint8Array(readFileSync(join(cluster.dataDir, directory, name)));
          for (let at = 0; at < file.length; at += BLCKSZ) {
            if (isPageNew(file, at)) continue;
            assert.equal(
              pageChecksum(file, at / BLCKSZ, at),
              storedPageChecksum(file, at),
              `${directory}/${name}`,
            );
            checked++;
          }
        }
      }
      assert.ok(checked > 1500, `${checked} pages`);
    },
  );
});
