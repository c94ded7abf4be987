/**
 * Root's access to a directory that another user may write. Paths are not safe there: any part of
 * one can become a link between two calls. So this class opens each directory without following
 * links, and reaches its contents through that descriptor, one name at a time
 * (`/proc/self/fd/N/name` does the work of openat(2)).
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmdirSync,
  type Stats,
  symlinkSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { assert } from "./assert.ts";
import { ioError, systemErrorCode, ZenithError } from "./errors.ts";

export interface FileOwner {
  readonly uid: number;
  readonly gid: number;
}

const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants;

const DIRECTORY_MODE = 0o700;

export class ForeignDirectory implements Disposable {
  /** For error messages only. */
  readonly path: string;
  readonly #fd: number;

  private constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
  }

  /** Opens a directory whose parent is ours. @throws {ZenithError} `io`, also when it is a link */
  static open(path: string): ForeignDirectory {
    return new ForeignDirectory(path, openDirectory(path, path));
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  /**
   * A path to this very directory, whatever happens to its name. Only valid in system calls of this
   * process.
   */
  get descriptorPath(): string {
    return `/proc/self/fd/${this.#fd}`;
  }

  names(): string[] {
    return readdirSync(this.descriptorPath);
  }

  /** The status of the directory itself. */
  stat(): Stats {
    return fstatSync(this.#fd);
  }

  /** The status of an entry; links are not followed. Undefined when there is no such entry. */
  lstat(name: string): Stats | undefined {
    return lstatSync(this.#at(name), { throwIfNoEntry: false });
  }

  setMode(mode: number): void {
    fchmodSync(this.#fd, mode);
  }

  setOwner(owner: FileOwner): void {
    fchownSync(this.#fd, owner.uid, owner.gid);
  }

  /** Opens a subdirectory. @throws {ZenithError} `io`, also when it is a link */
  directory(name: string): ForeignDirectory {
    const path = join(this.path, name);
    return new ForeignDirectory(path, openDirectory(this.#at(name), path));
  }

  /** Opens a subdirectory, and creates it for `owner` if it is missing. */
  makeDirectory(name: string, owner: FileOwner | undefined): ForeignDirectory {
    try {
      mkdirSync(this.#at(name), { mode: DIRECTORY_MODE });
    } catch (error) {
      if (systemErrorCode(error) !== "EEXIST") {
        throw ioError("create directory", join(this.path, name), error);
      }
    }
    const made = this.directory(name);
    if (owner !== undefined) made.setOwner(owner);
    return made;
  }

  /** Creates a file that belongs to `owner`. @returns its descriptor, for writing */
  createFile(name: string, mode: number, owner: FileOwner | undefined): number {
    try {
      const fd = openSync(this.#at(name), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
      if (owner !== undefined) fchownSync(fd, owner.uid, owner.gid);
      return fd;
    } catch (error) {
      throw ioError("create", join(this.path, name), error);
    }
  }

  /**
   * Opens an existing file for writing.
   *
   * @returns its descriptor
   * @throws {ZenithError} `io`, also when it is a link
   */
  openFile(name: string): number {
    try {
      return openSync(this.#at(name), O_WRONLY | O_NOFOLLOW);
    } catch (error) {
      throw ioError("open", join(this.path, name), error);
    }
  }

  /**
   * Opens an existing regular file for reading.
   *
   * @returns its descriptor
   * @throws {ZenithError} `io`, also when it is a link or a pipe
   */
  openForReading(name: string): number {
    return openRegularFile(this.#at(name), join(this.path, name));
  }

  /**
   * Replaces the entry `name` with a file that belongs to `owner`. If this is interrupted, the
   * entry is still complete.
   *
   * @param isDurable false when nobody needs the file after a crash of the machine
   * @throws {ZenithError} `disk_full`, `io`
   */
  replaceFile(
    name: string,
    bytes: Uint8Array,
    mode: number,
    owner: FileOwner | undefined,
    isDurable = true,
  ): void {
    const temporary = `${name}.new`;
    this.remove(temporary);
    const fd = this.createFile(temporary, mode, owner);
    try {
      for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
      if (isDurable) fsyncSync(fd);
      renameSync(this.#at(temporary), this.#at(name));
    } catch (error) {
      throw ioError("write", join(this.path, name), error);
    } finally {
      closeSync(fd);
    }
  }

  /** Creates a symbolic link. */
  link(name: string, target: string): void {
    symlinkSync(target, this.#at(name));
  }

  /** Moves an entry to one of our paths. */
  moveTo(name: string, path: string): void {
    renameSync(this.#at(name), path);
  }

  /** Removes the entry of that name with everything below it, if it exists. */
  remove(name: string): void {
    const found = this.lstat(name);
    if (found === undefined) return;
    if (!found.isDirectory()) {
      unlinkSync(this.#at(name));
      return;
    }
    {
      using directory = this.directory(name);
      for (const inside of directory.names()) directory.remove(inside);
    }
    rmdirSync(this.#at(name));
  }

  /**
   * Changes the owner of everything that belongs to `from`, including this directory, to `owner`. A
   * file with several names stays as it is: others may have one of them in their directories.
   */
  handOver(from: number, owner: FileOwner): void {
    if (this.stat().uid === from) this.setOwner(owner);
    for (const name of this.names()) {
      const found = this.lstat(name);
      if (found?.isDirectory()) {
        using directory = this.directory(name);
        directory.handOver(from, owner);
      } else if (found?.uid === from && found.nlink === 1) {
        lchownSync(this.#at(name), owner.uid, owner.gid);
      }
    }
  }

  /** @throws {ZenithError} as {@link readForeignFile} */
  read(name: string, maxBytes: number): Uint8Array {
    return readRegularFile(this.#at(name), join(this.path, name), maxBytes);
  }

  #at(name: string): string {
    assert(name !== "" && name !== "." && name !== ".." && !name.includes("/"), "one name at a time");
    return `${this.descriptorPath}/${name}`;
  }
}

/** Removes a tree that another user may write, if it exists. Its parent must be ours. */
export function removeForeignTree(path: string): void {
  if (lstatSync(dirname(path), { throwIfNoEntry: false }) === undefined) return;
  using parent = ForeignDirectory.open(dirname(path));
  parent.remove(basename(path));
}

/**
 * Reads a file in a directory that another user may write. The directory's parent must be ours.
 *
 * @throws {ZenithError} `io` when it is a link or a pipe instead of a regular file, or larger than
 *   `maxBytes`
 */
export function readForeignFile(path: string, maxBytes: number): Uint8Array {
  using directory = ForeignDirectory.open(dirname(path));
  return directory.read(basename(path), maxBytes);
}

function openRegularFile(at: string, path: string): number {
  let fd: number;
  try {
    // O_NONBLOCK, because opening a pipe would block.
    fd = openSync(at, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  } catch (error) {
    throw linkError(path, error) ?? ioError("read", path, error);
  }
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  throw new ZenithError("io", `could not read ${path}: it is no ordinary file`);
}

function readRegularFile(at: string, path: string, maxBytes: number): Uint8Array {
  const fd = openRegularFile(at, path);
  try {
    const found = fstatSync(fd);
    if (found.size > maxBytes) {
      throw new ZenithError(
        "io",
        `could not read ${path}: it has ${found.size} bytes, more than ${maxBytes}`,
      );
    }
    const bytes = new Uint8Array(found.size);
    let length = 0;
    for (let read = -1; read !== 0 && length < bytes.length; length += read) {
      read = readSync(fd, bytes, length, bytes.length - length, length);
    }
    return bytes.subarray(0, length);
  } finally {
    closeSync(fd);
  }
}

function openDirectory(at: string, path: string): number {
  try {
    return openSync(at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  } catch (error) {
    throw linkError(path, error) ?? ioError("open directory", path, error);
  }
}

/** Recognizes what open(2) reports for a link: ELOOP, or ENOTDIR where it expects a directory. */
function linkError(path: string, error: unknown): ZenithError | undefined {
  const isLink = ["ELOOP", "ENOTDIR"].includes(systemErrorCode(error) ?? "") &&
    lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink();
  if (!isLink) return undefined;
  return new ZenithError("io", `${path} is a link: Zenith follows none in a directory that others write`, {
    hint: "put what it points at in its place",
    cause: error,
  });
}
