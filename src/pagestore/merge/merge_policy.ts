/** Chooses the runs of a timeline to merge: to keep reads quick, and to remove garbage. */
import type { Run } from "../files/layer_map.ts";
import type { Retention } from "../value/retention.ts";

/**
 * Neighbouring runs, both ends included, that are to become one; both are the same where a run is
 * only rewritten.
 */
export interface DueMerge {
  readonly first: Run;
  readonly last: Run;
}

/** A run is rewritten when at least this part of it may be garbage, … */
const DUE_SHARE = 1 / 4;

/**
 * … and an older run with it, when it is at most this many times as long as what is rewritten
 * anyway.
 */
const TAKEN_ALONG_RATIO = 4;

/**
 * The runs to merge next: of the lowest level at which `fanIn` neighbours are, the oldest `fanIn`.
 * So a version is merged a number of times that grows with the logarithm of the history, and so
 * does the number of runs. null: nothing is due.
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
 * A merge that gives up what `retention` does not keep, where that pays: what merges write stays in
 * proportion to what has become garbage, however long the history is. null: none is left.
 *
 * A run of which a good part has fallen below the cutoff, or into which branches and leases led
 * that are gone, is rewritten. Older runs hold versions that newer ones have made superfluous, at
 * most about as many as the newer ones have versions; so one is taken along only by newer runs that
 * come to a part of its length. It then is rewritten as often as that much has been added to it,
 * and until then garbage is a part of the whole.
 */
export function pickGarbage(runs: readonly Run[], retention: Retention): DueMerge | null {
  let at = runs.findLastIndex((run) => isDue(run, retention));
  if (at < 0) return null;
  const last = runs[at];
  let bytes = last.sizeBytes;
  // A run that reaches beyond the cutoff stays by itself: its upper part must be examined again
  // later, older runs need not be.
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
 * Which share of a run, from 0 to 1, was readable when it was written and is no longer: an estimate
 * from LSNs alone.
 */
function givenUpShare({ startLsn, endLsn, givenUp }: Run, retention: Retention): number {
  const before = Math.max(givenUp.cutoff, startLsn);
  const now = Math.min(retention.cutoff, endLsn);
  const ofLsns = Math.max(0, now - before) / (endLsn - startLsn);
  // With each point that is kept goes what was newest then, and the last version of all stays in
  // any case.
  const kept = retention.countPoints(startLsn, before);
  const ofPoints = Math.max(0, givenUp.points - kept) / (givenUp.points + 1);
  return ofLsns + (1 - ofLsns) * ofPoints;
}
