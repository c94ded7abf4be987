/**
 * Calls of the C library that the runtimes' own modules lack. Bun and Deno call C functions in
 * different ways. This file has both ways, and nothing else.
 */
import { getSystemErrorName } from "node:util";

const LIBRARY = "libc.so.6";

/** How C types are written here. `buffer` is a `Uint8Array`, passed as the address of its bytes. */
type CType = "i32" | "i64" | "u64" | "buffer" | "address";

interface Signature {
  readonly args: readonly CType[];
  readonly returns: CType;
}

const SIGNATURES = {
  __errno_location: { args: [], returns: "address" },
  close: { args: ["i32"], returns: "i32" },
  fallocate: { args: ["i32", "i32", "i64", "i64"], returns: "i32" },
  open: { args: ["buffer", "i32"], returns: "i32" },
  mount: { args: ["buffer", "buffer", "buffer", "u64", "buffer"], returns: "i32" },
  read: { args: ["i32", "buffer", "u64"], returns: "i64" },
  recvmsg: { args: ["i32", "buffer", "i32"], returns: "i64" },
  socketpair: { args: ["i32", "i32", "i32", "buffer"], returns: "i32" },
  statx: { args: ["i32", "buffer", "i32", "i32", "buffer"], returns: "i32" },
  umount2: { args: ["buffer", "i32"], returns: "i32" },
  write: { args: ["i32", "buffer", "u64"], returns: "i64" },
} as const satisfies Record<string, Signature>;

type Argument = number | bigint | Uint8Array;
type Functions = Record<keyof typeof SIGNATURES, (...args: readonly Argument[]) => number | bigint>;

interface Library {
  readonly functions: Functions;
  /** Returns the error number of the last call. */
  errno(): number;
  addressOf(bytes: Uint8Array): bigint;
}

interface BunFfi {
  dlopen(
    path: string,
    symbols: Record<string, { args: string[]; returns: string }>,
  ): { symbols: Functions };
  ptr(bytes: Uint8Array): number;
  read: { i32(address: number, offset: number): number };
}

interface DenoFfi {
  dlopen(
    path: string,
    symbols: Record<string, { parameters: string[]; result: string }>,
  ): { symbols: Functions };
  UnsafePointer: { of(bytes: Uint8Array): unknown; value(pointer: unknown): bigint };
  UnsafePointerView: new (pointer: unknown) => { getInt32(offset: number): number };
}

function openWithBun(ffi: BunFfi): Library {
  const symbols: Record<string, { args: string[]; returns: string }> = {};
  const typeName = (type: CType): string => type === "buffer" || type === "address" ? "ptr" : type;
  for (const [name, { args, returns }] of Object.entries(SIGNATURES)) {
    symbols[name] = { args: args.map(typeName), returns: returns === "i64" ? "i64_fast" : typeName(returns) };
  }
  const functions = ffi.dlopen(LIBRARY, symbols).symbols;
  return {
    functions,
    errno: () => ffi.read.i32(functions.__errno_location() as number, 0),
    addressOf: (bytes) => BigInt(ffi.ptr(bytes)),
  };
}

function openWithDeno(deno: DenoFfi): Library {
  const symbols: Record<string, { parameters: string[]; result: string }> = {};
  const typeName = (type: CType): string => type === "address" ? "pointer" : type;
  for (const [name, { args, returns }] of Object.entries(SIGNATURES)) {
    symbols[name] = { parameters: args.map(typeName), result: typeName(returns) };
  }
  const functions = deno.dlopen(LIBRARY, symbols).symbols;
  return {
    functions,
    errno: () => new deno.UnsafePointerView(functions.__errno_location()).getInt32(0),
    addressOf: (bytes) => deno.UnsafePointer.value(deno.UnsafePointer.of(bytes)),
  };
}

function openLibrary(): Library | undefined {
  try {
    const deno = (globalThis as { Deno?: unknown }).Deno as DenoFfi | undefined;
    if (deno !== undefined) return openWithDeno(deno);
    const bun = process.getBuiltinModule("bun:ffi") as unknown as BunFfi | undefined;
    return bun === undefined ? undefined : openWithBun(bun);
  } catch {
    // This machine has another C library.
    return undefined;
  }
}

let opened: Library | undefined | null = null;

function library(): Library | undefined {
  if (opened === null) opened = openLibrary();
  return opened;
}

/**
 * Whether there is a C library that can be called. The functions below need it, except
 * {@link punchHole}.
 */
export function hasLibc(): boolean {
  return library() !== undefined;
}

/** Returns the last call's error, in the form of the runtimes' own errors. */
function systemError(call: string, { errno }: Library): Error {
  const number = errno();
  const code = getSystemErrorName(-number);
  return Object.assign(new Error(`${code}, ${call}`), { code, errno: -number, syscall: call });
}

/** Calls a function. @throws an error with a `code` when it returns a negative number */
function call(name: keyof typeof SIGNATURES, ...args: readonly Argument[]): number {
  const libc = library();
  if (libc === undefined) throw new Error(`there is no ${LIBRARY} to call ${name} of`);
  const result = Number(libc.functions[name](...args));
  if (result < 0) throw systemError(name, libc);
  return result;
}

function cString(text: string): Uint8Array {
  return new TextEncoder().encode(`${text}\0`);
}

/** fallocate(2): include/uapi/linux/falloc.h. */
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

