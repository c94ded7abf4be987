import { errorMessage } from "../../common/errors.ts";
import type { TimelineId } from "../../common/id.ts";
import type { Logger } from "../../process/log.ts";
import type { Lsn } from "../../common/lsn.ts";
import type { Tenant } from "./tenant.ts";
import type { Timeline } from "../timeline/timeline.ts";

/** A timeline whose upkeep failed is left alone for this long. */
const RETRY_MS = 60_000;

/** A timeline that takes in more WAL than this between two visits is busy: merging would slow down what clients wait for. */
const BUSY_WAL_BYTES = 8 << 20;
/** With so many layer files it is merged all the same: reads get slower with each. */
const MERGE_BUSY_FROM_LAYERS = 24;

/**
 * Keeps open timelines quick and small: merges their layers when that is due, gives up history now and then. One thing after the
 * other, in the background; each timeline has its turn, even if another one always has something to merge.
 */
export class Upkeep {
  readonly #logger: Logger;
  readonly #gcPeriodMs: number;
  readonly #clockMs: () => number;
  readonly #nextGcMs = new Map<TimelineId, number>();
  readonly #retryMs = new Map<TimelineId, number>();
  /** Where each timeline ended at the last visit. */
  readonly #visitedLsn = new Map<TimelineId, Lsn>();
  #running: Promise<void> | null = null;
  #stopped = false;

  constructor(logger: Logger, gcPeriodMs: number, clockMs: () => number) {
    this.#logger = logger;
    this.#gcPeriodMs = gcPeriodMs;
    this.#clockMs = clockMs;
  }

  /** Goes over all open timelines until there is nothing to do, unless it is at it. */
  start(tenants: () => readonly Tenant[]): void {
    if (this.#running !== null || this.#stopped) return;
    this.#running = this.#goOver(tenants).catch((error: unknown) => {
      this.#logger.warn(`upkeep failed: ${errorMessage(error)}`, { err: error });
    }).finally(() => {
      this.#running = null;
    });
  }

  /** Resolves when nothing is being done any more; the page store breaks off what takes long when a timeline is closed. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  async #goOver(tenants: () => readonly Tenant[]): Promise<void> {
    let merged = true;
    while (merged && !this.#stopped) {
      merged = false;
      this.#forgetClosed(tenants());
      for (const tenant of tenants()) {
        for (const timeline of tenant.timelines.opened()) {
          if (this.#stopped) return;
          if (await this.#attend(tenant, timeline)) merged = true;
        }
      }
    }
  }

  /** What is kept of a timeline goes when it does. */
  #forgetClosed(tenants: readonly Tenant[]): void {
    const open = new Set<TimelineId>();
    for (const tenant of tenants) {
      for (const { timelineId } of tenant.timelines.opened()) open.add(timelineId);
    }
    for (const kept of [this.#nextGcMs, this.#retryMs, this.#visitedLsn]) {
      for (const id of kept.keys()) if (!open.has(id)) kept.delete(id);
    }
  }

  /** @returns whether layers were merged: there may be more */
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
