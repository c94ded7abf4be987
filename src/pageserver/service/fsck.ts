/**
 * Checks a page server's data at rest: every file of every timeline, and that everything that
 * timelines and branches refer to exists.
 */
import { basename, join, resolve } from "node:path";
import type { DataCheck } from "../../common/data_check.ts";
import { type Disk, TEMPORARY_SUFFIX } from "../../common/disk.ts";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { isId, parseTenantId, type TenantId } from "../../common/id.ts";
import { DELETED_SUFFIX, PageServerPaths, TENANT_IN_PROGRESS_SUFFIX } from "../../common/paths.ts";
import { checkTimeline, isTimelineDirectory, readMetadata } from "../../pagestore/mod.ts";
import { BranchFiles } from "../tenant/branch_files.ts";
import { decodeTimelineInfo } from "../timeline/timeline_info.ts";
import { remoteLayerNumbers } from "../timeline/remote_layer_list.ts";
import { checkTimelineWal } from "./fsck_wal.ts";

/**
 * Reads everything below `dir`. Nobody may write there meanwhile.
 *
 * @param dir a page server's working directory, or a tenant or timeline in it
 * @throws {ZenithError} `not_found` when it is none of these
 */
export async function* checkData(disk: Disk, dir: string): AsyncGenerator<DataCheck> {
  const path = resolve(dir);
  const { tenants } = new PageServerPaths(path);
  if (isTimelineDirectory(disk, path)) yield await timelineCheck(disk, path);
  else if (disk.statSync(tenants) !== null) yield* serverChecks(disk, new PageServerPaths(path));
  else if (isId(basename(path)) && disk.statSync(join(path, "timelines")) !== null) {
    yield* tenantChecks(disk, new PageServerPaths(join(path, "../..")), parseTenantId(basename(path)));
  } else {
    throw new ZenithError("not_found", `there are no data of a page server in ${path}`, {
      hint: "name an environment's directory, one of tenants/<id> in it, or one of timelines/<id> below",
    });
  }
}

async function* serverChecks(disk: Disk, paths: PageServerPaths): AsyncGenerator<DataCheck> {
  const names = disk.readdirSync(paths.tenants);
  for (const name of names.filter(isId)) yield* tenantChecks(disk, paths, parseTenantId(name));
  yield {
    path: paths.tenants,
    counts: null,
    walBytes: null,
    problems: [],
    strays: leftOver(paths.tenants, names),
  };
}

async function* tenantChecks(
  disk: Disk,
  paths: PageServerPaths,
  tenant: TenantId,
): AsyncGenerator<DataCheck> {
  const timelines = paths.timelines(tenant);
  const names = disk.readdirSync(timelines);
  for (const name of names.filter(isId)) yield await timelineCheck(disk, join(timelines, name));
  const problems = [...ancestorProblems(disk, timelines, names), ...branchProblems(disk, paths, tenant)];
  const branches = paths.branches(tenant);
  const strays = [...leftOver(timelines, names), ...leftOver(branches, disk.readdirSync(branches))];
  yield { path: paths.tenant(tenant), counts: null, walBytes: null, problems, strays };
}

async function timelineCheck(disk: Disk, path: string): Promise<DataCheck> {
  try {
    const { problems, strays, ...counts } = checkTimeline(disk, path, remoteLayerNumbers(disk, path));
    const wal = await checkTimelineWal(disk, path);
    return { path, counts, walBytes: wal.bytes, problems: [...problems, ...wal.problems], strays };
  } catch (error) {
    return { path, counts: null, walBytes: null, problems: [errorMessage(error)], strays: [] };
  }
}

/** Unreadable metadata has been reported with its timeline. */
function ancestorProblems(disk: Disk, timelines: string, names: readonly string[]): string[] {
  return names.filter(isId).flatMap((name) => {
    const directory = join(timelines, name);
    try {
      const { ancestorId } = decodeTimelineInfo(readMetadata(disk, directory).userData, directory);
      if (ancestorId === null || names.includes(ancestorId)) return [];
      return [`timeline ${name} is a branch of timeline ${ancestorId}, which is not there`];
    } catch {
      return [];
    }
  });
}

function branchProblems(disk: Disk, paths: PageServerPaths, tenant: TenantId): string[] {
  const problems: string[] = [];
  try {
    for (const { name, timelineId } of new BranchFiles(disk, paths, tenant).list()) {
      if (!isTimelineDirectory(disk, paths.timeline(tenant, timelineId))) {
        problems.push(`branch ${name} names timeline ${timelineId}, which is not there`);
      }
    }
  } catch (error) {
    problems.push(errorMessage(error));
  }
  return problems;
}

function leftOver(directory: string, names: readonly string[]): string[] {
  const suffixes = [DELETED_SUFFIX, TENANT_IN_PROGRESS_SUFFIX, TEMPORARY_SUFFIX];
  return names.filter((name) => suffixes.some((suffix) => name.endsWith(suffix)))
    .map((name) => join(directory, name));
}
