/** Watches how full the overlay's disk is. */
import { statfs } from "node:fs/promises";
import type { Logger } from "../../../process/log.ts";
import type { Conditions } from "../../postgres/conditions.ts";
import { limitDirtyPages, type Mount } from "../fuse/mount.ts";

const INTERVAL_MS = 1_000;

/**
 * Below this much free space, the kernel is told to hold few dirty pages. Otherwise it could accept
 * more than there is room for.
 */
const NEARLY_FULL_BYTES = 2 * (1 << 30);

export interface DiskWatchOptions {
  /** A directory on the overlay's disk. */
  readonly directory: string;
  readonly mounted: Mount;
  readonly conditions: Conditions;
  readonly log: Logger;
  /** Makes the serving thread check the disk. */
  readonly look: () => void;
}

/** Watches how full the overlay's disk is. */
export class DiskWatch {
  readonly #options: DiskWatchOptions;
  readonly #timer: NodeJS.Timeout;
  #isNearlyFull = false;
  #isLow = false;

  constructor(options: DiskWatchOptions) {
    this.#options = options;
    void this.#check();
    this.#timer = setInterval(() => void this.#check(), INTERVAL_MS).unref();
  }

  /** Reports that the serving thread refuses writes, or no longer does. */
  setLow(isLow: boolean): void {
    this.#isLow = isLow;
    const { conditions, directory, log } = this.#options;
    const text = `the disk of ${directory} is full`;
    const hint = "make room: Postgres goes on by itself then";
    conditions.set("disk", isLow ? text : undefined, { hint, down: true });
    if (isLow) log.warn(`${text}: Postgres gets "No space left on device" until there is room again`);
    else log.info(`there is room on the disk of ${directory} again`);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #check(): Promise<void> {
    const { directory, mounted, look } = this.#options;
    try {
      const { bavail, bsize } = await statfs(directory);
      const isNearlyFull = bavail * bsize < NEARLY_FULL_BYTES;
      if (isNearlyFull !== this.#isNearlyFull) limitDirtyPages(mounted, isNearlyFull);
      this.#isNearlyFull = isNearlyFull;
      if (this.#isLow) look();
    } catch {
      // The overlay or its mount has been removed, so there is nothing left to watch.
    }
  }
}
