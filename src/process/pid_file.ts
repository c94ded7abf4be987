/**
 * Pid files. Each holds a process id and that process's start time, so that another process that
 * reuses the id is not mistaken for it.
 */
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { ioError, systemErrorCode, ZenithError } from "../common/errors.ts";
import { type FileLock, isFileLockedFor, lockFileWithin, tryLockFile } from "./file_lock.ts";

export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks after boot, field 22 of `/proc/<pid>/stat`. */
  readonly startTime: string;
}

export type PidFileState =
  | { readonly state: "running"; readonly process: ProcessIdentity }
  /** The file exists but its process does not: the process was killed. */
  | { readonly state: "stale" }
  /**
   * A process that we can't see holds the lock on the directory: it runs in another container that
   * shares the volume.
   */
  | { readonly state: "elsewhere" }
  | { readonly state: "absent" };

/** Checks a pid file, the process that it names, and the lock beside it. */
export function checkPidFile(path: string): PidFileState {
  const found = checkNamedProcess(path);
  // A killed process releases its lock within a moment.
  const isElsewhere = found.state === "stale" && isFileLockedFor(lockPathOf(path), LOCK_TIMEOUT_MS);
  return isElsewhere ? { state: "elsewhere" } : found;
}

/**
 * The error for an operation on a process that runs where we can't see it.
 *
 * @param what that process: `the page server`
 */
export function runsElsewhere(what: string, pidFile: string): ZenithError {
  const message = `${what} ${RUNS_ELSEWHERE}: ${lockPathOf(pidFile)} is locked`;
  return new ZenithError("conflict", message, { hint: STOP_IT_THERE });
}

export const RUNS_ELSEWHERE = "runs elsewhere (another container?)";
export const STOP_IT_THERE = "stop it there; from here its process can't be seen";

/** Checks only the process that the file names, not the lock. */
function checkNamedProcess(path: string): Exclude<PidFileState, { state: "elsewhere" }> {
  const process = readPidFile(path);
  if (process === undefined) return { state: "absent" };
  return process !== null && isRunning(process) ? { state: "running", process } : { state: "stale" };
}

/** Whether this process still runs. A zombie does not. */
export function isRunning(process: ProcessIdentity): boolean {
  return processStartTime(process.pid) === process.startTime;
}

/** Returns the process that the file names if it runs and can be seen from here. */
export function runningProcess(path: string): ProcessIdentity | undefined {
  const found = checkNamedProcess(path);
  return found.state === "running" ? found.process : undefined;
}

/** Whether `process` runs and still holds its claim on that pid file. */
export function holdsPidFile(path: string, process: ProcessIdentity): boolean {
  const holder = runningProcess(path);
  return holder?.pid === process.pid && holder.startTime === process.startTime;
}

export interface PidFileClaim {
  /** False once the file has been removed or belongs to another process. */
  isHeld(): boolean;
  release(): void;
}

/** How long the kernel may take to close the files of a process that was just killed. */
const LOCK_TIMEOUT_MS = 1_000;

/**
 * The lock that keeps others out of a pid file's directory. The file stays, unlocked, after the
 * process ends.
 */
export function lockPathOf(pidFile: string): string {
  return `${pidFile.replace(/\.pid$/, "")}.lock`;
}

/**
 * Claims `path` for this process. The claim ends with the process: the next one takes over a file
 * that a killed process left behind.
 *
 * A process id means nothing in another PID namespace, such as a container's, so the lock on the
 * file beside it decides.
 *
 * @throws {ZenithError} `conflict` when another running process has claimed it
 */
export function claimPidFile(path: string): PidFileClaim {
  const lock = lockDirectory(path);
  try {
    const claim = writePidFile(path);
    return {
      isHeld: claim.isHeld,
      release() {
        claim.release();
        lock.release();
      },
    };
  } catch (error) {
    lock.release();
    throw error;
  }
}

function lockDirectory(path: string): FileLock {
  const lockPath = lockPathOf(path);
  const lock = tryLockFile(lockPath);
  if (lock !== null) return lock;
  const found = checkNamedProcess(path);
  if (found.state === "running") throw alreadyRunning(found.process, path);
  const later = lockFileWithin(lockPath, LOCK_TIMEOUT_MS);
  if (later !== null) return later;
  throw new ZenithError(
    "conflict",
    `already running in another container or PID namespace: ${lockPath} is locked`,
    { hint: "stop it there; two of them would destroy each other's data" },
  );
}

function alreadyRunning({ pid }: ProcessIdentity, path: string): ZenithError {
  return new ZenithError("conflict", `already running with process id ${pid} (${path})`);
}

function writePidFile(path: string): PidFileClaim {
  const startTime = processStartTime(process.pid);
  if (startTime === undefined) throw new ZenithError("io", "could not read /proc/self/stat");
  const content = `${process.pid}\n${startTime}\n`;
  const temporary = `${path}.${process.pid}`;
  try {
    writeFileSync(temporary, content, { mode: 0o644 });
    while (!tryLink(temporary, path)) {
      const found = checkNamedProcess(path);
      // An older version of Zenith runs, which does not take the lock.
      if (found.state === "running") throw alreadyRunning(found.process, path);
      if (found.state === "stale") removeStale(path);
    }
  } catch (error) {
    if (error instanceof ZenithError) throw error;
    throw ioError("write", path, error);
  } finally {
    rmSync(temporary, { force: true });
  }
  const isHeld = () => readText(path) === content;
  const release = () => {
    if (isHeld()) rmSync(path, { force: true });
  };
  return { isHeld, release };
}

/**
 * Links the file into place. Unlike rename, link fails when the name is taken, so only one process
 * succeeds.
 */
function tryLink(temporary: string, path: string): boolean {
  try {
    linkSync(temporary, path);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === "EEXIST") return false;
    throw error;
  }
}

/** Removes a stale file. Puts it back if another process has just replaced it. */
function removeStale(path: string): void {
  const aside = `${path}.stale.${process.pid}`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return;
    throw error;
  }
  if (checkNamedProcess(aside).state === "running") tryLink(aside, path);
  rmSync(aside, { force: true });
}

/** Returns undefined when there is no such file, and null when it names no process. */
function readPidFile(path: string): ProcessIdentity | null | undefined {
  const text = readText(path);
  if (text === undefined) return undefined;
  const match = /^(\d+)\n(\d+)\n$/.exec(text);
  return match === null ? null : { pid: Number(match[1]), startTime: match[2] };
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw ioError("read", path, error);
  }
}

/** Returns undefined when there is no such process, or only its zombie. */
function processStartTime(pid: number): string | undefined {
  try {
    return startTimeOf(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return undefined;
  }
}

// Field numbers, as in proc_pid_stat(5).
const STATE = 3;
const NUM_THREADS = 20;
const START_TIME = 22;

/**
 * Returns the start time from the text of a `/proc/<pid>/stat`; undefined when the process has
 * ended.
 *
 * A killed process is reported as a zombie as soon as its first thread has ended. Until the other
 * threads have ended too, its files and ports are open, and one thread may be in the middle of a
 * write: so it still runs.
 */
export function startTimeOf(stat: string): string | undefined {
  // The command name, field 2, is in parentheses and may contain anything, even spaces and
  // parentheses.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const field = (number: number) => fields[number - 3];
  const state = field(STATE);
  if (state === "X") return undefined;
  return state === "Z" && Number(field(NUM_THREADS)) <= 1 ? undefined : field(START_TIME);
}
