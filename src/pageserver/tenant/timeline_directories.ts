/**
 * How timelines go away. Renaming the directory is what deletes one; from then on it is only a matter of time. Whatever a crash
 * leaves after that is removed when the tenant is opened.
 */
import { join } from "node:path";
import { type Disk, settleDirectorySync, TEMPORARY_SUFFIX } from "../../common/disk.ts";
import { ioError, withIoErrors } from "../../common/errors.ts";
import { isId, parseTimelineId, type TenantId, type TimelineId } from "../../common/id.ts";
import type { Lsn } from "../../common/lsn.ts";
import { DELETED_SUFFIX, type PageServerPaths } from "../../common/paths.ts";
import { readMetadata } from "../../pagestore/mod.ts";
import type { BranchFiles } from "./branch_files.ts";
import { decodeTimelineInfo } from "../timeline/timeline_info.ts";

/** A tenant's timelines on disk, opened or not. */
export class TimelineDirectories {
  readonly #disk: Disk;
  readonly #paths: PageServerPaths;
  readonly #tenant: TenantId;
  readonly #branches: BranchFiles;

  constructor(disk: Disk, paths: PageServerPaths, tenant: TenantId, branches: BranchFiles) {
    this.#disk = disk;
    this.#paths = paths;
    this.#tenant = tenant;
    this.#branches = branches;
  }

  /** Each timeline's ancestor, null for one that began with the tenant. @throws {ZenithError} `corrupt_data`, `io` */
  ancestors(): Map<TimelineId, TimelineId | null> {
    return new Map([...this.#origins()].map(([id, origin]) => [id, origin?.ancestorId ?? null]));
  }

  /**
   * Where branches, also branches of branches, left a timeline: the LSNs at which they read from it.
   *
   * @throws {ZenithError} `corrupt_data`, `io`
   */
  branchPoints(timeline: TimelineId): Lsn[] {
    const origins = this.#origins();
    const points: Lsn[] = [];
    for (const id of origins.keys()) {
      let limit = Infinity;
      for (let at = origins.get(id); at !== null && at !== undefined; at = origins.get(at.ancestorId)) {
        limit = Math.min(limit, at.lsn);
        if (at.ancestorId === timeline) points.push(limit as Lsn);
      }
    }
    return points;
  }

  /** Where each timeline left its ancestor; null for one that began with the tenant. */
  #origins(): Map<TimelineId, { ancestorId: TimelineId; lsn: number } | null> {
    const origins = new Map<TimelineId, { ancestorId: TimelineId; lsn: number } | null>();
    const parent = this.#paths.timelines(this.#tenant);
    for (const name of withIoErrors("list timelines in", parent, () => this.#disk.readdirSync(parent))) {
      if (!isId(name)) continue;
      const id = parseTimelineId(name);
      const directory = this.#paths.timeline(this.#tenant, id);
      const { userData, ancestorLsn } = readMetadata(this.#disk, directory);
      const { ancestorId } = decodeTimelineInfo(userData, directory);
      origins.set(id, ancestorId === null ? null : { ancestorId, lsn: ancestorLsn ?? 0 });
    }
    return origins;
  }

  /**
   * Deletes a closed timeline that has no branches, with its name. When this fails before the directory is renamed, nothing has
   * happened; afterwards the timeline is gone.
   *
   * @throws {ZenithError} `io`
   */
  remove(id: TimelineId): void {
    const directory = this.#paths.timeline(this.#tenant, id);
    try {
      this.#disk.renameSync(directory, this.#paths.deletedTimeline(this.#tenant, id));
      this.#disk.fsyncDirSync(this.#paths.timelines(this.#tenant));
      this.#finish(id);
    } catch (error) {
      throw ioError("delete timeline", directory, error);
    }
  }

  /**
   * Removes a timeline whose creation has not come to its end: nobody was told of it, so nothing is in it.
   *
   * @throws {ZenithError} `io`
   */
  discard(id: TimelineId): void {
    const directory = this.#paths.timeline(this.#tenant, id);
    withIoErrors("remove timeline", directory, () => this.#disk.removeTreeSync(directory));
  }

  /** Finishes what a crash interrupted: deletions, and the creation of timelines that nobody was told of. */
  recover(): void {
    const parent = this.#paths.timelines(this.#tenant);
    withIoErrors("clean up in", parent, () => {
      // The names that this goes by, and that clients are shown, must not change again when power goes.
      settleDirectorySync(this.#disk, parent);
      this.#disk.fsyncDirSync(this.#paths.branches(this.#tenant));
      for (const name of this.#disk.readdirSync(parent)) {
        if (name.endsWith(DELETED_SUFFIX)) {
          this.#finish(parseTimelineId(name.slice(0, -DELETED_SUFFIX.length)));
        } else if (name.endsWith(TEMPORARY_SUFFIX)) {
          this.#disk.removeTreeSync(join(parent, name));
        }
      }
    });
    for (const id of this.#unnamed()) this.discard(id);
  }

  /** Timelines that no branch names, that nothing comes from and that nothing was ever written to: their creation was cut short. */
  #unnamed(): TimelineId[] {
    const ancestors = this.ancestors();
    const needed = new Set<TimelineId | null>(ancestors.values());
    for (const { timelineId } of this.#branches.list()) needed.add(timelineId);
    return [...ancestors.keys()].filter((id) => !needed.has(id) && this.#isEmpty(id));
  }

  #isEmpty(id: TimelineId): boolean {
    const wal = this.#paths.timelineWal(this.#tenant, id);
    const { layers } = readMetadata(this.#disk, this.#paths.timeline(this.#tenant, id));
    return layers.length === 0 &&
      (this.#disk.statSync(wal) === null || this.#disk.readdirSync(wal).length === 0);
  }

  /** The name goes before the files: what is left must be found again by the directory's own name. */
  #finish(id: TimelineId): void {
    for (const { name, timelineId } of this.#branches.list()) {
      if (timelineId === id) this.#branches.remove(name);
    }
    this.#disk.removeTreeSync(this.#paths.deletedTimeline(this.#tenant, id));
  }
}

/** A timeline and all that descends from it, those before their ancestors. */
export function withDescendants(
  root: TimelineId,
  ancestors: ReadonlyMap<TimelineId, TimelineId | null>,
): TimelineId[] {
  const found = [root];
  for (let i = 0; i < found.length; i++) {
    for (const [id, ancestor] of ancestors) {
      if (ancestor === found[i]) found.push(id);
    }
  }
  return found.reverse();
}
