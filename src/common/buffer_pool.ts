/** Buffers that are reused, so that fast paths leave no garbage. */
import { assert } from "./assert.ts";
import { noteShortLived } from "./garbage.ts";

/** Zeroed shared memory, which other threads can be given without a copy. */
export function sharedBytes(size: number): Uint8Array<SharedArrayBuffer> {
  return new Uint8Array(new SharedArrayBuffer(size));
}

/**
 * Reuses buffers of one size, because the garbage collector does not know how large they are. Each
 * buffer has a reference count: users retain it, and the last release returns it to the pool. A
 * buffer that is never released is not leaked: the collector frees it. The buffers are in shared
 * memory, see {@link sharedBytes}.
 */
export class BufferPool {
  readonly bufferBytes: number;
  readonly #free: Uint8Array<SharedArrayBuffer>[] = [];
  readonly #references = new WeakMap<Uint8Array, number>();
  /** The fewest free buffers since the last {@link trim}. */
  #fewestFree = 0;

  constructor(bufferBytes: number) {
    assert(bufferBytes > 0, "a buffer has a size");
    this.bufferBytes = bufferBytes;
  }

  /** Returns a buffer with one reference, the caller's. Its old contents are still in it. */
  take(): Uint8Array<SharedArrayBuffer> {
    const buffer = this.#free.pop() ?? sharedBytes(this.bufferBytes);
    this.#fewestFree = Math.min(this.#fewestFree, this.#free.length);
    this.#references.set(buffer, 1);
    return buffer;
  }

  /** Adds a reference. Ignores buffers that are not from this pool. */
  retain(buffer: Uint8Array): void {
    const references = this.#references.get(buffer);
    if (references !== undefined) this.#references.set(buffer, references + 1);
  }

  /** Drops a reference. After the last one, nobody may use the buffer. */
  release(buffer: Uint8Array): void {
    const references = this.#references.get(buffer);
    if (references === undefined) return;
    if (references > 1) {
      this.#references.set(buffer, references - 1);
      return;
    }
    this.#references.delete(buffer);
    this.#free.push(buffer as Uint8Array<SharedArrayBuffer>);
  }

  /** Bytes in free buffers. */
  get freeBytes(): number {
    return this.#free.length * this.bufferBytes;
  }

  /** Frees the buffers that went unused since the last call. Call it now and then. */
  trim(): void {
    // The runtime does not count shared memory as garbage and would keep it for minutes.
    noteShortLived(this.#fewestFree * this.bufferBytes);
    this.#free.length -= this.#fewestFree;
    this.#fewestFree = this.#free.length;
  }
}
