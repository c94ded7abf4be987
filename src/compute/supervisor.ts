/**
 * The compute role: builds the data directory, runs stock Postgres on it, and makes its WAL
 * durable.
 */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { writePrivateFile } from "../auth/private_file.ts";
import { errorMessage, ZenithError } from "../common/errors.ts";
import type { HostPort } from "../common/host_port.ts";
import { formatLsn, type Lsn } from "../common/lsn.ts";
import type { Logger } from "../process/log.ts";
import type { ComputePaths } from "../common/paths.ts";
import { unlessAborted } from "../common/unless_aborted.ts";
import type { PostgresLocation } from "../pg_install/find_postgres.ts";
import { ZENITH_OWNER, ZENITH_SUPERUSER } from "../pg_install/initdb.ts";
import { assertReachable, closeToOthers, makeOwnedDirectory, type PgUser } from "../pg_install/pg_user.ts";
import { checkpointByBaseBackup } from "../pgwire/base_backup.ts";
import { COMPUTE_NAME } from "../protocol/wal_connection.ts";
import { Attachment } from "./attachment.ts";
import { EarlyFetch } from "./early_fetch.ts";
import { prepareAccessRole } from "./postgres/access_role.ts";
import { computeUser } from "./postgres/compute_user.ts";
import { type ClientAccess, followClientAccess, writeClientAccess } from "./postgres/client_access.ts";
import type { TakenSlots } from "../protocol/management.ts";
import type { Conditions } from "./postgres/conditions.ts";
import {
  clearDataDirectory,
  dataDirectoryMajor,
  type DataDirectoryProgress,
  unpackBasebackup,
} from "./postgres/data_directory.ts";
import { type Durability, type LocalPostgres, ReadOnlyPast } from "./durability.ts";
import { type FirstStartWishes, isFirstStart, prepareFirstStart, withoutCron } from "./first_start.ts";
import { LazyStorage } from "./lazy/lazy_storage.ts";
import type { LazyWal } from "./lazy/pages/wal_reads.ts";
import { removeLazyStorage } from "./lazy/remove_lazy_storage.ts";
import { PageServerFollower } from "./page_server_follower.ts";
import { fetchBasebackup, fetchTimelineStatus, takeSlots } from "./page_server_link.ts";
import {
  assertUsable,
  clientHost,
  type ComputeIdentity,
  computeIdentity,
  forcedSettings,
  ownSettings,
  readComputeConf,
  readSettings,
  separateComputeConf,
  standbySlots,
  superuserSetting,
  withCredentials,
} from "./postgres/postgres_conf.ts";
import { type CgroupLimits, makeCgroup } from "./postgres/cgroup.ts";
import { endOrphan, PostgresProcess, untilAccepting } from "./postgres/postgres_process.ts";
import { connectPrivately, removeLeftSockets, socketDirectories } from "./postgres/private_socket.ts";
import { type RolePasswords, rolePasswords, unknownPasswords } from "./postgres/role_passwords.ts";
import { keepRoles, type KeepRolesOptions } from "./kept_roles.ts";
import { readControlFile } from "./postgres/tenant_file.ts";
import {
  chooseLocations,
  type Cover,
  linkTablespaces,
  removeLeftTablespaces,
  takeTablespaceMap,
} from "./postgres/tablespaces.ts";
import { giveUpLeftWal, LeftWal } from "./proposer/left_wal.ts";
import { closeTablespaces } from "./replica_files.ts";
import { Replica } from "./replica.ts";
import { type LastTerm, SafekeeperQuorum } from "./safekeeper_quorum.ts";
import { followSettings, settleSettings } from "./settings_sync.ts";
import { type RestoredSlots, restoreSlots } from "./slots_restore.ts";
import { followSlots } from "./slots_sync.ts";
import { chooseStorage, type StorageChoice } from "./storage.ts";
import { watchSubscriptions } from "./subscription_watch.ts";
import { logCleanUp, type RunningCompute, supervise } from "./supervise.ts";

