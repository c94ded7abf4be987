import { TERM_STEP_MAX } from "../consensus/bounds.ts";

/** The terms of a timeline at one safekeeper. */
export interface Terms {
  readonly term: number;
  /** Of its log: somebody was elected in it. 0 when nobody ever was. */
  readonly historyTerm: number;
}

/**
 * Elections without a winner may raise a term this far above the newest log. A higher term was
 * driven up.
 */
const CAMPAIGNS_MAX = 1_000_000;

/**
 * The term that safekeepers of one timeline are set back to, whose terms were driven up: above
 * everything that elections can have brought about, so that no vote that still counts is given
 * twice. A step more is for campaigns whose traces were driven over.
 *
 * @param all of all its safekeepers: the newest log may be at any of them
 */
export function repairedTerm(all: readonly Terms[]): number {
  const newestLog = Math.max(0, ...all.map(({ historyTerm }) => historyTerm));
  const honest = all.map(({ term }) => term).filter((term) => term <= newestLog + CAMPAIGNS_MAX);
  return Math.max(newestLog, ...honest) + TERM_STEP_MAX;
}
