/**
 * Has a process wait for work that nobody has yet, so that the next start needn't wait until a new
 * process has loaded its code.
 */
import { join } from "node:path";
import { sleep } from "../common/sleep.ts";
import { startProcess } from "./daemon.ts";
import { tryLockFile } from "./file_lock.ts";
import { hasSameSurroundings, isOfSameProgram } from "./same_surroundings.ts";
import { canBeSpare } from "./spare.ts";
import { findSpares, hasFreeSlot, makeSpareDirectory } from "./spare_slots.ts";

/** A process claims its slot before anything else. One that has not by now is stuck. */
const CLAIM_TIMEOUT_MS = 10_000;

/**
 * Starts a spare ahead of need, one at a time in a directory. The process that it starts says twice
 * how far it is: `progress` when it waits, `ready` when it has loaded its code too.
 */
export class SpareAhead {
  readonly #directory: string;
  readonly #args: readonly string[];
  #filling: Promise<void> | undefined;
  /** Resolves when the process that was started last waits, or has ended. */
  #claimed: Promise<void> = Promise.resolve();
  #isEnded = false;

  /**
   * @param directory where spares wait
   * @param args the arguments after the program's name with which a process waits there
   */
  constructor(directory: string, args: readonly string[]) {
    this.#directory = directory;
    this.#args = args;
  }

  /**
   * Starts a spare, unless one waits or is on its way. Resolves when it is ready, or when there
   * will be none: a start does without.
   */
  fill(): Promise<void> {
    // It fails when the directory is gone, or the machine has no room for another process.
    this.#filling ??= this.#fill().catch(() => {}).finally(() => this.#filling = undefined);
    return this.#filling;
  }

  /**
   * Starts no more. Resolves when the spare that is on its way waits, so that others find it. To
   * kill it could be to kill what somebody has handed to it.
   */
  async end(): Promise<void> {
    this.#isEnded = true;
    const timeout = new AbortController();
    await Promise.race([this.#claimed, sleep(CLAIM_TIMEOUT_MS, timeout.signal)]);
    timeout.abort();
  }

  async #fill(): Promise<void> {
    if (this.#isEnded || !canBeSpare() || this.#isFilled() || !hasFreeSlot(this.#directory)) return;
    makeSpareDirectory(this.#directory);
    const lock = tryLockFile(aheadLock(this.#directory));
    if (lock === null) return;
    try {
      if (!this.#isFilled()) await this.#start();
    } finally {
      lock.release();
    }
  }

  /** A spare that this process could not use is none. */
  #isFilled(): boolean {
    return findSpares(this.#directory)
      .some(({ process: { pid } }) => isOfSameProgram(pid) && hasSameSurroundings(pid));
  }

  async #start(): Promise<void> {
    const starting = startProcess(this.#args, "ignore");
    const claimed = Promise.withResolvers<void>();
    const ready = Promise.withResolvers<void>();
    this.#claimed = claimed.promise;
    const gone = (): void => {
      claimed.resolve();
      ready.resolve();
    };
    starting.listen(({ type }) => {
      claimed.resolve();
      if (type !== "progress") ready.resolve();
    }, gone);
    await ready.promise;
    starting.leave();
  }
}

/** Locked while a spare is on its way. */
export function aheadLock(directory: string): string {
  return join(directory, "ahead.lock");
}
