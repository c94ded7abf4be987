/**
 * The backup that a timeline began with, while not all of its pages are copied. A read of a page
 * that is not here takes in the whole file that has it, since only a whole file can be compared
 * with its checksum, and be unpacked. Small files are taken in many at a time. What nobody asks for
 * is copied in the background.
 */
import { PgBackRestRepository } from "../../archive/pgbackrest/repository.ts";
import type { BackupFileContent } from "../../archive/pgbackrest/repository_backup.ts";
import { type ArchiveLocation, describeArchive } from "../../common/archive_location.ts";
import { assert } from "../../common/assert.ts";
import type { Disk } from "../../common/disk.ts";
import { errorMessage, ioError, ZenithError } from "../../common/errors.ts";
import { sleep } from "../../common/sleep.ts";
import {
  AbsentBytes,
  type AwaitedKeys,
  type BulkLayers,
  compareKeys,
  type Key,
  type ObjectId,
  type TimelineStore,
} from "../../pagestore/mod.ts";
import { backupFile } from "../../postgres/cluster/backup_files.ts";
import { BLCKSZ } from "../../postgres/cluster/page_layout.ts";
import { FSM_FORKNUM, RELSEG_SIZE } from "../../postgres/cluster/relfile.ts";
import type { Logger } from "../../process/log.ts";
import { relationKey, TAG_BYTES } from "../content/keys.ts";
import { isZero, PageCutter } from "../content/page_cutter.ts";
import { type MountedFile, mountFile, type MountState } from "./mount_state.ts";
import { decodeTimelineInfo, encodeTimelineInfo } from "./timeline_info.ts";

/** Files that are read together have at most so many bytes, unless it is a single one. */
const UNIT_BYTES = 16 << 20;

/** The pause before what could not be copied is tried again in the background. */
const RETRY_MS = 30_000;

/** How long the background pauses after a piece of a file, if somebody has read meanwhile. */
const PREEMPTED_MS = 20;

const NO_BYTES = new Uint8Array(0);

/** The place of a file's pages in the page store. */
interface PlacedFile extends MountedFile {
  readonly object: ObjectId;
  readonly firstBlock: number;
  /** One after its last block. */
  readonly endBlock: number;
}

/** Files that follow one another in the page store, and are taken in together. */
interface Unit {
  readonly files: readonly PlacedFile[];
  readonly bytes: number;
  isHere: boolean;
  /** Whether its files have become units of their own. */
  isApart: boolean;
  /** Settles when it is here, or could not be read. Null while nobody reads it. */
  taking: Promise<void> | null;
  /** Whether somebody waits for it. */
  isWanted: boolean;
}

/** A file that was not here at the beginning, and with which others it is taken in. */
interface AwaitedFile {
  readonly file: PlacedFile;
  unit: Unit;
}

/** What a timeline needs for it. */
export interface MountedBackupParts {
  readonly disk: Disk;
  readonly store: TimelineStore;
  readonly state: MountState;
  /** The path of the state's file. */
  readonly path: string;
  /** Element 0 changes with every read of the page server. */
  readonly reads: Int32Array;
  readonly logger: Logger;
}

/** What {@link mountedFiles} takes. */
type ListedFile = Pick<BackupFileContent, "name" | "size" | "checksum">;

/**
 * Returns those of a backup's files that can be read later: what relations hold.
 *
 * @throws {ZenithError} `corrupt_data` when one of them is not made of pages
 */
export function mountedFiles(files: readonly ListedFile[]): MountedFile[] {
  return files.flatMap(({ name, size, checksum }) => {
    const kind = backupFile(name);
    if (kind.kind !== "relation" || kind.file.temporary || kind.file.forkNum === FSM_FORKNUM) return [];
    if (size === 0) return [];
    if (checksum === undefined || size % BLCKSZ !== 0) {
      throw new ZenithError("corrupt_data", `${name} does not have a whole number of pages, or no checksum`);
    }
    return [{ name, size, checksum }];
  });
}

