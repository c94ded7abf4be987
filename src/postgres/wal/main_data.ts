/** A cursor over the main data of a record. */
import type { RelFileNode } from "../cluster/rel_file_node.ts";
import type { WalFormat } from "./wal_format.ts";
import { WalError } from "./error.ts";
import type { WalRecord } from "./record.ts";

const TWO_POW_32 = 0x1_0000_0000;
/** sizeof(RelFileNode). */
const RELFILENODE_SIZE = 12;

/**
 * Reads a record's main data from front to back. Every read is checked against the record's end.
 *
 * All methods that read throw {@link WalError} when the record is too short.
 */
export class MainData {
  readonly #rec: WalRecord;
  readonly #bytes: Uint8Array;
  readonly #end: number;
  #at: number;

  constructor(rec: WalRecord) {
    this.#rec = rec;
    this.#bytes = rec.bytes;
    this.#at = rec.mainOff;
    this.#end = rec.mainOff + rec.mainLen;
  }

  /** Bytes not read yet. */
  get left(): number {
    return this.#end - this.#at;
  }

  u8(): number {
    return this.#bytes[this.#take(1)];
  }

  bool(): boolean {
    return this.u8() !== 0;
  }

  u16(): number {
    const at = this.#take(2);
    return this.#bytes[at] | (this.#bytes[at + 1] << 8);
  }

  i32(): number {
    const at = this.#take(4);
    const bytes = this.#bytes;
    return bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
  }

  u32(): number {
    return this.i32() >>> 0;
  }

  /**
   * A signed 64-bit value as a number: exact up to 2^53, which is the year 2285 for a TimestampTz.
   */
  i64(): number {
    const low = this.u32();
    return this.i32() * TWO_POW_32 + low;
  }

  /** An unsigned 64-bit value, exact. */
  u64(): bigint {
    const low = this.u32();
    return (BigInt(this.u32()) << 32n) | BigInt(low);
  }

  /** The number of a page of an SLRU. */
  slruPage(pg: WalFormat): number {
    return pg.slruPageNumberBytes === 8 ? this.i64() : this.u32();
  }

  /** Skips padding, or what is of no interest. */
  skip(length: number): void {
    this.#take(length);
  }

  relFileNode(): RelFileNode {
    const spcNode = this.u32();
    const dbNode = this.u32();
    const relNode = this.u32();
    return { spcNode, dbNode, relNode };
  }

  /** A count of entries of `entrySize` bytes each that follow here or later. */
  count(entrySize: number): number {
    const count = this.i32();
    if (count < 0 || count * entrySize > this.left) {
      throw new WalError(
        this.#rec.lsn,
        `a count of ${count} entries of ${entrySize} bytes where ${this.left} are left`,
      );
    }
    return count;
  }

  u32s(count: number): number[] {
    const values: number[] = [];
    for (let i = 0; i < count; i++) values.push(this.u32());
    return values;
  }

  relFileNodes(count: number): RelFileNode[] {
    if (count * RELFILENODE_SIZE > this.left) this.#take(count * RELFILENODE_SIZE);
    const rels: RelFileNode[] = [];
    for (let i = 0; i < count; i++) rels.push(this.relFileNode());
    return rels;
  }

  /** The next `length` bytes as a view into the record. */
  view(length: number): Uint8Array {
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }

  /** A string that a zero byte ends, within the next `maxLength` bytes. */
  cString(maxLength: number): string {
    const limit = Math.min(this.#end, this.#at + maxLength);
    const zero = this.#bytes.indexOf(0, this.#at);
    if (zero < 0 || zero >= limit) {
      throw new WalError(this.#rec.lsn, `a string without an end within ${limit - this.#at} bytes`);
    }
    const text = new TextDecoder().decode(this.#bytes.subarray(this.#at, zero));
    this.#at = zero + 1;
    return text;
  }

  #take(length: number): number {
    const at = this.#at;
    if (length < 0 || length > this.#end - at) {
      throw new WalError(
        this.#rec.lsn,
        `main data of ${this.#rec.mainLen} bytes is too short for rmgr ${this.#rec.xl_rmid} ` +
          `info 0x${this.#rec.xl_info.toString(16)}`,
      );
    }
    this.#at = at + length;
    return at;
  }
}
