/** The page server: its tenants and the WAL receivers of their timelines. */
import { join } from "node:path";
import { BufferPool } from "../../common/buffer_pool.ts";
import { type Disk, settleWorkdirSync } from "../../common/disk.ts";
import { errorMessage, ioError, withIoErrors, ZenithError } from "../../common/errors.ts";
import {
  type BranchName,
  isIdFileName,
  parseTenantId,
  type TenantId,
  type TimelineId,
} from "../../common/id.ts";
import type { Hold } from "../../common/held.ts";
import type { Logger } from "../../process/log.ts";
import { Scrub } from "../../process/scrub.ts";
import { OneAtATime } from "../../common/one_at_a_time.ts";
import { formatLsn } from "../../common/lsn.ts";
import type { PageServerConfig } from "../../common/page_server_config.ts";
import { DELETED_SUFFIX, type PageServerPaths, TENANT_IN_PROGRESS_SUFFIX } from "../../common/paths.ts";
import {
  BlockCache,
  type FlushLayer,
  MemoryBudget,
  type MergeLayers,
  VERSION_PIECE_BYTES,
} from "../../pagestore/mod.ts";
import type { ClusterOptions } from "../../pg_install/initdb.ts";
import { CHUNK_SIZE } from "../../postgres/wal/decoder.ts";
import { DeletedTenants } from "../tenant/deleted_tenants.ts";
import { type DeletedTimeline, DeletedTimelines } from "../tenant/deleted_timelines.ts";
import type { StartPoint } from "../tenant/branch_files.ts";
import type { BranchInfo, Deleted, MaskFlags } from "../tenant/branches.ts";
import { createTenant } from "../tenant/create.ts";
import { type ImportedCluster, TenantImport } from "../tenant/import_tenant.ts";
import { InitdbCache } from "../tenant/initdb_cache.ts";
import { PageCache } from "../content/page_cache.ts";
import type { ObjectStore } from "../../object_store/object_store.ts";
import type { RetryingStore } from "../../object_store/retrying.ts";
import { Followers } from "../tenant/followers.ts";
import type { Lsn } from "../../common/lsn.ts";
import { sleep } from "../../common/sleep.ts";
import type { AttachedCompute } from "./attached_compute.ts";
import { PlaceKeeper } from "./place_keeper.ts";
import { cutOff, RESTORE_LAYER, scrubItems } from "./scrub.ts";
import type { TenantAsOf } from "../remote/as_of.ts";
import { Transfers } from "./transfers.ts";
import type { EncryptedStore } from "../remote/encrypted_store.ts";
import { LayerBudget } from "../remote/layer_budget.ts";
import { RemoteLayers } from "../remote/remote_layers.ts";
import { RemoteStorage } from "../remote/remote_storage.ts";
import type { RestoredTenant } from "../remote/restore.ts";
import type { Places } from "../../places/places.ts";
import { Tenant } from "../tenant/tenant.ts";
import type { TenantContext } from "../tenant/context.ts";
import type { Timeline } from "../timeline/timeline.ts";
import { LayerRoom } from "../timeline/layer_room.ts";
import { Upkeep } from "../tenant/upkeep.ts";
import { namesSafekeeper, WalReceiver } from "../timeline/wal_receiver.ts";
import type { Credentials } from "../../protocol/connect.ts";
import { TenantLimits } from "../../protocol/tenant_limits.ts";
import type { ObjectStoreStatusJson, PageServerStatusJson } from "../../protocol/management.ts";
import type { ScrubFindings } from "../../protocol/scrub_status.ts";

type InitialCluster = (major: number | null, cluster: ClusterOptions) => Promise<string>;

export interface PageServerOptions {
  readonly disk: Disk;
  /** Writes layer files to `disk`. */
  readonly flushLayer: FlushLayer;
  /** Merges layer files on `disk`. */
  readonly mergeLayers: MergeLayers;
  readonly paths: PageServerPaths;
  readonly config: PageServerConfig;
  readonly logger: Logger;
  /** By which the page server proves itself to safekeepers. */
  readonly credentials?: Credentials | undefined;
  /**
   * Returns the data directory from which new tenants of a major version are made; null means the
   * newest one. By default, initdb makes it.
   */
  readonly initialCluster?: InitialCluster;
  /** Where everything is uploaded to. Named by the configuration, too. */
  readonly objectStore?: EncryptedStore<RetryingStore>;
  /** Where layers are read from that are not on `disk`; by default, the object store. */
  readonly layerStore?: ObjectStore;
  /** Which page server has which tenant. Without it, this one has what is on `disk`. */
  readonly places?: Places;
}

