/** Describes what can be wrong with a branch, in words for whoever has to repair it. */
import { errorMessage, ZenithError } from "../../common/errors.ts";
import type { TimelineId } from "../../common/id.ts";
import type { Branch, DamagedBranchFile } from "./branch_files.ts";

/** What is damaged, and what to do about it. */
export interface Damage {
  readonly what: string;
  readonly hint: string;
}

/** A branch that can't be used, or what is left of one. */
export interface DamagedBranch {
  /** Null when no branch names the timeline. */
  readonly name: string | null;
  /** Null when it is not known. */
  readonly timelineId: TimelineId | null;
  readonly damage: Damage;
  /** The error that was thrown. */
  readonly error: unknown;
}

export function damagedFile({ file, name, error }: DamagedBranchFile): DamagedBranch {
  const hint = name === null
    ? "remove the file"
    : `put the file back from a copy, or "zenith branch delete ${name}": its timeline stays and can be given another name`;
  return { name: name ?? file, timelineId: null, damage: { what: error.message, hint }, error };
}

export function unnamedTimeline(timelineId: TimelineId): DamagedBranch {
  const what = `no branch names timeline ${timelineId}`;
  return {
    name: null,
    timelineId,
    error: new ZenithError("not_found", what),
    damage: {
      what,
      hint:
        `"zenith branch <name> ${timelineId}" makes a branch of it, "zenith branch delete ${timelineId}" deletes it`,
    },
  };
}

export function unusable({ name, timelineId }: Branch, error: unknown): DamagedBranch {
  return {
    name,
    timelineId,
    error,
    damage: {
      what: `branch ${name} can't be used: ${errorMessage(error)}`,
      hint: `put its files back from a copy, or "zenith branch delete ${name}"; "zenith fsck" says more`,
    },
  };
}
