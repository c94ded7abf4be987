/**
 * Reads a layer file from its first key to its last. It reads each block once and bypasses the
 * cache.
 */
import { assert } from "../../common/assert.ts";
import type { DataBlock, IndexBlock, LayerHead } from "./layer_format.ts";
import type { LayerReader } from "./layer_reader.ts";
import { compareObjects, type ObjectId } from "../value/object_id.ts";

export class LayerCursor {
  /** The current key. It has no meaning once {@link done}. */
  object: ObjectId = NO_OBJECT;
  block = 0;
  done = false;

  // The current entry, after nextEntry.
  lsn = 0;
  tag = 0;
  flags = 0;
  bytes: Uint8Array = NO_BYTES;
  off = 0;
  len = 0;

  readonly #reader: LayerReader;
  readonly #head: LayerHead;
  #row = -1;
  #key = -1;
  #indexNo = -1;
  #index: IndexBlock | null = null;
  #entry = 0;
  #endEntry = 0;
  #dataNo = -1;
  #data: DataBlock | null = null;

  /** Starts at the first key. @throws {ZenithError} `corrupt_data`, `io` */
  constructor(reader: LayerReader) {
    this.#reader = reader;
    this.#head = reader.readHead();
    this.nextKey();
  }

  /**
   * Moves to the next key, whether or not all entries of the current one were read. Stays where it
   * is when it throws.
   *
   * @throws {ZenithError} `corrupt_data`, `io`
   */
  nextKey(): void {
    const head = this.#head;
    const key = this.#key + 1;
    if (key >= head.keyCount) {
      this.done = true;
      return;
    }
    if (this.#index === null || key >= head.indexEndKey(this.#indexNo)) {
      this.#index = this.#reader.readIndexBlock(head, this.#indexNo + 1);
      this.#indexNo++;
    }
    this.#key = key;
    if (this.#row < 0 || key >= head.objectEndKey(this.#row)) {
      this.#row++;
      const kindD = head.objectKindD[this.#row];
      this.object = {
        kind: kindD & 0xff,
        a: head.objectA[this.#row],
        b: head.objectB[this.#row],
        c: head.objectC[this.#row],
        d: kindD >>> 8,
      };
    }
    const at = key - head.indexFirstKey[this.#indexNo];
    this.block = this.#index.blocks[at];
    this.#entry = this.#index.firstEntry[at];
    this.#endEntry = this.#index.firstEntry[at + 1];
    this.#reader.checkEntryRange(this.#entry, this.#endEntry, head);
  }

  /**
   * Reads the next entry of the current key, oldest first. Returns false when there is none.
   *
   * @throws {ZenithError} `corrupt_data`, `io`
   */
  nextEntry(): boolean {
    if (this.#entry >= this.#endEntry) return false;
    const entry = this.#entry++;
    const head = this.#head;
    while (this.#data === null || entry >= head.dataEndEntry(this.#dataNo)) {
      this.#data = this.#reader.readDataBlock(head, ++this.#dataNo);
    }
    const at = entry - head.dataFirstEntry[this.#dataNo];
    assert(at >= 0, "a cursor never goes back");
    const data = this.#data;
    this.lsn = data.lsn(at);
    this.tag = data.tag[at];
    this.flags = data.flags[at];
    this.bytes = data.bytes;
    this.off = data.valueOff(at);
    this.len = data.valueLen(at);
    return true;
  }

  /**
   * Returns a negative number, zero or a positive number as the current key sorts before, with or
   * after that of `other`. Neither cursor may be done.
   */
  compareKey(other: LayerCursor): number {
    return compareObjects(this.object, other.object) || this.block - other.block;
  }
}

const NO_OBJECT: ObjectId = { kind: 0, a: 0, b: 0, c: 0, d: 0 };
const NO_BYTES = new Uint8Array(0);
