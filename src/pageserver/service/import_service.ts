/** Receives the files of a cluster that becomes a tenant. */
import { join } from "node:path";
import { openArchive } from "../../archive/open_archive.ts";
import type { ArchiveLocation } from "../../common/archive_location.ts";
import { ZenithError } from "../../common/errors.ts";
import type { BranchName, TenantId } from "../../common/id.ts";
import { formatLsn } from "../../common/lsn.ts";
import { FOLLOW_FILE } from "../../common/paths.ts";
import type { CopyBoth } from "../../pgwire/copy_both.ts";
import type { Session } from "../../pgwire/session.ts";
import type { ImportedClusterJson } from "../../protocol/management.ts";
import type { ImportedCluster, TenantImport } from "../tenant/import_tenant.ts";
import { openRepository } from "../timeline/mounted_backup.ts";
import { followFile, type FollowSource } from "../timeline/follow_state.ts";
import type { PageServer } from "./page_server.ts";
import type { Transfer } from "./transfers.ts";

/**
 * Serves `tenant_import`. The import ends with the session, and leaves nothing behind unless it has
 * succeeded.
 *
 * @param archive what the branch follows from then on; undefined for nothing
 * @throws {ZenithError} as {@link PageServer.beginImport} and {@link TenantImport.finish};
 *   `unavailable` when the client leaves
 */
export async function receiveImport(
  server: PageServer,
  session: Session,
  tenant: TenantId,
  branch: BranchName,
  archive: ArchiveLocation | undefined,
): Promise<void> {
  const { signal } = session;
  // A mistake in it is told before gigabytes are sent.
  if (archive !== undefined) await (await openArchive(archive)).histories();
  const about = { kind: "import", tenant, branch, estimatedBytes: null } as const;
  await server.transfers.run({ ...about, peer: session.remoteAddress }, async (transfer) => {
    const run = await server.beginImport(tenant, branch);
    try {
      const copy = session.copyBoth();
      const streaming = await receive(copy, run, transfer, session.remoteAddress);
      transfer.beginWal();
      const imported = await finishFollowing(server, run, tenant, archive, signal);
      copy.send(new TextEncoder().encode(JSON.stringify(importedJson(imported))));
      copy.end();
      await streaming.ended;
    } catch (error) {
      await server.abortImport(tenant, run);
      throw error;
    }
  });
}

/**
 * Serves `follow_mount`: a tenant from a backup whose pages are read when they are needed.
 *
 * @param label of the backup
 * @throws {ZenithError} as {@link receiveImport}; `conflict` when the tenant would be uploaded
 */
export async function mountBackup(
  server: PageServer,
  tenant: TenantId,
  branch: BranchName,
  location: ArchiveLocation,
  label: string,
  signal: AbortSignal,
): Promise<ImportedCluster> {
  if (server.hasObjectStore) {
    throw new ZenithError(
      "conflict",
      "this page server uploads its tenants, and a backup that is not copied can't be",
      {
        hint: "leave out --lazy: the backup is copied first",
      },
    );
  }
  const repository = openRepository(location);
  const run = await server.beginImport(tenant, branch, true);
  try {
    await run.mount(repository, location, label, signal);
    return await finishFollowing(server, run, tenant, location, signal);
  } catch (error) {
    await server.abortImport(tenant, run);
    throw error;
  }
}

/** Completes an import, and follows an archive from then on. */
async function finishFollowing(
  server: PageServer,
  run: TenantImport,
  tenant: TenantId,
  archive: ArchiveLocation | undefined,
  signal: AbortSignal,
): Promise<ImportedCluster> {
  const imported = await server.finishImport(tenant, run, signal, async ({ tli }) => {
    if (archive === undefined) return;
    const source: FollowSource = { kind: "archive", location: archive };
    const state = { source, slot: null, tli, maxSlotBytes: 0, isStopped: false };
    await followFile(server.disk, join(run.directory, FOLLOW_FILE)).write(state);
  });
  server.followers.begin(tenant, imported.timelineId);
  return imported;
}

/** Resolves when all files have come. `ended` resolves when the stream is over. */
async function receive(
  copy: CopyBoth,
  run: TenantImport,
  transfer: Transfer,
  client: string,
): Promise<{ readonly ended: Promise<void> }> {
  let ended = Promise.resolve();
  await new Promise<void>((resolve, reject) => {
    ended = copy.run({
      onData(bytes, off, len) {
        run.push(bytes.subarray(off, off + len));
        transfer.count(len);
        if (!run.congested) return;
        copy.pause();
        run.ready().then(() => copy.resume(), reject);
      },
      onEnd: () => resolve(),
    });
    ended.then(
      () => reject(new ZenithError("unavailable", `client ${client} went away during the import`)),
      reject,
    );
  });
  return { ended };
}

/** Converts a result to its wire form. */
export function importedJson(imported: ImportedCluster): ImportedClusterJson {
  return {
    tenant_id: imported.tenantId,
    timeline_id: imported.timelineId,
    pg_version: imported.pgMajor,
    system_id: String(imported.systemIdentifier),
    history_begins_lsn: formatLsn(imported.beginsAt),
    latest_valid_lsn: formatLsn(imported.endsAt),
    imported_bytes: imported.bytes,
  };
}