export interface ComputeOptions {
  readonly paths: ComputePaths;
  /** The file with the token for its servers. Defaults to the compute's own. */
  readonly tokenFile: string | undefined;
  /** The file with the certificates by which it recognizes servers on other machines. */
  readonly caFile: string;
  /** Finds the PostgreSQL of a major. */
  readonly locatePostgres: (major: number) => PostgresLocation;
  /** How the compute gets its relation files. */
  readonly storage: StorageChoice;
  /**
   * How many bytes of the disk the fetched and written pages of lazy storage may take. Infinity for
   * all of it.
   */
  readonly overlayMaxBytes: number;
  /** What its Postgres may take of the machine. */
  readonly cgroup?: CgroupLimits | undefined;
  /**
   * Whether to fetch in the background, once Postgres runs, the pages that were hot at the last
   * stop. Only for lazy storage.
   */
  readonly prewarm: boolean;
  /**
   * The LSN at which to read the past, without writing to the branch. Null to continue at the end
   * of the branch.
   */
  readonly readOnlyAt: Lsn | null;
  /**
   * Where the branch's own Postgres is, to follow the branch without writing to it. Null for the
   * branch's own, and to read the past.
   */
  readonly follow: HostPort | null;
  /** What the user wants of the branch's first start. */
  readonly wishes: FirstStartWishes;
  /** Whether this process began with the branch's first start. */
  readonly first: { isFirst: boolean };
  readonly conditions: Conditions;
  /**
   * The last term in which this compute asked safekeepers for votes. A compute that is started
   * afresh must not take over from a newer one.
   */
  readonly lastTerm: LastTerm;
  readonly log: Logger;
  readonly progress: (text: string) => void;
  /** Aborted, with the error to end with, to give up the start. */
  readonly signal: AbortSignal;
}