export class MountedBackup implements AwaitedKeys {
  readonly #disk: Disk;
  readonly #store: TimelineStore;
  readonly #state: MountState;
  readonly #path: string;
  readonly #reads: Int32Array;
  readonly #logger: Logger;
  #units: readonly Unit[];
  /** By the slot of a relation's fork. */
  readonly #bySlot = new Map<number, AwaitedFile[]>();
  readonly #abort = new AbortController();
  /** The backup's files by name. Null when the repository has to be opened. */
  #files: Promise<ReadonlyMap<string, BackupFileContent>> | null = null;
  /** How many units are wanted, and what goes on when none is. */
  #wanted = 0;
  #whenCalm: (() => void)[] = [];
  #readsSeen = 0;
  #copying: Promise<void> = Promise.resolve();
  #problem: string | null = null;
  #isEnded = false;

  constructor({ disk, store, state, path, reads, logger }: MountedBackupParts) {
    this.#disk = disk;
    this.#store = store;
    this.#state = state;
    this.#path = path;
    this.#reads = reads;
    this.#logger = logger;
    this.#units = unitsOf(
      state.files.map(place).sort((x, y) => compareKeys(firstKey(x), firstKey(y))),
      store,
    );
    for (const unit of this.#units) {
      for (const file of unit.files) {
        const slot = store.slot(file.object);
        const files = this.#bySlot.get(slot);
        if (files === undefined) this.#bySlot.set(slot, [{ file, unit }]);
        else files.push({ file, unit });
      }
    }
    store.awaitBase(this);
  }

  /** How many bytes of the backup's relations are not copied yet. */
  get missingBytes(): number {
    return this.#units.reduce((sum, { isHere, bytes }) => isHere ? sum : sum + bytes, 0);
  }

  /** Whether all is copied, and the backup is not needed any more. */
  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** Why the background could not copy something. Null when it could. */
  get problem(): string | null {
    return this.#problem;
  }

  check(slot: number, block: number): void {
    for (const awaited of this.#bySlot.get(slot) ?? []) {
      const { file, unit } = awaited;
      if (unit.isHere || block < file.firstBlock || block >= file.endBlock) continue;
      throw new AbsentBytes(`${file.name} of backup ${this.#state.label}`, () => this.#wantFile(awaited));
    }
  }

  /**
   * Takes in the first files, whichever they are.
   *
   * @throws {ZenithError} `corrupt_data`, `not_found`, `disk_full`, `io`
   */
  async takeFirst(): Promise<void> {
    const [first] = this.#units;
    if (first === undefined) {
      throw new ZenithError("corrupt_data", `backup ${this.#state.label} has no relation`);
    }
    await this.#want(first);
  }

  /** Copies in the background what nobody has asked for. */
  start(): void {
    this.#copying = this.#copyAll();
  }

  /** Ends all reading. Those who wait for something get an error. */
  async close(): Promise<void> {
    this.#abort.abort(new ZenithError("unavailable", `${this.#store.directory} is being closed`));
    this.#calm();
    await Promise.allSettled([this.#copying, ...this.#units.map(({ taking }) => taking)]);
  }

  async #copyAll(): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      const units = this.#units;
      try {
        await this.#copyRound(units);
        if (this.#units.every(({ isHere }) => isHere)) return await this.#end();
        // Some of them were taken apart.
        if (this.#units !== units) continue;
      } catch (error) {
        if (!signal.aborted) this.#note(error);
      }
      await sleep(RETRY_MS, signal);
    }
  }

  /** Copies each unit that is not here. One that can't be read does not keep others back. */
  async #copyRound(units: readonly Unit[]): Promise<void> {
    const failures: unknown[] = [];
    for (const unit of units) {
      // The parts of one that was taken apart meanwhile come in the next round.
      if (unit.isHere || unit.isApart) continue;
      this.#abort.signal.throwIfAborted();
      try {
        await this.#take(unit);
      } catch (error) {
        failures.push(error);
        // Without the manifest, nothing else can be read either.
        if (this.#files === null) break;
      }
    }
    if (failures.length > 0 && !this.#abort.signal.aborted) this.#note(failures[0]);
  }

  #note(error: unknown): void {
    const problem = errorMessage(error);
    if (problem !== this.#problem) this.#logger.warn(`copying a backup is interrupted: ${problem}`);
    this.#problem = problem;
  }

  /** From now on the timeline is one as any other. */
  async #end(): Promise<void> {
    const info = decodeTimelineInfo(this.#store.userData, this.#store.directory);
    await this.#store.endBase(encodeTimelineInfo({ ...info, awaitsBackup: false }));
    this.#isEnded = true;
    this.#problem = null;
    forgetMount(this.#disk, this.#path);
    this.#logger.info("all of the backup is copied", { backup: this.#state.label });
  }

  async #wantFile(awaited: AwaitedFile): Promise<void> {
    const { unit } = awaited;
    try {
      await this.#want(unit);
    } catch (error) {
      if (awaited.unit === unit) throw error;
      // It was another file of the unit that could not be read.
      await this.#want(awaited.unit);
    }
  }

  #want(unit: Unit): Promise<void> {
    if (unit.isHere) return Promise.resolve();
    if (!unit.isWanted) {
      unit.isWanted = true;
      this.#wanted++;
      // The background may have begun with it, and given way to another.
      this.#calm();
    }
    return this.#take(unit);
  }

  #take(unit: Unit): Promise<void> {
    return unit.taking ??= this.#takeIn(unit).finally(() => {
      unit.taking = null;
      if (!unit.isWanted) return;
      unit.isWanted = false;
      this.#wanted--;
      if (this.#wanted === 0) this.#calm();
    });
  }

  #calm(): void {
    for (const goOn of this.#whenCalm.splice(0)) goOn();
  }

  /** Nobody reads slower because of what nobody waits for. */
  async #giveWay(unit: Unit): Promise<void> {
    const { signal } = this.#abort;
    const reads = Atomics.load(this.#reads, 0);
    if (reads !== this.#readsSeen && !unit.isWanted) await sleep(PREEMPTED_MS, signal);
    this.#readsSeen = reads;
    while (this.#wanted > 0 && !unit.isWanted && !signal.aborted) {
      await new Promise<void>((resolve) => this.#whenCalm.push(resolve));
    }
    signal.throwIfAborted();
  }

  async #takeIn(unit: Unit): Promise<void> {
    const files = await this.#listed();
    const bulk = this.#store.startBase();
    try {
      for (const file of unit.files) await this.#takeFile(file, files.get(file.name), bulk, unit);
      await bulk.finish();
    } catch (error) {
      bulk.abort();
      const reported = this.#unreadable(error);
      if (reported !== error) this.#takeApart(unit);
      throw reported;
    }
    // If this fails, the store removes the files once no metadata can name them.
    await this.#store.installBase(bulk);
    unit.isHere = true;
  }

  /** A file that can't be read must not keep others back. */
  #takeApart(unit: Unit): void {
    if (unit.files.length === 1) return;
    const single = new Map(
      unit.files.map((
        file,
      ) => [file, { ...unit, files: [file], bytes: file.size, taking: null, isWanted: false }]),
    );
    unit.isApart = true;
    this.#units = this.#units.flatMap((other) => other === unit ? [...single.values()] : [other]);
    for (const { object } of unit.files) {
      for (const awaited of this.#bySlot.get(this.#store.slot(object)) ?? []) {
        if (awaited.unit === unit) awaited.unit = single.get(awaited.file)!;
      }
    }
  }

  /** @throws {ZenithError} when the backup can't be opened, which is tried again the next time */
  async #listed(): Promise<ReadonlyMap<string, BackupFileContent>> {
    this.#abort.signal.throwIfAborted();
    const opening = this.#files ??= this.#open();
    try {
      return await opening;
    } catch (error) {
      if (this.#files === opening) this.#files = null;
      throw this.#unreadable(error);
    }
  }

  async #takeFile(
    file: PlacedFile,
    found: BackupFileContent | undefined,
    bulk: BulkLayers,
    unit: Unit,
  ): Promise<void> {
    if (found === undefined || found.size !== file.size || found.checksum !== file.checksum) {
      throw new ZenithError("conflict", `its ${file.name} is not what it was when the branch was made`);
    }
    const cutter = new PageCutter(file.name);
    let block = file.firstBlock;
    for await (const bytes of found.content) {
      bulk.compresses = !unit.isWanted;
      cutter.push(bytes, (page, off) => {
        const content = isZero(page, off) ? NO_BYTES : page.subarray(off, off + BLCKSZ);
        bulk.put(file.object, block++, content, TAG_BYTES);
      });
      await bulk.pause(this.#abort.signal);
      await this.#giveWay(unit);
    }
    cutter.finish();
    assert(block === file.endBlock, "a file has the size that its checksum was compared for");
  }

  /** Reads the manifest, which says where the files are. */
  async #open(): Promise<ReadonlyMap<string, BackupFileContent>> {
    const { location, label } = this.#state;
    const backup = await openRepository(location).openBackup(label);
    return new Map(backup.files().map((file) => [file.name, file]));
  }

  #unreadable(error: unknown): unknown {
    if (this.#abort.signal.aborted) return error;
    const kind = error instanceof ZenithError ? error.kind : "io";
    if (kind === "disk_full") return error;
    const { location, label } = this.#state;
    return new ZenithError(
      // Whoever reads must not wait for what a person has to do.
      kind === "unavailable" ? "io" : kind,
      `backup ${label} of ${describeArchive(location)}, of which not all is copied yet, can't be read: ` +
        errorMessage(error),
      { hint: "put it back as it was, or make the branch anew from another backup", cause: error },
    );
  }
}

