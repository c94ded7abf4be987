import type { Lsn } from "../../common/lsn.ts";
import { timestampOfMs } from "../../common/timestamp.ts";
import type { TenantTimelines } from "./timelines.ts";
import type { Timeline } from "../timeline/timeline.ts";

/**
 * Where a point in time is in a timeline's history, which goes back into its ancestors'.
 *
 * @param timestamp microseconds since 2000
 * @returns the LSN, and the timeline that it belongs to
 * @throws {ZenithError} `out_of_range` when it is in the future or before the history begins
 */
export async function lsnAt(
  timelines: TenantTimelines,
  timeline: Timeline,
  timestamp: number,
): Promise<{ timeline: Timeline; lsn: Lsn }> {
  const lsn = timeline.lsnAt(timestamp, timestampOfMs(Date.now()));
  let owner = timeline;
  while (owner.ancestorId !== null && lsn < owner.store.startLsn) {
    owner = await timelines.get(owner.ancestorId);
  }
  return { timeline: owner, lsn };
}
