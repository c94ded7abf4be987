import { type Disk, settleWorkdirSync } from "../common/disk.ts";
import { ioError, ZenithError } from "../common/errors.ts";
import { isId, parseTenantId, parseTimelineId, type TenantId, type TimelineId } from "../common/id.ts";
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

/** The timelines of one safekeeper. Those that nobody uses are not in memory. */
export class Timelines {
  readonly #options: TimelinesOptions;
  readonly #open = new Map<string, Promise<SafekeeperTimeline>>();
  /** Of those the ones that have been opened. */
  readonly #loaded = new Set<SafekeeperTimeline>();
  /** Those that are on their way out: they can be opened again when they are gone. */
  readonly #closing = new Map<string, Promise<void>>();
  /** What is durable of timelines that have failed in this process. */
  readonly #trusted = new Map<string, Lsn>();
  #closed = false;

  constructor(options: TimelinesOptions) {
    this.#options = options;
  }

  /** All that are on disk. @throws when the directory can't be read */
  list(): TimelineName[] {
    const { disk, paths } = this.#options;
    const names: TimelineName[] = [];
    for (const tenant of disk.readdirSync(paths.workdir).filter(isId).sort()) {
      const tenantId = parseTenantId(tenant);
      for (const timeline of disk.readdirSync(paths.tenant(tenantId)).filter(isId).sort()) {
        const timelineId = parseTimelineId(timeline);
        if (this.#exists({ tenantId, timelineId })) names.push({ tenantId, timelineId });
      }
    }
    return names;
  }

  /** @throws {ZenithError} `not_found` when nobody has written to that timeline here */
  get(name: TimelineName): Promise<SafekeeperTimeline> {
    return this.#getOr(name, () => {
      throw new ZenithError(
        "not_found",
        `this safekeeper has no timeline ${name.timelineId} of tenant ${name.tenantId}`,
      );
    });
  }

  /** The timeline, made when it isn't there. */
  getOrCreate(identity: TimelineIdentity): Promise<SafekeeperTimeline> {
    return this.#getOr(identity, (options) => SafekeeperTimeline.create(identity, options));
  }

  /**
   * Removes a timeline with its WAL. Renaming its directory does it; what a crash leaves after that is removed by {@link recover}.
   *
   * @returns whether there was one
   * @throws {ZenithError} `conflict` while a compute is connected to it, `io`
   */
  async delete(name: TimelineName): Promise<boolean> {
    if (!this.#exists(name)) return false;
    const timeline = await this.#open.get(keyOf(name))?.catch(() => undefined);
    if (timeline?.hasWriter === true) {
      throw new ZenithError("conflict", `a compute writes to timeline ${name.timelineId}`, {
        hint: "stop its Postgres first",
      });
    }
    if (timeline !== undefined) await this.#unload(timeline);
    await this.#closing.get(keyOf(name));
    // Who came meanwhile has opened it again.
    if (this.#open.has(keyOf(name))) return await this.delete(name);
    const { disk, paths, sync, logger } = this.#options;
    const { tenantId, timelineId } = name;
    const directory = paths.timeline(tenantId, timelineId);
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

  /** Finishes deletions that a crash has interrupted. @throws {ZenithError} `io` */
  recover(): void {
    const { disk, paths, sync } = this.#options;
    if (sync) settleWorkdirSync(disk, paths.workdir);
    for (const tenant of disk.readdirSync(paths.workdir).filter(isId)) {
      const directory = paths.tenant(parseTenantId(tenant));
      // A deletion must not be undone when power goes after some of the files were removed.
      if (sync) disk.fsyncDirSync(directory);
      for (const name of disk.readdirSync(directory)) {
        if (name.endsWith(DELETED_SUFFIX)) disk.removeTreeSync(`${directory}/${name}`);
      }
    }
  }

  /** Those in memory. */
  async loaded(): Promise<SafekeeperTimeline[]> {
    const results = await Promise.allSettled(this.#open.values());
    return results.filter((result) => result.status === "fulfilled").map(({ value }) => value);
  }

  /** Closes those that nobody uses and whose WAL the page server has. */
  async unloadIdle(): Promise<void> {
    for (const timeline of await this.loaded()) {
      const { commitLsn, remoteConsistentLsn } = timeline.state;
      if (timeline.isIdle && commitLsn <= remoteConsistentLsn) await this.#unload(timeline);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const timeline of await this.loaded()) await this.#unload(timeline);
    await Promise.all(this.#closing.values());
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
    const opening = (this.#closing.get(key) ?? Promise.resolve()).then(() => this.#load(name, otherwise));
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
        void this.#unload(timeline);
      },
    };
    const timeline = this.#exists(name) ? await SafekeeperTimeline.open(name, options) : otherwise(options);
    this.#trusted.delete(keyOf(name));
    this.#loaded.add(timeline);
    return timeline;
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
