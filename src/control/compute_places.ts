/**
 * Where the computes of an environment are, and whether they run. Each has its own directory: a
 * branch has one, and so does each moment of its past that someone looks at.
 */
import { existsSync, mkdirSync, readdirSync, renameSync } from "node:fs";
import { type ComputeName, computeOfFileName, formatComputeName, ownName } from "../common/compute_name.ts";
import { ioError, systemErrorCode, ZenithError } from "../common/errors.ts";
import { removeForeignTree } from "../common/foreign_directory.ts";
import { type BranchName, isId, parseTenantId, type TenantId } from "../common/id.ts";
import type { ComputePaths } from "../common/paths.ts";
import { removeLazyStorage } from "../compute/lazy/remove_lazy_storage.ts";
import { STOPPING } from "../compute/orderly_stop.ts";
import { readConditions } from "../compute/postgres/conditions.ts";
import { type FileLock, lockFileWithin } from "../process/file_lock.ts";
import { checkPidFile, runsElsewhere } from "../process/pid_file.ts";
import type { Environment } from "./environment.ts";
import { lastErrorInLog } from "./log_file.ts";
import { dropComputeTokens } from "./server_tokens.ts";
import { type StopMode, stopProcess } from "./stop_process.ts";

/** `crashed`: its supervisor ended unexpectedly. */
export type ComputeStatus = "running" | "stopped" | "crashed" | "elsewhere";

const STOP_TIMEOUT_MS = 90_000;
/**
 * How long to wait for other processes that are creating computes. Many may do so at once, each in
 * its turn; the lock of one that ends is free at once.
 */
const CREATE_TIMEOUT_MS = 180_000;

/** Whether the compute runs, here or where its process can't be seen. */
export function isUp({ status }: { readonly status: ComputeStatus }): boolean {
  return status === "running" || status === "elsewhere";
}

/** A compute's state without its configuration, which the user may edit and may have broken. */
export interface ComputePlace extends ComputeName {
  /** The compute's name on a command line: `main`, `main@0/16B5A50` or `main@replica1`. */
  readonly name: string;
  readonly tenant: TenantId;
  readonly status: ComputeStatus;
  /** The supervisor's process id; null when the compute is not running. */
  readonly pid: number | null;
  readonly paths: ComputePaths;
}

/** @throws {ZenithError} `not_found` when the branch has no compute */
export function findComputePlace(
  environment: Environment,
  tenant: TenantId,
  name: BranchName | ComputeName,
): ComputePlace {
  const wanted = typeof name === "string" ? ownName(name) : name;
  const paths = environment.paths.compute(tenant, wanted);
  if (hasCompute(paths)) return place(tenant, wanted, paths);
  // A remote page server has its branches elsewhere.
  const { pageserver } = environment.paths;
  if (existsSync(pageserver.branches(tenant)) && !existsSync(pageserver.branch(tenant, wanted.branch))) {
    throw new ZenithError("not_found", `tenant ${tenant} has no branch ${wanted.branch}`, {
      hint: '"zenith branch" shows those there are',
    });
  }
  const shown = formatComputeName(wanted);
  throw new ZenithError("not_found", `branch ${shown} has no Postgres`, {
    hint: `make and start one with "zenith pg start ${shown}"`,
  });
}

/** Lists the computes of every tenant, without their configuration. */
export function allComputePlaces(environment: Environment): ComputePlace[] {
  return tenantsWithComputes(environment).flatMap((tenant) => listPlaces(environment, tenant));
}

/** The tenants that have or had a compute here. */
export function tenantsWithComputes({ paths }: Environment): TenantId[] {
  return directoryNames(paths.computeTenants).filter(isId).map(parseTenantId);
}

/** Lists a tenant's computes, ordered by name, without those of deleted branches. */
export function listPlaces(environment: Environment, tenant: TenantId): ComputePlace[] {
  return placesOf(environment, tenant, false);
}

/**
 * Lists the computes of deleted branches that are not removed yet: their Postgres has still to end,
 * or the process that was removing them was killed.
 */
export function listDeletedPlaces(environment: Environment, tenant: TenantId): ComputePlace[] {
  return placesOf(environment, tenant, true);
}

/** {@link listDeletedPlaces} of every tenant. */
export function listDeletions(environment: Environment): ComputePlace[] {
  return tenantsWithComputes(environment).flatMap((tenant) => listDeletedPlaces(environment, tenant));
}

