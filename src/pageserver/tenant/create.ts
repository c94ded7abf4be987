/** Creates a tenant. */
import { join } from "node:path";
import { ZenithError } from "../../common/errors.ts";
import { generateTimelineId, parseBranchName, type TenantId } from "../../common/id.ts";
import { formatLsn } from "../../common/lsn.ts";
import { TimelineStore } from "../../pagestore/mod.ts";
import { encodeBranchFile } from "./branch_file_format.ts";
import { firstPosition, importCluster, readClusterEnd } from "../ingest/import_cluster.ts";
import { storeOptions, type TenantContext } from "./context.ts";
import { encodeTimelineInfo } from "../timeline/timeline_info.ts";

/** The first branch of every tenant. */
const MAIN_BRANCH = parseBranchName("main");

/**
 * Creates a tenant with a `main` branch from a data directory that initdb has made. The tenant
 * appears complete or not at all.
 *
 * @throws {ZenithError} `already_exists`
 */
export async function createTenant(
  id: TenantId,
  context: TenantContext,
  initdbDirectory: string,
): Promise<void> {
  const { disk, paths } = context;
  const final = paths.tenant(id);
  if (disk.statSync(final) !== null) {
    throw new ZenithError("already_exists", `repo for ${id} already exists`);
  }
  const workdir = paths.tenantInProgress(id);
  disk.mkdirsSync(paths.tenants);
  await disk.removeTree(workdir);
  disk.mkdirSync(workdir);
  disk.mkdirSync(join(workdir, "branches"));
  disk.mkdirSync(join(workdir, "timelines"));

  const timelineId = generateTimelineId();
  const end = readClusterEnd(disk, initdbDirectory);
  const store = await TimelineStore.create(join(workdir, "timelines", timelineId), {
    ...storeOptions(context, end.pg),
    startLsn: end.checkpointLsn,
    userData: encodeTimelineInfo({
      ancestorId: null,
      walStartLsn: firstPosition(end),
      pgMajor: end.pg.major,
      beginsMasked: false,
      awaitsBackup: false,
    }),
  });
  await importCluster(disk, initdbDirectory, end, store);
  await store.flush();
  await store.close();
  const branch = disk.openSync(join(workdir, "branches", MAIN_BRANCH), "createNew");
  const content = encodeBranchFile({ timelineId, expiresMs: null, isProtected: false, requiresMask: false });
  branch.writeSync(content, 0, content.length, 0);
  await branch.fsync();
  branch.closeSync();
  for (const directory of ["branches", "timelines", "."]) await disk.fsyncDir(join(workdir, directory));
  disk.renameSync(workdir, final);
  try {
    await disk.fsyncDir(paths.tenants);
  } catch (error) {
    // Nobody was told that the tenant exists, so it must not block a second attempt.
    disk.renameSync(final, workdir);
    throw error;
  }
  context.logger.info("tenant created", {
    tenant: id,
    timeline: timelineId,
    lsn: formatLsn(end.endLsn),
    postgres: end.pg.major,
  });
}
