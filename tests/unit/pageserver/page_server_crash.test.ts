import { V15 } from "../../../src/postgres/versions/v15.ts";
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { parse } from "valibot";
import { ZenithError } from "../../../src/common/errors.ts";
import { isId, parseBranchName, parseTenantId, parseTimelineId } from "../../../src/common/id.ts";
import { NULL_LOGGER } from "../../../src/process/log.ts";
import { type Lsn, lsn as asLsn } from "../../../src/common/lsn.ts";
import { PageServerConfigSchema } from "../../../src/common/page_server_config.ts";
import { PageServerPaths } from "../../../src/common/paths.ts";
import { PageServer } from "../../../src/pageserver/service/page_server.ts";
import type { Timeline } from "../../../src/pageserver/timeline/timeline.ts";
import { pageImages } from "../../../src/pageserver/content/rebuild_page.ts";
import { storedValues } from "../../../src/pageserver/content/stored_values.ts";
import { checkTimeline, flushHere, mergeHere } from "../../../src/pagestore/mod.ts";
import { BLCKSZ } from "../../../src/postgres/cluster/page_layout.ts";
import { type Fault, FaultyDisk, PowerLostError } from "../../harness/faulty_disk.ts";
import { EXHAUSTIVE, Random, seeds } from "../../harness/random.ts";
import { makeTinyCluster, TINY_SEGMENT_SIZE } from "../../harness/tiny_cluster.ts";
import { type BuiltRecord, WalBuilder } from "../../harness/wal_builder.ts";

const TENANT = parseTenantId("a".repeat(32));
const OTHER = parseTenantId("b".repeat(32));
const PATHS = new PageServerPaths("/w");
/** What initdb would have made. */
const CLUSTER = "/cluster";
const CONFIG = parse(PageServerConfigSchema, {});
const REL = [1663, 5, 20000] as const;
const RM_XLOG = 0;
const XLOG_FPI = 0xb0;
const BKPIMAGE_APPLY = 0x02;
const BLOCKS = 3;

/** What a branch must read as: the image that its last record up to an LSN has left in each block. */
class History {
  readonly parent: History | null;
  /** Where it left its parent. */
  readonly from: number;
  readonly records: { readonly end: number; readonly block: number; readonly fill: number }[] = [];
  /** Promised to survive. */
  durable: number;
  /** Below this nothing is promised to be readable, but for {@link kept}. */
  cutoff = 0;
  kept: number[] = [];

  constructor(parent: History | null, from: number) {
    this.parent = parent;
    this.from = from;
    this.durable = from;
  }

  /** What fills a block at `lsn`; 0 when it was never written. */
  fill(block: number, lsn: number): number {
    for (let i = this.records.length - 1; i >= 0; i--) {
      const record = this.records[i];
      if (record.end <= lsn && record.block === block) return record.fill;
    }
    return this.parent === null ? 0 : this.parent.fill(block, Math.min(lsn, this.from));
  }

  /** Where it reads from `ancestor`, which may be its parent's parent; Infinity for the ancestor itself. */
  leftAt(ancestor: History): number {
    if (this.parent === null) return Infinity;
    return Math.min(this.from, this.parent === ancestor ? Infinity : this.parent.leftAt(ancestor));
  }

  /** LSNs worth reading at. */
  ends(upTo: number): number[] {
    return this.records.map(({ end }) => end).filter((end) =>
      end <= upTo && (end >= this.cutoff || this.kept.includes(end))
    );
  }
}

/** Every operation, or every so many. */
const STRIDE = EXHAUSTIVE ? 1 : 7;

type Existence = "no" | "perhaps" | "yes";

/**
 * Two tenants, one of which goes again; branches of branches, a rename, flushes, a lease, a merge and a garbage collection,
 * and the deletion of branches one by one and together.
 */
class Life {
  readonly disk: FaultyDisk;
  readonly histories = new Map<string, History>();
  readonly branches = new Map<string, Existence>();
  tenant: Existence = "no";
  other: Existence = "no";
  server!: PageServer;
  readonly #random: Random;

  private constructor(seed: number) {
    this.#random = new Random(seed);
    this.disk = new FaultyDisk(new Random(seed + 1));
    makeTinyCluster(this.disk, CLUSTER);
    this.disk.mkdirsSync(PATHS.tenants);
    this.disk.syncAll();
  }

  static async start(seed: number): Promise<Life> {
    const life = new Life(seed);
    life.server = await life.#open();
    return life;
  }

