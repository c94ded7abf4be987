import { maskPageHintBits, maskPageLsnAndChecksum, maskUnusedSpace, pdLower } from "./common.ts";

const SIZE_OF_PAGE_HEADER = 24;

// src/include/access/spgist_private.h
const SPGIST_METAPAGE_BLKNO = 0;
/** lastUsedPages of SpGistMetaPageData: eight block numbers with their free space. */
const LAST_USED_PAGES = SIZE_OF_PAGE_HEADER + 4;
const LAST_USED_PAGES_END = LAST_USED_PAGES + 64;
/** flags of SpGistPageOpaqueData */
const FLAGS = 8184;

/** spg_mask, src/backend/access/spgist/spgxlog.c */
export function maskSpgist(page: Uint8Array, _blkno: number): void {
  maskPageLsnAndChecksum(page);
  maskPageHintBits(page);
  // A metapage from before v11 has no valid pd_lower.
  if (pdLower(page) >= SIZE_OF_PAGE_HEADER) maskUnusedSpace(page);
}

/**
 * What a server changes without telling the WAL (SpGistUpdateMetaPage, SpGistGetBuffer in spgutils.c): the metapage's cache
 * of pages with room, and the type of an empty page. Whoever puts the first tuple there logs that it is initialised.
 */
export function maskSpgistUnlogged(page: Uint8Array, blkno: number): void {
  if (blkno === SPGIST_METAPAGE_BLKNO) page.fill(0, LAST_USED_PAGES, LAST_USED_PAGES_END);
  else if (pdLower(page) === SIZE_OF_PAGE_HEADER) page.fill(0, FLAGS, FLAGS + 2);
}
