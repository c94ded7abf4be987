/** Keeps timelines fast and small, in the background. */
import { errorMessage } from "../../common/errors.ts";
import type { TimelineId } from "../../common/id.ts";
import type { Logger } from "../../process/log.ts";
import type { Lsn } from "../../common/lsn.ts";
import type { Tenant } from "./tenant.ts";
import type { Timeline } from "../timeline/timeline.ts";

/** How long a timeline is left alone after its upkeep has failed. */
const RETRY_MS = 60_000;

/**
 * A timeline that ingests more WAL than this between two visits is busy. Merging its layers would
 * slow down what clients wait for.
 */
const BUSY_WAL_BYTES = 8 << 20;
/**
 * A timeline with this many layer files is merged even when it is busy, because each file makes
 * reads slower.
 */
const MERGE_BUSY_FROM_LAYERS = 24;

/** History of timelines that are rarely open is removed only once in this many periods. */
const SLEEPING_GC_PERIODS = 24;

export interface UpkeepOptions {
  readonly logger: Logger;
  /** How often history is removed from each open timeline. */
  readonly gcPeriodMs: number;
  /** A timeline that nobody has used for this long is closed. */
  readonly idleMs: number;
  readonly clockMs: () => number;
}

/**
 * Keeps open timelines fast and small. It merges their layers when that is due, removes history now
 * and then, and closes timelines that nobody needs. It does one thing after another, in the
 * background. Each timeline gets its turn, even if another one always has something to merge.
 */
export class Upkeep {
  readonly #logger: Logger;
  readonly #gcPeriodMs: number;
  readonly #idleMs: number;
  readonly #clockMs: () => number;
  #nextSleepingGcMs: number;
  readonly #nextGcMs = new Map<TimelineId, number>();
  readonly #retryMs = new Map<TimelineId, number>();
  /** Where each timeline ended at the last visit. */
  readonly #visitedLsn = new Map<TimelineId, Lsn>();
  #running: Promise<void> | null = null;
  #stopped = false;

  constructor({ logger, gcPeriodMs, idleMs, clockMs }: UpkeepOptions) {
    this.#logger = logger;
    this.#gcPeriodMs = gcPeriodMs;
    this.#idleMs = idleMs;
    this.#clockMs = clockMs;
    this.#nextSleepingGcMs = clockMs() + gcPeriodMs * SLEEPING_GC_PERIODS;
  }

