/** Creates, changes, lists and deletes a tenant's branches. */
import { OneAtATime } from "../../common/one_at_a_time.ts";
import { errorMessage, isDiskFailure, ZenithError } from "../../common/errors.ts";
import {
  type BranchName,
  isId,
  parseBranchName,
  parseTimelineId,
  type TenantId,
  type TimelineId,
} from "../../common/id.ts";
import type { Hold } from "../../common/held.ts";
import type { Logger } from "../../process/log.ts";
import { whenPresent } from "../../pagestore/mod.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../../common/lsn.ts";
import { type Damage, type DamagedBranch, damagedFile, unnamedTimeline, unusable } from "./branch_damage.ts";
import type { Branch, BranchFiles, StartPoint } from "./branch_files.ts";
import { type TimelineDirectories, withDescendants } from "./timeline_directories.ts";
import { lsnAt } from "./lsn_at.ts";
import type { DeletedTimelines } from "./deleted_timelines.ts";
import type { TenantTimelines } from "./timelines.ts";
import type { Timeline } from "../timeline/timeline.ts";

/** A branch in the form that `branch_list` shows. */
export interface BranchInfo {
  readonly name: BranchName;
  readonly timelineId: TimelineId;
  readonly latestValidLsn: Lsn;
  /**
   * Where the next record starts: where the last one ended, or after the next page's header if that
   * was the end of a page.
   */
  readonly nextLsn: Lsn;
  readonly ancestorId: TimelineId | null;
  readonly ancestorLsn: Lsn | null;
  /** When the branch expires, in milliseconds since 1970. Null when it never does. */
  readonly expiresMs: number | null;
  /** A protected branch must not be deleted or restored. */
  readonly isProtected: boolean;
  /** Whether branches of it have to be branches of a mask. */
  readonly requiresMask: boolean;
  /** The end of the mask that its history begins with; null when it comes from none. */
  readonly maskedFrom: Lsn | null;
  /** Whether that is the branch's own beginning. */
  readonly beginsMasked: boolean;
  /**
   * The size of all relations as PostgreSQL reports it, and the size on disk. Null when it is not
   * known, or nobody has asked.
   */
  readonly logicalBytes: number | null;
  readonly physicalBytes: number | null;
  /** Damage to a branch that can still be used. Null when none is known. */
  readonly damage: Damage | null;
}

/** What was deleted. */
export interface Deleted {
  readonly names: readonly BranchName[];
  readonly timelines: readonly TimelineId[];
}

/**
 * How long a new branch waits for its LSN to arrive: several rounds of Postgres's WAL writer, even
 * on a busy machine.
 */
const ARRIVAL_TIMEOUT_MS = 2_000;

/** What a new branch may show of what was before its start. */
export interface MaskFlags {
  /** Whether nothing before the start can be read by way of the branch. */
  readonly masked: boolean;
  /** Whether the start may be on a branch that requires a mask. */
  readonly unmasked: boolean;
}

const PLAIN: MaskFlags = { masked: false, unmasked: false };

export interface TenantBranchesParts {
  readonly tenantId: TenantId;
  readonly files: BranchFiles;
  readonly directories: TimelineDirectories;
  readonly timelines: TenantTimelines;
  readonly deleted: DeletedTimelines;
  readonly logger: Logger;
}

/** A tenant's branches. Changes run one at a time. */
export class TenantBranches {
  readonly #tenantId: TenantId;
  readonly #files: BranchFiles;
  readonly #directories: TimelineDirectories;
  readonly #timelines: TenantTimelines;
  readonly #deleted: DeletedTimelines;
  readonly #logger: Logger;
  readonly #changes = new OneAtATime();
  /**
   * Set when a deletion has failed half way. It must be finished before branches are looked at
   * again.
   */
  #halfDeleted = false;
  /** When the next branch expires. Undefined when that has to be looked up. */
  #nextExpiryMs: number | undefined;
  #expiring = false;
  /** Expired branches that could not be removed yet, and that the log has mentioned. */
  readonly #overdue = new Set<BranchName>();

  constructor(parts: TenantBranchesParts) {
    this.#tenantId = parts.tenantId;
    this.#files = parts.files;
    this.#directories = parts.directories;
    this.#timelines = parts.timelines;
    this.#deleted = parts.deleted;
    this.#logger = parts.logger;
  }

