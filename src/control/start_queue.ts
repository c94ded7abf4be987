/**
 * Limits how many computes start at once, first come first served, across all processes. If sixty
 * started at once, they would share the cores until none was ready in time.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { ioError } from "../common/errors.ts";
import { sleep } from "../common/sleep.ts";
import { type FileLock, isFileLocked, tryLockFile } from "../process/file_lock.ts";

/** A start spends about half of its time waiting for the disk and for other processes. */
const STARTS_PER_CORE = 2;

/** How long a waiting start sleeps for each start ahead of it in the queue. */
const POLL_MS_PER_PLACE = 10;
const POLL_MAX_MS = 250;

/**
 * A start that takes longer gives up its place: it is fetching a lot of data and uses little CPU.
 */
const HOLD_MAX_MS = 10_000;

/**
 * Waits for a free place, then runs `start`.
 *
 * @param directory where each start, running or waiting, has a ticket: a file that stays locked
 *   while its process lives
 * @param onWait called once if the start has to wait
 * @param signal when it is aborted, a start that still waits is given up
 * @throws {ZenithError} `io`, and whatever `start` throws; the signal's reason
 */
export async function inStartQueue<T>(
  directory: string,
  onWait: () => void,
  start: () => Promise<T>,
  signal?: AbortSignal,
  places = STARTS_PER_CORE * availableParallelism(),
): Promise<T> {
  using ticket = new Ticket(directory);
  for (let waits = false;; waits = true) {
    signal?.throwIfAborted();
    const before = ticket.countBefore();
    if (before < places) {
      using _timer = disposeLater(ticket, HOLD_MAX_MS);
      return await start();
    }
    if (!waits) onWait();
    await sleep(Math.min((before - places + 1) * POLL_MS_PER_PLACE, POLL_MAX_MS), signal);
  }
}

function disposeLater(resource: Disposable, ms: number): Disposable {
  const timer = setTimeout(() => resource[Symbol.dispose](), ms);
  return { [Symbol.dispose]: () => clearTimeout(timer) };
}

/** Sorts after every name that begins with a digit. */
const UNLOCKED_PREFIX = "new-";

class Ticket implements Disposable {
  readonly #directory: string;
  /** Names sort by time. */
  readonly #name = `${Date.now().toString().padStart(15, "0")}-${randomBytes(6).toString("hex")}`;
  #lock: FileLock | null;

  constructor(directory: string) {
    this.#directory = directory;
    const path = join(directory, this.#name);
    const unlocked = join(directory, UNLOCKED_PREFIX + this.#name);
    try {
      mkdirSync(directory, { recursive: true });
      // The ticket becomes visible only once it is locked. Otherwise others would take it for a
      // dead process's.
      this.#lock = tryLockFile(unlocked);
      renameSync(unlocked, path);
    } catch (error) {
      throw ioError("create", path, error);
    }
  }

  /**
   * Counts the earlier tickets whose processes still start or wait. Removes those of dead
   * processes.
   */
  countBefore(): number {
    let count = 0;
    for (const name of readdirSync(this.#directory).sort()) {
      if (name >= this.#name) break;
      const path = join(this.#directory, name);
      if (isFileLocked(path)) count++;
      else rmSync(path, { force: true });
    }
    return count;
  }

  [Symbol.dispose](): void {
    if (this.#lock === null) return;
    rmSync(join(this.#directory, this.#name), { force: true });
    this.#lock.release();
    this.#lock = null;
  }
}
