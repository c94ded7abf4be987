/** The history that makes up a branch: its own timeline, and those that it comes from. */
import type { TimelineId } from "../../common/id.ts";
import type { Lsn } from "../../common/lsn.ts";
import type { Timeline } from "../timeline/timeline.ts";
import type { TenantTimelines } from "./timelines.ts";

export interface HistoryPart {
  readonly timelineId: TimelineId;
  /**
   * The branch uses this timeline up to here: to the branch's end, or to where the next newer part
   * leaves it.
   */
  readonly lsn: Lsn;
  /**
   * When the last commit up to that LSN was made, in microseconds since 2000. Null when there is
   * none.
   */
  readonly time: number | null;
  /** The LSN from which on every LSN can be read. */
  readonly keptFrom: Lsn;
  /**
   * When the last commit up to `keptFrom` was made, as `time`. Null also when that is not known.
   */
  readonly keptFromTime: number | null;
  /** The first moment that can be read: `keptFromTime`, or that of the first commit after it. */
  readonly firstTime: number | null;
}

/**
 * Returns the parts, newest first, as far back as the last mask. @param timeline held by the caller
 */
export function historyOf(timelines: TenantTimelines, timeline: Timeline): HistoryPart[] {
  const parts: HistoryPart[] = [];
  for (let at = timeline, lsn = timeline.lastRecordLsn;; at = timelines.ancestorOf(at)) {
    const { store, timelineId, commitTimes, ancestorId, beginsMasked } = at;
    const keptFrom = Math.max(store.keptFrom, store.startLsn) as Lsn;
    const keptFromTime = commitTimes.at(keptFrom);
    parts.push({
      timelineId,
      lsn,
      time: commitTimes.at(lsn),
      keptFrom,
      keptFromTime,
      firstTime: keptFromTime ?? commitTimes.first,
    });
    if (ancestorId === null || beginsMasked) return parts;
    lsn = Math.min(lsn, store.ancestorLsn ?? lsn) as Lsn;
  }
}
