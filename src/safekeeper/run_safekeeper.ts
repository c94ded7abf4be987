/** Runs a safekeeper with its wire service, its maintenance and its calls to the page server. */
import { type Disk, nodeDisk } from "../common/disk.ts";
import { errorMessage } from "../common/errors.ts";
import type { HostPort } from "../common/host_port.ts";
import type { TenantId } from "../common/id.ts";
import type { Logger } from "../process/log.ts";
import type { SafekeeperPaths } from "../common/paths.ts";
import { MeasuredTree } from "../common/tree_bytes.ts";
import { PgServer } from "../pgwire/server.ts";
import type { ServerAddress } from "../protocol/connect.ts";
import { Guard } from "../protocol/guard.ts";
import { TenantLimits } from "../protocol/tenant_limits.ts";
import { Scrub } from "../process/scrub.ts";
import { RESTORE } from "./fsck.ts";
import { OlderWal } from "./older_wal.ts";
import { Recall } from "./recall.ts";
import { cutOff, scrubItems } from "./scrub.ts";
import { SafekeeperService } from "./service.ts";
import { Timelines } from "./timelines.ts";

/** How often the safekeeper removes WAL that nobody needs and closes timelines that nobody uses. */
const MAINTENANCE_INTERVAL_MS = 5_000;

/** How often the safekeeper calls the page server when the page server does not come by itself. */
const RECALL_INTERVAL_DEFAULT_MS = 1_000;

export interface SafekeeperOptions {
  readonly paths: SafekeeperPaths;
  readonly listen: HostPort;
  /** This safekeeper's number, shown in proposers' logs. */
  readonly id: number;
  readonly logger: Logger;
  /**
   * False skips all syncs. An operating system crash then loses acknowledged commits. Only for
   * tests on slow disks.
   */
  readonly sync?: boolean;
  /** The page server to call, and to ask for WAL that was removed here. */
  readonly pageserver?: ServerAddress;
  readonly recallIntervalMs?: number;
  readonly maintenanceIntervalMs?: number;
  /** How much the check of data at rest reads per second, and how long it pauses after a pass. */
  readonly scrubBytesPerS?: number;
  readonly scrubPauseMs?: number;
  /** The address that the page server is told to connect to. Defaults to the listen address. */
  readonly advertise?: HostPort;
  readonly disk?: Disk;
  /** Decides who may do what. Everybody may do everything without it. */
  readonly guard?: Guard;
}

export interface RunningSafekeeper {
  readonly address: HostPort;
  stop(mode?: "fast" | "immediate"): Promise<void>;
}

/**
 * Opens the working directory and listens.
 *
 * @throws {ZenithError} when the port is taken or the directory is unusable
 */
export async function runSafekeeper(options: SafekeeperOptions): Promise<RunningSafekeeper> {
  const { paths, listen, id, logger, guard = Guard.open() } = options;
  const disk = options.disk ?? nodeDisk;
  const timelines = new Timelines({
    paths,
    disk,
    id,
    sync: options.sync ?? true,
    logger,
  });
  timelines.recover();
  const scrub = new Scrub({
    items: () => scrubItems(disk, paths, timelines),
    logger,
    bytesPerS: options.scrubBytesPerS,
    pauseMs: options.scrubPauseMs,
    hint: RESTORE,
  });
  const sizes = new Map<TenantId, MeasuredTree>();
  const limits = new TenantLimits(paths.limits, logger, {
    bytes(tenant) {
      let size = sizes.get(tenant);
      if (size === undefined) sizes.set(tenant, size = new MeasuredTree(disk, paths.tenant(tenant)));
      return size.bytes;
    },
  });
  const findings = () => ({
    lastPassMs: scrub.lastPassMs,
    found: [...scrub.found, ...cutOff(disk, paths, timelines)],
  });
  const older = options.pageserver === undefined ? null : new OlderWal(options.pageserver);
  const service = new SafekeeperService(timelines, guard, limits, findings, older);
  const wire = new PgServer(service, {
    negotiation: guard.negotiation,
    onConnectionError: (client, error) => logger.warn("connection failed", { client, err: error }),
    onQueryError: (session, sql, error) =>
      logger.warn(`command failed: ${errorMessage(error)}`, { client: session.remoteAddress, command: sql }),
  });
  const address = await wire.listen(listen);
  const stopWatching = guard.watch(wire);

  const stopRecall = options.pageserver === undefined ? () => {} : every(
    options.recallIntervalMs ?? RECALL_INTERVAL_DEFAULT_MS,
    logger,
    recallRound(timelines, new Recall(options.pageserver, options.advertise ?? address, logger), logger),
  );
  const stopMaintenance = every(
    options.maintenanceIntervalMs ?? MAINTENANCE_INTERVAL_MS,
    logger,
    async () => {
      for (const timeline of await timelines.loaded()) {
        try {
          await timeline.slots.save();
          await timeline.trim(service.neededLsn(timeline));
        } catch (error) {
          logger.warn(`could not remove WAL: ${errorMessage(error)}`, {
            timeline: timeline.identity.timelineId,
          });
        }
      }
      await timelines.unloadIdle();
    },
  );
  scrub.start();
  return {
    address,
    stop: async () => {
      stopWatching();
      await scrub.stop();
      stopRecall();
      stopMaintenance();
      try {
        await timelines.close();
      } finally {
        await wire.close();
      }
    },
  };
}

/**
 * Returns a round of calls. The first round looks at every timeline, because the page server may
 * lack WAL from before this start.
 */
function recallRound(timelines: Timelines, recall: Recall, logger: Logger): () => Promise<void> {
  let isFirst = true;
  return async () => {
    if (isFirst) {
      isFirst = false;
      await openAll(timelines, logger);
    }
    await recall.run(await timelines.loaded());
  };
}

async function openAll(timelines: Timelines, logger: Logger): Promise<void> {
  for (const { name, error } of (await timelines.openAll()).failed) {
    logger.error(`could not open a timeline: ${errorMessage(error)}`, { ...name, err: error });
  }
}

/**
 * Runs `round` repeatedly, never twice at once. A failed round is logged; the next one may succeed.
 */
function every(intervalMs: number, logger: Logger, round: () => Promise<void>): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let stopped = false;
  const plan = (): void => {
    if (stopped) return;
    timer = setTimeout(() => {
      round().catch((error: unknown) => {
        logger.warn(`upkeep failed: ${errorMessage(error)}`, { err: error });
      }).finally(plan);
    }, intervalMs);
  };
  plan();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}
