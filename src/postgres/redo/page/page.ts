/**
 * Operations on a page in the workspace, as src/backend/storage/page/bufpage.c defines them for
 * version 4 pages: a header, line pointers that grow upwards from it, items that grow downwards
 * from the access method's special space.
 *
 * `page` is always the workspace address of an 8-byte aligned page, `off` a 1-based offset number.
 * Whatever a damaged page or record says, these functions never write outside `page`; they throw
 * {@link RedoError} instead.
 */
import { RedoError } from "./errors.ts";
import { BLCKSZ, copy, SCRATCH, SCRATCH_SIZE, u16, W16, W32, W8 } from "./workspace.ts";

// PageHeaderData, src/include/storage/bufpage.h: byte offsets
export const PD_LSN = 0;
export const PD_CHECKSUM = 8;
export const PD_FLAGS = 10;
export const PD_LOWER = 12;
export const PD_UPPER = 14;
export const PD_SPECIAL = 16;
export const PD_PAGESIZE_VERSION = 18;
export const PD_PRUNE_XID = 20;
/** pd_linp: where the line pointers start. */
export const SIZE_OF_PAGE_HEADER = 24;

/** Page size and layout version share a word: the size's low byte is zero. */
const PAGESIZE_VERSION = BLCKSZ | 4;

// pd_flags
export const PD_HAS_FREE_LINES = 0x0001;
export const PD_PAGE_FULL = 0x0002;
export const PD_ALL_VISIBLE = 0x0004;

// ItemIdData: lp_off in the low 15 bits, lp_flags in two, lp_len in the high 15
export const LP_UNUSED = 0;
export const LP_NORMAL = 1;
export const LP_REDIRECT = 2;
export const LP_DEAD = 3;
export const SIZE_OF_ITEM_ID = 4;
const LP_OFF_MASK = 0x7fff;
const LP_FLAGS_SHIFT = 15;
const LP_LEN_SHIFT = 17;

/** More line pointers than this can't be between the header and the end of a page. */
const MAX_LINE_POINTERS = (BLCKSZ - SIZE_OF_PAGE_HEADER) / SIZE_OF_ITEM_ID;

/** MaxHeapTuplesPerPage: every heap tuple has a line pointer and a header of 24 aligned bytes. */
export const MAX_HEAP_TUPLES_PER_PAGE = 291;

/**
 * The last scratch page belongs to this module: items that change places are copied aside there.
 */
const COMPACTION_SCRATCH = SCRATCH + SCRATCH_SIZE - BLCKSZ;

/** Rounds up to the 8 bytes that items and the special space are aligned to (MAXALIGN). */
export function maxAlign(size: number): number {
  return (size + 7) & ~7;
}

// Page header

/** PageInit: an empty page with `specialSize` bytes of special space, all zeros. */
export function pageInit(page: number, specialSize: number): void {
  W8.fill(0, page, page + BLCKSZ);
  const special = BLCKSZ - maxAlign(specialSize);
  setPdLower(page, SIZE_OF_PAGE_HEADER);
  setPdUpper(page, special);
  W16[(page + PD_SPECIAL) >> 1] = special;
  W16[(page + PD_PAGESIZE_VERSION) >> 1] = PAGESIZE_VERSION;
}

/** PageIsNew: allocated, but never initialised. */
export function pageIsNew(page: number): boolean {
  return pdUpper(page) === 0;
}

/**
 * pd_lsn as a number. A page from outside can hold any 64 bits; above 2^53 the result is rounded.
 */
export function pageGetLsn(page: number): number {
  return (W32[page >> 2] >>> 0) * 0x1_0000_0000 + (W32[(page + 4) >> 2] >>> 0);
}

export function pageSetLsn(page: number, lsn: number): void {
  W32[page >> 2] = Math.floor(lsn / 0x1_0000_0000);
  W32[(page + 4) >> 2] = lsn >>> 0;
}

export function pdFlags(page: number): number {
  return W16[(page + PD_FLAGS) >> 1];
}

export function setPdFlags(page: number, flags: number): void {
  W16[(page + PD_FLAGS) >> 1] = flags;
}

export function pdLower(page: number): number {
  return W16[(page + PD_LOWER) >> 1];
}

export function setPdLower(page: number, lower: number): void {
  W16[(page + PD_LOWER) >> 1] = lower;
}

