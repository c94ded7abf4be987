/** Finds the LSN of a point in time. */
import type { Lsn } from "../../common/lsn.ts";
import { timestampOfMs } from "../../common/timestamp.ts";
import type { TenantTimelines } from "./timelines.ts";
import type { Timeline } from "../timeline/timeline.ts";

/**
 * Finds a point in time in a timeline's history, which includes its ancestors'.
 *
 * @param timeline that the caller holds
 * @param timestamp microseconds since 2000
 * @returns the LSN, and the timeline that it belongs to; that is open as long as the one that was
 *   given
 * @throws {ZenithError} `out_of_range` when it is in the future or before the history begins
 */
export function lsnAt(
  timelines: TenantTimelines,
  timeline: Timeline,
  timestamp: number,
): { timeline: Timeline; lsn: Lsn } {
  const lsn = timeline.lsnAt(timestamp, timestampOfMs(Date.now()));
  let owner = timeline;
  while (owner.ancestorId !== null && lsn < owner.store.startLsn) {
    owner = timelines.ancestorOf(owner);
  }
  return { timeline: owner, lsn };
}
