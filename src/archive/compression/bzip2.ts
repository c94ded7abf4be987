/**
 * Unpacks bzip2 streams, one after the other as `bzip2` and pgBackRest write them.
 *
 * Format: https://github.com/dsnet/compress/blob/master/doc/bzip2-format.pdf
 */
import { ZenithError } from "../../common/errors.ts";

/** "BZh" */
const STREAM_MAGIC = 0x425a68;

/** The digits of π: a block follows. */
const BLOCK_MAGIC_HIGH = 0x314159;
const BLOCK_MAGIC_LOW = 0x265359;
/** The digits of √π: the stream ends. */
const END_MAGIC_HIGH = 0x177245;
const END_MAGIC_LOW = 0x385090;

const BLOCK_UNIT_BYTES = 100_000;
const CODE_LENGTH_MAX = 20;
const GROUP_SYMBOLS = 50;
const SELECTORS_MAX = 18_002;
const RUN_A = 0;
const RUN_B = 1;
/** So many equal bytes are followed by a count of more of them. */
const RUN_LENGTH = 4;

/** @throws {ZenithError} `corrupt_data` */
export async function* unpackBzip2(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const bits = new Bits(source);
  for (let isFirst = true;; isFirst = false) {
    if (!isFirst && await bits.atEnd()) return;
    if (await bits.take(24) !== STREAM_MAGIC) throw damaged("it does not begin as bzip2 data does");
    const level = await bits.take(8) - 0x30;
    if (level < 1 || level > 9) throw damaged("the size of its blocks is not known");
    const block = new Uint32Array(level * BLOCK_UNIT_BYTES);
    let streamCrc = 0;
    for (;;) {
      const high = await bits.take(24);
      const low = await bits.take(24);
      if (high === END_MAGIC_HIGH && low === END_MAGIC_LOW) break;
      if (high !== BLOCK_MAGIC_HIGH || low !== BLOCK_MAGIC_LOW) throw damaged("a block has no beginning");
      const stated = await bits.take(32);
      const bytes = await unpackBlock(bits, block);
      const crc = crcOf(bytes);
      if (crc !== stated) throw damaged("a block's checksum is wrong");
      streamCrc = ((streamCrc << 1 | streamCrc >>> 31) ^ crc) >>> 0;
      yield bytes;
    }
    if (await bits.take(32) !== streamCrc) throw damaged("its checksum is wrong");
    bits.alignToByte();
  }
}

/** @param block room for the largest block: the byte in the low 8 bits, where it continues above */
async function unpackBlock(bits: Bits, block: Uint32Array): Promise<Uint8Array> {
  if (await bits.take(1) !== 0) throw damaged("a block is of a kind that is no longer written");
  const origin = await bits.take(24);
  const symbols = await readSymbols(bits);
  const { tables, selectors } = await readTables(bits, symbols.length + 2);
  const counts = new Uint32Array(256);
  const length = await readBlock(bits, block, symbols, tables, selectors, counts);
  if (origin >= length) throw damaged("a block's origin is outside of it");
  // The Burrows-Wheeler transform, backwards: where each byte's successor is.
  for (let sum = 0, byte = 0; byte < 256; byte++) {
    const count = counts[byte];
    counts[byte] = sum;
    sum += count;
  }
  for (let i = 0; i < length; i++) {
    block[counts[block[i] & 0xff]++] |= i << 8;
  }
  return expandRuns(block, length, origin);
}

/** The bytes that the block has, ascending. */
async function readSymbols(bits: Bits): Promise<number[]> {
  const ranges = await bits.take(16);
  const symbols: number[] = [];
  for (let range = 0; range < 16; range++) {
    if ((ranges & 0x8000 >> range) === 0) continue;
    const used = await bits.take(16);
    for (let i = 0; i < 16; i++) if ((used & 0x8000 >> i) !== 0) symbols.push(range * 16 + i);
  }
  if (symbols.length === 0) throw damaged("a block has no symbols");
  return symbols;
}

interface Tables {
  readonly tables: readonly Huffman[];
  /** Which table the next symbols are of, {@link GROUP_SYMBOLS} at a time. */
  readonly selectors: Uint8Array;
}

async function readTables(bits: Bits, symbols: number): Promise<Tables> {
  const count = await bits.take(3);
  const selectorCount = await bits.take(15);
  if (count < 2 || count > 6 || selectorCount === 0) throw damaged("a block's tables can't be read");
  const selectors = new Uint8Array(Math.min(selectorCount, SELECTORS_MAX));
  const order = [0, 1, 2, 3, 4, 5].slice(0, count);
  for (let i = 0; i < selectorCount; i++) {
    let at = 0;
    while (await bits.take(1) === 1) if (++at >= count) throw damaged("a block's selectors can't be read");
    const [table] = order.splice(at, 1);
    order.unshift(table);
    if (i < selectors.length) selectors[i] = table;
  }
  const tables: Huffman[] = [];
  for (let i = 0; i < count; i++) tables.push(new Huffman(await readLengths(bits, symbols)));
  return { tables, selectors };
}

async function readLengths(bits: Bits, symbols: number): Promise<Uint8Array> {
  const lengths = new Uint8Array(symbols);
  let length = await bits.take(5);
  for (let i = 0; i < symbols; i++) {
    while (await bits.take(1) === 1) length += await bits.take(1) === 0 ? 1 : -1;
    if (length < 1 || length > CODE_LENGTH_MAX) throw damaged("a block's code lengths can't be read");
    lengths[i] = length;
  }
  return lengths;
}

