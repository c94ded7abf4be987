/** Copies a branch to another page server, over the wire: an export whose tar is imported there. */
import { PassThrough } from "node:stream";
import type { BranchName, TenantId, TimelineId } from "../common/id.ts";
import type { Lsn } from "../common/lsn.ts";
import type { ServerAddress } from "../protocol/connect.ts";
import { readTar } from "./backup_tar.ts";
import { exportBranch } from "./export_branch.ts";
import { TarSink } from "./export_sink.ts";
import { importCluster, type ImportResult } from "./import_cluster.ts";

/** What is pushed. */
export interface PushedPoint {
  readonly tenant: TenantId;
  readonly timeline: TimelineId;
  readonly lsn: Lsn;
}

/**
 * Makes a new tenant at `to`, with one branch whose history begins at that point.
 *
 * @param files the configuration files
 * @param progress called with the number of bytes sent so far
 * @throws {ZenithError} the page servers' own errors. Nothing is left at `to` then
 */
export async function pushBranch(
  from: ServerAddress,
  point: PushedPoint,
  files: ReadonlyMap<string, Uint8Array>,
  to: ServerAddress,
  tenant: TenantId,
  branch: BranchName,
  progress: (bytes: number) => void,
): Promise<ImportResult> {
  const tar = new PassThrough();
  let failed: unknown;
  const exporting = exportBranch(from, point, files, new TarSink(tar), () => {}).then(
    () => void tar.end(),
    (error: unknown) => {
      // Once the import has failed, the export only says that nobody reads it.
      if (!tar.destroyed) failed = error;
      tar.destroy(error as Error);
    },
  );
  const source = { files: readTar(tar, "the branch"), checkedBy: "manifest" } as const;
  try {
    return await importCluster(to, tenant, branch, source, progress);
  } catch (error) {
    throw failed ?? error;
  } finally {
    tar.destroy();
    await exporting;
  }
}
