/** Throw-away branches: a command creates one with its Postgres, and removes it afterwards. */
import { randomBytes } from "node:crypto";
import { parseBranchName, type TenantId } from "../../common/id.ts";
import { type BranchPoint, formatBranchPoint, parseBranchPoint } from "../../common/moment.ts";
import { untilPointArrived } from "../../control/branch_end.ts";
import { findComputePlace } from "../../control/compute_places.ts";
import { type ComputeInfo, createCompute, startCompute } from "../../control/computes.ts";
import { deleteBranch } from "../../control/delete_branch.ts";
import type { Environment } from "../../control/environment.ts";
import type { BranchInfo, PageServerClient } from "../../control/page_server_client.ts";
import { randomFirstPort } from "../../control/ports.ts";
import { Interruption } from "../cli/interruption.ts";
import { Progress } from "../cli/output.ts";
import { warnAboutSafekeeper } from "../safekeeper/prune.ts";

/** If the command is killed, the branch expires after this time. */
const LIFETIME_MS = 86_400_000;

export interface ThrowAway {
  readonly branch: BranchInfo;
  readonly compute: ComputeInfo;
}

/** The tenant whose branches to use, and its environment. */
export interface Place {
  readonly environment: Environment;
  readonly client: PageServerClient;
  readonly tenant: TenantId;
}

/**
 * Parses `branch@moment` and waits until the page server has all WAL up to that point.
 *
 * @throws {ZenithError} as {@link parseBranchPoint} and {@link untilPointArrived}
 */
export async function arrivedPoint({ client, tenant }: Place, start: string): Promise<BranchPoint> {
  const point = parseBranchPoint(start);
  await untilPointArrived(client, tenant, point);
  return point;
}

/** @param what the first word of the branch's name */
export async function makeThrowAway(place: Place, what: string, point: BranchPoint): Promise<ThrowAway> {
  const { environment, client, tenant } = place;
  const name = parseBranchName(`${what}-${randomBytes(6).toString("hex")}`);
  const branch = await client.branchCreate(tenant, name, formatBranchPoint(point), LIFETIME_MS);
  try {
    const firstPort = randomFirstPort();
    return { branch, compute: await createCompute(environment, client, tenant, branch, { firstPort }) };
  } catch (error) {
    await client.branchDelete(tenant, name);
    throw error;
  }
}

/**
 * Starts the Postgres read-only, so that nothing changes on the branch or connects from it.
 *
 * @param prewarm whether it fetches the pages that its list of hot pages names
 */
export async function startToLook(
  { environment }: Place,
  { branch, compute }: ThrowAway,
  prewarm: boolean,
): Promise<void> {
  await startCompute(environment, compute, { readOnlyAt: branch.latest_valid_lsn, prewarm });
}

/** Removes a throw-away branch. Its data is not wanted, so its Postgres is stopped immediately. */
export async function removeThrowAway(place: Place, { branch, compute }: ThrowAway): Promise<void> {
  const { environment, client, tenant } = place;
  using _progress = new Progress("removing the branch");
  const name = parseBranchName(branch.name);
  const { problems } = await deleteBranch(environment, client, {
    tenant,
    name,
    cascade: false,
    timelines: [branch.timeline_id],
    computes: [{ ...compute, ...findComputePlace(environment, tenant, name) }],
  });
  for (const problem of problems) warnAboutSafekeeper(problem);
}

/** How things are when a command that makes throw-away branches is interrupted. */
export const NOTHING_LEFT = "what it made is removed";

/**
 * Creates throw-away branches at these points, each with a read-only Postgres, and runs `look` on
 * them. Removes them afterwards, also when a signal interrupts `look`.
 *
 * @param expectPages called before they start; returns whether each has a list of pages to fetch
 * @throws whatever `look` throws; a {@link Interruption}'s error after a signal
 */
export async function lookAt<T>(
  place: Place,
  what: string,
  points: readonly BranchPoint[],
  look: (made: readonly ThrowAway[]) => Promise<T>,
  expectPages: (made: readonly ThrowAway[]) => Promise<boolean> = () => Promise.resolve(false),
): Promise<T> {
  const made: ThrowAway[] = [];
  using interruption = new Interruption(NOTHING_LEFT);
  try {
    {
      using _progress = new Progress(points.length === 1 ? "making a branch" : "making branches");
      // One at a time, so that each sees the ports of those before it.
      for (const point of points) made.push(await makeThrowAway(place, what, point));
      const prewarm = await expectPages(made);
      const started = await Promise.allSettled(made.map((one) => startToLook(place, one, prewarm)));
      const failed = started.find((result) => result.status === "rejected");
      if (failed !== undefined) throw failed.reason;
    }
    interruption.throwIfAsked();
    return await interruption.unlessAsked(look(made));
  } finally {
    for (const one of made) await removeThrowAway(place, one);
  }
}
