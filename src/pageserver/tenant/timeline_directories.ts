/**
 * Creates, finds and deletes the directories of a tenant's timelines. Renaming a directory is what
 * deletes a timeline; the rest is cleaning up. What a crash interrupts is finished when the tenant
 * is opened.
 */
import { join } from "node:path";
import { type Disk, settleDirectory, TEMPORARY_SUFFIX } from "../../common/disk.ts";
import { errorMessage, ioError, isDiskFailure, withIoErrors, ZenithError } from "../../common/errors.ts";
import { isIdFileName, parseTimelineId, type TenantId, type TimelineId } from "../../common/id.ts";
import type { Lsn } from "../../common/lsn.ts";
import { DELETED_SUFFIX, type PageServerPaths } from "../../common/paths.ts";
import { metadataPath, readMetadata } from "../../pagestore/mod.ts";
import type { BranchFiles } from "./branch_files.ts";
import { ancestorAtEnd, decodeTimelineInfo } from "../timeline/timeline_info.ts";

/** The point where a timeline left its ancestor. */
interface Origin {
  readonly ancestorId: TimelineId;
  readonly lsn: number;
}

/** What is known of a timeline whose metadata is damaged. */
interface LostOrigin {
  readonly problem: string;
  /** Undefined when it is not known. */
  readonly ancestorId: TimelineId | undefined;
}

/** A tenant's timelines on disk, open or not. */
export class TimelineDirectories {
  readonly #disk: Disk;
  readonly #paths: PageServerPaths;
  readonly #tenant: TenantId;
  readonly #branches: BranchFiles;
  /** The origins that could be read at the last look. */
  #knownOrigins: ReadonlyMap<TimelineId, Origin | null> = new Map();

  constructor(disk: Disk, paths: PageServerPaths, tenant: TenantId, branches: BranchFiles) {
    this.#disk = disk;
    this.#paths = paths;
    this.#tenant = tenant;
    this.#branches = branches;
  }

  /**
   * Returns each timeline's ancestor. Null for one that began with the tenant, undefined for one
   * that is too damaged to tell.
   *
   * @throws {ZenithError} `io`
   */
  ancestors(): Map<TimelineId, TimelineId | null | undefined> {
    const { origins, lost } = this.#scan();
    return new Map([
      ...[...origins].map(([id, origin]) => [id, origin?.ancestorId ?? null] as const),
      ...[...lost].map(([id, { ancestorId }]) => [id, ancestorId] as const),
    ]);
  }

