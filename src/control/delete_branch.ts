/** Deletes a branch: its data at the page server and the safekeepers, and its Postgres here. */
import type { BranchName, TenantId, TimelineId } from "../common/id.ts";
import { isOwn } from "../common/compute_name.ts";
import { isUp } from "./compute_places.ts";
import type { ComputeInfo } from "./computes.ts";
import { markDeleted, removeSoon } from "./deleted_computes.ts";
import type { Environment } from "./environment.ts";
import type { PageServerClient } from "./page_server_client.ts";
import { deleteFromSafekeepers } from "./safekeepers.ts";
import { assertStoppable } from "./stop_process.ts";

export interface GoingBranches {
  readonly tenant: TenantId;
  /** The branch, or the timeline whose branch file is damaged. */
  readonly name: BranchName | TimelineId;
  /** Whether to delete descendants too. */
  readonly cascade: boolean;
  /** Its timeline and those of its descendants, as far as they are known. */
  readonly timelines: readonly TimelineId[];
  /** Their computes. */
  readonly computes: readonly ComputeInfo[];
}

/**
 * Deletes a branch, whether a Postgres runs on it or not. When this returns, the branch is gone for
 * good and its name is free. Its Postgres, if it runs, ends after that.
 *
 * @returns the names of the deleted branches, and a message for each problem at a safekeeper
 * @throws {ZenithError} `conflict` when a branch is protected, has descendants, is used from
 *   elsewhere, or has a Postgres that can't be stopped from here; nothing has happened then
 */
export async function deleteBranch(
  environment: Environment,
  client: PageServerClient,
  { tenant, name, cascade, timelines, computes }: GoingBranches,
): Promise<{ readonly deleted: readonly string[]; readonly problems: readonly string[] }> {
  const running = computes.filter(isUp).length;
  for (const { name, paths } of computes) assertStoppable(`the Postgres of branch ${name}`, paths.pidFile);
  const deleted = await client.branchDelete(tenant, name, {
    cascade,
    ...(running > 0 ? { stopping: running } : {}),
  });
  computes.forEach(markDeleted);
  const written = new Set(computes.filter(isOwn).map(({ identity }) => identity.timeline));
  const others = timelines.filter((timeline) => !written.has(timeline)).map((timeline) => ({
    tenant,
    timeline,
  }));
  const problems = await Promise.all([
    others.length > 0 ? deleteFromSafekeepers(environment, others) : [],
    ...computes.map((compute) => removeSoon(environment, compute)),
  ]);
  return { deleted, problems: problems.flat() };
}
