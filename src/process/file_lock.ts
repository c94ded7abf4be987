/**
 * File locks that the kernel releases when the process that holds them ends, however it ends. They
 * work across PID namespaces, where a process id means nothing: for example between containers that
 * share a volume.
 */
import { closeSync, constants, openSync } from "node:fs";
import { ioError } from "../common/errors.ts";

const LIBRARY = "libc.so.6";

/** flock(2). */
const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;

/** Only the owner may access the file, because whoever can open it can lock it. */
const MODE = 0o600;

type Flock = (fd: number, operation: number) => number;

interface BunFfi {
  dlopen(path: string, symbols: object): { symbols: { flock: Flock } };
}

interface DenoFfi {
  dlopen(path: string, symbols: object): { symbols: { flock: Flock } };
}

function findFlock(): Flock | undefined {
  try {
    const deno = (globalThis as { Deno?: unknown }).Deno as DenoFfi | undefined;
    if (deno !== undefined) {
      const flock = { parameters: ["i32", "i32"], result: "i32" };
      return deno.dlopen(LIBRARY, { flock }).symbols.flock;
    }
    const bun = process.getBuiltinModule("bun:ffi") as unknown as BunFfi | undefined;
    return bun?.dlopen(LIBRARY, { flock: { args: ["i32", "i32"], returns: "i32" } }).symbols.flock;
  } catch {
    // This machine has another C library.
    return undefined;
  }
}

let found: Flock | undefined | null = null;

export interface FileLock {
  release(): void;
}

/** Without file locks, every caller gets one. */
const NO_LOCK: FileLock = { release() {} };

/**
 * Locks `path`, and creates the file if it is missing. The file is never removed. Children don't
 * inherit the lock.
 *
 * @returns null when another process holds the lock
 * @throws {ZenithError} `io`
 */
export function tryLockFile(path: string): FileLock | null {
  found = found === null ? findFlock() : found;
  if (found === undefined) return NO_LOCK;
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, MODE);
  } catch (error) {
    throw ioError("open", path, error);
  }
  if (found(fd, LOCK_EX | LOCK_NB) === 0) return { release: () => closeSync(fd) };
  closeSync(fd);
  return null;
}

/**
 * Whether another process holds the lock on `path`. Creates and changes nothing.
 *
 * @returns false also when it can't tell: there are no file locks here, or the file can't be opened
 */
export function isFileLocked(path: string): boolean {
  found = found === null ? findFlock() : found;
  if (found === undefined) return false;
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch {
    return false;
  }
  try {
    // A shared lock, because several processes may ask at once.
    return found(fd, LOCK_SH | LOCK_NB) !== 0;
  } finally {
    closeSync(fd);
  }
}

/**
 * Whether the lock is still held after `timeoutMs`. Blocks this thread until then, or until the
 * lock is released.
 */
export function isFileLockedFor(path: string, timeoutMs: number): boolean {
  const deadline = performance.now() + timeoutMs;
  while (isFileLocked(path)) {
    if (performance.now() > deadline) return true;
    pauseThread();
  }
  return false;
}

const POLL_MS = 20;

function pauseThread(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, POLL_MS);
}

/** Like {@link tryLockFile}, but waits up to `timeoutMs`. Blocks this thread. */
export function lockFileWithin(path: string, timeoutMs: number): FileLock | null {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const lock = tryLockFile(path);
    if (lock !== null || performance.now() > deadline) return lock;
    pauseThread();
  }
}
