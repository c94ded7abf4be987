/** The contents of a lazy compute's files. */
import { ftruncateSync, readSync, writeSync } from "node:fs";
import { assert } from "../../../common/assert.ts";
import { ioError, systemErrorCode, ZenithError } from "../../../common/errors.ts";
import { BLCKSZ } from "../../../postgres/cluster/page_layout.ts";
import type { BackingFiles } from "./backing_files.ts";
import type { DiskRoom } from "./disk_room.ts";
import { EINVAL, FileSystemError } from "../fuse/errno.ts";
import type { Inode } from "./inode.ts";
import type { OverlaySpace } from "./overlay_space.ts";
import { Presence, UNIT_BYTES } from "./presence.ts";

const NOTHING_MISSING: readonly number[] = [];

/**
 * The contents of files. A relation file's bytes come from the page server where this compute has
 * neither written nor kept them, and from the overlay everywhere else. Parts of the overlay that
 * were never written read as zeros.
 *
 * Errors of the overlay's disk are thrown unchanged and end the compute. The kernel has dropped the
 * data that it wrote back, so continuing would mean reading older data later.
 */
export class FileData {
  readonly #files: BackingFiles;
  readonly #space: OverlaySpace;
  readonly #room: DiskRoom;

  constructor(files: BackingFiles, space: OverlaySpace, room: DiskRoom) {
    this.#files = files;
    this.#space = space;
    this.#room = room;
  }

  /** Returns how many of `size` bytes from `offset` on exist. */
  readable(inode: Inode, offset: number, size: number): number {
    return Math.max(0, Math.min(size, inode.size - offset));
  }

  /** Notes that Postgres reads [offset, offset + bytes), wherever the bytes come from. */
  ask(inode: Inode, offset: number, bytes: number): void {
    presenceOf(inode).ask(Math.floor(offset / UNIT_BYTES), Math.ceil((offset + bytes) / UNIT_BYTES));
  }

  /**
   * Returns the units of [offset, offset + bytes) that only the page server has, as runs: the first
   * unit and the end of each. `offset` must be aligned.
   */
  missing(inode: Inode, offset: number, bytes: number): readonly number[] {
    const end = Math.min(offset + bytes, inode.remoteEnd);
    if (offset >= end) return NOTHING_MISSING;
    const endUnit = Math.ceil(end / UNIT_BYTES);
    const runs: number[] = [];
    const { presence } = inode;
    for (let unit = Math.floor(offset / UNIT_BYTES); unit < endUnit; unit++) {
      if (presence !== null && presence.has(unit)) continue;
      const last = runs.length - 1;
      if (last > 0 && runs[last] === unit) runs[last] = unit + 1;
      else runs.push(unit, unit + 1);
    }
    return runs;
  }

  /** Whether Postgres has asked for any of these runs of units, as {@link missing} returns them. */
  wasAsked(inode: Inode, runs: readonly number[]): boolean {
    const { presence } = inode;
    if (presence === null) return false;
    for (let run = 0; run < runs.length; run += 2) {
      for (let unit = runs[run]; unit < runs[run + 1]; unit++) if (presence.wasAsked(unit)) return true;
    }
    return false;
  }

  /** Reads what the overlay has. The contents of {@link missing} parts are undefined. */
  read(inode: Inode, offset: number, bytes: number, into: Uint8Array, at: number): void {
    const fd = this.#files.existingFd(inode.id);
    const got = fd < 0 ? 0 : readSync(fd, into, at, bytes, offset);
    if (got < bytes) into.fill(0, at + got, at + bytes);
    inode.presence?.use(Math.floor(offset / UNIT_BYTES), Math.ceil((offset + bytes) / UNIT_BYTES));
  }

  /** @throws when the overlay can't store it */
  write(inode: Inode, offset: number, from: Uint8Array, at: number, bytes: number): void {
    const end = offset + bytes;
    if (offset < inode.remoteEnd) this.#checkWholeUnits(inode, offset, end);
    this.#putWritten(inode, offset, from, at, bytes);
    if (offset < inode.remoteEnd) this.#markWritten(inode, offset, end);
    if (end > inode.size) inode.size = end;
    this.#space.update(inode);
    this.#room.note(bytes);
  }

