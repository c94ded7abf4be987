/**
 * Defines the layer file's format: its constants and the parsed forms of its blocks.
 * docs/formats/delta_layer.md is the specification.
 */
import { assert } from "../../common/assert.ts";
import { crc32c } from "../../common/crc32c.ts";
import { errorMessage, ZenithError } from "../../common/errors.ts";
import { noteShortLived } from "../../common/garbage.ts";
import { decompressFrame } from "./decompress.ts";

export const LAYER_VERSION = 1;

/** "ZNLAYER" and a zero. */
export const LAYER_MAGIC = Uint8Array.of(0x5a, 0x4e, 0x4c, 0x41, 0x59, 0x45, 0x52, 0x00);

export const LAYER_DELTA = 1;

/**
 * A layer's kind, as it appears in files and metadata: one of the above in the low byte, and the
 * format of the values above it.
 */
export function layerKind(shape: number, valueFormat: number): number {
  assert(valueFormat >= 0 && valueFormat < 1 << 16, "a value format is a small number");
  return shape | (valueFormat << 8);
}

/**
 * Returns the value format that the creator of the layer named; 0 in files from before there were
 * several.
 */
export function layerValueFormat(kind: number): number {
  return kind >>> 8;
}

export const HEADER_BYTES = 16;
export const HEADER_VERSION = 8;
export const HEADER_KIND = 12;

// Footer fields. Offsets are in bytes from the start of the footer.
export const FOOTER_BYTES = 64;
export const FOOTER_HEAD_OFFSET = 0;
export const FOOTER_HEAD_STORED = 8;
export const FOOTER_HEAD_RAW = 12;
export const FOOTER_HEAD_CRC = 16;
export const FOOTER_KIND = 20;
export const FOOTER_START_LSN = 24;
export const FOOTER_END_LSN = 32;
export const FOOTER_FILE_SIZE = 40;
export const FOOTER_VERSION = 48;
/** Over the footer's bytes before this field. */
export const FOOTER_CRC = 52;
export const FOOTER_MAGIC = 56;

// Words at the start of the head.
export const HEAD_OBJECTS = 0;
export const HEAD_KEYS = 1;
export const HEAD_ENTRIES = 2;
export const HEAD_DATA_BLOCKS = 3;
export const HEAD_INDEX_BLOCKS = 4;
export const HEAD_START_BLOCKS = 5;
export const HEAD_FIXED_WORDS = 8;

// Columns of the head's tables. Each has as many words as its table has rows.
const HANDLE_COLUMNS = 5;
const OBJECT_COLUMNS = 7;
const DATA_COLUMNS = HANDLE_COLUMNS + 3;
const INDEX_COLUMNS = HANDLE_COLUMNS + 2;
const START_COLUMNS = HANDLE_COLUMNS + 4;

/** A data block is closed when it has this many bytes before compression. */
export const DATA_BLOCK_BYTES = 64 << 10;

/** The number of keys in one index block. The block then has as many bytes as a data block. */
export const KEYS_PER_INDEX_BLOCK = 8192;

/** No block is larger: a value is part of a WAL record, and WAL records end at 1 GB. */
export const MAX_BLOCK_BYTES = 0x7fff0000;

/**
 * The size of an entry in a data block: the LSN in two words, the end of the value, the tag, the
 * flags.
 */
export const ENTRY_BYTES = 4 + 4 + 4 + 1 + 1;

const TWO_POW_32 = 0x1_0000_0000;

assert(
  new Uint8Array(Uint32Array.of(1).buffer)[0] === 1,
  "layer files are little-endian, and so must the machine be",
);

export function joinWords(low: number, high: number): number {
  return high * TWO_POW_32 + low;
}

export function lowWord(value: number): number {
  return value >>> 0;
}

export function highWord(value: number): number {
  return Math.floor(value / TWO_POW_32);
}

