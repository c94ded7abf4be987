/**
 * GIN's compressed posting lists ("segments"): ascending heap item pointers, the first one in full,
 * then the difference of each to the one before.
 *
 * An item pointer counts as the 43-bit integer block * 2^11 + offset. A difference is stored in 1
 * to 7 bytes of 7 bits, least significant first, the high bit set on all but the last. Layout:
 * GinPostingList in src/include/access/ginblock.h; encoding:
 * src/backend/access/gin/ginpostinglist.c.
 *
 * All addresses are workspace addresses; all items are such 43-bit integers, which a double holds
 * exactly.
 */
import { RedoError } from "../page/errors.ts";
import { setItemPointer, SIZE_OF_ITEM_POINTER } from "../page/item_pointer.ts";
import { setU16, u16, W8 } from "../page/workspace.ts";

// GinPostingList: ItemPointerData first, uint16 nbytes, bytes
const NBYTES = SIZE_OF_ITEM_POINTER;
export const SIZE_OF_POSTING_LIST_HEADER = 8;

/** MaxHeapTuplesPerPageBits: how many bits of an item are its offset number. */
const OFFSET_BITS = 11;
const OFFSET_LIMIT = 1 << OFFSET_BITS;
/** Items are below this: 32 bits of block, 11 of offset. */
const ITEM_LIMIT = 2 ** 43;

/** Four varbyte bytes carry this many bits; above them the arithmetic leaves 32-bit integers. */
const LOW_BITS = 28;
const LOW_LIMIT = 1 << LOW_BITS;
/** What is left above the low bits must fit 43 bits in all. */
const HIGH_LIMIT = 1 << (43 - LOW_BITS);

/**
 * Reads an ItemPointerData (block high half, block low half, offset) as an item. @throws
 * {RedoError} on a bad offset
 */
export function readItemPointer(at: number): number {
  const offset = u16(at + 4);
  if (offset === 0 || offset >= OFFSET_LIMIT) {
    throw new RedoError(`posting list item with offset ${offset}: expected 1 to ${OFFSET_LIMIT - 1}`);
  }
  return (u16(at) * 0x10000 + u16(at + 2)) * OFFSET_LIMIT + offset;
}

function writeItem(at: number, item: number): void {
  setItemPointer(at, Math.floor(item / OFFSET_LIMIT), item % OFFSET_LIMIT);
}

/**
 * SizeOfGinPostingList: bytes of the segment at `at`, a multiple of two.
 *
 * @throws {RedoError} when it does not end at or before `end`
 */
export function postingListSize(at: number, end: number): number {
  if (at + SIZE_OF_POSTING_LIST_HEADER > end) {
    throw new RedoError(
      `posting list segment is cut off: ${
        end - at
      } bytes left, its header takes ${SIZE_OF_POSTING_LIST_HEADER}`,
    );
  }
  const nbytes = u16(at + NBYTES);
  const size = SIZE_OF_POSTING_LIST_HEADER + nbytes + (nbytes & 1);
  if (at + size > end) {
    throw new RedoError(`posting list segment of ${size} bytes, but only ${end - at} bytes left`);
  }
  return size;
}

/**
 * Decodes one segment into `items`, from index 0.
 *
 * @param end where the room that the segment must lie in ends
 * @returns how many items it held
 * @throws {RedoError} when the segment is malformed or holds more items than `items` takes
 */
