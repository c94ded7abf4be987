/** Notes in the object store that a tenant was deleted, and removes its objects after a while. */
import type { Disk } from "../../common/disk.ts";
import type { TenantId } from "../../common/id.ts";
import type { PageServerPaths } from "../../common/paths.ts";
import type { ObjectStore } from "../../object_store/object_store.ts";
import { Generations } from "./generations.ts";
import { TenantKeys } from "./keys.ts";
import { encodeManifest, readRemoteState } from "./remote_state.ts";

/**
 * Writes the manifest of a deleted tenant, or removes what is left when that was written long
 * enough ago. The generations stay, so that an old copy of the tenant can't begin anew.
 *
 * @returns whether nothing is left to do
 * @throws {ZenithError} `conflict` when another page server has taken the tenant over
 */
export async function buryTenant(
  store: ObjectStore,
  tenantId: TenantId,
  disk: Disk,
  paths: PageServerPaths,
  delayMs: number,
  nowMs: number,
): Promise<boolean> {
  const keys = new TenantKeys(tenantId);
  const before = await readRemoteState(store, tenantId, Infinity, nowMs);
  if (before.manifest?.isDeleted === true) {
    if (nowMs - before.manifest.writtenMs < delayMs) return false;
    await store.deleteMany(before.garbage.map(({ key }) => keys.folder + key));
    return true;
  }
  const generations = new Generations(store, tenantId, disk, paths.attachment(tenantId));
  const generation = await generations.next();
  const version = { generation, seq: 1 };
  const manifest = {
    tenantId,
    version,
    writtenMs: nowMs,
    isDeleted: true,
    timelines: new Map(),
    files: new Map(),
    garbage: [],
  };
  await generations.assertNewest(generation);
  await store.putIfAbsent(keys.manifest(version), encodeManifest(manifest));
  return false;
}
