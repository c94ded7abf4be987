/**
 * The messages of the kernel's FUSE protocol. Requests come from /dev/fuse, one per read, and each
 * reply is one write. Source: include/uapi/linux/fuse.h, protocol 7.31 and later. Everything is
 * little-endian on the machines that we run on.
 */

export const FUSE_LOOKUP = 1;
export const FUSE_FORGET = 2;
export const FUSE_GETATTR = 3;
export const FUSE_SETATTR = 4;
export const FUSE_READLINK = 5;
export const FUSE_SYMLINK = 6;
export const FUSE_MKDIR = 9;
export const FUSE_UNLINK = 10;
export const FUSE_RMDIR = 11;
export const FUSE_RENAME = 12;
export const FUSE_OPEN = 14;
export const FUSE_READ = 15;
export const FUSE_WRITE = 16;
export const FUSE_STATFS = 17;
export const FUSE_RELEASE = 18;
export const FUSE_FSYNC = 20;
export const FUSE_INIT = 26;
export const FUSE_OPENDIR = 27;
export const FUSE_READDIR = 28;
export const FUSE_RELEASEDIR = 29;
export const FUSE_FSYNCDIR = 30;
export const FUSE_CREATE = 35;
export const FUSE_INTERRUPT = 36;
export const FUSE_DESTROY = 38;
export const FUSE_NOTIFY_REPLY = 41;
export const FUSE_BATCH_FORGET = 42;
export const FUSE_FALLOCATE = 43;
export const FUSE_RENAME2 = 45;

/** The index of a request's opcode, as a 32-bit word. */
export const IN_OPCODE = 1;
/** u64. */
export const IN_UNIQUE = 2;
/** u64, but ours fit 32 bits. */
export const IN_NODEID = 4;
export const IN_UID = 6;
export const IN_GID = 7;
export const IN_PID = 8;
/** The index of the first word after fuse_in_header. */
export const IN_ARGS = 10;
export const IN_HEADER_BYTES = 40;

/** The words of fuse_read_in and fuse_write_in, counted from the start of the request. */
export const IO_OFFSET = IN_ARGS + 2;
export const IO_SIZE = IN_ARGS + 4;
/** Where the data of a WRITE begin: after fuse_write_in. */
export const WRITE_DATA_BYTES = IN_HEADER_BYTES + 40;

/** Word of fuse_getattr_in: flags. */
export const GETATTR_FLAGS = IN_ARGS;
/**
 * Set when the kernel asks on behalf of an open file: for write(2), and for lseek(2) when it
 * doesn't know the size, but not for stat(2), fstat(2) and open(2).
 */
export const FUSE_GETATTR_FH = 1 << 0;

/** Words of fuse_setattr_in. */
export const SETATTR_VALID = IN_ARGS;
export const SETATTR_SIZE = IN_ARGS + 4;
export const SETATTR_MTIME = IN_ARGS + 10;
export const SETATTR_MTIMENSEC = IN_ARGS + 15;
export const SETATTR_MODE = IN_ARGS + 17;
export const SETATTR_UID = IN_ARGS + 19;
export const SETATTR_GID = IN_ARGS + 20;

/** Words of fuse_fallocate_in. */
export const FALLOCATE_OFFSET = IN_ARGS + 2;
export const FALLOCATE_LENGTH = IN_ARGS + 4;
export const FALLOCATE_MODE = IN_ARGS + 6;

export const FATTR_MODE = 1 << 0;
export const FATTR_UID = 1 << 1;
export const FATTR_GID = 1 << 2;
export const FATTR_SIZE = 1 << 3;
export const FATTR_MTIME = 1 << 5;
export const FATTR_MTIME_NOW = 1 << 8;

/** Where names begin, after fuse_mkdir_in, fuse_create_in, fuse_rename_in, fuse_rename2_in. */
export const MKDIR_NAME_BYTES = IN_HEADER_BYTES + 8;
export const CREATE_NAME_BYTES = IN_HEADER_BYTES + 16;
export const RENAME_NAME_BYTES = IN_HEADER_BYTES + 8;
export const RENAME2_NAME_BYTES = IN_HEADER_BYTES + 16;

