/** The names and attributes of the mount's files. */
import { assert } from "../../../common/assert.ts";
import { EEXIST, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, FileSystemError } from "../fuse/errno.ts";
import { type Inode, type RemoteFile, S_IFDIR, S_IFMT, S_IFREG } from "./inode.ts";

/** FUSE_ROOT_ID. */
const ROOT_ID = 1;

export interface NewInode {
  /** File type and permissions. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size?: number;
  readonly grows?: boolean;
  readonly target?: string;
  readonly remote?: RemoteFile;
}

/**
 * All names and attributes. They exist only in memory, because every start of a compute begins
 * afresh.
 */
export class InodeTable {
  readonly root: Inode;
  readonly #byId = new Map<number, Inode>();
  readonly #gone: (inode: Inode) => void;
  #nextId = ROOT_ID;

  /** @param gone called when a file has neither a name nor a user any more */
  constructor(owner: { uid: number; gid: number }, gone: (inode: Inode) => void) {
    this.#gone = gone;
    this.root = this.#make({ mode: S_IFDIR | 0o755, ...owner });
    assert(this.root.id === ROOT_ID, "the root is the first inode");
  }

  /** @throws {FileSystemError} ENOENT for an id that the kernel should not know */
  get(id: number): Inode {
    const inode = this.#byId.get(id);
    if (inode === undefined) throw new FileSystemError(ENOENT, `there is no inode ${id}`);
    return inode;
  }

  find(id: number): Inode | undefined {
    return this.#byId.get(id);
  }

  /** The files that the kernel knows. */
  *knownFiles(): Generator<Inode> {
    for (const inode of this.#byId.values()) {
      if (inode.lookups > 0 && (inode.mode & S_IFMT) === S_IFREG) yield inode;
    }
  }

  child(directory: Inode, name: string): Inode | undefined {
    return childrenOf(directory).get(name);
  }

  /** Returns the inode at a path from the root. */
  at(path: string): Inode | undefined {
    let found: Inode | undefined = this.root;
    for (const name of path.split("/")) found = found?.children?.get(name);
    return found;
  }

  /** @throws {FileSystemError} EEXIST */
  create(directory: Inode, name: string, options: NewInode): Inode {
    const children = childrenOf(directory);
    if (children.has(name)) throw new FileSystemError(EEXIST, `${name} exists`);
    const inode = this.#make(options);
    children.set(name, inode);
    touch(directory);
    return inode;
  }

  /** @throws {FileSystemError} ENOENT, EISDIR */
  unlink(directory: Inode, name: string): void {
    const inode = this.#named(directory, name);
    if (inode.children !== null) throw new FileSystemError(EISDIR, `${name} is a directory`);
    this.#detach(directory, name, inode);
  }

  /** @throws {FileSystemError} ENOENT, ENOTDIR, ENOTEMPTY */
  rmdir(directory: Inode, name: string): void {
    const inode = this.#named(directory, name);
    const children = childrenOf(inode);
    if (children.size > 0) throw new FileSystemError(ENOTEMPTY, `${name} is not empty`);
    this.#detach(directory, name, inode);
  }

  /**
   * Moves `name` to `newName`, and replaces what is there. @throws {FileSystemError} as rename(2)
   */
  rename(directory: Inode, name: string, newDirectory: Inode, newName: string): void {
    const inode = this.#named(directory, name);
    const replaced = childrenOf(newDirectory).get(newName);
    if (replaced === inode) return;
    if (replaced !== undefined) {
      if (inode.children === null) this.unlink(newDirectory, newName);
      else this.rmdir(newDirectory, newName);
    }
    childrenOf(directory).delete(name);
    childrenOf(newDirectory).set(newName, inode);
    touch(directory);
    touch(newDirectory);
  }

  /**
   * Notes that the kernel has forgotten the inode `count` of the times that it was told about it.
   */
  forget(id: number, count: number): void {
    const inode = this.#byId.get(id);
    if (inode === undefined) return;
    inode.lookups = Math.max(0, inode.lookups - count);
    this.#dropIfUnused(inode);
  }

  #named(directory: Inode, name: string): Inode {
    const inode = childrenOf(directory).get(name);
    if (inode === undefined) throw new FileSystemError(ENOENT, `${name} does not exist`);
    return inode;
  }

  #detach(directory: Inode, name: string, inode: Inode): void {
    childrenOf(directory).delete(name);
    inode.nlink = 0;
    touch(directory);
    this.#dropIfUnused(inode);
  }

  #dropIfUnused(inode: Inode): void {
    if (inode.nlink > 0 || inode.lookups > 0) return;
    this.#byId.delete(inode.id);
    this.#gone(inode);
  }

  #make(options: NewInode): Inode {
    const now = Date.now();
    const size = options.size ?? 0;
    const inode: Inode = {
      id: this.#nextId++,
      mode: options.mode,
      uid: options.uid,
      gid: options.gid,
      mtimeSec: Math.floor(now / 1000),
      mtimeNsec: (now % 1000) * 1_000_000,
      nlink: 1,
      size,
      lookups: 0,
      grows: options.grows ?? false,
      children: (options.mode & S_IFMT) === S_IFDIR ? new Map() : null,
      target: options.target ?? "",
      remote: options.remote ?? null,
      remoteEnd: options.remote === undefined ? 0 : size,
      presence: null,
      heldBytes: 0,
      heldCleanBytes: 0,
    };
    this.#byId.set(inode.id, inode);
    return inode;
  }
}

function childrenOf(directory: Inode): Map<string, Inode> {
  if (directory.children === null) {
    throw new FileSystemError(ENOTDIR, `inode ${directory.id} is no directory`);
  }
  return directory.children;
}

function touch(directory: Inode): void {
  const now = Date.now();
  directory.mtimeSec = Math.floor(now / 1000);
  directory.mtimeNsec = (now % 1000) * 1_000_000;
}
