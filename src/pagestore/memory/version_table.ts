/**
 * Stores the versions of a memory layer in rows of 24 bytes, so that going back along a block's
 * versions touches one cache line per version. Rows lie in fixed-size pieces of shared memory, so
 * growing copies nothing.
 */
import { type BufferPool, sharedBytes } from "../../common/buffer_pool.ts";

const PIECE_BITS = 11;
const PIECE_ROWS = 1 << PIECE_BITS;
const ROW_MASK = PIECE_ROWS - 1;

/** A row: the LSN as a float64, then four 32-bit words. */
export const ROW_BYTES = 24;
const ROW_FLOATS = ROW_BYTES / 8;
const ROW_WORDS = ROW_BYTES / 4;
const PREV = 2;
/** The buffer number and, in the lowest eight bits, the tag. */
const BUFFER_TAG = 3;
const OFF = 4;
/** The length, with willInit as the sign bit. */
const LEN_FLAGS = 5;

const TAG_BITS = 8;
const TAG_MASK = (1 << TAG_BITS) - 1;
const LEN_MASK = 0x7fffffff;

/** The size of the buffers in a pool of pieces. */
export const VERSION_PIECE_BYTES = PIECE_ROWS * ROW_BYTES;

/** How many buffers can be told apart. */
export const MAX_BUFFERS = 1 << (31 - TAG_BITS);

export class VersionTable {
  count = 0;
  readonly #pool: BufferPool | undefined;
  readonly #pieces: Uint8Array[] = [];
  readonly #words: Int32Array[] = [];
  readonly #lsns: Float64Array[] = [];

  /**
   * @param pool holds buffers of {@link VERSION_PIECE_BYTES}. {@link release} returns them to it
   */
  constructor(pool?: BufferPool) {
    this.#pool = pool;
  }

  /**
   * Opens the table that another thread has written, from its {@link pieces} and their number of
   * rows.
   */
  static of(pieces: readonly Uint8Array[], count: number): VersionTable {
    const table = new VersionTable();
    for (const piece of pieces) table.#addPiece(piece);
    table.count = count;
    return table;
  }

  get memoryBytes(): number {
    return this.#pieces.length * VERSION_PIECE_BYTES;
  }

  get pieces(): readonly Uint8Array[] {
    return this.#pieces;
  }

  /** Returns the pieces to the pool. The table has no versions afterwards. */
  release(): void {
    for (const piece of this.#pieces) this.#pool?.release(piece);
    this.#pieces.length = 0;
    this.#words.length = 0;
    this.#lsns.length = 0;
    this.count = 0;
  }

  /** Adds a row and returns its number. `prev` is any 32-bit number that the caller chooses. */
  add(
    lsn: number,
    prev: number,
    buffer: number,
    off: number,
    len: number,
    tag: number,
    willInit: boolean,
  ): number {
    const version = this.count++;
    const row = version & ROW_MASK;
    if (row === 0) this.#addPiece(this.#pool?.take() ?? sharedBytes(VERSION_PIECE_BYTES));
    const piece = version >> PIECE_BITS;
    this.#lsns[piece][row * ROW_FLOATS] = lsn;
    this.#words[piece][row * ROW_WORDS + PREV] = prev;
    this.setValue(version, buffer, off, len, tag, willInit);
    return version;
  }

  /** Removes all rows from `count` on. */
  truncate(count: number): void {
    this.count = count;
    const pieces = Math.ceil(count / PIECE_ROWS);
    for (const piece of this.#pieces.splice(pieces)) this.#pool?.release(piece);
    this.#words.length = pieces;
    this.#lsns.length = pieces;
  }

  /** Replaces the value of a version. */
  setValue(version: number, buffer: number, off: number, len: number, tag: number, willInit: boolean): void {
    const words = this.#words[version >> PIECE_BITS];
    const at = (version & ROW_MASK) * ROW_WORDS;
    words[at + BUFFER_TAG] = (buffer << TAG_BITS) | tag;
    words[at + OFF] = off;
    words[at + LEN_FLAGS] = willInit ? len | ~LEN_MASK : len;
  }

  lsn(version: number): number {
    return this.#lsns[version >> PIECE_BITS][(version & ROW_MASK) * ROW_FLOATS];
  }

  prev(version: number): number {
    return this.#words[version >> PIECE_BITS][(version & ROW_MASK) * ROW_WORDS + PREV];
  }

  buffer(version: number): number {
    return this.#words[version >> PIECE_BITS][(version & ROW_MASK) * ROW_WORDS + BUFFER_TAG] >>> TAG_BITS;
  }

  tag(version: number): number {
    return this.#words[version >> PIECE_BITS][(version & ROW_MASK) * ROW_WORDS + BUFFER_TAG] & TAG_MASK;
  }

  off(version: number): number {
    return this.#words[version >> PIECE_BITS][(version & ROW_MASK) * ROW_WORDS + OFF];
  }

  len(version: number): number {
    return this.#words[version >> PIECE_BITS][(version & ROW_MASK) * ROW_WORDS + LEN_FLAGS] & LEN_MASK;
  }

  willInit(version: number): boolean {
    return this.#words[version >> PIECE_BITS][(version & ROW_MASK) * ROW_WORDS + LEN_FLAGS] < 0;
  }

  #addPiece(piece: Uint8Array): void {
    this.#pieces.push(piece);
    this.#words.push(new Int32Array(piece.buffer));
    this.#lsns.push(new Float64Array(piece.buffer));
  }
}
