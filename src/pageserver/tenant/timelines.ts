/** Opens and closes a tenant's timelines. */
import { basename } from "node:path";
import { assert } from "../../common/assert.ts";
import { withIoErrors, ZenithError } from "../../common/errors.ts";
import { HeldOnes, type Hold } from "../../common/held.ts";
import { generateTimelineId, type TenantId, type TimelineId } from "../../common/id.ts";
import { INVALID_LSN, type Lsn } from "../../common/lsn.ts";
import { readMetadata, TimelineStore } from "../../pagestore/mod.ts";
import { pgVersion } from "../../postgres/versions/find_version.ts";
import { WalStore } from "../../wal_store/wal_store.ts";
import { forgetMount, type MountedBackup, openMount } from "../timeline/mounted_backup.ts";
import { Leases } from "../timeline/leases.ts";
import { TimelineSafekeepers } from "../timeline/safekeepers.ts";
import { TimelineSettings } from "../timeline/settings.ts";
import { TimelineSlots } from "../timeline/slots.ts";
import { UploadedLsn } from "../timeline/uploaded.ts";
import { type TenantContext, timelineOptions } from "./context.ts";
import { type SleepingTimeline, SleepingTimelines } from "./sleeping.ts";
import { Timeline } from "../timeline/timeline.ts";
import { decodeTimelineInfo, encodeTimelineInfo, type TimelineInfo } from "../timeline/timeline_info.ts";

/**
 * A tenant's timelines. A timeline is opened when it is first asked for, after those that it comes
 * from, and closed when nobody needs it any more.
 */
export class TenantTimelines {
  readonly #tenantId: TenantId;
  readonly #context: TenantContext;
  readonly #held: HeldOnes<TimelineId, Timeline>;
  /** Each open timeline's hold on its ancestor. */
  readonly #ancestors = new Map<Timeline, Hold<Timeline>>();
  /** What is known of timelines that are closed. */
  readonly #sleeping: SleepingTimelines;
  /** Aborted when no more timelines may be opened. */
  readonly #shutting = new AbortController();

