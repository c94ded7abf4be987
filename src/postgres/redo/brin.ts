/**
 * Redo of BRIN indexes. Source: src/backend/access/brin/brin_xlog.c, brin_pageops.c, brin_revmap.c;
 * structs: src/include/access/brin_xlog.h, brin_page.h.
 */
import type { WalRecord } from "../wal/record.ts";
import { RedoError } from "./page/errors.ts";
import {
  INVALID_BLOCK_NUMBER,
  INVALID_OFFSET_NUMBER,
  setItemPointer,
  SIZE_OF_ITEM_POINTER,
} from "./page/item_pointer.ts";
import {
  checkSpecial,
  pageAddItemOverwrite,
  pageIndexTupleDeleteNoCompact,
  pageIndexTupleOverwrite,
  pageInit,
  pageSetLsn,
  setPdLower,
  SIZE_OF_PAGE_HEADER,
} from "./page/page.ts";
import { blockNumber, mainData, unexpectedBlock } from "./page/record_data.ts";
import { BLCKSZ, copy, PAGE, setU16, setU32, u16, u32 } from "./page/workspace.ts";

const XLOG_BRIN_CREATE_INDEX = 0x00;
const XLOG_BRIN_INSERT = 0x10;
const XLOG_BRIN_UPDATE = 0x20;
const XLOG_BRIN_SAMEPAGE_UPDATE = 0x30;
const XLOG_BRIN_REVMAP_EXTEND = 0x40;
const XLOG_BRIN_DESUMMARIZE = 0x50;
const XLOG_BRIN_OPMASK = 0x70;
/** The tuple is the first one of a page that is initialised by the same record. */
const XLOG_BRIN_INIT_PAGE = 0x80;

// BrinSpecialSpace: four 16-bit words; the last one is the page type
const BRIN_SPECIAL_SIZE = 8;
const BRIN_SPECIAL = BLCKSZ - BRIN_SPECIAL_SIZE;
const BRIN_PAGE_TYPE = BLCKSZ - 2;
const BRIN_PAGETYPE_META = 0xf091;
const BRIN_PAGETYPE_REVMAP = 0xf092;
const BRIN_PAGETYPE_REGULAR = 0xf093;

/** Where PageGetContents points. */
const PAGE_CONTENTS = SIZE_OF_PAGE_HEADER;

// BrinMetaPageData
const BRIN_MAGIC = PAGE_CONTENTS + 0;
const BRIN_VERSION = PAGE_CONTENTS + 4;
const PAGES_PER_RANGE = PAGE_CONTENTS + 8;
const LAST_REVMAP_PAGE = PAGE_CONTENTS + 12;
const BRIN_META_END = PAGE_CONTENTS + 16;
const BRIN_META_MAGIC = 0xa8109cfa;

/** A revmap page is an array of item pointers from the page header to the special space. */
const REVMAP_PAGE_MAXITEMS = Math.floor((BRIN_SPECIAL - PAGE_CONTENTS) / SIZE_OF_ITEM_POINTER);

// xl_brin_createidx
const CREATEIDX_PAGES_PER_RANGE = 0;
const CREATEIDX_VERSION = 4;
const SIZE_OF_BRIN_CREATE_IDX = 6;

// xl_brin_insert
const INSERT_HEAP_BLK = 0;
const INSERT_PAGES_PER_RANGE = 4;
const INSERT_OFFNUM = 8;
const SIZE_OF_BRIN_INSERT = 10;

// xl_brin_update
const UPDATE_OLD_OFFNUM = 0;
const UPDATE_INSERT = 4;
const SIZE_OF_BRIN_UPDATE = UPDATE_INSERT + SIZE_OF_BRIN_INSERT;

// xl_brin_samepage_update
const SAMEPAGE_UPDATE_OFFNUM = 0;
const SIZE_OF_BRIN_SAMEPAGE_UPDATE = 2;

// xl_brin_revmap_extend
const REVMAP_EXTEND_TARGET_BLK = 0;
const SIZE_OF_BRIN_REVMAP_EXTEND = 4;

// xl_brin_desummarize
const DESUMMARIZE_PAGES_PER_RANGE = 0;
const DESUMMARIZE_HEAP_BLK = 4;
const DESUMMARIZE_REG_OFFSET = 8;
const SIZE_OF_BRIN_DESUMMARIZE = 10;

/**
 * Applies a BRIN record to the page of block reference `blk`.
 *
 * From the other blocks only the number of the regular page is needed, for the revmap's pointer to
 * it.
 *
 * @throws {RedoError} when the record or the page is malformed
 */
export function redoBrin(rec: WalRecord, blk: number): void {
  switch (rec.xl_info & XLOG_BRIN_OPMASK) {
    case XLOG_BRIN_CREATE_INDEX:
      redoCreateIndex(rec, blk);
      break;
    case XLOG_BRIN_INSERT:
      redoInsert(rec, blk, mainData(rec, SIZE_OF_BRIN_INSERT));
      break;
    case XLOG_BRIN_UPDATE:
      redoUpdate(rec, blk);
      break;
    case XLOG_BRIN_SAMEPAGE_UPDATE:
      redoSamepageUpdate(rec, blk);
      break;
    case XLOG_BRIN_REVMAP_EXTEND:
      redoRevmapExtend(rec, blk);
      break;
    case XLOG_BRIN_DESUMMARIZE:
      redoDesummarize(rec, blk);
      break;
    default:
      throw new RedoError(`unknown BRIN record type 0x${rec.xl_info.toString(16)}`);
  }
  pageSetLsn(PAGE, rec.endLsn);
}

