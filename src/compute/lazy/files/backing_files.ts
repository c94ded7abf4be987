/** The overlay's files on disk. */
import { closeSync, constants, openSync, rmSync } from "node:fs";
import { join } from "node:path";
import { systemErrorCode } from "../../../common/errors.ts";

const FILE_MODE = 0o600;

/**
 * The overlay's files, in one flat directory. There is one for each inode that has data of its own,
 * named by the inode's number, so names, renames and links don't matter here. When too many
 * descriptors are open, the one that was opened first is closed.
 */
export class BackingFiles {
  readonly #directory: string;
  readonly #maxOpen: number;
  /** Descriptors by inode number, in the order of opening. */
  readonly #open = new Map<number, number>();

  constructor(directory: string, maxOpen: number) {
    this.#directory = directory;
    this.#maxOpen = maxOpen;
  }

  /**
   * Returns a descriptor for reading and writing. Creates the file if necessary. Valid until the
   * next call.
   */
  fd(id: number): number {
    return this.#open.get(id) ?? this.#openFile(id, constants.O_RDWR | constants.O_CREAT);
  }

  /**
   * Like {@link fd}, but returns -1 when there is no such file because nothing was ever written to
   * it.
   */
  existingFd(id: number): number {
    const fd = this.#open.get(id);
    if (fd !== undefined) return fd;
    try {
      return this.#openFile(id, constants.O_RDWR);
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") return -1;
      throw error;
    }
  }

  remove(id: number): void {
    this.#close(id);
    rmSync(this.path(id), { force: true });
  }

  closeAll(): void {
    for (const id of [...this.#open.keys()]) this.#close(id);
  }

  #openFile(id: number, flags: number): number {
    const fd = openSync(this.path(id), flags, FILE_MODE);
    if (this.#open.size >= this.#maxOpen) this.#close(this.#open.keys().next().value!);
    this.#open.set(id, fd);
    return fd;
  }

  #close(id: number): void {
    const fd = this.#open.get(id);
    if (fd === undefined) return;
    this.#open.delete(id);
    closeSync(fd);
  }

  /** The path of the file with an inode's data. */
  path(id: number): string {
    return join(this.#directory, String(id));
  }
}
