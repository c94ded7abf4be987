/**
 * Tells what those may do whose tokens are for masked branches alone. Whatever is not listed here
 * is not for them.
 */
import { isId, parseBranchName, parseTimelineId, type TenantId, type TimelineId } from "../../common/id.ts";
import { INVALID_LSN } from "../../common/lsn.ts";
import { ZenithError } from "../../common/errors.ts";
import type { Args, ArgValues, Operation } from "../../protocol/operation.ts";
import { PAGE_SERVER } from "../../protocol/management.ts";
import { parseStartPoint } from "../tenant/branch_files.ts";
import type { PageServer } from "./page_server.ts";

/** Operations that say nothing of a branch, or only of those that their caller may see. */
const OF_NO_BRANCH: ReadonlySet<Operation> = new Set<Operation>([
  PAGE_SERVER.tenantStatus,
  PAGE_SERVER.tenantLimits,
  PAGE_SERVER.branchList,
]);

/** Operations that change nothing of a timeline. A mask's own branch is there to be read. */
const READING: ReadonlySet<Operation> = new Set<Operation>([
  PAGE_SERVER.lsnAt,
  PAGE_SERVER.timelineHistory,
  PAGE_SERVER.changedBlocks,
  PAGE_SERVER.timelineLayers,
  PAGE_SERVER.pageVersions,
  PAGE_SERVER.timelineStatus,
  PAGE_SERVER.walTimelines,
  PAGE_SERVER.receiverStatus,
  PAGE_SERVER.timelineSettings,
  PAGE_SERVER.pagestream,
  PAGE_SERVER.basebackup,
  PAGE_SERVER.leaseLsn,
  PAGE_SERVER.leaseRelease,
]);

/** Operations of whoever runs a Postgres on a branch of the mask's branch. */
const WRITING: ReadonlySet<Operation> = new Set<Operation>([
  PAGE_SERVER.timelineSafekeepers,
  PAGE_SERVER.timelineSwitch,
  PAGE_SERVER.timelineSetSettings,
  PAGE_SERVER.timelineTakeSlots,
  PAGE_SERVER.timelineSetSlots,
  PAGE_SERVER.computeAttach,
  PAGE_SERVER.callmemaybe,
  PAGE_SERVER.doGc,
]);

/** Operations that change a branch. */
const CHANGING: ReadonlySet<Operation> = new Set<Operation>([
  PAGE_SERVER.branchRename,
  PAGE_SERVER.branchSetExpiry,
  PAGE_SERVER.branchProtect,
  PAGE_SERVER.branchDelete,
]);

/** What an operation's arguments may name. */
interface Names {
  readonly tenant: TenantId;
  readonly timeline?: TimelineId;
  readonly other_timeline?: TimelineId;
  readonly name?: string;
  readonly start?: string;
  readonly masked?: boolean;
  readonly unmasked?: boolean;
}

/**
 * @returns whether the operation, with these arguments, is for clients who may see what is masked.
 *   What does not exist is not masked
 */
export function isForMasked(
  server: PageServer,
  operation: Operation,
  args: ArgValues<Args>,
): Promise<boolean> {
  return unlessMissing(isFor(server, operation, args as unknown as Names));
}

/** Whether nothing can be read by way of a timeline that was before a mask. */
export function isTimelineMasked(
  server: PageServer,
  tenant: TenantId,
  timeline: TimelineId,
): Promise<boolean> {
  return unlessMissing(isMasked(server, tenant, timeline));
}

async function unlessMissing(isMasked: Promise<boolean>): Promise<boolean> {
  try {
    return await isMasked;
  } catch (error) {
    if (error instanceof ZenithError && error.kind === "not_found") return false;
    throw error;
  }
}

async function isFor(server: PageServer, operation: Operation, names: Names): Promise<boolean> {
  const { tenant, timeline, other_timeline: other } = names;
  if (OF_NO_BRANCH.has(operation)) return true;
  if (READING.has(operation)) {
    return await isMasked(server, tenant, timeline!) &&
      (other === undefined || await isMasked(server, tenant, other));
  }
  if (WRITING.has(operation)) return await isMasked(server, tenant, timeline!, true);
  if (CHANGING.has(operation)) return await isBranchMasked(server, tenant, names.name!, true);
  switch (operation) {
    case PAGE_SERVER.branchGet:
      return await isBranchMasked(server, tenant, names.name!);
    case PAGE_SERVER.branchCreate:
      return isPlain(names) && await isStartMasked(server, names);
    case PAGE_SERVER.branchRestore:
      return isPlain(names) && await isBranchMasked(server, tenant, names.name!, true) &&
        await isStartMasked(server, names);
    default:
      return false;
  }
}

/** Only who makes masks says what is masked. */
function isPlain({ masked, unmasked }: Names): boolean {
  return masked !== true && unmasked !== true;
}

async function isStartMasked(server: PageServer, { tenant, start }: Names): Promise<boolean> {
  const { branch, timelineId } = parseStartPoint(start!);
  return await isBranchMasked(server, tenant, (branch ?? timelineId)!);
}

/**
 * @param name a branch's name, or a timeline's id
 * @param isOthers whether the branch may not be a mask's own
 */
async function isBranchMasked(
  server: PageServer,
  tenant: TenantId,
  name: string,
  isOthers = false,
): Promise<boolean> {
  if (isId(name)) return await isMasked(server, tenant, parseTimelineId(name), isOthers);
  const { maskedFrom, beginsMasked } = await server.tenant(tenant).branches.get(parseBranchName(name));
  return maskedFrom !== null && !(isOthers && beginsMasked);
}

/**
 * As {@link isTimelineMasked}.
 *
 * @param isOthers whether it may not be the timeline that begins at the mask
 * @throws {ZenithError} `not_found`
 */
async function isMasked(
  server: PageServer,
  tenant: TenantId,
  timeline: TimelineId,
  isOthers = false,
): Promise<boolean> {
  using held = await server.tenant(tenant).timelines.hold(timeline, false);
  const { maskedFrom, beginsMasked } = held.value;
  return maskedFrom !== INVALID_LSN && !(isOthers && beginsMasked);
}
