/**
 * Holds the newest versions in memory. Values stay where the caller has them (a buffer of WAL). A
 * version is a row of a {@link VersionTable}, linked to the version before it. Nothing is allocated
 * per value.
 *
 * When a block is changed again and again, one version every so many bytes becomes an image
 * ({@link LongChain}). Readers and layer files can then start at that value and need not know why.
 *
 * Blocks are found by arrays: slot → directory → leaf of 64 heads. Blocks far beyond any usual
 * relation's end are found through a Map instead, so that one stray block number does not cost
 * megabytes of directory.
 */
import { assert } from "../../common/assert.ts";
import { type BufferPool, sharedBytes } from "../../common/buffer_pool.ts";
import type { FrozenVersions } from "./frozen_versions.ts";
import type { RebuiltValue } from "../layer/key_rewriter.ts";
import { RecordStarts } from "../value/record_starts.ts";
import { type ObjectTable, SIZE_BLOCK } from "../value/object_id.ts";
import type { ValueChain } from "../value/value_chain.ts";
import { MAX_BUFFERS, ROW_BYTES, VersionTable } from "./version_table.ts";

const LEAF_BITS = 6;
const LEAF_BLOCKS = 1 << LEAF_BITS;
const LEAF_MASK = LEAF_BLOCKS - 1;
// What a leaf has for each block: its head, and the bytes of its versions since the last one that
// needs no earlier one.
const HEAD_WORDS = 2;
const CHAIN_BYTES = 1;
const LEAF_WORDS = LEAF_BLOCKS * HEAD_WORDS;
/**
 * Leaves below this are in the directory: 2^24 blocks, or 128 GiB of 8 KiB pages, with a directory
 * of at most 1 MiB.
 */
const NEAR_LEAVES = 1 << 18;

const INITIAL_LEAVES = 64;
const INITIAL_DIRECTORY = 4;
const INITIAL_SLOTS = 64;

/** Copied values share buffers of this size. Larger values get their own. */
const OWN_BUFFER_BYTES = 64 << 10;

/** How many recent buffers are searched for one that is used again. */
const RECENT_BUFFERS = 8;

const NO_BYTES = new Uint8Array(0);

/**
 * The heads of one object: the entry number + 1 of each block's newest version, 0 where there is
 * none.
 */
class BlockHeads {
  readonly slot: number;
  /** The number of the leaf (in the layer's pool) by block >>> LEAF_BITS; 0 where there is none. */
  directory = new Int32Array(INITIAL_DIRECTORY);
  far: Map<number, number> | null = null;
  sizeHead = 0;
  readonly firstLsn: number;

  constructor(slot: number, firstLsn: number) {
    this.slot = slot;
    this.firstLsn = firstLsn;
  }
}

/** A block with so many versions up to an LSN that the last of them should become an image. */
export interface LongChain {
  readonly slot: number;
  readonly block: number;
  readonly lsn: number;
}

/** The pools from which all timelines' memory layers take memory. */
export interface MemoryPools {
  /**
   * Buffers of any size that callers use. Those from this pool are retained until
   * {@link MemoryLayer.release}.
   */
  readonly values: BufferPool;
  /** Buffers of {@link VERSION_PIECE_BYTES}. */
  readonly versions: BufferPool;
}

export class MemoryLayer {
  /** Versions in this layer are above this LSN. */
  readonly startLsn: number;
  /**
   * When the first version or record arrived, in milliseconds of the store's clock; -1 while empty.
   */
  firstPutMs = -1;
  readonly starts: RecordStarts = new RecordStarts();

  #lastLsn = 0;
  /** A version's prev is the number + 1 of the block's previous version, 0 where there is none. */
  readonly #versions: VersionTable;

  readonly #pool: BufferPool | undefined;
  readonly #buffers: Uint8Array[] = [NO_BYTES];
  #lastBuffer: Uint8Array = NO_BYTES;
  #lastBufferNo = 0;
  #bufferBytes = 0;

  #own: Uint8Array | null = null;
  #ownUsed = 0;

  /** By slot: the index into #objects + 1, 0 where the object is not in this layer. */
  #objectOfSlot = new Int32Array(INITIAL_SLOTS);
  #objects: BlockHeads[] = [];
  /** The pool of leaves. Leaf 0 stays empty and stands for every absent one. */
  #leaves = new Int32Array(INITIAL_LEAVES * LEAF_WORDS);
  #leafCount = 1;

  readonly #maxChainBytes: number;
  #longChains: LongChain[] = [];
  /**
   * The versions of a block that have become images, ascending, keyed by the place of the block's
   * head.
   */
  readonly #images = new Map<number, number[]>();

