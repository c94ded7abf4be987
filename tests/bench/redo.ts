/**
 * Redo in process, on WAL that a stock server has just written: nanoseconds per record by type, and the time to rebuild a
 * page from a base and 1 to 1000 records. Everything that a page read does after the store has found the records is
 * measured: copying, parsing, applying.
 */
import { V15 } from "../../src/postgres/versions/v15.ts";
import { rmSync } from "node:fs";
import {
  applyRecordTo,
  type BlockTarget,
  finishPage,
  reconstructPage,
  startPage,
} from "../../src/postgres/redo/reconstruct.ts";
import { BKPBLOCK_FORK_MASK, BKPBLOCK_WILL_INIT, type WalRecord } from "../../src/postgres/wal/record.ts";
import { recordTypeName, RM_HEAP2_ID, RM_SEQ_ID, RM_XLOG_ID, rmgrName } from "../../src/postgres/wal/rmgr.ts";
import { StockCluster } from "../conformance/cluster.ts";
import { ClusterPages, type Fork } from "../conformance/pages.ts";
import { replayWal } from "../conformance/replay.ts";
import { percentile } from "./harness.ts";

const PORT = 57210;
/** What a page read through a `postgres --wal-redo` process costs: a page with a short history, and with a medium one. */
const OUT_OF_PROCESS_SHORT_US = 31.8;
const OUT_OF_PROCESS_MEDIUM_US = 138;
const MEDIUM_RECORDS = 15;

const CHAIN_LENGTHS = [1, 10, MEDIUM_RECORDS, 100, 1000];
/** Records of one type that are timed: enough that branch predictors and caches see a mixture. */
const SAMPLES_PER_TYPE = 400;
const ROUNDS = 15;

const WORKLOAD = `
CREATE TABLE t (id int PRIMARY KEY, k int, v text, pad text) WITH (fillfactor = 80);
CREATE INDEX t_k ON t (k);
CREATE INDEX t_v ON t (v);
CREATE INDEX t_hash ON t USING hash (k);
CREATE INDEX t_gin ON t USING gin ((ARRAY[k, k % 10])) WITH (fastupdate = off);
CREATE INDEX t_gist ON t USING gist (point(k, id));
CREATE INDEX t_spgist ON t USING spgist (v);
CREATE INDEX t_brin ON t USING brin (k) WITH (pages_per_range = 2);
INSERT INTO t SELECT g, g % 500, md5(g::text), repeat('x', 60) FROM generate_series(1, 20000) g;
UPDATE t SET pad = 'shorter' WHERE id % 3 = 0;
UPDATE t SET k = k + 1 WHERE id % 5 = 0;
DELETE FROM t WHERE id % 7 = 0;
VACUUM (FREEZE) t;
COPY t (id, k) FROM PROGRAM 'seq 100001 105000 | sed "s/$/\t7/"';
CREATE SEQUENCE s;
SELECT count(nextval('s')) FROM generate_series(1, 5000);
CREATE TABLE hot (id int PRIMARY KEY, n int) WITH (fillfactor = 50);
INSERT INTO hot SELECT g, 0 FROM generate_series(1, 50) g;
DO $$ BEGIN FOR i IN 1..3000 LOOP UPDATE hot SET n = n + 1 WHERE id = 1 + i % 50; COMMIT; END LOOP; END $$;
`;

/** A page as it was, and one record to apply to it. */
interface Sample {
  target: BlockTarget;
  base: Uint8Array;
  record: Uint8Array;
  endLsn: number;
}

/** A block's history from a base on, oldest first. */
interface History {
  target: BlockTarget;
  base: Uint8Array;
  records: Uint8Array[];
  lsns: number[];
}

export async function run(): Promise<void> {
  const cluster = await StockCluster.create(
    "bench",
    PORT,
    "wal_consistency_checking = ''\nautovacuum = off\n",
  );
  try {
    cluster.start();
    cluster.sql(WORKLOAD);
    cluster.stop();
    const hottest = hottestBlock(cluster);
    const samples = new Map<string, Sample[]>();
    const history = capture(cluster, samples, hottest);
    const types = Object.fromEntries([...samples].sort().map(([type, list]) => [type, timeSamples(list)]));
    console.table(types);
    const chains = Object.fromEntries(CHAIN_LENGTHS.map((length) => [length, timeChain(history, length)]));
    console.table(chains);
    const short = chains[1]["µs per page"];
    const medium = chains[MEDIUM_RECORDS]["µs per page"];
    console.log(
      `short page ${short} µs, 1/${
        Math.round(OUT_OF_PROCESS_SHORT_US / short)
      } of redo in another process; ` +
        `medium page ${medium} µs, 1/${Math.round(OUT_OF_PROCESS_MEDIUM_US / medium)}`,
    );
    console.log(JSON.stringify({ bench: "redo", types, chains }));
  } finally {
    cluster.stop("immediate");
    rmSync(cluster.dir, { recursive: true, force: true });
  }
}