  /** Resolves when no change is under way. */
  async settled(): Promise<void> {
    await this.#changes.settled();
  }

  /** How many there are, damaged ones not counted. */
  get count(): number {
    return this.#files.list().length;
  }

  /** Returns the names of the branches of these timelines. */
  namesOf(timelines: (id: TimelineId) => boolean): BranchName[] {
    return this.#files.list().filter(({ timelineId }) => timelines(timelineId)).map(({ name }) => name);
  }

  /**
   * Lists all branches that are not damaged, by name. @throws {ZenithError} `io` when one can't be
   * read now
   */
  async list(): Promise<BranchInfo[]> {
    const { branches, damaged } = await this.survey();
    for (const { error } of damaged) {
      if (!(error instanceof ZenithError) || isDiskFailure(error)) throw error;
    }
    return branches;
  }

  /**
   * Lists all branches, and what can't be used, because a damaged branch must not hide the others.
   */
  async survey(): Promise<{ branches: BranchInfo[]; damaged: DamagedBranch[] }> {
    await this.#untilWhole();
    const files = this.#files.scan();
    const damaged = [
      ...files.damaged.map(damagedFile),
      ...this.#unnamed(files.branches).map(unnamedTimeline),
    ];
    const branches: BranchInfo[] = [];
    await Promise.all(files.branches.map(async (branch) => {
      try {
        branches.push(await this.#describeWithSizes(branch));
      } catch (error) {
        // The page server is unavailable, which is not the branch's fault.
        if (error instanceof ZenithError && error.kind === "unavailable") throw error;
        damaged.push(unusable(branch, error));
      }
    }));
    return { branches: branches.sort((a, b) => a.name < b.name ? -1 : 1), damaged };
  }

  /** Resolves when no change is under way or half done. @throws {ZenithError} `io` */
  async #untilWhole(): Promise<void> {
    await this.#changes.settled();
    if (this.#halfDeleted) await this.#changes.run(() => this.#finishDeletion());
  }

  /**
   * Describes one branch. What it costs does not depend on how many there are.
   *
   * @param name the branch's name, or the id of its timeline
   * @throws {ZenithError} `not_found`; `corrupt_data` when it is damaged
   */
  async get(name: BranchName | TimelineId): Promise<BranchInfo> {
    await this.#untilWhole();
    const branch = isId(name) ? this.#ofTimeline(parseTimelineId(name)) : this.#whole(parseBranchName(name));
    try {
      return await this.#describeWithSizes(branch);
    } catch (error) {
      if (error instanceof ZenithError && error.kind === "unavailable") throw error;
      throw damageError(unusable(branch, error));
    }
  }

  #ofTimeline(id: TimelineId): Branch {
    const branch = this.#files.ofTimeline(id);
    if (branch !== null) return branch;
    throw new ZenithError("not_found", `tenant ${this.#tenantId} has no branch of timeline ${id}`);
  }

