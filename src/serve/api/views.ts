/** How tenants, branches and the rest look in the API's answers. */
import { formatDuration } from "../../common/duration.ts";
import { formatLsn } from "../../common/lsn.ts";
import type { ListedToken } from "../../control/tokens.ts";
import type { KnownOperation } from "../state/operations.ts";
import type { Branch } from "../work/branches.ts";
import { branchNameOf, describe, hostOf } from "../work/computes.ts";
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

export function computeView(context: WorkContext, { known }: Pick<Branch, "known">) {
  const { state, sessions, failure } = describe(context, known.tenant, branchNameOf(known));
  return {
    state,
    sessions,
    host: hostOf(context, known),
    endpoint_id: known.endpoint,
    failure,
    suspend_after: known.suspendAfterMs === null ? null : formatDuration(known.suspendAfterMs),
  };
}

/** @param others the tenant's branches, among which the parent is looked for */
export function branchView(context: WorkContext, branch: Branch, others: readonly Branch[]) {
  return {
    id: branch.known.id,
    name: branch.name,
    timeline_id: branch.timeline_id,
    parent_timeline_id: branch.ancestor_id,
    parent_lsn: branch.ancestor_lsn === null ? null : formatLsn(branch.ancestor_lsn),
    parent_name: others.find(({ timeline_id }) => timeline_id === branch.ancestor_id)?.name ?? null,
    last_lsn: formatLsn(branch.latest_valid_lsn),
    created_at: branch.known.createdAt,
    expires_at: branch.expires_at,
    protected: branch.is_protected,
    logical_size_bytes: branch.logical_size_bytes ?? null,
    physical_size_bytes: branch.physical_size_bytes ?? null,
    compute: computeView(context, branch),
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
