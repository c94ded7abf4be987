/** Builds the WAL with which a timeline goes over to the next of PostgreSQL's timelines. */
import { assert } from "../../common/assert.ts";
import { ZenithError } from "../../common/errors.ts";
import { timestampOfMs } from "../../common/timestamp.ts";
import { parseControlFile } from "../../postgres/control_file.ts";
import { buildTimelineSwitch, type SwitchWal } from "../../postgres/wal/timeline_switch.ts";
import { CONTROL_KEY } from "../content/keys.ts";
import type { RecordBoundary, Timeline } from "../timeline/timeline.ts";

/** Each switch names all those before, and each start gets a file for many of them. */
const TIMELINES_MAX = 10_000;

/**
 * @param at a record boundary of the timeline
 * @throws {AbsentBytes} when something has to be fetched for it
 * @throws {ZenithError} `out_of_range` when there are too many timelines
 */
export function switchOf(timeline: Timeline, at: RecordBoundary): SwitchWal {
  const timelines = timeline.walTimelinesBefore(at.lsn);
  if (timelines.length >= TIMELINES_MAX) {
    throw new ZenithError(
      "out_of_range",
      `the WAL has run through ${TIMELINES_MAX} of PostgreSQL's timelines`,
    );
  }
  const control = timeline.at(at.lsn).value(CONTROL_KEY);
  assert(control !== null, "every timeline has the control file of its initdb");
  return buildTimelineSwitch({
    pg: timeline.pg,
    systemIdentifier: timeline.systemIdentifier,
    segmentSize: timeline.walSegmentSize,
    timelineId: timeline.timelineId,
    lsn: at.lsn,
    prev: at.prev,
    timelines,
    wal_level: parseControlFile(control).wal_level,
    endTime: BigInt(timestampOfMs(Date.now())),
  });
}
