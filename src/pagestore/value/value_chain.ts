/**
 * Holds the result of a lookup: the versions of one block that are needed to rebuild it, newest
 * first. It reuses parallel arrays, so a lookup allocates nothing.
 */

const INITIAL_CAPACITY = 32;

/** Set in the flags of a value that needs no earlier version. */
export const VALUE_WILL_INIT = 1;

export class ValueChain {
  /** How many values there are; the arrays may be longer. */
  count = 0;
  /** Whether the last value needs no earlier one. False when history ended before such a value. */
  complete = false;
  lsn: Float64Array = new Float64Array(INITIAL_CAPACITY);
  tag: Uint8Array = new Uint8Array(INITIAL_CAPACITY);
  /** Value `i` is `len[i]` bytes at `off[i]` in `bytes[i]`. Callers must not write to it. */
  bytes: Uint8Array[] = [];
  off: Int32Array = new Int32Array(INITIAL_CAPACITY);
  len: Int32Array = new Int32Array(INITIAL_CAPACITY);

  clear(): void {
    this.count = 0;
    this.complete = false;
  }

  /** Whether a reader that knows the block as of LSN `floor` needs no older value. */
  reaches(floor: number): boolean {
    return this.complete || (this.count > 0 && this.lsn[this.count - 1] <= floor);
  }

  /** Adds the next older value. `willInit` completes the chain. */
  push(lsn: number, tag: number, bytes: Uint8Array, off: number, len: number, willInit: boolean): void {
    const at = this.count;
    if (at === this.lsn.length) this.#grow();
    this.lsn[at] = lsn;
    this.tag[at] = tag;
    this.bytes[at] = bytes;
    this.off[at] = off;
    this.len[at] = len;
    this.count = at + 1;
    if (willInit) this.complete = true;
  }

  #grow(): void {
    const capacity = 2 * this.lsn.length;
    const lsn = new Float64Array(capacity);
    lsn.set(this.lsn);
    this.lsn = lsn;
    const tag = new Uint8Array(capacity);
    tag.set(this.tag);
    this.tag = tag;
    const off = new Int32Array(capacity);
    off.set(this.off);
    this.off = off;
    const len = new Int32Array(capacity);
    len.set(this.len);
    this.len = len;
  }
}
