/** Makes a tenant from the files of a stopped cluster, or of a base backup with its WAL. */
import { join } from "node:path";
import type { PgBackRestRepository } from "../../archive/pgbackrest/repository.ts";
import { readArchivedWal } from "../../archive/archived_wal.ts";
import type { BackupFileContent } from "../../archive/pgbackrest/repository_backup.ts";
import { WalArchive } from "../../archive/wal_archive.ts";
import type { ArchiveLocation } from "../../common/archive_location.ts";
import { ioError, ZenithError } from "../../common/errors.ts";
import {
  branchFileName,
  type BranchName,
  generateTimelineId,
  type TenantId,
  type TimelineId,
} from "../../common/id.ts";
import { formatLsn, INVALID_LSN, type Lsn, lsn } from "../../common/lsn.ts";
import { MOUNT_FILE } from "../../common/paths.ts";
import { timestampOfMs } from "../../common/timestamp.ts";
import { changeMetadata, Retention, TimelineStore, type TimelineStoreOptions } from "../../pagestore/mod.ts";
import { type BackupFile, backupFile } from "../../postgres/cluster/backup_files.ts";
import { encodeCheckpoint } from "../../postgres/cluster/checkpoint.ts";
import { type ControlFile, encodeControlFile } from "../../postgres/control_file.ts";
import { PG_MAJORS, pgVersion } from "../../postgres/versions/find_version.ts";
import { nextRecordLsn, WAL_TLI } from "../../postgres/wal/page_header.ts";
import { encodeSettings, type SettingsFiles } from "../../protocol/branch_settings.ts";
import { encodeTablespaceMap, TABLESPACE_MAP_FILE } from "../../protocol/tablespace_map.ts";
import { TarReader } from "../../protocol/tar.ts";
import { WalStore } from "../../wal_store/wal_store.ts";
import { CommitTimes } from "../content/commit_times.ts";
import { CHECKPOINT_KEY, CONTROL_KEY } from "../content/keys.ts";
import { SingleValues } from "../content/single_values.ts";
import { BackupWal } from "../ingest/backup_wal.ts";
import { type BackupWindow, findBackupWindow } from "../ingest/backup_window.ts";
import { BaseFiles, type ClusterFacts } from "../ingest/base_files.ts";
import { mountFile, type MountState } from "../timeline/mount_state.ts";
import { MountedBackup, mountedFiles } from "../timeline/mounted_backup.ts";
import { Leases } from "../timeline/leases.ts";
import { TimelineSafekeepers } from "../timeline/safekeepers.ts";
import { TimelineSettings } from "../timeline/settings.ts";
import { TimelineSlots } from "../timeline/slots.ts";
import { Timeline } from "../timeline/timeline.ts";
import { UploadedLsn } from "../timeline/uploaded.ts";
import { encodeTimelineInfo } from "../timeline/timeline_info.ts";
import { encodeBranchFile } from "./branch_file_format.ts";
import { storeOptions, type TenantContext } from "./context.ts";

/** The versions of the files are above this LSN, and far below that of any record. */
const BEFORE_FILES = lsn(1);

/** Those of files that are read later, which come before all others. */
const MOUNTED_FILES = lsn(2);

/** The subdirectory for the backup's WAL, as it came. */
const WAL_DIRECTORY = "imported-wal";

/** What an import has brought. */
export interface ImportedCluster {
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
  readonly pgMajor: number;
  readonly systemIdentifier: bigint;
  /** The LSN where history begins, and its end. */
  readonly beginsAt: Lsn;
  readonly endsAt: Lsn;
  /** The size of the relations that came, in bytes. */
  readonly bytes: number;
  /** The timeline, PostgreSQL's, that the cluster was on. */
  readonly tli: number;
}

/**
 * An import under way. The tenant appears complete or not at all: until {@link finish} has ended,
 * everything is in a directory that the next start of the page server removes.
 */
export class TenantImport {
  readonly #id: TenantId;
  readonly #branch: BranchName;
  readonly #context: TenantContext;
  readonly #workdir: string;
  readonly #timelineId: TimelineId;
  readonly #store: TimelineStore;
  readonly #wal: BackupWal;
  readonly #base: BaseFiles;
  #tar: TarReader;
  /** The backup of which files are read later. Null when all of them come now. */
  #mountState: MountState | null = null;
  #isStoreOpen = true;

