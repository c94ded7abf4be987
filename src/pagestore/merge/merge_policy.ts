/** Chooses which runs of a timeline to merge, to keep reads quick and to remove garbage. */
import type { Run } from "../files/layer_map.ts";
import type { Retention } from "../value/retention.ts";

/**
 * Neighbouring runs, both ends included, that are to become one. `first` and `last` are the same
 * when a run is only rewritten.
 */
export interface DueMerge {
  readonly first: Run;
  readonly last: Run;
}

/** A run is rewritten when at least this part of it may be garbage. */
const DUE_SHARE = 1 / 4;

/**
 * An older run is rewritten with it, if it is at most this many times as long as what is rewritten
 * anyway.
 */
const TAKEN_ALONG_RATIO = 4;

/**
 * Picks the runs to merge next: at the lowest level with `fanIn` neighbours, the oldest `fanIn`.
 * Both the number of times that a version is merged and the number of runs therefore grow with the
 * logarithm of the history. Returns null when nothing is due.
 */
export function pickMerge(runs: readonly Run[], fanIn: number): DueMerge | null {
  let best: DueMerge | null = null;
  for (let from = 0; from < runs.length;) {
    const level = runs[from].level;
    let to = from + 1;
    while (to < runs.length && runs[to].level === level) to++;
    if (to - from >= fanIn && (best === null || level < best.first.level)) {
      best = { first: runs[from], last: runs[from + fanIn - 1] };
    }
    from = to;
  }
  return best;
}

/**
 * Picks a merge that removes what `retention` does not keep, where that pays: the bytes that merges
 * write stay in proportion to what has become garbage, however long the history is. Returns null
 * when there is none left.
 *
 * A run is rewritten if a good part of it has fallen below the cutoff, or if branches and leases
 * that led into it are gone. Older runs hold versions that newer ones have made superfluous, at
 * most about as many as the newer ones have versions. So an older run is taken along only by newer
 * runs that come to a good part of its length. It is then rewritten once for each time that much
 * has been added to it. Until then, garbage is only a part of the whole.
 */
export function pickGarbage(runs: readonly Run[], retention: Retention): DueMerge | null {
  let at = runs.findLastIndex((run) => isDue(run, retention));
  if (at < 0) return null;
  const last = runs[at];
  let bytes = last.sizeBytes;
  // A run that reaches beyond the cutoff stays by itself. Its upper part must be examined again
  // later; older runs need not be.
  while (last.endLsn <= retention.cutoff && at > 0) {
    const older = runs[at - 1];
    if (older.sizeBytes > TAKEN_ALONG_RATIO * bytes && !isDue(older, retention)) break;
    bytes += older.sizeBytes;
    at--;
  }
  return { first: runs[at], last };
}

function isDue(run: Run, retention: Retention): boolean {
  return givenUpShare(run, retention) >= DUE_SHARE;
}

/**
 * Estimates which share of a run, from 0 to 1, was readable when it was written and is no longer.
 * The estimate uses LSNs alone.
 */
function givenUpShare({ startLsn, endLsn, givenUp }: Run, retention: Retention): number {
  const before = Math.max(givenUp.cutoff, startLsn);
  const now = Math.min(retention.cutoff, endLsn);
  const ofLsns = Math.max(0, now - before) / (endLsn - startLsn);
  // Each kept point keeps what was newest then, and the last version of all stays in any case.
  const kept = retention.countPoints(startLsn, before);
  const ofPoints = Math.max(0, givenUp.points - kept) / (givenUp.points + 1);
  return ofLsns + (1 - ofLsns) * ofPoints;
}
