/**
 * The timelines of a safekeeper: opens them on demand, closes them when nobody uses them, and
 * deletes them.
 */
import { type Disk, settleWorkdirSync } from "../common/disk.ts";
import { errorMessage, ioError, ZenithError } from "../common/errors.ts";
import {
  isIdFileName,
  parseTenantId,
  parseTimelineId,
  type TenantId,
  type TimelineId,
} from "../common/id.ts";
import type { Logger } from "../process/log.ts";
import type { Lsn } from "../common/lsn.ts";
import { DELETED_SUFFIX, type SafekeeperPaths } from "../common/paths.ts";
import type { TimelineIdentity } from "../consensus/messages.ts";
import { SafekeeperTimeline, type TimelineOptions } from "./timeline.ts";

export interface TimelinesOptions {
  readonly paths: SafekeeperPaths;
  readonly disk: Disk;
  readonly id: number;
  readonly sync: boolean;
  readonly logger: Logger;
}

export interface TimelineName {
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
}

/** A timeline that can't be opened. */
export interface FailedTimeline {
  readonly name: TimelineName;
  readonly error: unknown;
}

/** The timelines of one safekeeper. Timelines that nobody uses are not in memory. */
export class Timelines {
  readonly #options: TimelinesOptions;
  readonly #open = new Map<string, Promise<SafekeeperTimeline>>();
  /** The timelines that have been opened. */
  readonly #loaded = new Set<SafekeeperTimeline>();
  /** Timelines that are being closed. They can be opened again afterwards. */
  readonly #closing = new Map<string, Promise<void>>();
  /** For timelines that failed in this process: up to where their WAL is durable. */
  readonly #trusted = new Map<string, Lsn>();
  #closed = false;

  constructor(options: TimelinesOptions) {
    this.#options = options;
  }

  /** Every timeline on disk. @throws when the directory can't be read */
  list(): TimelineName[] {
    const { disk, paths } = this.#options;
    const names: TimelineName[] = [];
    for (const tenantId of this.#tenants()) {
      for (const timeline of disk.readdirSync(paths.tenant(tenantId)).filter(isIdFileName).sort()) {
        const timelineId = parseTimelineId(timeline);
        if (this.#exists({ tenantId, timelineId })) names.push({ tenantId, timelineId });
      }
    }
    return names;
  }

  /**
   * Opens every timeline that can be opened, and says why the others can't: a damaged timeline must
   * not hide the rest.
   */
  async openAll(): Promise<{ opened: SafekeeperTimeline[]; failed: FailedTimeline[] }> {
    const opened: SafekeeperTimeline[] = [];
    const failed: FailedTimeline[] = [];
    for (const name of this.list()) {
      try {
        opened.push(await this.get(name));
      } catch (error) {
        if (this.#closed) throw error;
        failed.push({ name, error });
      }
    }
    return { opened, failed };
  }

  /** @throws {ZenithError} `not_found` when the timeline has never been written to here */
  get(name: TimelineName): Promise<SafekeeperTimeline> {
    return this.#getOr(name, () => {
      throw new ZenithError(
        "not_found",
        `this safekeeper has no timeline ${name.timelineId} of tenant ${name.tenantId}`,
      );
    });
  }

  /** Returns the timeline, creating it if necessary. */
  getOrCreate(identity: TimelineIdentity): Promise<SafekeeperTimeline> {
    return this.#getOr(identity, (options) => SafekeeperTimeline.create(identity, options));
  }

  /**
   * Removes a timeline with its WAL. The rename of its directory makes the deletion final.
   * {@link recover} removes what a later crash leaves behind.
   *
   * @returns whether there was such a timeline
   * @throws {ZenithError} `conflict` while a compute is connected to the timeline, `io`
   */
  async delete(name: TimelineName): Promise<boolean> {
    const { disk, paths, sync, logger } = this.#options;
    const directory = paths.timeline(name.tenantId, name.timelineId);
    // Delete the timeline even if its control file is gone.
    if (disk.statSync(directory) === null) return false;
    const timeline = await this.#open.get(keyOf(name))?.catch(() => undefined);
    if (timeline?.hasWriter === true) {
      throw new ZenithError("conflict", `a compute writes to timeline ${name.timelineId}`, {
        hint: "stop its Postgres first",
      });
    }
    if (timeline !== undefined) await this.#unload(timeline);
    await this.#closing.get(keyOf(name));
    // Somebody has opened the timeline again meanwhile.
    if (this.#open.has(keyOf(name))) return await this.delete(name);
    const { tenantId, timelineId } = name;
    try {
      disk.renameSync(directory, paths.deletedTimeline(tenantId, timelineId));
      if (sync) disk.fsyncDirSync(paths.tenant(tenantId));
      disk.removeTreeSync(paths.deletedTimeline(tenantId, timelineId));
      if (disk.readdirSync(paths.tenant(tenantId)).length === 0) disk.removeTreeSync(paths.tenant(tenantId));
    } catch (error) {
      throw ioError("delete timeline", directory, error);
    }
    this.#trusted.delete(keyOf(name));
    logger.info("timeline deleted", { tenant: tenantId, timeline: timelineId });
    return true;
  }

  /** Finishes deletions that a crash interrupted. @throws {ZenithError} `io` */
  recover(): void {
    const { disk, paths, sync } = this.#options;
    if (sync) settleWorkdirSync(disk, paths.workdir);
    for (const tenant of this.#tenants()) {
      const directory = paths.tenant(tenant);
      // A power failure must not undo the deletion after some files were removed.
      if (sync) disk.fsyncDirSync(directory);
      for (const name of disk.readdirSync(directory)) {
        const isOurs = name.endsWith(DELETED_SUFFIX) && isIdFileName(name.slice(0, -DELETED_SUFFIX.length));
        if (isOurs) disk.removeTreeSync(`${directory}/${name}`);
      }
    }
  }

  /** Lists the tenants that have a directory. A stray file belongs to somebody else. */
  #tenants(): TenantId[] {
    const { disk, paths } = this.#options;
    return disk.readdirSync(paths.workdir).filter(isIdFileName).sort().map(parseTenantId)
      .filter((tenant) => disk.statSync(paths.tenant(tenant))?.isDirectory === true);
  }