  #open(): Promise<PageServer> {
    const { disk } = this;
    const flushLayer = flushHere(disk, storedValues(V15));
    const mergeLayers = mergeHere(disk, pageImages(V15));
    return PageServer.open({
      disk,
      flushLayer,
      mergeLayers,
      paths: PATHS,
      config: CONFIG,
      logger: NULL_LOGGER,
      initialCluster: () => Promise.resolve(CLUSTER),
    });
  }

  /** One step after the other; one that fails for the disk's sake is done again if `retry` says so. */
  async run(retry: boolean): Promise<void> {
    const attempt = async <T>(step: () => T | Promise<T>): Promise<T> => {
      try {
        return await step();
      } catch (error) {
        if (!retry || !showsFailingDisk(error)) throw error;
        return await step();
      }
    };
    this.tenant = "perhaps";
    await attempt(() => this.server.createTenant(TENANT));
    this.tenant = "yes";
    this.other = "perhaps";
    await attempt(() => this.server.createTenant(OTHER));
    this.other = "yes";
    const branches = () => this.server.tenant(TENANT).branches;
    const create = async (name: string, parent: string) => {
      const from = (await attempt(() => this.#timeline(parent))).position;
      const history = this.histories.get(parent)!;
      this.histories.set(name, new History(history, from));
      this.branches.set(name, "perhaps");
      const start = { branch: parseBranchName(parent), timelineId: null, lsn: null, timestamp: null };
      await attempt(() => branches().create(parseBranchName(name), start));
      this.branches.set(name, "yes");
      history.durable = Math.max(history.durable, from);
    };
    const flush = async (name: string) => {
      const timeline = await attempt(() => this.#timeline(name));
      await attempt(() => timeline.store.flush());
      this.#promise(name, timeline.lastRecordLsn);
      await attempt(() => timeline.trimWal());
    };

    this.branches.set("main", "yes");
    const { position } = await attempt(() => this.#timeline("main"));
    this.histories.set("main", new History(null, position));
    await this.#write("main", 3, retry);
    await flush("main");
    await this.#write("main", 2, retry);
    await create("child", "main");
    await this.#write("child", 2, retry);
    await create("grandchild", "child");
    await create("sibling", "main");
    await this.#write("main", 3, retry);
    await flush("main");
    await flush("child");

    const main = await attempt(() => this.#timeline("main"));
    const second = this.histories.get("main")!.records[1].end as Lsn;
    const leased = await attempt(() => main.boundary(second).lsn);
    await attempt(() => main.leases.take(leased, 3_600_000, Date.now()));
    this.branches.set("child", "perhaps");
    this.branches.set("renamed", "perhaps");
    this.histories.set("renamed", this.histories.get("child")!);
    await attempt(async () => {
      // An attempt that failed may have come so far.
      if (await this.#isThere("renamed")) return;
      await branches().rename(parseBranchName("child"), parseBranchName("renamed"));
    });
    this.branches.set("child", "no");
    this.branches.set("renamed", "yes");

    await attempt(() => main.store.compact());
    const config = { gc_horizon_bytes: 0, pitr_interval_s: 0 };
    await attempt(() => this.server.tenant(TENANT).setConfig(config));
    const past = this.histories.get("main")!;
    past.cutoff = main.store.diskConsistentLsn;
    past.kept = [leased, ...[...this.histories.values()].map((history) => history.leftAt(past))];
    await attempt(() => this.server.tenant(TENANT).collectGarbage(main));

    this.branches.set("sibling", "perhaps");
    await attempt(() => this.#deleteUnlessGone("sibling", false));
    this.branches.set("sibling", "no");
    this.branches.set("grandchild", "perhaps");
    this.branches.set("renamed", "perhaps");
    await attempt(() => this.#deleteUnlessGone("renamed", true));
    this.branches.set("grandchild", "no");
    this.branches.set("renamed", "no");
    this.other = "perhaps";
    await attempt(async () => {
      if (this.server.tenants().includes(OTHER)) await this.server.deleteTenant(OTHER);
    });
    this.other = "no";
  }

  /** An attempt that failed may have got as far as to delete it. */
  async #deleteUnlessGone(name: string, cascade: boolean): Promise<void> {
    if (await this.#isThere(name)) {
      await this.server.deleteBranch(TENANT, parseBranchName(name), { cascade });
    }
  }

  async #isThere(name: string): Promise<boolean> {
    return (await this.server.tenant(TENANT).branches.list()).some((branch) => branch.name === name);
  }

  async #timeline(name: string): Promise<Timeline> {
    const { branches, timelines } = this.server.tenant(TENANT);
    const branch = (await branches.list()).find((branch) => branch.name === name);
    assert.ok(branch !== undefined, `branch ${name} is there`);
    return (await timelines.hold(branch.timelineId)).value;
  }

  /** Takes in WAL and promises it, as a WAL receiver does. A timeline that could not write WAL goes on after a restart only. */
  async #write(name: string, records: number, retry: boolean): Promise<void> {
    const history = this.histories.get(name)!;
    const written = Array.from({ length: records }, () => ({
      block: this.#random.int(BLOCKS),
      fill: 1 + this.#random.int(255),
    }));
    const before = history.records.length;
    try {
      await this.#append(name, history, written);
    } catch (error) {
      if (!retry || !showsFailingDisk(error)) throw error;
      await this.server.close().catch(() => {});
      this.server = await this.#open();
      const { lastRecordLsn } = await this.#timeline(name);
      const taken = history.records.filter(({ end }) => end <= lastRecordLsn);
      const rest = written.slice(taken.length - before);
      history.records.splice(0, Infinity, ...taken);
      await this.#append(name, history, rest);
    }
  }

  async #append(
    name: string,
    history: History,
    written: readonly { block: number; fill: number }[],
  ): Promise<void> {
    const timeline = await this.#timeline(name);
    const { lsn, prev } = timeline.boundary(null);
    const wal = new WalBuilder({
      startLsn: lsn,
      prev,
      segmentSize: TINY_SEGMENT_SIZE,
      systemId: timeline.systemIdentifier,
    });
    for (const { block, fill } of written) {
      history.records.push({ end: imageRecord(wal, block, fill).endLsn, block, fill });
    }
    timeline.receive(lsn, wal.bytes.slice(lsn - wal.from));
    const durable = await timeline.makeDurable();
    this.#promise(name, Math.min(durable, timeline.lastRecordLsn));
  }

  #promise(name: string, lsn: number): void {
    const history = this.histories.get(name)!;
    history.durable = Math.max(history.durable, lsn);
  }

  /** After a kill clients are shown what is there: that is promised from then on. */
  async promiseWhatIsThere(): Promise<void> {
    const server = await this.#open();
    this.server = server;
    const known = server.tenants();
    this.tenant = known.includes(TENANT) ? "yes" : "no";
    this.other = known.includes(OTHER) ? "yes" : "no";
    if (this.tenant === "no") return;
    const { branches, timelines } = server.tenant(TENANT);
    const listed = await branches.list();
    for (const name of this.branches.keys()) {
      this.branches.set(name, listed.some((branch) => branch.name === name) ? "yes" : "no");
    }
    for (const { name, timelineId } of listed) {
      if (!this.histories.has(name)) continue;
      const timeline = (await timelines.hold(timelineId)).value;
      this.#promise(name, Math.min(await timeline.makeDurable(), timeline.lastRecordLsn));
      await timeline.trimWal();
    }
  }

  /** A restart finds all that was promised, and nothing else. */
  async expectRecovered(): Promise<void> {
    const server = await this.#open();
    this.server = server;
    try {
      for (const [id, existence] of [[TENANT, this.tenant], [OTHER, this.other]] as const) {
        const found = server.tenants().includes(id);
        if (existence !== "perhaps") assert.equal(found, existence === "yes", `tenant ${id} is there`);
      }
      const known = server.tenants().map((id) => String(id)).sort();
      assert.deepEqual(this.disk.readdirSync(PATHS.tenants).sort(), known, "nothing else is in tenants/");
      if (!server.tenants().includes(TENANT)) return;
      await this.#expectBranches();
    } finally {
      await server.close();
    }
    for (const name of this.disk.readdirSync(PATHS.timelines(TENANT))) {
      const { problems, strays } = checkTimeline(this.disk, join(PATHS.timelines(TENANT), name));
      assert.deepEqual([problems, strays], [[], []], name);
    }
  }

  async #expectBranches(): Promise<void> {
    const branches = await this.server.tenant(TENANT).branches.list();
    const names = branches.map(({ name }) => String(name));
    for (const [name, existence] of this.branches) {
      if (existence !== "perhaps") assert.equal(names.includes(name), existence === "yes", `branch ${name}`);
    }
    if (this.branches.get("renamed") === "perhaps" && this.branches.get("child") === "perhaps") {
      assert.ok(
        names.includes("renamed") !== names.includes("child"),
        "a branch that is renamed has one name",
      );
    }
    // A timeline without a name is of no use to anybody, and nobody could delete it.
    const timelines = this.disk.readdirSync(PATHS.timelines(TENANT));
    assert.ok(timelines.every(isId), `only timelines are in timelines/: ${timelines.join(", ")}`);
    assert.deepEqual(timelines.sort(), branches.map(({ timelineId }) => String(timelineId)).sort());
    for (const { name, timelineId } of branches) {
      const history = this.histories.get(name);
      // The scenario had not come to it; then the branch is as it was made.
      if (history === undefined) continue;
      const timeline = (await this.server.tenant(TENANT).timelines.hold(parseTimelineId(timelineId))).value;
      assert.ok(
        timeline.lastRecordLsn >= history.durable || timeline.position >= history.durable,
        `${name} ends at ${timeline.lastRecordLsn}, promised ${history.durable}`,
      );
      expectContent(timeline, history);
    }
  }
}