export function pdUpper(page: number): number {
  return W16[(page + PD_UPPER) >> 1];
}

export function setPdUpper(page: number, upper: number): void {
  W16[(page + PD_UPPER) >> 1] = upper;
}

export function pdSpecial(page: number): number {
  return W16[(page + PD_SPECIAL) >> 1];
}

export function setPdPruneXid(page: number, xid: number): void {
  W32[(page + PD_PRUNE_XID) >> 2] = xid;
}

// Line pointers

/**
 * PageGetMaxOffsetNumber: how many line pointers the page has; 0 for an empty or new page.
 * @throws {RedoError} when pd_lower is beyond the page
 */
export function pageMaxOffset(page: number): number {
  const lower = pdLower(page);
  if (lower > BLCKSZ) throw new RedoError(`pd_lower ${lower} is beyond the page`);
  return lower <= SIZE_OF_PAGE_HEADER ? 0 : (lower - SIZE_OF_PAGE_HEADER) >> 2;
}

function lpOff(raw: number): number {
  return raw & LP_OFF_MASK;
}

export function lpFlags(raw: number): number {
  return (raw >>> LP_FLAGS_SHIFT) & 3;
}

/** 0 when the line pointer has no storage. */
export function lpLen(raw: number): number {
  return raw >>> LP_LEN_SHIFT;
}

/** Composes a raw line pointer. */
export function makeItemId(off: number, flags: number, len: number): number {
  return off | (flags << LP_FLAGS_SHIFT) | (len << LP_LEN_SHIFT);
}

/**
 * The raw line pointer at offset number `off`.
 * @throws {RedoError} when the page has no such line pointer
 */
export function itemId(page: number, off: number): number {
  return W32[itemIdIndex(page, off)];
}

/** @throws {RedoError} when the page has no line pointer `off` */
export function setItemId(page: number, off: number, raw: number): void {
  W32[itemIdIndex(page, off)] = raw;
}

/**
 * Where the item of line pointer `off` lies in the workspace; it has {@link lpLen} bytes, all
 * between the line pointers and the special space.
 * @throws {RedoError} when there is no such line pointer, it has no storage, or it points elsewhere
 */
export function itemAddress(page: number, off: number): number {
  const raw = itemId(page, off);
  const at = lpOff(raw);
  const len = lpLen(raw);
  const special = pdSpecial(page);
  if (len === 0 || at < pdLower(page) || at + len > special || special > BLCKSZ) {
    throw new RedoError(`line pointer ${off} has no item on the page: lp_off ${at}, lp_len ${len}`);
  }
  return page + at;
}

function itemIdIndex(page: number, off: number): number {
  if (off < 1 || off > pageMaxOffset(page)) {
    throw new RedoError(`there is no line pointer ${off}: the page has ${pageMaxOffset(page)}`);
  }
  return linePointers(page) + off;
}

/**
 * Index in W32 of the imaginary line pointer 0, so that `linePointers(page) + off` is that of
 * offset number `off`.
 */
function linePointers(page: number): number {
  return (page >> 2) + (SIZE_OF_PAGE_HEADER / SIZE_OF_ITEM_ID - 1);
}

/**
 * @throws {RedoError} unless header, free space, items and special space follow each other inside
 *   the page
 */
function checkPagePointers(page: number): void {
  const lower = pdLower(page);
  const upper = pdUpper(page);
  const special = pdSpecial(page);
  if (
    lower < SIZE_OF_PAGE_HEADER || lower > upper || upper > special || special > BLCKSZ ||
    special !== maxAlign(special)
  ) {
    throw new RedoError(
      `corrupted page pointers: pd_lower ${lower}, pd_upper ${upper}, pd_special ${special}`,
    );
  }
}

/**
 * @throws {RedoError} unless the line pointer's item is aligned and between pd_upper and pd_special
 */
function checkStorage(page: number, off: number, raw: number): void {
  const at = lpOff(raw);
  if (at < pdUpper(page) || at + lpLen(raw) > pdSpecial(page) || at !== maxAlign(at)) {
    throw new RedoError(`corrupted line pointer ${off}: lp_off ${at}, lp_len ${lpLen(raw)}`);
  }
}

// Adding items