function key(rec: WalRecord, i: number): string {
  return `${rec.spcNode[i]}/${rec.dbNode[i]}/${rec.relNode[i]}/${rec.blockFlags[i] & BKPBLOCK_FORK_MASK}/${
    rec.blkno[i]
  }`;
}

/** The heap block with the most records: `hot`'s, which is updated and pruned again and again. */
function hottestBlock(cluster: StockCluster): string {
  const counts = new Map<string, number>();
  replayWal(V15, cluster.dataDir, cluster.baseLsn(), (rec) => {
    // A sequence's block has more, but each of its records makes the page anew.
    if (rec.xl_rmid === RM_SEQ_ID || rec.xl_rmid === RM_XLOG_ID) return;
    for (let i = 0; i < rec.blockCount; i++) {
      if (rec.blockInUse[i] === 1) counts.set(key(rec, i), (counts.get(key(rec, i)) ?? 0) + 1);
    }
    // Only blocks that are pruned are of interest.
    if (rec.xl_rmid === RM_HEAP2_ID) counts.set(key(rec, 0), (counts.get(key(rec, 0)) ?? 0) + 10);
  });
  return [...counts].reduce((most, entry) => entry[1] > most[1] ? entry : most)[0];
}

/** Replays everything, keeping samples of each type and the history of one block. */
function capture(cluster: StockCluster, samples: Map<string, Sample[]>, hottest: string): History {
  const pages = new ClusterPages(cluster.baseDir);
  const page = new Uint8Array(8192);
  let history: History | undefined;
  replayWal(V15, cluster.dataDir, cluster.baseLsn(), (rec) => {
    for (let i = 0; i < rec.blockCount; i++) {
      if (rec.blockInUse[i] === 0) continue;
      const fork: Fork = pages.fork(
        rec.spcNode[i],
        rec.dbNode[i],
        rec.relNode[i],
        rec.blockFlags[i] & BKPBLOCK_FORK_MASK,
      );
      const target = { ...fork, blkno: rec.blkno[i] };
      const base = pages.page(fork, target.blkno);
      const record = rec.bytes.slice(rec.off, rec.off + rec.xl_tot_len);
      const type = `${rmgrName(rec.xl_rmid)} ${recordTypeName(V15, rec.xl_rmid, rec.xl_info)} block ${i}`;
      const list = samples.get(type) ?? [];
      samples.set(type, list);
      // The later ones, on pages that are full.
      list[(list.length < SAMPLES_PER_TYPE) ? list.length : Math.floor(Math.random() * SAMPLES_PER_TYPE)] = {
        target,
        base: base.slice(),
        record,
        endLsn: rec.endLsn,
      };
      if (key(rec, i) === hottest && (rec.blockFlags[i] & BKPBLOCK_WILL_INIT) === 0) {
        history ??= { target, base: base.slice(), records: [], lsns: [] };
        history.records.push(record);
        history.lsns.push(rec.endLsn);
      }
      startPage(base);
      applyRecordTo(V15, target, record, 0, record.length, rec.endLsn);
      finishPage(page);
      pages.setPage(fork, target.blkno, page);
    }
  });
  if (history === undefined) throw new Error("the workload has left no block with a history");
  return history;
}

/** Nanoseconds to copy, parse and apply one record, and its size. */
function timeSamples(list: readonly Sample[]) {
  const startOnly = time(() => {
    for (const sample of list) startPage(sample.base);
  });
  const withRecord = time(() => {
    for (const { target, base, record, endLsn } of list) {
      startPage(base);
      applyRecordTo(V15, target, record, 0, record.length, endLsn);
    }
  });
  const bytes = list.reduce((sum, sample) => sum + sample.record.length, 0);
  return {
    samples: list.length,
    "bytes per record": Math.round(bytes / list.length),
    "ns per record": Math.round((withRecord - startOnly) / list.length),
  };
}

/** Microseconds to rebuild a page from a base image and its first `length` records. */
function timeChain(history: History, length: number) {
  const count = Math.min(length, history.records.length);
  const records = history.records.slice(0, count).reverse();
  const chain = {
    bytes: records,
    lsn: Float64Array.from(history.lsns.slice(0, count).reverse()),
    off: new Int32Array(count),
    len: Int32Array.from(records, (record) => record.length),
  };
  const out = new Uint8Array(8192);
  const repeats = Math.max(1, Math.ceil(2000 / count));
  const nanoseconds = time(() => {
    for (let i = 0; i < repeats; i++) reconstructPage(V15, history.base, chain, count, history.target, out);
  }) / repeats;
  return {
    records: count,
    "µs per page": Number((nanoseconds / 1000).toPrecision(3)),
    "ns per record": Math.round(nanoseconds / count),
  };
}

/** The median of several rounds, in nanoseconds, after some that warm up. */
function time(work: () => void): number {
  for (let round = 0; round < ROUNDS; round++) work();
  const rounds = Array.from({ length: ROUNDS }, () => {
    const start = process.hrtime.bigint();
    work();
    return Number(process.hrtime.bigint() - start);
  });
  return percentile(rounds.sort((a, b) => a - b), 0.5);
}
