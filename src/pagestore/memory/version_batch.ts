/**
 * Reads versions ahead of where they are needed. In the order of keys, versions lie scattered over
 * the memory, and each costs some hundred nanoseconds of waiting for its row and its value. When
 * many are read at once, in loops in which no read depends on an earlier one, the waits overlap.
 */
import type { VersionTable } from "./version_table.ts";

const BATCH = 64;

/** The size of a cache line. */
const CACHE_LINE_BYTES = 64;

/**
 * A value is prefetched up to this length. Copying a longer one is a sequential read, which the
 * processor detects by itself.
 */
const FETCH_BYTES = 256;

export class VersionBatch {
  readonly lsn = new Float64Array(BATCH);
  readonly buffer = new Int32Array(BATCH);
  readonly off = new Int32Array(BATCH);
  readonly len = new Int32Array(BATCH);
  readonly tag = new Uint8Array(BATCH);
  readonly willInit = new Uint8Array(BATCH);
  /** Keeps the loads of {@link #fetchValues} from being optimized away as useless. */
  fetched = 0;

  readonly #versions: VersionTable;
  readonly #order: Int32Array;
  readonly #buffers: readonly Uint8Array[];
  #start = 0;
  #end = 0;

  /** @param order the numbers of the versions, in the order in which they are needed */
  constructor(versions: VersionTable, order: Int32Array, buffers: readonly Uint8Array[]) {
    this.#versions = versions;
    this.#order = order;
    this.#buffers = buffers;
  }

  /** Returns where the version `order[at]` is in the batch. `at` grows by one from call to call. */
  seek(at: number): number {
    if (at === this.#end) this.#load(at);
    return at - this.#start;
  }

  #load(start: number): void {
    const versions = this.#versions;
    const order = this.#order;
    const count = Math.min(BATCH, order.length - start);
    for (let i = 0; i < count; i++) {
      const version = order[start + i];
      this.lsn[i] = versions.lsn(version);
      this.buffer[i] = versions.buffer(version);
      this.off[i] = versions.off(version);
      this.len[i] = versions.len(version);
      this.tag[i] = versions.tag(version);
      this.willInit[i] = versions.willInit(version) ? 1 : 0;
    }
    this.#start = start;
    this.#end = start + count;
    this.#fetchValues(count);
  }

  #fetchValues(count: number): void {
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const bytes = this.#buffers[this.buffer[i]];
      const off = this.off[i];
      const end = off + Math.min(this.len[i], FETCH_BYTES);
      for (let at = off; at < end; at += CACHE_LINE_BYTES) sum += bytes[at];
      if (end > off) sum += bytes[end - 1];
    }
    this.fetched = sum;
  }
}
