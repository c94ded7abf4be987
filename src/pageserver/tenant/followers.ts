/** The timelines that follow foreign primaries. */
import type { BranchName, TenantId, TimelineId } from "../../common/id.ts";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { parseConnInfo } from "../../pgwire/conninfo.ts";
import { createPhysicalSlot } from "../../pgwire/replication.ts";
import { connectPrimary } from "../timeline/connect_primary.ts";
import { ArchiveFollower } from "../timeline/archive_follower.ts";
import { describeSource, followFile, type FollowState } from "../timeline/follow_state.ts";
import type { MountedBackup } from "../timeline/mounted_backup.ts";
import { Follower, type FollowerStatus, type RunningFollower } from "../timeline/follower.ts";
import { BranchFiles } from "./branch_files.ts";
import type { TenantContext } from "./context.ts";
import type { Tenant } from "./tenant.ts";

/** A timeline that follows, as `follow list` shows it. */
export interface Followed {
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
  /** Null when no branch names the timeline. */
  readonly branch: BranchName | null;
  readonly state: FollowState;
  /** Null while the timeline is being opened, or when it can't be. */
  readonly status: FollowerStatus | null;
  /** The backup that it began with. Null when it is copied, or while the timeline is not open. */
  readonly mount: MountedBackup | null;
  /** Why it could not be opened. */
  readonly problem: string | null;
}

interface Entry {
  readonly tenantId: TenantId;
  state: FollowState;
  follower: RunningFollower | null;
  problem: string | null;
  /** Settles when the timeline is closed again. */
  ended: Promise<void>;
  /** Aborts an opening. */
  isClosing: boolean;
}

export class Followers {
  readonly #context: TenantContext;
  readonly #tenant: (id: TenantId) => Tenant;
  readonly #branchOf: (tenant: TenantId, timeline: TimelineId) => BranchName | null;
  readonly #entries = new Map<TimelineId, Entry>();

  /**
   * @param tenant throws when the tenant can't be used
   * @param branchOf returns null when no branch names the timeline
   */
  constructor(
    context: TenantContext,
    tenant: (id: TenantId) => Tenant,
    branchOf: (tenant: TenantId, timeline: TimelineId) => BranchName | null,
  ) {
    this.#context = context;
    this.#tenant = tenant;
    this.#branchOf = branchOf;
  }

  /** Goes on with everything that followed before the last stop. Does not wait for it. */
  startAll(tenants: Iterable<TenantId>): void {
    const { disk, paths, logger } = this.#context;
    for (const tenantId of tenants) {
      try {
        for (const { timelineId } of new BranchFiles(disk, paths, tenantId).list()) {
          const state = followFile(disk, paths.timelineFollow(tenantId, timelineId)).read();
          if (state !== null) this.#start(tenantId, timelineId, state);
        }
      } catch (error) {
        logger.error(`could not go on following: ${errorMessage(error)}`, { tenant: tenantId, err: error });
      }
    }
  }

  /** Begins to follow, as the file in the timeline's directory says. */
  begin(tenantId: TenantId, timelineId: TimelineId): void {
    const { disk, paths } = this.#context;
    const state = followFile(disk, paths.timelineFollow(tenantId, timelineId)).read();
    if (state !== null) this.#start(tenantId, timelineId, state);
  }

