/** Finds the settings of a branch at a moment: its own, or those of its ancestors. */
import type { Hold } from "../../common/held.ts";
import type { TimelineId } from "../../common/id.ts";
import type { Lsn } from "../../common/lsn.ts";
import { nextRecordLsn } from "../../postgres/wal/page_header.ts";
import type { Timeline } from "../timeline/timeline.ts";
import type { TenantTimelines } from "./timelines.ts";

export interface InheritedSettings {
  /** Whose settings they are. Both are null when nothing has been set. */
  readonly timeline_id: TimelineId | null;
  /** Packed: `src/protocol/branch_settings.ts`. */
  readonly settings: string | null;
}

/** @param lsn null for the newest ones @throws {ZenithError} `out_of_range` before a mask */
export async function inheritedSettings(
  timelines: TenantTimelines,
  timeline: TimelineId,
  lsn: Lsn | null,
): Promise<InheritedSettings> {
  let next: TimelineId | null = timeline;
  for (let at = lsn ?? (Infinity as Lsn); next !== null;) {
    using held: Hold<Timeline> = await timelines.hold(next);
    const { settings, ancestorId, store, timelineId, walSegmentSize } = held.value;
    if (timelineId === timeline) held.value.assertUnmasked(at);
    const found = settings.at(at);
    if (found !== undefined) return { timeline_id: timelineId, settings: found.settings };
    if (store.ancestorLsn === null) break;
    at = Math.min(at, nextRecordLsn(store.ancestorLsn, walSegmentSize)) as Lsn;
    next = ancestorId;
  }
  return { timeline_id: null, settings: null };
}
