/**
 * PostgreSQL's own compression, as in full-page images with wal_compression=pglz.
 *
 * Format: src/common/pg_lzcompress.c. A control byte announces eight items, lowest bit first: 0 is
 * a literal byte, 1 a match of two bytes (4 bits of the distance, 4 bits of the length, 8 bits of
 * the distance) or three.
 */

const MIN_MATCH = 3;
/** The largest length that fits the two-byte form; from here a third byte is added to it. */
const LONG_MATCH = 18;

/**
 * Unpacks `src[srcOff .. srcOff + srcLen)` to exactly `dstLen` bytes at `dst[dstOff..]`.
 *
 * Never reads outside the source range nor writes outside the destination range.
 *
 * @returns whether the input was well-formed, was used up and filled the destination
 */
export function decompressPglz(
  src: Uint8Array,
  srcOff: number,
  srcLen: number,
  dst: Uint8Array,
  dstOff: number,
  dstLen: number,
): boolean {
  const srcEnd = srcOff + srcLen;
  const dstEnd = dstOff + dstLen;
  let from = srcOff;
  let to = dstOff;
  while (from < srcEnd && to < dstEnd) {
    let control = src[from++];
    for (let item = 0; item < 8 && from < srcEnd && to < dstEnd; item++, control >>= 1) {
      if ((control & 1) === 0) {
        dst[to++] = src[from++];
        continue;
      }
      if (srcEnd - from < 2) return false;
      let length = (src[from] & 0x0f) + MIN_MATCH;
      const distance = ((src[from] & 0xf0) << 4) | src[from + 1];
      from += 2;
      if (length === LONG_MATCH) {
        if (from >= srcEnd) return false;
        length += src[from++];
      }
      if (distance === 0 || distance > to - dstOff) return false;
      // The last match of the input may be longer than what is left to fill.
      const end = Math.min(to + length, dstEnd);
      for (; to < end; to++) dst[to] = dst[to - distance];
    }
  }
  return from === srcEnd && to === dstEnd;
}
