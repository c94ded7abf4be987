/**
 * Caches decompressed blocks of the layer files of all timelines, bounded in bytes. It also bounds
 * how many layer files are open at a time.
 *
 * Eviction is first in, first out, with a second chance for entries that were used. A hit only sets
 * a bit, whereas a true LRU list would have to be rewritten at every read.
 */
import { assert } from "../../common/assert.ts";
import { LAYERS_SHARE, openFilesLimit } from "../../common/open_files.ts";
import type { LayerFile, LayerFiles } from "./layer_files.ts";

/** How many blocks of one layer can be told apart. */
const BLOCKS_PER_LAYER = 2 ** 21;

/**
 * More open files would not speed up anything. There are fewer if the process may open only few
 * files.
 */
const MAX_OPEN_FILES = Math.max(16, Math.min(256, Math.floor(openFilesLimit() * LAYERS_SHARE)));

/** What {@link BlockCache.readOnce} may add: what is read again for the pages beside one. */
const ONCE_BYTES = 4 << 20;

/** A parsed block. The kinds of blocks have nothing else in common. */
export type CachedBlock = object;

class Entry {
  readonly block: CachedBlock;
  readonly sizeBytes: number;
  referenced = false;

  constructor(block: CachedBlock, sizeBytes: number) {
    this.block = block;
    this.sizeBytes = sizeBytes;
  }
}

export class BlockCache {
  readonly capacityBytes: number;
  #sizeBytes = 0;
  /** The entries in the order in which they would be evicted. */
  readonly #entries = new Map<number, Entry>();
  #isReadingOnce = false;
  /** What {@link readOnce} has added, in that order. Some may be evicted since. */
  readonly #readOnce: { readonly key: number; readonly entry: Entry }[] = [];
  #readOnceBytes = 0;
  #nextLayerId = 1;
  /** The open files by path, least recently opened first. */
  readonly #files = new Map<string, LayerFile>();

  constructor(capacityBytes: number) {
    assert(capacityBytes >= 0, "a cache's capacity is not negative");
    this.capacityBytes = capacityBytes;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Returns a number that identifies one open layer in this cache. It is never used again. */
  newLayerId(): number {
    return this.#nextLayerId++;
  }

  get(layerId: number, blockNo: number): CachedBlock | undefined {
    const entry = this.#entries.get(layerId * BLOCKS_PER_LAYER + blockNo);
    if (entry === undefined) return undefined;
    if (!this.#isReadingOnce) entry.referenced = true;
    return entry.block;
  }

  /** Returns how many bytes of each layer are cached: what was read of it lately. */
  bytesByLayer(): Map<number, number> {
    const found = new Map<number, number>();
    for (const [key, { sizeBytes }] of this.#entries) {
      const layerId = Math.floor(key / BLOCKS_PER_LAYER);
      found.set(layerId, (found.get(layerId) ?? 0) + sizeBytes);
    }
    return found;
  }

  /** Caches a block. A holder may go on using the block after its eviction. */
  put(layerId: number, blockNo: number, block: CachedBlock, sizeBytes: number): void {
    assert(blockNo < BLOCKS_PER_LAYER, "a layer has fewer blocks than the cache can tell apart");
    if (sizeBytes > this.capacityBytes) return;
    const key = layerId * BLOCKS_PER_LAYER + blockNo;
    assert(!this.#entries.has(key), "a block is cached once");
    if (this.#sizeBytes + sizeBytes > this.capacityBytes) this.#evictDownTo(this.capacityBytes - sizeBytes);
    this.#entries.set(key, new Entry(block, sizeBytes));
    this.#sizeBytes += sizeBytes;
  }

  /**
   * Like {@link put}, for a block of data: those that {@link readOnce} adds give way to the next
   * ones that it adds.
   */
  putData(layerId: number, blockNo: number, block: CachedBlock, sizeBytes: number): void {
    if (this.#isReadingOnce) this.#forgetReadOnce(ONCE_BYTES - sizeBytes);
    this.put(layerId, blockNo, block, sizeBytes);
    if (!this.#isReadingOnce) return;
    const key = layerId * BLOCKS_PER_LAYER + blockNo;
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#readOnce.push({ key, entry });
    this.#readOnceBytes += sizeBytes;
  }

  /**
   * Calls `read`, which reads what nobody is expected to read again, as a part of much more. So it
   * takes little of the cache from others.
   */
  readOnce<T>(read: () => T): T {
    assert(!this.#isReadingOnce, "readers don't read within each other");
    this.#isReadingOnce = true;
    try {
      return read();
    } finally {
      this.#isReadingOnce = false;
    }
  }

  #forgetReadOnce(targetBytes: number): void {
    while (this.#readOnceBytes > targetBytes && this.#readOnce.length > 0) {
      const { key, entry } = this.#readOnce.shift()!;
      this.#readOnceBytes -= entry.sizeBytes;
      // Somebody else may have used it, or it is not here any more.
      if (entry.referenced || this.#entries.get(key) !== entry) continue;
      this.#entries.delete(key);
      this.#sizeBytes -= entry.sizeBytes;
    }
  }

  /**
   * Returns the file, and opens it for reading if necessary. @throws what `files.open` throws
   */
  file(files: LayerFiles, path: string): LayerFile {
    const open = this.#files.get(path);
    if (open !== undefined) return open;
    if (this.#files.size >= MAX_OPEN_FILES) {
      for (const oldest of this.#files.keys()) {
        this.closeFile(oldest);
        break;
      }
    }
    const file = files.open(path);
    this.#files.set(path, file);
    return file;
  }

  closeFile(path: string): void {
    this.#files.get(path)?.closeSync();
    this.#files.delete(path);
  }

  #evictDownTo(targetBytes: number): void {
    for (const [key, entry] of this.#entries) {
      if (this.#sizeBytes <= targetBytes) return;
      this.#entries.delete(key);
      if (entry.referenced) {
        // Move the entry to the end. This loop comes to it again if it must.
        entry.referenced = false;
        this.#entries.set(key, entry);
      } else {
        this.#sizeBytes -= entry.sizeBytes;
      }
    }
  }
}
