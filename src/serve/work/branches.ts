/** What can be done with branches, and the computes that go along. */
import { ZenithError } from "../../common/errors.ts";
import {
  type BranchName,
  parseBranchName,
  parseBranchOrTimeline,
  type TenantId,
  type TimelineId,
} from "../../common/id.ts";
import type { Lsn } from "../../common/lsn.ts";
import { type BranchPoint, formatBranchPoint, type Moment, parseBranchPoint } from "../../common/moment.ts";
import { untilPointArrived } from "../../control/branch_end.ts";
import { listComputes } from "../../control/computes.ts";
import { deleteBranch } from "../../control/delete_branch.ts";
import type { BranchInfo } from "../../control/page_server_client.ts";
import { restoreBranch } from "../../control/restore_branch.ts";
import type { KnownBranch } from "../state/directory.ts";
import { BRANCH_ID } from "../state/names.ts";
import { withPageServer, type WorkContext } from "./context.ts";

/** A branch: what the page server says of it, and the ids by which the outside knows it. */
export interface Branch extends BranchInfo {
  readonly known: KnownBranch;
}

/** All branches of a tenant. @throws {ZenithError} `not_found` */
export async function listBranches(context: WorkContext, tenant: TenantId): Promise<Branch[]> {
  const listed = await withPageServer(context, (client) => client.branchList(tenant));
  const known = context.directory.sync(tenant, listed);
  return listed.map((branch, i) => ({ ...branch, known: known[i]! }));
}

/**
 * Finds a branch by its name or its id.
 *
 * @throws {ZenithError} `not_found`
 */
export async function findBranch(context: WorkContext, tenant: TenantId, text: string): Promise<Branch> {
  if (BRANCH_ID.test(text)) {
    const found = context.directory.byId(text);
    // It may have another name by now, or be gone.
    const branch = found === undefined || found.tenant !== tenant
      ? undefined
      : (await listBranches(context, tenant)).find(({ known }) => known.id === text);
    if (branch !== undefined) return branch;
    throw new ZenithError("not_found", `tenant ${tenant} has no branch ${text}`);
  }
  const name = parseBranchName(text);
  const info = await withPageServer(
    context,
    (client) => client.branch(tenant, name, "GET …/branches lists them"),
  );
  return { ...info, known: context.directory.note(tenant, info) };
}

export interface NewBranch {
  readonly name: BranchName;
  readonly start: BranchPoint;
  /** Undefined for one that never expires. */
  readonly lifetimeMs?: number | undefined;
}

export async function createBranch(
  context: WorkContext,
  tenant: TenantId,
  { name, start, lifetimeMs }: NewBranch,
): Promise<Branch> {
  return await withPageServer(context, async (client) => {
    // What was acknowledged before the request is on the branch.
    await untilPointArrived(client, tenant, start);
    const info = await client.branchCreate(tenant, name, formatBranchPoint(start), lifetimeMs);
    if (info.ancestor_id !== null) context.passwords.inherit(tenant, info.ancestor_id, info.timeline_id);
    return { ...info, known: context.directory.note(tenant, info) };
  });
}

/** Reads `main`, `main@-5m`, or the same with a branch's id. @throws {ZenithError} */
export function parsePoint(context: WorkContext, tenant: TenantId, text: string): BranchPoint {
  const point = parseBranchPoint(text);
  const known = context.directory.byId(point.name);
  if (known !== undefined && known.tenant === tenant) return { ...point, name: known.name };
  // It becomes a word of a command.
  return { ...point, name: parseBranchOrTimeline(point.name) };
}

export async function renameBranch(context: WorkContext, tenant: TenantId, branch: Branch, to: BranchName) {
  const from = parseBranchName(branch.name);
  await context.fleet.endUnusedMoments(tenant, from);
  await context.fleet.alone(tenant, from, async () => {
    const running = listComputes(context.environment(), tenant).some((compute) =>
      compute.branch === from && compute.status === "running"
    );
    if (running) {
      throw new ZenithError("conflict", `the Postgres of branch ${from} is running`, {
        hint: "stop it first",
      });
    }
    await withPageServer(context, (client) => client.branchRename(tenant, from, to));
    context.directory.rename(tenant, from, to);
  });
  context.fleet.forget(tenant, from);
  return await findBranch(context, tenant, to);
}

