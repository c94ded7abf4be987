/**
 * One LZ4 block (no frame), as LZ4_compress_default makes them for full-page images.
 *
 * Format: https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md
 */

/** A run length of this much in a token is continued in the bytes that follow. */
const LENGTH_CONTINUES = 15;
const MIN_MATCH = 4;

/**
 * Unpacks `src[srcOff .. srcOff + srcLen)` to exactly `dstLen` bytes at `dst[dstOff..]`.
 *
 * Never reads outside the source range nor writes outside the destination range.
 *
 * @returns whether the block was well-formed and filled the destination
 */
export function decompressLz4(
  src: Uint8Array,
  srcOff: number,
  srcLen: number,
  dst: Uint8Array,
  dstOff: number,
  dstLen: number,
): boolean {
  const dstEnd = dstOff + dstLen;
  return unpackLz4Block(src, srcOff, srcLen, dst, dstOff, dstEnd, dstOff) === dstEnd;
}

/**
 * Unpacks a block of unknown length to `dst[dstOff..]`.
 *
 * @param dstEnd where it must end at the latest
 * @param windowOff where the bytes begin that it may repeat, at or below `dstOff`
 * @returns where it ends; -1 when it is malformed
 */
export function unpackLz4Block(
  src: Uint8Array,
  srcOff: number,
  srcLen: number,
  dst: Uint8Array,
  dstOff: number,
  dstEnd: number,
  windowOff: number,
): number {
  const srcEnd = srcOff + srcLen;
  let from = srcOff;
  let to = dstOff;
  while (from < srcEnd) {
    const token = src[from++];
    let literals = token >> 4;
    if (literals === LENGTH_CONTINUES) {
      let more;
      do {
        if (from >= srcEnd) return -1;
        more = src[from++];
        literals += more;
      } while (more === 0xff);
    }
    if (literals > srcEnd - from || literals > dstEnd - to) return -1;
    for (const end = to + literals; to < end;) dst[to++] = src[from++];
    // The last sequence of a block has no match.
    if (from === srcEnd) return to;

    if (srcEnd - from < 2) return -1;
    const distance = src[from] | (src[from + 1] << 8);
    from += 2;
    if (distance === 0 || distance > to - windowOff) return -1;
    let length = (token & 0x0f) + MIN_MATCH;
    if (length === LENGTH_CONTINUES + MIN_MATCH) {
      let more;
      do {
        if (from >= srcEnd) return -1;
        more = src[from++];
        length += more;
      } while (more === 0xff);
    }
    if (length > dstEnd - to) return -1;
    // Byte by byte: a match may reach into what it writes.
    for (const end = to + length; to < end; to++) dst[to] = dst[to - distance];
  }
  return -1;
}
