/** Restores a branch, and takes its Postgres along. */
import { ZenithError } from "../common/errors.ts";
import type { BranchName, TenantId } from "../common/id.ts";
import { type BranchPoint, formatBranchPoint } from "../common/moment.ts";
import { untilPointArrived } from "./branch_end.ts";
import { type ComputeInfo, listComputes, pointComputeTo, startCompute, stopCompute } from "./computes.ts";
import type { Environment } from "./environment.ts";
import type { BranchInfo, PageServerClient } from "./page_server_client.ts";
import { deleteFromSafekeepers } from "./safekeepers.ts";

export interface RestoreOptions {
  /** The name of what the branch was; that is deleted when undefined. */
  readonly keepAs: BranchName | undefined;
  readonly onProgress: (text: string) => void;
}

export interface Restored {
  readonly branch: BranchInfo;
  /** The Postgres that ran on the branch, and runs on the new start now. */
  readonly compute: ComputeInfo | undefined;
  /** Safekeepers that could not be told what was deleted. */
  readonly problems: readonly string[];
}

/**
 * Makes a branch start anew at `point`. Its Postgres is stopped meanwhile, keeps its port and its
 * configuration, and is started again if it ran.
 *
 * @throws {ZenithError} `not_found`, `out_of_range`, `already_exists`; `conflict` when the branch
 *   is
 *   protected, or when what it is now is needed by others and nothing says how to keep it
 */
export async function restoreBranch(
  environment: Environment,
  client: PageServerClient,
  tenant: TenantId,
  name: BranchName,
  point: BranchPoint,
  { keepAs, onProgress }: RestoreOptions,
): Promise<Restored> {
  const before = await client.branch(tenant, name);
  if (before.is_protected) {
    throw new ZenithError("conflict", `branch ${name} is protected`, {
      hint: `"zenith branch unprotect ${name}" takes that back`,
    });
  }
  await untilPointArrived(client, tenant, point);
  const compute = listComputes(environment, tenant).find(({ branch }) => branch === name);
  const ran = compute?.status === "running";
  if (ran) {
    onProgress(`stopping the Postgres of branch ${name}`);
    await stopCompute(compute, "fast", (words) => onProgress(`Postgres of branch ${name} ${words}`));
    // It may have committed until it stopped.
    if (point.moment.kind === "end") await untilPointArrived(client, tenant, point);
  }
  let branch = before;
  const problems: string[] = [];
  try {
    const restored = await client.branchRestore(tenant, name, formatBranchPoint(point), keepAs);
    branch = restored.branch;
    const timelines = restored.deleted.map((timeline) => ({ tenant, timeline }));
    if (timelines.length > 0) problems.push(...await deleteFromSafekeepers(environment, timelines));
  } finally {
    // After a refusal it continues where it was.
    if (compute !== undefined) await goOn(environment, compute, branch, ran, onProgress);
  }
  return { branch, compute: ran ? compute : undefined, problems };
}

async function goOn(
  environment: Environment,
  compute: ComputeInfo,
  branch: BranchInfo,
  start: boolean,
  onProgress: (text: string) => void,
): Promise<void> {
  const stopped = { ...compute, status: "stopped" as const };
  const pointed = compute.identity.timeline === branch.timeline_id
    ? stopped
    : pointComputeTo(stopped, branch.timeline_id);
  if (!start) return;
  onProgress("starting Postgres");
  await startCompute(environment, { ...pointed, status: "stopped" }, {
    ...(compute.readOnlyAt === null || pointed !== stopped ? {} : { readOnlyAt: compute.readOnlyAt }),
    onProgress,
  });
}