/** fuse_out_header: length u32, error i32, unique u64. */
export const OUT_HEADER_BYTES = 16;
const ENTRY_OUT_BYTES = 128;
const ATTR_OUT_BYTES = 104;
const OPEN_OUT_BYTES = 16;
export const WRITE_OUT_BYTES = 8;
export const STATFS_OUT_BYTES = 80;
const INIT_OUT_BYTES = 64;
/** fuse_dirent without its name; entries are padded to 8 bytes. */
export const DIRENT_HEADER_BYTES = 24;

/**
 * Keeps what is in the page cache when a file is opened again, because nobody else changes files.
 */
export const FOPEN_KEEP_CACHE = 1 << 1;

const FUSE_KERNEL_VERSION = 7;
const FUSE_KERNEL_MINOR_VERSION = 41;
/** The first version with FUSE_MAX_PAGES and with fuse_init_out as written here. */
const FUSE_OLDEST_MINOR_VERSION = 31;

const FUSE_ASYNC_READ = 1 << 0;
const FUSE_BIG_WRITES = 1 << 5;
const FUSE_WRITEBACK_CACHE = 1 << 16;
const FUSE_PARALLEL_DIROPS = 1 << 18;
const FUSE_MAX_PAGES = 1 << 22;
const FUSE_CACHE_SYMLINKS = 1 << 23;
const FUSE_HANDLE_KILLPRIV_V2 = 1 << 28;

/**
 * The flags that we can't do without. With them, the kernel collects writes, and knows sizes and
 * times better than we do.
 */
const REQUIRED_FLAGS = FUSE_WRITEBACK_CACHE | FUSE_MAX_PAGES;
const WANTED_FLAGS = REQUIRED_FLAGS | FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_PARALLEL_DIROPS |
  FUSE_CACHE_SYMLINKS | FUSE_HANDLE_KILLPRIV_V2;

/** The most bytes that one READ asks for or one WRITE brings. */
export const IO_MAX_BYTES = 1 << 20;
const KERNEL_PAGE_BYTES = 4096;
/**
 * The size of a buffer for requests: the largest is a WRITE, or has names. The kernel refuses reads
 * into a smaller buffer.
 */
const REQUEST_BUFFER_BYTES = IO_MAX_BYTES + 2 * KERNEL_PAGE_BYTES;
const REPLY_BUFFER_BYTES = IO_MAX_BYTES + KERNEL_PAGE_BYTES;

/**
 * The most read-aheads and write-backs that the kernel has in flight, and the number at which it
 * starts to hold back.
 */
const MAX_BACKGROUND = 64;
const CONGESTION_THRESHOLD = 48;

/**
 * How long the kernel may trust names and attributes, in seconds: a day. Only the kernel changes
 * them here, so what it knows stays valid.
 */
const VALID_SECONDS = 86400;

const TWO_POW_32 = 0x1_0000_0000;

/** The buffers for a request and its reply, which are reused for every request. */
export class FuseBuffers {
  readonly request = new Uint8Array(REQUEST_BUFFER_BYTES);
  readonly requestWords = new Uint32Array(this.request.buffer);
  readonly reply = new Uint8Array(REPLY_BUFFER_BYTES);
  readonly replyWords = new Uint32Array(this.reply.buffer);
}

/** Returns the 64-bit number in the request at word `at`. Sizes and offsets are below 2^53. */
export function requestUint64(buffers: FuseBuffers, at: number): number {
  return buffers.requestWords[at] + buffers.requestWords[at + 1] * TWO_POW_32;
}