/** How often timelines do periodic work, e.g. write out layers that are old enough. */
const MAINTENANCE_INTERVAL_MS = 2_000;

/** A compute that has lost its connection is attached again within a second. */
const ATTACH_WAIT_MS = 5_000;
const ATTACH_POLL_MS = 50;
/**
 * How often unused buffers are released. A busy timeline fills a memory layer in less time, so its
 * next layer gets the buffers of the last one.
 */
const TRIM_INTERVAL_MS = 60_000;

/** All tenants of one working directory, and the WAL receivers of their timelines. */
export class PageServer {
  readonly config: PageServerConfig;
  /** Checks data at rest. Does nothing until it is started. */
  readonly scrub: Scrub;
  /** What each tenant may take. */
  readonly limits: TenantLimits;
  readonly #context: TenantContext;
  readonly #initialCluster: InitialCluster;
  readonly #credentials: Credentials | undefined;
  readonly #tenants = new Map<TenantId, Tenant>();
  readonly #receivers = new Map<TimelineId, WalReceiver>();
  /** Tenants that are being imported. */
  readonly #importing = new Set<TenantId>();
  /** The timelines that follow foreign primaries. */
  readonly followers: Followers;
  readonly transfers = new Transfers();
  readonly #openedAt = performance.now();
  /** The computes that are attached to each timeline. */
  readonly #attached = new Map<TimelineId, Set<AttachedCompute>>();
  /** Makes sure that tenants are created and deleted one at a time. */
  readonly #changes = new OneAtATime();
  readonly #maintenance: ReturnType<typeof setInterval>;
  readonly #trimming: ReturnType<typeof setInterval>;
  readonly #upkeep: Upkeep;
  readonly #remote: RemoteStorage | null;
  readonly #keeper: PlaceKeeper | null;
  /** Tenants that are being passed on, and what whoever wants to use them hears. */
  readonly #leaving = new Map<TenantId, ZenithError>();
  readonly #layers: RemoteLayers | null;

