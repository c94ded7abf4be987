import { readFileSync, statfsSync } from "node:fs";
import { pendingWrite } from "../fuse/pending_write.ts";

/** What is kept free for pages that the kernel has accepted and not yet written back; of a small disk an eighth. */
const RESERVE_BYTES = 64 << 20;
const RESERVE_SHARE = 8;

/** Of that, the rest is for blocks that a file has and the overlay has not yet: Postgres may have to write one back to read another. */
const OVERWRITE_SHARE = 0.25;

/** Before there is room again, so that not every megabyte that comes and goes is news. */
const CLEARLY_MORE = 1.25;

/** After so much more in the overlay the disk is looked at again. */
const CHECK_BYTES = 1 << 20;

/** Processes of Postgres that write back what its buffers hold and make no file longer; not every supervisor may see what they are at. */
const WRITES_BACK = /^postgres: (?:.*: )?(?:checkpointer|background writer|startup)/;

export interface DiskRoomOptions {
  /** Free space of the overlay's disk in proportion to what is kept free: {@link freeShare}. */
  readonly freeShare: () => number;
  /** Gives up what can be had again. @returns whether that was anything */
  readonly reclaim: () => boolean;
  /** There is no room any more, or there is again. */
  readonly onChange: (isLow: boolean) => void;
}

/**
 * Whether the overlay's disk has room for more. The kernel's write-back cache accepts a write long before it gets here, where it is too late to
 * refuse it; so more is refused while there is still room for what has been accepted.
 */
export class DiskRoom {
  readonly #options: DiskRoomOptions;
  #uncheckedBytes = 0;
  #isLow = false;

  constructor(options: DiskRoomOptions) {
    this.#options = options;
  }

  get isLow(): boolean {
    return this.#isLow;
  }

  /** So much has been put into the overlay. */
  note(bytes: number): void {
    this.#uncheckedBytes += bytes;
    if (this.#uncheckedBytes >= CHECK_BYTES) this.check();
  }

  /** Looks at the disk. @returns whether it is low */
  check(): boolean {
    this.#uncheckedBytes = 0;
    const { freeShare, reclaim, onChange } = this.#options;
    let isLow = freeShare() < (this.#isLow ? CLEARLY_MORE : 1);
    if (isLow && !this.#isLow && reclaim()) isLow = freeShare() < 1;
    if (isLow !== this.#isLow) {
      this.#isLow = isLow;
      onChange(isLow);
    }
    return isLow;
  }

  /** Whether a new file is refused, or one that is made longer without being written to. */
  refusesFiles(): boolean {
    return this.#isLow && this.check();
  }

  /**
   * Whether the write that the process `pid` is at is refused.
   *
   * @param has whether the overlay has that part of the file, so that to write it takes no more room
   */
  refusesWrite(pid: number, has: (offset: number, bytes: number) => boolean): boolean {
    if (!this.#isLow || writesBack(pid) || !this.check()) return false;
    const write = pendingWrite(pid);
    if (write === undefined || write.offset + write.bytes > write.fileSize) return true;
    return !has(write.offset, write.bytes) && this.#options.freeShare() < OVERWRITE_SHARE;
  }
}

/** Free space of the disk that `directory` is on, in proportion to what is kept free. */
export function freeShare(directory: string): number {
  const { bavail, blocks, bsize } = statfsSync(directory);
  return bavail * bsize / Math.min(RESERVE_BYTES, blocks * bsize / RESERVE_SHARE);
}

function writesBack(pid: number): boolean {
  try {
    return WRITES_BACK.test(readFileSync(`/proc/${pid}/cmdline`, "utf8"));
  } catch {
    // It has ended.
    return false;
  }
}
