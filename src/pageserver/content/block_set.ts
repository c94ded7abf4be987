/** A set of block numbers: a bit for each, in pieces that hold any. */
import { assert } from "../../common/assert.ts";

const PIECE_BITS = 13;
const PIECE_BLOCKS = 1 << PIECE_BITS;

export class BlockSet {
  /** By block number without its low bits. */
  readonly #pieces = new Map<number, Uint32Array>();
  #count = 0;

  /** How many blocks are in it. */
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

  /** Ascending. */
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
   * Ranges that cover it: the first block of each, and the one after its last, in turns.
   *
   * @param max so many ranges at most, which then cover others too
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
