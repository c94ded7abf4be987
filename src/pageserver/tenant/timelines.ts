import { basename } from "node:path";
import { withIoErrors, ZenithError } from "../../common/errors.ts";
import { generateTimelineId, type TenantId, type TimelineId } from "../../common/id.ts";
import { INVALID_LSN, type Lsn } from "../../common/lsn.ts";
import { readMetadata, TimelineStore } from "../../pagestore/mod.ts";
import { pgVersion } from "../../postgres/versions/find_version.ts";
import { WalStore } from "../../wal_store/wal_store.ts";
import { Leases } from "../timeline/leases.ts";
import { TimelineSafekeepers } from "../timeline/safekeepers.ts";
import { storeOptions, type TenantContext } from "./context.ts";
import { Timeline } from "../timeline/timeline.ts";
import { decodeTimelineInfo, encodeTimelineInfo, type TimelineInfo } from "../timeline/timeline_info.ts";

/** A tenant's timelines that are open: each is opened when it is first asked for, after those it comes from. */
export class TenantTimelines {
  readonly #tenantId: TenantId;
  readonly #context: TenantContext;
  readonly #timelines = new Map<TimelineId, Promise<Timeline>>();
  /** Those of them that have been opened. */
  readonly #opened = new Map<TimelineId, Timeline>();
  /** Aborted when no timeline is to be opened any more. */
  readonly #shutting = new AbortController();

  constructor(tenantId: TenantId, context: TenantContext) {
    this.#tenantId = tenantId;
    this.#context = context;
  }

  /** The timeline, opened if it isn't. @throws {ZenithError} `not_found` */
  get(id: TimelineId): Promise<Timeline> {
    if (this.isShut) return Promise.reject(shuttingDown());
    return this.#timelines.get(id) ?? this.#add(id, this.#open(id));
  }

  #add(id: TimelineId, opening: Promise<Timeline>): Promise<Timeline> {
    this.#timelines.set(id, opening);
    opening.then(
      (timeline) => {
        if (this.#timelines.get(id) === opening) this.#opened.set(id, timeline);
      },
      // A timeline that could not be opened may be mended and asked for again.
      () => {
        if (this.#timelines.get(id) === opening) this.#timelines.delete(id);
      },
    );
    return opening;
  }

  /** Those that are open now, without those that still replay their WAL, which may take hours. */
  opened(): Timeline[] {
    return [...this.#opened.values()];
  }

  /** The timeline if it is open now, null while it is being opened. */
  ifOpenNow(id: TimelineId): Timeline | null | undefined {
    return this.#opened.get(id) ?? (this.#timelines.has(id) ? null : undefined);
  }

  /** The timeline if it is open, or when it is; undefined when it is not, or can't be opened. */
  async ifOpen(id: TimelineId): Promise<Timeline | undefined> {
    return await this.#timelines.get(id)?.catch(() => undefined);
  }

  /**
   * Makes a timeline that leaves `ancestor` at `lsn`, a record boundary of it.
   *
   * @throws {ZenithError} `out_of_range`, `disk_full`, `io`
   */
  async createBranch(ancestor: Timeline, lsn: Lsn): Promise<Timeline> {
    const id = generateTimelineId();
    const { paths } = this.#context;
    const info = { ancestorId: ancestor.timelineId, walStartLsn: lsn, pgMajor: ancestor.pg.major };
    const store = await TimelineStore.create(paths.timeline(this.#tenantId, id), {
      ...storeOptions(this.#context, ancestor.pg),
      // A branch at the end may start behind a page header that comes after the last record.
      ancestor: { store: ancestor.store, lsn: Math.min(lsn, ancestor.lastRecordLsn) as Lsn },
      startLsn: lsn,
      userData: encodeTimelineInfo(info),
      // Durable with the rest, where the WAL store would sync once more for it.
      subdirectories: [basename(paths.timelineWal(this.#tenantId, id))],
    });
    return await this.#add(id, this.#start(id, store, info));
  }

  /** Closes a timeline if it is open. */
  async release(id: TimelineId): Promise<void> {
    const timeline = this.#timelines.get(id);
    if (timeline === undefined) return;
    try {
      await (await timeline).close();
    } finally {
      this.#timelines.delete(id);
      this.#opened.delete(id);
    }
  }

  /** Opens none from now on, and breaks off openings under way. @returns those that are open */
  async shut(): Promise<Timeline[]> {
    this.#shutting.abort(shuttingDown());
    await Promise.allSettled(this.#timelines.values());
    return this.opened();
  }

  get isShut(): boolean {
    return this.#shutting.signal.aborted;
  }

  async #open(id: TimelineId): Promise<Timeline> {
    const { disk, paths } = this.#context;
    const directory = paths.timeline(this.#tenantId, id);
    if (withIoErrors("look for timeline", directory, () => disk.statSync(directory)) === null) {
      throw new ZenithError("not_found", `tenant ${this.#tenantId} has no timeline ${id}`);
    }
    const metadata = readMetadata(disk, directory);
    const info = decodeTimelineInfo(metadata.userData, directory);
    const ancestor = info.ancestorId === null ? null : await this.get(info.ancestorId);
    const store = await TimelineStore.open(directory, {
      ...storeOptions(this.#context, pgVersion(info.pgMajor)),
      ...(ancestor === null
        ? {}
        : { ancestor: { store: ancestor.store, lsn: (metadata.ancestorLsn ?? INVALID_LSN) as Lsn } }),
    });
    return await this.#start(id, store, info);
  }

  async #start(id: TimelineId, store: TimelineStore, info: TimelineInfo): Promise<Timeline> {
    try {
      return await this.#openTimeline(id, store, info);
    } catch (error) {
      // Otherwise its memory would count forever, and its ancestors would keep what it reads.
      await store.close();
      throw error;
    }
  }

  async #openTimeline(id: TimelineId, store: TimelineStore, info: TimelineInfo): Promise<Timeline> {
    const { ancestorId, walStartLsn, pgMajor } = info;
    const { disk, paths, pageCache, memoryPools, logger } = this.#context;
    const tenantId = this.#tenantId;
    const directory = paths.timeline(tenantId, id);
    const timeline = await Timeline.open({
      tenantId,
      timelineId: id,
      ancestorId,
      store,
      leases: withIoErrors(
        "read leases of timeline",
        directory,
        () => new Leases(disk, paths.leases(tenantId, id)),
      ),
      safekeepers: withIoErrors(
        "read safekeepers of timeline",
        directory,
        () => new TimelineSafekeepers(disk, paths.timelineSafekeepers(tenantId, id)),
      ),
      openWal: (segmentSize) =>
        WalStore.open(paths.timelineWal(tenantId, id), { disk, segmentSize, startLsn: walStartLsn }),
      pageCache,
      walBuffers: memoryPools.values,
      logger: logger.child({ tenant: tenantId, timeline: id }),
    }, this.#shutting.signal);
    if (timeline.pg.major === pgMajor) return timeline;
    await timeline.close();
    throw new ZenithError(
      "corrupt_data",
      `${directory}: the metadata is of PostgreSQL ${pgMajor}, the control file of ${timeline.pg.major}`,
    );
  }
}

function shuttingDown(): ZenithError {
  return new ZenithError("unavailable", "the page server is shutting down");
}
