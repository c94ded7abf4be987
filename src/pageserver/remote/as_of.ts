/** What a tenant was at a time, as far as the object store still has all of it. */
import { ZenithError } from "../../common/errors.ts";
import { type BranchName, branchOfFileName, type TenantId, type TimelineId } from "../../common/id.ts";
import { type Lsn, maxLsn } from "../../common/lsn.ts";
import { decodeBranchFile } from "../tenant/branch_file_format.ts";
import { TenantKeys } from "./keys.ts";
import type { Manifest } from "./manifest.ts";
import {
  isRemoved,
  readCurrentManifest,
  readRemoteState,
  type RemoteState,
  type StoreReader,
} from "./remote_state.ts";
import { DEFAULT_SEGMENT_BYTES, UploadedTenant } from "./uploaded_tenant.ts";

const BRANCHES = "branches/";

export interface BranchAsOf {
  readonly name: BranchName;
  readonly timelineId: TimelineId;
  /** Up to where it can be restored. */
  readonly endLsn: Lsn;
}

export interface TenantAsOf {
  readonly branches: readonly BranchAsOf[];
  /** When the newest object of it was written, by the store's clock, in milliseconds since 1970. */
  readonly newestMs: number;
}

/**
 * Looks whether a tenant can be restored as of a time, and at what it was then. Changes nothing.
 *
 * @param untilMs by the store's clock, in milliseconds since 1970
 * @throws {ZenithError} `not_found`; `out_of_range` when what it was is not all there any more;
 *   `corrupt_data`, and the store's errors
 */
export async function readTenantAsOf(
  store: StoreReader,
  tenantId: TenantId,
  nowMs: number,
  untilMs: number,
): Promise<TenantAsOf> {
  const found = await readRemoteState(store, tenantId, Infinity, nowMs, untilMs);
  if (found.manifest === null) {
    assertPresent(store, tenantId, await readCurrentManifest(store, tenantId));
    throw isRemoved("every manifest from before then, if there was one,", untilMs);
  }
  const uploaded = assertWhole(store, tenantId, found, nowMs, untilMs);
  const branches: BranchAsOf[] = [];
  for (const [path, bytes] of found.manifest.files) {
    const name = path.startsWith(BRANCHES) ? branchOfFileName(path.slice(BRANCHES.length)) : null;
    if (name === null) continue;
    const { timelineId } = decodeBranchFile(bytes, path);
    const layersEnd = uploaded.indexes.get(timelineId)?.metadata.diskConsistentLsn;
    if (layersEnd === undefined) continue;
    const endLsn = maxLsn(layersEnd as Lsn, uploaded.walOf(timelineId).endLsn);
    branches.push({ name, timelineId, endLsn });
  }
  return { branches, newestMs: found.newestMs };
}

/**
 * Asserts that the WAL of each timeline goes on from its layers, as it did when the manifest was
 * written.
 *
 * @param found as of `untilMs`
 * @throws {ZenithError} `not_found`, `out_of_range`
 */
export function assertWhole(
  store: StoreReader,
  tenantId: TenantId,
  found: RemoteState,
  nowMs: number,
  untilMs: number,
): UploadedTenant {
  const manifest = assertPresent(store, tenantId, found.manifest);
  const { generation } = manifest.version;
  const uploaded = new UploadedTenant(new TenantKeys(tenantId), generation + 1, found, nowMs);
  for (const id of manifest.timelines.keys()) {
    if (!uploaded.walContinues(id, DEFAULT_SEGMENT_BYTES)) throw isRemoved(`WAL of timeline ${id}`, untilMs);
  }
  return uploaded;
}

/** @throws {ZenithError} `not_found` */
export function assertPresent(store: StoreReader, tenantId: TenantId, manifest: Manifest | null): Manifest {
  if (manifest === null) {
    throw new ZenithError("not_found", `${store.url} has nothing of tenant ${tenantId}: no upload ended`);
  }
  if (!manifest.isDeleted) return manifest;
  const when = new Date(manifest.writtenMs).toISOString();
  throw new ZenithError("not_found", `tenant ${tenantId} was deleted at ${when}`);
}