  private constructor(
    id: TenantId,
    branch: BranchName,
    context: TenantContext,
    timelineId: TimelineId,
    store: TimelineStore,
    firstLsn: Lsn,
  ) {
    this.#id = id;
    this.#branch = branch;
    this.#context = context;
    this.#workdir = context.paths.tenantInProgress(id);
    this.#timelineId = timelineId;
    this.#store = store;
    this.#wal = new BackupWal(context.disk, join(this.#workdir, WAL_DIRECTORY));
    this.#base = new BaseFiles(store, this.#wal, firstLsn);
    this.#tar = new TarReader(this.#base);
  }

  /**
   * Begins the import of a tenant that does not exist.
   *
   * @param branch the name of its branch
   * @param isMount whether its files come by {@link mount}, instead of {@link push}
   * @throws {ZenithError} `disk_full`, `io`
   */
  static async begin(
    id: TenantId,
    branch: BranchName,
    context: TenantContext,
    isMount: boolean,
  ): Promise<TenantImport> {
    const { disk, paths } = context;
    const workdir = paths.tenantInProgress(id);
    const timelineId = generateTimelineId();
    try {
      disk.mkdirsSync(paths.tenants);
      await disk.removeTree(workdir);
      disk.mkdirSync(workdir);
      for (const name of ["branches", "timelines", WAL_DIRECTORY]) disk.mkdirSync(join(workdir, name));
    } catch (error) {
      throw ioError("prepare", workdir, error);
    }
    const store = await TimelineStore.create(join(workdir, "timelines", timelineId), {
      ...optionsForFiles(context),
      startLsn: BEFORE_FILES,
    });
    const run = new TenantImport(
      id,
      branch,
      context,
      timelineId,
      store,
      lsn((isMount ? MOUNTED_FILES : BEFORE_FILES) + 1),
    );
    if (!isMount) noteEarlierRecord(store, BEFORE_FILES);
    return run;
  }

  /**
   * Takes the next bytes of a tar with the cluster's files, in any order. Tablespaces are
   * directories below `pg_tblspc`.
   *
   * @throws {ZenithError} `protocol`, `corrupt_data`, `disk_full`, `io`
   */
  push(bytes: Uint8Array): void {
    this.#tar.push(bytes);
  }

