/**
 * Redo of GiST indexes. Record types and structs: src/include/access/gistxlog.h; replay:
 * src/backend/access/gist/gistxlog.c; the special space: src/include/access/gist.h.
 */
import type { WalRecord } from "../wal/record.ts";
import { RedoError } from "./page/errors.ts";
import { addIndexTuples, indexTupleSize } from "./page/index_tuple.ts";
import { INVALID_BLOCK_NUMBER } from "./page/item_pointer.ts";
import {
  checkSpecial,
  pageIndexMultiDelete,
  pageIndexTupleDelete,
  pageIndexTupleOverwrite,
  pageInit,
  pageMaxOffset,
  pageSetLsn,
  setPdLower,
  SIZE_OF_PAGE_HEADER,
} from "./page/page.ts";
import { blockData, blockNumber, mainData, unexpectedBlock } from "./page/record_data.ts";
import { BLCKSZ, copy, i32, PAGE, u16, u32, W16, W32, W8 } from "./page/workspace.ts";

const XLOG_GIST_PAGE_UPDATE = 0x00;
export const XLOG_GIST_DELETE = 0x10;
const XLOG_GIST_PAGE_SPLIT = 0x30;
const XLOG_GIST_PAGE_DELETE = 0x60;
/** GiST uses all four bits that belong to the resource manager. */
const XLOG_GIST_OPMASK = 0xf0;

// GISTPageOpaqueData, the special space: PageGistNSN nsn (high word first), BlockNumber rightlink,
// uint16 flags, uint16 gist_page_id
const SIZE_OF_GIST_PAGE_OPAQUE = 16;
const GIST_SPECIAL = BLCKSZ - SIZE_OF_GIST_PAGE_OPAQUE;
const NSN_WORD = (PAGE + GIST_SPECIAL) >> 2;
const RIGHTLINK_WORD = NSN_WORD + 2;
const FLAGS_HALFWORD = (PAGE + GIST_SPECIAL + 12) >> 1;
const PAGE_ID_HALFWORD = FLAGS_HALFWORD + 1;
const GIST_PAGE_ID = 0xff81;

// GISTPageOpaqueData.flags
const F_LEAF = 1 << 0;
const F_DELETED = 1 << 1;
const F_FOLLOW_RIGHT = 1 << 3;
const F_HAS_GARBAGE = 1 << 4;

/** The root never moves. */
const GIST_ROOT_BLKNO = 0;

// gistxlogPageUpdate
const UPDATE_NTODELETE = 0;
const UPDATE_NTOINSERT = 2;
const SIZE_OF_PAGE_UPDATE = 4;

// gistxlogDelete: TransactionId latestRemovedXid, uint16 ntodelete, and the offset numbers
const DELETE_NTODELETE = 4;
const SIZE_OF_DELETE = 6;
/** From PostgreSQL 16 on: the same with bool isCatalogRel and padding after ntodelete. */
const SIZE_OF_DELETE_16 = 8;

// gistxlogPageSplit
const SPLIT_ORIGRLINK = 0;
const SPLIT_ORIGNSN = 8;
const SPLIT_ORIGLEAF = 16;
const SPLIT_NPAGE = 18;
const SPLIT_MARKFOLLOWRIGHT = 20;
const SIZE_OF_PAGE_SPLIT = 21;
/**
 * The split pages are block references 1 to npage; 0, when in use, is the child whose split this
 * one completes.
 */
const FIRST_SPLIT_PAGE = 1;

// gistxlogPageDelete: FullTransactionId deleteXid, OffsetNumber downlinkOffset
const PAGE_DELETE_DOWNLINK = 8;
const SIZE_OF_PAGE_DELETE = 10;

const SIZE_OF_OFFSET_NUMBER = 2;
/** FullTransactionId. */
const SIZE_OF_FULL_XID = 8;

/**
 * Applies a GiST record to the page of block reference `blk`.
 *
 * From the other blocks only their numbers are needed: a split links its pages to each other.
 * Records of type XLOG_GIST_PAGE_REUSE and XLOG_GIST_ASSIGN_LSN refer to no block.
 *
 * @throws {RedoError} when the record or the page is malformed
 */