  /** @throws {ZenithError} `corrupt_data`, saying what to do when the branch's file is damaged */
  #whole(name: BranchName): Branch {
    try {
      return this.#existing(name);
    } catch (error) {
      if (!(error instanceof ZenithError) || error.kind !== "corrupt_data") throw error;
      throw damageError(damagedFile({ file: name, name, error }));
    }
  }

  #unnamed(branches: readonly Branch[]): TimelineId[] {
    const named = new Set(branches.map(({ timelineId }) => timelineId));
    return this.#directories.ids().filter((id) => !named.has(id));
  }

  /**
   * Describes a branch without opening it if possible: listing all branches is no reason to open
   * them.
   */
  async #describeWithSizes(branch: Branch): Promise<BranchInfo> {
    const { name, timelineId, expiresMs, isProtected, requiresMask } = branch;
    const sleeping = this.#timelines.asleep(timelineId);
    if (sleeping === null) {
      using held = this.#timelines.holdIfOpen(timelineId) ?? await this.#timelines.hold(timelineId, false);
      const { logical, physical } = await whenPresent(() => held.value.sizes());
      return { ...this.#describe(branch, held.value), logicalBytes: logical, physicalBytes: physical };
    }
    const { lastRecordLsn, position, maskedFrom, ...rest } = sleeping;
    const ends = { latestValidLsn: lastRecordLsn, nextLsn: position };
    const marks = { isProtected, requiresMask, maskedFrom: maskedFrom === INVALID_LSN ? null : maskedFrom };
    return { name, timelineId, expiresMs, ...marks, ...ends, ...rest };
  }

  #describe(branch: Branch, timeline: Timeline): BranchInfo {
    const { name, timelineId, expiresMs, isProtected, requiresMask } = branch;
    return {
      name,
      timelineId,
      latestValidLsn: timeline.lastRecordLsn,
      nextLsn: timeline.position,
      ancestorId: timeline.ancestorId,
      ancestorLsn: timeline.store.ancestorLsn,
      expiresMs,
      isProtected,
      requiresMask,
      maskedFrom: timeline.maskedFrom === INVALID_LSN ? null : timeline.maskedFrom,
      beginsMasked: timeline.beginsMasked,
      logicalBytes: null,
      physicalBytes: null,
      damage: timeline.damage(),
    };
  }

  /**
   * Creates branch `name`, which leaves `start`'s timeline at its LSN. The cost does not depend on
   * the size of the database.
   *
   * @param expiresMs when it expires, in milliseconds since 1970; null when it never does
   * @param mayHave called when no other change is under way; throws when there may be no more
   * @throws {ZenithError} `already_exists`, `not_found`, `out_of_range`, `invalid_argument` for a
   *   reserved name, `conflict` when the start requires a mask
   */
  async create(
    name: BranchName,
    start: StartPoint,
    expiresMs: number | null = null,
    mayHave: () => void = () => {},
    maskFlags: MaskFlags = PLAIN,
  ): Promise<BranchInfo> {
    if (start.lsn !== null) await this.#untilArrived(start, start.lsn);
    return await this.#oneAtATime(() => {
      mayHave();
      return this.#create(name, start, expiresMs, maskFlags);
    });
  }

  /**
   * Waits for an LSN that Postgres has reported but not sent yet. Nothing waits for the WAL of a
   * transaction that is rolled back: the WAL writer gets to it some hundred milliseconds later.
   * {@link Timeline.boundary} refuses an LSN that doesn't arrive.
   */
  async #untilArrived(start: StartPoint, lsn: Lsn): Promise<void> {
    const timelineId = start.timelineId ?? this.#existing(start.branch!).timelineId;
    using held = await this.#timelines.hold(timelineId);
    try {
      await held.value.waitFor(lsn, ARRIVAL_TIMEOUT_MS);
    } catch (error) {
      if (!(error instanceof ZenithError && error.kind === "timeout")) throw error;
    }
  }

  /** @throws {ZenithError} `io` when that is still not possible */
  async #finishDeletion(): Promise<void> {
    if (!this.#halfDeleted) return;
    await this.#directories.recover();
    this.#halfDeleted = false;
  }

  #oneAtATime<T>(change: () => Promise<T>): Promise<T> {
    return this.#changes.run(async () => {
      await this.#finishDeletion();
      return await change();
    }).finally(() => {
      this.#nextExpiryMs = undefined;
    });
  }

  async #create(
    name: BranchName,
    start: StartPoint,
    expiresMs: number | null,
    maskFlags: MaskFlags,
  ): Promise<BranchInfo> {
    this.#files.assertFree(name);
    const { ancestorId, lsn, created } = await this.#leave(start, maskFlags);
    using held = created;
    const { timelineId } = held.value;
    const branch = { name, timelineId, expiresMs, isProtected: false, requiresMask: false };
    try {
      await this.#files.create(branch);
    } catch (error) {
      await this.#discard(branch);
      throw error;
    }
    this.#logger.info("branch created", {
      tenant: this.#tenantId,
      branch: name,
      timeline: timelineId,
      ancestor: ancestorId,
      lsn: formatLsn(lsn),
    });
    return this.#describe(branch, held.value);
  }

  #lsnAt(timeline: Timeline, timestamp: number): Promise<{ timeline: Timeline; lsn: Lsn }> {
    return whenPresent(() => lsnAt(this.#timelines, timeline, timestamp));
  }

  /** Creates a timeline that begins at `start`. No branch names it yet. */
  async #leave(
    start: StartPoint,
    { masked, unmasked }: MaskFlags,
  ): Promise<{ ancestorId: TimelineId; lsn: Lsn; created: Hold<Timeline> }> {
    const namedId = start.timelineId ?? this.#existing(start.branch!).timelineId;
    using named = await this.#timelines.hold(namedId);
    const { timeline: ancestor, lsn: startLsn } = start.timestamp === null
      ? { timeline: named.value, lsn: start.lsn }
      : await this.#lsnAt(named.value, start.timestamp);
    const { lsn } = await whenPresent(() => ancestor.boundary(startLsn));
    if (!unmasked) this.#assertNoMaskRequired(ancestor);
    // A branch must not be based on WAL that its parent could lose.
    await ancestor.makeDurable();
    const created = await this.#timelines.createBranch(ancestor, lsn, masked);
    return { ancestorId: ancestor.timelineId, lsn, created };
  }

  /** @throws {ZenithError} `conflict` when a branch that it shows data of requires a mask */
  #assertNoMaskRequired(timeline: Timeline): void {
    const marked = this.#files.requiringMask();
    if (marked.size === 0) return;
    for (let at = timeline;; at = this.#timelines.ancestorOf(at)) {
      const name = marked.get(at.timelineId);
      if (name !== undefined) {
        throw new ZenithError("conflict", `branch ${name} is to be branched by its mask alone`, {
          hint: `name the masked branch; "zenith branch mask" makes one`,
        });
      }
      if (at.ancestorId === null || at.beginsMasked) return;
    }
  }

  /**
   * Gives a branch's name to a new timeline that begins at `start`, as if the branch had been
   * created there. Its former timeline gets the name `keepAs`, or is deleted if that is null.
   *
   * After a crash half way, the name means either the former timeline or the new one. With `keepAs`
   * it may also be missing. Both timelines exist then, and {@link survey} reports the one without a
   * name.
   *
   * @param inUse whether something writes to a timeline
   * @param maskFlags as in {@link create}
   * @returns the branch, and the timelines that were deleted
   * @throws {ZenithError} `not_found`, `out_of_range`, `already_exists` for `keepAs`; `conflict`
   *   when it is protected or in use, when others come from what would be deleted, or when it is
   *   masked and `start` is not
   */
  async restore(
    name: BranchName,
    start: StartPoint,
    keepAs: BranchName | null,
    inUse: (timeline: TimelineId) => boolean,
    maskFlags: MaskFlags = PLAIN,
  ): Promise<{ branch: BranchInfo; deleted: readonly TimelineId[] }> {
    if (start.lsn !== null) await this.#untilArrived(start, start.lsn);
    return await this.#oneAtATime(() => this.#restore(name, start, keepAs, inUse, maskFlags));
  }

  async #restore(
    name: BranchName,
    start: StartPoint,
    keepAs: BranchName | null,
    inUse: (timeline: TimelineId) => boolean,
    maskFlags: MaskFlags,
  ): Promise<{ branch: BranchInfo; deleted: readonly TimelineId[] }> {
    const before = this.#existing(name);
    assertUnprotected(before);
    assertUnused([before], inUse);
    if (keepAs !== null) this.#files.assertFree(keepAs);
    const { ancestorId, lsn, created } = await this.#leave(start, maskFlags);
    using held = created;
    const { timelineId } = held.value;
    const after = { ...before, timelineId };
    try {
      if (held.value.maskedFrom === INVALID_LSN) await this.#assertNotMasked(before);
      const needed = withDescendants(before.timelineId, this.#directories.ancestors()).length > 1;
      if (needed && keepAs === null) throw stillNeeded(name, ancestorId === before.timelineId);
      assertUnused([before], inUse);
      if (keepAs === null) await this.#files.replace(after);
      else await this.#setAside(before, keepAs, after);
    } catch (error) {
      if (this.#files.get(name)?.timelineId !== timelineId) await this.#discardTimeline(timelineId);
      throw error;
    }
    this.#logger.info("branch restored", {
      tenant: this.#tenantId,
      branch: name,
      timeline: timelineId,
      before: before.timelineId,
      ancestor: ancestorId,
      lsn: formatLsn(lsn),
      ...(keepAs === null ? {} : { keptAs: keepAs }),
    });
    const deleted = keepAs === null
      ? (await this.#delete(before.timelineId, before.timelineId, false, inUse)).timelines
      : [];
    return { branch: this.#describe(after, held.value), deleted };
  }

  /**
   * Whoever has a masked branch's name trusts that nothing before the mask is behind it.
   *
   * @throws {ZenithError} `conflict`
   */
  async #assertNotMasked({ name, timelineId }: Branch): Promise<void> {
    using held = await this.#timelines.hold(timelineId, false);
    if (held.value.maskedFrom === INVALID_LSN) return;
    throw new ZenithError("conflict", `branch ${name} is masked, and its new start is not`, {
      hint: `"zenith branch mask ${name} <source> --sql <file>" masks it anew`,
    });
  }

  /** Renames `before` to `keepAs`, and gives its name to `after`. */
  async #setAside(before: Branch, keepAs: BranchName, after: Branch): Promise<void> {
    await this.#files.rename(before.name, keepAs);
    try {
      await this.#files.create(after);
    } catch (error) {
      if (this.#files.get(before.name) === null) await this.#files.rename(keepAs, before.name);
      throw error;
    }
    // It is kept to fall back on, so it must not expire.
    if (before.expiresMs !== null) {
      await this.#files.replace({ ...before, name: keepAs, expiresMs: null });
    }
  }

  /**
   * Sets when a branch expires.
   *
   * @throws {ZenithError} `not_found`, `conflict` when it is protected
   */
  setExpiry(name: BranchName, expiresMs: number | null): Promise<BranchInfo> {
    return this.#oneAtATime(async () => {
      const branch = this.#existing(name);
      if (expiresMs !== null) assertUnprotected(branch);
      return await this.#change({ ...branch, expiresMs });
    });
  }

  /**
   * Protects a branch from being deleted and restored, or removes that protection. A protected
   * branch does not expire.
   *
   * @throws {ZenithError} `not_found`
   */
  protect(name: BranchName, isProtected: boolean): Promise<BranchInfo> {
    return this.#oneAtATime(async () => {
      const branch = this.#existing(name);
      return await this.#change({
        ...branch,
        isProtected,
        expiresMs: isProtected ? null : branch.expiresMs,
      });
    });
  }

  /**
   * Makes that branches of a branch have to be branches of a mask, or takes that back.
   *
   * @throws {ZenithError} `not_found`
   */
  requireMask(name: BranchName, requiresMask: boolean): Promise<BranchInfo> {
    return this.#oneAtATime(async () => await this.#change({ ...this.#existing(name), requiresMask }));
  }

  async #change(branch: Branch): Promise<BranchInfo> {
    await this.#files.replace(branch);
    using held = await this.#timelines.hold(branch.timelineId, false);
    return this.#describe(branch, held.value);
  }

  /** Undoes the creation of a branch that failed. The next start removes what is left of it. */
  async #discard({ name, timelineId }: Branch): Promise<void> {
    try {
      // Remove the name first: it must not remain and belong to a timeline that is gone.
      if (this.#files.get(name) !== null) await this.#files.remove(name);
    } catch (error) {
      return this.#logNotCleaned(timelineId, error);
    }
    await this.#discardTimeline(timelineId);
  }

  async #discardTimeline(timelineId: TimelineId): Promise<void> {
    try {
      await this.#timelines.release(timelineId);
      await this.#directories.discard(timelineId);
    } catch (error) {
      this.#logNotCleaned(timelineId, error);
    }
  }

  #logNotCleaned(timelineId: TimelineId, error: unknown): void {
    this.#logger.warn(`could not clean up: ${errorMessage(error)}`, {
      tenant: this.#tenantId,
      timeline: timelineId,
      err: error,
    });
  }

  #existing(name: BranchName): Branch {
    const branch = this.#files.get(name);
    if (branch === null) {
      throw new ZenithError("not_found", `tenant ${this.#tenantId} has no branch ${name}`, {
        hint: '"zenith branch" shows those there are',
      });
    }
    return branch;
  }

  /** @throws {ZenithError} `not_found`, `already_exists`, `invalid_argument` for a reserved name */
  rename(from: BranchName, to: BranchName): Promise<BranchInfo> {
    return this.#oneAtATime(async () => {
      const branch = this.#existing(from);
      await this.#files.rename(from, to);
      this.#logger.info("branch renamed", { tenant: this.#tenantId, from, to });
      using held = await this.#timelines.hold(branch.timelineId, false);
      return this.#describe({ ...branch, name: to }, held.value);
    });
  }

  /**
   * Deletes a branch and its timeline, and with `cascade` all branches that come from it. Readers
   * of the timelines get an error. Of a branch whose file is damaged, only the name is removed: it
   * is unknown which timeline was meant. That one can be deleted by its id.
   *
   * @param name the branch's name, or the id of a timeline that no branch names
   * @param inUse whether something writes to a timeline
   * @throws {ZenithError} `not_found`; `conflict` when it is the tenant's first branch, has
   *   children, or is in use
   */
  delete(
    name: BranchName | TimelineId,
    cascade: boolean,
    inUse: (timeline: TimelineId) => boolean,
  ): Promise<Deleted> {
    return this.#oneAtATime(() => {
      if (isId(name)) return this.#delete(this.#unnamedOf(name), name, cascade, inUse);
      const branch = parseBranchName(name);
      const damaged = this.#files.scan().damaged.find(({ name }) => name === branch);
      if (damaged !== undefined) {
        // A file that can't be read now may not be damaged, and its name leads to the timeline.
        if (isDiskFailure(damaged.error)) throw damaged.error;
        return this.#removeName(branch);
      }
      return this.#delete(this.#existing(branch).timelineId, branch, cascade, inUse);
    });
  }

  async #removeName(name: BranchName): Promise<Deleted> {
    await this.#files.remove(name);
    this.#logger.info("damaged branch file removed", { tenant: this.#tenantId, branch: name });
    return { names: [name], timelines: [] };
  }

  #unnamedOf(id: string): TimelineId {
    const timelineId = parseTimelineId(id);
    const branch = this.#files.list().find((branch) => branch.timelineId === timelineId);
    if (branch !== undefined) {
      throw new ZenithError("conflict", `timeline ${timelineId} is that of branch ${branch.name}`, {
        hint: `delete it by that name: "zenith branch delete ${branch.name}"`,
      });
    }
    if (this.#directories.ids().includes(timelineId)) return timelineId;
    throw new ZenithError("not_found", `tenant ${this.#tenantId} has no timeline ${timelineId}`);
  }

  /** @throws {ZenithError} `conflict` when other branches come from it, or may come from it */
  #assertNotNeeded(
    name: string,
    root: TimelineId,
    timelines: readonly TimelineId[],
    ancestors: ReadonlyMap<TimelineId, TimelineId | null | undefined>,
  ): void {
    const isRootKnown = [...ancestors.values()].includes(null);
    const ancestor = ancestors.get(root);
    if (ancestor === null || (ancestor === undefined && !isRootKnown)) {
      throw new ZenithError(
        "conflict",
        `branch ${name} is where all others of tenant ${this.#tenantId} come from`,
        {
          hint: `"zenith tenant delete ${this.#tenantId}" removes all of it`,
        },
      );
    }
    const strangers = [...ancestors].filter(([id, ancestor]) =>
      ancestor === undefined && !timelines.includes(id)
    );
    // If no other timeline can be the tenant's first, it is one of these.
    if (strangers.length === (isRootKnown ? 0 : 1)) return;
    throw new ZenithError("conflict", `timeline ${strangers[0][0]} is damaged and may come from ${name}`, {
      hint: 'delete that first: "zenith status" says how',
    });
  }

  async #delete(
    root: TimelineId,
    name: string,
    cascade: boolean,
    inUse: (timeline: TimelineId) => boolean,
  ): Promise<Deleted> {
    const ancestors = this.#directories.ancestors();
    const timelines = withDescendants(root, ancestors);
    this.#assertNotNeeded(name, root, timelines, ancestors);
    const all = this.#files.list();
    const going = new Set(timelines);
    const branches = all.filter((branch) => going.has(branch.timelineId));
    for (const branch of branches) assertUnprotected(branch);
    const children = [
      ...branches.filter(({ timelineId }) => timelineId !== root).map((branch) => branch.name),
      ...this.#unnamed(all).filter((id) => id !== root && going.has(id)),
    ];
    if (children.length > 0 && !cascade) {
      throw new ZenithError("conflict", `other branches come from ${name}: ${children.join(", ")}`, {
        hint: `delete them first, or all together with "zenith branch delete ${name} --cascade"`,
      });
    }
    const open = await Promise.all(timelines.map((id) => this.#timelines.ifOpen(id)));
    assertUnused(branches, inUse);
    await this.#deleted.add(this.#tenantId, timelines);
    assertUnused(branches, inUse);
    for (const timeline of open) {
      timeline?.retire(new ZenithError("not_found", `timeline ${timeline.timelineId} was deleted`));
    }
    try {
      for (const id of timelines) {
        await this.#timelines.release(id);
        await this.#directories.remove(id);
      }
    } catch (error) {
      // The timelines may be half gone. The rest is opened again on demand.
      this.#halfDeleted = true;
      throw error;
    } finally {
      for (const id of timelines) await this.#timelines.release(id);
    }
    this.#logger.info("branches deleted", {
      tenant: this.#tenantId,
      branches: branches.map((branch) => branch.name),
      timelines,
    });
    return { names: branches.map((branch) => branch.name), timelines };
  }

  /**
   * Deletes expired branches. Those that others come from, or that are in use, are deleted later.
   * Does nothing while an earlier call is running.
   *
   * @returns the timelines that were deleted
   */
  async expire(nowMs: number, inUse: (timeline: TimelineId) => boolean): Promise<TimelineId[]> {
    const expired: TimelineId[] = [];
    if (this.#expiring || this.#timelines.isShut || nowMs < this.#expiry()) return expired;
    this.#expiring = true;
    try {
      await this.#expire(nowMs, inUse, expired);
    } finally {
      this.#expiring = false;
    }
    return expired;
  }

  async #expire(
    nowMs: number,
    inUse: (timeline: TimelineId) => boolean,
    expired: TimelineId[],
  ): Promise<void> {
    const branches = this.#files.list();
    const names = new Set(branches.map(({ name }) => name));
    for (const name of this.#overdue) if (!names.has(name)) this.#overdue.delete(name);
    for (const { name, expiresMs } of branches) {
      if (expiresMs === null || expiresMs > nowMs) continue;
      try {
        expired.push(...(await this.delete(name, false, inUse)).timelines);
      } catch (error) {
        if (!(error instanceof ZenithError) || error.kind !== "conflict") throw error;
        if (this.#overdue.has(name)) continue;
        this.#overdue.add(name);
        this.#logger.info(`branch ${name} has expired and stays for now: ${error.message}`, {
          tenant: this.#tenantId,
        });
      }
    }
  }

  #expiry(): number {
    this.#nextExpiryMs ??= this.#files.list()
      .reduce((first, { expiresMs }) => Math.min(first, expiresMs ?? Infinity), Infinity);
    return this.#nextExpiryMs;
  }
}

function damageError({ damage: { what, hint }, error }: DamagedBranch): ZenithError {
  return new ZenithError("corrupt_data", what, { hint, cause: error });
}

/** @throws {ZenithError} `conflict` */
function assertUnused(branches: readonly Branch[], inUse: (timeline: TimelineId) => boolean): void {
  const used = branches.filter((branch) => inUse(branch.timelineId)).map((branch) => branch.name);
  if (used.length === 0) return;
  throw new ZenithError("conflict", `a Postgres runs on ${used.join(", ")}`, {
    hint: `stop it with "zenith pg stop ${used[0]}"`,
  });
}

/** @throws {ZenithError} `conflict` */
function assertUnprotected({ name, isProtected }: Branch): void {
  if (!isProtected) return;
  throw new ZenithError("conflict", `branch ${name} is protected`, {
    hint: `"zenith branch unprotect ${name}" takes that back`,
  });
}

function stillNeeded(name: BranchName, byItself: boolean): ZenithError {
  const why = byItself ? `its new start is in its own past` : `other branches come from it`;
  return new ZenithError("conflict", `the data of branch ${name} as it is now can't be deleted: ${why}`, {
    hint: "keep them under another name: --keep-as <name>",
  });
}
