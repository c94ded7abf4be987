/**
 * Layers as another thread reads them: files on this disk, or chunks that the page server's own
 * thread fetches. Reads wait for these. Nothing else happens in such a thread.
 */
import type { Disk } from "../../common/disk.ts";
import { isMissing, type LayerFile, type LayerFiles } from "../../pagestore/mod.ts";
import { CHUNK_BYTES, chunksOf } from "./chunk_cache.ts";

/** What the page server's thread is asked for. */
export interface ChunkQuestion {
  readonly path: string;
  readonly chunk: number;
  /** Whether the bytes that were returned before fail their checksum. */
  readonly isSuspect: boolean;
}

/** Chunks kept for reads of what lies next to each other: 4 MiB. */
const KEPT_CHUNKS = 16;

/** @param ask returns the chunk, or throws why it can't be had */
export function borrowedLayers(disk: Disk, ask: (question: ChunkQuestion) => Uint8Array): LayerFiles {
  return {
    open(path) {
      try {
        return disk.openSync(path, "read");
      } catch (error) {
        if (!isMissing(error)) throw error;
        return new BorrowedFile(path, ask);
      }
    },
    isOnlyHere: () => false,
    remove: (path) => disk.unlinkSync(path),
  };
}

class BorrowedFile implements LayerFile {
  readonly #path: string;
  readonly #ask: (question: ChunkQuestion) => Uint8Array;
  readonly #kept = new Map<number, Uint8Array>();

  constructor(path: string, ask: (question: ChunkQuestion) => Uint8Array) {
    this.#path = path;
    this.#ask = ask;
  }

  readSync(into: Uint8Array, off: number, len: number, position: number): number {
    let done = 0;
    while (done < len) {
      const at = position + done;
      const chunk = Math.floor(at / CHUNK_BYTES);
      const from = at - chunk * CHUNK_BYTES;
      const bytes = this.#chunk(chunk).subarray(from, from + len - done);
      if (bytes.length === 0) break;
      into.set(bytes, off + done);
      done += bytes.length;
    }
    return done;
  }

  #chunk(chunk: number): Uint8Array {
    const kept = this.#kept.get(chunk);
    if (kept !== undefined) return kept;
    const bytes = this.#ask({ path: this.#path, chunk, isSuspect: false });
    if (this.#kept.size >= KEPT_CHUNKS) {
      const [oldest] = this.#kept.keys();
      this.#kept.delete(oldest!);
    }
    this.#kept.set(chunk, bytes);
    return bytes;
  }

  /** Has the bytes fetched again. This read fails; the next one may succeed. */
  distrust(position: number, len: number): void {
    for (const chunk of chunksOf(position, len)) {
      this.#kept.delete(chunk);
      this.#ask({ path: this.#path, chunk, isSuspect: true });
    }
  }

  closeSync(): void {
    this.#kept.clear();
  }
}
