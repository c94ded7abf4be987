/** The compute role: makes the data directory, runs stock Postgres on it and keeps the page server following. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import postgres from "postgres";
import { errorMessage, ioError, systemErrorCode, ZenithError } from "../common/errors.ts";
import { formatHostPort, type HostPort } from "../common/host_port.ts";
import type { Logger } from "../common/log.ts";
import { formatLsn, type Lsn } from "../common/lsn.ts";
import type { ComputePaths } from "../common/paths.ts";
import type { PostgresInstall } from "../pg_install/find_postgres.ts";
import { ZENITH_SUPERUSER } from "../pg_install/initdb.ts";
import { assertReachable, makeOwnedDirectory, type PgUser, pgUser } from "../pg_install/pg_user.ts";
import { PgClient } from "../pgwire/client.ts";
import { formatConnInfo } from "../pgwire/conninfo.ts";
import { CONTROL_FILE_PATH, parseControlFile } from "../postgres/control_file.ts";
import {
  type BasebackupContent,
  clearDataDirectory,
  type DataDirectoryProgress,
  unpackBasebackup,
} from "./data_directory.ts";
import {
  clientHost,
  type ComputeIdentity,
  computeIdentity,
  PAGESERVER_STANDBY_NAME,
  readOnlySettings,
  readSettings,
} from "./postgres_conf.ts";
import { LazyStorage, removeLazyStorage } from "./fuse/lazy_storage.ts";
import { endOrphan, PostgresProcess } from "./postgres_process.ts";
import { chooseStorage, type StorageChoice } from "./storage.ts";

export interface ComputeOptions {
  readonly paths: ComputePaths;
  readonly install: PostgresInstall;
  /** How relation files come. */
  readonly storage: StorageChoice;
  /** The past to look at, without writing to the branch; null: the end of the branch, to go on from there. */
  readonly readOnlyAt: Lsn | null;
  readonly log: Logger;
  readonly progress: (text: string) => void;
  /** Aborted, with the error to end with, when the start is to be given up. */
  readonly signal: AbortSignal;
}

/** A compute that accepts connections and whose WAL, if it writes, the page server receives. */
export interface RunningCompute {
  readonly address: HostPort;
  stop(mode: "fast" | "immediate"): Promise<void>;
  /** Rejects when Postgres ends without having been asked to. */
  readonly ended: Promise<void>;
}

/** Postgres on a fresh data directory has nothing to recover: it is up in a second, or it will not be. */
const STARTUP_TIMEOUT_MS = 60_000;
/** The page server opens a replication connection: the same. */
const FOLLOW_TIMEOUT_MS = 30_000;
const STARTUP_POLL_MS = 20;
const FOLLOW_POLL_MS = 1_000;
/** A third of what the page server grants with a basebackup. */
const LEASE_RENEWAL_MS = 200_000;
const CONNECT_TIMEOUT_S = 10;

/** @throws {ZenithError} the reason why it could not start; nothing is left running then */
export async function startCompute(options: ComputeOptions): Promise<RunningCompute> {
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
  if (await endOrphan(paths.pgdata)) log.warn("ended a Postgres that an earlier supervisor had left behind");

  removeLazyStorage(paths);
  clearDataDirectory(paths.pgdata);
  const storage = chooseStorage(options.storage);
  if (storage.whyNotLazy !== undefined) {
    log.info(`relation files are fetched now, not when they are needed: ${storage.whyNotLazy}`);
    progress(`all data is fetched at the start: ${storage.whyNotLazy}`);
  }
  const lazy = storage.mode === "lazy" ? new LazyStorage({ ...compute, paths, user, log }) : undefined;
  let postmaster: PostgresProcess | undefined;
  let sql: postgres.Sql | undefined;
  let startLsn: Lsn;
  try {
    await fetchDataDirectory(options, compute, user, storage.mode);
    startLsn = controlFileLsn(paths.pgdata);
    await lazy?.mount();
    progress("starting Postgres");
    postmaster = await PostgresProcess.start({
      install,
      pgdata: paths.pgdata,
      user,
      logFile: paths.postgresLog,
      settings: options.readOnlyAt === null ? {} : readOnlySettings(options.readOnlyAt),
    });
    sql = connect(address);
    const starting = untilServing(sql, compute, address, postmaster, options);
    await (lazy === undefined ? starting : Promise.race([starting, lazy.failed]));
  } catch (error) {
    await sql?.end({ timeout: 1 });
    await postmaster?.stop("immediate");
    await lazy?.close();
    throw error;
  }
  return supervise(sql, compute, address, postmaster, lazy, startLsn, options);
}

