/** What an object store has of all tenants, whoever uses them. */
import { ZenithError } from "../../common/errors.ts";
import { isIdFileName, parseTenantId, type TenantId } from "../../common/id.ts";
import { listAll, type ListPage, type ObjectStore } from "../../object_store/object_store.ts";
import { tenantFolder, TENANTS_FOLDER } from "./keys.ts";
import { readCurrentManifest } from "./remote_state.ts";

/** Lists the tenants that a store has something of. @throws {ZenithError} the store's errors */
export async function storedTenants(store: Pick<ObjectStore, "list">): Promise<TenantId[]> {
  const tenants: TenantId[] = [];
  let from: string | null = null;
  do {
    const page: ListPage = await store.list(TENANTS_FOLDER, {
      shallow: true,
      ...(from === null ? {} : { from }),
    });
    for (const folder of page.folders) {
      const name = folder.slice(TENANTS_FOLDER.length, -1);
      if (isIdFileName(name)) tenants.push(parseTenantId(name));
    }
    from = page.next;
  } while (from !== null);
  return tenants;
}

export interface StoredTenant {
  readonly bytes: number;
  /** When its newest object was written, by the store's clock, in milliseconds since 1970. */
  readonly newestMs: number;
  /** When it was deleted on purpose, in milliseconds since 1970. Null when it was not. */
  readonly deletedMs: number | null;
  /** Why what it is can't be read. Null when it can. */
  readonly problem: string | null;
}

/** Looks at what a store has of a tenant, without taking it over. @throws the store's errors */
export async function storedTenant(store: ObjectStore, tenantId: TenantId): Promise<StoredTenant> {
  let [bytes, newestMs] = [0, 0];
  for await (const { sizeBytes, modifiedMs } of listAll(store, tenantFolder(tenantId))) {
    bytes += sizeBytes;
    newestMs = Math.max(newestMs, modifiedMs);
  }
  try {
    const manifest = await readCurrentManifest(store, tenantId);
    const deletedMs = manifest?.isDeleted === true ? manifest.writtenMs : null;
    return { bytes, newestMs, deletedMs, problem: manifest === null ? "no upload ended" : null };
  } catch (error) {
    if (!(error instanceof ZenithError)) throw error;
    return { bytes, newestMs, deletedMs: null, problem: error.message };
  }
}
