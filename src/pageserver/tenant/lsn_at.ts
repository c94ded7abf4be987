/** Finds the LSN of a point in time. */
import type { Lsn } from "../../common/lsn.ts";
import { timestampOfMs } from "../../common/timestamp.ts";
import type { TenantTimelines } from "./timelines.ts";
import type { Timeline } from "../timeline/timeline.ts";

/**
 * Finds a point in time in a timeline's history, which includes its ancestors' history.
 *
 * @param timeline held by the caller
 * @param timestamp microseconds since 2000
 * @returns the LSN, and the timeline that it belongs to, which stays open as long as the given one
 * @throws {ZenithError} `out_of_range` when it is in the future or before the history begins, also
 *   when that is at a mask
 */
export function lsnAt(
  timelines: TenantTimelines,
  timeline: Timeline,
  timestamp: number,
): { timeline: Timeline; lsn: Lsn } {
  const lsn = timeline.lsnAt(timestamp, timestampOfMs(Date.now()));
  timeline.assertUnmasked(lsn);
  let owner = timeline;
  while (owner.ancestorId !== null && !owner.beginsMasked && lsn < owner.store.startLsn) {
    owner = timelines.ancestorOf(owner);
  }
  return { timeline: owner, lsn };
}