export function redoGist(rec: WalRecord, blk: number): void {
  switch (rec.xl_info & XLOG_GIST_OPMASK) {
    case XLOG_GIST_PAGE_UPDATE:
      if (blk === 0) redoPageUpdate(rec);
      else if (blk === 1) clearFollowRight(rec);
      else throw unexpectedBlock(blk);
      break;
    case XLOG_GIST_DELETE:
      redoDelete(rec, blk, SIZE_OF_DELETE);
      break;
    case XLOG_GIST_PAGE_SPLIT:
      if (blk === 0) clearFollowRight(rec);
      else redoPageSplit(rec, blk);
      break;
    case XLOG_GIST_PAGE_DELETE:
      redoPageDelete(rec, blk);
      break;
    default:
      throw new RedoError(`unknown GiST record type 0x${rec.xl_info.toString(16)}, or one without blocks`);
  }
  pageSetLsn(PAGE, rec.endLsn);
}

/**
 * What a GiST record still does to a page after its full-page image has been restored: Postgres
 * takes the image of the left child before it clears the child's F_FOLLOW_RIGHT and sets its NSN
 * (the record's own LSN, which is not known by then). For all other blocks nothing is left to do.
 *
 * @throws {RedoError} when the image is not a GiST page
 */
export function redoGistAfterImage(rec: WalRecord, blk: number): void {
  const info = rec.xl_info & XLOG_GIST_OPMASK;
  if ((info === XLOG_GIST_PAGE_UPDATE && blk === 1) || (info === XLOG_GIST_PAGE_SPLIT && blk === 0)) {
    clearFollowRight(rec);
    pageSetLsn(PAGE, rec.endLsn);
  }
}

/** The left half of a split has its right sibling's downlink in the parent now. */
function clearFollowRight(rec: WalRecord): void {
  checkSpecial(PAGE, GIST_SPECIAL);
  W32[NSN_WORD] = Math.floor(rec.endLsn / 0x1_0000_0000);
  W32[NSN_WORD + 1] = rec.endLsn >>> 0;
  setFlags(flags() & ~F_FOLLOW_RIGHT);
}

/**
 * Block data: the offset numbers to delete, then the tuples to insert.
 *
 * Older minor versions also set F_TUPLES_DELETED on a leaf (15.18 does, 15.20 does not, on the
 * server and in replay). The WAL does not say which wrote it, and nothing in PostgreSQL reads the
 * flag.
 */
function redoPageUpdate(rec: WalRecord): void {
  const xlrec = mainData(rec, SIZE_OF_PAGE_UPDATE);
  const ntodelete = u16(xlrec + UPDATE_NTODELETE);
  const ntoinsert = u16(xlrec + UPDATE_NTOINSERT);
  const offsets = blockData(rec, 0, ntodelete * SIZE_OF_OFFSET_NUMBER);
  const tuples = offsets + ntodelete * SIZE_OF_OFFSET_NUMBER;
  const end = offsets + rec.dataLen[0];
  checkSpecial(PAGE, GIST_SPECIAL);

  if (ntodelete === 1 && ntoinsert === 1) {
    // Replaced in place: deleting and adding would give another order of line pointers.
    const size = indexTupleSize(tuples, end);
    if (tuples + size !== end) throw insertCountError(ntoinsert);
    pageIndexTupleOverwrite(PAGE, u16(offsets), tuples, size);
    return;
  }
  if (ntodelete > 0) pageIndexMultiDelete(PAGE, offsets, ntodelete);
  const inserted = addIndexTuples(PAGE, pageMaxOffset(PAGE) + 1, tuples, end);
  if (inserted !== ntoinsert) throw insertCountError(ntoinsert);
}

function insertCountError(expected: number): RedoError {
  return new RedoError(`block data does not hold the ${expected} index tuples that the record announces`);
}

/**
 * Removes tuples that were marked dead, to make room. `structSize`: where in the main data the
 * offset numbers start.
 */
