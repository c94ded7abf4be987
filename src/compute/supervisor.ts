/** The compute role: makes the data directory, runs stock Postgres on it and has its WAL followed. */
import { join } from "node:path";
import postgres from "postgres";
import { ZenithError } from "../common/errors.ts";
import type { HostPort } from "../common/host_port.ts";
import type { Lsn } from "../common/lsn.ts";
import type { Logger } from "../process/log.ts";
import type { ComputePaths } from "../common/paths.ts";
import type { PostgresLocation } from "../pg_install/find_postgres.ts";
import { ZENITH_SUPERUSER } from "../pg_install/initdb.ts";
import {
  assertReachable,
  closeToOthers,
  makeOwnedDirectory,
  type PgUser,
  pgUser,
} from "../pg_install/pg_user.ts";
import { Attachment } from "./attachment.ts";
import type { Conditions } from "./postgres/conditions.ts";
import {
  clearDataDirectory,
  type DataDirectoryProgress,
  unpackBasebackup,
} from "./postgres/data_directory.ts";
import { type Durability, type LocalPostgres, ReadOnlyPast } from "./durability.ts";
import { LazyStorage, removeLazyStorage } from "./lazy/lazy_storage.ts";
import { PageServerFollower } from "./page_server_follower.ts";
import { fetchBasebackup } from "./page_server_link.ts";
import {
  clientHost,
  type ComputeIdentity,
  computeIdentity,
  FORCED_SETTINGS,
  readSettings,
} from "./postgres/postgres_conf.ts";
import {
  acceptsConnections,
  endOrphan,
  pauseWhileRunning,
  PostgresProcess,
} from "./postgres/postgres_process.ts";
import { type LastTerm, SafekeeperQuorum } from "./safekeeper_quorum.ts";
import { chooseStorage, type StorageChoice } from "./storage.ts";

export interface ComputeOptions {
  readonly paths: ComputePaths;
  readonly install: PostgresLocation;
  /** How relation files come. */
  readonly storage: StorageChoice;
  /** What fetched and written pages of lazy storage may take of the disk, in bytes; Infinity for all of it. */
  readonly overlayMaxBytes: number;
  /** Whether to fetch in the background, once it runs, what was hot at the last stop. Of lazy storage. */
  readonly prewarm: boolean;
  /** The past to look at, without writing to the branch; null: the end of the branch, to go on from there. */
  readonly readOnlyAt: Lsn | null;
  readonly conditions: Conditions;
  /** The last term in which this compute has asked safekeepers for votes. A start afresh must not take over from a newer compute. */
  readonly lastTerm: LastTerm;
  readonly log: Logger;
  readonly progress: (text: string) => void;
  /** Aborted, with the error to end with, when the start is to be given up. */
  readonly signal: AbortSignal;
}

export type StopMode = "fast" | "immediate";

/** A compute that accepts connections and whose WAL, if it writes, the page server receives. */
export interface RunningCompute {
  readonly address: HostPort;
  stop(mode: StopMode): Promise<void>;
  /** Rejects when Postgres ends without having been asked to, with a PostgresCrashed when it is worth starting afresh. */
  readonly ended: Promise<void>;
}

/** Postgres on a fresh data directory has nothing to recover: it is up in a second, or it will not be. */
const STARTUP_TIMEOUT_MS = 60_000;
const STARTUP_POLL_MS = 3;
const CONNECT_TIMEOUT_S = 10;

/** @throws {ZenithError} the reason why it could not start; nothing is left running then */
export async function runCompute(options: ComputeOptions): Promise<RunningCompute> {
  const { paths, install, log, progress } = options;
  const user = pgUser();
  const settings = readSettings(paths.pgdata);
  const compute = computeIdentity(settings, join(paths.pgdata, "postgresql.conf"));
  const host = clientHost(settings);
  if (host === undefined) {
    throw new ZenithError("invalid_argument", "listen_addresses is empty: the page server could not connect");
  }
  const address = { host, port: compute.port };
  assertReachable(install.binDir, user);
  makeOwnedDirectory(paths.socketDir, user);
  makeOwnedDirectory(paths.pgdata, user);
  closeToOthers(paths.pgdata);
  if (await endOrphan(paths.pgdata)) log.warn("ended a Postgres that an earlier supervisor had left behind");

  removeLazyStorage(paths);
  clearDataDirectory(paths.pgdata);
  const storage = chooseStorage(options.storage);
  if (storage.whyNotLazy !== undefined) {
    log.info(`relation files are fetched now, not when they are needed: ${storage.whyNotLazy}`);
    progress(`all data is fetched at the start: ${storage.whyNotLazy}`);
  }
  const lazy = storage.mode === "lazy"
    ? new LazyStorage({
      ...compute,
      paths,
      user,
      overlayMaxBytes: options.overlayMaxBytes,
      prewarm: options.prewarm,
      conditions: options.conditions,
      log,
    })
    : undefined;
  const durability = chooseDurability(compute, options);
  const attaching = Attachment.open(compute, log);
  // It may fail while something else is waited for.
  attaching.catch(() => {});
  let postmaster: PostgresProcess | undefined;
  let sql: postgres.Sql | undefined;
  try {
    const chosen = await durability.chooseStart(progress);
    lazy?.prepare();
    await fetchDataDirectory(options, compute, chosen, user, storage.mode);
    await attaching;
    await lazy?.serve();
    progress("starting Postgres");
    postmaster = await PostgresProcess.start({
      install,
      pgdata: paths.pgdata,
      user,
      logFile: paths.postgresLog,
      settings: { ...durability.settings, ...FORCED_SETTINGS },
    });
    sql = connect(address);
    const starting = untilServing({ sql, address, process: postmaster }, durability, options);
    await Promise.race([starting, durability.failed, ...(lazy === undefined ? [] : [lazy.failed])]);
  } catch (error) {
    await sql?.end({ timeout: 1 });
    await postmaster?.stop("immediate");
    await durability.stop();
    await lazy?.close();
    await attaching.then((attachment) => attachment.close(), () => {});
    throw error;
  }
  lazy?.prewarm();
  return supervise({ sql, address, process: postmaster }, durability, lazy, await attaching);
}

