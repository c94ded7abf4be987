import { join } from "node:path";
import type { Disk } from "../common/disk.ts";
import { ZenithError } from "../common/errors.ts";
import {
  type BranchName,
  generateTimelineId,
  parseBranchName,
  type TenantId,
  type TimelineId,
} from "../common/id.ts";
import type { Logger } from "../common/log.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../common/lsn.ts";
import type { PageServerConfig } from "../common/pageserver_config.ts";
import type { PageServerPaths } from "../common/paths.ts";
import { timestampOfMs } from "../common/timestamp.ts";
import {
  type BlockCache,
  type FlushLayer,
  type MemoryPools,
  readMetadata,
  TimelineStore,
  type TimelineStoreOptions,
} from "../pagestore/mod.ts";
import { WalStore } from "../wal_store/wal_store.ts";
import { type Branch, BranchFiles, type StartPoint } from "./branches.ts";
import { encodeBranchFile } from "./branch_file.ts";
import { TimelineDirectories, withDescendants } from "./deletion.ts";
import { firstPosition, importCluster, readClusterEnd } from "./import_cluster.ts";
import { collectGarbage, type GarbageReport } from "./garbage.ts";
import { Leases } from "./leases.ts";
import type { PageCache } from "./page_cache.ts";
import { makePageImage } from "./rebuild_page.ts";
import { readTenantConfig, type TenantConfig, writeTenantConfig } from "./tenant_config.ts";
import { Timeline } from "./timeline.ts";
import { decodeTimelineInfo, encodeTimelineInfo } from "./timeline_info.ts";

/** What all tenants of a page server share. */
export interface TenantContext {
  readonly disk: Disk;
  readonly paths: PageServerPaths;
  readonly config: PageServerConfig;
  readonly blockCache: BlockCache;
  readonly pageCache: PageCache;
  /** The values' buffers are chunks of WAL. */
  readonly memoryPools: MemoryPools;
  readonly flushLayer: FlushLayer;
  readonly logger: Logger;
}

/** A branch, as `branch_list` shows it. */
export interface BranchInfo {
  readonly name: BranchName;
  readonly timelineId: TimelineId;
  readonly latestValidLsn: Lsn;
  readonly ancestorId: TimelineId | null;
  readonly ancestorLsn: Lsn | null;
  /** When it is to be removed, in milliseconds since 1970; null: never. */
  readonly expiresMs: number | null;
  /** In bytes: of all relations as PostgreSQL would say, and on disk. null when nobody has asked for them. */
  readonly sizes: { readonly logical: number; readonly physical: number } | null;
}

/** How long a branch waits for its LSN: several rounds of Postgres' WAL writer, also on a busy machine. */
const ARRIVAL_TIMEOUT_MS = 2_000;

/** The branch that every tenant begins with. */
export const MAIN_BRANCH = parseBranchName("main");

/** One customer's branches and timelines. Nothing here reaches another tenant's. */
export class Tenant {
  readonly id: TenantId;
  readonly #context: TenantContext;
  readonly #branches: BranchFiles;
  readonly #timelines = new Map<TimelineId, Promise<Timeline>>();
  readonly #directories: TimelineDirectories;
  /** Branches are made, renamed and deleted one at a time. */
  #lastChange: Promise<unknown> = Promise.resolve();
  /** When the next branch expires; undefined when that has to be looked up. */
  #nextExpiryMs: number | undefined;
  /** Expired branches that could not go yet, as the log has told. */
  readonly #overdue = new Set<BranchName>();
  #closed = false;

  constructor(id: TenantId, context: TenantContext) {
    this.id = id;
    this.#context = context;
    this.#branches = new BranchFiles(context.disk, context.paths, id);
    this.#directories = new TimelineDirectories(context.disk, context.paths, id, this.#branches);
  }

