/**
 * Decompressed blocks of layer files, of all timelines together, bounded in bytes. Also bounds how many layer files are
 * open at a time.
 *
 * Eviction is by the clock algorithm: a hit only sets a bit, where a true LRU list would be rewritten at every read.
 */
import { assert } from "../common/assert.ts";
import type { Disk, DiskFile } from "../common/disk.ts";

/** Blocks of one layer that can be told apart. */
const BLOCKS_PER_LAYER = 2 ** 21;

/** Below the usual limit of 1024 descriptors per process, with room for sockets. */
const MAX_OPEN_FILES = 256;

/** What a block was parsed into. The kinds of blocks have nothing in common but that they can be kept. */
export type CachedBlock = object;

class Entry {
  readonly key: number;
  readonly block: CachedBlock;
  readonly sizeBytes: number;
  referenced = true;

  constructor(key: number, block: CachedBlock, sizeBytes: number) {
    this.key = key;
    this.block = block;
    this.sizeBytes = sizeBytes;
  }
}

export class BlockCache {
  readonly capacityBytes: number;
  #sizeBytes = 0;
  readonly #entries = new Map<number, Entry>();
  readonly #clock: Entry[] = [];
  #hand = 0;
  #nextLayerId = 1;
  /** By path, least recently opened first. */
  readonly #files = new Map<string, DiskFile>();

  constructor(capacityBytes: number) {
    assert(capacityBytes >= 0, "a cache's capacity is not negative");
    this.capacityBytes = capacityBytes;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** A number that names one open layer to this cache, never used again. */
  newLayerId(): number {
    return this.#nextLayerId++;
  }

  get(layerId: number, blockNo: number): CachedBlock | undefined {
    const entry = this.#entries.get(layerId * BLOCKS_PER_LAYER + blockNo);
    if (entry === undefined) return undefined;
    entry.referenced = true;
    return entry.block;
  }

  /** Keeps a block. Whoever holds one after its eviction may go on using it. */
  put(layerId: number, blockNo: number, block: CachedBlock, sizeBytes: number): void {
    assert(blockNo < BLOCKS_PER_LAYER, "a layer has fewer blocks than the cache can tell apart");
    if (sizeBytes > this.capacityBytes) return;
    const key = layerId * BLOCKS_PER_LAYER + blockNo;
    assert(!this.#entries.has(key), "a block is cached once");
    while (this.#sizeBytes + sizeBytes > this.capacityBytes) this.#evictOne();
    const entry = new Entry(key, block, sizeBytes);
    this.#entries.set(key, entry);
    this.#clock.push(entry);
    this.#sizeBytes += sizeBytes;
  }

  /** The file, opened for reading unless it is open already. @throws what `disk.openSync` throws */
  file(disk: Disk, path: string): DiskFile {
    const open = this.#files.get(path);
    if (open !== undefined) return open;
    if (this.#files.size >= MAX_OPEN_FILES) {
      for (const oldest of this.#files.keys()) {
        this.closeFile(oldest);
        break;
      }
    }
    const file = disk.openSync(path, "read");
    this.#files.set(path, file);
    return file;
  }

  closeFile(path: string): void {
    this.#files.get(path)?.closeSync();
    this.#files.delete(path);
  }

  #evictOne(): void {
    for (;;) {
      if (this.#hand >= this.#clock.length) this.#hand = 0;
      const entry = this.#clock[this.#hand]!;
      if (entry.referenced) {
        entry.referenced = false;
        this.#hand++;
        continue;
      }
      const last = this.#clock.pop()!;
      if (last !== entry) this.#clock[this.#hand] = last;
      this.#entries.delete(entry.key);
      this.#sizeBytes -= entry.sizeBytes;
      return;
    }
  }
}