/** A record that gives a block a new image. */
function imageRecord(wal: WalBuilder, block: number, fill: number): BuiltRecord {
  const image = new Uint8Array(BLCKSZ).fill(fill);
  return wal.record({
    rmid: RM_XLOG,
    info: XLOG_FPI,
    blocks: [{ id: 0, rel: REL, blkno: block, image: { bytes: image, info: BKPIMAGE_APPLY } }],
  });
}

function expectContent(timeline: Timeline, history: History): void {
  const [spc, db, rel] = REL;
  const page = new Uint8Array(BLCKSZ);
  let blocks = 0;
  for (const fork of timeline.at(timeline.lastRecordLsn).forks()) blocks += fork.blocks;
  assert.equal(timeline.sizes().logical, blocks * BLCKSZ, "the total of all sizes");
  for (const lsn of [...history.ends(timeline.lastRecordLsn), timeline.lastRecordLsn]) {
    const view = timeline.at(asLsn(lsn));
    const fork = view.fork(spc, db, rel, 0);
    for (let block = 0; block < fork.blocks; block++) {
      view.readPage(fork, block, page, 0);
      // The page's LSN is not part of the image.
      assert.deepEqual(
        [page[8], page[BLCKSZ - 1]],
        Array(2).fill(history.fill(block, lsn)),
        `block ${block} at ${lsn}`,
      );
    }
  }
}