  /**
   * Makes a tenant with a `main` branch from a data directory that initdb has made. It appears complete or not at all.
   *
   * @throws {ZenithError} `already_exists`
   */
  static async create(id: TenantId, context: TenantContext, initdbDirectory: string): Promise<void> {
    const { disk, paths } = context;
    const final = paths.tenant(id);
    if (disk.statSync(final) !== null) {
      throw new ZenithError("already_exists", `repo for ${id} already exists`);
    }
    const workdir = paths.tenantInProgress(id);
    disk.mkdirsSync(paths.tenants);
    disk.removeTreeSync(workdir);
    disk.mkdirSync(workdir);
    disk.mkdirSync(join(workdir, "branches"));
    disk.mkdirSync(join(workdir, "timelines"));

    const timelineId = generateTimelineId();
    const end = readClusterEnd(disk, initdbDirectory);
    const store = await TimelineStore.create(join(workdir, "timelines", timelineId), {
      ...storeOptions(context),
      startLsn: end.checkpointLsn,
      userData: encodeTimelineInfo({ ancestorId: null, walStartLsn: firstPosition(end) }),
    });
    importCluster(disk, initdbDirectory, end, store);
    await store.flush();
    await store.close();
    const branch = disk.openSync(join(workdir, "branches", MAIN_BRANCH), "createNew");
    const content = encodeBranchFile({ timelineId, expiresMs: null });
    branch.writeSync(content, 0, content.length, 0);
    await branch.fsync();
    branch.closeSync();
    for (const directory of ["branches", "timelines", "."]) disk.fsyncDirSync(join(workdir, directory));
    disk.renameSync(workdir, final);
    disk.fsyncDirSync(paths.tenants);
    context.logger.info("tenant created", { tenant: id, timeline: timelineId, lsn: formatLsn(end.endLsn) });
  }

  /** The timeline, opened if it isn't. @throws {ZenithError} `not_found` */
  timeline(id: TimelineId): Promise<Timeline> {
    if (this.#closed) {
      return Promise.reject(new ZenithError("unavailable", "the page server is shutting down"));
    }
    let timeline = this.#timelines.get(id);
    if (timeline === undefined) {
      timeline = this.#openTimeline(id);
      this.#timelines.set(id, timeline);
      // A timeline that could not be opened may be mended and asked for again.
      timeline.catch(() => this.#timelines.delete(id));
    }
    return timeline;
  }

  async #openTimeline(id: TimelineId): Promise<Timeline> {
    const { disk, paths } = this.#context;
    const directory = paths.timeline(this.id, id);
    if (disk.statSync(directory) === null) {
      throw new ZenithError("not_found", `tenant ${this.id} has no timeline ${id}`);
    }
    const metadata = readMetadata(disk, directory);
    const info = decodeTimelineInfo(metadata.userData, directory);
    const ancestor = info.ancestorId === null ? null : await this.timeline(info.ancestorId);
    const store = await TimelineStore.open(directory, {
      ...storeOptions(this.#context),
      ...(ancestor === null
        ? {}
        : { ancestor: { store: ancestor.store, lsn: (metadata.ancestorLsn ?? INVALID_LSN) as Lsn } }),
    });
    return await this.#startTimeline(id, store, info.ancestorId, info.walStartLsn);
  }

  async #startTimeline(
    id: TimelineId,
    store: TimelineStore,
    ancestorId: TimelineId | null,
    walStartLsn: Lsn,
  ): Promise<Timeline> {
    const { disk, paths, pageCache, memoryPools, logger } = this.#context;
    const log = logger.child({ tenant: this.id, timeline: id });
    return await Timeline.open({
      tenantId: this.id,
      timelineId: id,
      ancestorId,
      store,
      leases: new Leases(disk, paths.timeline(this.id, id), paths.leases(this.id, id)),
      openWal: (segmentSize) =>
        WalStore.open(join(paths.timeline(this.id, id), "wal"), { disk, segmentSize, startLsn: walStartLsn }),
      pageCache,
      walBuffers: memoryPools.values,
      logger: log,
    });
  }