export function decodePostingList(at: number, end: number, items: Float64Array): number {
  postingListSize(at, end);
  let read = at + SIZE_OF_POSTING_LIST_HEADER;
  const bytesEnd = read + u16(at + NBYTES);
  let item = readItemPointer(at);
  items[0] = item;
  let count = 1;
  while (read < bytesEnd) {
    let byte = W8[read++];
    let low = byte & 0x7f;
    let high = 0;
    // Reading past bytesEnd stays inside the workspace (7 bytes at most) and is detected below.
    if (byte >= 0x80) {
      byte = W8[read++];
      low |= (byte & 0x7f) << 7;
      if (byte >= 0x80) {
        byte = W8[read++];
        low |= (byte & 0x7f) << 14;
        if (byte >= 0x80) {
          byte = W8[read++];
          low |= (byte & 0x7f) << 21;
          for (let shift = 0; byte >= 0x80; shift += 7) {
            if (shift > 14) throw new RedoError("posting list integer takes more than 7 bytes");
            byte = W8[read++];
            high |= (byte & 0x7f) << shift;
          }
        }
      }
    }
    if (read > bytesEnd) throw new RedoError("posting list ends within an integer");
    if (high >= HIGH_LIMIT || (low === 0 && high === 0)) {
      throw new RedoError(`posting list difference ${high * LOW_LIMIT + low} is outside 1 to 2^43-1`);
    }
    item += high * LOW_LIMIT + low;
    if (item >= ITEM_LIMIT) throw new RedoError("posting list item is beyond the last block number");
    if (count >= items.length) throw new RedoError(`posting list holds more than ${items.length} items`);
    items[count++] = item;
  }
  return count;
}

/**
 * Encodes `count` ascending items (at least one) as a segment at `at`. An odd number of bytes is
 * padded with a zero.
 *
 * @param capacity how many bytes there are for it at `at`
 * @returns the size of the segment
 * @throws {RedoError} when the items do not ascend or do not fit
 */
export function encodePostingList(items: Float64Array, count: number, at: number, capacity: number): number {
  if (count < 1 || capacity < SIZE_OF_POSTING_LIST_HEADER) {
    throw new RedoError(`no posting list of ${count} items fits into ${capacity} bytes`);
  }
  // like ginCompressPostingList, which rounds down so that a padding byte always fits
  const end = at + (capacity & ~1);
  const start = at + SIZE_OF_POSTING_LIST_HEADER;
  let item = items[0];
  writeItem(at, item);
  let write = start;
  for (let i = 1; i < count; i++) {
    const next = items[i];
    const delta = next - item;
    item = next;
    if (delta <= 0) throw new RedoError("posting list items do not ascend");
    if (write + varbyteLength(delta) > end) {
      throw new RedoError(`posting list of ${count} items does not fit into ${capacity} bytes`);
    }
    let rest = delta;
    if (delta >= LOW_LIMIT) {
      const low = delta % LOW_LIMIT;
      W8[write++] = low | 0x80;
      W8[write++] = (low >>> 7) | 0x80;
      W8[write++] = (low >>> 14) | 0x80;
      W8[write++] = (low >>> 21) | 0x80;
      rest = (delta - low) / LOW_LIMIT;
    }
    while (rest > 0x7f) {
      W8[write++] = rest | 0x80;
      rest >>>= 7;
    }
    W8[write++] = rest;
  }
  const nbytes = write - start;
  setU16(at + NBYTES, nbytes);
  if ((nbytes & 1) !== 0) W8[write++] = 0;
  return write - at;
}

/** How many bytes a difference takes. */
function varbyteLength(delta: number): number {
  let length = 1;
  let rest = delta;
  if (delta >= LOW_LIMIT) {
    length = 5;
    rest = delta / LOW_LIMIT;
  }
  while (rest >= 0x80) {
    rest /= 0x80;
    length++;
  }
  return length;
}

/**
 * Merges two ascending lists into `merged`; an item in both appears once (ginMergeItemPointers).
 *
 * @returns how many items came out
 */
export function mergeItems(
  a: Float64Array,
  aCount: number,
  b: Float64Array,
  bCount: number,
  merged: Float64Array,
): number {
  let i = 0;
  let j = 0;
  let count = 0;
  while (i < aCount && j < bCount) {
    const left = a[i];
    const right = b[j];
    if (left <= right) i++;
    if (right <= left) j++;
    merged[count++] = left <= right ? left : right;
  }
  while (i < aCount) merged[count++] = a[i++];
  while (j < bCount) merged[count++] = b[j++];
  return count;
}
