/** Zenith's tenants, branches and computes in the shapes of Neon's API. */
import { formatLsn } from "../../common/lsn.ts";
import { parseDuration } from "../../common/duration.ts";
import type { TenantId } from "../../common/id.ts";
import { ZENITH_OWNER } from "../../pg_install/initdb.ts";
import type { KnownBranch } from "../state/directory.ts";
import type { KnownOperation } from "../state/operations.ts";
import type { KnownTenant } from "../state/tenants.ts";
import type { Branch } from "../work/branches.ts";
import { branchNameOf, type Compute, describe, hostOf, passwordOf, uriOf } from "../work/computes.ts";
import type { WorkContext } from "../work/context.ts";
import type { Database } from "../work/databases.ts";
import { defaultBranchOf } from "../work/tenants.ts";

export const REGION = "zenith-local";
export const ORGANIZATION = "org-zenith";
const CREATION_SOURCE = "console";

export function projectView(
  context: WorkContext,
  { tenant, name, createdAt, allowedIps }: KnownTenant,
  { major, pitrInterval }: { readonly major?: number; readonly pitrInterval?: string } = {},
) {
  return {
    id: tenant,
    name,
    platform_id: "zenith",
    region_id: REGION,
    provisioner: "zenith",
    org_id: ORGANIZATION,
    owner_id: ORGANIZATION,
    ...(major === undefined ? {} : { pg_version: major }),
    proxy_host: context.domain,
    store_passwords: true,
    history_retention_seconds: pitrInterval === undefined
      ? 0
      : Math.floor(parseDuration(pitrInterval) / 1_000),
    settings: { allowed_ips: { ips: [...allowedIps], protected_branches_only: false } },
    creation_source: CREATION_SOURCE,
    branch_logical_size_limit: 0,
    branch_logical_size_limit_bytes: 0,
    active_time: 0,
    cpu_used_sec: 0,
    created_at: createdAt,
    updated_at: createdAt,
  };
}

/** @param all the tenant's branches, among which the parent is looked for */
export function branchView(context: WorkContext, branch: Branch, all: readonly Branch[]) {
  const { known } = branch;
  const parent = all.find(({ timeline_id }) => timeline_id === branch.ancestor_id);
  const isDefault = branch.name === defaultBranchOf(context, known.tenant);
  return {
    id: known.id,
    project_id: known.tenant,
    name: branch.name,
    ...(parent === undefined ? {} : { parent_id: parent.known.id }),
    ...(branch.ancestor_lsn === null ? {} : { parent_lsn: formatLsn(branch.ancestor_lsn) }),
    current_state: "ready",
    state_changed_at: known.createdAt,
    ...(branch.logical_size_bytes === undefined ? {} : { logical_size: branch.logical_size_bytes }),
    creation_source: CREATION_SOURCE,
    primary: isDefault,
    default: isDefault,
    protected: branch.is_protected,
    init_source: "parent-data",
    cpu_used_sec: 0,
    compute_time_seconds: 0,
    active_time_seconds: 0,
    written_data_bytes: 0,
    data_transfer_bytes: 0,
    created_at: known.createdAt,
    updated_at: known.lastResetAt ?? known.createdAt,
    ...(branch.expires_at === null ? {} : { expires_at: branch.expires_at }),
    ...(known.lastResetAt === null ? {} : { last_reset_at: known.lastResetAt }),
  };
}

export function endpointView(
  context: WorkContext,
  known: KnownBranch,
  { state }: Compute = describe(context, known.tenant, branchNameOf(known)),
) {
  return {
    id: known.endpoint,
    host: hostAndPort(context, hostOf(context, known)),
    project_id: known.tenant,
    branch_id: known.id,
    type: "read_write",
    current_state: state === "awake" ? "active" : "idle",
    autoscaling_limit_min_cu: 1,
    autoscaling_limit_max_cu: 1,
    region_id: REGION,
    proxy_host: context.domain,
    settings: {},
    pooler_enabled: false,
    pooler_mode: "transaction",
    disabled: false,
    passwordless_access: false,
    suspend_timeout_seconds: known.suspendAfterMs === null
      ? 0
      : known.suspendAfterMs === 0
      ? -1
      : Math.round(known.suspendAfterMs / 1_000),
    provisioner: "zenith",
    creation_source: CREATION_SOURCE,
    created_at: known.createdAt,
    updated_at: known.createdAt,
  };
}

/** Clients make connection strings of it. */
function hostAndPort({ postgresPort }: WorkContext, host: string): string {
  return postgresPort === 5432 ? host : `${host}:${postgresPort}`;
}

export function databaseView({ name, owner }: Database, known: KnownBranch) {
  return {
    id: 0,
    branch_id: known.id,
    name,
    owner_name: owner,
    created_at: known.createdAt,
    updated_at: known.createdAt,
  };
}

export function roleView(name: string, known: KnownBranch, password?: string) {
  return {
    branch_id: known.id,
    name,
    ...(password === undefined ? {} : { password }),
    protected: name === ZENITH_OWNER,
    created_at: known.createdAt,
    updated_at: known.createdAt,
  };
}

export function operationView(tenant: TenantId, operation: KnownOperation) {
  return {
    id: operation.id,
    project_id: tenant,
    action: operation.action,
    status: operation.status,
    ...(operation.error === null ? {} : { error: operation.error }),
    failures_count: operation.status === "failed" ? 1 : 0,
    created_at: operation.createdAt,
    updated_at: operation.updatedAt,
    total_duration_ms: Date.parse(operation.updatedAt) - Date.parse(operation.createdAt),
  };
}

/** The connection string of a branch, in parts too. */
export function connectionView(
  context: WorkContext,
  known: KnownBranch,
  role: string = ZENITH_OWNER,
  database = "postgres",
) {
  return {
    connection_uri: uriOf(context, known, { role, database }),
    connection_parameters: {
      database,
      role,
      password: passwordOf(context, known, role) ?? "",
      host: hostAndPort(context, hostOf(context, known)),
      pooler_host: hostAndPort(context, hostOf(context, known, true)),
    },
  };
}
