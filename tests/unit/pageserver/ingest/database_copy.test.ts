import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parse } from "valibot";
import { nextTurn } from "../../../../src/common/event_loop.ts";
import { parseTenantId } from "../../../../src/common/id.ts";
import type { Lsn } from "../../../../src/common/lsn.ts";
import { PageServerConfigSchema } from "../../../../src/common/page_server_config.ts";
import { PageServerPaths } from "../../../../src/common/paths.ts";
import { databaseKey } from "../../../../src/pageserver/content/keys.ts";
import { NO_FORK } from "../../../../src/pageserver/content/relation_forks.ts";
import { PageServer } from "../../../../src/pageserver/service/page_server.ts";
import type { Timeline } from "../../../../src/pageserver/timeline/timeline.ts";
import { checkTimeline, flushHere, mergeHere } from "../../../../src/pagestore/mod.ts";
import { BLCKSZ } from "../../../../src/postgres/cluster/page_layout.ts";
import { NULL_LOGGER } from "../../../../src/process/log.ts";
import { FaultyDisk } from "../../../harness/faulty_disk.ts";
import { Random } from "../../../harness/random.ts";
import { makeTinyCluster, TINY_SEGMENT_SIZE } from "../../../harness/tiny_cluster.ts";
import { WalBuilder } from "../../../harness/wal_builder.ts";

const TENANT = parseTenantId("a".repeat(32));
const PATHS = new PageServerPaths("/w");
const CLUSTER = "/cluster";
const RM_XLOG = 0;
const RM_DBASE = 4;
const XLOG_FPI = 0xb0;
const XLOG_DBASE_CREATE_FILE_COPY = 0x00;
const BKPIMAGE_APPLY = 0x02;

const SPC = 1663;
const SOURCE = 5;
const COPY = 6;
const REL = 20000;
/** In the copy's directory before, and not in the source. */
const GONE = 20001;
/** The source is that long, the copy's relation of the same number was longer. */
const BLOCKS = 24;
const BLOCKS_BEFORE = 40;

/** A page server with one tenant, whose timeline has a database that is to be copied. */
class Copying {
  readonly disk: FaultyDisk;
  server!: PageServer;
  timeline!: Timeline;
  /** WAL of the copy, and of a record behind it, that has not been received. */
  wal!: WalBuilder;
  from!: Lsn;
  /** Ends of the records before, of, and behind the copy. */
  before!: Lsn;
  end!: Lsn;
  behind!: Lsn;
  readonly #blocks: number;

  private constructor(blocks: number) {
    this.#blocks = blocks;
    this.disk = new FaultyDisk(new Random(1));
  }

  static async start(blocks = BLOCKS): Promise<Copying> {
    const copying = new Copying(blocks);
    makeTinyCluster(copying.disk, CLUSTER);
    copying.disk.mkdirsSync(PATHS.tenants);
    copying.disk.syncAll();
    copying.server = await copying.#open();
    await copying.server.createTenant(TENANT);
    copying.timeline = await copying.main();
    await copying.#fill();
    return copying;
  }

