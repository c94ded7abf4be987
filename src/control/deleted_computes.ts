/**
 * Removes the computes of deleted branches. A branch is gone once the page server has deleted it;
 * what is left of it here can wait. A running Postgres is ended by its supervisor, which lives
 * longer than the command, and then removes the rest. If something kills it, the next `zenith
 * start`, `branch delete`, or compute of that name takes it up.
 */
import { existsSync, renameSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { computeOfFileName, isOwn } from "../common/compute_name.ts";
import { ioError, systemErrorCode, ZenithError } from "../common/errors.ts";
import { removeForeignTree } from "../common/foreign_directory.ts";
import { parseTenantId, type TenantId, type TimelineId } from "../common/id.ts";
import { type ComputePaths, removerOf } from "../common/paths.ts";
import { removeLazyStorage } from "../compute/lazy/remove_lazy_storage.ts";
import { computeIdentity, readComputeConf } from "../compute/postgres/postgres_conf.ts";
import {
  allComputePlaces,
  type ComputePlace,
  directoryNames,
  isDeleted,
  listDeletions,
  lockComputes,
  place,
  stopCompute,
  tenantsWithComputes,
} from "./compute_places.ts";
import { type Environment, loadEnvironment } from "./environment.ts";
import { PageServerClient } from "./page_server_client.ts";
import { deleteFromSafekeepers } from "./safekeepers.ts";
import { dropComputeTokens } from "./server_tokens.ts";
import { askToStop } from "./stop_process.ts";

/**
 * Notes that a compute's branch was deleted. From now on there is no such compute for anybody but
 * those who remove it. Not durable: {@link finishDeletions} asks the page server too.
 */
export function markDeleted({ paths }: ComputePlace): void {
  try {
    writeFileSync(paths.deleted, "");
  } catch (error) {
    // Somebody has removed it.
    if (systemErrorCode(error) !== "ENOENT") throw ioError("write", paths.deleted, error);
  }
}

/**
 * Has a marked compute removed. Returns at once when it runs: its supervisor does it.
 *
 * @returns a message for each problem at a safekeeper
 * @throws {ZenithError} `io`; `conflict` when it runs where it can't be seen
 */
export async function removeSoon(environment: Environment, compute: ComputePlace): Promise<string[]> {
  if (askToStop(`the Postgres of branch ${compute.name}`, compute.paths.pidFile)) return [];
  return await finishDeletion(environment, compute);
}

/**
 * Removes a marked compute; ends its Postgres first if it still runs.
 *
 * @returns as {@link removeSoon}
 * @throws as {@link removeSoon}, `timeout`
 */
export async function finishDeletion(environment: Environment, compute: ComputePlace): Promise<string[]> {
  const { paths } = compute;
  await stopCompute(compute, "immediate");
  // Its supervisor has removed it.
  if (!isDeleted(paths)) return [];
  if (existsSync(paths.pgdata)) {
    const { endOrphan } = await import("../compute/postgres/postgres_process.ts");
    await endOrphan(paths.pgdata);
  }
  const problems = await giveUpElsewhere(environment, compute);
  removeLazyStorage(paths);
  removeDirectory(environment, paths);
  return problems;
}

/**
 * The supervisor's part, after Postgres has ended, while the directory is still claimed.
 *
 * @returns removes the directory; another compute of that name may be made from then on
 * @throws {ZenithError} when something is left, which is taken up later
 */
export async function prepareRemoval(paths: ComputePaths): Promise<() => void> {
  const environment = loadEnvironment(paths.environmentRoot);
  const name = computeOfFileName(basename(paths.dir));
  if (name === null) return () => {};
  const tenant = parseTenantId(basename(dirname(paths.dir)));
  // A safekeeper that can't be reached keeps WAL that nobody needs, which "safekeeper prune" finds.
  await giveUpElsewhere(environment, place(tenant, name, paths));
  return () => removeDirectory(environment, paths);
}

/** Revokes its tokens, and removes its branch's WAL from the safekeepers if it has written any. */
async function giveUpElsewhere(environment: Environment, compute: ComputePlace): Promise<string[]> {
  const { tenant, paths } = compute;
  await dropComputeTokens(environment, paths);
  const timeline = isOwn(compute) ? timelineOf(paths) : undefined;
  return timeline === undefined ? [] : await deleteFromSafekeepers(environment, [{ tenant, timeline }]);
}

/** Returns undefined when its configuration is broken. */
function timelineOf(paths: ComputePaths): TimelineId | undefined {
  try {
    return computeIdentity(readComputeConf(paths), paths.config).timeline;
  } catch {
    return undefined;
  }
}

function removeDirectory(environment: Environment, paths: ComputePaths): void {
  const removed = paths.removed(process.pid);
  // A new compute may have the same name as soon as this one has lost it.
  const lock = lockComputes(environment);
  try {
    if (!isDeleted(paths)) return;
    renameSync(paths.dir, removed);
  } catch (error) {
    throw ioError("remove", paths.dir, error);
  } finally {
    lock.release();
  }
  removeForeignTree(removed);
}

/**
 * Takes up deletions that something has interrupted, of a branch that the page server has deleted.
 *
 * @returns the computes that were removed
 * @throws as {@link finishDeletion}
 */
export async function finishDeletions(
  environment: Environment,
  client: PageServerClient,
): Promise<ComputePlace[]> {
  await markUnmarked(environment, client);
  const finished = listDeletions(environment);
  for (const compute of finished) await finishDeletion(environment, compute);
  for (const tenant of tenantsWithComputes(environment)) removeLeftDirectories(environment, tenant);
  return finished;
}

/** Marks computes whose branch was deleted by a command that was killed before it could do that. */
async function markUnmarked(environment: Environment, client: PageServerClient): Promise<void> {
  const computes = allComputePlaces(environment);
  if (computes.length === 0) return;
  const deleted = new Set((await client.deletedList()).map(({ timeline_id }) => timeline_id));
  for (const compute of computes) {
    const timeline = timelineOf(compute.paths);
    if (timeline === undefined || !deleted.has(timeline)) continue;
    // A deletion that failed is on the list too.
    if (await isGone(client, compute.tenant, timeline)) markDeleted(compute);
  }
}

async function isGone(client: PageServerClient, tenant: TenantId, timeline: TimelineId): Promise<boolean> {
  try {
    await client.timelineHistory(tenant, timeline);
    return false;
  } catch (error) {
    if (error instanceof ZenithError && error.kind === "not_found") return true;
    throw error;
  }
}

/** Removes what was renamed, and not removed to its end. */
function removeLeftDirectories(environment: Environment, tenant: TenantId): void {
  const parent = environment.paths.computes(tenant);
  for (const name of directoryNames(parent)) {
    const pid = removerOf(name);
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) removeForeignTree(join(parent, name));
  }
}