async function fetchDataDirectory(
  options: ComputeOptions,
  compute: ComputeIdentity,
  user: PgUser | undefined,
  mode: "lazy" | "eager",
): Promise<void> {
  const { paths, log, progress, signal, readOnlyAt } = options;
  progress("fetching the data directory");
  const content = mode === "lazy" ? "lazy" : "complete";
  const fetched = await fetchBasebackup(compute, readOnlyAt, content, signal, (tar) => {
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
  sql: postgres.Sql,
  compute: ComputeIdentity,
  address: HostPort,
  postmaster: PostgresProcess,
  { signal, progress, readOnlyAt }: ComputeOptions,
): Promise<void> {
  await untilAccepting(sql, postmaster, signal);
  if (readOnlyAt !== null) return;
  await sql`SELECT pg_create_physical_replication_slot(${PAGESERVER_STANDBY_NAME}, true)`;
  progress("waiting for the page server to follow");
  await untilFollowed(sql, compute, address, postmaster, signal);
}

function supervise(
  sql: postgres.Sql,
  compute: ComputeIdentity,
  address: HostPort,
  postmaster: PostgresProcess,
  lazy: LazyStorage | undefined,
  startLsn: Lsn,
  { log, readOnlyAt }: ComputeOptions,
): RunningCompute {
  const stopping = new AbortController();
  const postgresEnded = postmaster.ended.then(async (how) => {
    if (stopping.signal.aborted) return;
    await lazy?.close();
    throw new ZenithError("unavailable", how);
  });
  // When the files fail, this process ends at once: that ends the mount, and Postgres with it.
  const ended = lazy === undefined ? postgresEnded : Promise.race([postgresEnded, lazy.failed]);
  const watching = readOnlyAt === null
    ? watch(sql, compute, address, postmaster, log, stopping.signal)
    : Promise.resolve();
  const leasing = lazy === undefined ? Promise.resolve() : keepLease(compute, startLsn, log, stopping.signal);
  return {
    address,
    ended,
    async stop(mode) {
      stopping.abort();
      await postmaster.stop(mode);
      await sql.end({ timeout: 1 });
      await watching;
      await leasing;
      await lazy?.close();
    },
  };
}

/** Keeps the page server following: it forgets its computes when it is restarted. */
async function watch(
  sql: postgres.Sql,
  compute: ComputeIdentity,
  address: HostPort,
  postmaster: PostgresProcess,
  log: Logger,
  stopping: AbortSignal,
): Promise<void> {
  let followed = true;
  for (;;) {
    await sleep(FOLLOW_POLL_MS, stopping);
    if (!postmaster.running || stopping.aborted) return;
    try {
      const follows = await isFollowed(sql);
      if (follows !== followed) {
        log.info(follows ? "the page server follows again" : "the page server has stopped following");
      }
      followed = follows;
      if (!follows) await callMeMaybe(compute, address);
    } catch (error) {
      if (!stopping.aborted) log.warn(`could not get the page server to follow: ${errorMessage(error)}`);
    }
  }
}

/** Files that are fetched when they are read are read at the LSN of the start, for as long as this compute lives. */
async function keepLease(
  compute: ComputeIdentity,
  lsn: Lsn,
  log: Logger,
  stopping: AbortSignal,
): Promise<void> {
  for (;;) {
    await sleep(LEASE_RENEWAL_MS, stopping);
    if (stopping.aborted) return;
    try {
      await using pageServer = await connectPageServer(compute, stopping);
      await pageServer.query(`lease_lsn ${compute.tenant} ${compute.timeline} ${formatLsn(lsn)}`);
    } catch (error) {
      if (!stopping.aborted) {
        log.warn(`could not prolong the lease of ${formatLsn(lsn)}: ${errorMessage(error)}`);
      }
    }
  }
}

/** Where a data directory that was just fetched starts. */
function controlFileLsn(pgdata: string): Lsn {
  const path = join(pgdata, CONTROL_FILE_PATH);
  try {
    return parseControlFile(readFileSync(path)).checkPoint;
  } catch (error) {
    throw error instanceof ZenithError ? error : ioError("read", path, error);
  }
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

async function untilAccepting(
  sql: postgres.Sql,
  postmaster: PostgresProcess,
  signal: AbortSignal,
): Promise<void> {
  const deadline = Date.now() + STARTUP_TIMEOUT_MS;
  for (;;) {
    try {
      await sql`SELECT 1`;
      return;
    } catch (error) {
      if (!isStartingUp(error)) throw error;
      if (Date.now() > deadline) {
        throw new ZenithError("timeout", `Postgres accepts no connections: ${errorMessage(error)}`);
      }
    }
    await pauseWhileRunning(postmaster, STARTUP_POLL_MS, signal);
  }
}

/** ERRCODE_CANNOT_CONNECT_NOW, or nobody listens yet. */
function isStartingUp(error: unknown): boolean {
  const code = systemErrorCode(error);
  return code === "57P03" || code === "ECONNREFUSED" || code === "ECONNRESET" || code === "CONNECTION_CLOSED";
}

async function untilFollowed(
  sql: postgres.Sql,
  compute: ComputeIdentity,
  address: HostPort,
  postmaster: PostgresProcess,
  signal: AbortSignal,
): Promise<void> {
  const deadline = Date.now() + FOLLOW_TIMEOUT_MS;
  let nextCall = 0;
  while (!await isFollowed(sql)) {
    const now = Date.now();
    if (now >= nextCall) {
      await callMeMaybe(compute, address);
      nextCall = now + FOLLOW_POLL_MS;
    }
    if (now > deadline) {
      throw new ZenithError(
        "timeout",
        `the page server at ${formatHostPort(compute.pageServer)} does not receive this compute's WAL`,
        { hint: "see its log; it connects back to the compute's port" },
      );
    }
    await pauseWhileRunning(postmaster, STARTUP_POLL_MS, signal);
  }
}

async function pauseWhileRunning(
  postmaster: PostgresProcess,
  ms: number,
  signal: AbortSignal,
): Promise<void> {
  await sleep(ms, signal);
  signal.throwIfAborted();
  if (!postmaster.running) throw new ZenithError("unavailable", await postmaster.ended);
}

async function isFollowed(sql: postgres.Sql): Promise<boolean> {
  const rows = await sql`
    SELECT 1 FROM pg_stat_replication
    WHERE application_name = ${PAGESERVER_STANDBY_NAME} AND state IN ('catchup', 'streaming')`;
  return rows.length > 0;
}

/** Asks the page server to connect here and receive. */
async function callMeMaybe(compute: ComputeIdentity, address: HostPort): Promise<void> {
  const connstr = formatConnInfo({ ...address, user: ZENITH_SUPERUSER });
  await using pageServer = await connectPageServer(compute);
  await pageServer.query(`callmemaybe ${compute.tenant} ${compute.timeline} ${connstr}`);
}

async function fetchBasebackup<T>(
  compute: ComputeIdentity,
  lsn: Lsn | null,
  content: BasebackupContent,
  signal: AbortSignal,
  unpack: (tar: AsyncIterable<Uint8Array>) => Promise<T>,
): Promise<T> {
  const at = lsn === null ? "" : ` ${formatLsn(lsn)}`;
  const command = `basebackup ${compute.tenant} ${compute.timeline}${at}${content === "lazy" ? " lazy" : ""}`;
  await using pageServer = await connectPageServer(compute, signal);
  return await unpack(pageServer.copyOut(command));
}

/**
 * The `postgres` package would do but for COPY OUT: when the last chunk fills its buffer it never reads on, and the
 * connection stays busy for good.
 */
async function connectPageServer(compute: ComputeIdentity, signal?: AbortSignal): Promise<PgClient> {
  return await PgClient.connect({
    ...compute.pageServer,
    user: ZENITH_SUPERUSER,
    database: "zenith",
    applicationName: "zenith_compute",
    connectTimeoutMs: CONNECT_TIMEOUT_S * 1_000,
    ...(signal === undefined ? {} : { signal }),
  });
}

/** Ends early when `signal` is aborted. */
function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
    if (signal.aborted) done();
  });
}