/**
 * PageAddItemExtended without PAI_OVERWRITE: makes room for an item of `size` bytes at offset
 * number `off`, moving the line pointers from there on one up. The caller copies the item to the
 * address that is returned.
 * @throws {RedoError} when it does not fit or `off` leaves a gap
 */
export function pageAddItem(page: number, size: number, off: number): number {
  checkPagePointers(page);
  const limit = pageMaxOffset(page) + 1;
  if (off < 1 || off > limit) throw offsetError(off, limit);
  const at = allocateItem(page, size, pdLower(page) + SIZE_OF_ITEM_ID);
  const linp = linePointers(page) + off;
  if (off < limit) W32.copyWithin(linp + 1, linp, linePointers(page) + limit);
  W32[linp] = makeItemId(at, LP_NORMAL, size);
  return page + at;
}

/**
 * PageAddItemExtended with PAI_OVERWRITE: like {@link pageAddItem}, but an existing line pointer
 * `off` must be unused and is reused, so no other line pointer moves.
 * @throws {RedoError} when it does not fit, `off` leaves a gap, or the line pointer is in use
 */
export function pageAddItemOverwrite(page: number, size: number, off: number): number {
  checkPagePointers(page);
  const limit = pageMaxOffset(page) + 1;
  if (off < 1 || off > limit) throw offsetError(off, limit);
  const linp = linePointers(page) + off;
  let lower = pdLower(page);
  if (off === limit) {
    lower += SIZE_OF_ITEM_ID;
  } else {
    const raw = W32[linp];
    if (lpFlags(raw) !== LP_UNUSED || lpLen(raw) !== 0) {
      throw new RedoError(`line pointer ${off} is in use, so no item can be put there`);
    }
  }
  const at = allocateItem(page, size, lower);
  W32[linp] = makeItemId(at, LP_NORMAL, size);
  return page + at;
}

/**
 * PageAddItemExtended with PAI_OVERWRITE and PAI_IS_HEAP: {@link pageAddItemOverwrite} with the
 * heap's own limit.
 * @throws {RedoError} as it does, and when `off` is above {@link MAX_HEAP_TUPLES_PER_PAGE}
 */
export function pageAddHeapTuple(page: number, size: number, off: number): number {
  if (off > MAX_HEAP_TUPLES_PER_PAGE) throw offsetError(off, MAX_HEAP_TUPLES_PER_PAGE);
  return pageAddItemOverwrite(page, size, off);
}

/**
 * Takes `size` bytes, aligned, from the free space, whose lower end becomes `lower`. Returns
 * lp_off.
 */
function allocateItem(page: number, size: number, lower: number): number {
  const upper = pdUpper(page) - maxAlign(size);
  if (size < 0 || lower > upper) {
    throw new RedoError(
      `an item of ${size} bytes does not fit: pd_lower ${pdLower(page)}, pd_upper ${pdUpper(page)}`,
    );
  }
  setPdLower(page, lower);
  setPdUpper(page, upper);
  return upper;
}

function offsetError(off: number, limit: number): RedoError {
  return new RedoError(`offset number ${off} is outside 1..${limit}`);
}

// Deleting and replacing index tuples

/**
 * PageIndexTupleDelete: removes the item and its line pointer; those after it move down by one.
 * @throws {RedoError} when there is no such item or the page is damaged
 */
export function pageIndexTupleDelete(page: number, off: number): void {
  const raw = checkedIndexItem(page, off);
  const last = pageMaxOffset(page);
  const linp = linePointers(page);
  W32.copyWithin(linp + off, linp + off + 1, linp + last + 1);
  setPdLower(page, pdLower(page) - SIZE_OF_ITEM_ID);
  shiftItemsUpTo(page, lpOff(raw), maxAlign(lpLen(raw)));
}

/**
 * PageIndexTupleDeleteNoCompact: removes the item. Its line pointer stays as an unused one, except
 * when it is the last.
 * @throws {RedoError} when there is no such item or the page is damaged
 */
export function pageIndexTupleDeleteNoCompact(page: number, off: number): void {
  const raw = checkedIndexItem(page, off);
  if (off < pageMaxOffset(page)) W32[linePointers(page) + off] = 0;
  else setPdLower(page, pdLower(page) - SIZE_OF_ITEM_ID);
  shiftItemsUpTo(page, lpOff(raw), maxAlign(lpLen(raw)));
}