  /**
   * Keeps a fetched block, so that it needn't be fetched again. Parts that have been written or cut
   * off since are newer and stay unchanged.
   *
   * @param block counted from the start of the file
   */
  keep(inode: Inode, block: number, from: Uint8Array, at: number): void {
    if (!this.#space.hasRoomForClean || this.#room.isLow) return;
    for (let off = 0; off < BLCKSZ; off += UNIT_BYTES) {
      const offset = block * BLCKSZ + off;
      if (offset >= inode.remoteEnd || inode.presence?.has(offset / UNIT_BYTES)) continue;
      try {
        this.#put(inode, offset, from, at + off, UNIT_BYTES);
      } catch (error) {
        // The block stays missing and is fetched again at the next read.
        if (systemErrorCode(error) === "ENOSPC") return;
        throw error;
      }
      presenceOf(inode).addClean(offset / UNIT_BYTES);
    }
    this.#space.update(inode);
    this.#room.note(BLCKSZ);
  }

  /**
   * @throws {FileSystemError} EINVAL for a length to which PostgreSQL never truncates a relation
   */
  truncate(inode: Inode, size: number): void {
    if (size < inode.remoteEnd) {
      if (size % BLCKSZ !== 0) {
        throw new FileSystemError(EINVAL, `truncation to ${size} bytes, inside a block`);
      }
      inode.remoteEnd = size;
      inode.presence?.cut(size / UNIT_BYTES);
    }
    if (size < inode.size) {
      const fd = this.#files.existingFd(inode.id);
      if (fd >= 0) ftruncateSync(fd, size);
    }
    inode.size = size;
    this.#space.update(inode);
  }

  remove(inode: Inode): void {
    if (inode.children !== null) return;
    this.#space.forget(inode);
    this.#files.remove(inode.id);
  }

  /**
   * Stores written data. It must find space: on a full disk, that of pages that can be fetched
   * again.
   */
  #putWritten(inode: Inode, offset: number, from: Uint8Array, at: number, bytes: number): void {
    try {
      this.#put(inode, offset, from, at, bytes);
    } catch (error) {
      if (systemErrorCode(error) !== "ENOSPC" || !this.#space.giveUpAll()) throw error;
      this.#put(inode, offset, from, at, bytes);
    }
  }

  #put(inode: Inode, offset: number, from: Uint8Array, at: number, bytes: number): void {
    const fd = this.#files.fd(inode.id);
    for (let done = 0; done < bytes;) {
      done += writeSync(fd, from, at + done, bytes - done, offset + done);
    }
  }

  /**
   * Checks that a write covers whole units where the overlay doesn't have them. The kernel writes
   * back whole pages, up to the file's end. Part of a missing unit can't be written, because the
   * page server has the rest of the unit.
   */
  #checkWholeUnits(inode: Inode, offset: number, end: number): void {
    const startsInside = offset % UNIT_BYTES !== 0 && !this.#has(inode, offset);
    const endsInside = end % UNIT_BYTES !== 0 && end < inode.remoteEnd && !this.#has(inode, end);
    assert(!startsInside && !endsInside, "a write to a part of a page that was never read");
  }

  #has(inode: Inode, offset: number): boolean {
    return inode.presence !== null && inode.presence.has(Math.floor(offset / UNIT_BYTES));
  }

  #markWritten(inode: Inode, offset: number, end: number): void {
    const first = Math.floor(offset / UNIT_BYTES);
    presenceOf(inode).addWritten(first, Math.ceil(Math.min(end, inode.remoteEnd) / UNIT_BYTES));
  }
}

function presenceOf(inode: Inode): Presence {
  return inode.presence ??= new Presence(inode.remoteEnd);
}

/** Turns an error of the overlay's disk into the reason why the compute ends. */
export function overlayError(directory: string, error: unknown): unknown {
  return systemErrorCode(error) === undefined || error instanceof ZenithError
    ? error
    : ioError("use", directory, error);
}
