/** Refuses writes before the overlay's disk is full. */
import { readFileSync, statfsSync } from "node:fs";
import { pendingWrite } from "../fuse/pending_write.ts";

/**
 * How much is kept free for pages that the kernel has accepted but not yet written back. On a small
 * disk it is an eighth of the disk.
 */
const RESERVE_BYTES = 64 << 20;
const RESERVE_SHARE = 8;

/**
 * The share of that reserve that is left for blocks that exist in a file but not yet in the
 * overlay. Postgres may have to write such a block back in order to read another one.
 */
const OVERWRITE_SHARE = 0.25;

/**
 * There is room again once the free space exceeds the reserve by this factor, so that not every
 * megabyte that comes and goes is reported.
 */
const CLEARLY_MORE = 1.25;

/** The disk is checked again after the overlay has grown by this much. */
const CHECK_BYTES = 1 << 20;

/**
 * The processes of Postgres that write back what its buffers hold, and that don't extend files.
 * Some supervisors may not look at what they are writing.
 */
const WRITES_BACK = /^postgres: (?:.*: )?(?:checkpointer|background writer|startup)/;

export interface DiskRoomOptions {
  /** The overlay disk's free space, relative to what is kept free: {@link freeShare}. */
  readonly freeShare: () => number;
  /** Evicts what can be fetched again. @returns whether there was anything */
  readonly reclaim: () => boolean;
  /** Called when there is no more room, and when there is room again. */
  readonly onChange: (isLow: boolean) => void;
}

/**
 * Decides whether the overlay's disk has room for more. The kernel's write-back cache accepts a
 * write long before it gets here, where it is too late to refuse it. So new writes are refused
 * while there is still room for those that were accepted.
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

  /** Notes that the overlay has grown by this much. */
  note(bytes: number): void {
    this.#uncheckedBytes += bytes;
    if (this.#uncheckedBytes >= CHECK_BYTES) this.check();
  }

  /** Checks the disk. @returns whether it is low */
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

  /** Whether to refuse creating a file, or extending one without writing to it. */
  refusesFiles(): boolean {
    return this.#isLow && this.check();
  }

  /**
   * Whether to refuse the write that the process `pid` is making.
   *
   * @param has whether the overlay has that part of the file, so that writing it takes no more
   *   space
   */
  refusesWrite(pid: number, has: (offset: number, bytes: number) => boolean): boolean {
    if (!this.#isLow || writesBack(pid) || !this.check()) return false;
    const write = pendingWrite(pid);
    if (write === undefined || write.offset + write.bytes > write.fileSize) return true;
    return !has(write.offset, write.bytes) && this.#options.freeShare() < OVERWRITE_SHARE;
  }
}

/** Returns the free space of the disk that holds `directory`, relative to what is kept free. */
export function freeShare(directory: string): number {
  const { bavail, blocks, bsize } = statfsSync(directory);
  return bavail * bsize / Math.min(RESERVE_BYTES, blocks * bsize / RESERVE_SHARE);
}

function writesBack(pid: number): boolean {
  try {
    return WRITES_BACK.test(readFileSync(`/proc/${pid}/cmdline`, "utf8"));
  } catch {
    // The process has ended.
    return false;
  }
}
