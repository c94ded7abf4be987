/**
 * Unpacks LZ4 frames, as pg_basebackup and the lz4 program write them.
 *
 * Format: https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md. Checksums are passed over:
 * what a backup holds has checksums of its own.
 */
import { ZenithError } from "../../common/errors.ts";
import { unpackLz4Block } from "../../postgres/wal/lz4.ts";

export const LZ4_MAGIC = 0x184d2204;
/** Sixteen magic numbers of frames that a reader passes over; the low four bits differ. */
const SKIPPABLE_MAGIC = 0x184d2a50;

// The FLG byte of a frame's descriptor.
const VERSION_MASK = 0xc0;
const VERSION_1 = 0x40;
const HAS_BLOCK_CHECKSUM = 0x10;
const HAS_CONTENT_SIZE = 0x08;
const HAS_CONTENT_CHECKSUM = 0x04;
const HAS_DICTIONARY = 0x01;

/** The size of a block by the number in the BD byte, 4 to 7. */
const blockMaxBytes = (bd: number): number => 1 << (8 + 2 * (bd >> 4 & 7));

/** A block that is stored as it is has this bit in its size. */
const STORED = 0x8000_0000;
/** A block may repeat what is so far back in the blocks before it. */
const WINDOW_BYTES = 64 << 10;
const CHECKSUM_BYTES = 4;

/** @throws {ZenithError} `corrupt_data` */
export async function* unpackLz4(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const input = new Input(source);
  for (;;) {
    const magic = await input.u32OrEnd();
    if (magic === null) return;
    if ((magic & 0xffff_fff0) >>> 0 === SKIPPABLE_MAGIC) await input.take(await input.u32());
    else if (magic === LZ4_MAGIC) yield* unpackFrame(input);
    else throw damaged("what follows a frame is none");
  }
}

async function* unpackFrame(input: Input): AsyncGenerator<Uint8Array> {
  const [flags, bd] = await input.take(2);
  if ((flags & VERSION_MASK) !== VERSION_1 || (flags & HAS_DICTIONARY) !== 0 || bd >> 4 < 4) {
    throw damaged("the frame's header can't be read");
  }
  // The content's size, and a checksum of the header.
  await input.take(((flags & HAS_CONTENT_SIZE) === 0 ? 0 : 8) + 1);
  const max = blockMaxBytes(bd);
  const out = new Uint8Array(WINDOW_BYTES + max);
  /** `out[windowOff .. WINDOW_BYTES)` is what precedes the next block. */
  let windowOff = WINDOW_BYTES;
  for (;;) {
    const word = await input.u32();
    if (word === 0) break;
    const size = word & ~STORED;
    if (size > max) throw damaged(`a block has ${size} bytes`);
    const block = await input.take(size);
    let end = WINDOW_BYTES + size;
    if ((word & STORED) !== 0) out.set(block, WINDOW_BYTES);
    else end = unpackLz4Block(block, 0, size, out, WINDOW_BYTES, out.length, windowOff);
    if (end < 0) throw damaged("a block is malformed");
    if ((flags & HAS_BLOCK_CHECKSUM) !== 0) await input.take(CHECKSUM_BYTES);
    yield out.slice(WINDOW_BYTES, end);
    const kept = Math.min(WINDOW_BYTES, end - windowOff);
    out.copyWithin(WINDOW_BYTES - kept, end - kept, end);
    windowOff = WINDOW_BYTES - kept;
  }
  if ((flags & HAS_CONTENT_CHECKSUM) !== 0) await input.take(CHECKSUM_BYTES);
}

/** Bytes from a source, as many as are asked for. */
class Input {
  readonly #source: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  async take(count: number): Promise<Uint8Array> {
    const taken = await this.#tryTake(count);
    if (taken.length < count) throw damaged("it is cut short");
    return taken;
  }

  async u32(): Promise<number> {
    return readU32(await this.take(4));
  }

  /** Returns null at the end of the source. */
  async u32OrEnd(): Promise<number | null> {
    const bytes = await this.#tryTake(4);
    if (bytes.length === 0) return null;
    if (bytes.length < 4) throw damaged("it is cut short");
    return readU32(bytes);
  }

  async #tryTake(count: number): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    let missing = count;
    while (missing > 0) {
      if (this.#rest.length === 0) {
        const { done, value } = await this.#source.next();
        if (done === true) break;
        this.#rest = value;
      }
      const part = this.#rest.subarray(0, missing);
      parts.push(part);
      this.#rest = this.#rest.subarray(part.length);
      missing -= part.length;
    }
    return parts.length === 1 ? parts[0] : Buffer.concat(parts);
  }
}

function readU32(bytes: Uint8Array): number {
  return (bytes[0] | bytes[1] << 8 | bytes[2] << 16 | bytes[3] << 24) >>> 0;
}

function damaged(what: string): ZenithError {
  return new ZenithError("corrupt_data", `the lz4 data is damaged: ${what}`);
}