  constructor(tenantId: TenantId, context: TenantContext) {
    this.#tenantId = tenantId;
    this.#context = context;
    this.#sleeping = new SleepingTimelines(context.disk, context.paths, tenantId);
    this.#held = new HeldOnes({
      open: (id) => this.#open(id),
      close: (timeline) => this.#close(timeline),
      nowMs: () => performance.now(),
    });
  }

  /**
   * Holds a timeline, and opens it if it isn't open. It stays open until the hold is disposed of.
   * Whoever uses a timeline must hold it.
   *
   * @param isUse false for upkeep: such a hold doesn't keep the timeline from being closed
   *   afterwards
   * @throws {ZenithError} `not_found`
   */
  async hold(id: TimelineId, isUse = true): Promise<Hold<Timeline>> {
    if (this.isShut) throw shuttingDown();
    return await this.#held.hold(id, isUse);
  }

  /**
   * Like {@link hold}, but returns null when the timeline is not open now. Doesn't count as a use.
   */
  holdIfOpen(id: TimelineId): Hold<Timeline> | null {
    return this.#held.holdIfOpen(id);
  }

  /**
   * The timelines that are open now. Leaves out those that still replay their WAL, which may take
   * hours.
   */
  opened(): Timeline[] {
    return this.#held.opened();
  }

  /**
   * Returns the timeline if it is open now, null while it is being opened, and undefined otherwise.
   */
  ifOpenNow(id: TimelineId): Timeline | null | undefined {
    return this.#held.peek(id);
  }

  /**
   * Returns the timeline, and waits for one that is being opened. Undefined when it isn't open or
   * can't be opened.
   */
  async ifOpen(id: TimelineId): Promise<Timeline | undefined> {
    return await this.#held.ifOpen(id);
  }

  /** Returns the ancestor of an open timeline, which stays open with it. */
  ancestorOf(timeline: Timeline): Timeline {
    const ancestor = this.#ancestors.get(timeline);
    assert(ancestor !== undefined, "an open branch holds what it comes from");
    return ancestor.value;
  }

  /**
   * Returns what is known of a closed timeline. Null when it is open, or has to be opened to tell.
   */
  asleep(id: TimelineId): SleepingTimeline | null {
    return this.#held.peek(id) === undefined ? this.#sleeping.get(id) : null;
  }

  /**
   * Creates a timeline that leaves `ancestor` at `lsn`, one of its record boundaries.
   *
   * @param ancestor held by the caller
   * @param beginsMasked whether nothing before `lsn` can be read by way of it
   * @throws {ZenithError} `out_of_range`, `disk_full`, `io`
   */
  async createBranch(ancestor: Timeline, lsn: Lsn, beginsMasked: boolean): Promise<Hold<Timeline>> {
    const id = generateTimelineId();
    const { paths } = this.#context;
    const info = {
      ancestorId: ancestor.timelineId,
      walStartLsn: lsn,
      pgMajor: ancestor.pg.major,
      beginsMasked,
      awaitsBackup: false,
    };
    const held = await this.#held.hold(ancestor.timelineId, false);
    return await this.#held.add(
      id,
      this.#startOn(held, async () => {
        const store = await TimelineStore.create(paths.timeline(this.#tenantId, id), {
          ...timelineOptions(this.#context, ancestor.pg, this.#tenantId, id),
          // A branch at the end may start after a page header that follows the last record.
          ancestor: { store: ancestor.store, lsn: Math.min(lsn, ancestor.lastRecordLsn) as Lsn },
          startLsn: lsn,
          userData: encodeTimelineInfo(info),
          // Created here it becomes durable with the rest. The WAL store would need another sync
          // for it.
          subdirectories: [basename(paths.timelineWal(this.#tenantId, id))],
        });
        return await this.#start(id, store, info, held.value);
      }),
    );
  }

  /**
   * Opens the timelines of which a backup is not all copied, which goes on then.
   *
   * @throws {ZenithError} what keeps the first of them from being opened
   */
  async openMounted(ids: readonly TimelineId[]): Promise<void> {
    const { disk, paths } = this.#context;
    for (const id of ids) {
      if (disk.statSync(paths.timelineMount(this.#tenantId, id)) === null) continue;
      using _held = await this.hold(id, false);
    }
  }

  /** Closes a timeline if it is open, even if it is held. */
  async release(id: TimelineId): Promise<void> {
    await this.#held.closeNow(id);
    this.#sleeping.forget(id);
  }

  /**
   * Closes timelines that nobody has used for `idleMs`. What is not in layers is written out first.
   *
   * @param closes called for each timeline at the moment from which it must be opened again
   */
  async closeIdle(idleMs: number, closes: (id: TimelineId) => void): Promise<void> {
    if (this.isShut) return;
    await this.#held.closeIdle(idleMs, (timeline) => this.#prepareToSleep(timeline), (id, timeline) => {
      this.#sleeping.remember(timeline);
      closes(id);
    });
  }

  async #prepareToSleep(timeline: Timeline): Promise<boolean> {
    if (this.isShut || timeline.isGone || timeline.mount?.isEnded === false) return false;
    return await timeline.putInLayers();
  }

  async #close(timeline: Timeline): Promise<void> {
    try {
      await timeline.close();
    } finally {
      this.#ancestors.get(timeline)?.[Symbol.dispose]();
      this.#ancestors.delete(timeline);
    }
  }

  /**
   * Stops opening timelines, and aborts those that are being opened. @returns the open timelines
   */
  async shut(): Promise<Timeline[]> {
    this.#shutting.abort(shuttingDown());
    await this.#held.settled();
    return this.opened();
  }

  get isShut(): boolean {
    return this.#shutting.signal.aborted;
  }

  async #open(id: TimelineId): Promise<Timeline> {
    if (this.isShut) throw shuttingDown();
    const { disk, paths } = this.#context;
    const directory = paths.timeline(this.#tenantId, id);
    if (withIoErrors("look for timeline", directory, () => disk.statSync(directory)) === null) {
      throw new ZenithError("not_found", `tenant ${this.#tenantId} has no timeline ${id}`);
    }
    const metadata = readMetadata(disk, directory);
    const info = decodeTimelineInfo(metadata.userData, directory);
    const held = info.ancestorId === null ? null : await this.hold(info.ancestorId, false);
    const timeline = await this.#startOn(held, async () => {
      const store = await TimelineStore.open(directory, {
        ...timelineOptions(this.#context, pgVersion(info.pgMajor), this.#tenantId, id),
        ...(held === null
          ? {}
          : { ancestor: { store: held.value.store, lsn: (metadata.ancestorLsn ?? INVALID_LSN) as Lsn } }),
      });
      return await this.#start(id, store, info, held?.value ?? null, this.#mountOf(id, store, info));
    });
    this.#sleeping.forget(id);
    return timeline;
  }

  /** The backup that a timeline awaits. Null when all of it is copied. */
  #mountOf(id: TimelineId, store: TimelineStore, { awaitsBackup }: TimelineInfo): () => MountedBackup | null {
    const { disk, paths, reads, logger } = this.#context;
    const path = paths.timelineMount(this.#tenantId, id);
    return () => {
      if (awaitsBackup) {
        return openMount({
          disk,
          store,
          path,
          reads,
          logger: logger.child({ tenant: this.#tenantId, timeline: id }),
        });
      }
      // The last stop came between the end of the copying and this.
      forgetMount(disk, path);
      return null;
    };
  }

  /** Starts a timeline on an ancestor, which is held for as long as the timeline is open. */
  async #startOn(ancestor: Hold<Timeline> | null, start: () => Promise<Timeline>): Promise<Timeline> {
    try {
      const timeline = await start();
      if (ancestor !== null) this.#ancestors.set(timeline, ancestor);
      return timeline;
    } catch (error) {
      ancestor?.[Symbol.dispose]();
      throw error;
    }
  }

  async #start(
    id: TimelineId,
    store: TimelineStore,
    info: TimelineInfo,
    ancestor: Timeline | null,
    openMount: () => MountedBackup | null = () => null,
  ): Promise<Timeline> {
    let mount: MountedBackup | null = null;
    try {
      mount = openMount();
      const timeline = await this.#openTimeline(id, store, info, ancestor, mount);
      mount?.start();
      return timeline;
    } catch (error) {
      await mount?.close();
      // If it stayed open, its memory would count for ever, and its ancestors would keep what it
      // reads.
      await store.close();
      throw error;
    }
  }

  async #openTimeline(
    id: TimelineId,
    store: TimelineStore,
    info: TimelineInfo,
    ancestor: Timeline | null,
    mount: MountedBackup | null,
  ): Promise<Timeline> {
    const { ancestorId, walStartLsn, pgMajor, beginsMasked } = info;
    const { config, disk, paths, pageCache, memoryPools, layerRoom, logger } = this.#context;
    const tenantId = this.#tenantId;
    const directory = paths.timeline(tenantId, id);
    const timeline = await Timeline.open({
      tenantId,
      timelineId: id,
      ancestorId,
      beginsMasked,
      ancestor,
      store,
      mount,
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
      settings: withIoErrors(
        "read settings of timeline",
        directory,
        () => new TimelineSettings(disk, paths.timelineSettings(tenantId, id)),
      ),
      slots: withIoErrors(
        "read slots of timeline",
        directory,
        () => new TimelineSlots(disk, paths.timelineSlots(tenantId, id), config.slot_wal_max_bytes),
      ),
      uploaded: new UploadedLsn(config.object_store !== undefined, config.wal_retention_s !== undefined),
      room: layerRoom,
      disk,
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
