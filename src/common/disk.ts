/**
 * The only way to the disk. All code that stores data takes a {@link Disk}, so that a test can
 * substitute one that fails, loses what was not synced, or tears the last write, at any operation
 * it chooses.
 *
 * Use synchronous calls for metadata, for reads that a request waits for, and in threads with
 * nothing else to do. Use asynchronous calls for long operations beside other work. Failures are
 * the operating system's errors, with their `code` and `path`. Wrap them with `ioError` where the
 * code knows the operation.
 */
import * as fs from "node:fs";
import { dirname } from "node:path";
import { systemErrorCode } from "./errors.ts";

/** An open file. Every read and write names its position: there is no shared cursor. */
export interface DiskFile {
  readonly path: string;
  /**
   * Reads up to `len` bytes from `position` into `into[off..]`. Reads fewer only at the end of the
   * file.
   */
  readSync(into: Uint8Array, off: number, len: number, position: number): number;
  /** Writes all of `len` bytes. */
  writeSync(from: Uint8Array, off: number, len: number, position: number): void;
  /** Makes the file's content and size durable. */
  fsync(): Promise<void>;
  fsyncSync(): void;
  /** Like fsync, but leaves out timestamps and similar metadata. */
  fdatasync(): Promise<void>;
  fdatasyncSync(): void;
  truncateSync(size: number): void;
  sizeSync(): number;
  closeSync(): void;
}

/**
 * How to open a file.
 * - `read`: the file must exist.
 * - `write`: read and write; the file must exist.
 * - `create`: read and write; the file is created or emptied.
 * - `createNew`: read and write; the file must not exist.
 */
export type OpenMode = "read" | "write" | "create" | "createNew";

export interface DiskStat {
  readonly size: number;
  readonly isDirectory: boolean;
  /** Milliseconds since the Unix epoch. */
  readonly mtimeMs: number;
}

export interface Disk {
  openSync(path: string, mode: OpenMode): DiskFile;
  /** Reads the whole file. */
  readFileSync(path: string): Uint8Array;
  /**
   * Renames `from` to `to`, and replaces `to` atomically if it is a file. Durable after
   * {@link fsyncDirSync} of the directory.
   */
  renameSync(from: string, to: string): void;
  unlinkSync(path: string): void;
  /** Like {@link unlinkSync}, but off this thread: removing a large file takes milliseconds. */
  unlink(path: string): Promise<void>;
  /** Removes a directory with everything in it. Does nothing when it isn't there. */
  removeTreeSync(path: string): void;
  /** Like {@link removeTreeSync}, but off this thread. */
  removeTree(path: string): Promise<void>;
  readdirSync(path: string): string[];
  mkdirSync(path: string): void;
  /** Creates the directory and its missing parents. */
  mkdirsSync(path: string): void;
  /** Returns null when nothing is there. */
  statSync(path: string): DiskStat | null;
  /** Makes the names in a directory durable. Call it after create, rename and unlink. */
  fsyncDirSync(path: string): void;
  /** Like {@link fsyncDirSync}, but off this thread. */
  fsyncDir(path: string): Promise<void>;
}

const OPEN_FLAGS: Record<OpenMode, number> = {
  read: fs.constants.O_RDONLY,
  write: fs.constants.O_RDWR,
  create: fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_TRUNC,
  createNew: fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL,
};

/** Only the owner may access data files, as in PostgreSQL. */
const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

class NodeFile implements DiskFile {
  readonly path: string;
  #fd: number;

  constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
  }

  readSync(into: Uint8Array, off: number, len: number, position: number): number {
    let done = 0;
    while (done < len) {
      const n = fs.readSync(this.#fd, into, off + done, len - done, position + done);
      if (n === 0) break;
      done += n;
    }
    return done;
  }

  writeSync(from: Uint8Array, off: number, len: number, position: number): void {
    let done = 0;
    while (done < len) done += fs.writeSync(this.#fd, from, off + done, len - done, position + done);
  }

  fsync(): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.fsync(this.#fd, (error) => isError(error) ? reject(error) : resolve());
    });
  }

  fsyncSync(): void {
    fs.fsyncSync(this.#fd);
  }

  fdatasync(): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.fdatasync(this.#fd, (error) => isError(error) ? reject(error) : resolve());
    });
  }

  fdatasyncSync(): void {
    fs.fdatasyncSync(this.#fd);
  }

  truncateSync(size: number): void {
    fs.ftruncateSync(this.#fd, size);
  }

  sizeSync(): number {
    return fs.fstatSync(this.#fd).size;
  }

  closeSync(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    fs.closeSync(fd);
  }
}

/** Runtimes disagree on whether "no error" is null or undefined. */
function isError(error: Error | null | undefined): error is Error {
  return error !== null && error !== undefined;
}

/** The real disk. */
export const nodeDisk: Disk = {
  openSync(path: string, mode: OpenMode): DiskFile {
    return new NodeFile(path, fs.openSync(path, OPEN_FLAGS[mode], FILE_MODE));
  },

  readFileSync(path: string): Uint8Array {
    return fs.readFileSync(path);
  },

  renameSync(from: string, to: string): void {
    fs.renameSync(from, to);
  },

  unlinkSync(path: string): void {
    fs.unlinkSync(path);
  },

  unlink(path: string): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.unlink(path, (error) => isError(error) ? reject(error) : resolve());
    });
  },

  removeTreeSync(path: string): void {
    fs.rmSync(path, { recursive: true, force: true });
  },

  removeTree(path: string): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.rm(path, { recursive: true, force: true }, (error) => isError(error) ? reject(error) : resolve());
    });
  },

  readdirSync(path: string): string[] {
    return fs.readdirSync(path);
  },

  mkdirSync(path: string): void {
    fs.mkdirSync(path, { mode: DIRECTORY_MODE });
  },

  mkdirsSync(path: string): void {
    fs.mkdirSync(path, { recursive: true, mode: DIRECTORY_MODE });
  },

  statSync(path: string): DiskStat | null {
    const stat = fs.statSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return null;
    return { size: stat.size, isDirectory: stat.isDirectory(), mtimeMs: stat.mtimeMs };
  },

  fsyncDirSync(path: string): void {
    const fd = fs.openSync(path, fs.constants.O_RDONLY);
    try {
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
  },

  async fsyncDir(path: string): Promise<void> {
    const file = new NodeFile(path, fs.openSync(path, fs.constants.O_RDONLY));
    try {
      await file.fsync();
    } finally {
      file.closeSync();
    }
  },
};

/**
 * Replaces `path` with `content`, atomically and durably. After a crash at any instant the file has
 * either its old or its new content; once this returns, it has the new. Blocks for two syncs.
 */
export function replaceFileSync(disk: Disk, directory: string, path: string, content: Uint8Array): void {
  const temporary = `${path}${TEMPORARY_SUFFIX}`;
  const file = disk.openSync(temporary, "create");
  try {
    file.writeSync(content, 0, content.length, 0);
    file.fsyncSync();
  } finally {
    file.closeSync();
  }
  disk.renameSync(temporary, path);
  disk.fsyncDirSync(directory);
}

/**
 * Like {@link replaceFileSync}, but doesn't block this thread for the syncs. Only one call at a
 * time per path: the temporary file has only one name.
 */
export async function replaceFile(
  disk: Disk,
  directory: string,
  path: string,
  content: Uint8Array,
): Promise<void> {
  const temporary = `${path}${TEMPORARY_SUFFIX}`;
  const file = disk.openSync(temporary, "create");
  try {
    file.writeSync(content, 0, content.length, 0);
    await file.fsync();
  } finally {
    file.closeSync();
  }
  disk.renameSync(temporary, path);
  await disk.fsyncDir(directory);
}

/**
 * Makes durable what an earlier process left in a directory. Call this before relying on it. If
 * that process was killed, its last operations are visible, but a power failure can still undo
 * them: a file's new content, a removed name, the directory itself.
 */
export function settleDirectorySync(disk: Disk, directory: string): void {
  disk.fsyncDirSync(dirname(directory));
  disk.fsyncDirSync(directory);
}

/** Like {@link settleDirectorySync}, but off this thread. */
export async function settleDirectory(disk: Disk, directory: string): Promise<void> {
  await disk.fsyncDir(dirname(directory));
  await disk.fsyncDir(directory);
}

/**
 * Like {@link settleDirectorySync}, for a role's working directory, which somebody else has
 * created. Also syncs the directories above it, as far as this process may open them.
 */
export function settleWorkdirSync(disk: Disk, workdir: string): void {
  disk.fsyncDirSync(workdir);
  try {
    for (let at = workdir; at !== dirname(at); at = dirname(at)) disk.fsyncDirSync(dirname(at));
  } catch (error) {
    if (!NOT_OURS.has(systemErrorCode(error) ?? "")) throw error;
  }
}

/**
 * Errors that mean that this process may not open the directory, or that its file system can't sync
 * directories.
 */
const NOT_OURS: ReadonlySet<string> = new Set(["EACCES", "EPERM", "EINVAL"]);

/** The suffix of an incomplete file. A directory's owner removes such files when it starts. */
export const TEMPORARY_SUFFIX = ".tmp";