/** Runs the scenario with each of its operations failing in turn. */
async function failEverywhere(
  seed: number,
  faultOf: (n: number) => Fault,
  run: (life: Life) => Promise<void>,
): Promise<number> {
  const rehearsal = await Life.start(seed);
  const before = rehearsal.disk.operations;
  await rehearsal.run(false);
  const operations = rehearsal.disk.operations - before;
  await rehearsal.server.close();
  await rehearsal.expectRecovered();
  for (let n = 1; n <= operations; n += STRIDE) {
    const life = await Life.start(seed);
    const fault = faultOf(n);
    life.disk.failAt(n, fault);
    try {
      await run(life);
      life.disk.crash();
      await life.server.close().catch(() => {});
      await life.expectRecovered();
    } catch (error) {
      throw new Error(`operation ${n} of ${operations} failing with ${JSON.stringify(fault)}, seed ${seed}`, {
        cause: error,
      });
    }
  }
  return operations;
}

const SLOW = { timeout: 240_000 };

describe("tenants and branches that are made, written to, renamed and deleted", () => {
  for (const seed of seeds(1)) {
    test(`are as promised after the power went at any operation, seed ${seed}`, SLOW, async () => {
      const operations = await failEverywhere(seed, () => ({ kind: "crash" }), async (life) => {
        await life.run(false).catch((error: Error) => {
          if (!isPowerLost(error)) throw error;
        });
      });
      assert.ok(operations > 300, `the scenario has ${operations} operations`);
    });

    test(
      `stay as they are shown after a kill at any operation when the power goes next, seed ${seed}`,
      SLOW,
      async () => {
        await failEverywhere(seed, () => ({ kind: "crash" }), async (life) => {
          await life.run(false).catch((error: Error) => {
            if (!isPowerLost(error)) throw error;
          });
          life.disk.kill();
          await life.server.close().catch(() => {});
          await life.promiseWhatIsThere();
        });
      },
    );

    test(`go on after an error at any operation when asked again, seed ${seed}`, SLOW, async () => {
      const fault = (n: number): Fault => ({ kind: "error", code: n % 2 === 0 ? "EIO" : "ENOSPC" });
      await failEverywhere(seed, fault, (life) => life.run(true));
    });
  }
});

function showsFailingDisk(error: unknown): boolean {
  return error instanceof ZenithError && (error.kind === "io" || error.kind === "disk_full");
}

function isPowerLost(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof PowerLostError) return true;
  }
  return false;
}