  private constructor(options: PageServerOptions) {
    const { disk, paths, config, logger } = options;
    this.config = config;
    const blockCache = new BlockCache(config.block_cache_bytes);
    const layerStore = options.layerStore ?? options.objectStore;
    const layers = layerStore === undefined ? null : new RemoteLayers({
      disk,
      paths,
      store: layerStore,
      nowMs: () => performance.now(),
      closeFile: (path) => blockCache.closeFile(path),
    });
    const layerRoom = new LayerRoom();
    this.#layers = layers;
    this.#context = {
      disk,
      paths,
      config,
      logger,
      blockCache,
      pageCache: new PageCache(config.page_cache_bytes),
      memoryPools: { values: new BufferPool(CHUNK_SIZE), versions: new BufferPool(VERSION_PIECE_BYTES) },
      memoryBudget: new MemoryBudget(config.memory_layer_bytes),
      flushLayer: options.flushLayer,
      mergeLayers: options.mergeLayers,
      layerFiles: layers === null ? null : (tenant, timeline) => layers.of(tenant, timeline),
      layerRoom,
      deleted: new DeletedTimelines(disk, paths.deletedTimelines),
      deletedTenants: new DeletedTenants(disk, paths.deletedTenants),
      reads: new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT)),
    };
    this.#credentials = options.credentials;
    this.limits = new TenantLimits(paths.limits, logger, {
      branches: (id) => this.tenant(id).branches.count,
      computes: (id) =>
        this.tenant(id).timelines.opened().filter(({ timelineId }) => this.#attached.has(timelineId)).length,
      bytes: (id) => this.tenant(id).physicalSize(),
    });
    this.followers = new Followers(
      this.#context,
      (id) => this.tenant(id),
      (tenant, timeline) => this.nameOf(tenant, timeline),
    );
    const initdb = new InitdbCache(disk, paths, config.pg_distrib_dir);
    this.#initialCluster = options.initialCluster ?? ((major, cluster) => initdb.get(major, cluster));
    this.scrub = new Scrub({
      items: () =>
        scrubItems({
          disk,
          paths,
          tenants: () => this.tenants(),
          ifOpen: (tenant, timeline) => this.#tenants.get(tenant)?.timelines.ifOpenNow(timeline),
        }),
      logger,
      bytesPerS: config.scrub_bytes_per_s,
      pauseMs: config.scrub_pause_s * 1000,
      hint: RESTORE_LAYER,
    });
    this.#upkeep = new Upkeep({
      logger,
      gcPeriodMs: config.gc_period_s * 1000,
      idleMs: config.idle_timeline_s * 1000,
      clockMs: () => performance.now(),
    });
    this.#remote = options.objectStore === undefined || layers === null ? null : new RemoteStorage({
      store: options.objectStore,
      layers,
      budget: new LayerBudget(
        layers,
        layerRoom,
        config.layer_disk_bytes ?? Infinity,
        () => performance.now(),
        logger,
      ),
      disk,
      paths,
      config,
      logger,
      tenants: () => this.#tenants.values(),
      deleted: () => this.#context.deleted.list,
      deletedTenants: () => this.#context.deletedTenants.list,
      onTakenOver: (tenant, why) => this.#giveUp(tenant, this.#keeper?.elsewhere(tenant) ?? why),
    });
    this.#keeper = options.places === undefined ? null : new PlaceKeeper(
      options.places,
      config.advertise ?? config.listen,
      {
        here: () => this.#tenants.keys(),
        generation: (id) => this.#leaving.has(id) ? null : this.#remote?.generation(id) ?? null,
        // Several at once: the keeper does one thing at a time with each tenant.
        take: (id) => this.#take(id, { keepsSafekeepers: true }),
        release: (id, why) => this.#releaseTenant(id, why),
      },
      logger,
    );
    this.#maintenance = setInterval(() => this.#maintain(), MAINTENANCE_INTERVAL_MS);
    this.#trimming = setInterval(() => this.#trimBuffers(), TRIM_INTERVAL_MS);
  }

  /** Opens the working directory. A timeline is opened on first use. */
  static async open(options: PageServerOptions): Promise<PageServer> {
    const { disk, paths } = options;
    // Make the present names durable: a power failure must not change them after files were
    // removed.
    withIoErrors("prepare", paths.tenants, () => {
      disk.mkdirsSync(paths.tenants);
      settleWorkdirSync(disk, paths.workdir);
      disk.fsyncDirSync(paths.tenants);
    });
    const server = new PageServer(options);
    for (const name of disk.readdirSync(paths.tenants)) await server.#openEntry(name);
    server.#remote?.start();
    server.#keeper?.start();
    server.followers.startAll(server.#tenants.keys());
    for (const tenant of server.#tenants.values()) void server.#goOnCopying(tenant);
    return server;
  }

  /** Goes on with backups that are not all copied. */
  async #goOnCopying(tenant: Tenant): Promise<void> {
    try {
      await tenant.openMounted();
    } catch (error) {
      this.#context.logger.error(`could not go on copying a backup: ${errorMessage(error)}`, {
        tenant: tenant.id,
        err: error,
      });
    }
  }

  /** Opens a tenant, or cleans up the remains of one. Anything else belongs to somebody else. */
  async #openEntry(name: string): Promise<void> {
    const { disk, paths, logger } = this.#context;
    const path = join(paths.tenants, name);
    const [id = ""] = name.split(".");
    if (!isIdFileName(id) || !disk.statSync(path)?.isDirectory) {
      logger.warn(`${path} is no tenant's: it does not belong there`);
    } else if (name === id) {
      this.#tenants.set(parseTenantId(id), await this.#openTenant(parseTenantId(id)));
    } else if (name === id + DELETED_SUFFIX || name === id + TENANT_IN_PROGRESS_SUFFIX) {
      // A crash interrupted the tenant's deletion, or its creation before anybody was told that it
      // exists.
      try {
        await disk.removeTree(path);
      } catch (error) {
        logger.warn(`could not clean up: ${errorMessage(error)}`, { tenant: id, err: error });
      }
    }
  }

  async #openTenant(id: TenantId): Promise<Tenant> {
    const tenant = new Tenant(id, this.#context);
    try {
      await tenant.recover();
    } catch (error) {
      // The remains of a deletion take up space but do no harm.
      this.#context.logger.warn(`could not clean up: ${errorMessage(error)}`, { tenant: id, err: error });
    }
    return tenant;
  }

  get disk(): Disk {
    return this.#context.disk;
  }

  tenants(): TenantId[] {
    return [...this.#tenants.keys()].sort();
  }

  /** Like {@link tenants}, with those of all page servers that share them. */
  async allTenants(): Promise<TenantId[]> {
    return [...new Set([...this.#tenants.keys(), ...await this.#keeper?.known() ?? []])].sort();
  }

  /** Lists the timelines that were deleted on purpose and whose files are gone. */
  deletedTimelines(): DeletedTimeline[] {
    const { disk, paths, deleted } = this.#context;
    return deleted.list.filter(({ tenantId, timelineId }) =>
      disk.statSync(paths.timeline(tenantId, timelineId)) === null
    );
  }

  /**
   * Creates a tenant.
   *
   * @param major the major version of its PostgreSQL; null for the newest available one
   * @param cluster how initdb makes its cluster
   * @throws {ZenithError} `already_exists`, `not_found` when there is no such PostgreSQL, or the
   *   reason why initdb failed
   */
  createTenant(id: TenantId, major: number | null = null, cluster: ClusterOptions = {}): Promise<void> {
    return this.#changes.run(async () => {
      this.#assertNew(id);
      await this.#context.deletedTenants.remove(id);
      try {
        await createTenant(id, this.#context, await this.#initialCluster(major, cluster));
      } catch (error) {
        if (error instanceof ZenithError) throw error;
        throw ioError("create tenant", this.#context.paths.tenant(id), error);
      }
      this.#tenants.set(id, new Tenant(id, this.#context));
    });
  }

  /** Whether its tenants are uploaded. */
  get hasObjectStore(): boolean {
    return this.#remote !== null;
  }

  /**
   * Begins to import a tenant. Nobody else can create it until the import has ended, by
   * {@link finishImport} or {@link abortImport}.
   *
   * @param branch the name of its branch
   * @param isMount as in {@link TenantImport.begin}
   * @throws {ZenithError} `already_exists`, `disk_full`, `io`
   */
  async beginImport(id: TenantId, branch: BranchName, isMount = false): Promise<TenantImport> {
    this.#assertNew(id);
    this.#importing.add(id);
    try {
      return await TenantImport.begin(id, branch, this.#context, isMount);
    } catch (error) {
      this.#importing.delete(id);
      throw error;
    }
  }

  /** The name of a timeline's branch; null when it has none. */
  nameOf(tenant: TenantId, timeline: TimelineId): BranchName | null {
    return this.#tenants.get(tenant)?.branches.namesOf((id) => id === timeline)[0] ?? null;
  }

  /**
   * As {@link TenantImport.finish}; the tenant can be used afterwards.
   *
   * @param prepare called with the result before anybody can use the tenant
   */
  finishImport(
    id: TenantId,
    run: TenantImport,
    signal: AbortSignal,
    prepare: (imported: ImportedCluster) => Promise<void> = () => Promise.resolve(),
  ): Promise<ImportedCluster> {
    return run.finish((imported) =>
      this.#changes.run(async () => {
        const { disk, paths } = this.#context;
        await prepare(imported);
        disk.renameSync(paths.tenantInProgress(id), paths.tenant(id));
        await disk.fsyncDir(paths.tenants);
        this.#tenants.set(id, new Tenant(id, this.#context));
        this.#importing.delete(id);
      }), signal);
  }

  /** Ends an import that has failed, and removes what is there of the tenant. */
  async abortImport(id: TenantId, run: TenantImport): Promise<void> {
    try {
      await run.abort();
    } catch (error) {
      // The next start, or the next import of the tenant, removes the rest.
      this.#context.logger.warn(`could not clean up: ${errorMessage(error)}`, { tenant: id, err: error });
    } finally {
      this.#importing.delete(id);
    }
  }

  #assertNew(id: TenantId): void {
    const elsewhere = this.#tenants.has(id) ? undefined : this.#keeper?.elsewhere(id);
    if (elsewhere !== undefined) throw elsewhere;
    if (this.#tenants.has(id)) throw new ZenithError("already_exists", `repo for ${id} already exists`);
    if (this.#importing.has(id)) {
      throw new ZenithError("already_exists", `tenant ${id} is being imported`);
    }
  }

  /**
   * Deletes a tenant with all its branches. The rename of its directory makes the deletion final.
   * If a crash interrupts what follows, the next start finishes it.
   *
   * @throws {ZenithError} `not_found`, `conflict` when a compute writes to the tenant
   */
  deleteTenant(id: TenantId): Promise<void> {
    return this.#removing(id, async () => {
      const { logger } = this.#context;
      const tenant = this.tenant(id);
      this.followers.assertNone(id);
      const retired = await tenant.retire((timeline) => this.#inUse(timeline));
      await this.#forget(retired.map(({ timelineId }) => timelineId));
      await this.#removeTenant(id, "delete tenant");
      this.limits.forget(id);
      logger.info("tenant deleted", { tenant: id });
    });
  }

  /** Removes a tenant's directory. The rename is final; the next start finishes the rest. */
  async #removeTenant(id: TenantId, doing: string): Promise<void> {
    const { disk, paths, logger } = this.#context;
    this.#tenants.delete(id);
    let renamed = false;
    try {
      disk.renameSync(paths.tenant(id), paths.deletedTenant(id));
      renamed = true;
      await disk.fsyncDir(paths.tenants);
    } catch (error) {
      if (renamed) disk.renameSync(paths.deletedTenant(id), paths.tenant(id));
      this.#tenants.set(id, new Tenant(id, this.#context));
      throw ioError(doing, paths.tenant(id), error);
    }
    try {
      this.#layers?.forget(id);
      await disk.removeTree(paths.deletedTenant(id));
    } catch (error) {
      // The tenant is gone all the same. The next start removes the rest.
      logger.warn(`could not remove all files of a tenant that is gone: ${errorMessage(error)}`, {
        tenant: id,
      });
    }
  }

  /**
   * Takes a tenant over that the object store has, as it is or as it was at a time.
   *
   * @param untilMs by the store's clock, in milliseconds since 1970
   * @throws {ZenithError} `already_exists`, `invalid_argument` without an object store; as
   *   `restoreTenant`
   */
  attachTenant(id: TenantId, untilMs?: number): Promise<RestoredTenant> {
    this.#keeper?.assertFree(id);
    return this.#changes.run(() => this.#take(id, untilMs === undefined ? {} : { untilMs }));
  }

  /**
   * As {@link RemoteStorage.asOf}.
   *
   * @throws {ZenithError} `invalid_argument` without an object store
   */
  tenantAsOf(id: TenantId, untilMs: number): Promise<TenantAsOf> {
    return this.#assertRemote().asOf(id, untilMs);
  }

  async #take(id: TenantId, options: Parameters<RemoteStorage["restore"]>[1]): Promise<RestoredTenant> {
    const remote = this.#assertRemote();
    if (this.#tenants.has(id)) {
      throw new ZenithError("already_exists", `tenant ${id} is here already`, {
        hint: `if it went on elsewhere since, "zenith tenant detach ${id}" removes what is here`,
      });
    }
    const { disk, paths, deletedTenants } = this.#context;
    const wasDeleted = deletedTenants.list.includes(id);
    await deletedTenants.remove(id);
    const restored = await remote.restore(id, options).catch(async (error: unknown) => {
      // What the store has of it is to be removed in its time all the same.
      if (wasDeleted) await deletedTenants.add(id);
      throw error;
    });
    // Going back in time brings back what was deleted since.
    await this.#context.deleted.exist(id, (timeline) => disk.statSync(paths.timeline(id, timeline)) !== null);
    this.#tenants.set(id, await this.#openTenant(id));
    this.followers.startAll([id]);
    this.#context.logger.info("tenant attached", { tenant: id, ...restored });
    return restored;
  }

  /**
   * Uploads a tenant to its end, and removes it here.
   *
   * @throws {ZenithError} `not_found`, `conflict` when a compute writes to the tenant or not all of
   *   it can be uploaded, `invalid_argument` without an object store
   */
  detachTenant(id: TenantId): Promise<void> {
    return this.#removing(id, async () => {
      const remote = this.#assertRemote();
      // One that was taken over can be detached, too.
      const tenant = this.#tenants.get(id) ?? this.tenant(id);
      await remote.finish(id);
      await this.#removeLeft(id, await tenant.leave((timeline) => this.#inUse(timeline)));
      this.#context.logger.info("tenant detached", { tenant: id });
    });
  }

  /** Removes a tenant that goes on elsewhere. */
  async #removeLeft(id: TenantId, left: readonly Timeline[]): Promise<void> {
    const { disk, paths } = this.#context;
    await this.#forget(left.map(({ timelineId }) => timelineId));
    await this.#removeTenant(id, "detach tenant");
    this.#remote?.forget(id);
    await disk.unlink(paths.attachment(id));
  }

  /** Removes a tenant that is to be nowhere else either. */
  #removing<T>(id: TenantId, work: () => Promise<T>): Promise<T> {
    const inTurn = (): Promise<T> => this.#changes.run(work);
    return this.#keeper === null ? inTurn() : this.#keeper.removing(id, inTurn);
  }

  /**
   * Passes a tenant on to another page server: uploads what is left, unless somebody has it
   * already, and ends its use here. Computes go on elsewhere.
   */
  #releaseTenant(id: TenantId, why: ZenithError): Promise<void> {
    return this.#changes.run(async () => {
      const remote = this.#assertRemote();
      const tenant = this.#tenants.get(id);
      if (tenant === undefined) return;
      this.#leaving.set(id, why);
      try {
        for (const { timelineId } of tenant.timelines.opened()) {
          await this.followers.halt(timelineId, why.message);
          // What has not come yet comes from the safekeepers where the tenant goes on.
          await this.#receivers.get(timelineId)?.stop(why.message);
        }
        if (!remote.isTakenOver(id)) {
          await remote.finish(id).catch((error: unknown) => {
            if (!remote.isTakenOver(id)) throw error;
          });
        }
        await this.#removeLeft(id, await tenant.leave(() => false, why));
      } finally {
        this.#leaving.delete(id);
      }
    });
  }

  /**
   * Where page servers share tenants, waits until what was changed in a tenant is in the object
   * store, for as long as that may take. Does nothing for one that is not here.
   */
  async untilUploaded(id: TenantId): Promise<void> {
    if (this.#keeper !== null) await this.#remote?.settle(id);
  }

  /** As {@link PlaceKeeper.placeOf}. Without places, what is here is here. */
  async placeOf(id: TenantId): Promise<string | null> {
    if (this.#keeper !== null) return await this.#keeper.placeOf(id);
    return this.#tenants.has(id) ? this.config.advertise ?? this.config.listen : null;
  }

  /** As {@link PlaceKeeper.list}. @throws {ZenithError} `invalid_argument` without places */
  places(): ReturnType<PlaceKeeper["list"]> {
    return this.#assertPlaces().list();
  }

  /** As {@link PlaceKeeper.move}. @throws {ZenithError} `invalid_argument` without places */
  async moveTenant(id: TenantId, to: string): Promise<void> {
    await this.#assertPlaces().move(id, to);
  }

  #assertPlaces(): PlaceKeeper {
    if (this.#keeper !== null) return this.#keeper;
    throw new ZenithError("invalid_argument", "this page server shares its tenants with no others", {
      hint: '"places" in pageserver.toml says where page servers keep which of them has which tenant',
    });
  }

  /**
   * Reads WAL back from the object store. @throws {ZenithError} as `readStoredWal`;
   * `invalid_argument` without an object store
   */
  storedWal(tenant: TenantId, timeline: TimelineId, from: Lsn, until: Lsn): AsyncGenerator<Uint8Array> {
    return this.#assertRemote().readWal(this.tenant(tenant).id, timeline, from, until);
  }

  /** As {@link RemoteLayers.chunk}. */
  async layerChunk(path: string, chunk: number, isSuspect: boolean): Promise<Uint8Array> {
    this.#assertRemote();
    return await this.#layers!.chunk(path, chunk, isSuspect);
  }

  #assertRemote(): RemoteStorage {
    if (this.#remote !== null) return this.#remote;
    throw new ZenithError("invalid_argument", "the page server has no object store", {
      hint: '"zenith object-store set <url>" gives it one',
    });
  }

  /**
   * @param stopping how many Postgres of each branch are about to end, and don't keep it
   * @throws {ZenithError} as {@link TenantBranches.delete}
   */
  async deleteBranch(
    tenant: TenantId,
    name: BranchName | TimelineId,
    { cascade = false, stopping = 0 }: { readonly cascade?: boolean; readonly stopping?: number } = {},
  ): Promise<Deleted> {
    const { branches } = this.tenant(tenant);
    this.followers.assertNone(tenant, name);
    const deleted = await branches.delete(name, cascade, (id) => this.#inUse(id, stopping));
    await this.#forget(deleted.timelines);
    return deleted;
  }

  /** Returns the known damage to the data here. @throws {ZenithError} `io` */
  scrubFindings(): ScrubFindings {
    const { lastPassMs, found } = this.scrub;
    const cut = cutOff({
      disk: this.#context.disk,
      paths: this.#context.paths,
      tenants: () => this.tenants(),
    });
    return { lastPassMs, found: [...found, ...cut] };
  }

  /** As {@link TenantBranches.restore}. */
  async restoreBranch(
    tenant: TenantId,
    name: BranchName,
    start: StartPoint,
    keepAs: BranchName | null,
    maskFlags?: MaskFlags,
  ): Promise<{ branch: BranchInfo; deleted: readonly TimelineId[] }> {
    const restored = await this.tenant(tenant).branches.restore(
      name,
      start,
      keepAs,
      (id) => this.#inUse(id),
      maskFlags,
    );
    await this.#forget(restored.deleted);
    return restored;
  }

  /**
   * Notes that a compute runs on the timeline. The timeline can't be deleted until the returned
   * function is called.
   */
  attach(timeline: Timeline, compute: AttachedCompute): () => void {
    timeline.assertPresent();
    const { timelineId } = timeline;
    const attached = this.#attached.get(timelineId) ?? new Set();
    this.#attached.set(timelineId, attached);
    attached.add(compute);
    return () => {
      attached.delete(compute);
      if (attached.size === 0) this.#attached.delete(timelineId);
    };
  }

  /**
   * Makes the branch's Postgres write an online checkpoint.
   *
   * @returns where its replay starts; null when no Postgres writes to the timeline
   * @throws {ZenithError} as {@link AttachedCompute.checkpoint}
   */
  async checkpoint(timeline: TimelineId, signal: AbortSignal): Promise<Lsn | null> {
    const attached = await this.#untilAttached(timeline, signal);
    const asked = await Promise.allSettled(attached.map((compute) => compute.checkpoint(signal)));
    let failure: unknown;
    for (const answer of asked) {
      if (answer.status === "rejected") failure ??= answer.reason;
      else if (answer.value !== null) return answer.value;
    }
    if (failure !== undefined) throw failure;
    return null;
  }

  /**
   * Returns the computes that are attached. They attach again by themselves when this server was
   * started, or when their connection broke.
   */
  async #untilAttached(timeline: TimelineId, signal: AbortSignal): Promise<AttachedCompute[]> {
    const deadline = performance.now() + ATTACH_WAIT_MS;
    for (;;) {
      const attached = [...this.#attached.get(timeline) ?? []];
      const mayCome = !this.followers.has(timeline) && (this.#receivers.get(timeline)?.running === true ||
        performance.now() < this.#openedAt + ATTACH_WAIT_MS);
      if (attached.length > 0 || !mayCome) return attached;
      if (performance.now() > deadline) {
        throw new ZenithError(
          "unavailable",
          `WAL of timeline ${timeline} arrives, but its Postgres does not`,
          {
            hint: "try again: it may just have ended",
          },
        );
      }
      await sleep(ATTACH_POLL_MS, signal);
      signal.throwIfAborted();
    }
  }

  /** Whether a compute is attached to the timeline. */
  isAttached(timeline: TimelineId): boolean {
    return this.#attached.has(timeline);
  }

  /** @param stopping how many of the timeline's computes don't count, because they are ending */
  #inUse(timeline: TimelineId, stopping = 0): boolean {
    if ((this.#attached.get(timeline)?.size ?? 0) > stopping || this.followers.has(timeline)) return true;
    // A receiver from a safekeeper does not count: safekeepers may have more WAL even when the
    // compute is gone.
    const receiver = this.#receivers.get(timeline);
    return stopping === 0 && receiver?.running === true && !receiver.isFromSafekeeper;
  }

  /** @throws {ZenithError} `not_found` */
  tenant(id: TenantId): Tenant {
    const tenant = this.#tenants.get(id);
    const leaving = this.#leaving.get(id);
    if (leaving !== undefined) throw leaving;
    if (tenant === undefined) {
      const elsewhere = this.#keeper?.elsewhere(id);
      if (elsewhere !== undefined) throw elsewhere;
      throw new ZenithError("not_found", `there is no tenant ${id}`, {
        hint: '"zenith tenant list" shows those there are',
      });
    }
    this.#remote?.assertOurs(id);
    return tenant;
  }

  /**
   * Pulls the timeline's WAL from `connInfo` from now on, unless the current source serves as well.
   * A switch leaves the current source first.
   *
   * @param held is disposed of when WAL is no longer pulled
   * @param isOwn whether the address is a server's of this installation, which may see our token
   * @throws {ZenithError} `invalid_argument` when `connInfo` is not a connection string,
   *   `not_found`
   */
  receiveFrom(held: Hold<Timeline>, connInfo: string, isOwn: boolean): void {
    using stack = new DisposableStack();
    stack.use(held);
    const timeline = held.value;
    timeline.assertPresent();
    if (this.#keeper !== null && !namesSafekeeper(connInfo)) {
      // What only this disk has is lost when another page server takes the tenant over.
      throw new ZenithError("invalid_argument", "page servers with places take WAL from safekeepers only", {
        hint: "give the environment safekeepers",
      });
    }
    const current = this.#receivers.get(timeline.timelineId);
    if (current?.running === true && !current.yieldsTo(connInfo)) return;
    const left = current?.stop(`the WAL of timeline ${timeline.timelineId} now comes from ${connInfo}`);
    const logger = this.#context.logger.child({ tenant: timeline.tenantId, timeline: timeline.timelineId });
    const paceMs = (bytes: number) => this.limits.walTaken(timeline.tenantId, bytes, performance.now());
    const source = { connInfo, credentials: this.#credentials, showsToken: isOwn, paceMs };
    const receiver = new WalReceiver(timeline, source, logger, left ?? Promise.resolve());
    this.#receivers.set(timeline.timelineId, receiver);
    const holds = stack.move();
    void receiver.ended.finally(() => holds.dispose());
  }

  /** Returns the state of the timeline's receiver; null when it never had one. */
  receiverState(timelineId: TimelineId): WalReceiver["state"] | null {
    return this.#receivers.get(timelineId)?.state ?? null;
  }

  /** What is uploaded. Null without an object store. */
  objectStoreStatus(): ObjectStoreStatusJson | null {
    return this.#remote?.status() ?? null;
  }

  /** Ends all use of a tenant that another page server has taken over. */
  #giveUp(id: TenantId, why: ZenithError): void {
    for (const timeline of this.#tenants.get(id)?.timelines.opened() ?? []) {
      timeline.retire(why);
      void this.#receivers.get(timeline.timelineId)?.stop(why.message);
      void this.followers.halt(timeline.timelineId, why.message);
    }
  }

  /** What the `status` command shows. */
  async status(): Promise<PageServerStatusJson> {
    const timelines: PageServerStatusJson["timelines"] = [];
    const tenantSizes: PageServerStatusJson["tenant_sizes"] = [];
    for (const tenant of this.#tenants.values()) {
      tenantSizes.push({ tenant_id: tenant.id, physical_size_bytes: tenant.physicalSize() });
      for (const timeline of tenant.timelines.opened()) {
        const sizes = sizesOf(timeline);
        const { memoryBytes, frozenBytes, layerBytes, layerCount } = timeline.store.sizes();
        timelines.push({
          tenant_id: tenant.id,
          timeline_id: timeline.timelineId,
          last_record_lsn: formatLsn(timeline.lastRecordLsn),
          disk_consistent_lsn: formatLsn(timeline.store.diskConsistentLsn),
          wal_receiver: this.#receivers.get(timeline.timelineId)?.state ?? null,
          ...timeline.backpressure.state,
          memory_bytes: memoryBytes,
          frozen_bytes: frozenBytes,
          layer_bytes: layerBytes,
          layer_count: layerCount,
          wal_bytes: timeline.wal.sizes().bytes,
          logical_size_bytes: sizes?.logical ?? null,
          physical_size_bytes: sizes?.physical ?? null,
        });
      }
    }
    return {
      pid: process.pid,
      rss_bytes: process.memoryUsage().rss,
      tenants: this.#tenants.size,
      tenant_sizes: tenantSizes,
      page_cache_bytes: this.#context.pageCache.bytes,
      memory_layer_bytes: this.#context.memoryBudget.usedBytes,
      block_cache_bytes: this.#context.blockCache.sizeBytes,
      free_wal_buffer_bytes: this.#context.memoryPools.values.freeBytes,
      timelines,
    };
  }

  #trimBuffers(): void {
    const { values, versions } = this.#context.memoryPools;
    values.trim();
    versions.trim();
  }

  #maintain(): void {
    for (const tenant of this.#tenants.values()) {
      try {
        for (const timeline of tenant.timelines.opened()) timeline.maintain();
      } catch (error) {
        this.#context.logger.warn(`could not do what is due: ${errorMessage(error)}`, {
          tenant: tenant.id,
          err: error,
        });
      }
      void this.#expire(tenant);
    }
    // A closed timeline has no running receiver, because a receiver holds its timeline open.
    this.#upkeep.start(() => [...this.#tenants.values()], (id) => this.#receivers.delete(id));
  }

  /** Expires a tenant's branches. Tenants don't wait for each other. Never rejects. */
  async #expire(tenant: Tenant): Promise<void> {
    try {
      const expired = await tenant.branches.expire(Date.now(), (timeline) => this.#inUse(timeline));
      await this.#forget(expired);
    } catch (error) {
      this.#context.logger.warn(`could not remove expired branches: ${errorMessage(error)}`, {
        tenant: tenant.id,
        err: error,
      });
    }
  }

  /** Stops receiving WAL for deleted timelines. */
  async #forget(gone: readonly TimelineId[]): Promise<void> {
    for (const timelineId of gone) {
      await this.#receivers.get(timelineId)?.stop("the timeline was deleted");
      this.#receivers.delete(timelineId);
      this.#layers?.forgetTimeline(timelineId);
    }
  }

  /** Stops all receivers and makes everything durable. */
  async close(): Promise<void> {
    clearInterval(this.#maintenance);
    clearInterval(this.#trimming);
    await this.#keeper?.stop();
    await this.scrub.stop();
    const idle = this.#upkeep.stop();
    await this.followers.close("the page server is shutting down");
    for (const receiver of this.#receivers.values()) await receiver.stop("the page server is shutting down");
    await this.#changes.settled();
    await this.#remote?.stop();
    // One timeline on a full disk must not keep the others from becoming durable.
    const closed = await Promise.allSettled([...this.#tenants.values()].map((tenant) => tenant.close()));
    await idle;
    const failed = closed.find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }
}

/** Returns null when the sizes can't be determined. Those of other timelines still can. */
function sizesOf(timeline: Timeline): { logical: number; physical: number } | null {
  try {
    return timeline.sizes();
  } catch {
    return null;
  }
}
