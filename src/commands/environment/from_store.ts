/** Makes an environment's tenants from an object store, for `zenith init --from`. */
import { nodeDisk } from "../../common/disk.ts";
import { ZenithError } from "../../common/errors.ts";
import { forEachOf } from "../../common/for_each_of.ts";
import type { TenantId } from "../../common/id.ts";
import type { PageServerPaths } from "../../common/paths.ts";
import type { ObjectStore } from "../../object_store/object_store.ts";
import { restoreTenant } from "../../pageserver/remote/restore.ts";
import { storedTenants } from "../../pageserver/remote/stored_tenants.ts";
import { formatBytes, print, Progress } from "../cli/output.ts";

/** How many tenants are restored at the same time. */
const TENANTS_AT_ONCE = 8;

/** @throws {ZenithError} `not_found` when the store has none, or not the one that is asked for */
export async function chooseStoredTenants(
  store: ObjectStore,
  asked: TenantId | undefined,
): Promise<{ readonly all: readonly TenantId[]; readonly first: TenantId }> {
  const all = await storedTenants(store);
  const first = asked ?? all[0];
  if (first === undefined) {
    throw new ZenithError("not_found", `${store.url} has no tenants`, {
      hint: 'check the prefix; "zenith init --object-store" makes a new environment with a store',
    });
  }
  if (!all.includes(first)) throw new ZenithError("not_found", `${store.url} has no tenant ${first}`);
  return { all, first };
}

/**
 * Restores tenants, and says for each up to when. Those that were deleted are left out.
 *
 * @throws {ZenithError} as `restoreTenant`
 */
export async function restoreTenants(
  store: ObjectStore,
  paths: PageServerPaths,
  tenants: readonly TenantId[],
  first: TenantId,
): Promise<void> {
  using progress = new Progress("restoring tenants");
  await forEachOf(tenants, TENANTS_AT_ONCE, async (tenantId) => {
    progress.update(`restoring tenant ${tenantId}`);
    try {
      const restored = await restoreTenant({
        store,
        tenantId,
        disk: nodeDisk,
        paths,
        nowMs: Date.now(),
      });
      const until = new Date(restored.newestMs).toISOString();
      print(
        `restored tenant ${tenantId} up to ${until}; ${formatBytes(restored.bytes)} come as they are read`,
      );
    } catch (error) {
      const isGone = error instanceof ZenithError && error.kind === "not_found";
      if (!isGone || tenantId === first) throw error;
    }
  });
}
