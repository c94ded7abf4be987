/** Starts, stops and queries the environment's own safekeepers. */
import { mkdirSync } from "node:fs";
import { type DaemonReady, startDaemon } from "../process/daemon.ts";
import { errorMessage, ioError, ZenithError } from "../common/errors.ts";
import { formatHostPort, parseHostPort } from "../common/host_port.ts";
import type { TenantId, TimelineId } from "../common/id.ts";
import type { SafekeeperPaths } from "../common/paths.ts";
import { checkPidFile } from "../process/pid_file.ts";
import type { PgClient } from "../pgwire/client.ts";
import { call } from "../protocol/call.ts";
import type { Args, ArgValues, Operation, Reply, Result } from "../protocol/operation.ts";
import { connectServer, type ServerAddress, serverName } from "../protocol/connect.ts";
import {
  type DamagedTimeline,
  type HeldBackJson,
  SAFEKEEPER,
  type SafekeeperTimelineStatus,
  type ScrubStatus,
  type TenantLimitsJson,
} from "../protocol/management.ts";
import { LIMIT_NAMES, type LimitChanges } from "../protocol/tenant_limits.ts";
import { type Environment, pageServerAddress, withAdminToken } from "./environment.ts";
import { lastErrorInLog } from "./log_file.ts";
import { whyNotFree } from "./ports.ts";
import { authOptions } from "./server_tokens.ts";
import { startOrAwait } from "./start_or_await.ts";
import { type StopMode, stopProcess } from "./stop_process.ts";

/** The first port to try for a safekeeper; the search goes upward. */
export const SAFEKEEPER_FIRST_PORT = 5454;

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 60_000;
const CONNECT_TIMEOUT_MS = 5_000;

export interface SafekeeperInfo {
  readonly id: number;
  readonly address: ServerAddress;
  readonly paths: SafekeeperPaths;
  /** Whether it runs, here or where its process can't be seen. */
  readonly running: boolean;
}

/** Lists the safekeepers in the order of the config. */
export function listSafekeepers(environment: Environment): SafekeeperInfo[] {
  return (environment.config.safekeepers ?? []).map(({ id, listen }) => {
    const paths = environment.paths.safekeeper(id);
    return {
      id,
      address: withAdminToken(environment, parseHostPort(listen)),
      paths,
      running: ["running", "elsewhere"].includes(checkPidFile(paths.pidFile).state),
    };
  });
}

/**
 * Starts a safekeeper in the background and waits until it answers. When another command is
 * starting it, waits for that.
 *
 * @returns undefined when another command has started it
 * @throws {ZenithError} `conflict` when its port is taken; otherwise the safekeeper's own error
 */
export function ensureSafekeeper(
  environment: Environment,
  safekeeper: SafekeeperInfo,
): Promise<DaemonReady | undefined> {
  return startOrAwait({
    what: `safekeeper ${safekeeper.id}`,
    pidFile: safekeeper.paths.pidFile,
    address: safekeeper.address,
    timeoutMs: START_TIMEOUT_MS,
    start: () => startSafekeeper(environment, safekeeper),
  });
}