  /**
   * @param maxChainBytes a block with more bytes of versions than this, rows included, is a
   *   {@link LongChain}
   */
  constructor(startLsn: number, pools?: MemoryPools, maxChainBytes = Infinity) {
    this.#maxChainBytes = maxChainBytes;
    this.#pool = pools?.values;
    this.#versions = new VersionTable(pools?.versions);
    this.startLsn = startLsn;
    this.#lastLsn = startLsn;
  }

  get entryCount(): number {
    return this.#versions.count;
  }

  get isEmpty(): boolean {
    return this.#versions.count === 0 && this.starts.count === 0;
  }

  /** The highest LSN that was put; startLsn while empty. */
  get lastPutLsn(): number {
    return this.#lastLsn;
  }

  /** How much memory the layer uses, including its callers' buffers. */
  get memoryBytes(): number {
    return this.#bufferBytes + this.#versions.memoryBytes + this.#leaves.byteLength + this.starts.memoryBytes;
  }

  /**
   * Adds a version whose `len` bytes stay at `bytes[off..]`. `lsn` must be above startLsn and not
   * below the last one.
   */
  put(
    slot: number,
    block: number,
    lsn: number,
    bytes: Uint8Array,
    off: number,
    len: number,
    tag: number,
    willInit: boolean,
  ): void {
    assert(lsn >= this.#lastLsn && lsn > this.startLsn, "versions must come in the order of their LSNs");
    this.#lastLsn = lsn;
    if (bytes !== this.#lastBuffer && len !== 0) this.#useBuffer(bytes);
    const objectNo = slot < this.#objectOfSlot.length ? this.#objectOfSlot[slot] : 0;
    const heads = objectNo !== 0 ? this.#objects[objectNo - 1] : this.#addObject(slot, lsn);
    const versions = this.#versions;
    const buffer = this.#lastBufferNo;
    if (block === SIZE_BLOCK) {
      heads.sizeHead = versions.add(lsn, heads.sizeHead, buffer, off, len, tag, willInit) + 1;
      return;
    }
    const leafNo = block >>> LEAF_BITS;
    const directory = heads.directory;
    let leaf = leafNo < directory.length ? directory[leafNo] : 0;
    if (leaf === 0) leaf = this.#leafFor(heads, leafNo);
    const leaves = this.#leaves;
    const head = leaf * LEAF_WORDS + (block & LEAF_MASK) * HEAD_WORDS;
    leaves[head] = versions.add(lsn, leaves[head], buffer, off, len, tag, willInit) + 1;
    let chainBytes = willInit ? 0 : leaves[head + CHAIN_BYTES] + ROW_BYTES + len;
    if (chainBytes > this.#maxChainBytes) {
      this.#longChains.push({ slot, block, lsn });
      chainBytes = 0;
    }
    leaves[head + CHAIN_BYTES] = chainBytes;
  }

  /** Adds a version and copies its value. */
  putValue(
    slot: number,
    block: number,
    lsn: number,
    value: Uint8Array,
    tag: number,
    willInit: boolean,
  ): void {
    const off = this.#copy(value);
    this.put(slot, block, lsn, this.#lastBuffer, off, value.length, tag, willInit);
  }

  /**
   * Returns the chains that have grown long since the last call, each once, in the order of their
   * LSNs.
   */
  takeLongChains(): LongChain[] {
    const chains = this.#longChains;
    if (chains.length > 0) this.#longChains = [];
    return chains;
  }

  /** Replaces the version that a {@link LongChain} ends with by an image that reads the same. */
  putImage({ slot, block, lsn }: LongChain, image: RebuiltValue): void {
    const version = this.#newest(slot, block, lsn);
    assert(
      version >= 0 && this.#versions.lsn(version) === lsn,
      "a long chain ends with a version of this layer",
    );
    const off = this.#copy(image.bytes.subarray(image.off, image.off + image.len));
    this.#versions.setValue(version, this.#lastBufferNo, off, image.len, image.tag, true);
    const head = this.#headAt(slot, block);
    const images = this.#images.get(head);
    if (images === undefined) this.#images.set(head, [version]);
    else images.push(version);
  }

  /**
   * Adds this layer's versions of a block at or below `lsn` to `chain`, newest first, until the
   * chain is complete or has a version at or below `floor`.
   */
  collect(slot: number, block: number, lsn: number, floor: number, chain: ValueChain): void {
    const versions = this.#versions;
    let version = this.#newest(slot, block, lsn);
    while (version >= 0) {
      const willInit = versions.willInit(version);
      const found = versions.lsn(version);
      chain.push(
        found,
        versions.tag(version),
        this.#buffers[versions.buffer(version)],
        versions.off(version),
        versions.len(version),
        willInit,
      );
      if (willInit || found <= floor) return;
      version = versions.prev(version) - 1;
    }
  }

  /**
   * Removes the versions above `lsn`, which must be few and in no image. Takes as long as a walk
   * over all blocks.
   */
  forgetAbove(lsn: number): void {
    const versions = this.#versions;
    let count = versions.count;
    while (count > 0 && versions.lsn(count - 1) > lsn) count--;
    if (count === versions.count) return;
    const older = (head: number): number => {
      while (head > count) head = versions.prev(head - 1);
      return head;
    };
    const leaves = this.#leaves;
    for (let head = LEAF_WORDS; head < this.#leafCount * LEAF_WORDS; head += HEAD_WORDS) {
      if (leaves[head] > count) leaves[head] = older(leaves[head]);
    }
    for (const heads of this.#objects) heads.sizeHead = older(heads.sizeHead);
    while (this.#objects.length > 0 && this.#objects.at(-1)!.firstLsn > lsn) {
      this.#objectOfSlot[this.#objects.pop()!.slot] = 0;
    }
    versions.truncate(count);
    this.#longChains = this.#longChains.filter((chain) => chain.lsn <= lsn);
    this.#lastLsn = count === 0 ? this.startLsn : versions.lsn(count - 1);
  }

  get objectCount(): number {
    return this.#objects.length;
  }

  /** The slot of the `index`-th object that was added to this layer. */
  objectSlot(index: number): number {
    return this.#objects[index].slot;
  }

  /** The LSN of the first version of the `index`-th object in this layer. */
  objectFirstLsn(index: number): number {
    return this.#objects[index].firstLsn;
  }

  /** The LSN of an object's first version in this layer; Infinity when it has none. */
  firstLsnOf(slot: number): number {
    const objectNo = slot < this.#objectOfSlot.length ? this.#objectOfSlot[slot] : 0;
    return objectNo === 0 ? Infinity : this.#objects[objectNo - 1].firstLsn;
  }

  /**
   * Returns the numbers of an object's blocks that have versions here, ascending. If SIZE_BLOCK has
   * versions, it is the last.
   */
  blocksOf(slot: number): number[] {
    const objectNo = slot < this.#objectOfSlot.length ? this.#objectOfSlot[slot] : 0;
    if (objectNo === 0) return [];
    const heads = this.#objects[objectNo - 1];
    const blocks: number[] = [];
    for (let leafNo = 0; leafNo < heads.directory.length; leafNo++) {
      this.#blocksOfLeaf(leafNo, heads.directory[leafNo], blocks);
    }
    if (heads.far !== null) {
      const leafNos = [...heads.far.keys()].sort((x, y) => x - y);
      for (const leafNo of leafNos) this.#blocksOfLeaf(leafNo, heads.far.get(leafNo)!, blocks);
    }
    if (heads.sizeHead !== 0) blocks.push(SIZE_BLOCK);
    return blocks;
  }

  /**
   * Freezes the layer and returns everything in it, for a layer file. No more versions may be
   * added.
   */
  freeze(objects: ObjectTable): FrozenVersions {
    const slots = this.#objects.map(({ slot }) => slot).sort((x, y) => objects.compare(x, y));
    const keys = slots.map((slot) => this.blocksOf(slot));
    const keyCount = keys.reduce((sum, blocks) => sum + blocks.length, 0);
    const blocks = new Uint32Array(keyCount);
    const heads = new Int32Array(keyCount);
    let key = 0;
    slots.forEach((slot, i) => {
      for (const block of keys[i]) {
        blocks[key] = block;
        heads[key++] = this.#head(slot, block);
      }
    });
    return {
      objects: slots.map((slot, i) => ({ object: objects.object(slot), keys: keys[i].length })),
      blocks,
      heads,
      pieces: this.#versions.pieces,
      count: this.#versions.count,
      buffers: this.#buffers,
      starts: this.starts.blocks(),
    };
  }

  /** Returns the newest version of a block at or below `lsn`; -1 when there is none. */
  #newest(slot: number, block: number, lsn: number): number {
    const versions = this.#versions;
    let version = this.#head(slot, block) - 1;
    if (version < 0 || versions.lsn(version) <= lsn) return version;
    const images = block === SIZE_BLOCK ? undefined : this.#images.get(this.#headAt(slot, block));
    if (images !== undefined) {
      // Start at the oldest image that is too new, and go back from there.
      let low = 0;
      let high = images.length;
      while (low < high) {
        const middle = (low + high) >>> 1;
        if (versions.lsn(images[middle]) > lsn) high = middle;
        else low = middle + 1;
      }
      if (low < images.length) version = images[low];
    }
    while (version >= 0 && versions.lsn(version) > lsn) version = versions.prev(version) - 1;
    return version;
  }

  #head(slot: number, block: number): number {
    if (block !== SIZE_BLOCK) return this.#leaves[this.#headAt(slot, block)];
    const objectNo = slot < this.#objectOfSlot.length ? this.#objectOfSlot[slot] : 0;
    return objectNo === 0 ? 0 : this.#objects[objectNo - 1].sizeHead;
  }

  /** Returns where the block's head is in the leaves, or a zero that stands for it. */
  #headAt(slot: number, block: number): number {
    const objectNo = slot < this.#objectOfSlot.length ? this.#objectOfSlot[slot] : 0;
    if (objectNo === 0) return 0;
    const heads = this.#objects[objectNo - 1];
    const leafNo = block >>> LEAF_BITS;
    let leaf = leafNo < heads.directory.length ? heads.directory[leafNo] : 0;
    if (leaf === 0 && heads.far !== null) leaf = heads.far.get(leafNo) ?? 0;
    return leaf * LEAF_WORDS + (block & LEAF_MASK) * HEAD_WORDS;
  }

  #blocksOfLeaf(leafNo: number, leaf: number, blocks: number[]): void {
    if (leaf === 0) return;
    const first = leafNo * LEAF_BLOCKS;
    for (let i = 0; i < LEAF_BLOCKS; i++) {
      if (this.#leaves[leaf * LEAF_WORDS + i * HEAD_WORDS] !== 0) blocks.push(first + i);
    }
  }

  /**
   * Returns the memory to its pools. Nobody may use the layer any more, here or in another thread.
   */
  release(): void {
    for (const buffer of this.#buffers) this.#pool?.release(buffer);
    this.#buffers.length = 0;
    this.#versions.release();
  }

  /** Copies a value into {@link #lastBuffer}. @returns its offset there */
  #copy(value: Uint8Array): number {
    if (value.length === 0) return 0;
    if (value.length > OWN_BUFFER_BYTES / 4) {
      const own = sharedBytes(value.length);
      own.set(value);
      this.#useBuffer(own);
      return 0;
    }
    if (this.#own === null || this.#ownUsed + value.length > OWN_BUFFER_BYTES) {
      this.#own = sharedBytes(OWN_BUFFER_BYTES);
      this.#ownUsed = 0;
    }
    const off = this.#ownUsed;
    this.#own.set(value, off);
    this.#ownUsed += value.length;
    if (this.#own !== this.#lastBuffer) this.#useBuffer(this.#own);
    return off;
  }

  /**
   * Registers a buffer. A caller that alternates between a few buffers must not have each one
   * counted at every change.
   */
  #useBuffer(bytes: Uint8Array): void {
    this.#lastBuffer = bytes;
    const oldest = Math.max(0, this.#buffers.length - RECENT_BUFFERS);
    for (let no = this.#buffers.length - 1; no >= oldest; no--) {
      if (this.#buffers[no] === bytes) {
        this.#lastBufferNo = no;
        return;
      }
    }
    assert(this.#buffers.length < MAX_BUFFERS, "a layer is frozen long before it runs out of buffer numbers");
    this.#lastBufferNo = this.#buffers.length;
    this.#buffers.push(bytes);
    this.#pool?.retain(bytes);
    this.#bufferBytes += bytes.byteLength;
  }

  #addObject(slot: number, lsn: number): BlockHeads {
    if (slot >= this.#objectOfSlot.length) {
      this.#objectOfSlot = grownInt32(this.#objectOfSlot, slot + 1);
    }
    const heads = new BlockHeads(slot, lsn);
    this.#objects.push(heads);
    this.#objectOfSlot[slot] = this.#objects.length;
    return heads;
  }

  #leafFor(heads: BlockHeads, leafNo: number): number {
    const known = leafNo < NEAR_LEAVES ? 0 : heads.far?.get(leafNo) ?? 0;
    if (known !== 0) return known;
    const leaf = this.#leafCount++;
    if (this.#leafCount * LEAF_WORDS > this.#leaves.length) {
      this.#leaves = grownInt32(this.#leaves, this.#leafCount * LEAF_WORDS);
    }
    if (leafNo >= NEAR_LEAVES) {
      heads.far ??= new Map();
      heads.far.set(leafNo, leaf);
    } else {
      if (leafNo >= heads.directory.length) heads.directory = grownInt32(heads.directory, leafNo + 1);
      heads.directory[leafNo] = leaf;
    }
    return leaf;
  }
}

/** Returns a copy with room for at least `needed` elements, and at least twice the old size. */
function grownInt32(old: Int32Array, needed: number): Int32Array<ArrayBuffer> {
  const grown = new Int32Array(Math.max(needed, 2 * old.length));
  grown.set(old);
  return grown;
}
