/** Notes in the object store that a tenant was deleted, and removes its objects after a while. */
import type { Disk } from "../../common/disk.ts";
import { ZenithError } from "../../common/errors.ts";
import type { TenantId } from "../../common/id.ts";
import type { PageServerPaths } from "../../common/paths.ts";
import type { EncryptedStore } from "./encrypted_store.ts";
import { Generations } from "./generations.ts";
import { TenantKeys } from "./keys.ts";
import { encodeManifest, readRemoteState, type RemoteState } from "./remote_state.ts";

/**
 * Destroys the key of a deleted tenant and writes its last manifest, or removes what is left when
 * that was written long enough ago. The generations stay, so that an old copy of the tenant can't
 * begin anew.
 *
 * @returns whether nothing is left to do
 * @throws {ZenithError} `conflict` when another page server has taken the tenant over
 */
export async function buryTenant(
  store: EncryptedStore,
  tenantId: TenantId,
  disk: Disk,
  paths: PageServerPaths,
  delayMs: number,
  nowMs: number,
): Promise<boolean> {
  const keys = new TenantKeys(tenantId);
  const generations = new Generations(store, tenantId, disk, paths.attachment(tenantId));
  const before = await readUnlessDestroyed(store, tenantId, nowMs);
  if (before?.manifest?.isDeleted === true) {
    if (nowMs - before.manifest.writtenMs < delayMs) return false;
    // Somebody may be bringing it back.
    await generations.assertNewest(before.manifest.version.generation);
    await store.deleteMany(before.garbage.map(({ key }) => keys.folder + key));
    return true;
  }
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
  // First, so that this manifest can be read.
  await store.destroyKey(tenantId, generation, nowMs);
  await store.putIfAbsent(keys.manifest(version), encodeManifest(manifest));
  return false;
}

/** Returns null when a burial has ended between the key and the manifest. */
async function readUnlessDestroyed(
  store: EncryptedStore,
  tenantId: TenantId,
  nowMs: number,
): Promise<RemoteState | null> {
  try {
    return await readRemoteState(store, tenantId, Infinity, nowMs);
  } catch (error) {
    if (error instanceof ZenithError && error.kind === "not_found") return null;
    throw error;
  }
}
