/**
 * Manages the durable part of a timeline: its directory with the metadata and the layer files that
 * the metadata names. A change builds a new layer map, and {@link TimelineFiles.commit} makes it
 * valid.
 */
import { basename, dirname, join } from "node:path";
import { type Disk, settleDirectory, TEMPORARY_SUFFIX } from "../../common/disk.ts";
import { ioError, ZenithError } from "../../common/errors.ts";
import type { Lsn } from "../../common/lsn.ts";
import { OneAtATime } from "../../common/one_at_a_time.ts";
import { AbsentBytes, AbsentOnes } from "../layer/absent_bytes.ts";
import type { BlockCache } from "../layer/block_cache.ts";
import { isMissing, type LayerFiles, localLayers } from "../layer/layer_files.ts";
import { corrupt, layerValueFormat } from "../layer/layer_format.ts";
import { type DiskLayer, LayerMap } from "./layer_map.ts";
import { LayerReader } from "../layer/layer_reader.ts";
import { LayerNumbers } from "./merge_request.ts";
import type { ObjectTable } from "../value/object_id.ts";
import type { Retention } from "../value/retention.ts";
import {
  isTimelineDirectory,
  LAYER_SUFFIX,
  type LayerEntry,
  layerPath,
  metadataPath,
  readMetadata,
  type TimelineMetadata,
  writeMetadata,
} from "./timeline_metadata.ts";

/** What is needed to read the files. */
export interface FileAccess {
  readonly disk: Disk;
  readonly cache: BlockCache;
  readonly objects: ObjectTable;
  /** Where layers are read from; by default, this disk. */
  readonly layerFiles?: LayerFiles | undefined;
  /** The format of the layers' values. Layers of another format are refused. */
  readonly valueFormat?: number;
}

export class TimelineFiles {
  readonly directory: string;
  readonly ancestorLsn: Lsn | null;
  readonly startLsn: Lsn;
  /** What the timeline's creator keeps with it. A change is durable with the next commit. */
  userData: Uint8Array;
  /** The retention. A change is durable with the next commit. */
  retention: Retention;
  readonly #access: FileAccess;
  readonly #layerFiles: LayerFiles;
  #layers: LayerMap;
  #diskConsistentLsn: Lsn;
  readonly #numbers: LayerNumbers;
  readonly #commits = new OneAtATime();
  #pins = 0;
  /** Layers that became due for removal while files were pinned. */
  readonly #pinned: DiskLayer[] = [];
  /** Files that no metadata names any more, or that durable metadata may still name. */
  #obsolete: string[] = [];

  private constructor(directory: string, metadata: TimelineMetadata, access: FileAccess) {
    this.directory = directory;
    this.ancestorLsn = metadata.ancestorLsn as Lsn | null;
    this.startLsn = metadata.startLsn as Lsn;
    this.userData = metadata.userData;
    this.retention = metadata.retention;
    this.#access = access;
    this.#layerFiles = access.layerFiles ?? localLayers(access.disk);
    this.#diskConsistentLsn = metadata.diskConsistentLsn as Lsn;
    this.#numbers = new LayerNumbers(metadata.nextLayerNumber);
    this.#layers = LayerMap.of(metadata.layers.map((entry) => this.diskLayer(entry)));
  }

  /**
   * Creates the directory, which appears complete or not at all. A crash may leave
   * `<directory>.tmp`, which the next creation of the same timeline replaces.
   *
   * @throws {ZenithError} `already_exists`, `disk_full`, `io`
   */
  static async create(
    directory: string,
    metadata: TimelineMetadata,
    subdirectories: readonly string[],
    access: FileAccess,
  ): Promise<TimelineFiles> {
    await createDirectory(access.disk, directory, metadata, subdirectories);
    return new TimelineFiles(directory, metadata, access);
  }

