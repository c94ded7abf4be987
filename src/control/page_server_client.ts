/** The command line's client for the page server's management operations. */
import type { ArchiveLocation } from "../common/archive_location.ts";
import { ZenithError } from "../common/errors.ts";
import { OneAtATime } from "../common/one_at_a_time.ts";
import type { BranchName, TenantId, TimelineId } from "../common/id.ts";
import type { HostPort } from "../common/host_port.ts";
import type { Lsn } from "../common/lsn.ts";
import type { ClusterOptions } from "../pg_install/initdb.ts";
import type { PgClient } from "../pgwire/client.ts";
import { call } from "../protocol/call.ts";
import { connectServer, type ServerAddress, serverName } from "../protocol/connect.ts";
import {
  type AttachedTenant,
  type BranchInfo,
  type BranchSettings,
  type ChangedRelation,
  type DamagedBranch,
  type DeletedTimeline,
  type Followed,
  type FoundLsn,
  type HeldBackJson,
  type HistoryPart,
  type ImportedCluster,
  type ListedPlace,
  type ObjectStoreStatus,
  PAGE_SERVER,
  type PageServerStatus,
  type PageVersions,
  type ScrubStatus,
  type TenantAsOf,
  type TenantConfig,
  type TenantLimitsJson,
  type TimelineLayers,
  type Transfer,
} from "../protocol/management.ts";
import type { LimitChanges } from "../protocol/tenant_limits.ts";
import type { Args, ArgValues, Operation, Reply, Result } from "../protocol/operation.ts";

export type {
  BranchInfo,
  ChangedRelation,
  DamagedBranch,
  Followed,
  FoundLsn,
  HistoryPart,
  ObjectStoreStatus,
  PageServerStatus,
  PageVersions,
  ScrubStatus,
  TenantAsOf,
  TenantConfig,
  TimelineLayers,
};

/** What any of several page servers can do for a tenant, which need not have it. */
const ANYWHERE: ReadonlySet<unknown> = new Set([
  PAGE_SERVER.tenantCreate,
  PAGE_SERVER.followStart,
  PAGE_SERVER.followMount,
  PAGE_SERVER.tenantAttach,
  PAGE_SERVER.tenantMove,
]);

/** What a new branch may show of what was before its start: as `branch_create` takes it. */
export interface MaskFlags {
  readonly masked?: boolean;
  readonly unmasked?: boolean;
}

/**
 * A connection to a page server. The first call opens it. Close it with `await using` or
 * {@link close}.
 */
export class PageServerClient implements AsyncDisposable {
  readonly address: ServerAddress;
  /** By tenant where several page servers share them; else there is one. */
  readonly #clients = new Map<TenantId | undefined, PgClient>();
  readonly #calls = new OneAtATime();
  #closed = false;

  constructor(address: ServerAddress) {
    this.address = address;
  }

  /**
   * @throws {ZenithError} like every method: `unavailable` when the page server can't be reached,
   *   otherwise the page server's own error
   */
  status(): Promise<PageServerStatus> {
    return this.#call(PAGE_SERVER.status, {});
  }

  tenantList(): Promise<TenantId[]> {
    return this.#call(PAGE_SERVER.tenantList, {});
  }

  /** Lists timelines that were deleted on purpose. */
  deletedList(): Promise<DeletedTimeline[]> {
    return this.#call(PAGE_SERVER.deletedList, {});
  }

