/**
 * Relation files that are fetched page by page. This module owns the FUSE mount, the thread that
 * serves it, and the connection to the page server.
 */
import { chmodSync, chownSync, closeSync, mkdirSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { errorMessage, ioError, ZenithError } from "../../common/errors.ts";
import { ForeignDirectory } from "../../common/foreign_directory.ts";
import { formatHostPort } from "../../common/host_port.ts";
import type { TenantId, TimelineId } from "../../common/id.ts";
import type { Logger } from "../../process/log.ts";
import { formatLsn } from "../../common/lsn.ts";
import type { ComputePaths } from "../../common/paths.ts";
import type { PgUser } from "../../pg_install/pg_user.ts";
import { CONTROL_FILE_PATH, DB_IN_ARCHIVE_RECOVERY, parseControlFile } from "../../postgres/control_file.ts";
import { nextRecordLsn } from "../../postgres/wal/page_header.ts";
import { decodeRelationManifest, RELATION_MANIFEST_FILE } from "../../protocol/relation_manifest.ts";
import type { Conditions } from "../postgres/conditions.ts";
import { BACKUP_GUARD } from "../postgres/configuration_files.ts";
import { extendInitialWal } from "../postgres/initial_wal.ts";
import { device } from "./fuse/device.ts";
import { DiskWatch } from "./files/disk_watch.ts";
import type { ExpectedRead } from "./files/first_reads.ts";
import type { HotRange } from "./pages/hot_pages.ts";
import { type Cover, linkMountedTablespaces, type Locations } from "../postgres/tablespaces.ts";
import { keepLsnLeased } from "./pages/lsn_lease.ts";
import { KeptPages } from "./pages/kept_pages.ts";
import { answerMissedRead, deviceWriter } from "./pages/missed_reads.ts";
import { type LazyWal, WalReads } from "./pages/wal_reads.ts";
import { bind, canBind, findMount, mountFuse, tunePageCache, unbind, unmount } from "./fuse/mount.ts";
import { PageFetcher } from "./pages/page_fetcher.ts";
import { NOBODY, Prewarmer, readHotPages, saveHotPages } from "./pages/prewarmer.ts";
import { wakeThread } from "./fuse/wake.ts";
import type { ServerAddress } from "../../protocol/connect.ts";
import { MOUNTED_DIRECTORIES, TABLESPACES } from "./remove_lazy_storage.ts";
import { ServingThread } from "./serving_thread.ts";
import { type ServeMessage, WAKE_TO_LOOK_AT_DISK, type WorkerMessage } from "./pages/worker_messages.ts";

export interface LazyStorageOptions {
  readonly paths: ComputePaths;
  readonly pageServer: ServerAddress;
  readonly tenant: TenantId;
  readonly timeline: TimelineId;
  /** The user that Postgres runs as. */
  readonly user: PgUser | undefined;
  /**
   * How much the overlay may hold before fetched pages are evicted. Infinity for as much as the
   * disk has.
   */
  readonly overlayMaxBytes: number;
  /** Whether {@link LazyStorage.prewarm} should do anything. */
  readonly prewarm: boolean;
  readonly conditions: Conditions;
  readonly log: Logger;
}

/**
 * The relation files of one running Postgres. The mount's dirty pages are in the kernel, and are
 * lost when its server dies. So the owner of this object must end Postgres when {@link failed}
 * rejects, and at its own death.
 */
export class LazyStorage {
  /** Rejects when the files can't be served any more. Never resolves. */
  readonly failed: Promise<never>;
  readonly #options: LazyStorageOptions;
  readonly #thread: ServingThread;
  readonly #keptPages = new KeptPages();
  #fail!: (error: ZenithError) => void;
  #serving!: () => void;
  readonly #whenServing: Promise<void>;
  #served!: () => void;
  /** Resolves when the serving thread has released the device, for whatever reason. */
  readonly #whenServed: Promise<void>;
  #mounting: Promise<number> | undefined;
  #deviceFd: number | undefined;
  #isServed = false;
  #fetcher: PageFetcher | undefined;
  #walReads: WalReads | undefined;
  #diskWatch: DiskWatch | undefined;
  #prewarmer: Prewarmer | undefined;
  /**
   * The inode of `pg_control`, which a running Postgres has read, so that the kernel knows it. Set
   * once the mount is served.
   */
  #controlFile = 0;
  /** What every session begins with; known once the mount is served. */
  #firstReads: readonly ExpectedRead[] = [];
  /** Set when the serving thread has ended. */
  #hotPages: readonly HotRange[] | undefined;
  readonly #lease = new AbortController();
  #leasing: Promise<void> | undefined;
  #closing = false;

  /** Starts the serving thread. That takes some time, in which other things can be done. */
  constructor(options: LazyStorageOptions) {
    this.#options = options;
    this.failed = new Promise((_resolve, reject) => this.#fail = reject);
    // It may fail before anybody waits for it.
    this.failed.catch(() => {});
    this.#whenServing = new Promise((resolve) => this.#serving = resolve);
    this.#whenServed = new Promise((resolve) => this.#served = resolve);
    this.#thread = ServingThread.take({
      onMessage: (message) => this.#onMessage(message),
      onEnd: (how) => this.#onThreadEnd(how),
    });
  }

  /** Begins with what doesn't need the data directory. {@link serve} waits for it. */
  prepare(): void {
    const { paths, user } = this.#options;
    try {
      mkdirSync(paths.mount, { recursive: true });
      if (user !== undefined) chownSync(paths.mount, user.uid, user.gid);
    } catch (error) {
      throw ioError("set up", paths.mount, error);
    }
    this.#mounting = mountFuse(paths.mount).then((fd) => this.#deviceFd = fd);
    // serve() may never be called.
    this.#mounting.catch(() => {});
  }

  /**
   * Turns the lazy basebackup in the data directory into a complete data directory.
   *
   * @param locations the locations of tablespaces that are to be covered; undefined to show
   *   tablespaces as directories
   * @param wal segments to which the data directory has links
   * @throws {ZenithError} when it can't be mounted
   */
  async serve(locations: Locations | undefined, wal: LazyWal | undefined): Promise<readonly Cover[]> {
    const { paths, user, log, pageServer, tenant, timeline } = this.#options;
    const manifestBytes = takeForeignFile(paths.pgdata, RELATION_MANIFEST_FILE);
    const manifest = decodeRelationManifest(manifestBytes);
    const control = parseControlFile(readControlFile(paths.pgdata));
    // A replica's control file says that its pages are of the minimum recovery point.
    const at = control.state === DB_IN_ARCHIVE_RECOVERY
      ? nextRecordLsn(control.minRecoveryPoint, control.xlog_seg_size)
      : control.checkPoint;
    if (at !== manifest.lsn) {
      throw new ZenithError(
        "protocol",
        `the basebackup's control file is of ${formatLsn(at)}, its manifest of ${formatLsn(manifest.lsn)}`,
      );
    }
    extendInitialWal(paths.pgdata, control.xlog_seg_size);
    const seedDirectory = this.#moveIntoOverlay();

    const deviceFd = await this.#mounting!;
    this.#fetcher = new PageFetcher({
      pageServer,
      tenant,
      timeline,
      lsn: manifest.lsn,
      checksums: control.data_checksum_version !== 0,
      log,
      onLost: (lost) => {
        const text = `reads of pages that are not here wait for the page server at ${
          formatHostPort(pageServer)
        }`;
        this.#options.conditions.set("page server", lost ? text : undefined, {
          hint: 'start it with "zenith start"; what waits goes on then',
          down: false,
        });
      },
      onPage: (inode, block, bytes, at) => this.#keptPages.offer(inode, block, bytes, at),
    });
    if (wal !== undefined) {
      this.#walReads = new WalReads(wal, this.#fetcher, deviceWriter(deviceFd), log);
    }
    const lease = { pageServer, tenant, timeline, lsn: manifest.lsn, log };
    this.#leasing = keepLsnLeased({ ...lease, onLost: (error) => this.#fail(error) }, this.#lease.signal);
    const owner = user ?? { uid: process.getuid!(), gid: process.getgid!() };
    const hotPages = this.#options.prewarm ? readHotPages(paths.hotPages, log) : [];
    const { conditions } = this.#options;
    this.#prewarmer = new Prewarmer({ hotPages, fetcher: this.#fetcher, deviceFd, conditions, log });
    const serve: ServeMessage = {
      deviceFd,
      pgMajor: control.pg.major,
      manifest: manifestBytes,
      seedDirectory,
      overlayDirectory: paths.overlay,
      overlayMaxBytes: this.#options.overlayMaxBytes,
      prewarm: hotPages,
      wal: wal?.range ?? null,
      owner: { uid: owner.uid, gid: owner.gid },
      keptPages: this.#keptPages.buffer,
    };
    this.#thread.serve(serve);
    this.#isServed = true;
    const serving = this.#whenServing.then(() => this.#onServing(deviceFd));
    serving.catch((error) => this.#fail(asFailure(error)));
    // Binding looks at the mount. That waits until the kernel and the thread have agreed on the
    // protocol.
    if (canBind()) await Promise.race([serving, this.failed]);
    const covers = this.#showInDataDirectory(locations);
    log.info("relation files mounted", { lsn: formatLsn(manifest.lsn), forks: manifest.entries.length });
    return covers;
  }

  /**
   * Fetches in the background what every session begins with. What the supervisor itself reads
   * before Postgres runs would have to wait behind that.
   */
  fetchFirstReads(): void {
    for (const { inode, remote, block, blocks } of this.#firstReads) {
      this.#fetcher!.fetch(inode, remote, block, blocks, NOBODY);
    }
  }

  /**
   * Fetches in the background what was hot at the last stop, if prewarming is wanted. Postgres must
   * have started.
   */
  prewarm(): void {
    this.#prewarmer?.start(this.#controlFile);
  }

  /** Saves the list of hot pages for the next start. Call it after {@link close}. */
  saveHotPages(): void {
    const { paths, log } = this.#options;
    if (this.#hotPages !== undefined) saveHotPages(paths.hotPages, this.#hotPages, log);
  }

  /** Fails the reads that wait for the page server, and all later ones. */
  giveUpReads(): void {
    this.#prewarmer?.stop();
    this.#fetcher?.close();
  }

  /**
   * Unmounts the files and stops serving them. All processes of Postgres must have ended, because
   * they would find files missing where the mount was.
   */
  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    this.#diskWatch?.stop();
    this.giveUpReads();
    this.#lease.abort();
    await this.#mounting?.catch(() => {});
    // Deferred calls run in reverse order, each even if one before it fails.
    await using ending = new AsyncDisposableStack();
    ending.defer(() => this.#leasing);
    ending.defer(() => rmSync(this.#options.paths.overlay, { recursive: true, force: true }));
    ending.defer(() => {
      if (this.#deviceFd !== undefined) device.close(this.#deviceFd);
    });
    // While the mount exists, the serving thread waits for the kernel, and can't be ended.
    const unmounted = (): boolean => findMount(this.#options.paths.mount) === undefined;
    ending.defer(async () => {
      if (this.#isServed && !unmounted()) return;
      if (this.#isServed) await this.#whenServed;
      if (!this.#isServed || this.#hotPages !== undefined) this.#thread.giveBack();
    });
    ending.defer(() => void unmount(this.#options.paths.mount));
    for (const name of MOUNTED_DIRECTORIES) {
      ending.defer(() => unbind(join(this.#options.paths.pgdata, name)));
    }
  }

  /**
   * Shows the mount's directories in the data directory. They are directories there instead of
   * links, because backup tools don't follow links.
   */
  #showInDataDirectory(locations: Locations | undefined): readonly Cover[] {
    const { paths, user } = this.#options;
    try {
      using pgdata = ForeignDirectory.open(paths.pgdata);
      for (const name of MOUNTED_DIRECTORIES) {
        if (name === TABLESPACES && locations !== undefined) continue;
        if (!canBind()) {
          pgdata.link(name, join(paths.mount, name));
          continue;
        }
        using directory = pgdata.makeDirectory(name, user);
        bind(join(paths.mount, name), directory);
      }
      if (!canBind()) closeSync(pgdata.createFile(BACKUP_GUARD, 0, user));
      return locations === undefined ? [] : linkMountedTablespaces(paths, pgdata, locations, user);
    } catch (error) {
      throw error instanceof ZenithError ? error : ioError("set up", paths.pgdata, error);
    }
  }

  /** Creates the overlay, and moves the mount's first contents into it. */
  #moveIntoOverlay(): string {
    const { paths } = this.#options;
    const seed = join(paths.overlay, "seed");
    try {
      mkdirSync(seed, { recursive: true });
      // Postgres must not read these files except through the mount.
      chmodSync(paths.overlay, 0o700);
      using pgdata = ForeignDirectory.open(paths.pgdata);
      for (const name of MOUNTED_DIRECTORIES) {
        pgdata.moveTo(name, join(seed, name));
        // From here on the files are ours, even for processes that have them open.
        using moved = ForeignDirectory.open(join(seed, name));
        const former = moved.stat().uid;
        if (process.getuid!() !== former) {
          moved.handOver(former, { uid: process.getuid!(), gid: process.getgid!() });
        }
      }
    } catch (error) {
      throw error instanceof ZenithError ? error : ioError("set up", paths.overlay, error);
    }
    return seed;
  }

  #onMessage(message: WorkerMessage): void {
    switch (message.type) {
      case "miss":
        if ("walStart" in message.miss.remote) {
          void this.#walReads!.answer(message.miss);
          return;
        }
        this.#prewarmer?.noteMiss(message.miss.inode);
        answerMissedRead(message.miss, this.#fetcher!, deviceWriter(this.#deviceFd!));
        return;
      case "expected":
        this.#firstReads = message.reads;
        return;
      case "prewarm":
        this.#prewarmer!.step(message.reads, message.knownInode).catch((error) =>
          this.#fail(asFailure(error))
        );
        return;
      case "serving":
        this.#controlFile = message.controlFile;
        this.#serving();
        return;
      case "overlay full":
        this.#reportWritten(message.writtenBytes);
        return;
      case "disk low":
        this.#diskWatch?.setLow(message.isLow);
        return;
      case "unmounted":
        this.#hotPages = message.hotPages;
        this.#onThreadEnd("somebody has unmounted them");
        return;
      case "failed":
        this.#served();
        this.#fail(new ZenithError(message.kind, `relation files can't be served: ${message.message}`));
    }
  }

  /**
   * Tunes the mount after the first exchange with the kernel, which resets what was tuned before.
   */
  #onServing(deviceFd: number): void {
    const { paths, conditions, log } = this.#options;
    const mounted = findMount(paths.mount);
    if (mounted === undefined || this.#closing) return;
    const untuned = tunePageCache(mounted);
    if (untuned.length > 0) {
      log.warn(`page cache of the mount as the kernel sets it up: ${untuned.join("; ")}`);
    }
    const look = (): void => {
      wakeThread(deviceFd, this.#controlFile, WAKE_TO_LOOK_AT_DISK);
    };
    this.#diskWatch = new DiskWatch({ directory: paths.overlay, mounted, conditions, log, look });
  }

  #reportWritten(writtenBytes: number): void {
    const { conditions, log, overlayMaxBytes } = this.#options;
    if (writtenBytes === 0) {
      conditions.set("overlay", undefined);
      log.info("what this compute has written fits into compute.overlay_max_mb again");
      return;
    }
    const text =
      `what this compute has written takes more of the disk, ${megabytes(writtenBytes)} and more, than the ` +
      `${megabytes(overlayMaxBytes)} of compute.overlay_max_mb`;
    const hint = "restart this Postgres, or give compute.overlay_max_mb more";
    conditions.set("overlay", text, { hint, down: false });
    log.warn(`${text}: only a restart can give it up; fetched pages are not kept meanwhile`);
  }

  #onThreadEnd(how: string): void {
    this.#served();
    if (this.#closing) return;
    this.#fail(new ZenithError("io", `relation files are not served any more: ${how}`));
  }
}

/** A list of 100,000 relation forks takes about 3 MB. */
const MANIFEST_MAX_BYTES = 1 << 30;

const CONTROL_FILE_MAX_BYTES = 8192;

/** Reads a file and removes it. */
function takeForeignFile(directory: string, name: string): Uint8Array {
  using opened = ForeignDirectory.open(directory);
  const bytes = opened.read(name, MANIFEST_MAX_BYTES);
  opened.remove(name);
  return bytes;
}

function readControlFile(pgdata: string): Uint8Array {
  using directory = ForeignDirectory.open(pgdata);
  using global = directory.directory(dirname(CONTROL_FILE_PATH));
  return global.read(basename(CONTROL_FILE_PATH), CONTROL_FILE_MAX_BYTES);
}

function asFailure(error: unknown): ZenithError {
  if (error instanceof ZenithError) return error;
  return new ZenithError("io", `relation files can't be served: ${errorMessage(error)}`, { cause: error });
}

function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / (1 << 20))} MB`;
}