/**
 * PageIndexTupleOverwrite: replaces an item by the `size` bytes at workspace address `src` (which
 * is outside `page`). Its lp_flags and all line pointers stay; items before it move if the aligned
 * size changes.
 * @throws {RedoError} when there is no such item, the new one does not fit, or the page is damaged
 */
export function pageIndexTupleOverwrite(page: number, off: number, src: number, size: number): void {
  const raw = checkedIndexItem(page, off);
  const oldSize = maxAlign(lpLen(raw));
  const newSize = maxAlign(size);
  if (newSize > oldSize + pdUpper(page) - pdLower(page)) {
    throw new RedoError(`an item of ${size} bytes does not fit in place of line pointer ${off}`);
  }
  const by = oldSize - newSize;
  if (by !== 0) shiftItemsUpTo(page, lpOff(raw), by);
  const at = lpOff(raw) + by;
  W32[linePointers(page) + off] = makeItemId(at, lpFlags(raw), size);
  copy(page + at, src, size);
}

/**
 * PageIndexMultiDelete: removes the items whose `count` offset numbers, ascending, lie as 16-bit
 * values at workspace address `offsets` (any alignment, outside `page`).
 * @throws {RedoError} when one isn't there, they are out of order, or the page is damaged
 */
export function pageIndexMultiDelete(page: number, offsets: number, count: number): void {
  if (count <= 2) {
    // This is not only a short cut: the order of items on the page depends on it.
    for (let i = count - 1; i >= 0; i--) pageIndexTupleDelete(page, u16(offsets + 2 * i));
    return;
  }
  checkPagePointers(page);
  const linp = linePointers(page);
  const last = pageMaxOffset(page);
  let next = 0;
  let kept = 0;
  for (let off = 1; off <= last; off++) {
    const raw = W32[linp + off];
    checkStorage(page, off, raw);
    if (next < count && u16(offsets + 2 * next) === off) {
      next++;
    } else {
      keptItems[kept++] = raw;
    }
  }
  if (next !== count) {
    throw new RedoError(`offset number ${u16(offsets + 2 * next)} to delete is missing or out of order`);
  }
  for (let i = 0; i < kept; i++) {
    W32[linp + 1 + i] = keptItems[i];
    storedOffsets[i] = i + 1;
  }
  setPdLower(page, SIZE_OF_PAGE_HEADER + kept * SIZE_OF_ITEM_ID);
  compactItems(page, kept);
}

/** The raw line pointer of an item that can be deleted or replaced. */
function checkedIndexItem(page: number, off: number): number {
  checkPagePointers(page);
  const raw = itemId(page, off);
  checkStorage(page, off, raw);
  return raw;
}

/**
 * Moves the items before lp_off `at` by `by` bytes towards the end of the page, and their line
 * pointers too.
 */
function shiftItemsUpTo(page: number, at: number, by: number): void {
  const upper = pdUpper(page);
  if (at > upper) copy(page + upper + by, page + upper, at - upper);
  setPdUpper(page, upper + by);
  const linp = linePointers(page);
  const last = pageMaxOffset(page);
  for (let off = 1; off <= last; off++) {
    const raw = W32[linp + off];
    if (lpLen(raw) !== 0 && lpOff(raw) <= at) {
      const moved = lpOff(raw) + by;
      if (moved < 0 || moved > BLCKSZ) {
        throw new RedoError(`corrupted line pointer ${off}: lp_off ${lpOff(raw)}`);
      }
      W32[linp + off] = (raw & ~LP_OFF_MASK) | moved;
    }
  }
}

// Compaction

/** The line pointers to keep, while a deletion is still checking the page. */
const keptItems = new Int32Array(MAX_LINE_POINTERS);
/** Offset numbers of the items with storage, ascending: their order from the end of the page. */
const storedOffsets = new Uint16Array(MAX_LINE_POINTERS);

/**
 * PageRepairFragmentation: packs a heap page's items together, drops unused line pointers at the
 * end, and sets PD_HAS_FREE_LINES by what is left.
 * @throws {RedoError} when the page is damaged
 */
export function pageRepairFragmentation(page: number): void {
  const lastUsed = packHeapTuples(page);
  const last = pageMaxOffset(page);
  setPdLower(page, pdLower(page) - (last - lastUsed) * SIZE_OF_ITEM_ID);
  setHasFreeLines(page, unusedLinePointers > last - lastUsed);
}

