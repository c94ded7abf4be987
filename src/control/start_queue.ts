/**
 * Computes start a few at a time, first come first served, whichever processes ask for it. Sixty at
 * once would share the cores until none of them is ready in time.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { ioError } from "../common/errors.ts";
import { sleep } from "../common/sleep.ts";
import { type FileLock, isFileLocked, tryLockFile } from "../process/file_lock.ts";

/** A start waits for the disk and for other processes about half of its time. */
const STARTS_PER_CORE = 2;

/** How long each one before it in the queue makes a waiting one sleep. */
const POLL_MS_PER_PLACE = 10;
const POLL_MAX_MS = 250;

/** What takes longer fetches much data, and leaves the cores to others. */
const HOLD_MAX_MS = 10_000;

/**
 * Runs `start` when it is its turn.
 *
 * @param directory of the environment, for the tickets of those that start or wait: a file each,
 *   locked while its process lives
 * @param onWait is called when it has to wait
 * @throws {ZenithError} `io`; what `start` throws
 */
export async function inStartQueue<T>(
  directory: string,
  onWait: () => void,
  start: () => Promise<T>,
  places = STARTS_PER_CORE * availableParallelism(),
): Promise<T> {
  using ticket = new Ticket(directory);
  for (let waits = false;; waits = true) {
    const before = ticket.countBefore();
    if (before < places) {
      using _timer = disposeLater(ticket, HOLD_MAX_MS);
      return await start();
    }
    if (!waits) onWait();
    await sleep(Math.min((before - places + 1) * POLL_MS_PER_PLACE, POLL_MAX_MS));
  }
}

function disposeLater(resource: Disposable, ms: number): Disposable {
  const timer = setTimeout(() => resource[Symbol.dispose](), ms);
  return { [Symbol.dispose]: () => clearTimeout(timer) };
}

/** Follows every name that begins with a digit. */
const UNLOCKED_PREFIX = "new-";

class Ticket implements Disposable {
  readonly #directory: string;
  /** Sorts by time. */
  readonly #name = `${Date.now().toString().padStart(15, "0")}-${randomBytes(6).toString("hex")}`;
  #lock: FileLock | null;

  constructor(directory: string) {
    this.#directory = directory;
    const path = join(directory, this.#name);
    const unlocked = join(directory, UNLOCKED_PREFIX + this.#name);
    try {
      mkdirSync(directory, { recursive: true });
      // Nobody sees it before it is locked: it would be taken for that of a dead process.
      this.#lock = tryLockFile(unlocked);
      renameSync(unlocked, path);
    } catch (error) {
      throw ioError("create", path, error);
    }
  }

  /** How many came earlier, and still start or wait. Removes the tickets of those that are dead. */
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