/** @throws {ZenithError} why it could not start; nothing is left running then */
export async function runCompute(options: ComputeOptions): Promise<RunningCompute> {
  const { paths, log, progress } = options;
  const user = computeUser(paths);
  const settings = readComputeConf(paths);
  const compute = withCredentials(computeIdentity(settings, paths.config), {
    tokenFile: options.tokenFile ?? paths.token,
    caFile: options.caFile,
  });
  const host = clientHost(settings);
  if (host === undefined) {
    throw new ZenithError("invalid_argument", "listen_addresses is empty: the page server could not connect");
  }
  const address = { host, port: compute.port };
  const { wishes, first } = options;
  // While a branch is being masked, nobody else may know how to get in.
  const passwords = wishes.mask === null ? rolePasswords(paths.pgpass) : unknownPasswords();
  rmSync(paths.masked, { force: true });
  makeOwnedDirectory(paths.socketDir, user);
  makeOwnedDirectory(paths.pgdata, user);
  closeToOthers(paths.pgdata);
  if (await endOrphan(paths.pgdata)) log.warn("ended a Postgres that an earlier supervisor had left behind");

  removeLeftSockets(paths.socketDir);
  separateComputeConf(paths, user);
  removeLazyStorage(paths);
  removeLeftTablespaces(paths, user, log);
  const leftWal = new LeftWal(paths, user, log);
  const writes = options.readOnlyAt === null && options.follow === null;
  if (writes && compute.walAcceptors.length > 0) leftWal.putAside();
  else leftWal.remove();
  clearDataDirectory(paths.pgdata);
  const cgroup = options.cgroup === undefined ? undefined : makeCgroup(options.cgroup);
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
  const durability = chooseDurability(compute, leftWal, passwords, user, options);
  const attaching = Attachment.open(compute, log);
  // It may fail while something else is awaited.
  attaching.catch(() => {});
  const syncing = { compute, paths, user, conditions: options.conditions, log };
  // If the start fails, the parts that were started end in reverse order, each even if ending
  // another one fails.
  const started = new AsyncDisposableStack();
  started.defer(() => attaching.then((attachment) => attachment.close(), () => {}));
  if (lazy !== undefined) started.defer(() => lazy.close());
  started.defer(() => durability.stop());
  let local: LocalPostgres;
  const isAnothers = (): boolean => first.isFirst && !wishes.keepCron || !writes;
  const ownLine = (): Record<string, string> => ({
    ...ownSettings(settings),
    unix_socket_directories: socketDirectories(
      settings.get("unix_socket_directories") ?? "",
      paths.socketDir,
    ),
    ...(isAnothers() ? withoutCron(readSettings(paths.pgdata)) : {}),
  });
  const start = (install: PostgresLocation): Promise<PostgresProcess> =>
    PostgresProcess.start({
      install,
      pgdata: paths.pgdata,
      user,
      logFile: paths.postgresLog,
      covers,
      cgroup,
      settings: {
        ...ownLine(),
        ...superuserSetting(role),
        ...accessSettings,
        ...durability.settings,
        ...standbySlots(install.major, durability.slot, readSettings(paths.pgdata)),
        ...forcedSettings(install.major),
      },
    });
  let covers: readonly Cover[] = [];
  let role: string = ZENITH_SUPERUSER;
  let accessSettings: Readonly<Record<string, string>> = {};
  let install: PostgresLocation;
  const slotsOptions = { ...syncing, durability };
  let slots: Slots | undefined;
  let clientAccess: ClientAccess;
  try {
    const known = await unlessAborted(fetchTimelineStatus(compute), options.signal);
    // A compute that only reads changes nothing in the branch.
    const settling = writes ? settleSettings(syncing) : Promise.resolve();
    settling.catch(() => {});
    const fetch = (lsn: Lsn | null, walFrom: Lsn | null, signal: AbortSignal): Promise<void> =>
      fetchDataDirectory({ ...options, signal }, compute, lsn, walFrom, user, storage.mode);
    // As far as the page server knows, nobody has written to the branch.
    const isLikelyFirst = writes && compute.walAcceptors.length > 0 && lazy !== undefined &&
      known.untouched &&
      (known.wal_timeline ?? 1) === 1;
    const early = isLikelyFirst
      ? new EarlyFetch(known.wal_position, options.signal, (lsn, signal) => fetch(lsn, null, signal))
      : undefined;
    if (early !== undefined) started.defer(() => early.giveUp());
    const chosen = await unlessAborted(durability.chooseStart(known, progress), options.signal);
    lazy?.prepare();
    // By now, an earlier compute can't commit anything more.
    const taken = writes ? await takeSlots(compute) : undefined;
    // A lazy compute fetches the WAL of slots when somebody reads it.
    const slotsFrom = lazy === undefined ? taken?.hold_lsn ?? null : null;
    const walFrom = durability instanceof Replica ? durability.redoLsn : slotsFrom;
    if (early !== undefined && early.lsn === chosen) await early.done();
    else {
      if (early !== undefined) {
        await early.giveUp();
        clearDataDirectory(paths.pgdata);
        log.info("the page server lacks what the branch ends with: fetching another data directory");
      }
      await fetch(chosen, walFrom, options.signal);
    }
    durability.prepareDataDirectory();
    if (durability instanceof ReadOnlyPast && lazy === undefined) {
      const control = await readControlFile(paths.pgdata);
      durability.keepReadable({ ...compute, lsn: control.checkPoint, log });
    }
    if (taken !== undefined) {
      slots = { taken, restored: await restoreSlots(slotsOptions, taken, storage.mode) };
    }
    install = options.locatePostgres(dataDirectoryMajor(paths.pgdata));
    assertReachable(install.binDir, user);
    await attaching;
    covers = await placeTablespaces(paths, lazy, slots?.restored.wal, user, install.binDir, log);
    if (durability instanceof Replica) closeTablespaces(paths.pgdata);
    await settling;
    assertUsable(readSettings(paths.pgdata), join(paths.pgdata, "postgresql.conf"));
    progress("starting Postgres");
    const access = { install, pgdata: paths.pgdata, user, covers, cgroup, logFile: paths.postgresLog, log };
    // A replica's roles are those of its branch, and come with the branch's WAL.
    const accessRole = durability instanceof Replica ? undefined : await prepareAccessRole(access);
    role = accessRole?.name ?? ZENITH_SUPERUSER;
    if (writes && isFirstStart(known, durability.endLsn ?? chosen)) {
      first.isFirst = true;
      const done = await prepareFirstStart({
        ...access,
        role,
        slot: durability.slot,
        settings: ownLine(),
        wishes,
        signal: options.signal,
      });
      if (wishes.mask !== null) {
        const control = await readControlFile(paths.pgdata);
        writePrivateFile(paths.masked, `${formatLsn(control.checkPoint)}\n`);
      }
      if (done !== undefined) log.warn(done);
      options.conditions.set("first start", done);
    } else if (wishes.mask !== null) {
      // Part of the mask may have got through before a crash.
      throw new ZenithError("conflict", "only a branch that nobody has written to can be masked");
    } else if (wishes.sqlFile !== null && !first.isFirst) {
      throw new ZenithError(
        "conflict",
        "--first-start-sql is for the first start of a branch: this is not it",
      );
    }
    clientAccess = {
      paths,
      user,
      major: install.major,
      role,
      admitsPageServer: durability instanceof PageServerFollower,
      admitsUsers: wishes.mask === null,
    };
    accessSettings = writeClientAccess(clientAccess);
    durability.beforeServing();
    const postmaster = await start(install);
    started.defer(() => postmaster.endChildren(() => lazy?.giveUpReads()));
    started.defer(() => postmaster.end());
    lazy?.fetchFirstReads();
    const socket = { directory: paths.socketDir, port: compute.port };
    local = {
      address,
      role,
      password: passwords.get(ZENITH_SUPERUSER)!.password,
      connect: (wanted) => connectPrivately(socket, { ...wanted, role }),
      process: postmaster,
    };
    const keeping = accessRole && {
      local,
      access: accessRole,
      major: install.major,
      pgdata: paths.pgdata,
      verifiers: {
        superuser: passwords.get(ZENITH_SUPERUSER)!.verifier,
        owner: passwords.get(ZENITH_OWNER)!.verifier,
      },
      signal: options.signal,
    };
    const starting = untilServing(local, keeping, durability, options);
    await Promise.race([starting, durability.failed, ...(lazy === undefined ? [] : [lazy.failed])]);
  } catch (error) {
    await started.disposeAsync().catch((failure: unknown) => logCleanUp(log, failure));
    throw error;
  }
  lazy?.prewarm();
  const startAgain = async (): Promise<PostgresProcess> => {
    const again = await start(install);
    await untilAccepting(again, paths.pgdata, new AbortController().signal);
    return again;
  };
  const { conditions } = options;
  const attachment = await attaching;
  if (writes) {
    attachment.takeCheckpoints(async () => {
      const client = await local.connect({ applicationName: COMPUTE_NAME, replication: true });
      try {
        return await checkpointByBaseBackup(client, COMPUTE_NAME);
      } finally {
        client.destroy();
      }
    });
  }
  const follow = async (signal: AbortSignal): Promise<void> => {
    const following = followClientAccess(clientAccess, log, signal);
    if (slots === undefined) return await following;
    const { taken, restored } = slots;
    await Promise.all([
      following,
      followSettings(syncing, signal),
      followSlots(slotsOptions, taken, restored.slots, signal),
      watchSubscriptions({ pgdata: paths.pgdata, major: install.major, conditions }, signal),
    ]);
  };
  return supervise({
    followChanges: follow,
    local,
    pgdata: paths.pgdata,
    removeLeft: () => removeLeftTablespaces(paths, user, log),
    giveUpLeftWal: () => giveUpLeftWal(paths),
    startAgain,
    durability,
    lazy,
    attachment,
    conditions,
    log,
  });
}

