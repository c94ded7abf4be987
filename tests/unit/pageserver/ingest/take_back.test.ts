/** Records that need something which has to be fetched are applied again, once it is here. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Lsn } from "../../../../src/common/lsn.ts";
import { AbsentBytes, formatObject, type ObjectId, ValueChain } from "../../../../src/pagestore/mod.ts";
import { CONTROL_KEY } from "../../../../src/pageserver/content/keys.ts";
import type { Timeline } from "../../../../src/pageserver/timeline/timeline.ts";
import { BKPIMAGE_APPLY } from "../../../../src/postgres/wal/record.ts";
import { XLOG_FPI } from "../../../../src/postgres/wal/records/xlog.ts";
import {
  RM_CLOG_ID,
  RM_DBASE_ID,
  RM_MULTIXACT_ID,
  RM_SMGR_ID,
  RM_XACT_ID,
  RM_XLOG_ID,
} from "../../../../src/postgres/wal/rmgr.ts";
import { EXHAUSTIVE, Random, seeds } from "../../../harness/random.ts";
import {
  mainTimeline,
  openTinyPageServer,
  TINY_TENANT,
  tinyDisk,
  walAfter,
} from "../../../harness/tiny_page_server.ts";
import type { WalBuilder } from "../../../harness/wal_builder.ts";

const SPC = 1663;
const DATABASES = [16500, 16501];
const RELATIONS = [1259, 1247, 16384, 16385];
const BLCKSZ = 8192;
const HISTORIES = EXHAUSTIVE ? 30 : 8;

// Of PostgreSQL 15.
const XLOG_DBASE_CREATE_WAL_LOG = 0x10;
const XLOG_DBASE_DROP = 0x20;
const XLOG_SMGR_TRUNCATE = 0x20;
const SMGR_TRUNCATE_ALL = 7;
const XLOG_XACT_HAS_INFO = 0x80;
const XACT_XINFO_HAS_SUBXACTS = 2;
const XACT_XINFO_HAS_RELFILENODES = 4;
const CLOG_ZEROPAGE = 0;
const CLOG_TRUNCATE = 0x10;
const XLOG_MULTIXACT_CREATE_ID = 0x20;

function words(...values: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

/** Adds a record at random, of those that read before, between and after what they store. */
function addRecord(wal: WalBuilder, random: Random, nth: number): void {
  const pick = <T>(all: readonly T[]): T => all[random.int(all.length)]!;
  const image = { bytes: new Uint8Array(BLCKSZ).fill(nth), info: BKPIMAGE_APPLY };
  const db = pick(DATABASES);
  switch (random.int(9)) {
    case 0:
      wal.record({ rmid: RM_DBASE_ID, info: XLOG_DBASE_CREATE_WAL_LOG, main: words(db, SPC) });
      break;
    case 1:
      if (random.oneIn(3)) wal.record({ rmid: RM_DBASE_ID, info: XLOG_DBASE_DROP, main: words(db, 1, SPC) });
      break;
    case 2: {
      const main = words(random.int(4), SPC, db, pick(RELATIONS), SMGR_TRUNCATE_ALL);
      wal.record({ rmid: RM_SMGR_ID, info: XLOG_SMGR_TRUNCATE, main });
      break;
    }
    case 3:
    case 4: {
      const xid = 1000 + nth * 10;
      const xinfo = XACT_XINFO_HAS_SUBXACTS | XACT_XINFO_HAS_RELFILENODES;
      const rels = random.oneIn(2) ? [] : [SPC, db, pick(RELATIONS), SPC, db, pick(RELATIONS)];
      const main = words(nth * 5000, 0, xinfo, 2, xid + 1, xid + 40_000, rels.length / 3, ...rels);
      wal.record({ rmid: RM_XACT_ID, info: XLOG_XACT_HAS_INFO, xid, main });
      break;
    }
    case 5:
      wal.record({ rmid: RM_CLOG_ID, info: CLOG_ZEROPAGE, main: words(random.int(70)) });
      break;
    case 6:
      if (random.oneIn(3)) {
        wal.record({ rmid: RM_CLOG_ID, info: CLOG_TRUNCATE, main: words(random.int(70), 731, 1) });
      }
      break;
    case 7: {
      // The last of a page of offsets, so that the next page is made as well.
      const main = words(2047 + 2048 * random.int(3), 1 + random.int(5000), 2, nth + 1000, 1, nth + 1001, 2);
      wal.record({ rmid: RM_MULTIXACT_ID, info: XLOG_MULTIXACT_CREATE_ID, main });
      break;
    }
    default: {
      const block = (id: number) => ({
        id,
        rel: [SPC, db, pick(RELATIONS)] as const,
        fork: random.oneIn(4) ? 2 : 0,
        blkno: random.int(6),
        image,
      });
      wal.record({ rmid: RM_XLOG_ID, info: XLOG_FPI, blocks: [block(0), block(1), block(2)] });
    }
  }
}