/**
 * Frees the disk space of a part of a file, which then reads as zeros.
 *
 * @returns false when this system or this file system can't
 */
export function punchHole(fd: number, offset: number, bytes: number): boolean {
  const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  return library()?.functions.fallocate(fd, mode, BigInt(offset), BigInt(bytes)) === 0;
}

/** open(2) of an existing file. @throws an error with a `code`, as do all functions below */
export function openFd(path: string, flags: number): number {
  return call("open", cString(path), flags);
}

export function closeFd(fd: number): void {
  call("close", fd);
}

/** read(2). @returns how many bytes were read */
export function readFd(fd: number, into: Uint8Array): number {
  return call("read", fd, into, BigInt(into.length));
}

/** write(2) of the first `bytes` bytes. */
export function writeFd(fd: number, from: Uint8Array, bytes: number): void {
  call("write", fd, from, BigInt(bytes));
}

/** statx(2): include/uapi/linux/fcntl.h, stat.h. */
const AT_FDCWD = -100;
const AT_STATX_DONT_SYNC = 0x4000;
const STATX_SIZE = 0x200;
const STATX_BYTES = 256;
const STX_SIZE = 40;

/** Returns a file's length as the kernel has it cached, without asking the file system. */
export function cachedFileSize(path: string): number {
  const stat = new Uint8Array(new ArrayBuffer(STATX_BYTES));
  call("statx", AT_FDCWD, cString(path), AT_STATX_DONT_SYNC, STATX_SIZE, stat);
  return Number(new DataView(stat.buffer).getBigUint64(STX_SIZE, true));
}

/** mount(2): include/uapi/linux/mount.h. */
const MS_NOSUID = 2;
const MS_NODEV = 4;
const MS_NOATIME = 1024;
const MS_BIND = 4096;
/** umount2(2). */
const MNT_FORCE = 1;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

/** mount(2), without set-user-id programs, devices and access times. */
export function mountFileSystem(source: string, directory: string, type: string, options: string): void {
  const flags = BigInt(MS_NOSUID | MS_NODEV | MS_NOATIME);
  call("mount", cString(source), cString(directory), cString(type), flags, cString(options));
}

/**
 * umount2(2), even for a mount that is in use. MNT_FORCE also ends a FUSE mount's connection: a
 * mount namespace that was created meanwhile, such as a container's, has a copy of the mount, and
 * would keep the connection for as long as it lives.
 */
export function detachMount(directory: string): void {
  call("umount2", cString(directory), MNT_FORCE | MNT_DETACH);
}

/** mount(2): shows the directory `source` at `directory` too. */
export function bindMount(source: string, directory: string): void {
  const nothing = cString("");
  call("mount", cString(source), cString(directory), nothing, BigInt(MS_BIND), nothing);
}

/**
 * umount2(2) of a mount made by {@link bindMount}, even if it is in use. The file system is still
 * mounted elsewhere.
 */
export function detachBind(directory: string): void {
  call("umount2", cString(directory), MNT_DETACH | UMOUNT_NOFOLLOW);
}

/** include/linux/socket.h. */
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;

/** socketpair(2): two ends of a Unix socket, which children don't inherit. */
export function socketPair(): [number, number] {
  const fds = new Int32Array(2);
  call("socketpair", AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, new Uint8Array(fds.buffer));
  return [fds[0], fds[1]];
}

const MSG_CMSG_CLOEXEC = 0x40000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;

/**
 * The arguments of recvmsg(2), as 32-bit words on 64-bit Linux. They are all in one buffer, so that
 * they live as long as the call: struct msghdr (name, its length, iovec, how many, control data,
 * their length, flags), struct iovec (base, length), struct cmsghdr (length, level, type) with a
 * descriptor, one byte of data.
 */
const MESSAGE_BYTES = 104;
const MSG_IOV = 4;
const MSG_IOVLEN = 6;
const MSG_CONTROL = 8;
const MSG_CONTROLLEN = 10;
const IOVEC = 14;
const CMSG = 18;
const CMSG_LEVEL = CMSG + 2;
const CMSG_TYPE = CMSG + 3;
const CMSG_DATA = CMSG + 4;
const CMSG_BYTES = 24;
const DATA = 24;

/**
 * recvmsg(2): receives a file descriptor that is passed over a Unix socket. Children do not inherit
 * it.
 *
 * @returns undefined when a message without one has arrived, or the other end was closed
 */
export function receiveFd(socket: number): number | undefined {
  const words = new Int32Array(new ArrayBuffer(MESSAGE_BYTES));
  const message = new Uint8Array(words.buffer);
  const view = new DataView(words.buffer);
  const base = library()?.addressOf(message) ?? 0n;
  const pointTo = (field: number, word: number) =>
    view.setBigUint64(4 * field, base + BigInt(4 * word), true);
  pointTo(MSG_IOV, IOVEC);
  words[MSG_IOVLEN] = 1;
  pointTo(MSG_CONTROL, CMSG);
  words[MSG_CONTROLLEN] = CMSG_BYTES;
  pointTo(IOVEC, DATA);
  words[IOVEC + 2] = 1;
  call("recvmsg", socket, message, MSG_CMSG_CLOEXEC);
  const hasDescriptor = words[MSG_CONTROLLEN] > 0 && words[CMSG_LEVEL] === SOL_SOCKET &&
    words[CMSG_TYPE] === SCM_RIGHTS;
  return hasDescriptor ? words[CMSG_DATA] : undefined;
}