  /**
   * Opens the directory, makes its content durable, verifies that all layers are there that are
   * nowhere else, and removes what a crash left. Of layers that are fetched, all bytes are checked
   * when they are read.
   *
   * @throws {ZenithError} `not_found`, `corrupt_data`, `io`
   */
  static async open(
    directory: string,
    ancestorLsn: Lsn | null,
    access: FileAccess,
  ): Promise<TimelineFiles> {
    await settle(access.disk, directory);
    const metadata = readMetadata(access.disk, directory);
    if (metadata.ancestorLsn !== ancestorLsn) {
      throw corrupt(
        `${metadataPath(directory)}: ancestor LSN is ${metadata.ancestorLsn}, expected ${ancestorLsn}`,
      );
    }
    const files = new TimelineFiles(directory, metadata, access);
    for (const layer of files.#layers.layers()) {
      files.#checkValueFormat(layer.entry);
      if (files.#layerFiles.isOnlyHere(layer.reader.path)) layer.reader.verify();
    }
    await files.#fetchHeads();
    files.#removeStrayFiles();
    return files;
  }

  /** Fetches at once what every reader of layers needs first. */
  async #fetchHeads(): Promise<void> {
    const absent = new AbsentOnes();
    for (const { reader } of this.#layers.layers()) {
      if (!this.#layerFiles.isOnlyHere(reader.path)) absent.try(() => reader.readHead());
    }
    try {
      absent.check();
    } catch (error) {
      if (!(error instanceof AbsentBytes)) throw error;
      await error.arrive();
    }
  }

  /**
   * @throws {ZenithError} `corrupt_data` when the layer's values have another format than the user
   *   of the store expects
   */
  #checkValueFormat({ kind, number }: LayerEntry): void {
    const found = layerValueFormat(kind);
    const expected = this.#access.valueFormat ?? 0;
    if (found === expected || found === 0) return;
    throw corrupt(
      `layer ${
        this.layerPath(number)
      } has values of format ${found}, those of its timeline are of format ${expected}`,
    );
  }

  get layers(): LayerMap {
    return this.#layers;
  }

  /** Everything at or below this LSN is in {@link layers}. */
  get diskConsistentLsn(): Lsn {
    return this.#diskConsistentLsn;
  }

  /** Returns a number for a new file. It is never given out again, whatever becomes of the file. */
  newLayerNumber(): number {
    return this.#numbers.take();
  }

  /** The shared counter, for another thread that also gives out numbers. */
  get sharedNumbers(): Int32Array {
    return this.#numbers.shared;
  }

  layerPath(number: number): string {
    return layerPath(this.directory, number);
  }

