/** Computes the term that repairs a timeline whose term was driven up. */
import { TERM_STEP_MAX } from "../consensus/bounds.ts";

/** The terms of a timeline at one safekeeper. */
export interface Terms {
  readonly term: number;
  /** The term of its log, in which a proposer was elected. 0 when none ever was. */
  readonly historyTerm: number;
}

/**
 * Elections without a winner may raise a term this far above the newest log. A higher term was
 * driven up.
 */
const CAMPAIGNS_MAX = 1_000_000;

/**
 * Returns the term to set at the safekeepers of a timeline whose terms were driven up. It is above
 * everything that elections can have produced, so no vote that still counts is given twice. One
 * extra step allows for campaigns whose traces were overwritten.
 *
 * @param all the terms at all its safekeepers: the newest log may be at any of them
 */
export function repairedTerm(all: readonly Terms[]): number {
  const newestLog = Math.max(0, ...all.map(({ historyTerm }) => historyTerm));
  const honest = all.map(({ term }) => term).filter((term) => term <= newestLog + CAMPAIGNS_MAX);
  return Math.max(newestLog, ...honest) + TERM_STEP_MAX;
}
