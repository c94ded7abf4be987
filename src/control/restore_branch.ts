/** Restores a branch and moves its Postgres to the restored timeline. */
import { isOwn } from "../common/compute_name.ts";
import { ZenithError } from "../common/errors.ts";
import { type BranchName, parseBranchName, type TenantId } from "../common/id.ts";
import type { Lsn } from "../common/lsn.ts";
import { type BranchPoint, formatBranchPoint } from "../common/moment.ts";
import { untilPointArrived } from "./branch_end.ts";
import { isUp, stopCompute } from "./compute_places.ts";
import { type ComputeInfo, listComputes, pointComputeTo, startCompute } from "./computes.ts";
import type { Environment } from "./environment.ts";
import type { BranchInfo, MaskFlags, PageServerClient } from "./page_server_client.ts";
import { deleteFromSafekeepers } from "./safekeepers.ts";

export interface RestoreOptions {
  /** The name under which to keep the branch's previous state; undefined deletes it. */
  readonly keepAs: BranchName | undefined;
  readonly maskFlags?: MaskFlags;
  readonly onProgress: (text: string) => void;
}

export interface Restored {
  readonly branch: BranchInfo;
  /** The Postgres that ran on the branch and now runs on the restored one. */
  readonly compute: ComputeInfo | undefined;
  /** Messages about safekeepers that could not delete the old timelines. */
  readonly problems: readonly string[];
}

/**
 * Restores a branch to `point`. Stops its Postgres during the restore and starts it again if it was
 * running. Postgres keeps its port and its configuration.
 *
 * @param before the branch as it is now
 * @throws {ZenithError} `out_of_range`, `already_exists`; `conflict` when the branch is protected,
 *   or when other branches need its current state and `keepAs` is undefined
 */
export async function restoreBranch(
  environment: Environment,
  client: PageServerClient,
  tenant: TenantId,
  before: BranchInfo,
  point: BranchPoint,
  { keepAs, maskFlags = {}, onProgress }: RestoreOptions,
): Promise<Restored> {
  const name = parseBranchName(before.name);
  // The page server would refuse too, but only after Postgres has been stopped.
  if (before.is_protected) {
    throw new ZenithError("conflict", `branch ${name} is protected`, {
      hint: `"zenith branch unprotect ${name}" takes that back`,
    });
  }
  await untilPointArrived(client, tenant, point);
  const computes = listComputes(environment, tenant).filter(({ branch }) => branch === name);
  assertNotLookedAt(computes);
  const compute = computes.find(isOwn);
  const ran = compute !== undefined && isUp(compute);
  if (ran) {
    onProgress(`stopping the Postgres of branch ${name}`);
    await stopCompute(compute, "fast", (words) => onProgress(`Postgres of branch ${name} ${words}`));
    // Postgres may have committed transactions until it stopped.
    if (point.moment.kind === "end") await untilPointArrived(client, tenant, point);
  }
  const startAgain = async (stopped: ComputeInfo, readOnlyAt: Lsn | null): Promise<void> => {
    if (!ran) return;
    onProgress("starting Postgres");
    await startCompute(environment, { ...stopped, status: "stopped" }, {
      ...(readOnlyAt === null ? {} : { readOnlyAt }),
      onProgress,
    });
  };
  let restored;
  try {
    restored = await client.branchRestore(tenant, name, formatBranchPoint(point), keepAs, maskFlags);
  } catch (error) {
    // The branch is unchanged, so Postgres continues where it was.
    if (compute !== undefined) await startAgain(compute, compute.readOnlyAt);
    throw error;
  }
  const { branch, deleted } = restored;
  const timelines = deleted.map((timeline) => ({ tenant, timeline }));
  const problems = timelines.length === 0 ? [] : await deleteFromSafekeepers(environment, timelines);
  if (compute !== undefined) await startAgain(pointComputeTo(compute, branch.timeline_id), null);
  return { branch, compute: ran ? compute : undefined, problems };
}

/**
 * A restore changes what a moment of the branch refers to, and what a replica has to follow.
 *
 * @throws {ZenithError} `conflict`
 */
function assertNotLookedAt(computes: readonly ComputeInfo[]): void {
  const names = computes.filter((compute) => !isOwn(compute) && isUp(compute)).map(({ name }) => name);
  if (names.length === 0) return;
  throw new ZenithError("conflict", `a Postgres looks at ${names.join(", ")}`, {
    hint: `stop it with "zenith pg stop ${names[0]}"`,
  });
}
