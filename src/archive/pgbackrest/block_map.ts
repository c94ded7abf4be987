/**
 * The map at the end of a file of a block incremental backup: where each block of the original file
 * is. Source: src/command/backup/blockMap.c of pgBackRest, 2.46 and later.
 */
import { ZenithError } from "../../common/errors.ts";

// Flags of a reference.
const REFERENCE_LAST = 1;
const REFERENCE_BUNDLE = 2;
/** Instead of {@link REFERENCE_BUNDLE} for a reference that came before. */
const REFERENCE_CONTINUES = 2;
const REFERENCE_OFFSET = 4;
/** Instead of {@link REFERENCE_OFFSET} for one that continues. */
const REFERENCE_CONTINUES_LAST = 4;
const REFERENCE_FACTOR = 8;

// Flags of a super block.
const SUPER_LAST = 1;
const SUPER_SIZE_CHANGES = 2;
const SUPER_IS_PART = 4;
const SUPER_FACTOR = 8;

/** The lowest bit of a super block's size, and of a number of blocks: a number follows. */
const MORE_FOLLOWS = 1;

/** Super blocks are compressed one by one. */
export interface SuperBlock {
  /** Of the manifest's backup-reference, which backup it is in. */
  readonly reference: number;
  /** 0: it is in a file of its own. */
  readonly bundleId: number;
  /** Where it is in the stored file, and its length there, in bytes. */
  readonly offset: number;
  readonly storedBytes: number;
  /** Its size when it is unpacked. */
  readonly bytes: number;
}

/** Where one block is. */
export interface MappedBlock {
  readonly in: SuperBlock;
  /** Its number in the super block. */
  readonly number: number;
}

/** What the map says of a backup so far. */
interface Reference {
  bundleId: number;
  offset: number;
  bytes: number;
  current: SuperBlock | null;
  /** The number of the next block in the current super block. */
  next: number;
}

/**
 * Parses a map.
 *
 * @param blockBytes the size of a block
 * @param checksumBytes the size of a block's checksum, which is not looked at: the file has one
 * @param fileBytes the original file's size
 * @returns the blocks of the original file, in order
 * @throws {ZenithError} `corrupt_data`
 */
export function parseBlockMap(
  map: Uint8Array,
  blockBytes: number,
  checksumBytes: number,
  fileBytes: number,
  where: string,
): MappedBlock[] {
  const input = new Input(map, where);
  const expected = Math.ceil(fileBytes / blockBytes);
  const blocks: MappedBlock[] = [];
  const references = new Map<number, Reference>();
  let lastStored = 0;
  if ((input.number() & 1) !== 0) throw input.damaged("its version is not known");
  for (let isLast = false; !isLast;) {
    const encoded = input.number();
    isLast = (encoded & REFERENCE_LAST) !== 0;
    const id = Math.floor(encoded / REFERENCE_FACTOR);
    const isKnown = references.has(id);
    const reference = references.get(id) ?? firstOf(input, encoded, blockBytes);
    references.set(id, reference);
    let continues = isKnown && (encoded & REFERENCE_CONTINUES) !== 0;
    if (isKnown && !continues) {
      reference.offset += reference.current?.storedBytes ?? 0;
      if ((encoded & REFERENCE_OFFSET) !== 0) reference.offset += input.number();
    }
    for (let isLastOfReference = false, isFirst = true; !isLastOfReference; isFirst = false) {
      let isPart = true;
      if (continues) isLastOfReference = (encoded & REFERENCE_CONTINUES_LAST) !== 0;
      else {
        const flags = input.number();
        isLastOfReference = (flags & SUPER_LAST) !== 0;
        isPart = (flags & SUPER_IS_PART) !== 0;
        const size = Math.floor(flags / SUPER_FACTOR);
        const storedBytes = lastStored === 0 ? size : lastStored + fromZigZag(size);
        if ((flags & SUPER_SIZE_CHANGES) !== 0) reference.bytes = superBlockBytes(input, blockBytes);
        if (!isFirst) reference.offset += lastStored;
        const { bundleId, offset, bytes } = reference;
        reference.current = { reference: id, bundleId, offset, storedBytes, bytes };
        reference.next = 0;
      }
      continues = false;
      const current = reference.current;
      if (current === null || current.storedBytes <= 0) throw input.damaged("a super block has no size");
      lastStored = current.storedBytes;
      const count = isPart ? partCount(input, reference) : Math.ceil(current.bytes / blockBytes);
      if (count > expected - blocks.length) throw input.damaged("it has more blocks than the file");
      for (let i = 0; i < count; i++) {
        blocks.push({ in: current, number: reference.next++ });
        input.skip(checksumBytes);
      }
    }
  }
  if (blocks.length !== expected) {
    throw input.damaged(`it has ${blocks.length} blocks, the file has ${expected}`);
  }
  return blocks;
}

function firstOf(input: Input, encoded: number, blockBytes: number): Reference {
  const bundleId = (encoded & REFERENCE_BUNDLE) === 0 ? 0 : input.number();
  const offset = (encoded & REFERENCE_OFFSET) === 0 ? 0 : input.number();
  return { bundleId, offset, bytes: blockBytes, current: null, next: 0 };
}

function superBlockBytes(input: Input, blockBytes: number): number {
  const encoded = input.number();
  const whole = Math.floor(encoded / 2) * blockBytes;
  return (encoded & MORE_FOLLOWS) === 0 ? whole : whole + input.number();
}

/** The number of blocks when only some of a super block are used. */
function partCount(input: Input, reference: Reference): number {
  const encoded = input.number();
  if ((encoded & MORE_FOLLOWS) !== 0) reference.next += input.number();
  return Math.floor(encoded / 2) + 1;
}

/** A signed number whose lowest bit is the sign. */
function fromZigZag(value: number): number {
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}

class Input {
  readonly #bytes: Uint8Array;
  readonly #where: string;
  #at = 0;

  constructor(bytes: Uint8Array, where: string) {
    this.#bytes = bytes;
    this.#where = where;
  }

  /** Seven bits in each byte, the lowest first; the highest bit says that more follow. */
  number(): number {
    let value = 0;
    for (let factor = 1; factor <= 2 ** 49; factor *= 128) {
      if (this.#at >= this.#bytes.length) throw this.damaged("it is cut short");
      const byte = this.#bytes[this.#at++];
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) {
        if (!Number.isSafeInteger(value)) break;
        return value;
      }
    }
    throw this.damaged("it has a number that is too large");
  }

  skip(count: number): void {
    this.#at += count;
    if (this.#at > this.#bytes.length) throw this.damaged("it is cut short");
  }

  damaged(what: string): ZenithError {
    return new ZenithError("corrupt_data", `the block map of ${this.#where} is damaged: ${what}`);
  }
}
