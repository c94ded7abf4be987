/** Restarts every Postgres that ran before everything was stopped or killed. */
import { parseLsn } from "../common/lsn.ts";
import { TAKEN_OVER } from "../compute/proposer/wal_proposer.ts";
import { allComputePlaces, type ComputePlace, isUp } from "./compute_places.ts";
import { type ComputeInfo, describeCompute, startCompute } from "./computes.ts";
import type { Environment } from "./environment.ts";
import { readLastStart } from "./last_start.ts";
import { lastErrorInLog } from "./log_file.ts";

/**
 * Lists the computes that should run and don't, except those whose branch another compute has taken
 * over. A compute that looks at a moment is not brought back; users start it again when they need
 * it. A branch's own compute comes before the replicas that need it.
 */
export function computesToBringBack(environment: Environment): ComputePlace[] {
  return allComputePlaces(environment).filter((found) =>
    found.moment === null && !isUp(found) && readLastStart(found.paths).wanted &&
    !(found.status === "crashed" && lastErrorInLog(found.paths.log)?.includes(TAKEN_OVER))
  );
}

/**
 * Starts a compute with the options of its last start.
 *
 * @throws {ZenithError} as {@link startCompute}
 */
export async function bringBack(
  environment: Environment,
  found: ComputePlace,
  onProgress: (text: string) => void,
): Promise<ComputeInfo> {
  const { storage, prewarm, lsn } = readLastStart(found.paths);
  const compute = describeCompute(found);
  await startCompute(environment, compute, {
    ...(storage === undefined ? {} : { storage }),
    ...(prewarm === undefined ? {} : { prewarm }),
    ...(lsn === undefined ? {} : { readOnlyAt: parseLsn(lsn) }),
    onProgress,
  });
  return compute;
}
