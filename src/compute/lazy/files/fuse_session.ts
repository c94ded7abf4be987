/** Answers the kernel's FUSE requests. */
import { statfsSync } from "node:fs";
import { ZenithError } from "../../../common/errors.ts";
import type { DiskRoom } from "./disk_room.ts";
import { EINVAL, ENOENT, ENOSPC, ENOSYS, EOPNOTSUPP, FileSystemError } from "../fuse/errno.ts";
import type { FileData } from "./file_data.ts";
import { type Inode, PERMISSION_BITS, type RemoteFile, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from "./inode.ts";
import type { InodeTable } from "./inode_table.ts";
import { UNIT_BYTES } from "./presence.ts";
import * as fuse from "../fuse/protocol.ts";

/** A READ of something that only the page server has. Whoever fetches it replies. */
export interface MissedRead {
  /** The request's `unique`, as its low and its high half. */
  readonly unique: readonly [number, number];
  readonly inode: number;
  readonly remote: RemoteFile;
  /** The offset in the file, in bytes. */
  readonly offset: number;
  readonly bytes: number;
  /** The units to fetch, as runs: the first unit and the end of each. */
  readonly missing: readonly number[];
  /** The `bytes` as the overlay has them. Undefined when all of them are missing. */
  readonly overlay: Uint8Array | undefined;
  /** Whether some of what is missing was read before. The kernel has evicted it since. */
  readonly isRepeated: boolean;
}

/** {@link FuseSession.handle} returns this for a request that gets no reply. */
const NO_REPLY = 0;
/** {@link FuseSession.handle} returns this for a READ that was handed off. */
const REPLY_LATER = -1;

interface DirectoryEntry {
  readonly name: Uint8Array;
  readonly id: number;
  readonly type: number;
}

const textDecoder = new TextDecoder();
const textEncoder = new TextEncoder();

const NAME_MAX = 255;

/**
 * Answers the kernel's requests, one at a time, and never waits for the network. READs of what is
 * not here are handed off. Implements only what PostgreSQL uses. Everything else is ENOSYS, which
 * the kernel remembers.
 */
export class FuseSession {
  readonly #inodes: InodeTable;
  readonly #data: FileData;
  readonly #room: DiskRoom;
  readonly #overlayDirectory: string;
  readonly #onMiss: (miss: MissedRead) => void;
  readonly #directories = new Map<number, DirectoryEntry[]>();
  #nextHandle = 1;

  constructor(options: {
    readonly inodes: InodeTable;
    readonly data: FileData;
    readonly room: DiskRoom;
    /** The directory whose disk's free space is reported. */
    readonly overlayDirectory: string;
    readonly onMiss: (miss: MissedRead) => void;
  }) {
    this.#inodes = options.inodes;
    this.#data = options.data;
    this.#room = options.room;
    this.#overlayDirectory = options.overlayDirectory;
    this.#onMiss = options.onMiss;
  }

  /**
   * Handles the request in `buffers` and puts the reply beside it.
   *
   * @returns the reply's length, {@link NO_REPLY} or {@link REPLY_LATER}
   * @throws an error after which serving can't continue: the overlay has failed, or the kernel's
   *   FUSE is too old
   */
  handle(buffers: fuse.FuseBuffers): number {
    try {
      return this.#dispatch(buffers, buffers.requestWords[fuse.IN_OPCODE]);
    } catch (error) {
      if (error instanceof FileSystemError) return fuse.errorReply(buffers, error.errno);
      throw error;
    }
  }

  #dispatch(buffers: fuse.FuseBuffers, opcode: number): number {
    switch (opcode) {
      case fuse.FUSE_READ:
        return this.#read(buffers);
      case fuse.FUSE_WRITE:
        return this.#write(buffers);
      case fuse.FUSE_LOOKUP:
        return this.#lookup(buffers);
      case fuse.FUSE_FORGET:
        this.#inodes.forget(buffers.requestWords[fuse.IN_NODEID], buffers.requestWords[fuse.IN_ARGS]);
        return NO_REPLY;
      case fuse.FUSE_BATCH_FORGET:
        return this.#batchForget(buffers);
      case fuse.FUSE_GETATTR:
        return this.#getAttributes(buffers);
      case fuse.FUSE_SETATTR:
        return this.#setAttributes(buffers);
      case fuse.FUSE_FALLOCATE:
        return this.#allocate(buffers);
      case fuse.FUSE_OPEN:
        this.#inode(buffers);
        return fuse.openReply(buffers, 0, fuse.FOPEN_KEEP_CACHE);
      case fuse.FUSE_CREATE:
        return this.#create(buffers);
      case fuse.FUSE_MKDIR:
        return this.#mkdir(buffers);
      case fuse.FUSE_SYMLINK:
        return this.#symlink(buffers);
      case fuse.FUSE_READLINK:
        return this.#readlink(buffers);
      case fuse.FUSE_UNLINK:
        this.#inodes.unlink(this.#inode(buffers), name(buffers, fuse.IN_HEADER_BYTES));
        return done(buffers);
      case fuse.FUSE_RMDIR:
        this.#inodes.rmdir(this.#inode(buffers), name(buffers, fuse.IN_HEADER_BYTES));
        return done(buffers);
      case fuse.FUSE_RENAME:
        return this.#rename(buffers, fuse.RENAME_NAME_BYTES);
      case fuse.FUSE_RENAME2:
        // The flags ask for something that rename(2) doesn't do, such as RENAME_NOREPLACE.
        if (buffers.requestWords[fuse.IN_ARGS + 2] !== 0) return fuse.errorReply(buffers, EINVAL);
        return this.#rename(buffers, fuse.RENAME2_NAME_BYTES);
      case fuse.FUSE_OPENDIR:
        return this.#openDirectory(buffers);
      case fuse.FUSE_READDIR:
        return this.#readDirectory(buffers);
      case fuse.FUSE_RELEASEDIR:
        this.#directories.delete(buffers.requestWords[fuse.IN_ARGS]);
        return done(buffers);
      case fuse.FUSE_STATFS:
        return this.#statfs(buffers);
      case fuse.FUSE_RELEASE:
      case fuse.FUSE_FSYNC:
      case fuse.FUSE_FSYNCDIR:
        // Nothing here outlives the compute, so nothing needs to be durable.
        return done(buffers);
      case fuse.FUSE_NOTIFY_REPLY:
        // We asked for it: somebody wants this thread to look at its messages.
      case fuse.FUSE_INTERRUPT:
      case fuse.FUSE_DESTROY:
        return NO_REPLY;
      case fuse.FUSE_INIT:
        return init(buffers);
      default:
        return fuse.errorReply(buffers, ENOSYS);
    }
  }

  #inode(buffers: fuse.FuseBuffers): Inode {
    return this.#inodes.get(buffers.requestWords[fuse.IN_NODEID]);
  }

  #getAttributes(buffers: fuse.FuseBuffers): number {
    const words = buffers.requestWords;
    const inode = this.#inode(buffers);
    // The kernel sends this for a write(2), which its write-back cache otherwise hides. While the
    // disk is full, it is made to ask before each write.
    const isWrite = this.#room.isLow && (words[fuse.GETATTR_FLAGS] & fuse.FUSE_GETATTR_FH) !== 0;
    const has = (offset: number, bytes: number): boolean =>
      this.#data.missing(inode, offset, bytes).length === 0;
    if (isWrite && inode.grows && this.#room.refusesWrite(words[fuse.IN_PID], has)) {
      return fuse.errorReply(buffers, ENOSPC);
    }
    return fuse.attributesReply(buffers, inode);
  }

  #read(buffers: fuse.FuseBuffers): number {
    const words = buffers.requestWords;
    const inode = this.#inode(buffers);
    const offset = fuse.requestUint64(buffers, fuse.IO_OFFSET);
    const bytes = this.#data.readable(inode, offset, words[fuse.IO_SIZE]);
    if (inode.remote !== null && offset < inode.remoteEnd) {
      const missing = this.#data.missing(inode, offset, bytes);
      const isRepeated = this.#data.wasAsked(inode, missing);
      this.#data.ask(inode, offset, bytes);
      if (missing.length > 0) {
        this.#handOff(buffers, inode, { remote: inode.remote, offset, bytes, missing, isRepeated });
        return REPLY_LATER;
      }
    }
    this.#data.read(inode, offset, bytes, buffers.reply, fuse.OUT_HEADER_BYTES);
    return fuse.finishReply(buffers, fuse.OUT_HEADER_BYTES + bytes);
  }

  #handOff(
    buffers: fuse.FuseBuffers,
    inode: Inode,
    read: Pick<MissedRead, "remote" | "offset" | "bytes" | "missing" | "isRepeated">,
  ): void {
    const { offset, bytes, missing } = read;
    let overlay: Uint8Array | undefined;
    if (!coversAll(missing, offset, bytes)) {
      // The kernel keeps these pages locked until the reply, so nothing can write to them
      // meanwhile.
      overlay = new Uint8Array(bytes);
      this.#data.read(inode, offset, bytes, overlay, 0);
    }
    const words = buffers.requestWords;
    const unique = [words[fuse.IN_UNIQUE], words[fuse.IN_UNIQUE + 1]] as const;
    this.#onMiss({ unique, inode: inode.id, ...read, overlay });
  }

  #write(buffers: fuse.FuseBuffers): number {
    const inode = this.#inode(buffers);
    const offset = fuse.requestUint64(buffers, fuse.IO_OFFSET);
    const bytes = buffers.requestWords[fuse.IO_SIZE];
    this.#data.write(inode, offset, buffers.request, fuse.WRITE_DATA_BYTES, bytes);
    buffers.replyWords[4] = bytes;
    buffers.replyWords[5] = 0;
    return fuse.finishReply(buffers, fuse.OUT_HEADER_BYTES + fuse.WRITE_OUT_BYTES);
  }

  #lookup(buffers: fuse.FuseBuffers): number {
    const found = this.#inodes.child(this.#inode(buffers), name(buffers, fuse.IN_HEADER_BYTES));
    if (found === undefined) return fuse.noEntryReply(buffers);
    found.lookups++;
    return fuse.entryReply(buffers, found);
  }

  #batchForget(buffers: fuse.FuseBuffers): number {
    // fuse_batch_forget_in: count u32, padding; then nodeid u64 and nlookup u64 for each.
    const words = buffers.requestWords;
    const count = words[fuse.IN_ARGS];
    for (let i = 0, at = fuse.IN_ARGS + 2; i < count; i++, at += 4) {
      this.#inodes.forget(words[at], words[at + 2]);
    }
    return NO_REPLY;
  }

  #setAttributes(buffers: fuse.FuseBuffers): number {
    const words = buffers.requestWords;
    const inode = this.#inode(buffers);
    const valid = words[fuse.SETATTR_VALID];
    if (valid & fuse.FATTR_SIZE) {
      this.#data.truncate(inode, fuse.requestUint64(buffers, fuse.SETATTR_SIZE));
    }
    if (valid & fuse.FATTR_MODE) {
      inode.mode = (inode.mode & S_IFMT) | (words[fuse.SETATTR_MODE] & PERMISSION_BITS);
    }
    if (valid & fuse.FATTR_UID) inode.uid = words[fuse.SETATTR_UID];
    if (valid & fuse.FATTR_GID) inode.gid = words[fuse.SETATTR_GID];
    if (valid & fuse.FATTR_MTIME_NOW) {
      const now = Date.now();
      inode.mtimeSec = Math.floor(now / 1000);
      inode.mtimeNsec = (now % 1000) * 1_000_000;
    } else if (valid & fuse.FATTR_MTIME) {
      inode.mtimeSec = fuse.requestUint64(buffers, fuse.SETATTR_MTIME);
      inode.mtimeNsec = words[fuse.SETATTR_MTIMENSEC];
    }
    return fuse.attributesReply(buffers, inode);
  }

  /**
   * Handles posix_fallocate(3), with which PostgreSQL 16 and later extend a file by several blocks
   * at once.
   */
  #allocate(buffers: fuse.FuseBuffers): number {
    // A mode for holes and the like, which PostgreSQL never uses.
    if (buffers.requestWords[fuse.FALLOCATE_MODE] !== 0) return fuse.errorReply(buffers, EOPNOTSUPP);
    const inode = this.#inode(buffers);
    const end = fuse.requestUint64(buffers, fuse.FALLOCATE_OFFSET) +
      fuse.requestUint64(buffers, fuse.FALLOCATE_LENGTH);
    if (end > inode.size) {
      if (inode.grows && this.#room.refusesFiles()) return fuse.errorReply(buffers, ENOSPC);
      this.#data.truncate(inode, end);
    }
    return done(buffers);
  }

  #create(buffers: fuse.FuseBuffers): number {
    if (this.#room.refusesFiles()) return fuse.errorReply(buffers, ENOSPC);
    // fuse_create_in: flags, mode, umask, open_flags.
    const mode = this.#newMode(buffers, S_IFREG, fuse.IN_ARGS + 1, fuse.IN_ARGS + 2);
    const inode = this.#make(buffers, name(buffers, fuse.CREATE_NAME_BYTES), mode);
    return fuse.createReply(buffers, inode);
  }

  #mkdir(buffers: fuse.FuseBuffers): number {
    // fuse_mkdir_in: mode, umask.
    const mode = this.#newMode(buffers, S_IFDIR, fuse.IN_ARGS, fuse.IN_ARGS + 1);
    return fuse.entryReply(buffers, this.#make(buffers, name(buffers, fuse.MKDIR_NAME_BYTES), mode));
  }

  #symlink(buffers: fuse.FuseBuffers): number {
    const link = name(buffers, fuse.IN_HEADER_BYTES);
    const target = path(buffers, fuse.IN_HEADER_BYTES + textEncoder.encode(link).length + 1);
    return fuse.entryReply(buffers, this.#make(buffers, link, S_IFLNK | 0o777, target));
  }

  #readlink(buffers: fuse.FuseBuffers): number {
    const inode = this.#inode(buffers);
    if ((inode.mode & S_IFMT) !== S_IFLNK) return fuse.errorReply(buffers, EINVAL);
    const target = textEncoder.encode(inode.target);
    buffers.reply.set(target, fuse.OUT_HEADER_BYTES);
    return fuse.finishReply(buffers, fuse.OUT_HEADER_BYTES + target.length);
  }

  /**
   * Applies the umask to the mode of a new file. The kernel does so itself, unless it was asked to
   * leave that to us. Applying it twice changes nothing.
   */
  #newMode(buffers: fuse.FuseBuffers, type: number, mode: number, umask: number): number {
    const words = buffers.requestWords;
    return type | (words[mode] & ~words[umask] & PERMISSION_BITS);
  }

  #make(buffers: fuse.FuseBuffers, newName: string, mode: number, target?: string): Inode {
    const words = buffers.requestWords;
    const inode = this.#inodes.create(this.#inode(buffers), newName, {
      mode,
      uid: words[fuse.IN_UID],
      gid: words[fuse.IN_GID],
      grows: true,
      ...(target === undefined ? {} : { target, size: textEncoder.encode(target).length }),
    });
    inode.lookups++;
    return inode;
  }

  #rename(buffers: fuse.FuseBuffers, nameAt: number): number {
    const newDirectory = this.#inodes.get(buffers.requestWords[fuse.IN_ARGS]);
    const oldName = name(buffers, nameAt);
    const newName = name(buffers, nameAt + textEncoder.encode(oldName).length + 1);
    this.#inodes.rename(this.#inode(buffers), oldName, newDirectory, newName);
    return done(buffers);
  }

  #openDirectory(buffers: fuse.FuseBuffers): number {
    const directory = this.#inode(buffers);
    const entries: DirectoryEntry[] = [
      { name: textEncoder.encode("."), id: directory.id, type: S_IFDIR },
      { name: textEncoder.encode(".."), id: directory.id, type: S_IFDIR },
    ];
    for (const [childName, child] of directory.children ?? []) {
      entries.push({ name: textEncoder.encode(childName), id: child.id, type: child.mode & S_IFMT });
    }
    const handle = this.#nextHandle++;
    this.#directories.set(handle, entries);
    return fuse.openReply(buffers, handle, 0);
  }

  #readDirectory(buffers: fuse.FuseBuffers): number {
    const entries = this.#directories.get(buffers.requestWords[fuse.IN_ARGS]);
    if (entries === undefined) return fuse.errorReply(buffers, EINVAL);
    const limit = fuse.OUT_HEADER_BYTES + buffers.requestWords[fuse.IO_SIZE];
    let at = fuse.OUT_HEADER_BYTES;
    for (let i = fuse.requestUint64(buffers, fuse.IO_OFFSET); i < entries.length; i++) {
      const next = putDirectoryEntry(buffers, at, limit, entries[i], i + 1);
      if (next < 0) break;
      at = next;
    }
    return fuse.finishReply(buffers, at);
  }

  #statfs(buffers: fuse.FuseBuffers): number {
    // fuse_kstatfs
    const stat = statfsSync(this.#overlayDirectory);
    const words = buffers.replyWords;
    words.fill(0, 4, 4 + fuse.STATFS_OUT_BYTES / 4);
    fuse.putUint64(words, 4, stat.blocks);
    fuse.putUint64(words, 6, stat.bfree);
    fuse.putUint64(words, 8, stat.bavail);
    fuse.putUint64(words, 10, stat.files);
    fuse.putUint64(words, 12, stat.ffree);
    words[14] = stat.bsize;
    words[15] = NAME_MAX;
    words[16] = stat.bsize;
    return fuse.finishReply(buffers, fuse.OUT_HEADER_BYTES + fuse.STATFS_OUT_BYTES);
  }
}