  #open(): Promise<PageServer> {
    const { disk } = this;
    return PageServer.open({
      disk,
      flushLayer: flushHere(disk),
      mergeLayers: mergeHere(disk),
      paths: PATHS,
      config: parse(PageServerConfigSchema, {}),
      logger: NULL_LOGGER,
      initialCluster: () => Promise.resolve(CLUSTER),
    });
  }

  async reopen(): Promise<void> {
    this.server = await this.#open();
    this.timeline = await this.main();
  }

  async main(): Promise<Timeline> {
    const { branches, timelines } = this.server.tenant(TENANT);
    const [main] = await branches.list();
    return (await timelines.hold(main!.timelineId)).value;
  }

  async #fill(): Promise<void> {
    const { lsn, prev } = this.timeline.boundary(null);
    const wal = new WalBuilder({
      startLsn: lsn,
      prev,
      segmentSize: TINY_SEGMENT_SIZE,
      systemId: this.timeline.systemIdentifier,
    });
    this.wal = wal;
    image(wal, COPY, REL, BLOCKS_BEFORE - 1, 0x77);
    image(wal, COPY, GONE, 2, 0x77);
    for (let block = 0; block < 3; block++) image(wal, SOURCE, REL, block, 1 + block);
    this.before = image(wal, SOURCE, REL, this.#blocks - 1, 9);
    assert.equal(this.timeline.receive(lsn, wal.bytes.slice(lsn - wal.from)), undefined);
    this.from = this.timeline.position;
    await this.timeline.makeDurable();
    const main = new Uint8Array(Uint32Array.of(COPY, SPC, SOURCE, SPC).buffer);
    this.end = wal.record({ rmid: RM_DBASE, info: XLOG_DBASE_CREATE_FILE_COPY, main }).endLsn;
    this.behind = image(wal, COPY, REL, 1, 0x55);
  }

  receive(): Promise<void> | undefined {
    return this.timeline.receive(this.from, this.wal.bytes.slice(this.from - this.wal.from));
  }

  expectOnlyBefore(): void {
    const { timeline } = this;
    assert.equal(timeline.lastRecordLsn, this.before);
    assert.equal(timeline.position, this.from);
    const view = timeline.at(this.before);
    assert.equal(view.fork(SPC, COPY, REL, 0).blocks, BLOCKS_BEFORE);
    assert.equal(view.hasFork(SPC, COPY, GONE, 0), true);
    assert.equal(view.value(databaseKey(SPC, COPY)), null);
  }

  expectCopied(): void {
    const { timeline } = this;
    assert.equal(timeline.lastRecordLsn, this.behind);
    const view = timeline.at(this.end);
    const source = view.fork(SPC, SOURCE, REL, 0);
    const copy = view.fork(SPC, COPY, REL, 0);
    assert.equal(copy.blocks, this.#blocks);
    const [expected, found] = [new Uint8Array(BLCKSZ), new Uint8Array(BLCKSZ)];
    for (let block = 0; block < this.#blocks; block++) {
      view.readPage(source, block, expected, 0);
      view.readPage(copy, block, found, 0);
      assert.deepEqual(found, expected, `block ${block}`);
    }
    view.readPage(copy, BLOCKS_BEFORE - 1, found, 0);
    if (this.#blocks < BLOCKS_BEFORE) {
      assert.ok(found.every((byte) => byte === 0), "what it had behind is gone");
    }
    assert.equal(view.fork(SPC, COPY, GONE, 0).blocks, NO_FORK);
    assert.deepEqual(view.value(databaseKey(SPC, COPY)), Uint8Array.of(1));
    assert.equal(timeline.sizes().logical, 2 * this.#blocks * BLCKSZ);
    // The record behind it changes the copy only.
    timeline.at(this.behind).readPage(copy, 1, found, 0);
    assert.equal(found[BLCKSZ - 1], 0x55);
    timeline.at(this.before).readPage(source, 1, found, 0);
    assert.equal(found[BLCKSZ - 1], 2);
    const boundary = timeline.boundary(this.end);
    assert.equal(boundary.prev, this.from, "the start of the copy's record is known");
  }

  checkFiles(): void {
    const { problems, strays } = checkTimeline(this.disk, this.timeline.store.directory);
    assert.deepEqual([problems, strays], [[], []]);
  }
}

/** A record that gives a block a new image. @returns where it ends */
function image(wal: WalBuilder, db: number, rel: number, block: number, fill: number): Lsn {
  const bytes = new Uint8Array(BLCKSZ).fill(fill);
  const blocks = [{
    id: 0,
    rel: [SPC, db, rel] as const,
    blkno: block,
    image: { bytes, info: BKPIMAGE_APPLY },
  }];
  return wal.record({ rmid: RM_XLOG, info: XLOG_FPI, blocks }).endLsn;
}

describe("a database that is copied in one record", () => {
  test("appears whole, and the records behind it follow", async () => {
    const copying = await Copying.start();
    await copying.receive();
    copying.expectCopied();
    await copying.timeline.makeDurable();
    await copying.server.close();
    await copying.reopen();
    copying.expectCopied();
    await copying.server.close();
    copying.checkFiles();
  });

  test("is copied in pieces: others have turns, memory stays as it is, and the timeline ends before it", async () => {
    const blocks = 4000;
    const copying = await Copying.start(blocks);
    const { timeline } = copying;
    let done = false;
    const receiving = copying.receive()!.then(() => done = true);
    const arrived = timeline.waitFor(copying.end, 60_000).then(() =>
      assert.equal(timeline.position > copying.from, true)
    );
    let turns = 0;
    while (!done) {
      await nextTurn();
      turns++;
      if (timeline.position === copying.from) copying.expectOnlyBefore();
      assert.ok(timeline.store.sizes().memoryBytes < blocks * BLCKSZ / 16, "pages do not go through memory");
    }
    await receiving;
    await arrived;
    assert.ok(turns >= 3, `${turns} turns`);
    copying.expectCopied();
    await copying.server.close();
  });

  test("is copied at the next start when the page server stops meanwhile", async () => {
    const copying = await Copying.start(4000);
    const receiving = assert.rejects(copying.receive()!, { kind: "unavailable" });
    copying.expectOnlyBefore();
    await copying.timeline.wal.sync();
    await copying.server.close();
    await receiving;
    await copying.reopen();
    copying.expectCopied();
    await copying.server.close();
    copying.checkFiles();
  });

  test("is not there when the disk fails at any operation, and is when the WAL comes again", async () => {
    for (let n = 1;; n++) {
      const copying = await Copying.start();
      // What is written to the WAL store is not what this is about.
      const received = copying.receive()!;
      copying.disk.failAt(n, { kind: "error", code: n % 2 === 0 ? "EIO" : "ENOSPC" });
      const failed = await received.then(() => false, () => true);
      const hit = copying.disk.faulted;
      copying.disk.noFault();
      if (failed) {
        copying.expectOnlyBefore();
        assert.equal(await copying.timeline.restartReceiving(), copying.from);
        await copying.receive();
      }
      copying.expectCopied();
      await copying.server.close();
      // A file of a flush that failed may stay until then.
      await copying.reopen();
      copying.expectCopied();
      await copying.server.close();
      copying.checkFiles();
      if (!hit) break;
    }
  });

  test("is there or not, but never in part, after the power went at any operation", async () => {
    for (let n = 1;; n++) {
      const copying = await Copying.start();
      const received = copying.receive()!;
      await copying.timeline.wal.sync().catch(() => {});
      copying.disk.failAt(n, { kind: "crash" });
      const failed = await received.then(() => false, () => true);
      await copying.server.close().catch(() => {});
      copying.disk.crash();
      await copying.reopen();
      copying.expectCopied();
      await copying.server.close();
      copying.checkFiles();
      if (!failed) break;
    }
  });
});
