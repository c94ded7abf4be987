/**
 * File locks that the kernel releases when their process ends, however it ends. They work across
 * PID namespaces, for example between containers that share a volume, where a process id means
 * nothing.
 */
import { closeSync, constants, openSync } from "node:fs";
import { ioError } from "../common/errors.ts";

const LIBRARY = "libc.so.6";

/** flock(2). */
const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;

/** Its owner's alone: whoever can open the file can lock it. */
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
    // Another C library.
    return undefined;
  }
}

let found: Flock | undefined | null = null;

export interface FileLock {
  release(): void;
}

/** Without file locks, everybody gets in. */
const NO_LOCK: FileLock = { release() {} };

/**
 * Locks `path`, which is made if it is not there and stays. Children don't inherit the lock.
 *
 * @returns null when another one has it locked
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
 * Whether another one has `path` locked. Makes no file, and changes nothing.
 *
 * @returns false also when that can't be told: there are no file locks here, or the file can't be
 *   opened
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
    // Several may ask at once.
    return found(fd, LOCK_SH | LOCK_NB) !== 0;
  } finally {
    closeSync(fd);
  }
}

/** Whether it is still locked after `timeoutMs`, for which this thread is blocked. */
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

/** Like {@link tryLockFile}, but blocks this thread for up to `timeoutMs`. */
export function lockFileWithin(path: string, timeoutMs: number): FileLock | null {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const lock = tryLockFile(path);
    if (lock !== null || performance.now() > deadline) return lock;
    pauseThread();
  }
}
