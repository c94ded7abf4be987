/** Limits how much of its disk the overlay takes. */
import type { BackingFiles } from "./backing_files.ts";
import type { Inode } from "./inode.ts";
import { punchHole } from "../fuse/libc.ts";
import { UNIT_BYTES } from "./presence.ts";

/**
 * What share of the limit is evicted at a time, so that not every page that is kept displaces
 * another one.
 */
const SLACK_SHARE = 16;
/**
 * Written data that exceeded the limit fits again once it is below this share of the limit.
 * Temporary files come and go, and not each of them is worth a report.
 */
const CLEARLY_LESS = 0.75;
/** The longest hole to punch at once. */
const HOLE_MAX_UNITS = 256;

export interface OverlaySpaceOptions {
  /** The limit in bytes. Infinity for as much as the disk has. */
  readonly maxBytes: number;
  /**
   * Called when the data written only here exceeds the limit, which means that nothing can be
   * evicted any more. Called with 0 when it is clearly less again.
   */
  readonly onWrittenTooMuch: (writtenBytes: number) => void;
}

/**
 * Tracks how much of its disk the overlay takes, and evicts pages when that is too much. It evicts
 * pages that were fetched and never written, beginning with those that nobody has read again. The
 * page server has them, and they are fetched again when needed.
 */
export class OverlaySpace {
  readonly #files: BackingFiles;
  readonly #options: OverlaySpaceOptions;
  /** The files with clean pages, in the order in which the clock hand reaches them. */
  readonly #withClean = new Set<Inode>();
  /** The position of the clock hand in the first of them. */
  #hand = 0;
  #bytes = 0;
  #cleanBytes = 0;
  #canPunch = true;
  #told = false;

  constructor(files: BackingFiles, options: OverlaySpaceOptions) {
    this.#files = files;
    this.#options = options;
  }

  /** How much the overlay holds. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether there is room for a fetched page. */
  get hasRoomForClean(): boolean {
    return this.#canPunch
      ? this.#bytes - this.#cleanBytes < this.#options.maxBytes
      : this.#bytes < this.#options.maxBytes;
  }

  /** Whether this much more would fit without evicting anything. */
  hasRoomFor(bytes: number): boolean {
    return this.#bytes + bytes <= this.#options.maxBytes;
  }

  /** Accounts for changes of an inode, and evicts what is then too much. */
  update(inode: Inode): void {
    this.#note(inode);
    if (this.#bytes > this.#options.maxBytes) this.#shrink();
    this.#tellOfWritten();
  }

  /**
   * Evicts everything that can be evicted, whatever the limit, because the disk is full.
   *
   * @returns whether there was anything
   */
  giveUpAll(): boolean {
    const before = this.#cleanBytes;
    // Two rounds, because the first one spares what has been read since the last.
    for (let round = 0; round < 2 && this.#cleanBytes > 0 && this.#canPunch; round++) this.#sweep(before);
    return this.#cleanBytes < before;
  }

  /** Accounts for the removal of an inode and everything that it held. */
  forget(inode: Inode): void {
    this.#bytes -= inode.heldBytes;
    this.#cleanBytes -= inode.heldCleanBytes;
    this.#drop(inode);
  }

  #note(inode: Inode): void {
    const { presence } = inode;
    const held = (presence?.presentCount ?? 0) * UNIT_BYTES + Math.max(0, inode.size - inode.remoteEnd);
    const clean = (presence?.cleanCount ?? 0) * UNIT_BYTES;
    this.#bytes += held - inode.heldBytes;
    this.#cleanBytes += clean - inode.heldCleanBytes;
    inode.heldBytes = held;
    inode.heldCleanBytes = clean;
    if (clean > 0) this.#withClean.add(inode);
    else this.#drop(inode);
  }

  #drop(inode: Inode): void {
    if (this.#withClean.size > 0 && this.#first() === inode) this.#hand = 0;
    this.#withClean.delete(inode);
  }

  #first(): Inode | undefined {
    return this.#withClean.values().next().value;
  }

  #shrink(): void {
    const { maxBytes } = this.#options;
    if (this.#canPunch) this.#sweep(this.#bytes - maxBytes + Math.floor(maxBytes / SLACK_SHARE));
  }

  #tellOfWritten(): void {
    const { maxBytes, onWrittenTooMuch } = this.#options;
    const written = this.#bytes - this.#cleanBytes;
    if (this.#told ? written > maxBytes * CLEARLY_LESS : written <= maxBytes) return;
    this.#told = !this.#told;
    onWrittenTooMuch(this.#told ? written : 0);
  }

  /**
   * Moves the clock hand until about this many bytes have been evicted, or until it has gone round
   * twice.
   */
  #sweep(wanted: number): void {
    let left = wanted;
    for (let files = 2 * this.#withClean.size; files > 0 && left > 0 && this.#canPunch; files--) {
      const inode = this.#first();
      if (inode === undefined) return;
      const before = this.#bytes;
      const isDone = this.#sweepFile(inode, left);
      this.#note(inode);
      left -= before - this.#bytes;
      if (!isDone) continue;
      // The next file becomes the first.
      this.#hand = 0;
      if (this.#withClean.delete(inode) && inode.heldCleanBytes > 0) this.#withClean.add(inode);
    }
  }

  /** Like {@link #sweep}, within one file. @returns whether the hand has reached the file's end */
  #sweepFile(inode: Inode, wanted: number): boolean {
    const presence = inode.presence!;
    for (let left = Math.ceil(wanted / UNIT_BYTES); left > 0 && this.#canPunch;) {
      const first = presence.findUnused(this.#hand);
      if (first < 0) return true;
      const end = presence.giveUp(first, Math.min(HOLE_MAX_UNITS, left));
      this.#canPunch = punchHole(this.#files.fd(inode.id), first * UNIT_BYTES, (end - first) * UNIT_BYTES);
      this.#hand = end;
      left -= end - first;
    }
    return false;
  }
}