  /**
   * Begins another tar, whose last one must be complete.
   *
   * @param prefix the directory that its names are relative to, with a slash at its end, or ""
   */
  nextArchive(prefix: string): void {
    const base = this.#base;
    this.#tar = new TarReader({
      begin: (entry) => base.begin({ ...entry, name: prefix + entry.name.replace(/^\.\//, "") }),
      content: (bytes) => base.content(bytes),
      end: () => base.end(),
    });
  }

  /**
   * Takes a backup in a repository. Of what relations hold it takes the lengths; the rest is read
   * when it is needed.
   *
   * @param label the backup's
   * @throws {ZenithError} what is wrong with the backup; `disk_full`, `io`
   */
  async mount(
    repository: PgBackRestRepository,
    location: ArchiveLocation,
    label: string,
    signal: AbortSignal,
  ): Promise<void> {
    const backup = await repository.openBackup(label);
    const files = backup.files();
    const mounted = mountedFiles(files);
    this.#mountState = { location, label, files: mounted };
    const mount = this.#openMount(this.#store, this.#mountState);
    try {
      await mount.takeFirst();
    } finally {
      await mount.close();
    }
    noteEarlierRecord(this.#store, MOUNTED_FILES);
    const later = new Set(mounted.map(({ name }) => name));
    for (const file of files) {
      const found = backupFile(file.name);
      if (found.kind === "relation" && later.has(file.name)) this.#base.relationOfSize(found, file.size);
      else if (isTakenNow(found, file)) await this.#takeFile(file, signal);
    }
    const map = encodeTablespaceMap(backup.tablespaces());
    await this.#takeFile({ name: TABLESPACE_MAP_FILE, size: map.length, content: [map] }, signal);
    const wal = await repository.wal(backup.systemId);
    const wanted = { first: backup.archiveStart, until: backup.stopLsn, isThere: () => false };
    for await (const segment of readArchivedWal(new WalArchive(wal.directory, wal.passphrase), wanted)) {
      await this.#takeFile(segment, signal);
    }
  }

  async #takeFile(
    { name, size, content }: Pick<BackupFileContent, "name" | "size"> & {
      readonly content: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
    },
    signal: AbortSignal,
  ): Promise<void> {
    this.#base.begin({ name, size, type: "file" });
    for await (const bytes of content) {
      signal.throwIfAborted();
      this.#base.content(bytes);
      if (this.congested) await this.ready();
    }
    this.#base.end();
  }

  #openMount(store: TimelineStore, state: MountState): MountedBackup {
    const { disk, reads, logger } = this.#context;
    const path = join(this.#directory, MOUNT_FILE);
    return new MountedBackup({ disk, store, state, path, reads, logger: logger.child({ tenant: this.#id }) });
  }

  /** The timeline's directory until the tenant has its name. */
  get directory(): string {
    return this.#directory;
  }

  /** Whether {@link ready} would wait. */
  get congested(): boolean {
    return this.#store.congested;
  }

  /** Resolves when more may be passed. @throws {ZenithError} `disk_full`, `io` */
  ready(): Promise<void> {
    return this.#store.ready();
  }

  /**
   * Completes the tenant, once the tar has ended, and names its directory by `publish`.
   *
   * @param publish called with the result when all is there; whatever it throws fails the import
   * @param signal cancels it
   * @throws {ZenithError} what is wrong with the files; `disk_full`, `io`
   */
  async finish(
    publish: (imported: ImportedCluster) => Promise<void>,
    signal: AbortSignal,
  ): Promise<ImportedCluster> {
    if (this.#mountState === null) this.#tar.finish();
    const facts = this.#base.finish();
    const window = await findBackupWindow(facts, this.#wal);
    signal.throwIfAborted();
    await this.#beginHistory(facts, window);
    await this.#applyWal(window, signal);
    const { disk } = this.#context;
    // Below that, pages are of different moments.
    await changeMetadata(disk, this.#directory, { retention: new Retention(window.consistentLsn, []) });
    await this.#nameBranch();
    await disk.removeTree(join(this.#workdir, WAL_DIRECTORY));
    for (const directory of ["branches", "timelines", "."]) {
      await disk.fsyncDir(join(this.#workdir, directory));
    }
    signal.throwIfAborted();
    const imported: ImportedCluster = {
      tenantId: this.#id,
      timelineId: this.#timelineId,
      pgMajor: window.control.pg.major,
      systemIdentifier: window.control.system_identifier,
      beginsAt: window.consistentLsn,
      endsAt: window.endLsn,
      bytes: this.#base.contentBytes,
      tli: window.format.tli,
    };
    await publish(imported);
    this.#context.logger.info("tenant imported", {
      tenant: this.#id,
      timeline: this.#timelineId,
      system: String(imported.systemIdentifier),
      begins: formatLsn(imported.beginsAt),
      ends: formatLsn(imported.endsAt),
      bytes: imported.bytes,
    });
    return imported;
  }

  /** Removes what is there of the tenant. */
  async abort(): Promise<void> {
    this.#wal.close();
    await this.#closeStore();
    await this.#context.disk.removeTree(this.#workdir);
  }

  async #closeStore(): Promise<void> {
    if (!this.#isStoreOpen) return;
    this.#isStoreOpen = false;
    await this.#store.close();
  }

  get #directory(): string {
    return join(this.#workdir, "timelines", this.#timelineId);
  }

  /** Stores what the files don't say of the moment at which WAL begins to be applied to them. */
  async #beginHistory(facts: ClusterFacts, window: BackupWindow): Promise<void> {
    const store = this.#store;
    const { baseLsn, prevLsn, control } = window;
    const checkpoint = { ...window.checkpoint, ThisTimeLineID: WAL_TLI, PrevTimeLineID: WAL_TLI };
    const values = new SingleValues(store);
    values.put(
      CONTROL_KEY,
      baseLsn,
      encodeControlFile(facts.control, {
        checkPointCopy: checkpoint,
        minRecoveryPoint: INVALID_LSN,
        minRecoveryPointTLI: 0,
        backupStartPoint: INVALID_LSN,
        backupEndPoint: INVALID_LSN,
        backupEndRequired: false,
      }),
    );
    values.put(CHECKPOINT_KEY, baseLsn, encodeCheckpoint(checkpoint));
    new CommitTimes(store).note(timestampOfMs(checkpoint.time * 1000), baseLsn);
    store.noteRecord(prevLsn);
    store.advance(baseLsn);
    await store.flush();
    await this.#closeStore();
    const walStartLsn = nextRecordLsn(baseLsn, control.xlog_seg_size);
    const userData = encodeTimelineInfo({
      ancestorId: null,
      walStartLsn,
      pgMajor: control.pg.major,
      beginsMasked: false,
      awaitsBackup: this.#mountState !== null,
    });
    const { disk } = this.#context;
    if (this.#mountState !== null) {
      await mountFile(disk, join(this.#directory, MOUNT_FILE)).write(this.#mountState);
    }
    await changeMetadata(disk, this.#directory, { userData });
  }

  async #applyWal(window: BackupWindow, signal: AbortSignal): Promise<void> {
    const { control, format, baseLsn, consistentLsn, endLsn } = window;
    const { disk, config, pageCache, memoryPools, logger } = this.#context;
    const startLsn = nextRecordLsn(baseLsn, control.xlog_seg_size);
    const openWal = (segmentSize: number) =>
      WalStore.open(join(this.#directory, "wal"), { disk, segmentSize, startLsn });
    if (endLsn > baseLsn) {
      const wal = await openWal(control.xlog_seg_size);
      try {
        await this.#wal.copyTo(wal, format, startLsn, endLsn);
      } finally {
        await wal.close();
      }
    }
    const store = await TimelineStore.open(this.#directory, storeOptions(this.#context, control.pg));
    const mount = this.#mountState === null ? null : this.#openMount(store, this.#mountState);
    const file = (name: string) => join(this.#directory, name);
    const timeline = await Timeline.open({
      tenantId: this.#id,
      timelineId: this.#timelineId,
      ancestorId: null,
      beginsMasked: false,
      ancestor: null,
      store,
      mount,
      leases: new Leases(disk, file("leases")),
      safekeepers: new TimelineSafekeepers(disk, file("safekeepers")),
      settings: new TimelineSettings(disk, file("settings")),
      slots: new TimelineSlots(disk, file("slots"), config.slot_wal_max_bytes),
      // Nothing of an import is in the object store before the tenant exists.
      room: this.#context.layerRoom,
      uploaded: new UploadedLsn(false),
      disk,
      openWal,
      pageCache,
      walBuffers: memoryPools.values,
      logger: logger.child({ tenant: this.#id, timeline: this.#timelineId }),
    }, signal).catch(async (error) => {
      await mount?.close();
      await store.close();
      throw error;
    });
    try {
      await assertArrived(timeline, endLsn);
      const settings = neededSettings(control);
      if (settings !== null) await timeline.settings.set(consistentLsn, encodeSettings(settings));
      await timeline.flush();
    } finally {
      await timeline.close();
    }
  }

  async #nameBranch(): Promise<void> {
    const { disk } = this.#context;
    const path = join(this.#workdir, "branches", branchFileName(this.#branch));
    const content = encodeBranchFile({
      timelineId: this.#timelineId,
      expiresMs: null,
      isProtected: false,
      requiresMask: false,
    });
    const file = disk.openSync(path, "createNew");
    file.writeSync(content, 0, content.length, 0);
    await file.fsync();
    file.closeSync();
  }
}

/**
 * Returns the settings without which Postgres would not start on what the cluster has. Null when
 * the defaults do.
 */
function neededSettings({ max_prepared_xacts }: ControlFile): SettingsFiles | null {
  if (max_prepared_xacts === 0) return null;
  const line = `max_prepared_transactions = '${max_prepared_xacts}'\n`;
  return new Map([["postgresql.auto.conf", new TextEncoder().encode(line)]]);
}

/** Whether a file says something of the cluster that must be known before it is used. */
function isTakenNow(found: BackupFile, { name, size }: Pick<BackupFileContent, "name" | "size">): boolean {
  // The manifest says where tablespaces were, in every version.
  if (found.kind === "other" || name === TABLESPACE_MAP_FILE) return false;
  return found.kind !== "relation" || size === 0;
}

/** It stands for the record before the last one before the files', whose place is not known. */
function noteEarlierRecord(store: TimelineStore, position: Lsn): void {
  store.noteRecord(position);
}

/** The files have no records, so it does not matter yet which major they are of. */
function optionsForFiles(context: TenantContext): TimelineStoreOptions {
  const { makeImage: _none, ...options } = storeOptions(context, pgVersion(PG_MAJORS[0]));
  return { ...options, valueFormat: 0 };
}

/** @throws {ZenithError} the reason when the WAL could not be applied up to there */
async function assertArrived(timeline: Timeline, endLsn: Lsn): Promise<void> {
  if (timeline.lastRecordLsn === endLsn) return;
  await timeline.restartReceiving();
  throw new ZenithError(
    "corrupt_data",
    `the WAL could be applied up to ${formatLsn(timeline.lastRecordLsn)} only, not to ${formatLsn(endLsn)}`,
  );
}
