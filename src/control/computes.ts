/**
 * Manages the computes of an environment. Each has its own directory: a branch has one, and so does
 * each moment of its past that someone looks at.
 */
import { existsSync, mkdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { type DaemonReady, startDaemon } from "../process/daemon.ts";
import { ioError, systemErrorCode, withIoErrors, ZenithError } from "../common/errors.ts";
import { removeForeignTree } from "../common/foreign_directory.ts";
import { formatHostPort, type HostPort } from "../common/host_port.ts";
import { type BranchName, parseBranchName, type TenantId, type TimelineId } from "../common/id.ts";
import { type ComputeName, formatComputeName, isOwn } from "../common/compute_name.ts";
import { formatLsn, type Lsn } from "../common/lsn.ts";
import { formatMaskFile, type MaskFile } from "../common/mask_file.ts";
import type { ComputePaths } from "../common/paths.ts";
import { checkPidFile } from "../process/pid_file.ts";
import type { SpareAhead } from "../process/spare_ahead.ts";
import { isCompiled } from "../process/worker_url.ts";
import {
  assertUsable,
  clientHost,
  type ComputeIdentity,
  computeIdentity,
  initialComputeConf,
  readComputeConf,
  readOnlyLsn,
  readSettings,
  setTimeline,
} from "../compute/postgres/postgres_conf.ts";
import { withSetting, writeSettingsFiles } from "../compute/postgres/settings_files.ts";
import { writeSettingsBase } from "../compute/settings_sync.ts";
import { computeUser } from "../compute/postgres/compute_user.ts";
import type { StorageChoice } from "../compute/storage.ts";
import { quorumOf } from "../consensus/quorum.ts";
import { makeOwnedDirectory } from "../pg_install/pg_user.ts";
import type { SettingsFiles } from "../protocol/branch_settings.ts";
import {
  allComputePlaces,
  assertNotRunning,
  type ComputePlace,
  findComputePlace,
  hasCompute,
  isDeleted,
  isUp,
  listDeletedPlaces,
  listDeletions,
  listPlaces,
  lockComputes,
  place,
  tenantsWithComputes,
} from "./compute_places.ts";
import { authorityFile, type Environment, pageServerAddress } from "./environment.ts";
import { forgetStart, noteFailedStart, noteStart } from "./last_start.ts";
import { findSettings, type SettingChange } from "./inherited_settings.ts";
import type { BranchInfo, PageServerClient } from "./page_server_client.ts";
import { otherEnvironments, serverPorts } from "./known_environments.ts";
import { allocatePort, computePortRange, whyNotFree } from "./ports.ts";
import { listSafekeepers } from "./safekeepers.ts";
import { ensureComputeToken } from "./server_tokens.ts";
import { inStartQueue } from "./start_queue.ts";
import { supervisorsAhead } from "./spare_supervisors.ts";
import { giveTenantUser } from "./tenant_users.ts";

export interface ComputeInfo extends ComputePlace {
  readonly address: HostPort;
  readonly identity: ComputeIdentity;
  /**
   * The LSN that a read-only compute looks at. Null for a branch's own compute that is not running
   * or that continues from the end of its branch.
   */
  readonly readOnlyAt: Lsn | null;
}

/** Long, because a large database takes time to fetch. */
const START_TIMEOUT_MS = 3_600_000;
/** The listen_addresses of a new Postgres. */
const LISTEN_DEFAULT = "127.0.0.1";

export interface CreateComputeOptions {
  /** The moment to look at; null for the branch's own compute, and for a replica. */
  readonly moment?: Lsn | null;
  /** The replica's number; null for a compute that is none. */
  readonly replica?: number | null;
  /** When undefined, the first free one of the ports of computes, from `firstPort` up. */
  readonly port?: number | undefined;
  /** Defaults to the first of them. */
  readonly firstPort?: number;
  /**
   * Its listen_addresses. A compute beside the branch's own defaults to those of the branch's own.
   */
  readonly listen?: string;
  /** Whether the branch may be one that requires a mask. */
  readonly unmasked?: boolean;
  /** Settings that override the branch's. */
  readonly changes?: readonly SettingChange[];
  /** Receives a note for each setting that differs from the parent branch's. */
  readonly onNote?: (text: string) => void;
}

/**
 * Creates a compute's directory and configuration. Starting it fetches the data.
 *
 * @throws {ZenithError} `already_exists` when the branch already has one, `conflict` when the port
 *   belongs to another compute or the branch requires a mask
 */
export async function createCompute(
  environment: Environment,
  client: PageServerClient,
  tenant: TenantId,
  branch: BranchInfo,
  options: CreateComputeOptions = {},
): Promise<ComputeInfo> {
  const { moment = null, replica = null, port, firstPort, listen, changes = [], onNote } = options;
  if (branch.requires_mask && options.unmasked !== true) {
    throw new ZenithError("conflict", `branch ${branch.name} is to be seen by its mask alone`, {
      hint: `start a Postgres on the masked branch; "zenith branch mask" makes one`,
    });
  }
  const name = { branch: parseBranchName(branch.name), moment, replica };
  const paths = environment.paths.compute(tenant, name);
  const found = await findSettings(client, tenant, branch);
  let files: SettingsFiles = found.files;
  for (const [setting, value] of changes) files = withSetting(files, setting, value);
  for (const note of found.notes) onNote?.(note);
  // The branch before of that name is deleted, but its Postgres may still be ending.
  if (isDeleted(paths)) {
    const { finishDeletion } = await import("./deleted_computes.ts");
    await finishDeletion(environment, place(tenant, name, paths));
  }
  const lock = lockComputes(environment);
  try {
    if (existsSync(paths.dir)) throw alreadyExists(name);
    giveUser(environment, tenant);
    const own = writtenPorts(environment);
    if (port !== undefined && own.includes(port)) {
      throw new ZenithError("conflict", `port ${port} belongs to another Postgres of this environment`);
    }
    makeCompute(environment, paths, name, {
      tenant,
      timeline: branch.timeline_id,
      pageServer: pageServerAddress(environment),
      // A compute that looks at the past neither writes WAL nor receives any.
      walAcceptors: moment === null ? listSafekeepers(environment).map(({ address }) => address) : [],
      port: port ?? await choosePort(environment, own, firstPort),
    }, {
      listen: listen ??
        (isOwn(name) ? undefined : listenOf(environment.paths.compute(tenant, name.branch))) ??
        LISTEN_DEFAULT,
      files,
      base: found.hash,
    });
  } finally {
    lock.release();
  }
  return describeCompute(place(tenant, name, paths));
}

/** @param own those of this environment's computes */
async function choosePort(environment: Environment, own: readonly number[], from?: number): Promise<number> {
  const range = computePortRange();
  const taken = new Set([...own, ...portsOfOtherEnvironments(environment.paths.root)]);
  return await allocatePort(taken, { ...range, first: from ?? range.first });
}

/** Gives the tenant a user of its own. The caller holds the lock. */
function giveUser(environment: Environment, tenant: TenantId): void {
  const runs = (): boolean =>
    [...listPlaces(environment, tenant), ...listDeletedPlaces(environment, tenant)].some(isUp);
  giveTenantUser(environment, tenant, () => tenantsWithComputes(environment), runs);
}

/** The listen_addresses of the branch's own compute; undefined when there is none here. */
function listenOf(own: ComputePaths): string | undefined {
  return existsSync(configurationFile(own)) ? readComputeConf(own).get("listen_addresses") : undefined;
}

function alreadyExists(name: ComputeName): ZenithError {
  const shown = formatComputeName(name);
  return new ZenithError("already_exists", `branch ${shown} has a Postgres already`, {
    hint: `start it with "zenith pg start ${shown}"`,
  });
}

function makeCompute(
  environment: Environment,
  paths: ComputePaths,
  name: ComputeName,
  identity: ComputeIdentity,
  { listen, files, base }: {
    readonly listen: string;
    readonly files: SettingsFiles;
    readonly base: string | undefined;
  },
): void {
  const user = computeUser(paths);
  const made = environment.paths.computeInProgress(identity.tenant, name, process.pid);
  try {
    mkdirSync(made.dir, { recursive: true, mode: 0o755 });
    writeFileSync(made.config, initialComputeConf(identity, paths.socketDir, listen));
    makeOwnedDirectory(made.pgdata, user);
    writeSettingsFiles(made.pgdata, files, user);
    if (base !== undefined) writeSettingsBase(made, base);
    // The rename makes listings see the directory complete or not at all.
    renameSync(made.dir, paths.dir);
  } catch (error) {
    removeForeignTree(made.dir);
    // Two creations can collide here where files can't be locked.
    if (["ENOTEMPTY", "EEXIST"].includes(systemErrorCode(error) ?? "")) throw alreadyExists(name);
    if (error instanceof ZenithError) throw error;
    throw ioError("create", paths.dir, error);
  }
}

/**
 * Every tenant's computes. One whose configuration is gone is left out, so that it doesn't keep
 * others from being created.
 */
function configuredPlaces(environment: Environment): ComputePlace[] {
  return [...allComputePlaces(environment), ...listDeletions(environment)]
    .filter(({ paths }) => existsSync(configurationFile(paths)));
}

/**
 * The ports of this user's other environments: of their servers and of their computes, whether they
 * run or not.
 *
 * @param root where the environment is that a port is looked for
 */
export function portsOfOtherEnvironments(root: string): Set<number> {
  const ports = otherEnvironments(root).flatMap((other) => {
    try {
      return [...serverPorts(other), ...writtenPorts(other)];
    } catch (error) {
      // What is wrong with another environment is to be said there.
      if (error instanceof ZenithError) return serverPorts(other);
      throw error;
    }
  });
  return new Set(ports);
}

/** The ports of every tenant's computes, without a look at the rest of their configuration. */
function writtenPorts(environment: Environment): number[] {
  return configuredPlaces(environment)
    .map(({ paths }) => Number(readComputeConf(paths).get("port")))
    .filter(Number.isInteger);
}

function configurationFile({ pgdata }: ComputePaths): string {
  return join(pgdata, "postgresql.conf");
}

/**
 * @throws {ZenithError} `not_found` when the branch has no compute, `invalid_argument` when its
 *   configuration is wrong
 */
export function findCompute(
  environment: Environment,
  tenant: TenantId,
  name: BranchName | ComputeName,
): ComputeInfo {
  return describeCompute(findComputePlace(environment, tenant, name));
}

/**
 * Finds the compute of a branch; creates it when there is none yet.
 *
 * @param branch called only when a compute has to be created
 * @param options for a compute that is created
 * @throws {ZenithError} as {@link createCompute} and {@link findCompute}, and what `branch` throws
 */
export async function findOrCreateCompute(
  environment: Environment,
  client: PageServerClient,
  tenant: TenantId,
  name: BranchName,
  branch: () => Promise<BranchInfo>,
  options: CreateComputeOptions = {},
): Promise<ComputeInfo> {
  const { moment = null, replica = null } = options;
  const wanted = { branch: name, moment, replica };
  if (!hasCompute(environment.paths.compute(tenant, wanted))) {
    const info = await branch();
    try {
      return await createCompute(environment, client, tenant, info, options);
    } catch (error) {
      // Another process has created it in the meantime.
      if (!(error instanceof ZenithError && error.kind === "already_exists")) throw error;
    }
  }
  return findCompute(environment, tenant, wanted);
}

/**
 * Lists a tenant's computes, ordered by name.
 *
 * @throws {ZenithError} `invalid_argument` when the configuration of one is wrong
 */
export function listComputes(environment: Environment, tenant: TenantId): ComputeInfo[] {
  return describeAll(listPlaces(environment, tenant));
}

/** Leaves out computes that were removed in the meantime. */
function describeAll(places: readonly ComputePlace[]): ComputeInfo[] {
  return places.flatMap((found) => {
    try {
      return [describeCompute(found)];
    } catch (error) {
      if (!existsSync(found.paths.dir)) return [];
      throw error;
    }
  });
}

/** @throws {ZenithError} `io` when this user may not know */
function isThere(file: string): boolean {
  return withIoErrors("read", file, () => statSync(file, { throwIfNoEntry: false })) !== undefined;
}

/** @throws {ZenithError} `invalid_argument` when its configuration is wrong */
export function describeCompute(found: ComputePlace): ComputeInfo {
  const { pgdata } = found.paths;
  const file = configurationFile(found.paths);
  if (!isThere(file)) {
    const ofTenant = `${found.name} --tenantid ${found.tenant}`;
    throw new ZenithError("invalid_argument", `${file}, the configuration of a Postgres, is missing`, {
      hint: `put it back; or "zenith pg stop ${ofTenant} --destroy" and "zenith pg ${
        isOwn(found) ? "create" : "start"
      } ${ofTenant}": the branch has all the data`,
    });
  }
  const settings = readComputeConf(found.paths);
  const identity = computeIdentity(settings, found.paths.config);
  assertUsable(readSettings(pgdata), file);
  return {
    ...found,
    identity,
    address: { host: clientHost(settings) ?? "127.0.0.1", port: identity.port },
    readOnlyAt: found.moment ?? (found.status === "running" ? readOnlyLsn(pgdata) : null),
  };
}

export interface StartComputeOptions {
  /** How to fetch relation files. Defaults to the environment's config. */
  readonly storage?: StorageChoice;
  /**
   * Whether to fetch the pages that were hot at the last stop in the background. Defaults to the
   * environment's config.
   */
  readonly prewarm?: boolean;
  /** Start read-only, at this LSN. A compute of a moment always does. */
  readonly readOnlyAt?: Lsn;
  /**
   * These apply to the branch's first start: whether subscriptions and pg_cron stay enabled, and a
   * file of SQL to run first.
   */
  readonly keepSubscriptions?: boolean;
  readonly keepCron?: boolean;
  readonly firstStartSql?: string;
  /** Masks the branch at its first start. Nobody can connect to this Postgres, then or later. */
  readonly mask?: readonly MaskFile[];
  readonly onProgress?: (text: string) => void;
  /** Gives the start up while it waits for others. */
  readonly signal?: AbortSignal;
}

/**
 * Starts a compute afresh at the end of its timeline and waits until it accepts connections.
 * Records whether the start succeeded.
 *
 * @throws {ZenithError} `conflict` when it is already running or its port is taken, `unavailable`
 *   when too few safekeepers run; otherwise the supervisor's own error
 */
export async function startCompute(
  environment: Environment,
  compute: ComputeInfo,
  wanted: StartComputeOptions = {},
): Promise<DaemonReady> {
  const { paths, address, name, moment } = compute;
  const options = moment === null ? wanted : { ...wanted, readOnlyAt: moment };
  if (compute.status === "running") {
    throw new ZenithError(
      "conflict",
      `the Postgres of branch ${name} is already running on port ${address.port}`,
      { hint: `"zenith psql ${name}" connects to it` },
    );
  }
  assertNotRunning(compute);
  const lock = lockComputes(environment);
  try {
    giveUser(environment, compute.tenant);
  } finally {
    lock.release();
  }
  const { storage, prewarm, readOnlyAt } = options;
  const primary = compute.replica === null ? undefined : primaryOf(environment, compute);
  try {
    const ready = await inStartQueue(
      environment.paths.startQueue,
      () => options.onProgress?.("waiting for others that are being started"),
      () => startDaemonOf(environment, compute, options, primary),
      options.signal,
    );
    noteStart(paths, {
      ...(storage === undefined ? {} : { storage }),
      ...(prewarm === undefined ? {} : { prewarm }),
      ...(readOnlyAt === undefined ? {} : { lsn: formatLsn(readOnlyAt) }),
    });
    // A stop that came right after it was ready may have been noted before the start.
    if (checkPidFile(paths.pidFile).state === "absent") forgetStart(paths);
    return ready;
  } catch (error) {
    if (options.signal?.aborted !== true) noteFailedStart(paths, error);
    throw error;
  }
}

/**
 * Returns where the branch's own Postgres is, which a replica needs at its start.
 *
 * @throws {ZenithError} `conflict` when it does not run, or does not write
 */
function primaryOf(environment: Environment, { tenant, branch, identity }: ComputeInfo): HostPort {
  if (identity.walAcceptors.length === 0) {
    throw new ZenithError("conflict", "a replica follows safekeepers, and this environment has none", {
      hint: `"zenith pg standby ${branch}" prints how a stock standby follows the branch's Postgres`,
    });
  }
  const own = findCompute(environment, tenant, branch);
  if (isUp(own) && own.readOnlyAt === null) return own.address;
  throw new ZenithError(
    "conflict",
    `a replica starts from a checkpoint of the Postgres of branch ${branch}`,
    {
      hint: `start that first, at the branch's end: "zenith pg start ${branch}"`,
    },
  );
}

/** Returns where supervisors wait for the next start; undefined when none should. */
function sparesOf({ config, paths }: Environment): string | undefined {
  // From the sources, a spare's code might not be that of this process.
  return isCompiled() && config.compute?.spares !== false ? paths.spares : undefined;
}

/** Returns what starts a supervisor that waits; undefined when none should. */
export function sparesAheadOf(environment: Environment): SpareAhead | undefined {
  const directory = sparesOf(environment);
  const wanted = environment.config.compute?.spares_ahead !== false;
  return directory !== undefined && wanted ? supervisorsAhead(directory) : undefined;
}

async function startDaemonOf(
  environment: Environment,
  compute: ComputeInfo,
  options: StartComputeOptions,
  primary: HostPort | undefined,
): Promise<DaemonReady> {
  const { paths, address } = compute;
  const taken = await whyNotFree(address);
  if (taken !== undefined) {
    throw new ZenithError("conflict", `${formatHostPort(address)} ${taken}`, {
      hint: `stop that program, or change port in ${paths.config}`,
    });
  }
  if (options.readOnlyAt === undefined && primary === undefined) assertQuorum(environment, compute);
  const tokenFile = await ensureComputeToken(environment, compute);
  const distribDir = environment.config.pg_distrib_dir;
  const storage = options.storage ?? environment.config.compute?.storage;
  const prewarm = options.prewarm ?? environment.config.compute?.prewarm ?? false;
  const { cgroup, memory_max_mb: memoryMaxMb, cpus, processes_max: processesMax } =
    environment.config.compute ?? {};
  const overlayMaxMb = environment.config.compute?.overlay_max_mb;
  const spares = sparesOf(environment);
  return await startDaemon({
    args: [
      "compute",
      "-D",
      paths.dir,
      ...(distribDir === undefined ? [] : ["--pg-distrib-dir", distribDir]),
      ...(storage === undefined ? [] : ["--storage", storage]),
      ...(overlayMaxMb === undefined ? [] : ["--overlay-max-mb", String(overlayMaxMb)]),
      ...(cgroup === undefined ? [] : [
        ...["--cgroup", join(cgroup, `${compute.identity.tenant}.${basename(paths.dir)}`)],
        ...(memoryMaxMb === undefined ? [] : ["--memory-max-mb", String(memoryMaxMb)]),
        ...(cpus === undefined ? [] : ["--cpus", String(cpus)]),
        ...(processesMax === undefined ? [] : ["--processes-max", String(processesMax)]),
      ]),
      ...(prewarm ? ["--prewarm"] : []),
      ...(tokenFile === undefined
        ? []
        : ["--token-file", tokenFile, "--ca-file", authorityFile(environment)]),
      ...(options.readOnlyAt === undefined ? [] : ["--lsn", formatLsn(options.readOnlyAt)]),
      ...(primary === undefined ? [] : ["--follow", formatHostPort(primary)]),
      ...(options.keepSubscriptions === true ? ["--keep-subscriptions"] : []),
      ...(options.keepCron === true ? ["--keep-cron"] : []),
      ...(options.firstStartSql === undefined ? [] : ["--first-start-sql", options.firstStartSql]),
      ...(options.mask ?? []).flatMap((file) => ["--mask", formatMaskFile(file)]),
      ...(spares === undefined ? [] : ["--spares", spares]),
      ...(sparesAheadOf(environment) === undefined ? [] : ["--spare-ahead"]),
    ],
    spares,
    logFile: paths.log,
    timeoutMs: START_TIMEOUT_MS,
    ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
  });
}

/**
 * Fails early when too few safekeepers run. A compute waits for a quorum, and would wait in vain
 * for safekeepers of this environment that have not been started.
 */
function assertQuorum(environment: Environment, { identity, branch }: ComputeInfo): void {
  const acceptors = new Set(identity.walAcceptors.map(formatHostPort));
  // Without safekeepers, the page server alone makes commits durable.
  if (acceptors.size === 0) return;
  const stopped = listSafekeepers(environment)
    .filter(({ address, running }) => !running && acceptors.has(formatHostPort(address)));
  const needed = quorumOf(acceptors.size);
  if (acceptors.size - stopped.length >= needed) return;
  const names = stopped.map(({ id }) => `safekeeper ${id}`).join(", ");
  throw new ZenithError(
    "unavailable",
    `${names} of ${acceptors.size} ${
      stopped.length === 1 ? "does" : "do"
    } not run: branch ${branch} needs ${needed} to commit`,
    { hint: 'start them with "zenith start"' },
  );
}

/**
 * Points a stopped compute to its branch's new timeline after a restore. The rest of its
 * configuration stays.
 *
 * @throws {ZenithError} `conflict` when it runs
 */
export function pointComputeTo(compute: ComputeInfo, timeline: TimelineId): ComputeInfo {
  assertNotRunning(compute);
  setTimeline(compute.paths, timeline, computeUser(compute.paths));
  // The compute keeps its configuration, which becomes that of the restored branch.
  rmSync(compute.paths.settingsBase, { force: true });
  return describeCompute(compute);
}
