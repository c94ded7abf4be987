/** A branch that a command makes for itself, with its Postgres, and takes away afterwards. */
import { randomBytes, randomInt } from "node:crypto";
import { ZenithError } from "../../common/errors.ts";
import { parseBranchName, type TenantId } from "../../common/id.ts";
import { type BranchPoint, formatBranchPoint, parseBranchPoint } from "../../common/moment.ts";
import { untilPointArrived } from "../../control/branch_end.ts";
import { type ComputeInfo, createCompute, findComputePlace, startCompute } from "../../control/computes.ts";
import { deleteBranch } from "../../control/delete_branch.ts";
import type { Environment } from "../../control/environment.ts";
import type { BranchInfo, PageServerClient } from "../../control/page_server_client.ts";
import { Progress } from "../cli/output.ts";
import { warnAboutSafekeeper } from "../safekeeper/prune.ts";

/** What nobody takes away after that time, because we were killed, goes by itself. */
const LIFETIME_MS = 86_400_000;

/**
 * Its port is looked for from somewhere here: commands of other environments that make one at the
 * same time must not find the same free one.
 */
const FIRST_PORT = 16_000;
const LAST_FIRST_PORT = 32_000;

export interface ThrowAway {
  readonly branch: BranchInfo;
  readonly compute: ComputeInfo;
}

/** Whose branches, and where. */
export interface Place {
  readonly environment: Environment;
  readonly client: PageServerClient;
  readonly tenant: TenantId;
}

/**
 * Reads `branch@moment`, and waits until the page server has all up to there. @throws {ZenithError}
 * as {@link parseBranchPoint} and {@link untilPointArrived}
 */
export async function arrivedPoint({ client, tenant }: Place, start: string): Promise<BranchPoint> {
  const point = parseBranchPoint(start);
  await untilPointArrived(client, tenant, point);
  return point;
}

/** @param what the first word of its name */
export async function makeThrowAway(place: Place, what: string, point: BranchPoint): Promise<ThrowAway> {
  const { environment, client, tenant } = place;
  const name = parseBranchName(`${what}-${randomBytes(6).toString("hex")}`);
  const branch = await client.branchCreate(tenant, name, formatBranchPoint(point), LIFETIME_MS);
  try {
    const firstPort = randomInt(FIRST_PORT, LAST_FIRST_PORT);
    return { branch, compute: await createCompute(environment, tenant, branch, { firstPort }) };
  } catch (error) {
    await client.branchDelete(tenant, name, false);
    throw error;
  }
}

/** Starts its Postgres so that nothing on the branch changes, nor reaches out from it. */
export async function startToLook({ environment }: Place, { branch, compute }: ThrowAway): Promise<void> {
  await startCompute(environment, compute, { readOnlyAt: branch.latest_valid_lsn });
}

/** Nobody wants its data: it is stopped the quick way. */
export async function removeThrowAway(place: Place, { branch }: ThrowAway): Promise<void> {
  const { environment, client, tenant } = place;
  using _progress = new Progress("removing the branch");
  const name = parseBranchName(branch.name);
  const { problems } = await deleteBranch(environment, client, {
    tenant,
    name,
    branches: [branch],
    cascade: false,
    timelines: [branch.timeline_id],
    computes: [findComputePlace(environment, tenant, name)],
  });
  for (const problem of problems) warnAboutSafekeeper(problem);
}

const ENDING: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP"];

/**
 * Throw-away branches at these points, with a Postgres each that only shows them, while `look`
 * runs. A signal ends that, and then they are gone as well.
 *
 * @throws what `look` throws; {@link ZenithError} `unavailable` after a signal
 */
export async function lookAt<T>(
  place: Place,
  what: string,
  points: readonly BranchPoint[],
  look: (made: readonly ThrowAway[]) => Promise<T>,
): Promise<T> {
  const made: ThrowAway[] = [];
  const { promise: interrupted, reject } = Promise.withResolvers<never>();
  interrupted.catch(() => {});
  const onSignal = () => reject(new ZenithError("unavailable", "interrupted"));
  for (const signal of ENDING) process.on(signal, onSignal);
  try {
    {
      using _progress = new Progress(points.length === 1 ? "making a branch" : "making branches");
      // One after the other: each sees which port the one before has.
      for (const point of points) made.push(await makeThrowAway(place, what, point));
      const started = await Promise.allSettled(made.map((one) => startToLook(place, one)));
      const failed = started.find((result) => result.status === "rejected");
      if (failed !== undefined) throw failed.reason;
    }
    return await Promise.race([look(made), interrupted]);
  } finally {
    for (const one of made) await removeThrowAway(place, one);
    for (const signal of ENDING) process.off(signal, onSignal);
  }
}