  /** Returns the timelines in memory. */
  async loaded(): Promise<SafekeeperTimeline[]> {
    const results = await Promise.allSettled(this.#open.values());
    return results.filter((result) => result.status === "fulfilled").map(({ value }) => value);
  }

  /** Returns the timeline if it is in memory. Does not open it. */
  ifLoaded({ tenantId, timelineId }: TimelineName): SafekeeperTimeline | undefined {
    for (const timeline of this.#loaded) {
      const { identity } = timeline;
      if (identity.tenantId === tenantId && identity.timelineId === timelineId) return timeline;
    }
    return undefined;
  }

  /** Closes the timelines that nobody uses and whose WAL the page server has. */
  async unloadIdle(): Promise<void> {
    for (const timeline of await this.loaded()) {
      const { commitLsn, remoteConsistentLsn } = timeline.state;
      if (timeline.isIdle && commitLsn <= remoteConsistentLsn) await this.#putAway(timeline);
    }
  }

  /**
   * @throws the error of a timeline that could not be closed. The others are closed all the same
   */
  async close(): Promise<void> {
    this.#closed = true;
    const loaded = await this.loaded();
    const unloaded = await Promise.allSettled(loaded.map((timeline) => this.#unload(timeline)));
    await Promise.allSettled(this.#closing.values());
    const failed = unloaded.find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }

  #getOr(
    name: TimelineName,
    otherwise: (options: TimelineOptions) => SafekeeperTimeline,
  ): Promise<SafekeeperTimeline> {
    if (this.#closed) {
      return Promise.reject(new ZenithError("unavailable", "the safekeeper is shutting down"));
    }
    const key = keyOf(name);
    const known = this.#open.get(key);
    if (known !== undefined) return known;
    const opening = (this.#closing.get(key) ?? Promise.resolve()).catch(() => undefined)
      .then(() => this.#load(name, otherwise));
    this.#open.set(key, opening);
    opening.catch(() => {
      if (this.#open.get(key) === opening) this.#open.delete(key);
    });
    return opening;
  }

  async #load(
    name: TimelineName,
    otherwise: (options: TimelineOptions) => SafekeeperTimeline,
  ): Promise<SafekeeperTimeline> {
    const trustedEndLsn = this.#trusted.get(keyOf(name));
    const options: TimelineOptions = {
      ...this.#options,
      ...(trustedEndLsn === undefined ? {} : { trustedEndLsn }),
      isOnlyWritten: () => this.#isOnlyOneWritten(),
      onFailed: (timeline) => {
        this.#trusted.set(keyOf(name), timeline.state.flushLsn);
        void this.#putAway(timeline);
      },
    };
    const timeline = this.#exists(name) ? await SafekeeperTimeline.open(name, options) : otherwise(options);
    this.#trusted.delete(keyOf(name));
    this.#loaded.add(timeline);
    return timeline;
  }

  /**
   * Like {@link #unload}, in the background. It can fail to write the lower bounds on a full disk.
   * The next start then finds older bounds and scans more. Never rejects.
   */
  async #putAway(timeline: SafekeeperTimeline): Promise<void> {
    try {
      await this.#unload(timeline);
    } catch (error) {
      const { tenantId, timelineId } = timeline.identity;
      this.#options.logger.warn(`could not close a timeline in order: ${errorMessage(error)}`, {
        tenant: tenantId,
        timeline: timelineId,
        err: error,
      });
    }
  }

  async #unload(timeline: SafekeeperTimeline): Promise<void> {
    const key = keyOf(timeline.identity);
    this.#open.delete(key);
    this.#loaded.delete(timeline);
    const closing = timeline.close().finally(() => {
      if (this.#closing.get(key) === closing) this.#closing.delete(key);
    });
    this.#closing.set(key, closing);
    await closing;
  }

  #isOnlyOneWritten(): boolean {
    let written = 0;
    for (const { hasWriter } of this.#loaded) {
      if (hasWriter && ++written > 1) return false;
    }
    return true;
  }

  #exists(name: TimelineName): boolean {
    const { disk, paths } = this.#options;
    return disk.statSync(paths.controlFile(name.tenantId, name.timelineId)) !== null;
  }
}

function keyOf(name: TimelineName): string {
  return `${name.tenantId}/${name.timelineId}`;
}
