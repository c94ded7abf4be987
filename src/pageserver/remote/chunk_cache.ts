/**
 * Keeps parts of remote layers on this disk: chunks, each in a file of its own. Nothing depends on
 * them, so they are not synced. A crash may leave any of them damaged. That is found when they are
 * read, because layers have a checksum for each block, and then they are fetched again.
 */
import { dirname, join } from "node:path";
import type { Disk, DiskFile } from "../../common/disk.ts";
import { ioError, systemErrorCode } from "../../common/errors.ts";
import { isIdFileName } from "../../common/id.ts";

/** The length of a chunk. The last one of a layer is shorter. */
export const CHUNK_BYTES = 256 << 10;

/** Returns the numbers of the chunks that have the bytes. */
export function chunksOf(position: number, len: number): number[] {
  const first = Math.floor(position / CHUNK_BYTES);
  const count = Math.ceil((position + len) / CHUNK_BYTES) - first;
  return Array.from({ length: count }, (_, i) => first + i);
}

/** How many chunks are kept open for reading. */
const OPEN_FILES = 64;
/** Once the limit is reached, so much of it is emptied at once. */
const EMPTIED_SHARE = 1 / 16;

/** A chunk on this disk. */
export interface CachedChunk {
  readonly layer: string;
  readonly chunk: number;
  readonly bytes: number;
  /** When it was read last, in milliseconds of the cache's clock. */
  usedMs: number;
}

export class ChunkCache {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #nowMs: () => number;
  /** By layer, then by number. */
  readonly #layers = new Map<string, Map<number, CachedChunk>>();
  readonly #open = new Map<string, DiskFile>();
  #bytes = 0;
  #limitBytes = Infinity;

  /** @throws {ZenithError} `io` */
  constructor(disk: Disk, directory: string, nowMs: () => number) {
    this.#disk = disk;
    this.#directory = directory;
    this.#nowMs = nowMs;
    try {
      disk.mkdirsSync(directory);
      for (const tenant of disk.readdirSync(directory).filter(isIdFileName)) this.#findIn(tenant);
    } catch (error) {
      throw ioError("read", directory, error);
    }
  }