  /**
   * Visits all timelines until there is nothing left to do. Does nothing if that is already
   * running.
   *
   * @param closes called for each timeline that is closed, at the moment from which it must be
   *   opened again
   */
  start(tenants: () => readonly Tenant[], closes: (id: TimelineId) => void): void {
    if (this.#running !== null || this.#stopped) return;
    this.#running = this.#goOver(tenants, closes).catch((error: unknown) => {
      this.#logger.warn(`upkeep failed: ${errorMessage(error)}`, { err: error });
    }).finally(() => {
      this.#running = null;
    });
  }

  /**
   * Resolves when no work is running any more. The page store aborts long work when a timeline is
   * closed.
   */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  async #goOver(tenants: () => readonly Tenant[], closes: (id: TimelineId) => void): Promise<void> {
    let merged = true;
    while (merged && !this.#stopped) {
      merged = false;
      this.#forgetClosed(tenants());
      for (const tenant of tenants()) {
        for (const timeline of tenant.timelines.opened()) {
          if (this.#stopped) return;
          using held = tenant.timelines.holdIfOpen(timeline.timelineId);
          if (held !== null && await this.#attend(tenant, held.value)) merged = true;
        }
      }
    }
    await this.#wakeSleeping(tenants(), closes);
    for (const tenant of tenants()) await this.#closeIdle(tenant, closes);
  }

  /** Opens timelines that nobody uses to remove their history, which gets older too. */
  async #wakeSleeping(tenants: readonly Tenant[], closes: (id: TimelineId) => void): Promise<void> {
    if (this.#clockMs() < this.#nextSleepingGcMs) return;
    this.#nextSleepingGcMs = this.#clockMs() + this.#gcPeriodMs * SLEEPING_GC_PERIODS;
    for (const tenant of tenants) {
      for (const id of tenant.timelinesWithLayers()) {
        if (this.#stopped) return;
        await this.#wake(tenant, id);
        await this.#closeIdle(tenant, closes);
      }
    }
  }

  async #wake(tenant: Tenant, id: TimelineId): Promise<void> {
    try {
      using held = await tenant.timelines.hold(id, false);
      if (!this.#stopped && !held.value.isGone) await tenant.collectGarbage(held.value);
    } catch (error) {
      this.#warn("could not give up history of a timeline that nobody uses", tenant, id, error);
    }
  }

  /**
   * Closes idle timelines. One that can't be written out because the disk is full stays open and is
   * tried again.
   */
  async #closeIdle(tenant: Tenant, closes: (id: TimelineId) => void): Promise<void> {
    if (this.#stopped) return;
    try {
      await tenant.timelines.closeIdle(this.#idleMs, closes);
    } catch (error) {
      this.#warn("could not close a timeline that nobody uses", tenant, undefined, error);
    }
  }

  #warn(what: string, tenant: Tenant, timeline: TimelineId | undefined, error: unknown): void {
    if (this.#stopped) return;
    const where = { tenant: tenant.id, ...(timeline === undefined ? {} : { timeline }) };
    this.#logger.warn(`${what}: ${errorMessage(error)}`, { ...where, err: error });
  }

  /** Forgets timelines that are closed. */
  #forgetClosed(tenants: readonly Tenant[]): void {
    const open = new Set<TimelineId>();
    for (const tenant of tenants) {
      for (const { timelineId } of tenant.timelines.opened()) open.add(timelineId);
    }
    for (const kept of [this.#nextGcMs, this.#retryMs, this.#visitedLsn]) {
      for (const id of kept.keys()) if (!open.has(id)) kept.delete(id);
    }
  }

  /** @returns whether layers were merged, in which case there may be more to merge */
  async #attend(tenant: Tenant, timeline: Timeline): Promise<boolean> {
    if (timeline.isGone || this.#clockMs() < (this.#retryMs.get(timeline.timelineId) ?? 0)) return false;
    try {
      const merged = await this.#merge(tenant, timeline);
      await this.#collectGarbage(tenant, timeline);
      return merged;
    } catch (error) {
      if (!this.#stopped && !timeline.isGone) {
        this.#retryMs.set(timeline.timelineId, this.#clockMs() + RETRY_MS);
        this.#logger.warn(`could not merge layers: ${errorMessage(error)}`, {
          tenant: tenant.id,
          timeline: timeline.timelineId,
          err: error,
        });
      }
      return false;
    }
  }

  async #merge(tenant: Tenant, timeline: Timeline): Promise<boolean> {
    if (this.#isBusy(timeline)) return false;
    const merged = await timeline.store.compact();
    if (merged === null) return false;
    this.#logger.info("layers merged", { tenant: tenant.id, timeline: timeline.timelineId, ...merged });
    return true;
  }

  async #collectGarbage(tenant: Tenant, timeline: Timeline): Promise<void> {
    const now = this.#clockMs();
    const due = this.#nextGcMs.get(timeline.timelineId) ?? now + this.#gcPeriodMs;
    this.#nextGcMs.set(timeline.timelineId, due > now ? due : now + this.#gcPeriodMs);
    if (due <= now && !this.#stopped && !timeline.isGone) await tenant.collectGarbage(timeline);
  }

  #isBusy(timeline: Timeline): boolean {
    const { timelineId, lastRecordLsn, store } = timeline;
    const taken = lastRecordLsn - (this.#visitedLsn.get(timelineId) ?? lastRecordLsn);
    this.#visitedLsn.set(timelineId, lastRecordLsn);
    return taken > BUSY_WAL_BYTES && store.sizes().layerCount < MERGE_BUSY_FROM_LAYERS;
  }
}