  /** The timelines that are open now. */
  async openTimelines(): Promise<Timeline[]> {
    const settled = await Promise.allSettled(this.#timelines.values());
    return settled.filter((result) => result.status === "fulfilled").map((result) => result.value);
  }

  /** All branches, by name. */
  async branches(): Promise<BranchInfo[]> {
    return await Promise.all(
      this.#branches.list().map(async (branch) => ({
        ...await this.#describe(branch),
        sizes: (await this.timeline(branch.timelineId)).sizes(),
      })),
    );
  }

  async #describe({ name, timelineId, expiresMs }: Branch): Promise<BranchInfo> {
    const timeline = await this.timeline(timelineId);
    return {
      name,
      timelineId,
      latestValidLsn: timeline.lastRecordLsn,
      ancestorId: timeline.ancestorId,
      ancestorLsn: timeline.store.ancestorLsn,
      expiresMs,
      sizes: null,
    };
  }

  /**
   * Makes branch `name` that leaves `start`'s timeline at its LSN. Costs the same whatever the size of the database.
   *
   * @param expiresMs when it is to be removed again, in milliseconds since 1970; null: never
   * @throws {ZenithError} `already_exists`, `not_found`, `out_of_range`, `invalid_argument` for a reserved name
   */
  async createBranch(
    name: BranchName,
    start: StartPoint,
    expiresMs: number | null = null,
  ): Promise<BranchInfo> {
    if (start.lsn !== null) await this.#untilArrived(start, start.lsn);
    return await this.#oneAtATime(() => this.#createBranch(name, start, expiresMs));
  }

  /**
   * Postgres tells LSNs that it hasn't sent yet: nothing waits for the WAL of a transaction that is rolled back, and the WAL
   * writer gets to it some hundred milliseconds later. An LSN that doesn't arrive is for {@link Timeline.boundary} to refuse.
   */
  async #untilArrived(start: StartPoint, lsn: Lsn): Promise<void> {
    const timelineId = start.timelineId ?? this.#existing(start.branch!).timelineId;
    const timeline = await this.timeline(timelineId);
    try {
      await timeline.waitFor(lsn, ARRIVAL_TIMEOUT_MS);
    } catch (error) {
      if (!(error instanceof ZenithError && error.kind === "timeout")) throw error;
    }
  }

  #oneAtATime<T>(change: () => Promise<T>): Promise<T> {
    const done = this.#lastChange.then(change).finally(() => {
      this.#nextExpiryMs = undefined;
    });
    this.#lastChange = done.catch(() => {});
    return done;
  }

  async #createBranch(name: BranchName, start: StartPoint, expiresMs: number | null): Promise<BranchInfo> {
    this.#branches.assertFree(name);
    const ancestorId = start.timelineId ?? this.#existing(start.branch!).timelineId;
    const named = await this.timeline(ancestorId);
    const { timeline: ancestor, lsn: startLsn } = start.timestamp === null
      ? { timeline: named, lsn: start.lsn }
      : await this.lsnAt(named, start.timestamp);
    const { lsn } = ancestor.boundary(startLsn);
    // A branch must not stand on what its parent could lose.
    await ancestor.makeDurable();
    const timelineId = generateTimelineId();
    const store = await TimelineStore.create(this.#context.paths.timeline(this.id, timelineId), {
      ...storeOptions(this.#context),
      // A branch at the end may start behind a page header that comes after the last record.
      ancestor: { store: ancestor.store, lsn: Math.min(lsn, ancestor.lastRecordLsn) as Lsn },
      startLsn: lsn,
      userData: encodeTimelineInfo({ ancestorId: ancestor.timelineId, walStartLsn: lsn }),
    });
    const timeline = this.#startTimeline(timelineId, store, ancestor.timelineId, lsn);
    this.#timelines.set(timelineId, timeline);
    await timeline;
    const branch = { name, timelineId, expiresMs };
    this.#branches.create(branch);
    this.#context.logger.info("branch created", {
      tenant: this.id,
      branch: name,
      timeline: timelineId,
      ancestor: ancestor.timelineId,
      lsn: formatLsn(lsn),
    });
    return await this.#describe(branch);
  }

  #existing(name: BranchName): Branch {
    const branch = this.#branches.get(name);
    if (branch === null) throw new ZenithError("not_found", `tenant ${this.id} has no branch ${name}`);
    return branch;
  }

  /** @throws {ZenithError} `not_found`, `already_exists`, `invalid_argument` for a reserved name */
  renameBranch(from: BranchName, to: BranchName): Promise<BranchInfo> {
    return this.#oneAtATime(async () => {
      const branch = this.#existing(from);
      this.#branches.rename(from, to);
      this.#context.logger.info("branch renamed", { tenant: this.id, from, to });
      return await this.#describe({ ...branch, name: to });
    });
  }

  /**
   * Deletes a branch and its timeline, and with `cascade` all branches that come from it. Readers are told.
   *
   * @param inUse whether something writes to a timeline
   * @returns what was deleted
   * @throws {ZenithError} `not_found`; `conflict` when it is the tenant's first branch, has children, or is in use
   */
  deleteBranch(
    name: BranchName,
    cascade: boolean,
    inUse: (timeline: TimelineId) => boolean,
  ): Promise<Branch[]> {
    return this.#oneAtATime(() => this.#deleteBranch(name, cascade, inUse));
  }

  async #deleteBranch(
    name: BranchName,
    cascade: boolean,
    inUse: (timeline: TimelineId) => boolean,
  ): Promise<Branch[]> {
    const branch = this.#existing(name);
    const ancestors = this.#directories.ancestors();
    if (ancestors.get(branch.timelineId) === null) {
      throw new ZenithError("conflict", `branch ${name} is where all others of tenant ${this.id} come from`, {
        hint: `"zenith tenant delete ${this.id}" removes all of it`,
      });
    }
    const timelines = withDescendants(branch.timelineId, ancestors);
    const branches = this.#branches.list().filter((branch) => timelines.includes(branch.timelineId));
    const children = branches.filter((branch) => branch.name !== name).map((branch) => branch.name);
    if (children.length > 0 && !cascade) {
      throw new ZenithError("conflict", `other branches come from ${name}: ${children.join(", ")}`, {
        hint: `delete them first, or all together with "zenith branch delete ${name} --cascade"`,
      });
    }
    const open = await Promise.allSettled(timelines.map((id) => this.#timelines.get(id)));
    const used = branches.filter((branch) => inUse(branch.timelineId)).map((branch) => branch.name);
    if (used.length > 0) {
      throw new ZenithError("conflict", `a Postgres runs on ${used.join(", ")}`, {
        hint: `stop it with "zenith pg stop ${used[0]}"`,
      });
    }
    for (const timeline of open) {
      if (timeline.status !== "fulfilled" || timeline.value === undefined) continue;
      timeline.value.retire(
        new ZenithError("not_found", `timeline ${timeline.value.timelineId} was deleted`),
      );
    }
    try {
      for (const id of timelines) {
        await this.#release(id);
        this.#directories.remove(id);
      }
    } finally {
      // When one could not be deleted, the rest is opened again when it is asked for.
      for (const id of timelines) await this.#release(id);
    }
    this.#context.logger.info("branches deleted", {
      tenant: this.id,
      branches: branches.map((branch) => branch.name),
      timelines,
    });
    return branches;
  }

  /** Closes a timeline if it is open. */
  async #release(id: TimelineId): Promise<void> {
    const timeline = this.#timelines.get(id);
    if (timeline === undefined) return;
    try {
      await (await timeline).close();
    } finally {
      this.#timelines.delete(id);
    }
  }

  /** Deletes the branches whose time has come, but for those that others come from or that are in use: they go later. */
  async expireBranches(nowMs: number, inUse: (timeline: TimelineId) => boolean): Promise<void> {
    if (this.#closed || nowMs < this.#expiry()) return;
    for (const { name, expiresMs } of this.#branches.list()) {
      if (expiresMs === null || expiresMs > nowMs) continue;
      try {
        await this.deleteBranch(name, false, inUse);
      } catch (error) {
        if (!(error instanceof ZenithError) || error.kind !== "conflict") throw error;
        if (this.#overdue.has(name)) continue;
        this.#overdue.add(name);
        this.#context.logger.info(`branch ${name} has expired and stays for now: ${error.message}`, {
          tenant: this.id,
        });
      }
    }
  }

  #expiry(): number {
    this.#nextExpiryMs ??= Math.min(...this.#branches.list().map(({ expiresMs }) => expiresMs ?? Infinity));
    return this.#nextExpiryMs;
  }

  /** How much history is kept. @throws {ZenithError} `invalid_argument` when the file is wrong */
  config(): TenantConfig {
    return readTenantConfig(this.#context.disk, this.#context.paths.tenantConfig(this.id));
  }

  setConfig(config: TenantConfig): void {
    const { disk, paths } = this.#context;
    writeTenantConfig(disk, paths.tenant(this.id), paths.tenantConfig(this.id), config);
  }

  /**
   * Gives up history of a timeline that is older than the tenant's configuration asks for, and that no branch or lease needs.
   *
   * @param horizonBytes instead of the configured one
   * @throws {ZenithError} `disk_full`, `io`, `corrupt_data`
   */
  async collectGarbage(timeline: Timeline, horizonBytes?: number): Promise<GarbageReport> {
    const config = this.config();
    const nowMs = Date.now();
    const cutoffs = {
      horizon: Math.max(0, timeline.lastRecordLsn - (horizonBytes ?? config.gc_horizon_bytes)) as Lsn,
      pitr: timeline.committedBy(timestampOfMs(nowMs - config.pitr_interval_s * 1000)),
    };
    const points = this.#directories.branchPoints(timeline.timelineId);
    const leased = timeline.leases.active(nowMs);
    const report = await collectGarbage(
      timeline,
      this.#context.disk,
      cutoffs,
      points,
      leased,
      () => performance.now(),
    );
    const { logger } = this.#context;
    const log = (report.layersRemoved === 0 ? logger.debug : logger.info).bind(logger);
    log("garbage collected", {
      tenant: this.id,
      timeline: timeline.timelineId,
      horizon: formatLsn(cutoffs.horizon),
      pitr: formatLsn(cutoffs.pitr),
      ...report,
    });
    return report;
  }

  /** What all of the tenant takes on disk, in bytes, whether it is open or not. */
  physicalSize(): number {
    return treeBytes(this.#context.disk, this.#context.paths.tenant(this.id));
  }

  /** Finishes what a crash interrupted. */
  recover(): void {
    this.#directories.recover();
  }

  /** Closes everything without making it durable: the tenant is being deleted. @throws {ZenithError} `conflict` when in use */
  async retire(inUse: (timeline: TimelineId) => boolean): Promise<void> {
    await this.#lastChange;
    const timelines = await this.openTimelines();
    if (timelines.some(({ timelineId }) => inUse(timelineId))) {
      const used = this.#branches.list().filter(({ timelineId }) => inUse(timelineId)).map(({ name }) =>
        name
      );
      throw new ZenithError("conflict", `a Postgres runs on ${used.join(", ")} of tenant ${this.id}`, {
        hint: `stop it with "zenith pg stop ${used[0]} --tenantid ${this.id}"`,
      });
    }
    this.#closed = true;
    for (const timeline of timelines) {
      timeline.retire(new ZenithError("not_found", `tenant ${this.id} was deleted`));
    }
    for (const timeline of timelines) await timeline.close();
  }

  /**
   * Where a point in time is in a timeline's history, which goes back into its ancestors'.
   *
   * @param timestamp microseconds since 2000
   * @returns the LSN, and the timeline that it belongs to
   * @throws {ZenithError} `out_of_range` when it is in the future or before the history begins
   */
  async lsnAt(timeline: Timeline, timestamp: number): Promise<{ timeline: Timeline; lsn: Lsn }> {
    const lsn = timeline.lsnAt(timestamp, timestampOfMs(Date.now()));
    let owner = timeline;
    while (owner.ancestorId !== null && lsn < owner.store.startLsn) {
      owner = await this.timeline(owner.ancestorId);
    }
    return { timeline: owner, lsn };
  }

  /** Makes everything durable, then lets go of the files: branches read from their ancestors' until then. */
  async close(): Promise<void> {
    this.#closed = true;
    const timelines = await this.openTimelines();
    const flushed = await Promise.allSettled(timelines.map((timeline) => timeline.flush()));
    for (const timeline of timelines) await timeline.close();
    const failed = flushed.find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }
}

function storeOptions(context: TenantContext): TimelineStoreOptions {
  return {
    disk: context.disk,
    nowMs: Date.now,
    cache: context.blockCache,
    // One layer is filled while another is written out.
    config: { layerBytes: context.config.checkpoint_distance_bytes, maxFrozenLayers: 1 },
    pools: context.memoryPools,
    flushLayer: context.flushLayer,
    reconstruct: makePageImage,
  };
}

function treeBytes(disk: Disk, path: string): number {
  // Layers come and go meanwhile.
  const stat = disk.statSync(path);
  if (stat === null) return 0;
  if (!stat.isDirectory) return stat.size;
  return disk.readdirSync(path).reduce((sum, name) => sum + treeBytes(disk, join(path, name)), 0);
}
