/** The computes of an environment: one per branch, each in a directory of its own. */
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type DaemonReady, startDaemon } from "../common/daemon.ts";
import { ioError, systemErrorCode, ZenithError } from "../common/errors.ts";
import type { HostPort } from "../common/host_port.ts";
import { type BranchName, isId, parseBranchName, parseTenantId, type TenantId } from "../common/id.ts";
import { formatLsn, type Lsn } from "../common/lsn.ts";
import type { ComputePaths } from "../common/paths.ts";
import { checkPidFile } from "../common/pid_file.ts";
import {
  clientHost,
  type ComputeIdentity,
  computeIdentity,
  initialHbaConf,
  initialPostgresConf,
  readOnlyLsn,
  readSettings,
} from "../compute/postgres_conf.ts";
import { removeLazyStorage } from "../compute/fuse/lazy_storage.ts";
import type { StorageChoice } from "../compute/storage.ts";
import { chownRecursive, makeOwnedDirectory, pgUser } from "../pg_install/pg_user.ts";
import { type Environment, pageServerAddress } from "./environment.ts";
import type { BranchInfo } from "./page_server_client.ts";
import { lastErrorInLog } from "./page_server_process.ts";
import { allocatePort, isPortFree } from "./ports.ts";
import { listSafekeepers } from "./safekeepers.ts";
import { type StopMode, stopProcess } from "./stop_process.ts";

/** `crashed`: its supervisor ended without having been asked to. */
export type ComputeStatus = "running" | "stopped" | "crashed";

export interface ComputeInfo {
  readonly branch: BranchName;
  readonly tenant: TenantId;
  readonly address: HostPort;
  readonly identity: ComputeIdentity;
  readonly status: ComputeStatus;
  /** The past that it looks at; null when it is not running, or goes on from the end of its branch. */
  readonly readOnlyAt: Lsn | null;
  readonly paths: ComputePaths;
}

/** Fetching the data directory of a large database takes its time. */
const START_TIMEOUT_MS = 3_600_000;
const STOP_TIMEOUT_MS = 90_000;

/**
 * Makes the directory and the configuration of a compute; data comes with its start.
 *
 * @param port the first free one from 55432 up when undefined
 * @throws {ZenithError} `already_exists` when the branch has one, `conflict` when the port is another compute's
 */
export async function createCompute(
  environment: Environment,
  tenant: TenantId,
  branch: BranchInfo,
  port?: number,
): Promise<ComputeInfo> {
  const name = parseBranchName(branch.name);
  const paths = environment.paths.compute(tenant, name);
  if (existsSync(paths.dir)) {
    throw new ZenithError("already_exists", `branch ${name} has a Postgres already`, {
      hint: `start it with "zenith pg start ${name}"`,
    });
  }
  const taken = new Set(allComputes(environment).map((compute) => compute.address.port));
  if (port !== undefined && taken.has(port)) {
    throw new ZenithError("conflict", `port ${port} belongs to another Postgres of this environment`);
  }
  const identity: ComputeIdentity = {
    tenant,
    timeline: branch.timeline_id,
    pageServer: pageServerAddress(environment),
    walAcceptors: listSafekeepers(environment).map(({ address }) => address),
    port: port ?? await allocatePort(taken),
  };
  const user = pgUser();
  try {
    mkdirSync(paths.dir, { recursive: true, mode: 0o755 });
    makeOwnedDirectory(paths.pgdata, user);
    const write = (file: string, text: string) =>
      writeFileSync(join(paths.pgdata, file), text, { mode: 0o600 });
    write("postgresql.conf", initialPostgresConf(identity, paths.socketDir));
    write("pg_hba.conf", initialHbaConf());
    write("pg_ident.conf", "");
    chownRecursive(paths.pgdata, user);
  } catch (error) {
    rmSync(paths.dir, { recursive: true, force: true });
    if (error instanceof ZenithError) throw error;
    throw ioError("create", paths.dir, error);
  }
  return describe(tenant, name, paths);
}

/** @throws {ZenithError} `not_found` when the branch has no compute */
export function findCompute(environment: Environment, tenant: TenantId, branch: BranchName): ComputeInfo {
  const paths = environment.paths.compute(tenant, branch);
  if (!existsSync(join(paths.pgdata, "postgresql.conf"))) {
    throw new ZenithError("not_found", `branch ${branch} has no Postgres`, {
      hint: `make one with "zenith pg create ${branch}"`,
    });
  }
  return describe(tenant, branch, paths);
}

