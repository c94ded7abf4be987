/**
 * Pages of a GIN index: the special space and what is stored in place of line pointers.
 *
 * Structs and flags: src/include/access/ginblock.h. Page set-up: GinInitPage in
 * src/backend/access/gin/ginutil.c.
 */
import { RedoError } from "../page/errors.ts";
import { INVALID_BLOCK_NUMBER } from "../page/item_pointer.ts";
import { checkSpecial, pageInit, setPdLower, SIZE_OF_PAGE_HEADER } from "../page/page.ts";
import { BLCKSZ, copy, PAGE, W16, W32 } from "../page/workspace.ts";

// GinPageOpaqueData, the special space of every GIN page
const SIZE_OF_GIN_PAGE_OPAQUE = 8;
const GIN_OPAQUE = PAGE + BLCKSZ - SIZE_OF_GIN_PAGE_OPAQUE;
const RIGHTLINK_WORD = GIN_OPAQUE >> 2;
const MAXOFF_HALFWORD = (GIN_OPAQUE + 4) >> 1;
const FLAGS_HALFWORD = (GIN_OPAQUE + 6) >> 1;

// GinPageOpaqueData.flags
export const GIN_DATA = 1 << 0;
export const GIN_LEAF = 1 << 1;
export const GIN_DELETED = 1 << 2;
export const GIN_META = 1 << 3;
export const GIN_LIST = 1 << 4;
export const GIN_LIST_FULLROW = 1 << 5;
export const GIN_INCOMPLETE_SPLIT = 1 << 6;
export const GIN_COMPRESSED = 1 << 7;

/** PageGetContents: where a page's contents begin. */
const PAGE_CONTENTS = PAGE + SIZE_OF_PAGE_HEADER;

/** sizeof(GinMetaPageData), with its trailing padding. */
export const SIZE_OF_GIN_META_PAGE_DATA = 56;

/**
 * GinDataPageGetData: the posting lists or posting items of a posting tree page follow its right
 * bound, an item pointer padded to 8 bytes.
 */
export const GIN_DATA_START = PAGE_CONTENTS + 8;
/** Where the special space begins: no tuple, posting list or posting item reaches beyond. */
export const GIN_CONTENTS_END = GIN_OPAQUE;

/** @throws {RedoError} when the page in the workspace is not laid out as a GIN page */
export function checkGinPage(): void {
  checkSpecial(PAGE, BLCKSZ - SIZE_OF_GIN_PAGE_OPAQUE);
}

/**
 * Like {@link checkGinPage}, and requires a kind of page.
 *
 * @param mask the flags to look at
 * @param expected which of them must be set
 * @throws {RedoError} when the page is of another kind
 */
export function checkGinPageKind(mask: number, expected: number): void {
  checkGinPage();
  const found = ginFlags() & mask;
  if (found !== expected) {
    throw new RedoError(
      `wrong kind of GIN page: expected flags 0x${expected.toString(16)} of 0x${mask.toString(16)}, ` +
        `found 0x${found.toString(16)}`,
    );
  }
}

/** Makes PAGE an empty GIN page without a right sibling. */
export function ginInitPage(flags: number): void {
  pageInit(PAGE, SIZE_OF_GIN_PAGE_OPAQUE);
  setGinFlags(flags);
  setGinRightlink(INVALID_BLOCK_NUMBER);
}

/** Makes PAGE the metapage. `metadata` is the address of a GinMetaPageData. */
export function ginInitMetapage(metadata: number): void {
  ginInitPage(GIN_META);
  copy(PAGE_CONTENTS, metadata, SIZE_OF_GIN_META_PAGE_DATA);
  // pd_lower after the metadata: otherwise a full-page image would leave it out as part of its hole
  setPdLower(PAGE, PAGE_CONTENTS - PAGE + SIZE_OF_GIN_META_PAGE_DATA);
}

export function ginFlags(): number {
  return W16[FLAGS_HALFWORD];
}

export function setGinFlags(flags: number): void {
  W16[FLAGS_HALFWORD] = flags;
}

export function setGinRightlink(blkno: number): void {
  W32[RIGHTLINK_WORD] = blkno;
}

/** Posting items on an internal posting tree page; heap tuples on a pending list page. */
export function ginMaxoff(): number {
  return W16[MAXOFF_HALFWORD];
}

export function setGinMaxoff(maxoff: number): void {
  W16[MAXOFF_HALFWORD] = maxoff;
}

/** GinDataPageSetDataSize: ends the data of a posting tree page `size` bytes after its start. */
export function setGinDataSize(size: number): void {
  setPdLower(PAGE, GIN_DATA_START - PAGE + size);
}