  #start(tenantId: TenantId, timelineId: TimelineId, state: FollowState): void {
    const entry: Entry = {
      tenantId,
      state,
      follower: null,
      problem: null,
      ended: Promise.resolve(),
      isClosing: false,
    };
    this.#entries.set(timelineId, entry);
    if (!state.isStopped) entry.ended = this.#run(entry, timelineId);
  }

  async #run(entry: Entry, timelineId: TimelineId): Promise<void> {
    const { disk, paths, logger } = this.#context;
    const { tenantId } = entry;
    try {
      using held = await this.#tenant(tenantId).timelines.hold(timelineId);
      if (entry.isClosing) return;
      const file = followFile(disk, paths.timelineFollow(tenantId, timelineId));
      const child = logger.child({ tenant: tenantId, timeline: timelineId });
      const { source } = entry.state;
      entry.follower = source.kind === "primary"
        ? new Follower(held.value, source.connInfo, file, entry.state, child)
        : new ArchiveFollower(held.value, source.location, file, entry.state, child);
      await entry.follower.ended;
    } catch (error) {
      entry.problem = errorMessage(error);
      logger.error(`could not follow: ${entry.problem}`, {
        tenant: tenantId,
        timeline: timelineId,
        err: error,
      });
    }
  }

  /** Whether the timeline follows a primary, be it stopped or not. */
  has(timeline: TimelineId): boolean {
    return this.#entries.has(timeline);
  }

  list(): Followed[] {
    return [...this.#entries].map(([timelineId, { tenantId, state, follower, problem }]) => ({
      tenantId,
      timelineId,
      branch: this.#branchOf(tenantId, timelineId),
      state: follower?.state ?? state,
      status: follower?.status ?? null,
      mount: follower?.timeline.mount ?? null,
      problem,
    }));
  }

  /**
   * @param branch undefined for any branch of the tenant
   * @throws {ZenithError} `conflict` when it follows a primary
   */
  assertNone(tenant: TenantId, branch?: BranchName | TimelineId): void {
    for (const { tenantId, branch: name, timelineId } of this.list()) {
      if (tenantId !== tenant || branch !== undefined && branch !== name && branch !== timelineId) continue;
      throw new ZenithError(
        "conflict",
        `branch ${name ?? timelineId} of tenant ${tenant} follows a primary`,
        {
          hint: `end that first with "zenith follow remove ${name ?? timelineId} --tenantid ${tenant}"`,
        },
      );
    }
  }

  /** @throws {ZenithError} `conflict` when the timeline gets its WAL from a primary */
  assertWritable(timeline: TimelineId): void {
    const entry = this.#entries.get(timeline);
    if (entry === undefined) return;
    const name = this.#branchOf(entry.tenantId, timeline) ?? timeline;
    throw new ZenithError(
      "conflict",
      `branch ${name} follows ${this.#source(entry)}: nobody else writes to it`,
      {
        hint: `make a branch of it: "zenith branch test ${name} --start"`,
      },
    );
  }

  #source({ state }: Entry): string {
    return describeSource(state.source);
  }

  /** Stops to follow, until {@link resume}. @throws {ZenithError} `not_found`, `disk_full`, `io` */
  async stop(tenant: TenantId, branch: BranchName): Promise<void> {
    const [timelineId, entry] = this.#find(tenant, branch);
    await this.#halt(entry, "following was stopped");
    await this.#write(timelineId, entry, { isStopped: true });
  }

  /**
   * Goes on, perhaps with another server of the same system.
   *
   * @param source its connection string; undefined for the one before
   * @throws {ZenithError} `not_found`, `invalid_argument`, `disk_full`, `io`
   */
  async resume(tenant: TenantId, branch: BranchName, source: string | undefined): Promise<void> {
    const [timelineId, entry] = this.#find(tenant, branch);
    if (source !== undefined) {
      parseConnInfo(source);
      if (entry.state.source.kind === "archive") {
        throw new ZenithError("conflict", `branch ${branch} follows ${this.#source(entry)}, not a primary`);
      }
    }
    await this.#halt(entry, "following is resumed");
    // Another server has no slot of this name.
    if (source !== undefined && entry.state.slot !== null) await this.#makeSlot(source, entry.state.slot);
    await this.#write(timelineId, entry, {
      isStopped: false,
      ...(source === undefined ? {} : { source: { kind: "primary", connInfo: source } }),
    });
    this.#start(tenant, timelineId, entry.state);
  }

  /**
   * Ends it for good; the branch stays as it is. The slot is dropped if the primary can be reached.
   *
   * @returns why the slot could not be dropped; null when there is none left
   * @throws {ZenithError} `not_found`, `io`
   */
  async remove(tenant: TenantId, branch: BranchName): Promise<string | null> {
    const [timelineId, entry] = this.#find(tenant, branch);
    await this.#halt(entry, "following was ended");
    const { disk, paths } = this.#context;
    disk.unlinkSync(paths.timelineFollow(tenant, timelineId));
    await disk.fsyncDir(paths.timeline(tenant, timelineId));
    this.#entries.delete(timelineId);
    return await this.dropSlot(entry.state);
  }

  /** @returns why it could not be dropped; null when there is none left */
  async dropSlot({ source, slot }: Pick<FollowState, "source" | "slot">): Promise<string | null> {
    if (slot === null || source.kind === "archive") return null;
    try {
      const client = await connectPrimary(source.connInfo, null, new AbortController().signal);
      try {
        // WAIT: the walsender of the last connection may not have noticed yet that it is closed.
        await client.query(`DROP_REPLICATION_SLOT ${slot} WAIT`);
      } finally {
        client.destroy();
      }
      return null;
    } catch (error) {
      return `slot ${slot} of ${describeSource(source)} was not dropped: ${errorMessage(error)}`;
    }
  }

  async #makeSlot(source: string, slot: string): Promise<void> {
    const client = await connectPrimary(source, null, new AbortController().signal);
    try {
      await createPhysicalSlot(client, slot);
    } finally {
      client.destroy();
    }
  }

  /** Ends what runs of one: the timeline is another page server's now. */
  async halt(timeline: TimelineId, reason: string): Promise<void> {
    const entry = this.#entries.get(timeline);
    if (entry !== undefined) await this.#halt(entry, reason);
  }

  /** Stops all, for the time being. */
  async close(reason: string): Promise<void> {
    await Promise.all([...this.#entries.values()].map((entry) => this.#halt(entry, reason)));
  }

  async #halt(entry: Entry, reason: string): Promise<void> {
    entry.isClosing = true;
    await entry.follower?.close(reason);
    await entry.ended;
    if (entry.follower !== null) entry.state = entry.follower.state;
    entry.follower = null;
    entry.problem = null;
  }

  async #write(timelineId: TimelineId, entry: Entry, changes: Partial<FollowState>): Promise<void> {
    const { disk, paths } = this.#context;
    entry.state = { ...entry.state, ...changes };
    await followFile(disk, paths.timelineFollow(entry.tenantId, timelineId)).write(entry.state);
  }

  #find(tenant: TenantId, branch: BranchName): [TimelineId, Entry] {
    for (const { tenantId, branch: name, timelineId } of this.list()) {
      if (tenantId === tenant && name === branch) return [timelineId, this.#entries.get(timelineId)!];
    }
    throw new ZenithError("not_found", `branch ${branch} of tenant ${tenant} follows nothing`, {
      hint: '"zenith follow list" shows what does',
    });
  }
}
