import type { Disk } from "../common/disk.ts";
import { ZenithError } from "../common/errors.ts";
import { isId, parseTenantId, type TenantId, type TimelineId } from "../common/id.ts";
import type { Logger } from "../common/log.ts";
import { formatLsn } from "../common/lsn.ts";
import type { PageServerConfig } from "../common/pageserver_config.ts";
import { type PageServerPaths, TENANT_IN_PROGRESS_SUFFIX } from "../common/paths.ts";
import { BlockCache } from "../pagestore/mod.ts";
import { InitdbCache } from "./initdb_cache.ts";
import { PageCache } from "./page_cache.ts";
import { Tenant, type TenantContext } from "./tenant.ts";
import type { Timeline } from "./timeline.ts";
import { WalReceiver } from "./wal_receiver.ts";

export interface PageServerOptions {
  readonly disk: Disk;
  readonly paths: PageServerPaths;
  readonly config: PageServerConfig;
  readonly logger: Logger;
}

/** How often timelines are looked at for what is due with time, e.g. layers that are old enough to be written out. */
const MAINTENANCE_INTERVAL_MS = 10_000;

/** All tenants of one working directory, and the WAL receivers of their timelines. */
export class PageServer {
  readonly config: PageServerConfig;
  readonly #context: TenantContext;
  readonly #initdb: InitdbCache;
  readonly #tenants = new Map<TenantId, Tenant>();
  readonly #receivers = new Map<TimelineId, WalReceiver>();
  /** Tenants are made one at a time. */
  #lastCreation: Promise<unknown> = Promise.resolve();
  readonly #maintenance: ReturnType<typeof setInterval>;

  private constructor(options: PageServerOptions) {
    const { disk, paths, config, logger } = options;
    this.config = config;
    this.#context = {
      disk,
      paths,
      config,
      logger,
      blockCache: new BlockCache(config.block_cache_bytes),
      pageCache: new PageCache(config.page_cache_bytes),
    };
    this.#initdb = new InitdbCache(disk, paths, config.pg_distrib_dir);
    this.#maintenance = setInterval(() => void this.#maintain(), MAINTENANCE_INTERVAL_MS);
  }

  /** Opens the working directory. Timelines are opened when they are first asked for. */
  static open(options: PageServerOptions): PageServer {
    const { disk, paths } = options;
    disk.mkdirsSync(paths.tenants);
    const server = new PageServer(options);
    for (const name of disk.readdirSync(paths.tenants)) {
      if (isId(name)) {
        const id = parseTenantId(name);
        server.#tenants.set(id, new Tenant(id, server.#context));
      } else if (name.endsWith(TENANT_IN_PROGRESS_SUFFIX)) {
        // A crash interrupted its creation; nobody was told that it exists.
        const id = parseTenantId(name.slice(0, -TENANT_IN_PROGRESS_SUFFIX.length));
        disk.removeTreeSync(paths.tenantInProgress(id));
      }
    }
    return server;
  }

  tenants(): TenantId[] {
    return [...this.#tenants.keys()].sort();
  }

  /** @throws {ZenithError} `already_exists`, or why initdb failed */
  createTenant(id: TenantId): Promise<void> {
    const creation = this.#lastCreation.then(async () => {
      if (this.#tenants.has(id)) throw new ZenithError("already_exists", `repo for ${id} already exists`);
      await Tenant.create(id, this.#context, await this.#initdb.get());
      this.#tenants.set(id, new Tenant(id, this.#context));
    });
    this.#lastCreation = creation.catch(() => {});
    return creation;
  }

  /** @throws {ZenithError} `not_found` */
  tenant(id: TenantId): Tenant {
    const tenant = this.#tenants.get(id);
    if (tenant === undefined) throw new ZenithError("not_found", `there is no tenant ${id}`);
    return tenant;
  }

  /** Pulls the timeline's WAL from `connInfo` from now on; what it pulled from before is left first. */
  receiveFrom(timeline: Timeline, connInfo: string): void {
    const current = this.#receivers.get(timeline.timelineId);
    if (current?.running === true && current.connInfo === connInfo) return;
    const left = current?.stop(`the WAL of timeline ${timeline.timelineId} now comes from ${connInfo}`);
    const logger = this.#context.logger.child({ tenant: timeline.tenantId, timeline: timeline.timelineId });
    const receiver = new WalReceiver(timeline, connInfo, logger, left ?? Promise.resolve());
    this.#receivers.set(timeline.timelineId, receiver);
  }

  /** What the `status` command shows. */
  async status(): Promise<unknown> {
    const timelines = [];
    for (const tenant of this.#tenants.values()) {
      for (const timeline of await tenant.openTimelines()) {
        timelines.push({
          tenant_id: tenant.id,
          timeline_id: timeline.timelineId,
          last_record_lsn: formatLsn(timeline.lastRecordLsn),
          disk_consistent_lsn: formatLsn(timeline.store.diskConsistentLsn),
          wal_receiver: this.#receivers.get(timeline.timelineId)?.state ?? null,
          ...timeline.store.sizes(),
          wal_bytes: timeline.wal.sizes().bytes,
        });
      }
    }
    return {
      pid: process.pid,
      rss_bytes: process.memoryUsage().rss,
      tenants: this.#tenants.size,
      page_cache_bytes: this.#context.pageCache.bytes,
      block_cache_bytes: this.#context.blockCache.sizeBytes,
      timelines,
    };
  }

  async #maintain(): Promise<void> {
    for (const tenant of this.#tenants.values()) {
      for (const timeline of await tenant.openTimelines()) timeline.maintain();
    }
  }

  /** Ends all receivers and makes everything durable. */
  async close(): Promise<void> {
    clearInterval(this.#maintenance);
    for (const receiver of this.#receivers.values()) await receiver.stop("the page server is shutting down");
    await this.#lastCreation;
    for (const tenant of this.#tenants.values()) await tenant.close();
  }
}
