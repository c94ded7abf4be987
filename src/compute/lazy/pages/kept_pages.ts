/** A ring in shared memory that passes fetched pages from one thread to another. */
import { BLCKSZ } from "../../../postgres/cluster/page_layout.ts";

/** 4 MiB of pages. */
const DEFAULT_SLOTS = 512;

const EMPTY = 0;
const FULL = 1;

/** Takes the pages from the ring. */
export interface KeptPageSink {
  /**
   * Receives a page of the file: `block` is counted from the file's start, and the page is at
   * `bytes[at, at + BLCKSZ)`, which is overwritten after the call.
   */
  keepPage(inode: number, block: number, bytes: Uint8Array, at: number): void;
}

/**
 * Passes fetched pages from the thread that fetches them to the thread that owns the overlay, which
 * takes them before it handles its next request. This only saves a second fetch. It isn't needed to
 * deliver the first one, so pages are left out when the ring is full.
 */
export class KeptPages {
  /** The memory from which the other thread creates its {@link KeptPages}. */
  readonly buffer: SharedArrayBuffer;
  readonly #slots: number;
  readonly #states: Int32Array;
  readonly #inodes: Float64Array;
  readonly #blocks: Int32Array;
  readonly #pages: Uint8Array;
  #next = 0;

  constructor(buffer?: SharedArrayBuffer, slots = DEFAULT_SLOTS) {
    const bytesPerSlot = 8 + 4 + 4 + BLCKSZ;
    this.buffer = buffer ?? new SharedArrayBuffer(slots * bytesPerSlot);
    this.#slots = this.buffer.byteLength / bytesPerSlot;
    const count = this.#slots;
    this.#inodes = new Float64Array(this.buffer, 0, count);
    this.#states = new Int32Array(this.buffer, count * 8, count);
    this.#blocks = new Int32Array(this.buffer, count * 12, count);
    this.#pages = new Uint8Array(this.buffer, count * 16);
  }

  /** Called by the thread that fetches. @returns false when there was no room */
  offer(inode: number, block: number, from: Uint8Array, at: number): boolean {
    const slot = this.#next;
    if (Atomics.load(this.#states, slot) !== EMPTY) return false;
    this.#inodes[slot] = inode;
    this.#blocks[slot] = block;
    this.#pages.set(from.subarray(at, at + BLCKSZ), slot * BLCKSZ);
    Atomics.store(this.#states, slot, FULL);
    this.#next = (slot + 1) % this.#slots;
    return true;
  }

  /** Called by the overlay's thread. Passes on everything that has arrived. */
  drain(sink: KeptPageSink): void {
    for (let taken = 0; taken < this.#slots; taken++) {
      const slot = this.#next;
      if (Atomics.load(this.#states, slot) !== FULL) return;
      sink.keepPage(this.#inodes[slot], this.#blocks[slot], this.#pages, slot * BLCKSZ);
      Atomics.store(this.#states, slot, EMPTY);
      this.#next = (slot + 1) % this.#slots;
    }
  }
}