  /**
   * @param major the PostgreSQL major version; defaults to the newest that the page server finds
   * @param cluster options that are fixed when the cluster is created
   */
  tenantCreate(tenant: TenantId, major?: number, cluster: ClusterOptions = {}): Promise<void> {
    return this.#call(PAGE_SERVER.tenantCreate, {
      tenant,
      pg_version: major,
      locale: cluster.locale,
      encoding: cluster.encoding,
      icu_locale: cluster.icuLocale,
      data_checksums: cluster.dataChecksums,
    });
  }

  /** The major version of a tenant's PostgreSQL. @throws {ZenithError} `not_found` */
  async tenantMajor(tenant: TenantId): Promise<number> {
    return (await this.#call(PAGE_SERVER.tenantStatus, { tenant })).pg_version;
  }

  /**
   * Makes a tenant that follows a primary. Resolves when its base backup is here.
   *
   * @param source the primary's connection string, as the page server reaches it
   * @param limitBytes the most WAL that the primary keeps for it
   */
  followStart(
    tenant: TenantId,
    name: BranchName,
    source: string,
    limitBytes: number,
  ): Promise<ImportedCluster> {
    return this.#call(PAGE_SERVER.followStart, { tenant, name, limit: limitBytes, conninfo: source });
  }

  /** @param label of the backup in the archive, which is a pgBackRest repository */
  followMount(
    tenant: TenantId,
    name: BranchName,
    archive: ArchiveLocation,
    label: string,
  ): Promise<ImportedCluster> {
    return this.#call(PAGE_SERVER.followMount, { tenant, name, archive, backup: label });
  }

  followList(): Promise<Followed[]> {
    return this.#call(PAGE_SERVER.followList, {});
  }

  transferList(): Promise<Transfer[]> {
    return this.#call(PAGE_SERVER.transferList, {});
  }

  followStop(tenant: TenantId, name: BranchName): Promise<void> {
    return this.#call(PAGE_SERVER.followStop, { tenant, name });
  }

  /** @param source undefined for the one before */
  followResume(tenant: TenantId, name: BranchName, source: string | undefined): Promise<void> {
    return this.#call(PAGE_SERVER.followResume, { tenant, name, conninfo: source });
  }

  /** @returns why the slot at the primary could not be dropped; null when there is none left */
  followRemove(tenant: TenantId, name: BranchName): Promise<string | null> {
    return this.#call(PAGE_SERVER.followRemove, { tenant, name });
  }

  tenantDelete(tenant: TenantId): Promise<void> {
    return this.#call(PAGE_SERVER.tenantDelete, { tenant });
  }

  /**
   * Takes over a tenant that the page server's object store has.
   *
   * @param at as it was then, in microseconds since 2000
   */
  tenantAttach(tenant: TenantId, at?: number): Promise<AttachedTenant> {
    return this.#call(PAGE_SERVER.tenantAttach, { tenant, at });
  }

  /** What the page server's object store had of a tenant. @param at in microseconds since 2000 */
  tenantAsOf(tenant: TenantId, at: number): Promise<TenantAsOf> {
    return this.#call(PAGE_SERVER.tenantAsOf, { tenant, at });
  }

  /** Lists the tenants of all page servers that share them. */
  placeList(): Promise<ListedPlace[]> {
    return this.#call(PAGE_SERVER.placeList, {});
  }

  /** Moves a tenant to another page server that shares tenants. Resolves when it is there. */
  tenantMove(tenant: TenantId, server: HostPort): Promise<void> {
    return this.#call(PAGE_SERVER.tenantMove, { tenant, server });
  }

  /** Uploads a tenant to its end, and removes it from the page server. */
  tenantDetach(tenant: TenantId): Promise<void> {
    return this.#call(PAGE_SERVER.tenantDetach, { tenant });
  }

  /** Changes the given settings and returns all of them. */
  tenantConfig(
    tenant: TenantId,
    changes: { gcHorizonBytes?: number; pitrIntervalMs?: number } = {},
  ): Promise<TenantConfig> {
    return this.#call(PAGE_SERVER.tenantConfig, {
      tenant,
      gc_horizon_bytes: changes.gcHorizonBytes,
      pitr_interval: changes.pitrIntervalMs,
    });
  }

  /** Changes the given limits at the page server, and returns all of them. */
  tenantLimits(tenant: TenantId, changes: LimitChanges): Promise<TenantLimitsJson> {
    return Object.keys(changes).length === 0
      ? this.#call(PAGE_SERVER.tenantLimits, { tenant })
      : this.#call(PAGE_SERVER.tenantSetLimits, { tenant, ...changes });
  }

  /** Lists the safekeepers that may have WAL of the timeline that the page server lacks. */
  async timelineSafekeepers(tenant: TenantId, timeline: TimelineId): Promise<ServerAddress[]> {
    const { safekeepers } = await this.#call(PAGE_SERVER.timelineStatus, { tenant, timeline });
    return safekeepers.map((address) => ({ ...address, credentials: this.address.credentials }));
  }

  /**
   * Tells the page server that the timeline no longer needs any safekeeper's WAL.
   *
   * @throws {ZenithError} `conflict` while a compute runs on it
   */
  releaseTimeline(tenant: TenantId, timeline: TimelineId): Promise<void> {
    return this.#call(PAGE_SERVER.timelineSafekeepers, { tenant, timeline, safekeepers: [] });
  }

  /** Lists the branches that can be used. */
  branchList(tenant: TenantId): Promise<BranchInfo[]> {
    return this.#call(PAGE_SERVER.branchList, { tenant });
  }

  /** The tenants whose WAL it takes in more slowly than it comes. */
  tenantsHeldBack(): Promise<HeldBackJson[]> {
    return this.#call(PAGE_SERVER.tenantsHeldBack, {});
  }

  /** What the scrub of data at rest has found. */
  scrubStatus(): Promise<ScrubStatus> {
    return this.#call(PAGE_SERVER.scrubStatus, {});
  }

  /** What is in the object store, and what is not. Null when there is no store. */
  objectStoreStatus(): Promise<ObjectStoreStatus | null> {
    return this.#call(PAGE_SERVER.objectStoreStatus, {});
  }

  /** Lists the branches that are too damaged to use. */
  branchDamaged(tenant: TenantId): Promise<DamagedBranch[]> {
    return this.#call(PAGE_SERVER.branchDamaged, { tenant });
  }

  /**
   * @throws {ZenithError} `not_found`, with `hint`, when there is no such branch; `corrupt_data`
   *   when it is damaged
   */
  async branch(
    tenant: TenantId,
    name: BranchName,
    hint = '"zenith branch" shows those there are',
  ): Promise<BranchInfo> {
    const branch = await this.findBranch(tenant, name);
    if (branch !== undefined) return branch;
    throw new ZenithError("not_found", `tenant ${tenant} has no branch ${name}`, { hint });
  }

  /**
   * Returns undefined when there is no such branch.
   *
   * @param name the branch's name, or the id of its timeline
   * @throws {ZenithError} `not_found` for the tenant; `corrupt_data` when the branch is damaged
   */
  async findBranch(tenant: TenantId, name: BranchName | TimelineId): Promise<BranchInfo | undefined> {
    try {
      return await this.#call(PAGE_SERVER.branchGet, { tenant, name });
    } catch (error) {
      if (!(error instanceof ZenithError) || error.kind !== "not_found") throw error;
      // Throws when it is the tenant that there isn't.
      await this.#call(PAGE_SERVER.tenantStatus, { tenant });
      return undefined;
    }
  }

  /**
   * @param start a branch, `branch@LSN`, `branch@timestamp` with a time zone, or a timeline id in
   *   place of the branch
   */
  branchCreate(
    tenant: TenantId,
    name: BranchName,
    start: string,
    lifetimeMs?: number,
    maskFlags: MaskFlags = {},
  ): Promise<BranchInfo> {
    return this.#call(PAGE_SERVER.branchCreate, { tenant, name, start, expires: lifetimeMs, ...maskFlags });
  }

  branchRename(tenant: TenantId, from: BranchName, to: BranchName): Promise<BranchInfo> {
    return this.#call(PAGE_SERVER.branchRename, { tenant, name: from, to });
  }

  /**
   * Gives a branch's name to a new timeline that begins at `start`, a point like that of
   * {@link branchCreate}.
   *
   * @param keepAs the new name of the previous timeline; undefined deletes it
   */
  branchRestore(
    tenant: TenantId,
    name: BranchName,
    start: string,
    keepAs: BranchName | undefined,
    maskFlags: MaskFlags = {},
  ): Promise<{ branch: BranchInfo; deleted: TimelineId[] }> {
    return this.#call(PAGE_SERVER.branchRestore, { tenant, name, start, keep_as: keepAs, ...maskFlags });
  }

  /** @param lifetimeMs counted from now; undefined means that the branch never expires */
  branchSetExpiry(tenant: TenantId, name: BranchName, lifetimeMs: number | undefined): Promise<BranchInfo> {
    return this.#call(PAGE_SERVER.branchSetExpiry, { tenant, name, expires: lifetimeMs });
  }

  branchProtect(tenant: TenantId, name: BranchName, on: boolean): Promise<BranchInfo> {
    return this.#call(PAGE_SERVER.branchProtect, { tenant, name, ...(on ? {} : { off: true }) });
  }

  /** Makes that a branch of this branch has to be a branch of its mask, or takes that back. */
  branchRequireMask(tenant: TenantId, name: BranchName, on: boolean): Promise<BranchInfo> {
    return this.#call(PAGE_SERVER.branchRequireMask, { tenant, name, ...(on ? {} : { off: true }) });
  }

  /**
   * @param stopping how many Postgres of each branch the caller is about to end
   * @returns the names of the branches that were deleted
   */
  branchDelete(
    tenant: TenantId,
    name: BranchName | TimelineId,
    { cascade = false, stopping }: { readonly cascade?: boolean; readonly stopping?: number } = {},
  ): Promise<string[]> {
    return this.#call(PAGE_SERVER.branchDelete, { tenant, name, cascade, stopping });
  }

  /**
   * @param timestamp microseconds since 2000
   * @returns the LSN, and the timeline or ancestor that it belongs to
   */
  lsnAt(tenant: TenantId, timeline: TimelineId, timestamp: number): Promise<FoundLsn> {
    return this.#call(PAGE_SERVER.lsnAt, { tenant, timeline, timestamp });
  }

  /** Lists the parts of a branch: its timeline and that timeline's ancestors, newest first. */
  timelineHistory(tenant: TenantId, timeline: TimelineId): Promise<HistoryPart[]> {
    return this.#call(PAGE_SERVER.timelineHistory, { tenant, timeline });
  }

  timelineLayers(tenant: TenantId, timeline: TimelineId): Promise<TimelineLayers> {
    return this.#call(PAGE_SERVER.timelineLayers, { tenant, timeline });
  }

  /** @param lsn undefined for the timeline's end */
  pageVersions(
    tenant: TenantId,
    timeline: TimelineId,
    page: { spc: number; db: number; rel: number; fork: number; block: number },
    lsn: Lsn | undefined,
  ): Promise<PageVersions> {
    return this.#call(PAGE_SERVER.pageVersions, { tenant, timeline, ...page, lsn });
  }

  /**
   * @param database its OID; undefined for all databases
   * @returns the relations that may differ between the two points
   */
  changedBlocks(
    tenant: TenantId,
    one: { readonly timeline: TimelineId; readonly lsn: Lsn },
    other: { readonly timeline: TimelineId; readonly lsn: Lsn },
    database: number | undefined,
  ): Promise<ChangedRelation[]> {
    return this.#call(PAGE_SERVER.changedBlocks, {
      tenant,
      timeline: one.timeline,
      lsn: one.lsn,
      other_timeline: other.timeline,
      other_lsn: other.lsn,
      database,
    });
  }

  /** The settings at the end of the branch. */
  timelineSettings(tenant: TenantId, timeline: TimelineId): Promise<BranchSettings> {
    return this.#call(PAGE_SERVER.timelineSettings, { tenant, timeline });
  }

  timelineSetSettings(tenant: TenantId, timeline: TimelineId, settings: string): Promise<void> {
    return this.#call(PAGE_SERVER.timelineSetSettings, { tenant, timeline, settings });
  }

  /** @returns the record boundary that `lsn` stands for, readable for that long */
  leaseLsn(tenant: TenantId, timeline: TimelineId, lsn: Lsn, durationMs: number): Promise<{ lsn: Lsn }> {
    return this.#call(PAGE_SERVER.leaseLsn, { tenant, timeline, lsn, duration: durationMs });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#clients.values()].map((client) => client.close()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #call<A extends Args, R extends Reply>(operation: Operation<A, R>, args: ArgValues<A>): Promise<Result<R>> {
    return this.#calls.run(async () =>
      await call(
        await this.#connected(operation, args),
        serverName("page server", this.address),
        operation,
        args,
      )
    );
  }

  async #connected(operation: unknown, args: { readonly tenant?: unknown }): Promise<PgClient> {
    if (this.#closed) throw new ZenithError("unavailable", "the connection to the page server was closed");
    const isShared = (this.address.others ?? []).length > 0;
    const tenant = isShared && !ANYWHERE.has(operation) ? args.tenant as TenantId | undefined : undefined;
    let client = this.#clients.get(tenant);
    if (client === undefined || client.closed) {
      const address = tenant === undefined ? this.address : { ...this.address, tenant };
      client = await connectServer("page server", address, { applicationName: "zenith" });
      this.#clients.set(tenant, client);
    }
    return client;
  }
}
