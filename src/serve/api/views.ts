/** How tenants, branches and the rest look in the API's answers. */
import { formatDuration } from "../../common/duration.ts";
import type { TenantId, TimelineId } from "../../common/id.ts";
import { formatLsn } from "../../common/lsn.ts";
import type { ListedToken } from "../../control/tokens.ts";
import type { KnownOperation } from "../state/operations.ts";
import type { Branch } from "../work/branches.ts";
import { branchNameOf, type Compute, describe, describeMany, hostOf } from "../work/computes.ts";
import type { WorkContext } from "../work/context.ts";
import type { ComputeFigures } from "../work/figures.ts";
import { type Tenant, tenantHistory } from "../work/tenants.ts";

export async function tenantView(context: WorkContext, tenant: Tenant) {
  return {
    id: tenant.tenant,
    name: tenant.name,
    pg_version: tenant.major,
    created_at: tenant.createdAt,
    allowed_ips: [...tenant.allowedIps],
    history: await tenantHistory(context, tenant.tenant),
  };
}

export function computeView(
  context: WorkContext,
  { known }: Pick<Branch, "known">,
  compute = describe(context, known.tenant, branchNameOf(known)),
) {
  const { state, sessions, failure } = compute;
  return {
    state,
    sessions,
    host: hostOf(context, known),
    endpoint_id: known.endpoint,
    failure,
    suspend_after: known.suspendAfterMs === null ? null : formatDuration(known.suspendAfterMs),
  };
}

/**
 * How the branches of a tenant look.
 *
 * @param all among which parents are looked for
 */
export function branchViews(
  context: WorkContext,
  tenant: TenantId,
  all: readonly Branch[],
  shown: readonly Branch[],
) {
  const names = new Map(all.map(({ timeline_id, name }) => [timeline_id, name]));
  const computeOf = describeMany(context, tenant);
  return shown.map((branch) => branchView(context, branch, names, computeOf(branchNameOf(branch))));
}

/** @param names of branches by their timelines, among which the parent's is looked for */
export function branchView(
  context: WorkContext,
  branch: Branch,
  names: ReadonlyMap<TimelineId, string>,
  compute?: Compute,
) {
  return {
    id: branch.known.id,
    name: branch.name,
    timeline_id: branch.timeline_id,
    parent_timeline_id: branch.ancestor_id,
    parent_lsn: branch.ancestor_lsn === null ? null : formatLsn(branch.ancestor_lsn),
    parent_name: branch.ancestor_id === null ? null : names.get(branch.ancestor_id) ?? null,
    last_lsn: formatLsn(branch.latest_valid_lsn),
    created_at: branch.known.createdAt,
    expires_at: branch.expires_at,
    protected: branch.is_protected,
    logical_size_bytes: branch.logical_size_bytes ?? null,
    physical_size_bytes: branch.physical_size_bytes ?? null,
    compute: computeView(context, branch, compute),
  };
}

export function figuresView({ connections, flushLsn, ...found }: ComputeFigures) {
  return {
    transactions_total: found.transactions,
    blocks_hit_total: found.blocksHit,
    blocks_read_total: found.blocksRead,
    connections: {
      active: connections.active,
      idle: connections.idle,
      idle_in_transaction: connections.idleInTransaction,
      max: connections.max,
    },
    flush_lsn: formatLsn(flushLsn),
    lag_bytes: found.lagBytes,
    commit_wait_ms: found.commitWaitMs,
  };
}

export function operationView(operation: KnownOperation) {
  return {
    id: operation.id,
    tenant_id: operation.tenant,
    action: operation.action,
    branch: operation.branch,
    status: operation.status,
    progress: operation.progress,
    error: operation.error,
    created_at: operation.createdAt,
    updated_at: operation.updatedAt,
  };
}

/** @param seconds since 1970, as tokens have it */
export function timeOf(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}

export function tokenView({ claims, state }: ListedToken) {
  return {
    id: claims.jti,
    name: claims.sub,
    scope: claims.scope,
    tenant_id: claims.tenant ?? null,
    created_at: timeOf(claims.iat),
    expires_at: claims.exp === undefined ? null : timeOf(claims.exp),
    state,
  };
}
