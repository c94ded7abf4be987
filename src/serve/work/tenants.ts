/** What can be done with tenants. */
import { BlockList } from "node:net";
import { generateTenantId, type TenantId } from "../../common/id.ts";
import { deleteFromSafekeepers } from "../../control/safekeepers.ts";
import { removeComputes, stoppedComputes } from "../../control/tenant_computes.ts";
import type { ClusterOptions } from "../../pg_install/initdb.ts";
import type { TenantConfig } from "../../control/page_server_client.ts";
import { allComputePlaces, isUp } from "../../control/compute_places.ts";
import { addEntry } from "../state/ip_list.ts";
import type { KnownTenant } from "../state/tenants.ts";
import { type Branch, listBranches } from "./branches.ts";
import { withPageServer, type WorkContext } from "./context.ts";

export interface Tenant extends KnownTenant {
  readonly major: number;
}

export async function listTenants(context: WorkContext): Promise<KnownTenant[]> {
  const ids = await withPageServer(context, (client) => client.tenantList());
  return ids.map((tenant) => context.tenants.get(tenant));
}

/** @throws {ZenithError} `not_found` */
export async function findTenant(context: WorkContext, tenant: TenantId): Promise<Tenant> {
  const major = await withPageServer(context, (client) => client.tenantMajor(tenant));
  return { ...context.tenants.get(tenant), major };
}

export interface NewTenant {
  readonly id?: TenantId | undefined;
  readonly name?: string | undefined;
  readonly major?: number | undefined;
  readonly cluster?: ClusterOptions;
}

export async function createTenant(
  context: WorkContext,
  { id = generateTenantId(), name, major, cluster = {} }: NewTenant,
): Promise<Tenant> {
  await withPageServer(context, (client) => client.tenantCreate(id, major, cluster));
  context.tenants.get(id, name);
  return await findTenant(context, id);
}

export async function tenantHistory(context: WorkContext, tenant: TenantId): Promise<TenantConfig> {
  return await withPageServer(context, (client) => client.tenantConfig(tenant));
}

export async function setTenantHistory(
  context: WorkContext,
  tenant: TenantId,
  changes: { gcHorizonBytes?: number; pitrIntervalMs?: number },
): Promise<TenantConfig> {
  return await withPageServer(context, (client) => client.tenantConfig(tenant, changes));
}

/** @throws {ZenithError} `invalid_argument` unless all of them are addresses, networks or ranges */
export function checkAllowedIps(allowed: readonly string[]): void {
  const list = new BlockList();
  for (const entry of allowed) addEntry(list, entry);
}

/** The branch for clients that name none. */
export function defaultBranchOf(context: WorkContext, tenant: TenantId): string {
  return context.tenants.get(tenant).defaultBranch ?? "main";
}

/** Deletes a tenant with all that it has, its running computes too. */
export async function removeTenant(context: WorkContext, tenant: TenantId): Promise<void> {
  const branches: Branch[] = await listBranches(context, tenant);
  const environment = context.environment();
  for (const place of allComputePlaces(environment)) {
    if (place.tenant === tenant && isUp(place)) await context.fleet.stop(tenant, place, "immediate");
  }
  const computes = stoppedComputes(environment, tenant);
  await withPageServer(context, (client) => client.tenantDelete(tenant));
  await removeComputes(environment, tenant, computes);
  const timelines = branches.map(({ timeline_id: timeline }) => ({ tenant, timeline }));
  for (const problem of await deleteFromSafekeepers(environment, timelines, tenant)) {
    context.log.warn(problem, { tenant });
  }
  context.fleet.forget(tenant);
  context.directory.forgetTenant(tenant);
}
