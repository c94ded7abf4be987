/** All computes of a tenant, when it is to leave this environment. */
import { rmSync } from "node:fs";
import { ZenithError } from "../common/errors.ts";
import type { TenantId } from "../common/id.ts";
import { type ComputePlace, destroyCompute, isUp, listDeletedPlaces } from "./compute_places.ts";
import { listComputes } from "./computes.ts";
import { finishDeletion } from "./deleted_computes.ts";
import type { Environment } from "./environment.ts";

/** @throws {ZenithError} `conflict` when one of them runs */
export function stoppedComputes(environment: Environment, tenant: TenantId): ComputePlace[] {
  const computes = listComputes(environment, tenant);
  const running = computes.filter(isUp).map(({ name }) => name);
  if (running.length === 0) return computes;
  throw new ZenithError("conflict", `a Postgres runs on ${running.join(", ")} of tenant ${tenant}`, {
    hint: `stop it with "zenith pg stop ${running[0]} --tenantid ${tenant}"`,
  });
}

/** Removes a tenant's computes, and the passwords that they share. @throws as `destroyCompute` */
export async function removeComputes(
  environment: Environment,
  tenant: TenantId,
  computes: readonly ComputePlace[],
): Promise<void> {
  for (const compute of computes) await destroyCompute(environment, compute);
  for (const compute of listDeletedPlaces(environment, tenant)) await finishDeletion(environment, compute);
  rmSync(environment.paths.pgpass(tenant), { force: true });
}
