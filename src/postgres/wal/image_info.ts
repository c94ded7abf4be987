/** Translates a major's image flags to the ones that we use. */
import { UNKNOWN_IMAGE_INFO } from "./wal_format.ts";

/**
 * The table of WalFormat.imageInfo for a major whose bimg_info has these bits.
 *
 * @param bits each bit as the record stores it, and the BKPIMAGE_* that it means
 */
export function imageInfoTable(bits: readonly (readonly [stored: number, meaning: number])[]): Uint8Array {
  const table = new Uint8Array(0x100);
  for (let stored = 0; stored < table.length; stored++) {
    let left = stored;
    let meaning = 0;
    for (const [bit, means] of bits) {
      if ((left & bit) === 0) continue;
      left &= ~bit;
      meaning |= means;
    }
    table[stored] = left === 0 ? meaning : UNKNOWN_IMAGE_INFO;
  }
  return table;
}
