/**
 * Decides which of one key's versions go into a merged layer. It does two things, neither of which
 * changes what any retained LSN reads:
 *
 * - It drops a version when no retained LSN lies between it and a version that makes it
 *   superfluous.
 * - It ends a chain that has grown too long: an image of the block replaces the newest version so
 *   far.
 */
import { noteShortLived } from "../../common/garbage.ts";
import type { LayerWriter } from "./layer_writer.ts";
import type { ObjectId } from "../value/object_id.ts";
import type { Retention } from "../value/retention.ts";
import { VALUE_WILL_INIT, ValueChain } from "../value/value_chain.ts";

export interface RebuiltValue {
  readonly tag: number;
  readonly bytes: Uint8Array;
  readonly off: number;
  readonly len: number;
}

/**
 * Makes one value from a chain. The value needs no earlier one and reads the same. Returns null
 * when that is impossible or does not pay; the chain then stays as it is. The chain may be
 * incomplete. The result may lie in a buffer that the next call overwrites.
 */
export type Reconstruct = (
  object: ObjectId,
  block: number,
  lsn: number,
  chain: ValueChain,
) => RebuiltValue | null;

export interface ChainLimits {
  /** An image is made when it saves reading more than this many versions … */
  readonly maxVersions: number;
  /** … or more than this many bytes. */
  readonly maxBytes: number;
}

export interface RewriteCounts {
  versionsDropped: number;
  imagesMade: number;
}

export class KeyRewriter {
  readonly counts: RewriteCounts = { versionsDropped: 0, imagesMade: 0 };
  readonly #limits: ChainLimits;
  readonly #retention: Retention;
  readonly #reconstruct: Reconstruct | null;
  /** Fills a chain with the key's versions from before those that are rewritten. */
  readonly #collectBefore: (object: ObjectId, block: number, chain: ValueChain) => void;

  #object: ObjectId | null = null;
  #block = 0;
  #keyStarted = false;

  /**
   * The number of versions since the last one that needs no earlier one, that one included. The
   * arrays list them, oldest first.
   */
  #count = 0;
  #lsn: number[] = [];
  #tag: number[] = [];
  #flags: number[] = [];
  #bytes: Uint8Array[] = [];
  #off: number[] = [];
  #len: number[] = [];
  #chainBytes = 0;
  /** How many of them have already been written. */
  #written = 0;
  /** Set when the chain can't be made an image, so that this is not tried at every version. */
  #givenUp = false;

  readonly #chain = new ValueChain();

  constructor(
    limits: ChainLimits,
    retention: Retention,
    reconstruct: Reconstruct | null,
    collectBefore: (object: ObjectId, block: number, chain: ValueChain) => void,
  ) {
    this.#limits = limits;
    this.#retention = retention;
    this.#reconstruct = reconstruct;
    this.#collectBefore = collectBefore;
  }

  startKey(object: ObjectId, block: number): void {
    this.#object = object;
    this.#block = block;
    this.#keyStarted = false;
    this.#clearChain();
  }

  /** Adds the next newer version of the key. */
  add(
    writer: LayerWriter,
    lsn: number,
    tag: number,
    flags: number,
    bytes: Uint8Array,
    off: number,
    len: number,
  ): void {
    // Somebody may read between the versions so far and this one, so they stay.
    if (this.#count > 0 && this.#retention.next(this.#lsn[this.#count - 1]) < lsn) {
      this.#writeOut(writer);
    }
    if ((flags & VALUE_WILL_INIT) !== 0) {
      this.counts.versionsDropped += this.#count - this.#written;
      this.#clearChain();
    }
    this.#push(lsn, tag, flags, bytes, off, len);
    if (this.#count > this.#limits.maxVersions || this.#chainBytes > this.#limits.maxBytes) this.#makeImage();
  }

  /** Ends the key: there are no more versions of it. */
  endKey(writer: LayerWriter): void {
    this.#writeOut(writer);
    this.#clearChain();
  }

  #push(lsn: number, tag: number, flags: number, bytes: Uint8Array, off: number, len: number): void {
    const at = this.#count++;
    this.#lsn[at] = lsn;
    this.#tag[at] = tag;
    this.#flags[at] = flags;
    this.#bytes[at] = bytes;
    this.#off[at] = off;
    this.#len[at] = len;
    // An image can't shorten a chain with a single version.
    this.#chainBytes = at === 0 ? 0 : this.#chainBytes + len;
  }

  #clearChain(): void {
    this.#count = 0;
    this.#written = 0;
    this.#chainBytes = 0;
    this.#givenUp = false;
  }

  #writeOut(writer: LayerWriter): void {
    for (let i = this.#written; i < this.#count; i++) {
      if (!this.#keyStarted) {
        writer.startKey(this.#object!, this.#block);
        this.#keyStarted = true;
      }
      writer.add(
        this.#lsn[i],
        this.#bytes[i],
        this.#off[i],
        this.#len[i],
        this.#tag[i],
        this.#flags[i],
      );
    }
    this.#written = this.#count;
    // A chain that will not become an image does not need what has been written.
    if (this.#givenUp) this.#count = this.#written = 0;
  }

  /**
   * Replaces the newest version by an image. Earlier versions that have not been written become
   * superfluous.
   */
  #makeImage(): void {
    if (this.#reconstruct === null || this.#givenUp) return;
    const object = this.#object!;
    const chain = this.#chain;
    const last = this.#count - 1;
    chain.clear();
    for (let i = last; i >= 0; i--) {
      const willInit = (this.#flags[i] & VALUE_WILL_INIT) !== 0;
      chain.push(this.#lsn[i], this.#tag[i], this.#bytes[i], this.#off[i], this.#len[i], willInit);
    }
    if (!chain.complete) this.#collectBefore(object, this.#block, chain);
    const lsn = this.#lsn[last];
    const image = this.#reconstruct(object, this.#block, lsn, chain);
    if (image === null) {
      this.#givenUp = true;
      return;
    }
    this.counts.imagesMade++;
    this.counts.versionsDropped += last - this.#written;
    this.#clearChain();
    // Copy the image: it waits here until the next version is known.
    const bytes = image.bytes.slice(image.off, image.off + image.len);
    noteShortLived(image.len);
    this.#push(lsn, image.tag, VALUE_WILL_INIT, bytes, 0, image.len);
  }
}