export interface BranchChanges {
  readonly isProtected?: boolean | undefined;
  /** Null for one that never expires. */
  readonly lifetimeMs?: number | null | undefined;
}

/** Changes what is not undefined. */
export async function changeBranch(
  context: WorkContext,
  tenant: TenantId,
  name: BranchName,
  { isProtected, lifetimeMs }: BranchChanges,
): Promise<void> {
  await withPageServer(context, async (client) => {
    // A branch that is protected can't expire.
    if (isProtected === false) await client.branchProtect(tenant, name, false);
    if (lifetimeMs !== undefined) await client.branchSetExpiry(tenant, name, lifetimeMs ?? undefined);
    if (isProtected === true) await client.branchProtect(tenant, name, true);
  });
}

export interface Restore {
  readonly point: BranchPoint;
  readonly keepAs: BranchName | undefined;
  readonly progress: (text: string) => void;
}

/** Puts a branch to another point. Its compute goes on there, if it ran. */
export async function restore(
  context: WorkContext,
  tenant: TenantId,
  branch: Branch,
  { point, keepAs, progress }: Restore,
): Promise<Branch> {
  const name = parseBranchName(branch.name);
  await context.fleet.endUnusedMoments(tenant, name);
  return await context.fleet.alone(
    tenant,
    name,
    () =>
      withPageServer(context, async (client, environment) => {
        const restored = await restoreBranch(environment, client, tenant, branch, point, {
          keepAs,
          onProgress: progress,
        });
        for (const problem of restored.problems) context.log.warn(problem, { tenant });
        const { branch: info } = restored;
        if (info.ancestor_id !== null) context.passwords.inherit(tenant, info.ancestor_id, info.timeline_id);
        const known = context.directory.note(tenant, info);
        context.directory.noteReset(known.id);
        // The state before has a name of its own now, and an id.
        if (keepAs !== undefined) {
          context.directory.note(tenant, { name: keepAs, timeline_id: branch.timeline_id });
        }
        return { ...info, known: context.directory.byName(tenant, name)! };
      }),
  );
}

/**
 * Where a branch comes from, at its end.
 *
 * @throws {ZenithError} `conflict` when it comes from none
 */
export function parentPoint(branch: Branch): BranchPoint {
  if (branch.ancestor_id !== null) return { name: branch.ancestor_id, moment: { kind: "end" } };
  throw new ZenithError("conflict", `branch ${branch.name} comes from no other: it began with its tenant`);
}

/**
 * Deletes a branch, its computes, and with `cascade` those that come from it.
 *
 * @returns their names
 */
export async function removeBranch(
  context: WorkContext,
  tenant: TenantId,
  branch: Branch,
  cascade: boolean,
): Promise<readonly string[]> {
  const name = parseBranchName(branch.name);
  return await context.fleet.alone(
    tenant,
    name,
    () =>
      withPageServer(context, async (client, environment) => {
        const all = await client.branchList(tenant);
        const going = descendants(all, branch.timeline_id);
        const { deleted, problems } = await deleteBranch(environment, client, {
          tenant,
          name,
          cascade,
          timelines: [...going],
          computes: listComputes(environment, tenant).filter(({ identity }) => going.has(identity.timeline)),
        });
        for (const problem of problems) context.log.warn(problem, { tenant });
        for (const gone of deleted) {
          context.directory.forget(tenant, gone);
          context.fleet.forget(tenant, parseBranchName(gone));
        }
        return deleted;
      }),
  );
}

/** A timeline and all that come from it, itself first. */
function descendants(branches: readonly BranchInfo[], root: TimelineId): Set<TimelineId> {
  const found = new Set([root]);
  // Iteration over a set also visits elements that are added meanwhile.
  for (const timeline of found) {
    for (const branch of branches) if (branch.ancestor_id === timeline) found.add(branch.timeline_id);
  }
  return found;
}

/** The moment of an LSN or a time; the end without either. */
export function momentOf(lsn: Lsn | undefined, timestamp: number | undefined): Moment {
  if (lsn !== undefined) return { kind: "lsn", lsn };
  return timestamp === undefined ? { kind: "end" } : { kind: "time", timestamp };
}
