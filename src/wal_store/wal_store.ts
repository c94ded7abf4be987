/**
 * Stores one timeline's WAL on disk, in the segment files that PostgreSQL itself would write, so
 * that pg_waldump can read them.
 *
 * Files are allocated whole, so their size does not tell where the WAL ends. After
 * {@link WalStore.open} the end is known only for an empty store. Otherwise the caller finds it
 * (`findEndOfWal`) and truncates there ({@link WalStore.truncate}), which zeroes whatever a crash
 * left after it. An assertion catches writes before that.
 *
 * The order of operations ensures that a crash at any instant leaves a prefix of the WAL:
 * - A segment's name is durable before anything in it counts as durable, and before the next
 *   segment exists.
 * - Truncating removes segments from the last one down, trimming from the first one up. Each
 *   removal is durable before the next. So the segments on disk are always a run without gaps, and
 *   a gap is damage.
 */
import { join } from "node:path";
import { assert } from "../common/assert.ts";
import { type Disk, type DiskFile, settleDirectorySync } from "../common/disk.ts";
import { ioError, ZenithError } from "../common/errors.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../common/lsn.ts";
import {
  checkWalSegmentSize,
  parseWalFileName,
  segmentOffset,
  segmentStart,
  WAL_TLI,
  walFileName,
} from "../postgres/wal/page_header.ts";

/** How much {@link WalStore.iterate} reads at once. */
const ITERATE_CHUNK_BYTES = 128 << 10;

export interface WalStoreOptions {
  /** wal_segment_size in bytes. */
  segmentSize: number;
  disk: Disk;
  /**
   * Where this timeline's WAL starts: the first byte that will ever be written. A trimmed store
   * starts later; see {@link WalStore.startLsn}.
   */
  startLsn: Lsn;
  /**
   * False skips every sync, so an operating system crash loses WAL. Meant for tests of a whole
   * system on a slow disk.
   */
  sync?: boolean;
  /** Whether the caller knows that what is in the directory is durable. */
  isSettled?: boolean;
  /** False opens the store for reading only, and does not create a missing directory. */
  create?: boolean;
}

export interface WalChunk {
  lsn: Lsn;
  /** Valid until the next chunk is requested. */
  bytes: Uint8Array;
}

export class WalStore {
  readonly dir: string;
  readonly segmentSize: number;
  readonly #disk: Disk;
  readonly #sync: boolean;

  /** Where the timeline's WAL starts, and where the remaining WAL starts. */
  readonly #timelineStartLsn: Lsn;
  #startLsn: Lsn;
  #writtenLsn: Lsn;
  #syncedLsn: Lsn;
  #endKnown: boolean;

  /**
   * Where the first segment file starts and where the last one ends. They are equal when there are
   * no files.
   */
  #filesFrom: Lsn;
  #filesTo: Lsn;

  /**
   * The segment that is being written, open. Once a segment is full, it stays here until the next
   * one is opened.
   */
  #current: DiskFile | undefined;
  #currentStart: Lsn = INVALID_LSN;
  /** Full segments with unsynced bytes. */
  #unsynced: DiskFile[] = [];
  #reader: DiskFile | undefined;
  #readerStart: Lsn = INVALID_LSN;

  /** Whether the name of the last segment may still be not durable. */
  #isNameUnsynced = false;

  #running: Promise<Lsn> | undefined;
  #queued: Promise<Lsn> | undefined;
  #removing: Promise<number> | undefined;
  #failure: ZenithError | undefined;
  #cutting = false;
  #closed = false;

  private constructor(dir: string, options: WalStoreOptions, filesFrom: Lsn, filesTo: Lsn) {
    this.dir = dir;
    this.segmentSize = options.segmentSize;
    this.#disk = options.disk;
    this.#sync = options.sync ?? true;
    this.#filesFrom = filesFrom;
    this.#filesTo = filesTo;
    this.#timelineStartLsn = options.startLsn;
    const isEmpty = filesFrom === filesTo;
    this.#startLsn = isEmpty || filesFrom < options.startLsn ? options.startLsn : filesFrom;
    this.#endKnown = isEmpty;
    this.#writtenLsn = isEmpty ? this.#startLsn : filesTo;
    this.#syncedLsn = this.#startLsn;
  }

