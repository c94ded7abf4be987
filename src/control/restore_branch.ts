/** Restores a branch, and takes its Postgres along. */
import { ZenithError } from "../common/errors.ts";
import { type BranchName, parseBranchName, type TenantId } from "../common/id.ts";
import type { Lsn } from "../common/lsn.ts";
import { type BranchPoint, formatBranchPoint } from "../common/moment.ts";
import { untilPointArrived } from "./branch_end.ts";
import {
  type ComputeInfo,
  isUp,
  listComputes,
  pointComputeTo,
  startCompute,
  stopCompute,
} from "./computes.ts";
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
 * @param before the branch as it is
 * @throws {ZenithError} `out_of_range`, `already_exists`; `conflict` when the branch is protected,
 *   or when what it is now is needed by others and nothing says how to keep it
 */
export async function restoreBranch(
  environment: Environment,
  client: PageServerClient,
  tenant: TenantId,
  before: BranchInfo,
  point: BranchPoint,
  { keepAs, onProgress }: RestoreOptions,
): Promise<Restored> {
  const name = parseBranchName(before.name);
  // The page server refuses too, but Postgres would have been stopped by then.
  if (before.is_protected) {
    throw new ZenithError("conflict", `branch ${name} is protected`, {
      hint: `"zenith branch unprotect ${name}" takes that back`,
    });
  }
  await untilPointArrived(client, tenant, point);
  const computes = listComputes(environment, tenant).filter(({ branch }) => branch === name);
  assertNotLookedAt(computes);
  const compute = computes.find(({ moment }) => moment === null);
  const ran = compute !== undefined && isUp(compute);
  if (ran) {
    onProgress(`stopping the Postgres of branch ${name}`);
    await stopCompute(compute, "fast", (words) => onProgress(`Postgres of branch ${name} ${words}`));
    // It may have committed until it stopped.
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
    restored = await client.branchRestore(tenant, name, formatBranchPoint(point), keepAs);
  } catch (error) {
    // It goes on where it was.
    if (compute !== undefined) await startAgain(compute, compute.readOnlyAt);
    throw error;
  }
  const { branch, deleted } = restored;
  const timelines = deleted.map((timeline) => ({ tenant, timeline }));
  const problems = timelines.length === 0 ? [] : await deleteFromSafekeepers(environment, timelines);
  if (compute !== undefined) await startAgain(pointComputeTo(compute, branch.timeline_id), null);
  return { branch, compute: ran ? compute : undefined, problems };
}

/** What a moment of the branch means is another afterwards. @throws {ZenithError} `conflict` */
function assertNotLookedAt(computes: readonly ComputeInfo[]): void {
  const names = computes.filter((compute) => compute.moment !== null && isUp(compute)).map(({ name }) =>
    name
  );
  if (names.length === 0) return;
  throw new ZenithError("conflict", `a Postgres looks at ${names.join(", ")}`, {
    hint: `stop it with "zenith pg stop ${names[0]}"`,
  });
}
