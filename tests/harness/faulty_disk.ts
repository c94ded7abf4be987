/**
 * A disk in memory that keeps apart what was written from what is durable, so that a test can pull the plug at any
 * operation, and that fails when told to.
 *
 * What a crash leaves: of each file, its content at the last fsync, and then of the writes since a random prefix, the
 * last of them torn; of each directory, its names at the last fsync of the directory, and then a random prefix of
 * the changes since. A file's fsync does not make its name durable. That is stricter than most file systems, and all that
 * POSIX promises.
 */
import assert from "node:assert/strict";
import type { Disk, DiskFile, DiskStat, OpenMode } from "../../src/common/disk.ts";
import type { Random } from "./random.ts";

/** What happens at an operation that was chosen to fail. */
export type Fault =
  /** It fails with this code, the disk stays as it was; later operations work, unless `lasting`. */
  | { readonly kind: "error"; readonly code: "EIO" | "ENOSPC"; readonly lasting?: boolean }
  /** The process stops there: it and everything after it fails until {@link FaultyDisk.crash} or {@link FaultyDisk.kill}. */
  | { readonly kind: "crash" };

/** Thrown by every operation of a disk without power. */
export class PowerLostError extends Error {
  override name = "PowerLostError";
}

interface Write {
  readonly position: number;
  /** null: cuts or extends the file to `position`. */
  readonly bytes: Uint8Array | null;
}