/**
 * Returns the raw bytes of a stored block, in a buffer of their own, 8-byte aligned.
 *
 * @param where the file and offset, for the message
 * @throws {ZenithError} `corrupt_data`
 */
export function decompressBlock(
  stored: Uint8Array,
  rawLen: number,
  crc: number,
  where: () => string,
): Uint8Array {
  noteShortLived(stored.length + rawLen);
  const found = crc32c(stored, 0, stored.length);
  if (found !== crc) {
    throw corrupt(`checksum of the block at ${where()}: expected ${hex(crc)}, found ${hex(found)}`);
  }
  if (stored.length === rawLen) return aligned(stored);
  let raw: Uint8Array;
  try {
    raw = decompressFrame(stored, rawLen);
  } catch (error) {
    throw corrupt(`the block at ${where()} does not decompress: ${errorMessage(error)}`);
  }
  if (raw.length !== rawLen) {
    throw corrupt(`the block at ${where()} has ${raw.length} bytes, expected ${rawLen}`);
  }
  return aligned(raw);
}

/**
 * Returns a plain Uint8Array, as used everywhere else. Copies it if that is needed for alignment,
 * or to release a larger buffer.
 */
function aligned(bytes: Uint8Array): Uint8Array {
  if (bytes.byteOffset % 8 === 0 && bytes.buffer.byteLength < 2 * bytes.length) {
    return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  }
  return new Uint8Array(bytes);
}

export function corrupt(message: string): ZenithError {
  return new ZenithError("corrupt_data", message);
}

