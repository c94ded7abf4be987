/**
 * Collects garbage: decides from sizes, times, branches and leases how much history a timeline can
 * drop.
 */
import type { Lsn } from "../../common/lsn.ts";
import type { LayerEntry, MergeResult } from "../../pagestore/mod.ts";
import type { Timeline } from "./timeline.ts";

/** Everything below the lower of the two cutoffs may be removed, except at single LSNs. */
export interface Cutoffs {
  /** This much WAL lies above the cutoff. */
  readonly horizon: Lsn;
  /** This much time has passed since then; 0 when the history does not go back that far. */
  readonly pitr: Lsn;
}

/** What a garbage collection found and did. Sizes are in bytes. */
export interface GarbageReport {
  readonly layersTotal: number;
  /** Layers that hold versions at or above the horizon. */
  readonly layersNeededByCutoff: number;
  /**
   * Of the rest: layers with versions at or above the start of the point-in-time recovery interval.
   */
  readonly layersNeededByPitr: number;
  /** Of the rest: layers that start below a branch point. */
  readonly layersNeededByBranches: number;
  /** Of the rest: layers that start below a leased LSN. */
  readonly layersNeededByLeases: number;
  /** Layers that the collection rewrote and removed. */
  readonly layersRemoved: number;
  /** Layers that it wrote in their place. */
  readonly layersCreated: number;
  readonly versionsRemoved: number;
  readonly imagesCreated: number;
  readonly bytesRemoved: number;
  readonly elapsedMs: number;
}

/**
 * Removes the history that nobody can ask for any more.
 *
 * @param branchPoints where branches left the timeline
 * @param leased LSNs at which somebody reads
 * @throws {ZenithError} `disk_full`, `io`, `corrupt_data`: nothing has changed then, except what
 *   can be read
 */
export async function collectGarbage(
  timeline: Timeline,
  cutoffs: Cutoffs,
  branchPoints: readonly Lsn[],
  leased: readonly Lsn[],
  clockMs: () => number,
): Promise<GarbageReport> {
  const { store } = timeline;
  const startMs = clockMs();
  const needs = classify(store.layers(), cutoffs, branchPoints, leased);
  const cutoff = Math.min(cutoffs.horizon, cutoffs.pitr) as Lsn;
  const done: MergeResult | null = cutoff <= 0
    ? null
    : await store.collectGarbage(cutoff, [...branchPoints, ...leased]);
  return {
    ...needs,
    layersRemoved: done?.layersBefore ?? 0,
    layersCreated: done?.layersAfter ?? 0,
    versionsRemoved: done?.versionsDropped ?? 0,
    imagesCreated: done?.imagesMade ?? 0,
    bytesRemoved: done === null ? 0 : done.bytesBefore - done.bytesAfter,
    elapsedMs: Math.round(clockMs() - startMs),
  };
}

type Needs = Pick<
  GarbageReport,
  | "layersTotal"
  | "layersNeededByCutoff"
  | "layersNeededByPitr"
  | "layersNeededByBranches"
  | "layersNeededByLeases"
>;

/**
 * What keeps a layer. What nothing keeps is merged away, but for the newest version of each block.
 */
export type LayerNeed = "horizon" | "pitr" | "branches" | "leases";

/** Returns what says of a layer the first reason that applies; null when none does. */
export function needOf(
  cutoffs: Cutoffs,
  branchPoints: readonly Lsn[],
  leased: readonly Lsn[],
): (layer: LayerEntry) => LayerNeed | null {
  const lastBranch = highest(branchPoints);
  const lastLease = highest(leased);
  return ({ startLsn, endLsn }) => {
    if (endLsn > cutoffs.horizon) return "horizon";
    if (endLsn > cutoffs.pitr) return "pitr";
    if (startLsn < lastBranch) return "branches";
    return startLsn < lastLease ? "leases" : null;
  };
}

function classify(
  layers: readonly LayerEntry[],
  cutoffs: Cutoffs,
  branchPoints: readonly Lsn[],
  leased: readonly Lsn[],
): Needs {
  const needs = layers.map(needOf(cutoffs, branchPoints, leased));
  const count = (wanted: LayerNeed) => needs.filter((need) => need === wanted).length;
  return {
    layersTotal: layers.length,
    layersNeededByCutoff: count("horizon"),
    layersNeededByPitr: count("pitr"),
    layersNeededByBranches: count("branches"),
    layersNeededByLeases: count("leases"),
  };
}

/** Returns 0 when there is none. There may be more than a call takes arguments. */
function highest(lsns: readonly Lsn[]): number {
  return lsns.reduce((last, lsn) => Math.max(last, lsn), 0);
}
