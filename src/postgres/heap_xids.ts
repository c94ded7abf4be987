/** Tells whether the rows of a heap page are some transactions' work, without a server. */
import { BLCKSZ, isHeapPage, isPageNew, SIZE_OF_PAGE_HEADER } from "./cluster/page_layout.ts";
import {
  HEAP_XMAX_INVALID,
  HEAP_XMAX_IS_MULTI,
  SIZE_OF_HEAP_TUPLE_HEADER,
  T_INFOMASK,
  T_XMAX,
  T_XMIN,
} from "./redo/heap/heap_tuple.ts";

const PD_LOWER = 12;
const SIZE_OF_ITEM_ID = 4;
const LP_NORMAL = 1;

/**
 * Whether one of `xids` inserted, deleted or locked a row of the page. It says yes, too, where a
 * multixact may hide one of them.
 */
export function hasRowsOf(xids: ReadonlySet<number>, page: Uint8Array): boolean {
  if (isPageNew(page) || !isHeapPage(page, 0)) return false;
  const view = new DataView(page.buffer, page.byteOffset, BLCKSZ);
  const lower = Math.min(view.getUint16(PD_LOWER, true), BLCKSZ);
  for (let at = SIZE_OF_PAGE_HEADER; at + SIZE_OF_ITEM_ID <= lower; at += SIZE_OF_ITEM_ID) {
    const item = view.getUint32(at, true);
    const off = item & 0x7fff;
    if ((item >>> 15 & 3) !== LP_NORMAL || off + SIZE_OF_HEAP_TUPLE_HEADER > BLCKSZ) continue;
    if (xids.has(view.getUint32(off + T_XMIN, true))) return true;
    const mask = view.getUint16(off + T_INFOMASK, true);
    if ((mask & HEAP_XMAX_INVALID) !== 0) continue;
    if ((mask & HEAP_XMAX_IS_MULTI) !== 0 || xids.has(view.getUint32(off + T_XMAX, true))) return true;
  }
  return false;
}