export function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, "0")}`;
}

/** A data block: columns of its entries, then their values. */
export class DataBlock {
  readonly count: number;
  readonly bytes: Uint8Array;
  readonly lsnLow: Uint32Array;
  readonly lsnHigh: Uint32Array;
  /** Where each value ends in {@link bytes}, counted from {@link valuesOff}. */
  readonly valueEnd: Uint32Array;
  readonly tag: Uint8Array;
  readonly flags: Uint8Array;
  readonly valuesOff: number;

  /** @throws {ZenithError} `corrupt_data` when the block's parts don't add up */
  constructor(raw: Uint8Array, where: () => string) {
    const count = raw.length < 4 ? 0 : new Uint32Array(raw.buffer, raw.byteOffset, 1)[0];
    this.valuesOff = 4 + ENTRY_BYTES * count;
    if (count === 0 || this.valuesOff > raw.length) {
      throw corrupt(`the data block at ${where()} has ${raw.length} bytes, too few for its ${count} entries`);
    }
    this.count = count;
    this.bytes = raw;
    this.lsnLow = new Uint32Array(raw.buffer, raw.byteOffset + 4, count);
    this.lsnHigh = new Uint32Array(raw.buffer, raw.byteOffset + 4 + 4 * count, count);
    this.valueEnd = new Uint32Array(raw.buffer, raw.byteOffset + 4 + 8 * count, count);
    this.tag = raw.subarray(4 + 12 * count, 4 + 13 * count);
    this.flags = raw.subarray(4 + 13 * count, 4 + 14 * count);
    let end = 0;
    for (let i = 0; i < count; i++) {
      if (this.valueEnd[i] < end) {
        throw corrupt(`value ${i} of the data block at ${where()} ends before it starts`);
      }
      end = this.valueEnd[i];
    }
    if (this.valuesOff + end !== raw.length) {
      throw corrupt(
        `the values of the data block at ${where()} have ${end} bytes, expected ${
          raw.length - this.valuesOff
        }`,
      );
    }
  }

  lsn(entry: number): number {
    return this.lsnHigh[entry] * TWO_POW_32 + this.lsnLow[entry];
  }

  valueOff(entry: number): number {
    return entry === 0 ? this.valuesOff : this.valuesOff + this.valueEnd[entry - 1];
  }

  valueLen(entry: number): number {
    return entry === 0 ? this.valueEnd[0] : this.valueEnd[entry] - this.valueEnd[entry - 1];
  }
}

/**
 * An index block: the block numbers of consecutive keys and, for each key, the number of its first
 * entry in the layer.
 */
export class IndexBlock {
  readonly count: number;
  readonly blocks: Uint32Array;
  /** One more element than there are keys. The last one says where the last key's entries end. */
  readonly firstEntry: Uint32Array;

  /** @throws {ZenithError} `corrupt_data` when the block does not have the size for `count` keys */
  constructor(raw: Uint8Array, count: number, where: () => string) {
    if (raw.length !== indexBlockBytes(count)) {
      throw corrupt(
        `the index block at ${where()} has ${raw.length} bytes, expected ${indexBlockBytes(count)}`,
      );
    }
    this.count = count;
    this.blocks = new Uint32Array(raw.buffer, raw.byteOffset, count);
    this.firstEntry = new Uint32Array(raw.buffer, raw.byteOffset + 4 * count, count + 1);
  }
}

export function indexBlockBytes(keys: number): number {
  return 4 * keys + 4 * (keys + 1);
}

/** Where blocks lie in the file, as five columns of a table in the head. */
export class Handles {
  readonly count: number;
  readonly #words: Uint32Array;

  constructor(words: Uint32Array, at: number, count: number) {
    this.count = count;
    this.#words = words.subarray(at, at + HANDLE_COLUMNS * count);
  }

  offset(i: number): number {
    return joinWords(this.#words[i], this.#words[this.count + i]);
  }

  storedLen(i: number): number {
    return this.#words[2 * this.count + i];
  }

  rawLen(i: number): number {
    return this.#words[3 * this.count + i];
  }

  crc(i: number): number {
    return this.#words[4 * this.count + i];
  }
}

/** Hands out consecutive columns of the head. */
class Columns {
  readonly #words: Uint32Array;
  #at = HEAD_FIXED_WORDS;

  constructor(words: Uint32Array) {
    this.#words = words;
  }

  handles(count: number): Handles {
    const handles = new Handles(this.#words, this.#at, count);
    this.#at += HANDLE_COLUMNS * count;
    return handles;
  }

  next(count: number): Uint32Array {
    const column = this.#words.subarray(this.#at, this.#at + count);
    this.#at += count;
    return column;
  }
}

/** The head. It locates index blocks, data blocks and record starts. */
export class LayerHead {
  readonly sizeBytes: number;
  readonly objectCount: number;
  readonly keyCount: number;
  readonly entryCount: number;

  /** kind | d << 8 */
  readonly objectKindD: Uint32Array;
  readonly objectA: Uint32Array;
  readonly objectB: Uint32Array;
  readonly objectC: Uint32Array;
  readonly objectFirstKey: Uint32Array;
  readonly #objectFirstLsnLow: Uint32Array;
  readonly #objectFirstLsnHigh: Uint32Array;

  readonly data: Handles;
  readonly dataFirstEntry: Uint32Array;
  readonly #dataFirstLsnLow: Uint32Array;
  readonly #dataFirstLsnHigh: Uint32Array;

  readonly index: Handles;
  readonly indexFirstKey: Uint32Array;
  /** The block number of each index block's first key. */
  readonly indexFirstBlock: Uint32Array;

  readonly starts: Handles;
  readonly #startFirstLow: Uint32Array;
  readonly #startFirstHigh: Uint32Array;
  readonly #startLastLow: Uint32Array;
  readonly #startLastHigh: Uint32Array;

  /** @throws {ZenithError} `corrupt_data` when the tables don't add up */
  constructor(raw: Uint8Array, where: () => string) {
    const words = new Uint32Array(raw.buffer, raw.byteOffset, raw.length >>> 2);
    if (words.length < HEAD_FIXED_WORDS) throw corrupt(`the head at ${where()} has only ${raw.length} bytes`);
    this.sizeBytes = raw.length;
    this.objectCount = words[HEAD_OBJECTS];
    this.keyCount = words[HEAD_KEYS];
    this.entryCount = words[HEAD_ENTRIES];
    const dataCount = words[HEAD_DATA_BLOCKS];
    const indexCount = words[HEAD_INDEX_BLOCKS];
    const startCount = words[HEAD_START_BLOCKS];
    const expected = 4 *
      (HEAD_FIXED_WORDS + OBJECT_COLUMNS * this.objectCount + DATA_COLUMNS * dataCount +
        INDEX_COLUMNS * indexCount +
        START_COLUMNS * startCount);
    if (raw.length !== expected) {
      throw corrupt(`the head at ${where()} has ${raw.length} bytes, its tables need ${expected}`);
    }
    const columns = new Columns(words);
    this.objectKindD = columns.next(this.objectCount);
    this.objectA = columns.next(this.objectCount);
    this.objectB = columns.next(this.objectCount);
    this.objectC = columns.next(this.objectCount);
    this.objectFirstKey = columns.next(this.objectCount);
    this.#objectFirstLsnLow = columns.next(this.objectCount);
    this.#objectFirstLsnHigh = columns.next(this.objectCount);
    this.data = columns.handles(dataCount);
    this.dataFirstEntry = columns.next(dataCount);
    this.#dataFirstLsnLow = columns.next(dataCount);
    this.#dataFirstLsnHigh = columns.next(dataCount);
    this.index = columns.handles(indexCount);
    this.indexFirstKey = columns.next(indexCount);
    this.indexFirstBlock = columns.next(indexCount);
    this.starts = columns.handles(startCount);
    this.#startFirstLow = columns.next(startCount);
    this.#startFirstHigh = columns.next(startCount);
    this.#startLastLow = columns.next(startCount);
    this.#startLastHigh = columns.next(startCount);
    checkAscending(this.objectFirstKey, this.keyCount, "first key of an object", where);
    checkAscending(this.dataFirstEntry, this.entryCount, "first entry of a data block", where);
    checkAscending(this.indexFirstKey, this.keyCount, "first key of an index block", where);
  }

  /** Where the keys of object `i` end. */
  objectEndKey(i: number): number {
    return i + 1 < this.objectCount ? this.objectFirstKey[i + 1] : this.keyCount;
  }

  /** The LSN of the object's first version in the layer. */
  objectFirstLsn(i: number): number {
    return joinWords(this.#objectFirstLsnLow[i], this.#objectFirstLsnHigh[i]);
  }

  dataEndEntry(i: number): number {
    return i + 1 < this.data.count ? this.dataFirstEntry[i + 1] : this.entryCount;
  }

  /** The LSN of the first entry of data block `i`. */
  dataFirstLsn(i: number): number {
    return joinWords(this.#dataFirstLsnLow[i], this.#dataFirstLsnHigh[i]);
  }

  indexEndKey(i: number): number {
    return i + 1 < this.index.count ? this.indexFirstKey[i + 1] : this.keyCount;
  }

  startsFirst(i: number): number {
    return joinWords(this.#startFirstLow[i], this.#startFirstHigh[i]);
  }

  startsLast(i: number): number {
    return joinWords(this.#startLastLow[i], this.#startLastHigh[i]);
  }
}

function checkAscending(column: Uint32Array, end: number, what: string, where: () => string): void {
  for (let i = 0; i < column.length; i++) {
    const next = i + 1 < column.length ? column[i + 1] : end;
    if (next <= column[i] || (i === 0 && column[0] !== 0)) {
      throw corrupt(`${what} in the head at ${where()}: row ${i} has ${column[i]}, followed by ${next}`);
    }
  }
  if (column.length === 0 && end !== 0) throw corrupt(`the head at ${where()} lacks the ${what}`);
}

/** Reads a 64-bit integer. A number holds 53 bits of it. */
export function getU64(view: DataView, at: number): number {
  return joinWords(view.getUint32(at, true), view.getUint32(at + 4, true));
}

export function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, lowWord(value), true);
  view.setUint32(at + 4, highWord(value), true);
}