/** The branch's replication slots as they were at the start. */
interface Slots {
  readonly taken: TakenSlots;
  readonly restored: RestoredSlots;
}

function chooseDurability(
  compute: ComputeIdentity,
  leftWal: LeftWal,
  passwords: RolePasswords,
  user: PgUser | undefined,
  { paths, readOnlyAt, follow, lastTerm, tokenFile, caFile, log }: ComputeOptions,
): Durability {
  if (follow !== null) {
    const { password } = passwords.get(ZENITH_SUPERUSER)!;
    return new Replica({
      compute,
      primary: follow,
      password,
      pgdata: paths.pgdata,
      user,
      libpqDir: paths.socketDir,
      caFile,
      tokenFile: existsSync(paths.walToken) ? paths.walToken : tokenFile ?? paths.token,
      log,
    });
  }
  if (readOnlyAt !== null) return new ReadOnlyPast(readOnlyAt);
  return compute.walAcceptors.length > 0
    ? new SafekeeperQuorum(compute, paths.pgdata, user, lastTerm, leftWal, log)
    : new PageServerFollower(compute, log);
}

async function fetchDataDirectory(
  options: ComputeOptions,
  compute: ComputeIdentity,
  startLsn: Lsn | null,
  walFrom: Lsn | null,
  user: PgUser | undefined,
  mode: "lazy" | "eager",
): Promise<void> {
  const { paths, log, progress, signal } = options;
  progress("fetching the data directory");
  const content = mode === "lazy" ? "lazy" : "complete";
  const fetched = await fetchBasebackup(compute, startLsn, walFrom, content, signal, (tar) => {
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

/**
 * Puts tablespaces where Postgres will look for them. This is the last step before a data directory
 * is complete.
 */
async function placeTablespaces(
  paths: ComputePaths,
  lazy: LazyStorage | undefined,
  wal: LazyWal | undefined,
  user: PgUser | undefined,
  binDir: string,
  log: Logger,
): Promise<readonly Cover[]> {
  const given = takeTablespaceMap(paths.pgdata);
  const chosen = chooseLocations(given, user, [paths.dir, binDir]);
  const locations = typeof chosen === "string" ? undefined : chosen;
  if (locations === undefined && given.size > 0) {
    log.info(`tablespaces do not show their locations: ${chosen}`);
  }
  if (lazy !== undefined) return await lazy.serve(locations, wal);
  return locations === undefined || locations.size === 0 ? [] : linkTablespaces(paths, locations);
}

async function untilServing(
  local: LocalPostgres,
  keeping: KeepRolesOptions | undefined,
  durability: Durability,
  { paths, log, conditions, signal, progress }: ComputeOptions,
): Promise<void> {
  await untilAccepting(local.process, paths.pgdata, signal);
  try {
    if (keeping !== undefined) await keepRoles(keeping);
  } catch (error) {
    signal.throwIfAborted();
    if (!local.process.running) throw error;
    const text = `its roles or their passwords could not be set: ${errorMessage(error)}`;
    log.warn(text);
    conditions.set("roles", text, { hint: "the next start tries again", down: false });
  }
  await durability.follow(local, signal, progress);
}