/** Block 0: metapage. */
function redoCreateIndex(rec: WalRecord, blk: number): void {
  if (blk !== 0) throw unexpectedBlock(blk);
  const xlrec = mainData(rec, SIZE_OF_BRIN_CREATE_IDX);
  initBrinPage(BRIN_PAGETYPE_META);
  setU32(PAGE + BRIN_MAGIC, BRIN_META_MAGIC);
  setU32(PAGE + BRIN_VERSION, u16(xlrec + CREATEIDX_VERSION));
  setU32(PAGE + PAGES_PER_RANGE, u32(xlrec + CREATEIDX_PAGES_PER_RANGE));
  // There is no revmap page yet; the metapage's own number stands for that.
  setU32(PAGE + LAST_REVMAP_PAGE, 0);
  setPdLower(PAGE, BRIN_META_END);
}

/** Block 0: regular page, gets the tuple; block 1: revmap page, gets the pointer to it. */
function redoInsert(rec: WalRecord, blk: number, xlrec: number): void {
  const offnum = u16(xlrec + INSERT_OFFNUM);
  if (blk === 0) {
    if ((rec.xl_info & XLOG_BRIN_INIT_PAGE) !== 0) initBrinPage(BRIN_PAGETYPE_REGULAR);
    const size = rec.dataLen[0];
    copy(pageAddItemOverwrite(PAGE, size, offnum), rec.dataOff[0], size);
  } else if (blk === 1) {
    const heapBlk = u32(xlrec + INSERT_HEAP_BLK);
    const pagesPerRange = u32(xlrec + INSERT_PAGES_PER_RANGE);
    setRevmapItem(pagesPerRange, heapBlk, blockNumber(rec, 0), offnum);
  } else {
    throw unexpectedBlock(blk);
  }
}

/** Blocks 0 and 1 as for an insertion; block 2: the page that loses the old tuple. */
function redoUpdate(rec: WalRecord, blk: number): void {
  const xlrec = mainData(rec, SIZE_OF_BRIN_UPDATE);
  if (blk === 2) {
    pageIndexTupleDeleteNoCompact(PAGE, u16(xlrec + UPDATE_OLD_OFFNUM));
  } else {
    redoInsert(rec, blk, xlrec + UPDATE_INSERT);
  }
}

/** Block 0: regular page. */
function redoSamepageUpdate(rec: WalRecord, blk: number): void {
  if (blk !== 0) throw unexpectedBlock(blk);
  const xlrec = mainData(rec, SIZE_OF_BRIN_SAMEPAGE_UPDATE);
  pageIndexTupleOverwrite(PAGE, u16(xlrec + SAMEPAGE_UPDATE_OFFNUM), rec.dataOff[0], rec.dataLen[0]);
}

/** Block 0: metapage; block 1: the new revmap page. */
function redoRevmapExtend(rec: WalRecord, blk: number): void {
  const xlrec = mainData(rec, SIZE_OF_BRIN_REVMAP_EXTEND);
  if (blk === 0) {
    checkBrinPage(BRIN_PAGETYPE_META);
    setU32(PAGE + LAST_REVMAP_PAGE, u32(xlrec + REVMAP_EXTEND_TARGET_BLK));
    // An index that came through pg_upgrade from before v11 has a wrong value here.
    setPdLower(PAGE, BRIN_META_END);
  } else if (blk === 1) {
    initBrinPage(BRIN_PAGETYPE_REVMAP);
  } else {
    throw unexpectedBlock(blk);
  }
}

/** Block 0: revmap page; block 1: regular page. */
function redoDesummarize(rec: WalRecord, blk: number): void {
  const xlrec = mainData(rec, SIZE_OF_BRIN_DESUMMARIZE);
  if (blk === 0) {
    const heapBlk = u32(xlrec + DESUMMARIZE_HEAP_BLK);
    const pagesPerRange = u32(xlrec + DESUMMARIZE_PAGES_PER_RANGE);
    setRevmapItem(pagesPerRange, heapBlk, INVALID_BLOCK_NUMBER, INVALID_OFFSET_NUMBER);
  } else if (blk === 1) {
    pageIndexTupleDeleteNoCompact(PAGE, u16(xlrec + DESUMMARIZE_REG_OFFSET));
  } else {
    throw unexpectedBlock(blk);
  }
}

function initBrinPage(type: number): void {
  pageInit(PAGE, BRIN_SPECIAL_SIZE);
  setU16(PAGE + BRIN_PAGE_TYPE, type);
}

function checkBrinPage(type: number): void {
  checkSpecial(PAGE, BRIN_SPECIAL);
  const found = u16(PAGE + BRIN_PAGE_TYPE);
  if (found !== type) {
    throw new RedoError(`BRIN page has type 0x${found.toString(16)}, expected 0x${type.toString(16)}`);
  }
}

/** Points the revmap's entry for the range of heap block `heapBlk` to (`blkno`, `offnum`). */
function setRevmapItem(pagesPerRange: number, heapBlk: number, blkno: number, offnum: number): void {
  checkBrinPage(BRIN_PAGETYPE_REVMAP);
  if (pagesPerRange === 0) throw new RedoError("pages per range is 0");
  const index = Math.floor(heapBlk / pagesPerRange) % REVMAP_PAGE_MAXITEMS;
  setItemPointer(PAGE + PAGE_CONTENTS + index * SIZE_OF_ITEM_POINTER, blkno, offnum);
}
