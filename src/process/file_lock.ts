/**
 * File locks that the kernel releases when the process that holds them ends, however it ends. They
 * work across PID namespaces, where a process id means nothing: for example between containers that
 * share a volume.
 */
import { closeSync, constants, openSync } from "node:fs";
import { ioError } from "../common/errors.ts";
import { libc } from "./libc.ts";

/** flock(2). */
const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;

/** Only the owner may access the file, because whoever can open it can lock it. */
const MODE = 0o600;

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
  const flock = libc()?.flock;
  if (flock === undefined) return NO_LOCK;
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, MODE);
  } catch (error) {
    throw ioError("open", path, error);
  }
  if (flock(fd, LOCK_EX | LOCK_NB) === 0) return { release: () => closeSync(fd) };
  closeSync(fd);
  return null;
}

/**
 * Whether another process holds the lock on `path`. Creates and changes nothing.
 *
 * @returns false also when it can't tell: there are no file locks here, or the file can't be opened
 */
export function isFileLocked(path: string): boolean {
  const flock = libc()?.flock;
  if (flock === undefined) return false;
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch {
    return false;
  }
  try {
    // A shared lock, because several processes may ask at once.
    return flock(fd, LOCK_SH | LOCK_NB) !== 0;
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
