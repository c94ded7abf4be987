/** Buffers that are used again and again, so that fast paths leave no garbage. */
import { assert } from "./assert.ts";
import { noteShortLived } from "./garbage.ts";

/** Zeros that other threads can be handed without a copy. */
export function sharedBytes(size: number): Uint8Array<SharedArrayBuffer> {
  return new Uint8Array(new SharedArrayBuffer(size));
}

/**
 * Reuses buffers of one size, because the garbage collector does not know how large they are. Each
 * buffer has a reference count: users retain it, and the last release returns it. A buffer that is
 * never released is not lost: the collector frees it. The buffers are in shared memory, see
 * {@link sharedBytes}.
 */
export class BufferPool {
  readonly bufferBytes: number;
  readonly #free: Uint8Array<SharedArrayBuffer>[] = [];
  readonly #references = new WeakMap<Uint8Array, number>();
  /** The fewest that were free since the last {@link trim}. */
  #fewestFree = 0;

  constructor(bufferBytes: number) {
    assert(bufferBytes > 0, "a buffer has a size");
    this.bufferBytes = bufferBytes;
  }

  /** A buffer with one reference, the caller's. It holds whatever it held before. */
  take(): Uint8Array<SharedArrayBuffer> {
    const buffer = this.#free.pop() ?? sharedBytes(this.bufferBytes);
    this.#fewestFree = Math.min(this.#fewestFree, this.#free.length);
    this.#references.set(buffer, 1);
    return buffer;
  }

  /** Adds a reference. Ignores buffers that are not the pool's. */
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

  /** Frees the buffers that nobody has needed since the last call. Call it now and then. */
  trim(): void {
    // The runtime does not count shared memory as garbage and would keep it for minutes.
    noteShortLived(this.#fewestFree * this.bufferBytes);
    this.#free.length -= this.#fewestFree;
    this.#fewestFree = this.#free.length;
  }
}
