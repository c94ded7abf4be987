/** One tenant of a page server. */
import { withIoErrors, ZenithError } from "../../common/errors.ts";
import type { TenantId, TimelineId } from "../../common/id.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import { OneAtATime } from "../../common/one_at_a_time.ts";
import { timestampOfMs } from "../../common/timestamp.ts";
import { MeasuredTree } from "../../common/tree_bytes.ts";
import { readMetadata, whenPresent } from "../../pagestore/mod.ts";
import { BranchFiles } from "./branch_files.ts";
import { TimelineDirectories } from "./timeline_directories.ts";
import { collectGarbage, type Cutoffs, type GarbageReport } from "../timeline/garbage.ts";
import { TenantBranches } from "./branches.ts";
import { readTenantConfig, type TenantConfig, writeTenantConfig } from "./config.ts";
import type { TenantContext } from "./context.ts";
import { TenantTimelines } from "./timelines.ts";
import type { Timeline } from "../timeline/timeline.ts";

/** Everything below the lower of the two cutoffs may go, except at the LSNs. */
export interface Retained {
  readonly cutoffs: Cutoffs;
  /** Where branches left the timeline. */
  readonly points: readonly Lsn[];
  /** Where somebody reads. */
  readonly leased: readonly Lsn[];
}

/** One customer's branches and timelines. Nothing here can reach another tenant's. */
export class Tenant {
  readonly id: TenantId;
  readonly timelines: TenantTimelines;
  readonly branches: TenantBranches;
  readonly #context: TenantContext;
  readonly #directories: TimelineDirectories;
  readonly #configWrites = new OneAtATime();
  #pgMajor: number | undefined;
  readonly #size: MeasuredTree;

  constructor(id: TenantId, context: TenantContext) {
    const files = new BranchFiles(context.disk, context.paths, id);
    this.id = id;
    this.#context = context;
    this.#size = new MeasuredTree(context.disk, context.paths.tenant(id));
    this.#directories = new TimelineDirectories(context.disk, context.paths, id, files);
    this.timelines = new TenantTimelines(id, context);
    this.branches = new TenantBranches({
      tenantId: id,
      files,
      directories: this.#directories,
      timelines: this.timelines,
      deleted: context.deleted,
      logger: context.logger,
    });
  }

  /** The major of the tenant's PostgreSQL. @throws {ZenithError} `corrupt_data`, `io` */
  get pgMajor(): number {
    this.#pgMajor ??= this.#directories.pgMajor();
    return this.#pgMajor;
  }

  /**
   * Returns how much history is kept. @throws {ZenithError} `invalid_argument` when the file is
   * wrong
   */
  config(): TenantConfig {
    const path = this.#context.paths.tenantConfig(this.id);
    return withIoErrors("read", path, () => readTenantConfig(this.#context.disk, path));
  }

  /**
   * Replaces the configuration. Durable when it resolves. @throws {ZenithError} `disk_full`, `io`
   */
  setConfig(config: TenantConfig): Promise<void> {
    const { disk, paths } = this.#context;
    const path = paths.tenantConfig(this.id);
    return this.#configWrites.run(() => writeTenantConfig(disk, paths.tenant(this.id), path, config));
  }

  /**
   * What of a timeline's history has to be kept now, by the tenant's configuration, branches and
   * leases.
   *
   * @param horizonBytes replaces the configured one
   */
  async retained(timeline: Timeline, horizonBytes?: number): Promise<Retained> {
    const config = this.config();
    const nowMs = Date.now();
    return {
      cutoffs: {
        horizon: Math.max(0, timeline.lastRecordLsn - (horizonBytes ?? config.gc_horizon_bytes)) as Lsn,
        pitr: await whenPresent(() =>
          timeline.committedBy(timestampOfMs(nowMs - config.pitr_interval_s * 1000))
        ),
      },
      points: this.#directories.branchPoints(timeline.timelineId),
      leased: timeline.leases.active(nowMs),
    };
  }

  /**
   * Removes the part of a timeline's history that the tenant's configuration no longer asks for and
   * that no branch or lease needs.
   *
   * @param horizonBytes replaces the configured one
   * @throws {ZenithError} `disk_full`, `io`, `corrupt_data`
   */
  async collectGarbage(timeline: Timeline, horizonBytes?: number): Promise<GarbageReport> {
    const { cutoffs, points, leased } = await this.retained(timeline, horizonBytes);
    const report = await collectGarbage(
      timeline,
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

  /** Opens the timelines that began with a backup of which not all is copied. */
  async openMounted(): Promise<void> {
    await this.timelines.openMounted(this.#directories.ids());
  }

  /**
   * Returns the timelines that have layers of their own, open or not. @throws {ZenithError} `io`
   */
  timelinesWithLayers(): TimelineId[] {
    const { disk, paths } = this.#context;
    return this.#directories.ids().filter((id) => {
      try {
        return readMetadata(disk, paths.timeline(this.id, id)).layers.length > 0;
      } catch {
        // A damaged timeline is reported elsewhere.
        return false;
      }
    });
  }

  /**
   * Returns the tenant's size on disk in bytes, whether or not it is open. At most a few seconds
   * old.
   */
  physicalSize(): number {
    return this.#size.bytes;
  }

  /** Finishes what a crash interrupted. */
  async recover(): Promise<void> {
    await this.#directories.recover();
  }

  /**
   * Closes everything without making it durable, because the tenant is being deleted.
   *
   * @returns the timelines that were open
   * @throws {ZenithError} `conflict` when one is in use
   */
  async retire(inUse: (timeline: TimelineId) => boolean): Promise<Timeline[]> {
    await this.branches.settled();
    this.#assertUnused(inUse);
    await this.#context.deleted.add(this.id, this.#directories.ids());
    await this.#context.deletedTenants.add(this.id);
    this.#assertUnused(inUse);
    // Whoever waits for a timeline that is being opened is then told that it does not exist.
    const timelines = await this.timelines.shut();
    for (const timeline of timelines) {
      timeline.retire(new ZenithError("not_found", `tenant ${this.id} was deleted`));
    }
    for (const timeline of timelines) await timeline.close();
    return timelines;
  }

  /**
   * Closes everything, because the tenant goes on elsewhere.
   *
   * @param why what those hear who still use it
   * @returns the timelines that were open
   * @throws {ZenithError} `conflict` when one is in use
   */
  async leave(
    inUse: (timeline: TimelineId) => boolean,
    why = new ZenithError("not_found", `tenant ${this.id} was detached`),
  ): Promise<Timeline[]> {
    await this.branches.settled();
    this.#assertUnused(inUse);
    const timelines = await this.timelines.shut();
    for (const timeline of timelines) {
      timeline.retire(why);
    }
    for (const timeline of timelines) await timeline.close();
    return timelines;
  }

  #assertUnused(inUse: (timeline: TimelineId) => boolean): void {
    if (!this.timelines.opened().some(({ timelineId }) => inUse(timelineId))) return;
    const used = this.branches.namesOf(inUse);
    throw new ZenithError("conflict", `a Postgres runs on ${used.join(", ")} of tenant ${this.id}`, {
      hint: `stop it with "zenith pg stop ${used[0]} --tenantid ${this.id}"`,
    });
  }

  /**
   * Makes everything durable, then closes the files. Until then, branches read from their
   * ancestors' files.
   */
  async close(): Promise<void> {
    const timelines = await this.timelines.shut();
    const flushed = await Promise.allSettled(timelines.map((timeline) => timeline.flush()));
    const closed = await Promise.allSettled(timelines.map((timeline) => timeline.close()));
    const failed = [...flushed, ...closed].find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }
}
