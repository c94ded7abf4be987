/** Stops every process of an environment, in order. */
import { endSpares } from "../process/hand_to_spare.ts";
import { allComputePlaces, type ComputePlace, isUp, listDeletions, stopCompute } from "./compute_places.ts";
import { finishDeletion } from "./deleted_computes.ts";
import { type Environment, hasLocalPageServer } from "./environment.ts";
import { noteWanted } from "./last_start.ts";
import { removeMoment } from "./moments.ts";
import { stopPageServer } from "./page_server_process.ts";
import { listSafekeepers, stopSafekeeper } from "./safekeepers.ts";
import type { StopMode } from "./stop_process.ts";

/**
 * Runs one step and reports it.
 *
 * @param what for example `the page server`
 * @param work tells what it waits for; returns whether there was anything to stop
 */
export type ReportStop = (
  what: string,
  work: (waits: (words: string) => void) => Promise<boolean>,
) => Promise<void>;

/**
 * Stops the computes, then the safekeepers, then the page server. If one fails to stop, the others
 * are still stopped, and the first error is thrown at the end.
 *
 * @param comesBack whether `zenith start` is to start the compute again
 */
export async function stopEverything(
  environment: Environment,
  mode: StopMode,
  report: ReportStop,
  comesBack: (compute: ComputePlace) => boolean = () => true,
): Promise<void> {
  const errors: unknown[] = [];
  const attempt = async (step: () => Promise<void>) => {
    try {
      await step();
    } catch (error) {
      errors.push(error);
    }
  };
  for (const compute of allComputePlaces(environment)) {
    if (compute.moment === null && !isUp(compute)) continue;
    await attempt(() =>
      report(`the Postgres of branch ${compute.name}`, async (waits) => {
        if (compute.moment === null && comesBack(compute)) noteWanted(compute.paths);
        await stopCompute(compute, mode, waits);
        if (compute.moment !== null) await removeMoment(environment, compute);
        return true;
      })
    );
  }
  for (const compute of listDeletions(environment)) {
    await attempt(async () => void await finishDeletion(environment, compute));
  }
  await attempt(() => endSpares(environment.paths.spares));
  for (const safekeeper of listSafekeepers(environment)) {
    await attempt(() => report(`safekeeper ${safekeeper.id}`, () => stopSafekeeper(safekeeper, mode)));
  }
  if (hasLocalPageServer(environment)) {
    await attempt(() => report("the page server", () => stopPageServer(environment, mode)));
  }
  if (errors.length > 0) throw errors[0];
}