/** A reply without content. */
function done(buffers: fuse.FuseBuffers): number {
  return fuse.finishReply(buffers, fuse.OUT_HEADER_BYTES);
}

function init(buffers: fuse.FuseBuffers): number {
  const request = fuse.readInit(buffers);
  if (!fuse.isInitAcceptable(request)) {
    throw new ZenithError(
      "not_implemented",
      `this kernel's FUSE, ${request.major}.${request.minor} with flags ${
        request.flags.toString(16)
      }, has no ` +
        "write-back cache or no large requests",
      { hint: "use eager storage" },
    );
  }
  return fuse.initReply(buffers, request);
}

/** Returns the text at `at`, which a zero byte ends. */
function path(buffers: fuse.FuseBuffers, at: number): string {
  const end = buffers.request.indexOf(0, at);
  return textDecoder.decode(buffers.request.subarray(at, end));
}

/** Like {@link path}, for a single name. @throws {FileSystemError} when no file can have it */
function name(buffers: fuse.FuseBuffers, at: number): string {
  const text = path(buffers, at);
  if (text === "" || text.includes("/") || text.includes("\ufffd")) {
    throw new FileSystemError(ENOENT, "a name that no file here has");
  }
  return text;
}

function coversAll(missing: readonly number[], offset: number, bytes: number): boolean {
  return missing.length === 2 && missing[0] * UNIT_BYTES <= offset &&
    missing[1] * UNIT_BYTES >= offset + bytes;
}

/** Writes a fuse_dirent. @returns where the next one goes; -1 when this one doesn't fit */
function putDirectoryEntry(
  buffers: fuse.FuseBuffers,
  at: number,
  limit: number,
  entry: DirectoryEntry,
  nextIndex: number,
): number {
  const length = (fuse.DIRENT_HEADER_BYTES + entry.name.length + 7) & ~7;
  if (at + length > limit) return -1;
  const words = buffers.replyWords;
  const word = at >>> 2;
  fuse.putUint64(words, word, entry.id);
  fuse.putUint64(words, word + 2, nextIndex);
  words[word + 4] = entry.name.length;
  // DT_*: the file type bits of st_mode, shifted down.
  words[word + 5] = entry.type >>> 12;
  const nameAt = at + fuse.DIRENT_HEADER_BYTES;
  buffers.reply.set(entry.name, nameAt);
  buffers.reply.fill(0, nameAt + entry.name.length, at + length);
  return at + length;
}
