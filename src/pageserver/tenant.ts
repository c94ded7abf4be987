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
import { type BlockCache, readMetadata, TimelineStore, type TimelineStoreOptions } from "../pagestore/mod.ts";
import { WalStore } from "../wal_store/wal_store.ts";
import { BranchFiles, type StartPoint } from "./branches.ts";
import { firstPosition, importCluster, readClusterEnd } from "./import_cluster.ts";
import type { PageCache } from "./page_cache.ts";
import { encodeStoredValue } from "./stored_values.ts";
import { Timeline } from "./timeline.ts";
import { decodeTimelineInfo, encodeTimelineInfo } from "./timeline_info.ts";

/** What all tenants of a page server share. */
export interface TenantContext {
  readonly disk: Disk;
  readonly paths: PageServerPaths;
  readonly config: PageServerConfig;
  readonly blockCache: BlockCache;
  readonly pageCache: PageCache;
  readonly logger: Logger;
}

/** A branch, as `branch_list` shows it. */
export interface BranchInfo {
  readonly name: BranchName;
  readonly timelineId: TimelineId;
  readonly latestValidLsn: Lsn;
  readonly ancestorId: TimelineId | null;
  readonly ancestorLsn: Lsn | null;
}

/** The branch that every tenant begins with. */
export const MAIN_BRANCH = parseBranchName("main");

/** One customer's branches and timelines. Nothing here reaches another tenant's. */
export class Tenant {
  readonly id: TenantId;
  readonly #context: TenantContext;
  readonly #branches: BranchFiles;
  readonly #timelines = new Map<TimelineId, Promise<Timeline>>();
  /** Branches are made one at a time. */
  #lastCreation: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(id: TenantId, context: TenantContext) {
    this.id = id;
    this.#context = context;
    this.#branches = new BranchFiles(context.disk, context.paths, id);
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
    const content = new TextEncoder().encode(`${timelineId}\n`);
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
    const { disk, paths, pageCache, logger } = this.#context;
    const log = logger.child({ tenant: this.id, timeline: id });
    return await Timeline.open({
      tenantId: this.id,
      timelineId: id,
      ancestorId,
      store,
      openWal: (segmentSize) =>
        WalStore.open(join(paths.timeline(this.id, id), "wal"), { disk, segmentSize, startLsn: walStartLsn }),
      pageCache,
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
      this.#branches.list().map(({ name, timelineId }) => this.#describe(name, timelineId)),
    );
  }

  async #describe(name: BranchName, timelineId: TimelineId): Promise<BranchInfo> {
    const timeline = await this.timeline(timelineId);
    return {
      name,
      timelineId,
      latestValidLsn: timeline.lastRecordLsn,
      ancestorId: timeline.ancestorId,
      ancestorLsn: timeline.store.ancestorLsn,
    };
  }

  /**
   * Makes branch `name` that leaves `start`'s timeline at its LSN. Costs the same whatever the size of the database.
   *
   * @throws {ZenithError} `already_exists`, `not_found`, `out_of_range`
   */
  createBranch(name: BranchName, start: StartPoint): Promise<BranchInfo> {
    const creation = this.#lastCreation.then(() => this.#createBranch(name, start));
    this.#lastCreation = creation.catch(() => {});
    return creation;
  }

  async #createBranch(name: BranchName, start: StartPoint): Promise<BranchInfo> {
    if (this.#branches.get(name) !== null) {
      throw new ZenithError("already_exists", `branch ${name} already exists`);
    }
    const ancestorId = start.timelineId ?? this.#branches.get(start.branch!);
    if (ancestorId === null) {
      throw new ZenithError("not_found", `tenant ${this.id} has no branch ${start.branch}`);
    }
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
      ancestor: { store: ancestor.store, lsn },
      startLsn: lsn,
      userData: encodeTimelineInfo({ ancestorId: ancestor.timelineId, walStartLsn: lsn }),
    });
    const timeline = this.#startTimeline(timelineId, store, ancestor.timelineId, lsn);
    this.#timelines.set(timelineId, timeline);
    await timeline;
    this.#branches.create(name, timelineId);
    this.#context.logger.info("branch created", {
      tenant: this.id,
      branch: name,
      timeline: timelineId,
      ancestor: ancestor.timelineId,
      lsn: formatLsn(lsn),
    });
    return await this.#describe(name, timelineId);
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
    encodeValue: encodeStoredValue,
  };
}