  /**
   * Returns the LSNs at which branches read from a timeline, including branches of branches.
   *
   * @throws {ZenithError} `corrupt_data` when a damaged timeline may have left it too, `io`
   */
  branchPoints(timeline: TimelineId): Lsn[] {
    const { origins, lost } = this.#scan();
    for (const [id, { ancestorId, problem }] of lost) {
      if (ancestorId !== undefined && !isOrComesFrom(ancestorId, timeline, origins, lost)) continue;
      throw new ZenithError(
        "corrupt_data",
        `${problem}: where timeline ${id} left its ancestor is not known, so no history is given up there`,
        { hint: 'put the file back from a copy, or delete the branch that "zenith status" names' },
      );
    }
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

  /**
   * Returns the major of the tenant's PostgreSQL. All of its timelines share it, so any readable
   * metadata will do.
   *
   * @throws {ZenithError} `corrupt_data`, `io`
   */
  pgMajor(): number {
    let problem: unknown = new ZenithError("corrupt_data", `tenant ${this.#tenant} has no timeline`);
    for (const id of this.ids()) {
      const directory = this.#paths.timeline(this.#tenant, id);
      try {
        return decodeTimelineInfo(readMetadata(this.#disk, directory).userData, directory).pgMajor;
      } catch (error) {
        problem = error;
      }
    }
    throw problem;
  }

  /** Lists all timelines on disk, damaged or not. @throws {ZenithError} `io` */
  ids(): TimelineId[] {
    const parent = this.#paths.timelines(this.#tenant);
    return withIoErrors("list timelines in", parent, () => this.#disk.readdirSync(parent))
      .filter(isIdFileName).map(parseTimelineId);
  }

  /**
   * Returns where each timeline left its ancestor, null for one that began with the tenant. Also
   * returns the timelines for which that can't be read.
   */
  #scan(): { origins: Map<TimelineId, Origin | null>; lost: Map<TimelineId, LostOrigin> } {
    const origins = new Map<TimelineId, Origin | null>();
    const lost = new Map<TimelineId, LostOrigin>();
    const ids = this.ids();
    for (const id of ids) {
      // An origin never changes, so the metadata is read only once.
      const known = this.#knownOrigins.get(id);
      if (known !== undefined) {
        origins.set(id, known);
        continue;
      }
      const directory = this.#paths.timeline(this.#tenant, id);
      try {
        const { userData, ancestorLsn } = readMetadata(this.#disk, directory);
        const { ancestorId } = decodeTimelineInfo(userData, directory);
        origins.set(id, ancestorId === null ? null : { ancestorId, lsn: ancestorLsn ?? 0 });
      } catch (error) {
        if (!(error instanceof ZenithError) || isDiskFailure(error)) throw error;
        lost.set(id, { problem: errorMessage(error), ancestorId: this.#likelyAncestor(id, ids) });
      }
    }
    this.#knownOrigins = origins;
    return { origins, lost };
  }

  /**
   * Reads the ancestor from the end of damaged metadata. It is right if it names an existing
   * timeline, because ids are long and random.
   */
  #likelyAncestor(id: TimelineId, known: readonly TimelineId[]): TimelineId | undefined {
    const path = metadataPath(this.#paths.timeline(this.#tenant, id));
    const bytes = withIoErrors(
      "read timeline metadata",
      path,
      () => this.#disk.statSync(path) === null ? new Uint8Array() : this.#disk.readFileSync(path),
    );
    const ancestorId = ancestorAtEnd(bytes);
    return known.find((other) => other === ancestorId && other !== id);
  }

  /**
   * Deletes a closed timeline that has no branches, and its branch's name. If this fails before the
   * directory is renamed, nothing has happened. After the rename, the timeline is gone.
   *
   * @throws {ZenithError} `io`
   */
  async remove(id: TimelineId): Promise<void> {
    const directory = this.#paths.timeline(this.#tenant, id);
    try {
      this.#disk.renameSync(directory, this.#paths.deletedTimeline(this.#tenant, id));
      await this.#disk.fsyncDir(this.#paths.timelines(this.#tenant));
      await this.#finish(id);
    } catch (error) {
      throw ioError("delete timeline", directory, error);
    }
  }

  /**
   * Removes a timeline whose creation did not finish. It is empty, because nobody was told of it.
   *
   * @throws {ZenithError} `io`
   */
  async discard(id: TimelineId): Promise<void> {
    const directory = this.#paths.timeline(this.#tenant, id);
    try {
      await this.#disk.removeTree(directory);
    } catch (error) {
      throw ioError("remove timeline", directory, error);
    }
  }

  /**
   * Finishes what a crash has interrupted: deletions, and the creation of timelines that nobody was
   * told of.
   *
   * @throws {ZenithError} `io`, `corrupt_data`
   */
  async recover(): Promise<void> {
    const parent = this.#paths.timelines(this.#tenant);
    try {
      // Clients see these names and this function relies on them, so a power failure must not
      // change them any more.
      await settleDirectory(this.#disk, parent);
      await this.#disk.fsyncDir(this.#paths.branches(this.#tenant));
      for (const name of this.#disk.readdirSync(parent)) {
        const id = name.slice(0, -DELETED_SUFFIX.length);
        if (name.endsWith(DELETED_SUFFIX) && isIdFileName(id)) {
          await this.#finish(parseTimelineId(id));
        } else if (name.endsWith(TEMPORARY_SUFFIX)) {
          await this.#disk.removeTree(join(parent, name));
        }
      }
    } catch (error) {
      throw ioError("clean up in", parent, error);
    }
    for (const id of this.#unnamed()) await this.discard(id);
  }

  /**
   * Returns the timelines that no branch names, that have no children and that were never written
   * to. Their creation was interrupted.
   */
  #unnamed(): TimelineId[] {
    const { branches, damaged } = this.#branches.scan();
    // A damaged branch file may name one of them.
    if (damaged.length > 0) return [];
    const { origins } = this.#scan();
    const needed = new Set<TimelineId | null | undefined>(this.ancestors().values());
    for (const { timelineId } of branches) needed.add(timelineId);
    return [...origins.keys()].filter((id) => !needed.has(id) && this.#isEmpty(id));
  }

  #isEmpty(id: TimelineId): boolean {
    const wal = this.#paths.timelineWal(this.#tenant, id);
    const { layers } = readMetadata(this.#disk, this.#paths.timeline(this.#tenant, id));
    return layers.length === 0 &&
      (this.#disk.statSync(wal) === null || this.#disk.readdirSync(wal).length === 0);
  }

  /**
   * Finishes a deletion. Removes the branch's name before the files, because the name of the
   * deleted directory is what leads here again after a crash.
   */
  async #finish(id: TimelineId): Promise<void> {
    for (const { name, timelineId } of this.#branches.list()) {
      if (timelineId === id) await this.#branches.remove(name);
    }
    await this.#disk.removeTree(this.#paths.deletedTimeline(this.#tenant, id));
  }
}

/** Whether `id` is `ancestor` or descends from it, as far as is known. True when it is unknown. */
function isOrComesFrom(
  id: TimelineId,
  ancestor: TimelineId,
  origins: ReadonlyMap<TimelineId, Origin | null>,
  lost: ReadonlyMap<TimelineId, LostOrigin>,
): boolean {
  // Damaged metadata may form a cycle.
  const seen = new Set<TimelineId>();
  for (let at: TimelineId = id; !seen.has(at);) {
    if (at === ancestor) return true;
    seen.add(at);
    const origin = origins.get(at);
    if (origin === null) return false;
    const next = origin?.ancestorId ?? lost.get(at)?.ancestorId;
    if (next === undefined) return true;
    at = next;
  }
  return true;
}

/** Returns a timeline and all its descendants, descendants before their ancestors. */
export function withDescendants(
  root: TimelineId,
  ancestors: ReadonlyMap<TimelineId, TimelineId | null | undefined>,
): TimelineId[] {
  const children = new Map<TimelineId, TimelineId[]>();
  for (const [id, ancestor] of ancestors) {
    if (ancestor === null || ancestor === undefined) continue;
    const siblings = children.get(ancestor);
    if (siblings === undefined) children.set(ancestor, [id]);
    else siblings.push(id);
  }
  const found = [root];
  for (let i = 0; i < found.length; i++) {
    for (const child of children.get(found[i]) ?? []) found.push(child);
  }
  return found.reverse();
}
