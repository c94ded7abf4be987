import { assert } from "./assert.ts";
import { noteShortLived } from "./garbage.ts";

/** Zeros that other threads can be handed without a copy. */
export function sharedBytes(size: number): Uint8Array<SharedArrayBuffer> {
  return new Uint8Array(new SharedArrayBuffer(size));
}

/**
 * Buffers of one size that are used again and again, where garbage would wait for a collector that does not know how much
 * of it there is. A buffer is counted: whoever refers to it has retained it, and the last one to release it gives it
 * back. One that is not released is not lost but collected. They lie in shared memory, see {@link sharedBytes}.
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

  /** Adds a reference. Other buffers than the pool's are none of its business. */
  retain(buffer: Uint8Array): void {
    const references = this.#references.get(buffer);
    if (references !== undefined) this.#references.set(buffer, references + 1);
  }

  /** Takes a reference back; with the last one, nobody may look at the buffer any more. */
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

  /** Bytes that are held ready. */
  get freeBytes(): number {
    return this.#free.length * this.bufferBytes;
  }

  /** Lets go of the buffers that nobody has needed since the last call. To be called now and then. */
  trim(): void {
    // Nobody counts shared memory as garbage: without a word it would lie for minutes.
    noteShortLived(this.#fewestFree * this.bufferBytes);
    this.#free.length -= this.#fewestFree;
    this.#fewestFree = this.#free.length;
  }
}