  diskLayer(entry: LayerEntry): DiskLayer {
    const { cache, objects } = this.#access;
    const reader = new LayerReader(this.#layerFiles, this.layerPath(entry.number), entry, cache, objects);
    return { entry, reader };
  }

  /**
   * Makes other layers the timeline's, durably. Readers see the change at once. If this fails,
   * either metadata may be the durable one, and nothing has changed in memory. Only one commit runs
   * at a time.
   *
   * @param change returns the layers, given those that are there when its turn comes
   * @param diskConsistentLsn null leaves it as it is
   * @param installed called at the moment when readers see the new layers, before anything else
   *   happens
   * @throws {ZenithError} `disk_full`, `io`
   */
  commit(
    change: (layers: LayerMap) => LayerMap,
    diskConsistentLsn: number | null = null,
    installed: () => void = () => {},
  ): Promise<void> {
    return this.#commits.run(async () => {
      const layers = change(this.#layers);
      const consistent = diskConsistentLsn ?? this.#diskConsistentLsn;
      // Files that become obsolete during the write may still be named by the new metadata.
      const obsolete = this.#obsolete.slice();
      await writeMetadata(this.#access.disk, this.directory, {
        ancestorLsn: this.ancestorLsn,
        startLsn: this.startLsn,
        diskConsistentLsn: consistent,
        nextLayerNumber: this.#numbers.next,
        retention: this.retention,
        layers: layers.layers().map((layer) => layer.entry),
        userData: this.userData,
      });
      this.#layers = layers;
      this.#diskConsistentLsn = consistent as Lsn;
      installed();
      this.#obsolete = this.#obsolete.slice(obsolete.length);
      for (const path of obsolete) this.#remove(path);
    });
  }

  /** Removes the files of layers that a commit has replaced, as soon as nobody needs them. */
  remove(layers: readonly DiskLayer[]): void {
    if (this.#pins > 0) this.#pinned.push(...layers);
    else for (const { reader } of layers) this.#remove(reader.path);
  }

  /**
   * Keeps the files of the current layers, for another thread that reads them, until {@link unpin}.
   */
  pin(): void {
    this.#pins++;
  }

  unpin(): void {
    this.#pins--;
    if (this.#pins === 0) this.remove(this.#pinned.splice(0));
  }

  /**
   * Schedules the removal of a failed commit's layers. Their files are removed once no durable
   * metadata can name them.
   */
  removeAfterNextCommit(layers: readonly DiskLayer[]): void {
    for (const { reader } of layers) this.#obsolete.push(reader.path);
  }

  /** Returns the error for work that waits for something cancelled. */
  closingError(): ZenithError {
    return new ZenithError("unavailable", `${this.directory} is being closed`);
  }

  close(): void {
    for (const layer of this.#layers.layers()) layer.reader.close();
  }

  /** Removes the file. If that fails, it is tried again later. */
  #remove(path: string): void {
    this.#access.cache.closeFile(path);
    try {
      this.#layerFiles.remove(path);
    } catch (error) {
      if (!isMissing(error)) this.#obsolete.push(path);
    }
  }

  #removeStrayFiles(): void {
    const { disk } = this.#access;
    const known = new Set([basename(metadataPath(this.directory))]);
    for (const layer of this.#layers.layers()) known.add(basename(layer.reader.path));
    try {
      for (const name of disk.readdirSync(this.directory)) {
        // Remove only the store's own files: the directory also holds the timeline's WAL.
        const isOurs = name.endsWith(LAYER_SUFFIX) || name.endsWith(TEMPORARY_SUFFIX);
        if (isOurs && !known.has(name)) disk.unlinkSync(`${this.directory}/${name}`);
      }
    } catch (error) {
      throw ioError("clean timeline directory", this.directory, error);
    }
  }
}

/**
 * Makes found metadata durable. A killed process may have written metadata that can still be lost
 * in a power failure. Such metadata must not count yet, because files that it does not name are
 * removed, and so is WAL that it makes superfluous.
 */
async function settle(disk: Disk, directory: string): Promise<void> {
  try {
    // If there is no metadata, the code that reads it reports that.
    if (isTimelineDirectory(disk, directory)) await settleDirectory(disk, directory);
  } catch (error) {
    throw ioError("sync timeline directory", directory, error);
  }
}

/**
 * Creates the directory with its metadata, durably. If that fails, it leaves nothing that would
 * make a later attempt fail.
 */
async function createDirectory(
  disk: Disk,
  directory: string,
  metadata: TimelineMetadata,
  subdirectories: readonly string[],
): Promise<void> {
  const temporary = directory + TEMPORARY_SUFFIX;
  let renamed = false;
  try {
    if (disk.statSync(directory) !== null) {
      throw new ZenithError("already_exists", `can't create a timeline in ${directory}: it exists already`);
    }
    disk.removeTreeSync(temporary);
    disk.mkdirSync(temporary);
    for (const name of subdirectories) disk.mkdirSync(join(temporary, name));
    await writeMetadata(disk, temporary, metadata);
    disk.renameSync(temporary, directory);
    renamed = true;
    await disk.fsyncDir(dirname(directory));
  } catch (error) {
    if (renamed) removeBestEffort(disk, directory);
    throw error instanceof ZenithError ? error : ioError("create timeline", directory, error);
  }
}

function removeBestEffort(disk: Disk, directory: string): void {
  try {
    disk.removeTreeSync(directory);
  } catch {
    // Report the failure that led here instead. An empty timeline that nobody knows of does no
    // harm.
  }
}