/**
 * PageRepairFragmentation before PostgreSQL 15: packs a heap page's items together and sets
 * PD_HAS_FREE_LINES, but keeps unused line pointers at the end.
 * @throws {RedoError} when the page is damaged
 */
export function pageRepairFragmentationKeepingLines(page: number): void {
  packHeapTuples(page);
  setHasFreeLines(page, unusedLinePointers > 0);
}

/** How many unused line pointers {@link packHeapTuples} found last. */
let unusedLinePointers = 0;

/** Packs the items together. Returns the last line pointer that is in use, 0 when none is. */
function packHeapTuples(page: number): number {
  checkPagePointers(page);
  const linp = linePointers(page);
  const last = pageMaxOffset(page);
  let stored = 0;
  let unused = 0;
  let lastUsed = 0;
  for (let off = 1; off <= last; off++) {
    const raw = W32[linp + off];
    if (lpFlags(raw) === LP_UNUSED) {
      W32[linp + off] = 0;
      unused++;
      continue;
    }
    lastUsed = off;
    if (lpLen(raw) !== 0) {
      checkStorage(page, off, raw);
      storedOffsets[stored++] = off;
    }
  }
  compactItems(page, stored);
  unusedLinePointers = unused;
  return lastUsed;
}

/**
 * PageTruncateLinePointerArray: drops unused line pointers at the end of a heap page, but never the
 * first one, and sets PD_HAS_FREE_LINES if an unused one is left.
 */
export function pageTruncateLinePointers(page: number): void {
  const linp = linePointers(page);
  const before = pageMaxOffset(page);
  let last = before;
  while (last > 1 && lpFlags(W32[linp + last]) === LP_UNUSED) last--;
  setPdLower(page, pdLower(page) - (before - last) * SIZE_OF_ITEM_ID);
  let hasFree = false;
  for (let off = last; off >= 1 && !hasFree; off--) hasFree = lpFlags(W32[linp + off]) === LP_UNUSED;
  setHasFreeLines(page, hasFree);
}

function setHasFreeLines(page: number, has: boolean): void {
  setPdFlags(page, has ? pdFlags(page) | PD_HAS_FREE_LINES : pdFlags(page) & ~PD_HAS_FREE_LINES);
}

/**
 * compactify_tuples: lays the first `count` items of {@link storedOffsets} out without gaps, the
 * first one at the end of the page. Their line pointers have been checked.
 */
function compactItems(page: number, count: number): void {
  const linp = linePointers(page);
  const special = pdSpecial(page);
  let total = 0;
  let inOrder = true;
  let previous = special;
  for (let i = 0; i < count; i++) {
    const raw = W32[linp + storedOffsets[i]];
    total += maxAlign(lpLen(raw));
    if (lpOff(raw) >= previous) inOrder = false;
    previous = lpOff(raw);
  }
  if (total > special - pdLower(page)) {
    throw new RedoError(`corrupted item lengths: ${total} bytes where ${special - pdLower(page)} fit`);
  }
  // Items that lie in their final order only ever move towards the end of the page, so none
  // overwrites another that is still to be moved. Otherwise they all come from a copy.
  let from = page;
  if (!inOrder) {
    const upper = pdUpper(page);
    W8.copyWithin(COMPACTION_SCRATCH + upper, page + upper, page + special);
    from = COMPACTION_SCRATCH;
  }
  let upper = special;
  for (let i = 0; i < count; i++) {
    const index = linp + storedOffsets[i];
    const raw = W32[index];
    const size = maxAlign(lpLen(raw));
    upper -= size;
    if (lpOff(raw) !== upper) {
      copy(page + upper, from + lpOff(raw), size);
      W32[index] = (raw & ~LP_OFF_MASK) | upper;
    }
  }
  setPdUpper(page, upper);
}

// Special space

/**
 * Redo of an index reads and writes its special space at a fixed place, which a damaged page may
 * not have.
 * @throws {RedoError} unless pd_special is `special`
 */
export function checkSpecial(page: number, special: number): void {
  if (pdSpecial(page) !== special) {
    throw new RedoError(
      `pd_special is ${pdSpecial(page)}, expected ${special}: not a page of this access method`,
    );
  }
}
