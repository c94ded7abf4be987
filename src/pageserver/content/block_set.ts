/**
 * A set of block numbers: one bit for each block, in pieces that exist only where they have blocks.
 */
import { assert } from "../../common/assert.ts";

const PIECE_BITS = 13;
const PIECE_BLOCKS = 1 << PIECE_BITS;

export class BlockSet {
  /** Pieces by block number, without its low bits. */
  readonly #pieces = new Map<number, Uint32Array>();
  #count = 0;

  /** How many blocks are in the set. */
  get count(): number {
    return this.#count;
  }

  add(block: number): void {
    const pieceNo = block >>> PIECE_BITS;
    let piece = this.#pieces.get(pieceNo);
    if (piece === undefined) this.#pieces.set(pieceNo, piece = new Uint32Array(PIECE_BLOCKS / 32));
    const word = (block & (PIECE_BLOCKS - 1)) >>> 5;
    const bit = 1 << (block & 31);
    if ((piece[word] & bit) !== 0) return;
    piece[word] |= bit;
    this.#count++;
  }

  has(block: number): boolean {
    const word = this.#pieces.get(block >>> PIECE_BITS)?.[(block & (PIECE_BLOCKS - 1)) >>> 5] ?? 0;
    return (word & 1 << (block & 31)) !== 0;
  }

  /** The blocks in ascending order. */
  *blocks(): Generator<number> {
    for (const pieceNo of [...this.#pieces.keys()].sort((x, y) => x - y)) {
      const piece = this.#pieces.get(pieceNo)!;
      for (let word = 0; word < piece.length; word++) {
        for (let bits = piece[word]; bits !== 0; bits &= bits - 1) {
          yield pieceNo * PIECE_BLOCKS + word * 32 + 31 - Math.clz32(bits & -bits);
        }
      }
    }
  }

  /**
   * Returns ranges that cover the set. The first block of a range and the block after its last
   * alternate.
   *
   * @param max the most ranges; to stay within it, they may cover other blocks too
   */
  ranges(max: number): number[] {
    assert(max > 0, "some range is needed");
    for (let gap = 0;; gap = 2 * gap + 1) {
      const ranges: number[] = [];
      for (const block of this.blocks()) {
        if (ranges.length > 0 && block - ranges[ranges.length - 1] <= gap) {
          ranges[ranges.length - 1] = block + 1;
        } else if (ranges.length === 2 * max) {
          ranges.push(block);
          break;
        } else ranges.push(block, block + 1);
      }
      if (ranges.length <= 2 * max) return ranges;
    }
  }
}
