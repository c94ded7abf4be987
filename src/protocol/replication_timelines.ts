/**
 * What a walsender tells its readers of PostgreSQL's timelines: TIMELINE_HISTORY, and where a
 * stream of an older timeline ends ("Streaming Replication Protocol" in PostgreSQL's documentation,
 * StartReplication in src/backend/replication/walsender.c).
 *
 * Timelines are given as where those after the first begin.
 */
import { ZenithError } from "../common/errors.ts";
import { formatLsn, type Lsn } from "../common/lsn.ts";
import type { Column } from "../pgwire/column.ts";
import type { Session } from "../pgwire/session.ts";

/** Matches a TIMELINE_HISTORY command, with the timeline. */
export const TIMELINE_HISTORY = /^timeline_history\s+(\d{1,10})$/i;

export const TIMELINE_HISTORY_COLUMNS: readonly Column[] = [
  { name: "filename", type: "text" },
  { name: "content", type: "text" },
];

const NEXT_TIMELINE_COLUMNS: readonly Column[] = [
  { name: "next_tli", type: "int8" },
  { name: "next_tli_startpos", type: "text" },
];

/** A timeline's history, as PostgreSQL keeps it. */
export interface HistoryFile {
  readonly name: string;
  readonly content: Uint8Array;
}

/**
 * @param file the history of timeline `tli`; null when there is none
 * @throws {ZenithError} `not_found`
 */
export function sendTimelineHistory(session: Session, file: HistoryFile | null, tli: number): void {
  if (file === null) throw new ZenithError("not_found", `WAL timeline ${tli} has no history here`);
  const row = [file.name, new TextDecoder().decode(file.content)];
  session.sendRows(TIMELINE_HISTORY_COLUMNS, [row], "TIMELINE_HISTORY");
}

/**
 * Sees that a stream may begin at an LSN of a timeline.
 *
 * @throws {ZenithError} `not_found` when there is no such timeline; `out_of_range` when it was left
 *   before
 */
export function checkTimeline(timelines: readonly Lsn[], tli: number, startLsn: Lsn): void {
  const newest = timelines.length + 1;
  if (tli < 1 || tli > newest) {
    const here = newest === 1 ? "the WAL is all of timeline 1" : `there are 1 to ${newest}`;
    throw new ZenithError("not_found", `there is no WAL timeline ${tli} here: ${here}`);
  }
  if (tli === newest || startLsn <= timelines[tli - 1]) return;
  throw new ZenithError(
    "out_of_range",
    `${formatLsn(startLsn)} on WAL timeline ${tli} is not in the branch's history, which went on from ` +
      `timeline ${tli} to ${tli + 1} at ${formatLsn(timelines[tli - 1])}`,
    { hint: "what was written after that was lost with the Postgres that wrote it: make the standby anew" },
  );
}

/** Tells the reader of a timeline that was left where it goes on. The stream has ended. */
export function sendNextTimeline(session: Session, tli: number, left: Lsn): void {
  session.sendPart(NEXT_TIMELINE_COLUMNS, [[tli + 1, formatLsn(left)]], "START_STREAMING");
}
