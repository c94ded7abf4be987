/** Refuses writes before the overlay's disk is full. */
import { readFileSync, statfsSync } from "node:fs";
import { pendingWrite } from "../fuse/pending_write.ts";

/**
 * How much is kept free for pages that the kernel has accepted and not yet written back; at most an
 * eighth of a small disk.
 */
const RESERVE_BYTES = 64 << 20;
const RESERVE_SHARE = 8;

/**
 * The share of that which is left for blocks that a file has and the overlay does not have yet:
 * Postgres may have to write one back in order to read another.
 */
const OVERWRITE_SHARE = 0.25;

/**
 * How much more must be free before there is room again, so that not every megabyte that comes and
 * goes is reported.
 */
const CLEARLY_MORE = 1.25;

/** The disk is checked again after the overlay has grown by this much. */
const CHECK_BYTES = 1 << 20;

/**
 * Processes of Postgres that write back what its buffers hold and extend no file. Not every
 * supervisor may see what they are doing.
 */
const WRITES_BACK = /^postgres: (?:.*: )?(?:checkpointer|background writer|startup)/;

export interface DiskRoomOptions {
  /** Free space of the overlay's disk relative to what is kept free: {@link freeShare}. */
  readonly freeShare: () => number;
  /** Gives up what can be fetched again. @returns whether there was anything */
  readonly reclaim: () => boolean;
  /** There is no more room, or there is room again. */
  readonly onChange: (isLow: boolean) => void;
}

/**
 * Whether the overlay's disk has room for more. The kernel's write-back cache accepts a write long
 * before it gets here, where it is too late to refuse it. So further writes are refused while there
 * is still room for what has been accepted.
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

  /** This much was added to the overlay. */
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

  /** Whether to refuse a new file, or extending one without writing to it. */
  refusesFiles(): boolean {
    return this.#isLow && this.check();
  }

  /**
   * Whether to refuse the write that the process `pid` is making.
   *
   * @param has whether the overlay has that part of the file, so that writing it takes no more room
   */
  refusesWrite(pid: number, has: (offset: number, bytes: number) => boolean): boolean {
    if (!this.#isLow || writesBack(pid) || !this.check()) return false;
    const write = pendingWrite(pid);
    if (write === undefined || write.offset + write.bytes > write.fileSize) return true;
    return !has(write.offset, write.bytes) && this.#options.freeShare() < OVERWRITE_SHARE;
  }
}

/** Free space of the disk that holds `directory`, relative to what is kept free. */
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