/** Makes reads lack something now and then, until they are repeated. */
function stutter({ store }: Timeline, random: Random): { readonly times: () => number } {
  const collect = store.collect.bind(store);
  const objects = store.objects.bind(store);
  let times = 0;
  const missing = () => {
    if (!random.oneIn(3)) return;
    times++;
    throw new AbsentBytes("a part", () => Promise.resolve());
  };
  Object.assign(store, {
    collect: (...args: Parameters<typeof collect>) => {
      missing();
      collect(...args);
    },
    objects: (...args: Parameters<typeof objects>) => {
      missing();
      return objects(...args);
    },
  });
  return { times: () => times };
}

/** Every version that a timeline has, as text. */
function everything({ store }: Timeline, lsns: readonly Lsn[]): string[] {
  const keys = new Map<string, { readonly object: ObjectId; readonly block: number }>();
  store.forEachKey((slot, block) => {
    const object = store.object(slot);
    // Each tenant has a system identifier of its own.
    if (object.kind === CONTROL_KEY.kind) return;
    keys.set(`${formatObject(object)} ${block}`, { object, block });
  });
  const chain = new ValueChain();
  const found: string[] = [];
  for (const [name, { object, block }] of [...keys].sort()) {
    for (const lsn of lsns) {
      store.collect(store.slot(object), block, lsn, chain);
      for (let i = 0; i < chain.count; i++) {
        const value = chain.bytes[i]!.subarray(chain.off[i], chain.off[i]! + chain.len[i]!);
        found.push(`${name} at ${lsn}: ${chain.lsn[i]} ${chain.tag[i]} ${summary(value)}`);
      }
    }
  }
  return found;
}

function summary(bytes: Uint8Array): string {
  return `${bytes.length} ${Buffer.from(bytes.subarray(0, 40)).toString("hex")}`;
}

describe("a record that lacks something", () => {
  test("is stored as one that lacks nothing", async () => {
    for (const seed of seeds(HISTORIES)) {
      const random = new Random(seed);
      const [smooth, rough] = [await openTinyPageServer(tinyDisk()), await openTinyPageServer(tinyDisk())];
      const timelines: Timeline[] = [];
      for (const server of [smooth, rough]) {
        await server.createTenant(TINY_TENANT);
        timelines.push(await mainTimeline(server));
      }
      const wal = walAfter(timelines[0]!);
      const { lsn } = wal;
      for (let nth = 1; nth <= 80; nth++) addRecord(wal, random, nth);
      const bytes = wal.bytes.slice(lsn - wal.from);
      const { times } = stutter(timelines[1]!, random);
      for (const timeline of timelines) {
        for (let at = 0; at < bytes.length; at += 20_000) {
          await timeline.receive((lsn + at) as Lsn, bytes.slice(at, at + 20_000));
        }
      }
      assert.ok(times() > 10, `${times()} reads lacked something`);
      // Only the prototype's methods are left.
      for (const name of ["collect", "objects"]) Reflect.deleteProperty(timelines[1]!.store, name);
      const ends = wal.records.map(({ endLsn }) => endLsn);
      assert.equal(timelines[1]!.lastRecordLsn, timelines[0]!.lastRecordLsn, `seed ${seed}`);
      const [expected, found] = timelines.map((timeline) => everything(timeline, ends));
      assert.ok(expected!.length > 100);
      const wrong = expected!.findIndex((line, i) => line !== found![i]);
      assert.equal(found![wrong], expected![wrong], `seed ${seed}`);
      assert.equal(found!.length, expected!.length, `seed ${seed}`);
      for (const end of ends) {
        assert.deepEqual(timelines[1]!.boundary(end), timelines[0]!.boundary(end), `seed ${seed}`);
      }
      assert.deepEqual(timelines[1]!.sizes().logical, timelines[0]!.sizes().logical, `seed ${seed}`);
      for (const server of [smooth, rough]) await server.close();
    }
  });
});
