/**
 * The header that all pages share, on any byte array: PageHeaderData in
 * src/include/storage/bufpage.h. (Redo has its own accessors, which work in its workspace:
 * redo/page.ts.)
 */
export const BLCKSZ = 8192;

/** SizeOfPageHeaderData. */
export const SIZE_OF_PAGE_HEADER = 24;

const PD_LOWER = 12;
const PD_UPPER = 14;
const PD_SPECIAL = 16;
const PD_PAGESIZE_VERSION = 18;
/** Page size and layout version 4 in one field. */
const PAGESIZE_VERSION = BLCKSZ | 4;
const SIZE_OF_ITEM_ID = 4;
/** MaxHeapTuplesPerPage: line pointers a heap page may have. */
const MAX_HEAP_TUPLES_PER_PAGE = 291;
/** PD_HAS_FREE_LINES in pd_flags. */
const PD_HAS_FREE_LINES = 0x0001;
const PD_FLAGS = 10;

function u16(page: Uint8Array, at: number): number {
  return page[at] | (page[at + 1] << 8);
}

function setU16(page: Uint8Array, at: number, value: number): void {
  page[at] = value;
  page[at + 1] = value >>> 8;
}

/** Writes the header of an empty page at `at`; the rest of the page must be zeros. */
export function initPageHeader(page: Uint8Array, at: number, special: number): void {
  setU16(page, at + PD_LOWER, SIZE_OF_PAGE_HEADER);
  setU16(page, at + PD_UPPER, special);
  setU16(page, at + PD_SPECIAL, special);
  setU16(page, at + PD_PAGESIZE_VERSION, PAGESIZE_VERSION);
}

/** PageIsNew: nothing was ever put on the page at `at`. */
export function isPageNew(page: Uint8Array, at = 0): boolean {
  return u16(page, at + PD_UPPER) === 0;
}

/** Whether an initialised page belongs to a heap: only heap pages have no special space. */
export function isHeapPage(page: Uint8Array, at: number): boolean {
  return u16(page, at + PD_SPECIAL) === BLCKSZ;
}

/** PageGetHeapFreeSpace: bytes that a new tuple may take on the heap page at `at`. */
export function heapFreeSpace(page: Uint8Array, at: number): number {
  if (isPageNew(page, at)) return BLCKSZ - SIZE_OF_PAGE_HEADER;
  const lower = u16(page, at + PD_LOWER);
  const free = u16(page, at + PD_UPPER) - lower - SIZE_OF_ITEM_ID;
  if (free <= 0) return 0;
  const linePointers = (lower - SIZE_OF_PAGE_HEADER) / SIZE_OF_ITEM_ID;
  const full = linePointers >= MAX_HEAP_TUPLES_PER_PAGE &&
    (u16(page, at + PD_FLAGS) & PD_HAS_FREE_LINES) === 0;
  return full ? 0 : free;
}
