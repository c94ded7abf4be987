/**
 * Redo on the metapage and on the pending list, where fast updates collect tuples before they go
 * into the entry tree.
 *
 * Record structs: src/include/access/ginxlog.h; replay: src/backend/access/gin/ginxlog.c.
 */
import type { WalRecord } from "../../wal/record.ts";
import { RedoError } from "../page/errors.ts";
import {
  checkGinPage,
  checkGinPageKind,
  GIN_DELETED,
  GIN_LIST,
  GIN_LIST_FULLROW,
  ginInitMetapage,
  ginInitPage,
  ginMaxoff,
  setGinMaxoff,
  setGinRightlink,
  SIZE_OF_GIN_META_PAGE_DATA,
} from "./gin_page.ts";
import { INVALID_BLOCK_NUMBER } from "../page/item_pointer.ts";
import { addIndexTuples } from "../page/index_tuple.ts";
import { pageMaxOffset } from "../page/page.ts";
import { mainData, unexpectedBlock } from "../page/record_data.ts";
import { i32, PAGE, u32 } from "../page/workspace.ts";

// ginxlogUpdateMeta: RelFileNode node, padding, GinMetaPageData metadata, BlockNumber prevTail,
// BlockNumber newRightlink, int32 ntuples
const UPDATE_METADATA = 16;
const PREV_TAIL = UPDATE_METADATA + SIZE_OF_GIN_META_PAGE_DATA;
const NEW_RIGHTLINK = PREV_TAIL + 4;
const UPDATE_NTUPLES = PREV_TAIL + 8;
const SIZE_OF_UPDATE_META = UPDATE_NTUPLES + 4;

// ginxlogInsertListPage: BlockNumber rightlink, int32 ntuples
const LIST_NTUPLES = 4;
const SIZE_OF_INSERT_LIST_PAGE = 8;

// ginxlogDeleteListPages: GinMetaPageData metadata, int32 ndeleted
const NDELETED = SIZE_OF_GIN_META_PAGE_DATA;
const SIZE_OF_DELETE_LIST_PAGES = NDELETED + 4;

/**
 * XLOG_GIN_UPDATE_META_PAGE: block 0 is the metapage, block 1 the list's tail, which gets tuples or
 * a right sibling.
 */
export function redoUpdateMetapage(rec: WalRecord, blk: number): void {
  const xlrec = mainData(rec, SIZE_OF_UPDATE_META);
  if (blk === 0) {
    ginInitMetapage(xlrec + UPDATE_METADATA);
    return;
  }
  if (blk !== 1) throw unexpectedBlock(blk);
  const ntuples = i32(xlrec + UPDATE_NTUPLES);
  if (ntuples > 0) {
    checkGinPageKind(GIN_LIST, GIN_LIST);
    addListTuples(rec, blk, pageMaxOffset(PAGE) + 1, ntuples);
    // All tuples belong to one heap tuple.
    setGinMaxoff(ginMaxoff() + 1);
  } else if (u32(xlrec + PREV_TAIL) !== INVALID_BLOCK_NUMBER) {
    checkGinPage();
    setGinRightlink(u32(xlrec + NEW_RIGHTLINK));
  } else {
    throw new RedoError("a tail page, but neither tuples nor a new right sibling for it");
  }
}

/** XLOG_GIN_INSERT_LISTPAGE: block 0 is a new page of the list. */
export function redoInsertListPage(rec: WalRecord, blk: number): void {
  if (blk !== 0) throw unexpectedBlock(blk);
  const xlrec = mainData(rec, SIZE_OF_INSERT_LIST_PAGE);
  const rightlink = u32(xlrec);
  // The last page of what one insertion adds holds the end of a heap tuple; all other pages hold
  // parts of the same tuple.
  const last = rightlink === INVALID_BLOCK_NUMBER;
  ginInitPage(last ? GIN_LIST | GIN_LIST_FULLROW : GIN_LIST);
  setGinRightlink(rightlink);
  setGinMaxoff(last ? 1 : 0);
  addListTuples(rec, blk, 1, i32(xlrec + LIST_NTUPLES));
}

/**
 * XLOG_GIN_DELETE_LISTPAGE: block 0 is the metapage; all others are pages removed from the head of
 * the list.
 */
export function redoDeleteListPages(rec: WalRecord, blk: number): void {
  const xlrec = mainData(rec, SIZE_OF_DELETE_LIST_PAGES);
  if (blk === 0) ginInitMetapage(xlrec);
  else if (blk <= i32(xlrec + NDELETED)) ginInitPage(GIN_DELETED);
  else throw unexpectedBlock(blk);
}

function addListTuples(rec: WalRecord, blk: number, off: number, expected: number): void {
  const at = rec.dataOff[blk];
  const count = addIndexTuples(PAGE, off, at, at + rec.dataLen[blk]);
  if (count !== expected) throw new RedoError(`block data has ${count} index tuples, expected ${expected}`);
}
