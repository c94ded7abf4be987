/** heap_mask in src/backend/access/heap/heapam.c. Tuple layout: src/include/access/htup_details.h. */
import {
  maskPageHintBits,
  maskPageLsnAndChecksum,
  maskUnusedSpace,
  pdLower,
  readU16,
  writeU16,
} from "./common.ts";

const SIZE_OF_PAGE_HEADER = 24;
const LP_NORMAL = 1;

// HeapTupleHeaderData
const T_CID = 8;
const T_CTID_BLKNO = 12;
const T_CTID_POSID = 16;
const T_INFOMASK = 20;

const HEAP_XMIN_FROZEN = 0x0300;
const HEAP_XMAX_COMMITTED = 0x0400;
const HEAP_XMAX_INVALID = 0x0800;
const HEAP_XACT_MASK = 0xfff0;
/** ip_posid of a speculative insertion, whose token is in the block number. */
const SPEC_TOKEN_OFFSET_NUMBER = 0xfffe;

/** Hint bits, command ids, speculative tokens and padding. */
export function maskHeap(page: Uint8Array, blkno: number): void {
  maskPageLsnAndChecksum(page);
  maskPageHintBits(page);
  maskUnusedSpace(page);
  const count = (pdLower(page) - SIZE_OF_PAGE_HEADER) >> 2;
  for (let off = 1; off <= count; off++) {
    const at = SIZE_OF_PAGE_HEADER + 4 * (off - 1);
    const raw = readU16(page, at) | (readU16(page, at + 2) << 16);
    const tuple = raw & 0x7fff;
    const length = raw >>> 17;
    if (((raw >>> 15) & 3) === LP_NORMAL) maskTuple(page, tuple, blkno, off);
    if (length !== 0) page.fill(0, tuple + length, tuple + ((length + 7) & ~7));
  }
}

function maskTuple(page: Uint8Array, tuple: number, blkno: number, off: number): void {
  const infomask = readU16(page, tuple + T_INFOMASK);
  const frozen = (infomask & HEAP_XMIN_FROZEN) === HEAP_XMIN_FROZEN;
  const masked = frozen ? HEAP_XMAX_INVALID | HEAP_XMAX_COMMITTED : HEAP_XACT_MASK;
  writeU16(page, tuple + T_INFOMASK, infomask & ~masked);
  page.fill(0, tuple + T_CID, tuple + T_CID + 4);
  if (readU16(page, tuple + T_CTID_POSID) === SPEC_TOKEN_OFFSET_NUMBER) {
    writeU16(page, tuple + T_CTID_BLKNO, blkno >>> 16);
    writeU16(page, tuple + T_CTID_BLKNO + 2, blkno);
    writeU16(page, tuple + T_CTID_POSID, off);
  }
}