/** Opens a repository. @throws {ZenithError} `not_found`, `invalid_argument`, `io` */
export function openRepository({ path, stanza, passphrase }: ArchiveLocation): PgBackRestRepository {
  return new PgBackRestRepository(path, {
    ...(stanza === null ? {} : { stanza }),
    ...(passphrase === null ? {} : { passphrase }),
  });
}

/** Opens the backup that a timeline awaits. @throws {ZenithError} `corrupt_data`, `io` */
export function openMount(parts: Omit<MountedBackupParts, "state">): MountedBackup {
  const state = mountFile(parts.disk, parts.path).read();
  if (state === null) {
    throw new ZenithError(
      "corrupt_data",
      `${parts.path} is not there, and says where pages are to come from`,
    );
  }
  return new MountedBackup({ ...parts, state });
}

/**
 * Removes the file of a backup that is not needed any more. It may have a passphrase in it.
 *
 * @throws {ZenithError} `io`
 */
export function forgetMount(disk: Disk, path: string): void {
  try {
    if (disk.statSync(path) !== null) disk.unlinkSync(path);
  } catch (error) {
    throw ioError("remove", path, error);
  }
}

function place(file: MountedFile): PlacedFile {
  const found = backupFile(file.name);
  assert(found.kind === "relation", "only files of relations are read later");
  const { relNode, forkNum, segno } = found.file;
  const firstBlock = segno * RELSEG_SIZE;
  return {
    ...file,
    object: relationKey(found.spc, found.db, relNode, forkNum),
    firstBlock,
    endBlock: firstBlock + file.size / BLCKSZ,
  };
}

function firstKey({ object, firstBlock }: PlacedFile): Key {
  return { object, block: firstBlock };
}

/**
 * Groups the files that are not in the store yet. A unit has no file of the store between its own,
 * so that its layers and theirs are in order.
 */
function unitsOf(files: readonly PlacedFile[], store: TimelineStore): Unit[] {
  const here = store.layers().flatMap(({ startLsn, keys }) =>
    startLsn === store.startLsn && keys !== null ? [keys] : []
  );
  const units: Unit[] = [];
  let group: PlacedFile[] = [];
  let bytes = 0;
  const endGroup = () => {
    if (group.length > 0) {
      units.push({ files: group, bytes, isHere: false, isApart: false, taking: null, isWanted: false });
    }
    group = [];
    bytes = 0;
  };
  for (const file of files) {
    const key = firstKey(file);
    const isHere = here.some(({ first, last }) =>
      compareKeys(first, key) <= 0 && compareKeys(key, last) <= 0
    );
    if (isHere || bytes + file.size > UNIT_BYTES) endGroup();
    if (isHere) continue;
    group.push(file);
    bytes += file.size;
  }
  endGroup();
  return units;
}
