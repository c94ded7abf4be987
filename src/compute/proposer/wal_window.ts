/** The window of WAL that the proposer has in memory. */
import { assert } from "../../common/assert.ts";
import type { Lsn } from "../../common/lsn.ts";

const CHUNK_BYTES = 1 << 20;

/** How many spare chunks are kept for reuse. */
const SPARE_MAX = 8;

/**
 * The newest part of a WAL stream, in memory. WAL is appended at its end and dropped from its
 * start.
 */
export class WalWindow {
  #startLsn: Lsn;
  #endLsn: Lsn;
  /** The chunks, by `lsn / CHUNK_BYTES`. */
  readonly #chunks = new Map<number, Uint8Array>();
  readonly #spare: Uint8Array[] = [];

  constructor(startLsn: Lsn) {
    this.#startLsn = startLsn;
    this.#endLsn = startLsn;
  }

  get startLsn(): Lsn {
    return this.#startLsn;
  }

  get endLsn(): Lsn {
    return this.#endLsn;
  }

  /** Copies `bytes[off, off + len)` to the end. */
  append(bytes: Uint8Array, off: number, len: number): void {
    let done = 0;
    while (done < len) {
      const at = this.#endLsn % CHUNK_BYTES;
      const count = Math.min(len - done, CHUNK_BYTES - at);
      this.#chunkForWrite(Math.floor(this.#endLsn / CHUNK_BYTES)).set(
        bytes.subarray(off + done, off + done + count),
        at,
      );
      done += count;
      this.#endLsn = (this.#endLsn + count) as Lsn;
    }
  }

  /** Copies `len` bytes from `lsn` on to `into[off..]`. They must be in the window. */
  copy(lsn: Lsn, into: Uint8Array, off: number, len: number): void {
    assert(lsn >= this.#startLsn && lsn + len <= this.#endLsn, "the window holds what is asked of it");
    let done = 0;
    while (done < len) {
      const position = lsn + done;
      const at = position % CHUNK_BYTES;
      const count = Math.min(len - done, CHUNK_BYTES - at);
      const chunk = this.#chunks.get(Math.floor(position / CHUNK_BYTES))!;
      into.set(chunk.subarray(at, at + count), off + done);
      done += count;
    }
  }

  /** Drops the WAL below `lsn`. */
  trim(lsn: Lsn): void {
    assert(lsn >= this.#startLsn && lsn <= this.#endLsn, "the window is cut within");
    const last = Math.floor(lsn / CHUNK_BYTES);
    for (let index = Math.floor(this.#startLsn / CHUNK_BYTES); index < last; index++) {
      const chunk = this.#chunks.get(index);
      if (chunk === undefined) continue;
      this.#chunks.delete(index);
      if (this.#spare.length < SPARE_MAX) this.#spare.push(chunk);
    }
    this.#startLsn = lsn;
  }

  #chunkForWrite(index: number): Uint8Array {
    let chunk = this.#chunks.get(index);
    if (chunk === undefined) {
      chunk = this.#spare.pop() ?? new Uint8Array(CHUNK_BYTES);
      this.#chunks.set(index, chunk);
    }
    return chunk;
  }
}