/** A fuse_notify_code, stored where a reply has its error. */
const FUSE_NOTIFY_INVAL_INODE = 2;
const FUSE_NOTIFY_RETRIEVE = 5;
/** fuse_notify_inval_inode_out: ino u64, off i64, len i64. */
const NOTIFY_INVAL_INODE_OUT_BYTES = 24;
/** fuse_notify_retrieve_out: notify_unique u64, nodeid u64, offset u64, size u32, padding u32. */
const NOTIFY_RETRIEVE_OUT_BYTES = 32;

/**
 * Returns a message that makes the kernel send a request, {@link FUSE_NOTIFY_REPLY}, to the reader
 * of the device: it asks for zero bytes of what the page cache has of a file. One thread uses it to
 * wake the one that waits for requests. Writing it fails with ENOENT when the kernel does not know
 * the inode (any more), and with EINVAL for directories.
 *
 * @param purpose comes back as the request's unique
 */
export function wakeMessage(inode: number, purpose: number): Uint8Array {
  const message = new Uint8Array(OUT_HEADER_BYTES + NOTIFY_RETRIEVE_OUT_BYTES);
  const words = new Uint32Array(message.buffer);
  words[0] = message.length;
  words[1] = FUSE_NOTIFY_RETRIEVE;
  putUint64(words, OUT_HEADER_BYTES / 4, purpose);
  putUint64(words, OUT_HEADER_BYTES / 4 + 2, inode);
  return message;
}

/**
 * Returns a message that makes the kernel forget a file's attributes, except its size and times,
 * which are the kernel's own. The next write(2) to the file asks for them first. Writing it fails
 * with ENOENT when the kernel does not know the inode.
 */
export function forgetAttributesMessage(inode: number): Uint8Array {
  const message = new Uint8Array(OUT_HEADER_BYTES + NOTIFY_INVAL_INODE_OUT_BYTES);
  const words = new Uint32Array(message.buffer);
  words[0] = message.length;
  words[1] = FUSE_NOTIFY_INVAL_INODE;
  putUint64(words, OUT_HEADER_BYTES / 4, inode);
  // A negative offset means no data.
  words.fill(0xffff_ffff, OUT_HEADER_BYTES / 4 + 2, OUT_HEADER_BYTES / 4 + 4);
  return message;
}

/** Fills in the header of a reply of `length` bytes, including the header. @returns `length` */
export function finishReply(buffers: FuseBuffers, length: number): number {
  const words = buffers.replyWords;
  words[0] = length;
  words[1] = 0;
  words[2] = buffers.requestWords[IN_UNIQUE];
  words[3] = buffers.requestWords[IN_UNIQUE + 1];
  return length;
}

/** Turns the reply into an error. @param errno positive @returns its length */
export function errorReply(buffers: FuseBuffers, errno: number): number {
  finishReply(buffers, OUT_HEADER_BYTES);
  buffers.replyWords[1] = -errno;
  return OUT_HEADER_BYTES;
}

