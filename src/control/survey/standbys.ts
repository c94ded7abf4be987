/** Reports standbys for which the safekeepers hold back much WAL, or no longer have it. */
import { combineStandbySlots } from "../standby_slots.ts";
import type { BranchSurvey } from "./branches.ts";
import type { Problem } from "./problem.ts";
import type { SurveyedSafekeeper } from "./servers.ts";

export function standbyProblems(
  safekeepers: readonly SurveyedSafekeeper[],
  branches: readonly BranchSurvey[],
): Problem[] {
  const slots = combineStandbySlots(safekeepers.flatMap(({ timelines }) => timelines ?? []));
  return slots.flatMap(({ timeline, name, behindBytes, maxBytes, isLost, missing }): Problem[] => {
    const branch = branches.find(({ timeline_id }) => timeline_id === timeline)?.branch ?? timeline;
    const which = `standby ${name} of branch ${branch}`;
    const drop = `"zenith standby drop ${branch} ${name}" if it does not come back`;
    if (isLost) {
      return [{
        what: `${which} has been away for too long: no safekeeper has the WAL that it needs`,
        hint: `make it anew by "zenith pg standby"; ${drop}`,
        down: false,
      }];
    }
    if (behindBytes >= maxBytes / 2) {
      return [{
        what: `${which} is ${mebibytes(behindBytes)} behind; WAL is kept for it up to ${mebibytes(maxBytes)}`,
        hint: `start it; ${drop}`,
        down: false,
      }];
    }
    if (missing > 0) {
      return [{
        what: `${missing} of the safekeepers of branch ${branch} keep no WAL for standby ${name}`,
        hint: `"zenith pg standby ${branch} --slot ${name}" makes them`,
        down: false,
      }];
    }
    return [];
  });
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / (1 << 20))} MiB`;
}