/** A canonical Huffman code. */
class Huffman {
  /** By length: the highest code, and what makes of a code the place of its symbol. */
  readonly #limits = new Int32Array(CODE_LENGTH_MAX + 2).fill(-1);
  readonly #offsets = new Int32Array(CODE_LENGTH_MAX + 2);
  readonly #symbols: Uint16Array;

  constructor(lengths: Uint8Array) {
    this.#symbols = Uint16Array.from(
      [...lengths.keys()].sort((a, b) => lengths[a] - lengths[b] || a - b),
    );
    let code = 0;
    let at = 0;
    for (let length = 1; length <= CODE_LENGTH_MAX; length++) {
      this.#offsets[length] = at - code;
      for (const other of lengths) if (other === length) code++, at++;
      this.#limits[length] = code - 1;
      code <<= 1;
    }
  }

  /** @returns the symbol that the next bits are; -1 when they are none */
  decode(bits: Bits): number {
    let code = 0;
    for (let length = 1; length <= CODE_LENGTH_MAX; length++) {
      code = code << 1 | bits.bit();
      if (code <= this.#limits[length]) {
        const at = code + this.#offsets[length];
        return at >= 0 && at < this.#symbols.length ? this.#symbols[at] : -1;
      }
    }
    return -1;
  }
}

/** Reads the bytes in the order of the transform. @returns how many */
async function readBlock(
  bits: Bits,
  block: Uint32Array,
  symbols: number[],
  tables: readonly Huffman[],
  selectors: Uint8Array,
  counts: Uint32Array,
): Promise<number> {
  const endSymbol = symbols.length + 1;
  const recent = symbols;
  let length = 0;
  let run = 0;
  let runBit = 1;
  for (let group = 0; group < selectors.length; group++) {
    const table = tables[selectors[group]];
    await bits.fill(GROUP_SYMBOLS * CODE_LENGTH_MAX);
    for (let i = 0; i < GROUP_SYMBOLS; i++) {
      const symbol = table.decode(bits);
      if (symbol < 0) throw damaged("a block has a code that it does not define");
      if (symbol === RUN_A || symbol === RUN_B) {
        run += runBit << symbol;
        runBit <<= 1;
        if (run > block.length) throw damaged("a block is longer than its stream allows");
        continue;
      }
      if (run > 0) {
        if (run > block.length - length) throw damaged("a block is longer than its stream allows");
        counts[recent[0]] += run;
        block.fill(recent[0], length, length += run);
        [run, runBit] = [0, 1];
      }
      if (symbol === endSymbol) return length;
      const at = symbol - 1;
      const byte = recent[at];
      recent.copyWithin(1, 0, at);
      recent[0] = byte;
      if (length === block.length) throw damaged("a block is longer than its stream allows");
      counts[byte]++;
      block[length++] = byte;
    }
  }
  throw damaged("a block has no end");
}

function expandRuns(block: Uint32Array, length: number, origin: number): Uint8Array {
  let out = new Uint8Array(length + (length >> 2) + 256);
  let to = 0;
  let at = block[origin] >>> 8;
  let last = -1;
  let repeated = 0;
  for (let i = 0; i < length; i++) {
    const entry = block[at];
    const byte = entry & 0xff;
    at = entry >>> 8;
    const isCount = repeated === RUN_LENGTH;
    const count = isCount ? byte : 1;
    if (to + count > out.length) {
      const larger = new Uint8Array(2 * out.length + count);
      larger.set(out);
      out = larger;
    }
    if (isCount) {
      out.fill(last, to, to += count);
      [last, repeated] = [-1, 0];
    } else {
      out[to++] = byte;
      repeated = byte === last ? repeated + 1 : 1;
      last = byte;
    }
  }
  return out.subarray(0, to);
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 24;
  for (let bit = 0; bit < 8; bit++) crc = crc << 1 ^ (crc < 0 ? 0x04c11db7 : 0);
  return crc;
});

/** CRC-32, the highest bit first. */
function crcOf(bytes: Uint8Array): number {
  let crc = -1;
  for (let i = 0; i < bytes.length; i++) crc = crc << 8 ^ CRC_TABLE[crc >>> 24 ^ bytes[i]];
  return ~crc >>> 0;
}

/** Bits from a source, the highest of each byte first. */
class Bits {
  readonly #source: AsyncIterator<Uint8Array>;
  #bytes: Uint8Array = new Uint8Array(0);
  /** In bits. */
  #at = 0;
  #isOver = false;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Returns the next bits, at most 32, as a number. */
  async take(count: number): Promise<number> {
    if (this.#at + count > this.#bytes.length * 8) {
      await this.fill(count);
      if (this.#at + count > this.#bytes.length * 8) throw damaged("it is cut short");
    }
    let value = 0;
    for (let i = 0; i < count; i++) value = value * 2 + this.bit();
    return value;
  }

  /** Makes at least so many bits available, if there are so many. */
  async fill(count: number): Promise<void> {
    while (!this.#isOver && this.#at + count > this.#bytes.length * 8) {
      const { done, value } = await this.#source.next();
      if (done === true) this.#isOver = true;
      else {
        const first = this.#at >> 3;
        this.#bytes = Buffer.concat([this.#bytes.subarray(first), value]);
        this.#at -= first * 8;
      }
    }
  }

  /** The next bit of those that {@link fill} has made available; 0 after the end. */
  bit(): number {
    const at = this.#at++;
    return (this.#bytes[at >> 3] ?? 0) >> (7 - (at & 7)) & 1;
  }

  alignToByte(): void {
    this.#at = (this.#at + 7) & ~7;
  }

  async atEnd(): Promise<boolean> {
    await this.fill(1);
    return this.#at >= this.#bytes.length * 8;
  }
}

function damaged(what: string): ZenithError {
  return new ZenithError("corrupt_data", `the bzip2 data is damaged: ${what}`);
}
