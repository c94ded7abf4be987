/** What a branch is made of: its own timeline, and those that it comes from. */
import type { TimelineId } from "../../common/id.ts";
import type { Lsn } from "../../common/lsn.ts";
import type { Timeline } from "../timeline/timeline.ts";
import type { TenantTimelines } from "./timelines.ts";

export interface HistoryPart {
  readonly timelineId: TimelineId;
  /** Up to where the branch has it: its end, or where the next newer part left it. */
  readonly lsn: Lsn;
  /** When the last commit up to there was, in microseconds since 2000; null when there is none. */
  readonly time: number | null;
  /** From where on any of its LSNs can be read. */
  readonly keptFrom: Lsn;
  /** As `time`; null, too, when that is not known. */
  readonly keptFromTime: number | null;
}

/** Newest part first. @param timeline that the caller holds */
export function historyOf(timelines: TenantTimelines, timeline: Timeline): HistoryPart[] {
  const parts: HistoryPart[] = [];
  for (let at = timeline, lsn = timeline.lastRecordLsn;; at = timelines.ancestorOf(at)) {
    const { store, timelineId, commitTimes, ancestorId } = at;
    const keptFrom = Math.max(store.keptFrom, store.startLsn) as Lsn;
    parts.push({
      timelineId,
      lsn,
      time: commitTimes.at(lsn),
      keptFrom,
      keptFromTime: commitTimes.at(keptFrom),
    });
    if (ancestorId === null) return parts;
    lsn = Math.min(lsn, store.ancestorLsn ?? lsn) as Lsn;
  }
}
