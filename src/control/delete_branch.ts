/** Deletes a branch: its Postgres here, its data at the page server and the safekeepers. */
import { ZenithError } from "../common/errors.ts";
import type { BranchName, TenantId, TimelineId } from "../common/id.ts";
import { type ComputePlace, destroyCompute, findComputePlace, isUp, stopCompute } from "./computes.ts";
import type { Environment } from "./environment.ts";
import type { BranchInfo, PageServerClient } from "./page_server_client.ts";
import { deleteFromSafekeepers } from "./safekeepers.ts";

export interface GoingBranches {
  readonly tenant: TenantId;
  /** The branch, or the timeline whose branch file is damaged. */
  readonly name: BranchName | TimelineId;
  /** The branches to delete: the branch and its descendants, as far as they are known. */
  readonly branches: readonly BranchInfo[];
  /** Whether to delete descendants too. */
  readonly cascade: boolean;
  readonly timelines: readonly TimelineId[];
  readonly computes: readonly ComputePlace[];
}

/**
 * Stops the Postgres of each branch immediately, since its data is no longer wanted, then deletes
 * everything.
 *
 * @returns the names of the deleted branches, and a message for each problem at a safekeeper
 * @throws {ZenithError} `conflict` when a branch is protected or has descendants; nothing has been
 *   stopped then
 */
export async function deleteBranch(
  environment: Environment,
  client: PageServerClient,
  { tenant, name, branches, cascade, timelines, computes }: GoingBranches,
): Promise<{ readonly deleted: readonly string[]; readonly problems: readonly string[] }> {
  const running = computes.filter(isUp);
  if (running.length > 0) assertMayGo(branches, cascade);
  await Promise.all(running.map((compute) => stopCompute(compute, "immediate")));
  const deleted = await client.branchDelete(tenant, name, cascade);
  const names = timelines.map((timeline) => ({ tenant, timeline }));
  const removing = deleteFromSafekeepers(environment, names);
  try {
    for (const compute of computes) {
      await destroyCompute(environment, findComputePlace(environment, tenant, compute));
    }
  } finally {
    await removing;
  }
  return { deleted, problems: await removing };
}

/** Checks before Postgres is stopped. The page server would refuse too, but only after that. */
function assertMayGo(branches: readonly BranchInfo[], cascade: boolean): void {
  const kept = branches.find((branch) => branch.is_protected);
  if (kept !== undefined) {
    throw new ZenithError("conflict", `branch ${kept.name} is protected`, {
      hint: `"zenith branch unprotect ${kept.name}" takes that back`,
    });
  }
  const [branch, ...others] = branches;
  if (branch !== undefined && others.length > 0 && !cascade) {
    throw new ZenithError(
      "conflict",
      `other branches come from ${branch.name}: ${others.map(({ name }) => name).join(", ")}`,
      { hint: "--cascade deletes them too" },
    );
  }
}
