/** Item pointers (TIDs) on pages. Layout: ItemPointerData in src/include/storage/itemptr.h. */
import { setU16 } from "./workspace.ts";

/** sizeof(ItemPointerData): bi_hi, bi_lo, ip_posid. */
export const SIZE_OF_ITEM_POINTER = 6;
export const INVALID_BLOCK_NUMBER = 0xffffffff;
export const INVALID_OFFSET_NUMBER = 0;

/** Writes (`blkno`, `off`) at workspace address `at`. The block number's upper half comes first. */
export function setItemPointer(at: number, blkno: number, off: number): void {
  setU16(at, blkno >>> 16);
  setU16(at + 2, blkno);
  setU16(at + 4, off);
}