/** A file's bytes, in a buffer that grows. */
class Content {
  size = 0;
  #buffer = new Uint8Array(0);

  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.size);
  }

  apply({ position, bytes }: Write): void {
    const end = bytes === null ? position : position + bytes.length;
    if (end > this.#buffer.length) {
      const grown = new Uint8Array(Math.max(end, 2 * this.#buffer.length));
      grown.set(this.bytes);
      this.#buffer = grown;
    }
    // What a file is extended by reads as zeros, whatever was there before it was cut.
    if (end > this.size) this.#buffer.fill(0, this.size, end);
    this.size = bytes === null ? end : Math.max(this.size, end);
    if (bytes !== null) this.#buffer.set(bytes, position);
  }

  copy(): Content {
    const copy = new Content();
    copy.apply({ position: 0, bytes: this.bytes });
    return copy;
  }
}

class FileNode {
  readonly isDirectory = false;
  content = new Content();
  readonly durable = new Content();
  pending: Write[] = [];

  apply(write: Write): void {
    this.content.apply(write);
    this.pending.push(write);
  }

  sync(): void {
    for (const write of this.pending) this.durable.apply(write);
    this.pending = [];
  }

  crash(random: Random): void {
    const kept = random.int(this.pending.length + 1);
    for (let i = 0; i < kept; i++) {
      const { position, bytes } = this.pending[i];
      const torn = bytes !== null && i === kept - 1 ? bytes.subarray(0, random.int(bytes.length + 1)) : bytes;
      this.durable.apply({ position, bytes: torn });
    }
    this.content = this.durable.copy();
    this.pending = [];
  }
}

type Names = Map<string, FileNode | DirectoryNode>;

class DirectoryNode {
  readonly isDirectory = true;
  names: Names = new Map();
  durable: Names = new Map();
  pending: ((names: Names) => void)[] = [];
  /** When its names changed last. */
  mtimeMs = 0;

  change(apply: (names: Names) => void): void {
    this.mtimeMs = Date.now();
    apply(this.names);
    this.pending.push(apply);
  }

  sync(): void {
    this.durable = new Map(this.names);
    this.pending = [];
  }

  syncAll(): void {
    this.sync();
    for (const node of this.names.values()) {
      if (node.isDirectory) node.syncAll();
      else node.sync();
    }
  }

  crash(random: Random): void {
    const names = new Map(this.durable);
    // All, none or some: what was not synced may become durable in any order.
    const lost = random.int(3);
    for (const apply of this.pending) {
      if (random.int(2) >= lost) apply(names);
    }
    this.names = names;
    this.sync();
    for (const node of names.values()) node.crash(random);
  }
}

export class FaultyDisk implements Disk {
  /** Operations done so far: everything that changes the disk or makes it durable, and opens and reads of files. */
  operations = 0;
  readonly #random: Random;
  readonly #root = new DirectoryNode();
  #faultAt = Infinity;
  #fault: Fault = { kind: "crash" };
  #hasFaulted = false;
  #powerLost = false;
  #generation = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  /** The `n`-th operation from now on (1: the next one) will fail. Replaces a fault that was set before. */
  failAt(n: number, fault: Fault): void {
    this.#faultAt = this.operations + n;
    this.#fault = fault;
    this.#hasFaulted = false;
  }

  noFault(): void {
    this.#faultAt = Infinity;
  }

  /** Whether the fault that was set has happened. */
  get faulted(): boolean {
    return this.#hasFaulted || this.operations >= this.#faultAt;
  }

  /** Makes all that is there durable: what a test starts from. */
  syncAll(): void {
    this.#root.syncAll();
  }

  /** Power goes and comes back: what was not durable is lost, in part. Files that were open can't be used any more. */
  crash(): void {
    this.#root.crash(this.#random);
    this.kill();
  }

  /**
   * The process is killed, the machine runs on: all that was done is there, durable or not. Files that were open can't be
   * used any more.
   */
  kill(): void {
    this.#hasFaulted = this.faulted;
    this.#powerLost = false;
    this.#faultAt = Infinity;
    this.#generation++;
  }

  openSync(path: string, mode: OpenMode): DiskFile {
    this.step(path);
    const parent = this.#parent(path);
    const name = baseName(path);
    let node = parent.names.get(name);
    if (node === undefined) {
      if (mode === "read" || mode === "write") throw systemError("ENOENT", path);
      const created = new FileNode();
      parent.change((names) => names.set(name, created));
      node = created;
    } else if (mode === "createNew") {
      throw systemError("EEXIST", path);
    }
    if (node.isDirectory) throw systemError("EISDIR", path);
    if (mode === "create" && node.content.size > 0) node.apply({ position: 0, bytes: null });
    return new OpenFile(this, path, node, this.#generation);
  }

  readFileSync(path: string): Uint8Array {
    this.step(path);
    return this.#file(path).content.bytes.slice();
  }

  renameSync(from: string, to: string): void {
    this.step(from);
    const parent = this.#parent(from);
    assert.equal(this.#parent(to), parent, "a rename across directories is not atomic in this model");
    const oldName = baseName(from);
    const newName = baseName(to);
    const node = parent.names.get(oldName);
    if (node === undefined) throw systemError("ENOENT", from);
    const replaced = parent.names.get(newName);
    if (replaced?.isDirectory && replaced.names.size > 0) throw systemError("ENOTEMPTY", to);
    parent.change((names) => {
      names.delete(oldName);
      names.set(newName, node);
    });
  }

  unlinkSync(path: string): void {
    this.step(path);
    this.#file(path);
    const name = baseName(path);
    this.#parent(path).change((names) => names.delete(name));
  }

  async unlink(path: string): Promise<void> {
    await Promise.resolve();
    this.unlinkSync(path);
  }

  removeTreeSync(path: string): void {
    this.step(path);
    const name = baseName(path);
    const parent = this.#parent(path);
    const node = parent.names.get(name);
    if (node === undefined) return;
    if (node.isDirectory) {
      for (const child of node.names.keys()) this.removeTreeSync(`${path}/${child}`);
    }
    parent.change((names) => names.delete(name));
  }

  async removeTree(path: string): Promise<void> {
    await Promise.resolve();
    this.removeTreeSync(path);
  }

  readdirSync(path: string): string[] {
    this.step(path);
    return [...this.#directory(path).names.keys()];
  }

  mkdirSync(path: string): void {
    this.step(path);
    const parent = this.#parent(path);
    const name = baseName(path);
    if (parent.names.has(name)) throw systemError("EEXIST", path);
    const created = new DirectoryNode();
    parent.change((names) => names.set(name, created));
  }

  mkdirsSync(path: string): void {
    let prefix = "";
    for (const part of parts(path)) {
      prefix += `/${part}`;
      if (this.#find(prefix) === undefined) this.mkdirSync(prefix);
    }
  }

  statSync(path: string): DiskStat | null {
    this.step(path);
    const node = this.#find(path);
    if (node === undefined) return null;
    return node.isDirectory
      ? { size: 0, isDirectory: true, mtimeMs: node.mtimeMs }
      : { size: node.content.size, isDirectory: false, mtimeMs: 0 };
  }

  fsyncDirSync(path: string): void {
    this.step(path);
    this.#directory(path).sync();
  }

  async fsyncDir(path: string): Promise<void> {
    await Promise.resolve();
    this.fsyncDirSync(path);
  }

  /** Counts one operation; the one that was chosen fails here. */
  step(path: string): void {
    if (this.#powerLost) throw new PowerLostError(`no power: ${path}`);
    this.operations++;
    if (this.operations < this.#faultAt) return;
    if (this.#fault.kind === "error") {
      if (this.operations > this.#faultAt && this.#fault.lasting !== true) return;
      throw systemError(this.#fault.code, path);
    }
    this.#powerLost = true;
    throw new PowerLostError(`power lost at operation ${this.operations}: ${path}`);
  }

  /** For open files: also refuses those opened before a crash. */
  stepFile(path: string, generation: number): void {
    if (generation !== this.#generation) throw new PowerLostError(`${path} was opened before the crash`);
    this.step(path);
  }

  #find(path: string): FileNode | DirectoryNode | undefined {
    let node: FileNode | DirectoryNode | undefined = this.#root;
    for (const part of parts(path)) {
      if (node === undefined || !node.isDirectory) return undefined;
      node = node.names.get(part);
    }
    return node;
  }

  #file(path: string): FileNode {
    const node = this.#find(path);
    if (node === undefined) throw systemError("ENOENT", path);
    if (node.isDirectory) throw systemError("EISDIR", path);
    return node;
  }

  #directory(path: string): DirectoryNode {
    const node = this.#find(path);
    if (node === undefined) throw systemError("ENOENT", path);
    if (!node.isDirectory) throw systemError("ENOTDIR", path);
    return node;
  }

  #parent(path: string): DirectoryNode {
    return this.#directory(path.slice(0, path.lastIndexOf("/")));
  }
}

class OpenFile implements DiskFile {
  readonly path: string;
  readonly #disk: FaultyDisk;
  readonly #node: FileNode;
  readonly #generation: number;
  #open = true;

  constructor(disk: FaultyDisk, path: string, node: FileNode, generation: number) {
    this.#disk = disk;
    this.path = path;
    this.#node = node;
    this.#generation = generation;
  }

  readSync(into: Uint8Array, off: number, len: number, position: number): number {
    this.#step();
    const bytes = this.#node.content.bytes.subarray(position, position + len);
    into.set(bytes, off);
    return bytes.length;
  }

  writeSync(from: Uint8Array, off: number, len: number, position: number): void {
    this.#step();
    this.#node.apply({ position, bytes: from.slice(off, off + len) });
  }

  async fsync(): Promise<void> {
    await Promise.resolve();
    this.fsyncSync();
  }

  fsyncSync(): void {
    this.#step();
    this.#node.sync();
  }

  async fdatasync(): Promise<void> {
    await this.fsync();
  }

  fdatasyncSync(): void {
    this.fsyncSync();
  }

  truncateSync(size: number): void {
    this.#step();
    this.#node.apply({ position: size, bytes: null });
  }

  sizeSync(): number {
    this.#step();
    return this.#node.content.size;
  }

  closeSync(): void {
    this.#open = false;
  }

  #step(): void {
    assert(this.#open, `${this.path} is used after it was closed`);
    this.#disk.stepFile(this.path, this.#generation);
  }
}

function parts(path: string): string[] {
  assert(path.startsWith("/") || path === "", `${path} is not an absolute path`);
  return path.split("/").filter((part) => part !== "");
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

function systemError(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code, path });
}
