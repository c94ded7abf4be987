/** Ensures that a Postgres runs on a branch, and reports that it does. */
import type { BranchName, TenantId } from "../../common/id.ts";
import { formatHostPort } from "../../common/host_port.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import { connectionUri } from "../../compute/postgres/postgres_conf.ts";
import { withPassword } from "../../compute/postgres/role_passwords.ts";
import { type ComputeInfo, findOrCreateCompute, startCompute } from "../../control/computes.ts";
import type { Environment } from "../../control/environment.ts";
import type { BranchInfo, PageServerClient } from "../../control/page_server_client.ts";
import { print, Progress } from "../cli/output.ts";

export type StartedHow = "started" | "started again" | "runs already";

/**
 * Starts the Postgres of a branch at the branch's end unless it runs; creates it when there is
 * none.
 *
 * @param branch called only when a compute has to be created
 * @throws {ZenithError} as {@link findOrCreateCompute} and {@link startCompute}
 */
export async function ensureStarted(
  environment: Environment,
  client: PageServerClient,
  tenant: TenantId,
  name: BranchName,
  branch: () => Promise<BranchInfo>,
): Promise<{ compute: ComputeInfo; how: StartedHow }> {
  using progress = new Progress("starting Postgres");
  const compute = await findOrCreateCompute(environment, client, tenant, name, branch);
  if (compute.status === "running") return { compute, how: "runs already" };
  await startCompute(environment, compute, { onProgress: (text) => progress.update(text) });
  return { compute, how: "started" };
}

export function printStarted(
  { config }: Environment,
  { name, tenant }: ComputeInfo,
  how: StartedHow,
  readOnlyAt?: Lsn,
): void {
  const at = readOnlyAt === undefined ? "" : `, read-only at ${formatLsn(readOnlyAt)}`;
  print(`Postgres of branch ${name} ${how}${at}`);
  const ofTenant = tenant === config.default_tenant_id ? "" : ` --tenantid ${tenant}`;
  print(`connect with: zenith psql ${name}${ofTenant}`);
}

/** Describes the Postgres for programs: docs/cli.md explains each key. */
export function startedJson(compute: ComputeInfo, readOnlyAt?: Lsn): Readonly<Record<string, unknown>> {
  return {
    tenant_id: compute.tenant,
    branch: compute.branch,
    name: compute.name,
    timeline_id: compute.identity.timeline,
    address: formatHostPort(compute.address),
    uri: connectionUri(compute.address, withPassword(compute.paths)),
    read_only_lsn: readOnlyAt === undefined ? null : formatLsn(readOnlyAt),
  };
}
