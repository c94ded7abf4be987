/** Where each branch has its line: one below another, each below the branch that it comes from. */
import type { Branch, BranchTimes } from "../contract.ts";

export interface Lane {
  readonly branch: Branch;
  /** How many branches lie between it and one that comes from none. */
  readonly depth: number;
  /** The lane that it leaves; undefined for a branch whose parent has no name. */
  readonly parent: number | undefined;
  /** In milliseconds since 1970, as all of these. */
  readonly begin: number;
  /** From here on it can be read. */
  readonly kept: number;
  readonly lastCommit: number | undefined;
}

/**
 * @param times by branch id; what is missing has not been asked yet
 * @returns the lanes from top to bottom: a tree in depth-first order, the latest child first, so
 *   that few lines cross
 */
export function layOut(branches: readonly Branch[], times: ReadonlyMap<string, BranchTimes>): Lane[] {
  const byTimeline = new Map(branches.map((branch) => [branch.timeline_id, branch]));
  const children = new Map<string | undefined, { branch: Branch; begin: number }[]>();
  for (const branch of branches) {
    const known = times.get(branch.id);
    const parent = branch.parent_timeline_id !== null && byTimeline.has(branch.parent_timeline_id)
      ? branch.parent_timeline_id
      : undefined;
    const siblings = children.get(parent) ?? [];
    const begin = parse(known?.begins_at) ?? parse(known?.kept_from) ?? Date.parse(branch.created_at);
    siblings.push({ branch, begin });
    children.set(parent, siblings);
  }
  for (const siblings of children.values()) {
    siblings.sort((a, b) => b.begin - a.begin || (a.branch.name < b.branch.name ? -1 : 1));
  }
  const lanes: Lane[] = [];
  // A stack of our own: a chain of a thousand branches is no reason to fail.
  const waiting: { branch: Branch; begin: number; depth: number; parent: number | undefined }[] = [];
  const push = (of: string | undefined, depth: number, parent: number | undefined) => {
    const found = children.get(of) ?? [];
    for (let i = found.length - 1; i >= 0; i--) waiting.push({ ...found[i]!, depth, parent });
  };
  push(undefined, 0, undefined);
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const { branch, begin, depth, parent } = next;
    const known = times.get(branch.id);
    const index = lanes.length;
    lanes.push({
      branch,
      depth,
      parent,
      begin,
      kept: Math.max(begin, parse(known?.kept_from) ?? begin),
      lastCommit: parse(known?.last_commit_at),
    });
    push(branch.timeline_id, depth + 1, index);
  }
  // Of a branch that comes from none, the beginning may be forgotten. Its children have seen it.
  for (const lane of lanes) {
    const parent = lane.parent === undefined ? undefined : lanes[lane.parent]!;
    if (parent !== undefined && lane.begin < parent.begin) {
      lanes[lane.parent!] = { ...parent, begin: lane.begin };
    }
  }
  return lanes;
}

function parse(time: string | null | undefined): number | undefined {
  return time === null || time === undefined ? undefined : Date.parse(time);
}