  /**
   * Opens the store in `dir`, creating the directory if necessary.
   *
   * @throws {ZenithError} `corrupt_data` when segments are missing, `io` or `disk_full` when the
   *   disk fails, `not_found` when the directory is missing and may not be created
   */
  static open(dir: string, options: WalStoreOptions): Promise<WalStore> {
    // Nothing here waits, but callers must not rely on that.
    try {
      return Promise.resolve(WalStore.#open(dir, options));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  static #open(dir: string, options: WalStoreOptions): WalStore {
    checkWalSegmentSize(options.segmentSize);
    const { disk, segmentSize } = options;
    const starts: Lsn[] = [];
    try {
      if (disk.statSync(dir) === null) {
        if (options.create === false) {
          throw new ZenithError("not_found", `there is no WAL directory ${dir}`);
        }
        disk.mkdirsSync(dir);
        disk.fsyncDirSync(join(dir, ".."));
      } else if ((options.sync ?? true) && options.isSettled !== true) {
        // A killed process may have created segments without syncing their names. Those names must
        // not count as durable yet.
        settleDirectorySync(disk, dir);
      }
      for (const name of disk.readdirSync(dir)) {
        const position = parseWalFileName(name, segmentSize);
        if (position !== undefined && position.tli === WAL_TLI) starts.push(position.lsn);
      }
    } catch (error) {
      throw error instanceof ZenithError ? error : ioError("open WAL directory", dir, error);
    }
    if (starts.length === 0) {
      const none = segmentStart(options.startLsn, segmentSize);
      return new WalStore(dir, options, none, none);
    }
    starts.sort((a, b) => a - b);
    const from = starts[0];
    const to = (starts[starts.length - 1] + segmentSize) as Lsn;
    if (to - from !== starts.length * segmentSize) {
      const before = starts.findIndex((start, i) => start !== from + i * segmentSize);
      throw new ZenithError(
        "corrupt_data",
        `WAL segment ${walFileName(WAL_TLI, from + before * segmentSize, segmentSize)} is missing in ${dir}`,
      );
    }
    if (to <= options.startLsn) {
      throw new ZenithError(
        "corrupt_data",
        `WAL in ${dir} ends before ${formatLsn(options.startLsn)}, where its timeline starts`,
      );
    }
    return new WalStore(dir, options, from, to);
  }

  /** The first byte that can be read. */
  get startLsn(): Lsn {
    return this.#startLsn;
  }

  /** Whether no WAL has been removed: {@link startLsn} is where the timeline's WAL starts. */
  get isFromStart(): boolean {
    return this.#startLsn === this.#timelineStartLsn;
  }

  /**
   * The end of the written WAL. Until {@link truncate} sets it, this is the end of the last file.
   */
  get writtenLsn(): Lsn {
    return this.#writtenLsn;
  }

  /** Everything below is durable. */
  get syncedLsn(): Lsn {
    return this.#syncedLsn;
  }

  /** Whether the end is known. Writing may begin only then. */
  get isEndKnown(): boolean {
    return this.#endKnown;
  }

  /**
   * Appends WAL at {@link writtenLsn}. The WAL can be read at once and is durable after
   * {@link sync}. `bytes` may be reused at once.
   *
   * @param lsn must be {@link writtenLsn}
   * @throws {ZenithError} `disk_full` or `io`. The end has not moved then, and the write can be
   *   tried again
   */
  write(lsn: Lsn, bytes: Uint8Array, off: number, len: number): void {
    this.#checkUsable();
    assert(this.#endKnown, "WAL is written after the end of the existing WAL was found");
    assert(!this.#cutting, "WAL is not written while it is being cut");
    assert(lsn === this.#writtenLsn, "WAL is written without gaps or overlaps");
    let done = 0;
    while (done < len) {
      const at = (lsn + done) as Lsn;
      const inSegment = segmentOffset(at, this.segmentSize);
      const count = Math.min(len - done, this.segmentSize - inSegment);
      const file = this.#segmentForWrite(segmentStart(at, this.segmentSize));
      try {
        file.writeSync(bytes, off + done, count, inSegment);
      } catch (error) {
        throw ioError("write WAL segment", file.path, error);
      }
      done += count;
    }
    this.#writtenLsn = (lsn + len) as Lsn;
  }

  /**
   * Makes everything written before this call durable. Calls that arrive while a sync runs share
   * the next one.
   *
   * @returns the durable end, {@link syncedLsn}
   * @throws {ZenithError} `io` or `disk_full`. The kernel may have dropped the unwritten pages, so
   *   a second sync proves nothing. The store refuses everything except reads until it is opened
   *   again
   */
  sync(): Promise<Lsn> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    assert(!this.#closed, "a closed WAL store is not used");
    if (this.#running !== undefined) {
      this.#queued ??= this.#running.then(() => {
        this.#queued = undefined;
        return this.sync();
      }, (error) => {
        this.#queued = undefined;
        throw error;
      });
      return this.#queued;
    }
    if (this.#syncedLsn >= this.#writtenLsn || !this.#endKnown) return Promise.resolve(this.#syncedLsn);
    this.#running = this.#syncFiles().finally(() => this.#running = undefined);
    return this.#running;
  }

  /**
   * Like {@link sync}, but in this thread, which saves two wakeups. Meant for callers that keep
   * nobody waiting. It does only one short sync, of at most `maxBytes` in one segment whose name is
   * durable, and only while no other sync runs.
   *
   * @returns false when nothing was done and {@link sync} is needed
   * @throws {ZenithError} as sync
   */
  syncHere(maxBytes: number): boolean {
    this.#checkUsable();
    const file = this.#current;
    const isShort = this.#sync && file !== undefined && this.#unsynced.length === 0 &&
      !this.#isNameUnsynced &&
      this.#running === undefined && this.#writtenLsn - this.#syncedLsn <= maxBytes;
    if (!isShort) return false;
    try {
      file.fdatasyncSync();
    } catch (error) {
      throw this.#fail(ioError("sync WAL segment", file.path, error));
    }
    this.#syncedLsn = this.#writtenLsn;
    return true;
  }

  /**
   * Durably replaces everything above `lsn` with zeros. New WAL is written from there. The caller
   * also uses this to set the end of the WAL in a store that was just opened.
   *
   * @param lsn from {@link startLsn} to {@link writtenLsn}
   * @throws {ZenithError} `out_of_range`; `io` when the disk fails. The store must then be opened
   *   again
   */
  async truncate(lsn: Lsn): Promise<void> {
    this.#checkUsable();
    if (lsn < this.#startLsn || lsn > this.#writtenLsn) throw this.#outside("cut", lsn);
    assert(!this.#cutting, "WAL is cut by one caller at a time");
    this.#cutting = true;
    try {
      await this.#removing?.catch(() => undefined);
      if (this.#endKnown) await this.sync();
      else await this.#syncFoundFiles(lsn);
      if (lsn === this.#writtenLsn && this.#endKnown) return;
      this.#writtenLsn = lsn;
      this.#syncedLsn = Math.min(this.#syncedLsn, lsn) as Lsn;
      await this.#cutFiles(lsn);
      this.#syncedLsn = lsn;
      this.#endKnown = true;
    } catch (error) {
      throw this.#fail(ioError("cut WAL in", this.dir, error));
    } finally {
      this.#cutting = false;
    }
  }

  /**
   * Reads up to `len` bytes from `lsn` into `into[off..]`; fewer when {@link writtenLsn} comes
   * first.
   *
   * @returns how many bytes were read; 0 at the end
   * @throws {ZenithError} `out_of_range` when `lsn` is outside startLsn..writtenLsn, `io`
   */
  read(lsn: Lsn, into: Uint8Array, off: number, len: number): number {
    assert(!this.#closed, "a closed WAL store is not used");
    if (lsn < this.#startLsn || lsn > this.#writtenLsn) throw this.#outside("read", lsn);
    return this.#readFiles(lsn, into, off, Math.min(len, this.#writtenLsn - lsn));
  }

  /**
   * Like {@link read}, but from the start of the first segment file. Clients that want whole
   * segments, such as standbys and pg_receivewal, read this way. Below the timeline's own start,
   * the bytes are zeros or what {@link writeHead} put there.
   */
  readSegments(lsn: Lsn, into: Uint8Array, off: number, len: number): number {
    assert(!this.#closed, "a closed WAL store is not used");
    if (lsn < this.#filesFrom || lsn > this.#writtenLsn) throw this.#outside("read", lsn);
    return this.#readFiles(lsn, into, off, Math.min(len, this.#writtenLsn - lsn));
  }

  /**
   * Opens the file of the segment that starts at `start`. The file can be read until it is closed,
   * even if the store removes the segment.
   *
   * @returns null when the segment is not here
   * @throws {ZenithError} `io`
   */
  openSegment(start: Lsn): DiskFile | null {
    assert(!this.#closed, "a closed WAL store is not used");
    const isHere = start >= this.#filesFrom && start < this.#filesTo &&
      start + this.segmentSize > this.#startLsn;
    if (!isHere) return null;
    const path = this.#path(start);
    try {
      return this.#disk.openSync(path, "read");
    } catch (error) {
      throw ioError("open WAL segment", path, error);
    }
  }

  /**
   * Yields the WAL from `from` to `to` in pieces of up to {@link ITERATE_CHUNK_BYTES}, in one
   * reused buffer.
   *
   * @throws {ZenithError} `out_of_range`, `io`
   */
  *iterate(from: Lsn, to: Lsn): Generator<WalChunk, void, undefined> {
    if (from > to || to > this.#writtenLsn) throw this.#outside("read", to);
    const buffer = new Uint8Array(Math.min(ITERATE_CHUNK_BYTES, to - from));
    let at = from;
    while (at < to) {
      const count = this.read(at, buffer, 0, Math.min(buffer.length, to - at));
      if (count === 0) throw this.#outside("read", at);
      yield { lsn: at, bytes: buffer.subarray(0, count) };
      at = (at + count) as Lsn;
    }
  }

  /**
   * Writes bytes of the first segment below {@link startLsn}: page headers, without which
   * pg_waldump refuses a segment whose WAL starts in the middle. Only allowed while the store is
   * empty.
   */
  writeHead(lsn: Lsn, bytes: Uint8Array): void {
    this.#checkUsable();
    assert(this.#endKnown && this.#writtenLsn === this.#startLsn, "the head is written before the WAL");
    const segment = segmentStart(this.#startLsn, this.segmentSize);
    assert(lsn >= segment && lsn + bytes.length <= this.#startLsn, "the head ends where the WAL starts");
    if (bytes.length === 0) return;
    const file = this.#segmentForWrite(segment);
    try {
      file.writeSync(bytes, 0, bytes.length, lsn - segment);
    } catch (error) {
      throw ioError("write WAL segment", file.path, error);
    }
  }

  /**
   * Removes the segments that lie wholly below `lsn`, but never the one that is being written. Does
   * nothing while an earlier call is running.
   *
   * @returns how many segments were removed
   * @throws {ZenithError} `io`
   */
  async removeBefore(lsn: Lsn): Promise<number> {
    this.#checkUsable();
    assert(this.#endKnown && !this.#cutting, "WAL is trimmed after its end was found");
    if (this.#removing !== undefined) return 0;
    // Keep the last segment: a directory without one would not tell where the WAL was.
    const last = segmentStart(this.#syncedLsn - 1, this.segmentSize);
    const keepFrom = Math.min(segmentStart(lsn, this.segmentSize), last) as Lsn;
    this.#removing = this.#removeFiles(keepFrom).finally(() => this.#removing = undefined);
    return await this.#removing;
  }

  async #removeFiles(keepFrom: Lsn): Promise<number> {
    let removed = 0;
    while (this.#filesFrom < keepFrom && !this.#cutting && !this.#closed) {
      const first = this.#filesFrom;
      const path = this.#path(first);
      if (this.#readerStart === first) this.#closeReader();
      if (this.#currentStart === first) this.#closeCurrent();
      const next = (first + this.segmentSize) as Lsn;
      this.#startLsn = Math.max(this.#startLsn, next) as Lsn;
      try {
        await this.#disk.unlink(path);
        this.#filesFrom = next;
        if (this.#sync) await this.#disk.fsyncDir(this.dir);
      } catch (error) {
        throw ioError("remove WAL segment", path, error);
      }
      removed++;
    }
    return removed;
  }

  /** Returns the number of segment files and an upper bound of their bytes on disk. */
  sizes(): { segments: number; bytes: number } {
    const bytes = this.#filesTo - this.#filesFrom;
    return { segments: bytes / this.segmentSize, bytes };
  }

  /** Waits for a running sync and closes the files. Unsynced WAL may be lost, as in a crash. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#running?.catch(() => undefined);
    await this.#removing?.catch(() => undefined);
    this.#closeReader();
    this.#closeCurrent();
    for (const file of this.#unsynced) file.closeSync();
    this.#unsynced = [];
  }

  async #syncFiles(): Promise<Lsn> {
    const target = this.#writtenLsn;
    const full = this.#unsynced;
    this.#unsynced = [];
    const current = this.#current;
    const filesTo = this.#filesTo;
    let path = this.dir;
    try {
      if (this.#sync) {
        for (const file of full) {
          path = file.path;
          await file.fdatasync();
        }
        if (current !== undefined) {
          path = current.path;
          await current.fdatasync();
        }
        if (this.#isNameUnsynced) {
          path = this.dir;
          await this.#disk.fsyncDir(path);
          if (this.#filesTo === filesTo) this.#isNameUnsynced = false;
        }
      }
    } catch (error) {
      throw this.#fail(ioError("sync WAL segment", path, error));
    } finally {
      for (const file of full) file.closeSync();
    }
    this.#syncedLsn = target;
    return target;
  }

  /**
   * Syncs the files found at a start. Data written by a killed process may still be only in the
   * kernel's memory.
   */
  async #syncFoundFiles(to: Lsn): Promise<void> {
    if (!this.#sync) return;
    for (let start = this.#filesFrom; start < to; start = (start + this.segmentSize) as Lsn) {
      const file = this.#disk.openSync(this.#path(start), "write");
      try {
        await file.fsync();
      } finally {
        file.closeSync();
      }
    }
  }

  async #cutFiles(lsn: Lsn): Promise<void> {
    this.#closeReader();
    this.#closeCurrent();
    for (const file of this.#unsynced) file.closeSync();
    this.#unsynced = [];
    const inSegment = segmentOffset(lsn, this.segmentSize);
    // A cut at a segment's first byte leaves no file for that segment, unless the WAL starts there:
    // an empty directory would tell nothing.
    const keepTo = Math.max(
      inSegment === 0 ? lsn : segmentStart(lsn, this.segmentSize) + this.segmentSize,
      Math.min(this.#filesTo, this.#filesFrom + this.segmentSize),
    );
    while (this.#filesTo > keepTo) {
      this.#disk.unlinkSync(this.#path((this.#filesTo - this.segmentSize) as Lsn));
      this.#filesTo = (this.#filesTo - this.segmentSize) as Lsn;
      this.#fsyncDir();
    }
    const start = inSegment === 0 && lsn === this.#filesTo ? lsn - this.segmentSize : lsn - inSegment;
    if (start < this.#filesFrom || start >= this.#filesTo) return;
    const file = this.#disk.openSync(this.#path(start as Lsn), "write");
    this.#current = file;
    this.#currentStart = start as Lsn;
    // Shrinking the file and growing it again turns the rest to zeros without writing them.
    file.truncateSync(lsn - start);
    file.truncateSync(this.segmentSize);
    if (this.#sync) await file.fsync();
  }

  #segmentForWrite(start: Lsn): DiskFile {
    if (this.#current !== undefined && this.#currentStart === start) return this.#current;
    if (this.#current !== undefined) {
      this.#unsynced.push(this.#current);
      this.#current = undefined;
    }
    const path = this.#path(start);
    try {
      this.#current = start < this.#filesTo
        ? this.#disk.openSync(path, "write")
        : this.#createSegment(start, path);
    } catch (error) {
      throw ioError("create WAL segment", path, error);
    }
    this.#currentStart = start;
    return this.#current;
  }

  #createSegment(start: Lsn, path: string): DiskFile {
    assert(start === this.#filesTo, "segments are created one after the other");
    // A sync has usually done this already, unless WAL arrives faster than that.
    if (this.#isNameUnsynced) this.#fsyncDir();
    // The file may exist: an earlier creation may have failed half-way.
    const file = this.#disk.openSync(path, "create");
    try {
      file.truncateSync(this.segmentSize);
    } catch (error) {
      file.closeSync();
      throw error;
    }
    this.#isNameUnsynced = true;
    this.#filesTo = (start + this.segmentSize) as Lsn;
    return file;
  }

  #readFiles(lsn: Lsn, into: Uint8Array, off: number, len: number): number {
    let done = 0;
    while (done < len) {
      const at = (lsn + done) as Lsn;
      const inSegment = segmentOffset(at, this.segmentSize);
      const count = Math.min(len - done, this.segmentSize - inSegment);
      const file = this.#segmentForRead(segmentStart(at, this.segmentSize));
      let got: number;
      try {
        got = file.readSync(into, off + done, count, inSegment);
      } catch (error) {
        throw ioError("read WAL segment", file.path, error);
      }
      // A crash can leave a segment shorter than its allocation. The missing part reads as zeros.
      into.fill(0, off + done + got, off + done + count);
      done += count;
    }
    return done;
  }

  #segmentForRead(start: Lsn): DiskFile {
    if (this.#current !== undefined && this.#currentStart === start) return this.#current;
    if (this.#reader !== undefined && this.#readerStart === start) return this.#reader;
    this.#closeReader();
    const path = this.#path(start);
    try {
      this.#reader = this.#disk.openSync(path, "read");
    } catch (error) {
      throw ioError("open WAL segment", path, error);
    }
    this.#readerStart = start;
    return this.#reader;
  }

  #path(start: Lsn): string {
    return join(this.dir, walFileName(WAL_TLI, start, this.segmentSize));
  }

  #fsyncDir(): void {
    if (this.#sync) this.#disk.fsyncDirSync(this.dir);
  }

  #closeReader(): void {
    this.#reader?.closeSync();
    this.#reader = undefined;
  }

  #closeCurrent(): void {
    this.#current?.closeSync();
    this.#current = undefined;
  }

  #checkUsable(): void {
    if (this.#failure !== undefined) throw this.#failure;
    assert(!this.#closed, "a closed WAL store is not used");
  }

  #fail(error: ZenithError): ZenithError {
    this.#failure ??= error;
    return this.#failure;
  }

  #outside(what: string, lsn: Lsn): ZenithError {
    return new ZenithError(
      "out_of_range",
      `can't ${what} WAL at ${formatLsn(lsn)}: ${this.dir} holds ${formatLsn(this.#startLsn)} to ${
        formatLsn(this.#writtenLsn)
      }`,
    );
  }
}