/** A file's attributes in the kernel's form: fuse_attr. */
export interface Attributes {
  readonly id: number;
  readonly size: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Writes a fuse_entry_out: the reply to requests that make a name known. @returns the reply's
 * length
 */
export function entryReply(buffers: FuseBuffers, attributes: Attributes): number {
  putEntry(buffers, attributes);
  return finishReply(buffers, OUT_HEADER_BYTES + ENTRY_OUT_BYTES);
}

/** Writes an entry without a node: the name does not exist, and the kernel may remember that. */
export function noEntryReply(buffers: FuseBuffers): number {
  const words = buffers.replyWords;
  words.fill(0, 4, 4 + ENTRY_OUT_BYTES / 4);
  words[8] = VALID_SECONDS;
  return finishReply(buffers, OUT_HEADER_BYTES + ENTRY_OUT_BYTES);
}

/** Writes the reply to CREATE: an entry, and the open file. */
export function createReply(buffers: FuseBuffers, attributes: Attributes): number {
  putEntry(buffers, attributes);
  putOpen(buffers, 4 + ENTRY_OUT_BYTES / 4, 0, FOPEN_KEEP_CACHE);
  return finishReply(buffers, OUT_HEADER_BYTES + ENTRY_OUT_BYTES + OPEN_OUT_BYTES);
}

export function openReply(buffers: FuseBuffers, handle: number, flags: number): number {
  putOpen(buffers, 4, handle, flags);
  return finishReply(buffers, OUT_HEADER_BYTES + OPEN_OUT_BYTES);
}

export function attributesReply(buffers: FuseBuffers, attributes: Attributes): number {
  const words = buffers.replyWords;
  words[4] = VALID_SECONDS;
  words[5] = 0;
  words[6] = 0;
  words[7] = 0;
  putAttributes(words, 8, attributes);
  return finishReply(buffers, OUT_HEADER_BYTES + ATTR_OUT_BYTES);
}

function putEntry(buffers: FuseBuffers, attributes: Attributes): void {
  const words = buffers.replyWords;
  words.fill(0, 4, 14);
  words[4] = attributes.id;
  words[8] = VALID_SECONDS;
  words[10] = VALID_SECONDS;
  putAttributes(words, 14, attributes);
}

function putOpen(buffers: FuseBuffers, at: number, handle: number, flags: number): void {
  const words = buffers.replyWords;
  words[at] = handle;
  words[at + 1] = 0;
  words[at + 2] = flags;
  words[at + 3] = 0;
}

const STAT_BLOCK_BYTES = 512;

function putAttributes(words: Uint32Array, at: number, attributes: Attributes): void {
  putUint64(words, at, attributes.id);
  putUint64(words, at + 2, attributes.size);
  putUint64(words, at + 4, Math.ceil(attributes.size / STAT_BLOCK_BYTES));
  for (let i = 0; i < 3; i++) {
    putUint64(words, at + 6 + 2 * i, attributes.mtimeSec);
    words[at + 12 + i] = attributes.mtimeNsec;
  }
  words[at + 15] = attributes.mode;
  words[at + 16] = attributes.nlink;
  words[at + 17] = attributes.uid;
  words[at + 18] = attributes.gid;
  words[at + 19] = 0;
  words[at + 20] = KERNEL_PAGE_BYTES;
  words[at + 21] = 0;
}

/** Writes a u64 at word `at`. */
export function putUint64(words: Uint32Array, at: number, value: number): void {
  words[at] = value;
  words[at + 1] = Math.floor(value / TWO_POW_32);
}

/** What the kernel offers in INIT. */
export interface InitRequest {
  readonly major: number;
  readonly minor: number;
  readonly maxReadahead: number;
  readonly flags: number;
}

export function readInit(buffers: FuseBuffers): InitRequest {
  const words = buffers.requestWords;
  return {
    major: words[IN_ARGS],
    minor: words[IN_ARGS + 1],
    maxReadahead: words[IN_ARGS + 2],
    flags: words[IN_ARGS + 3],
  };
}

/** Whether this kernel's FUSE can do what we need. */
export function isInitAcceptable(init: InitRequest): boolean {
  return init.major === FUSE_KERNEL_VERSION && init.minor >= FUSE_OLDEST_MINOR_VERSION &&
    (init.flags & REQUIRED_FLAGS) === REQUIRED_FLAGS;
}

/** fuse_init_out. */
export function initReply(buffers: FuseBuffers, init: InitRequest): number {
  const words = buffers.replyWords;
  words.fill(0, 4, 4 + INIT_OUT_BYTES / 4);
  words[4] = FUSE_KERNEL_VERSION;
  words[5] = Math.min(init.minor, FUSE_KERNEL_MINOR_VERSION);
  words[6] = Math.min(init.maxReadahead, IO_MAX_BYTES);
  words[7] = init.flags & WANTED_FLAGS;
  words[8] = MAX_BACKGROUND | (CONGESTION_THRESHOLD << 16);
  words[9] = IO_MAX_BYTES;
  words[10] = 1; // time_gran, ns
  words[11] = IO_MAX_BYTES / KERNEL_PAGE_BYTES;
  return finishReply(buffers, OUT_HEADER_BYTES + INIT_OUT_BYTES);
}
