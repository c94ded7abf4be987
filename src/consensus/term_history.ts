/**
 * Which term's proposer wrote which part of a log. An entry says that from `startLsn` on, up to the next entry, the log is
 * that of `term`. Two logs with the same entry have the same bytes up to that entry's end, so that histories alone tell where
 * two logs part.
 */
import { formatLsn, INVALID_LSN, type Lsn } from "../common/lsn.ts";
import { ZenithError } from "../common/errors.ts";

export interface TermEntry {
  readonly term: number;
  readonly startLsn: Lsn;
}

/** Terms rise strictly, start positions don't fall. Never changed in place: states share it. */
export type TermHistory = readonly TermEntry[];

/** More elections than a timeline will see; bounds what a message can make us store. */
export const TERM_HISTORY_MAX_LENGTH = 100_000;

/** The term of the newest entry, 0 when there is none: whose log this is, or is on its way to be. */
export function historyTerm(history: TermHistory): number {
  return history.length === 0 ? 0 : history[history.length - 1].term;
}

/**
 * The term that wrote the end of a log of this history that reaches to `flushLsn`; 0 for an empty history. With `flushLsn`
 * itself this is what elections compare.
 */
export function lastLogTerm(history: TermHistory, flushLsn: Lsn): number {
  for (let i = history.length - 1; i >= 0; i--) {
    if (history[i].startLsn <= flushLsn) return history[i].term;
  }
  return 0;
}

/** The history of the log that a proposer of `term` starts: `donor`'s up to `epochStartLsn`, then its own. */
export function startTerm(donor: TermHistory, epochStartLsn: Lsn, term: number): TermHistory {
  const kept = donor.filter((entry) => entry.startLsn <= epochStartLsn);
  return [...kept, { term, startLsn: epochStartLsn }];
}

/**
 * Where a log of history `log` that reaches to `endLsn` parts from the log of history `leader`, which reaches further than
 * any of its entries. Never above `endLsn`.
 *
 * @param timelineStartLsn where both begin
 */
export function commonPrefixEnd(
  leader: TermHistory,
  log: TermHistory,
  endLsn: Lsn,
  timelineStartLsn: Lsn,
): Lsn {
  let common = 0;
  while (common < leader.length && common < log.length && isSameEntry(leader[common], log[common])) {
    common++;
  }
  if (common === 0) return timelineStartLsn;
  let end: number = endLsn;
  if (common < leader.length) end = Math.min(end, leader[common].startLsn);
  if (common < log.length) end = Math.min(end, log[common].startLsn);
  return end as Lsn;
}

/** Whether terms rise and positions don't fall. */
export function isTermHistory(history: TermHistory): boolean {
  let before: TermEntry = { term: 0, startLsn: INVALID_LSN };
  for (const entry of history) {
    if (entry.term <= before.term || entry.startLsn < before.startLsn) return false;
    before = entry;
  }
  return true;
}

/** @throws {ZenithError} `protocol` when `history` can't be one */
export function checkTermHistory(history: TermHistory): void {
  if (isTermHistory(history)) return;
  throw new ZenithError("protocol", `malformed term history ${formatTermHistory(history)}`);
}

/** `1@0/16B5A50 3@0/2000028`: term and where it starts. */
export function formatTermHistory(history: TermHistory): string {
  return history.length === 0
    ? "(empty)"
    : history.map(({ term, startLsn }) => `${term}@${formatLsn(startLsn)}`).join(" ");
}

function isSameEntry(a: TermEntry, b: TermEntry): boolean {
  return a.term === b.term && a.startLsn === b.startLsn;
}