/** A tenant's computes, by name. */
export function listComputes(environment: Environment, tenant: TenantId): ComputeInfo[] {
  return directoryNames(environment.paths.computes(tenant))
    .map((name) => parseBranchName(name))
    .filter((name) => existsSync(join(environment.paths.compute(tenant, name).pgdata, "postgresql.conf")))
    .map((name) => describe(tenant, name, environment.paths.compute(tenant, name)));
}

/** Every tenant's computes. */
export function allComputes(environment: Environment): ComputeInfo[] {
  return directoryNames(environment.paths.computeTenants)
    .filter(isId)
    .flatMap((tenant) => listComputes(environment, parseTenantId(tenant)));
}

function describe(tenant: TenantId, branch: BranchName, paths: ComputePaths): ComputeInfo {
  const settings = readSettings(paths.pgdata);
  const identity = computeIdentity(settings, join(paths.pgdata, "postgresql.conf"));
  const pidFile = checkPidFile(paths.pidFile).state;
  return {
    branch,
    tenant,
    identity,
    address: { host: clientHost(settings) ?? "127.0.0.1", port: identity.port },
    readOnlyAt: pidFile === "running" ? readOnlyLsn(paths.pgdata) : null,
    status: pidFile === "running" ? "running" : pidFile === "stale" ? "crashed" : "stopped",
    paths,
  };
}

export interface StartComputeOptions {
  /** How relation files come; as the environment's config says when left out. */
  readonly storage?: StorageChoice;
  /** Only to look at the branch as it was then. */
  readonly readOnlyAt?: Lsn;
  readonly onProgress?: (text: string) => void;
}

/**
 * Starts it afresh at its timeline's end and waits until it accepts connections.
 *
 * @throws {ZenithError} `conflict` when it runs already or its port is taken; else the supervisor's own words
 */
export async function startCompute(
  environment: Environment,
  compute: ComputeInfo,
  options: StartComputeOptions = {},
): Promise<DaemonReady> {
  const { paths, address, branch } = compute;
  if (compute.status === "running") {
    throw new ZenithError(
      "conflict",
      `the Postgres of branch ${branch} is already running on port ${address.port}`,
    );
  }
  if (!await isPortFree(address.port, address.host)) {
    throw new ZenithError("conflict", `port ${address.port} is in use by another program`, {
      hint: `stop that program, or change port in ${join(paths.pgdata, "postgresql.conf")}`,
    });
  }
  const distribDir = environment.config.pg_distrib_dir;
  const storage = options.storage ?? environment.config.compute?.storage;
  const overlayMaxMb = environment.config.compute?.overlay_max_mb;
  return await startDaemon({
    args: [
      "compute",
      "-D",
      paths.dir,
      ...(distribDir === undefined ? [] : ["--pg-distrib-dir", distribDir]),
      ...(storage === undefined ? [] : ["--storage", storage]),
      ...(overlayMaxMb === undefined ? [] : ["--overlay-max-mb", String(overlayMaxMb)]),
      ...(options.readOnlyAt === undefined ? [] : ["--lsn", formatLsn(options.readOnlyAt)]),
    ],
    logFile: paths.log,
    timeoutMs: START_TIMEOUT_MS,
    ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
  });
}

/** @returns whether it was running */
export async function stopCompute(compute: ComputeInfo, mode: StopMode): Promise<boolean> {
  return await stopProcess({
    what: `the Postgres of branch ${compute.branch}`,
    pidFile: compute.paths.pidFile,
    mode,
    timeoutMs: STOP_TIMEOUT_MS,
    lastWords: () => lastErrorInLog(compute.paths.log),
  });
}

/** Removes a stopped compute with its configuration. The branch and its data are the page server's and stay. */
export function destroyCompute(compute: ComputeInfo): void {
  removeLazyStorage(compute.paths);
  try {
    rmSync(compute.paths.dir, { recursive: true, force: true });
  } catch (error) {
    throw ioError("remove", compute.paths.dir, error);
  }
}

function directoryNames(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true }).filter((entry) => entry.isDirectory())
      .map((entry) => entry.name).sort();
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return [];
    throw ioError("read", dir, error);
  }
}