async function startSafekeeper(environment: Environment, safekeeper: SafekeeperInfo): Promise<DaemonReady> {
  const { id, address, paths } = safekeeper;
  const taken = await whyNotFree(address);
  if (taken !== undefined) {
    throw new ZenithError("conflict", `${formatHostPort(address)} ${taken}`, {
      hint: `stop that program, or change the listen of safekeeper ${id} in ${environment.paths.config}`,
    });
  }
  try {
    mkdirSync(paths.workdir, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw ioError("create", paths.workdir, error);
  }
  return await startDaemon({
    args: [
      "safekeeper",
      "-D",
      paths.workdir,
      "-l",
      formatHostPort(address),
      "--id",
      String(id),
      "--pageserver",
      formatServers(pageServerAddress(environment)),
      ...authOptions(environment),
      "--log-file",
      paths.log,
    ],
    logFile: paths.log,
    timeoutMs: START_TIMEOUT_MS,
  });
}

function formatServers({ others = [], ...first }: ServerAddress): string {
  return [first, ...others].map(formatHostPort).join(",");
}

/** @returns whether it was running */
export async function stopSafekeeper(safekeeper: SafekeeperInfo, mode: StopMode): Promise<boolean> {
  return await stopProcess({
    what: `safekeeper ${safekeeper.id}`,
    pidFile: safekeeper.paths.pidFile,
    mode,
    timeoutMs: STOP_TIMEOUT_MS,
    lastWords: () => lastErrorInLog(safekeeper.paths.log),
  });
}

export type { SafekeeperTimelineStatus };

export interface TimelineName {
  readonly tenant: TenantId;
  readonly timeline: TimelineId;
}

/**
 * Lists the timelines of a safekeeper.
 *
 * @throws {ZenithError} `unavailable` when it doesn't answer, `protocol`
 */
export async function safekeeperStatus(address: ServerAddress): Promise<SafekeeperTimelineStatus[]> {
  return await callSafekeeper(address, SAFEKEEPER.timelineStatus, {});
}

/**
 * Lists the timelines that a safekeeper can't open.
 *
 * @throws {ZenithError} as {@link safekeeperStatus}
 */
export async function safekeeperDamage(address: ServerAddress): Promise<DamagedTimeline[]> {
  return await callSafekeeper(address, SAFEKEEPER.timelineDamaged, {});
}

/**
 * Returns the tenants whose WAL a safekeeper takes in more slowly than it comes.
 *
 * @throws {ZenithError} as {@link safekeeperStatus}
 */
export async function safekeeperHeldBack(address: ServerAddress): Promise<HeldBackJson[]> {
  return await callSafekeeper(address, SAFEKEEPER.tenantsHeldBack, {});
}

/**
 * What a safekeeper's scrub of data at rest has found.
 *
 * @throws {ZenithError} as {@link safekeeperStatus}
 */
export async function safekeeperScrub(address: ServerAddress): Promise<ScrubStatus> {
  return await callSafekeeper(address, SAFEKEEPER.scrubStatus, {});
}

/**
 * Returns one timeline of a safekeeper; undefined when it does not have it.
 *
 * @throws {ZenithError} as {@link safekeeperStatus}
 */
export async function safekeeperTimeline(
  address: ServerAddress,
  tenant: TenantId,
  timeline: TimelineId,
): Promise<SafekeeperTimelineStatus | undefined> {
  try {
    return (await callSafekeeper(address, SAFEKEEPER.timelineStatus, { tenant, timeline }))[0];
  } catch (error) {
    if (error instanceof ZenithError && error.kind === "not_found") return undefined;
    throw error;
  }
}

const NO_LIMITS: LimitChanges = Object.fromEntries(LIMIT_NAMES.map((name) => [name, "default"]));

/**
 * Removes timelines and their WAL from all safekeepers of the environment that have them.
 *
 * @param gone a tenant that was deleted with all its timelines: its limits go too
 * @returns a message for each safekeeper that failed
 */
export async function deleteFromSafekeepers(
  environment: Environment,
  timelines: readonly TimelineName[],
  gone?: TenantId,
): Promise<string[]> {
  const problems = await Promise.all(
    listSafekeepers(environment).map(async ({ id, address }) => {
      const server = serverName("safekeeper", address);
      try {
        await using client = await connect(address);
        for (const { tenant, timeline } of timelines) {
          await call(client, server, SAFEKEEPER.timelineDelete, { tenant, timeline });
        }
        if (gone !== undefined) {
          await call(client, server, SAFEKEEPER.tenantSetLimits, { tenant: gone, ...NO_LIMITS });
        }
        return undefined;
      } catch (error) {
        return `safekeeper ${id} keeps WAL that nobody needs: ${errorMessage(error)}`;
      }
    }),
  );
  return problems.filter((problem) => problem !== undefined);
}

/**
 * Lowers a timeline's term at one safekeeper.
 *
 * @throws {ZenithError} `conflict` when the safekeeper refuses, `unavailable`
 */
export async function lowerTerm(address: ServerAddress, name: TimelineName, term: number): Promise<void> {
  await callSafekeeper(address, SAFEKEEPER.timelineLowerTerm, { ...name, term });
}

/**
 * Changes the given limits of a tenant at one safekeeper, and returns all of them.
 *
 * @throws {ZenithError} as {@link safekeeperStatus}
 */
export async function safekeeperLimits(
  address: ServerAddress,
  tenant: TenantId,
  changes: LimitChanges,
): Promise<TenantLimitsJson> {
  return Object.keys(changes).length === 0
    ? await callSafekeeper(address, SAFEKEEPER.tenantLimits, { tenant })
    : await callSafekeeper(address, SAFEKEEPER.tenantSetLimits, { tenant, ...changes });
}

/**
 * Calls one operation of a safekeeper.
 *
 * @throws {ZenithError} `unavailable` when it doesn't answer; as {@link call}
 */
export async function callSafekeeper<A extends Args, R extends Reply>(
  address: ServerAddress,
  operation: Operation<A, R>,
  args: ArgValues<A>,
): Promise<Result<R>> {
  await using client = await connect(address);
  return await call(client, serverName("safekeeper", address), operation, args);
}

function connect(address: ServerAddress): Promise<PgClient> {
  return connectServer("safekeeper", address, {
    applicationName: "zenith",
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
  });
}