function chooseDurability(
  compute: ComputeIdentity,
  { readOnlyAt, lastTerm, log }: ComputeOptions,
): Durability {
  if (readOnlyAt !== null) return new ReadOnlyPast(readOnlyAt);
  return compute.walAcceptors.length > 0
    ? new SafekeeperQuorum(compute, lastTerm, log)
    : new PageServerFollower(compute, log);
}

async function fetchDataDirectory(
  options: ComputeOptions,
  compute: ComputeIdentity,
  startLsn: Lsn | null,
  user: PgUser | undefined,
  mode: "lazy" | "eager",
): Promise<void> {
  const { paths, log, progress, signal } = options;
  progress("fetching the data directory");
  const content = mode === "lazy" ? "lazy" : "complete";
  const fetched = await fetchBasebackup(compute, startLsn, content, signal, (tar) => {
    let announced = Date.now();
    const onProgress = ({ bytes }: DataDirectoryProgress) => {
      if (Date.now() - announced < 1_000) return;
      announced = Date.now();
      progress(`fetching the data directory: ${Math.round(bytes / (1 << 20))} MB`);
    };
    return unpackBasebackup(tar, paths.pgdata, user, onProgress, content);
  });
  log.info("data directory fetched", { ...fetched, storage: mode });
}

async function untilServing(
  local: LocalPostgres,
  durability: Durability,
  { paths, signal, progress }: ComputeOptions,
): Promise<void> {
  await untilAccepting(local.process, paths.pgdata, signal);
  await durability.follow(local, signal, progress);
}

function supervise(
  { sql, address, process }: LocalPostgres,
  durability: Durability,
  lazy: LazyStorage | undefined,
  attachment: Attachment,
): RunningCompute {
  let stopping = false;
  const cause = Promise.race([
    process.ended,
    durability.failed.catch((error: unknown) => error),
  ]);
  const endedByItself = cause.then(async (error) => {
    if (stopping) return;
    durability.stopping();
    await process.stop("immediate");
    await process.endChildren(() => lazy?.giveUpReads());
    await durability.stop();
    await lazy?.close();
    await attachment.close();
    throw error;
  });
  return {
    address,
    // When the files fail, this process ends at once: that ends the mount, and Postgres with it.
    ended: lazy === undefined ? endedByItself : Promise.race([endedByItself, lazy.failed]),
    async stop(mode) {
      stopping = true;
      durability.stopping();
      await process.stop(mode);
      await process.endChildren(() => lazy?.giveUpReads());
      await sql.end({ timeout: 1 });
      await durability.stop();
      await lazy?.close();
      // Who looks at the past uses other pages than who goes on.
      if (!(durability instanceof ReadOnlyPast)) lazy?.saveHotPages();
      await attachment.close();
    },
  };
}

function connect(address: HostPort): postgres.Sql {
  return postgres({
    host: address.host,
    port: address.port,
    user: ZENITH_SUPERUSER,
    database: "postgres",
    max: 1,
    connect_timeout: CONNECT_TIMEOUT_S,
    fetch_types: false,
    connection: { application_name: "zenith_compute" },
    onnotice: () => {},
  });
}

/** @throws {ZenithError} `timeout`; how Postgres ended, or why `signal` was aborted */
async function untilAccepting(
  postmaster: PostgresProcess,
  pgdata: string,
  signal: AbortSignal,
): Promise<void> {
  const deadline = Date.now() + STARTUP_TIMEOUT_MS;
  // To connect and be turned away would cost Postgres a process each time.
  while (!acceptsConnections(pgdata, postmaster.pid)) {
    if (Date.now() > deadline) throw new ZenithError("timeout", "Postgres accepts no connections");
    await pauseWhileRunning(postmaster, STARTUP_POLL_MS, signal);
  }
}