function redoDelete(rec: WalRecord, blk: number, structSize: number): void {
  if (blk !== 0) throw unexpectedBlock(blk);
  const ntodelete = u16(mainData(rec, structSize) + DELETE_NTODELETE);
  const offsets = mainData(rec, structSize + ntodelete * SIZE_OF_OFFSET_NUMBER) + structSize;
  checkSpecial(PAGE, GIST_SPECIAL);
  pageIndexMultiDelete(PAGE, offsets, ntodelete);
  setFlags(flags() & ~F_HAS_GARBAGE);
}

/**
 * Applies XLOG_GIST_DELETE, from PostgreSQL 16 on. @throws {RedoError} when the record or the page
 * is malformed
 */
export function redoGistDelete16(rec: WalRecord, blk: number): void {
  redoDelete(rec, blk, SIZE_OF_DELETE_16);
  pageSetLsn(PAGE, rec.endLsn);
}

/**
 * Each of the pages is written anew. Block data: int32 number of tuples, then the tuples
 * (gistxlogPage).
 */
function redoPageSplit(rec: WalRecord, blk: number): void {
  const xlrec = mainData(rec, SIZE_OF_PAGE_SPLIT);
  const lastPage = u16(xlrec + SPLIT_NPAGE);
  if (blk > lastPage) throw unexpectedBlock(blk);
  const isRoot = blockNumber(rec, blk) === GIST_ROOT_BLKNO;
  const isRootSplit = blockNumber(rec, FIRST_SPLIT_PAGE) === GIST_ROOT_BLKNO;

  pageInit(PAGE, SIZE_OF_GIST_PAGE_OPAQUE);
  W16[PAGE_ID_HALFWORD] = GIST_PAGE_ID;
  const at = blockData(rec, blk, 4);
  const ntuples = i32(at);
  const inserted = addIndexTuples(PAGE, 1, at + 4, at + rec.dataLen[blk]);
  if (inserted !== ntuples) throw insertCountError(ntuples);

  // The record has the NSN as a 64-bit integer, the page as two words, the higher first.
  W32[NSN_WORD] = i32(xlrec + SPLIT_ORIGNSN + 4);
  W32[NSN_WORD + 1] = i32(xlrec + SPLIT_ORIGNSN);
  if (isRoot) {
    W32[RIGHTLINK_WORD] = INVALID_BLOCK_NUMBER;
    return;
  }
  const isLast = blk === lastPage;
  W32[RIGHTLINK_WORD] = isLast ? u32(xlrec + SPLIT_ORIGRLINK) : blockNumber(rec, blk + 1);
  let newFlags = W8[xlrec + SPLIT_ORIGLEAF] !== 0 ? F_LEAF : 0;
  // A root split puts all downlinks into the new root at once, so no page has to be reached through
  // its left sibling.
  if (!isLast && !isRootSplit && W8[xlrec + SPLIT_MARKFOLLOWRIGHT] !== 0) newFlags |= F_FOLLOW_RIGHT;
  setFlags(newFlags);
}

/** Block 0: the empty leaf that is deleted; block 1: its parent. */
function redoPageDelete(rec: WalRecord, blk: number): void {
  const xlrec = mainData(rec, SIZE_OF_PAGE_DELETE);
  checkSpecial(PAGE, GIST_SPECIAL);
  if (blk === 0) {
    // GistPageSetDeleted: the xid after which the page can be reused replaces the line pointers
    setFlags(flags() | F_DELETED);
    setPdLower(PAGE, SIZE_OF_PAGE_HEADER + SIZE_OF_FULL_XID);
    copy(PAGE + SIZE_OF_PAGE_HEADER, xlrec, SIZE_OF_FULL_XID);
  } else if (blk === 1) {
    pageIndexTupleDelete(PAGE, u16(xlrec + PAGE_DELETE_DOWNLINK));
  } else {
    throw unexpectedBlock(blk);
  }
}

function flags(): number {
  return W16[FLAGS_HALFWORD];
}

function setFlags(value: number): void {
  W16[FLAGS_HALFWORD] = value;
}