function placesOf(environment: Environment, tenant: TenantId, deleted: boolean): ComputePlace[] {
  return directoryNames(environment.paths.computes(tenant))
    .map(computeOfFileName)
    .filter((name) => name !== null)
    .map((name) => ({ name, paths: environment.paths.compute(tenant, name) }))
    .filter(({ paths }) => isDeleted(paths) === deleted)
    .map(({ name, paths }) => place(tenant, name, paths));
}

/** Whether the branch of this compute was deleted, so that it is on its way out. */
export function isDeleted(paths: ComputePaths): boolean {
  return existsSync(paths.deleted);
}

/** Whether there is a compute, other than one that is on its way out. */
export function hasCompute(paths: ComputePaths): boolean {
  return existsSync(paths.dir) && !isDeleted(paths);
}

const STATUS_OF = {
  running: "running",
  stale: "crashed",
  absent: "stopped",
  elsewhere: "elsewhere",
} as const;

/** @throws {ZenithError} `conflict` when it runs, here or where it can't be seen */
export function assertNotRunning({ name, paths }: ComputePlace): void {
  const { state } = checkPidFile(paths.pidFile);
  if (state === "elsewhere") throw runsElsewhere(`the Postgres of branch ${name}`, paths.pidFile);
  if (state === "running") throw new ZenithError("conflict", `the Postgres of branch ${name} is running`);
}

export function place(tenant: TenantId, compute: ComputeName, paths: ComputePaths): ComputePlace {
  const pidFile = checkPidFile(paths.pidFile);
  return {
    ...compute,
    name: formatComputeName(compute),
    tenant,
    status: STATUS_OF[pidFile.state],
    pid: pidFile.state === "running" ? pidFile.process.pid : null,
    paths,
  };
}

/**
 * Stops a compute. A fast stop waits until everything that Postgres has written is durable; it
 * continues even after this function has timed out.
 *
 * @param onWait receives what the stop is waiting for
 * @returns whether it was running
 */
export async function stopCompute(
  compute: ComputePlace,
  mode: StopMode,
  onWait: (words: string) => void = () => {},
): Promise<boolean> {
  const waitsFor = (): string | undefined =>
    readConditions(compute.paths).find(({ text }) => text.startsWith(STOPPING))?.text;
  return await stopProcess({
    what: `the Postgres of branch ${compute.name}`,
    pidFile: compute.paths.pidFile,
    // Its supervisor may go on as a spare.
    untilReleased: true,
    mode,
    timeoutMs: STOP_TIMEOUT_MS,
    lastWords: () => waitsFor() ?? lastErrorInLog(compute.paths.log),
    onWait: () => {
      const words = waitsFor();
      if (words !== undefined) onWait(words);
    },
    hint:
      `it stops when that is over; "zenith pg stop ${compute.name} -m immediate" gives up what was committed with ` +
      "synchronous_commit = off and is not durable",
  });
}

/**
 * Removes a stopped compute and its configuration. The branch and its data stay on the page server.
 *
 * @throws {ZenithError} `conflict` when it runs, here or where it can't be seen
 */
export async function destroyCompute(environment: Environment, compute: ComputePlace): Promise<void> {
  assertNotRunning(compute);
  await dropComputeTokens(environment, compute.paths);
  removeLazyStorage(compute.paths);
  const { dir } = compute.paths;
  const removed = compute.paths.removed(process.pid);
  try {
    renameSync(dir, removed);
    removeForeignTree(removed);
  } catch (error) {
    // Another process has removed it.
    if (systemErrorCode(error) === "ENOENT" && !existsSync(dir)) return;
    throw ioError("remove", dir, error);
  }
}

/** Returns the names of the directories in `dir`, sorted. None when there is no such directory. */
export function directoryNames(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true }).filter((entry) => entry.isDirectory())
      .map((entry) => entry.name).sort();
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return [];
    throw ioError("read", dir, error);
  }
}

/**
 * Serializes what makes and removes computes, so that two can't take the same name or port, and a
 * new one is not taken for the one before it.
 */
export function lockComputes({ paths }: Environment): FileLock {
  try {
    mkdirSync(paths.computeTenants, { recursive: true });
  } catch (error) {
    throw ioError("create", paths.computeTenants, error);
  }
  const lock = lockFileWithin(paths.computesLock, CREATE_TIMEOUT_MS);
  if (lock !== null) return lock;
  throw new ZenithError(
    "timeout",
    `another "zenith pg create" is not done yet: ${paths.computesLock} is locked`,
  );
}