  #findIn(tenant: string): void {
    for (const timeline of this.#disk.readdirSync(join(this.#directory, tenant)).filter(isIdFileName)) {
      for (const name of this.#disk.readdirSync(join(this.#directory, tenant, timeline))) {
        const [layer = "", chunk = ""] = name.split(".");
        if (/^\d+$/.test(chunk)) this.#note(`${tenant}/${timeline}/${layer}`, Number(chunk), CHUNK_BYTES, 0);
      }
    }
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Sets how many bytes of chunks may be here. The one that is added last always may. */
  limit(bytes: number): void {
    this.#limitBytes = bytes;
    if (this.#bytes > bytes) this.#makeRoom(0);
  }

  has(layer: string, chunk: number): boolean {
    return this.#layers.get(layer)?.has(chunk) ?? false;
  }

  /**
   * Reads `len` bytes from `at` of a chunk into `into[off..]`. @returns false when it is not here
   */
  read(layer: string, chunk: number, into: Uint8Array, off: number, len: number, at: number): boolean {
    const cached = this.#layers.get(layer)?.get(chunk);
    if (cached === undefined) return false;
    try {
      if (this.#file(this.#path(layer, chunk)).readSync(into, off, len, at) === len) {
        cached.usedMs = this.#nowMs();
        return true;
      }
    } catch (error) {
      if (systemErrorCode(error) !== "ENOENT") throw ioError("read", this.#path(layer, chunk), error);
    }
    // A crash has torn it, or somebody has removed it.
    this.drop(layer, chunk);
    return false;
  }

  /**
   * Adds a chunk, in place of others when there is no room. @throws {ZenithError} `disk_full`, `io`
   */
  add(layer: string, chunk: number, bytes: Uint8Array): void {
    this.drop(layer, chunk);
    if (this.#bytes + bytes.length > this.#limitBytes) this.#makeRoom(bytes.length);
    try {
      this.#write(layer, chunk, bytes);
    } catch (error) {
      if (systemErrorCode(error) !== "ENOSPC") throw ioError("write", this.#path(layer, chunk), error);
      // The disk is smaller than the limit, or others have filled it.
      this.#evict(this.#bytes * (1 - EMPTIED_SHARE) - bytes.length);
      try {
        this.#write(layer, chunk, bytes);
      } catch (again) {
        throw ioError("write", this.#path(layer, chunk), again);
      }
    }
    this.#note(layer, chunk, bytes.length, this.#nowMs());
  }

  #write(layer: string, chunk: number, bytes: Uint8Array): void {
    const path = this.#path(layer, chunk);
    if (!this.#layers.has(layer)) this.#disk.mkdirsSync(dirname(path));
    const file = this.#disk.openSync(path, "create");
    try {
      file.writeSync(bytes, 0, bytes.length, 0);
    } catch (error) {
      this.#disk.unlinkSync(path);
      throw error;
    } finally {
      file.closeSync();
    }
  }

  #note(layer: string, chunk: number, bytes: number, usedMs: number): void {
    let chunks = this.#layers.get(layer);
    if (chunks === undefined) this.#layers.set(layer, chunks = new Map());
    chunks.set(chunk, { layer, chunk, bytes, usedMs });
    this.#bytes += bytes;
  }

  /** Removes a chunk, if it is here. */
  drop(layer: string, chunk: number): void {
    const chunks = this.#layers.get(layer);
    const cached = chunks?.get(chunk);
    if (chunks === undefined || cached === undefined) return;
    const path = this.#path(layer, chunk);
    this.#close(path);
    try {
      this.#disk.unlinkSync(path);
    } catch (error) {
      if (systemErrorCode(error) !== "ENOENT") throw ioError("remove", path, error);
    }
    chunks.delete(chunk);
    if (chunks.size === 0) this.#layers.delete(layer);
    this.#bytes -= cached.bytes;
  }

  /** Removes all chunks of a layer. */
  dropLayer(layer: string): void {
    for (const chunk of [...this.#layers.get(layer)?.keys() ?? []]) this.drop(layer, chunk);
  }

  /** Removes all chunks of a tenant. */
  dropTenant(tenant: string): void {
    for (const layer of [...this.#layers.keys()]) if (layer.startsWith(`${tenant}/`)) this.dropLayer(layer);
  }

  /** Removes all chunks of a timeline. */
  dropTimeline(timeline: string): void {
    for (const layer of [...this.#layers.keys()]) if (layer.split("/")[1] === timeline) this.dropLayer(layer);
  }

  /** The chunks, those first that were not read for the longest time. */
  byAge(): CachedChunk[] {
    return [...this.#layers.values()].flatMap((chunks) => [...chunks.values()])
      .sort((a, b) => a.usedMs - b.usedMs);
  }

  #makeRoom(bytes: number): void {
    this.#evict(Math.max(0, this.#limitBytes * (1 - EMPTIED_SHARE) - bytes));
  }

  #evict(targetBytes: number): void {
    for (const { layer, chunk } of this.byAge()) {
      if (this.#bytes <= targetBytes) return;
      this.drop(layer, chunk);
    }
  }

  #path(layer: string, chunk: number): string {
    return join(this.#directory, `${layer}.${chunk}`);
  }

  #file(path: string): DiskFile {
    const open = this.#open.get(path);
    if (open !== undefined) return open;
    if (this.#open.size >= OPEN_FILES) {
      const [oldest] = this.#open.keys();
      this.#close(oldest!);
    }
    const file = this.#disk.openSync(path, "read");
    this.#open.set(path, file);
    return file;
  }

  #close(path: string): void {
    this.#open.get(path)?.closeSync();
    this.#open.delete(path);
  }
}
