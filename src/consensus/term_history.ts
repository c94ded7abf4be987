/**
 * Which term's proposer wrote which part of a log. An entry says that the log from `startLsn` up to
 * the next entry is that of `term`. If two logs share an entry, they have the same bytes up to the
 * end of that entry, so their histories alone tell where they part.
 */
import { formatLsn, INVALID_LSN, type Lsn } from "../common/lsn.ts";
import { ZenithError } from "../common/errors.ts";

export interface TermEntry {
  readonly term: number;
  readonly startLsn: Lsn;
}

/** Terms rise strictly; start positions never fall. Never changed in place: states share it. */
export type TermHistory = readonly TermEntry[];

/** More elections than a timeline will ever see; it bounds what a message can make us store. */
export const TERM_HISTORY_MAX_LENGTH = 100_000;

/**
 * The term of the newest entry, 0 when there is none: the term that owns this log, or is about to.
 */
export function historyTerm(history: TermHistory): number {
  return history.length === 0 ? 0 : history[history.length - 1].term;
}

/**
 * The term that wrote the end of a log with this history that reaches to `flushLsn`; 0 for an empty
 * history. Elections compare this, and then `flushLsn` itself.
 */
export function lastLogTerm(history: TermHistory, flushLsn: Lsn): number {
  for (let i = history.length - 1; i >= 0; i--) {
    if (history[i].startLsn <= flushLsn) return history[i].term;
  }
  return 0;
}

/**
 * The history of the log that a proposer of `term` starts: `donor`'s up to `epochStartLsn`, then
 * its own.
 */
export function startTerm(donor: TermHistory, epochStartLsn: Lsn, term: number): TermHistory {
  const kept = donor.filter((entry) => entry.startLsn <= epochStartLsn);
  return [...kept, { term, startLsn: epochStartLsn }];
}

/**
 * Where a log with history `log` that reaches to `endLsn` parts from the log with history `leader`,
 * which reaches further than any of its entries. Never above `endLsn`.
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

/** Whether terms rise and positions never fall. */
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

/** `1@0/16B5A50 3@0/2000028`: each term and where it starts. */
export function formatTermHistory(history: TermHistory): string {
  return history.length === 0
    ? "(empty)"
    : history.map(({ term, startLsn }) => `${term}@${formatLsn(startLsn)}`).join(" ");
}

function isSameEntry(a: TermEntry, b: TermEntry): boolean {
  return a.term === b.term && a.startLsn === b.startLsn;
}
