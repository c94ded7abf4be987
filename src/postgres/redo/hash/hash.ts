/**
 * Redo of hash indexes. Source: src/backend/access/hash/hash_xlog.c; record structs:
 * src/include/access/hash_xlog.h.
 */
import { type WalRecord, XLR_RMGR_INFO_MASK } from "../../wal/record.ts";
import { RedoError } from "../page/errors.ts";
import {
  addBitmap,
  addSpares,
  checkHashPage,
  checkMetapage,
  clearBitmapBit,
  clearHashFlag,
  f64,
  HASHM_FIRSTFREE,
  HASHM_HIGHMASK,
  HASHM_LOWMASK,
  HASHM_MAXBUCKET,
  HASHM_OVFLPOINT,
  hashPageInit,
  initBitmapPage,
  initMetapage,
  INVALID_BUCKET,
  LH_BUCKET_NEEDS_SPLIT_CLEANUP,
  LH_OVERFLOW_PAGE,
  LH_PAGE_HAS_DEAD_TUPLES,
  LH_UNUSED_PAGE,
  nTuples,
  setBitmapBit,
  setHashFlag,
  setNextBlkno,
  setNTuples,
  setPrevBlkno,
  setSpares,
} from "./hash_page.ts";
import { indexTupleSize } from "../page/index_tuple.ts";
import { INVALID_BLOCK_NUMBER } from "../page/item_pointer.ts";
import { maxAlign, pageAddItem, pageIndexMultiDelete, pageSetLsn } from "../page/page.ts";
import { blockData, blockNumber, hasBlock, mainData, unexpectedBlock } from "../page/record_data.ts";
import { copy, i32, PAGE, setU32, u16, u32, W8 } from "../page/workspace.ts";

const XLOG_HASH_INIT_META_PAGE = 0x00;
const XLOG_HASH_INIT_BITMAP_PAGE = 0x10;
const XLOG_HASH_INSERT = 0x20;
const XLOG_HASH_ADD_OVFL_PAGE = 0x30;
const XLOG_HASH_SPLIT_ALLOCATE_PAGE = 0x40;
const XLOG_HASH_SPLIT_PAGE = 0x50;
const XLOG_HASH_SPLIT_COMPLETE = 0x60;
const XLOG_HASH_MOVE_PAGE_CONTENTS = 0x70;
export const XLOG_HASH_SQUEEZE_PAGE = 0x80;
const XLOG_HASH_DELETE = 0x90;
const XLOG_HASH_SPLIT_CLEANUP = 0xa0;
const XLOG_HASH_UPDATE_META_PAGE = 0xb0;
export const XLOG_HASH_VACUUM_ONE_PAGE = 0xc0;

const SIZE_OF_OFFSET_NUMBER = 2;
const SIZE_OF_UINT32 = 4;

/**
 * Applies a hash index record to the page of block reference `blk`.
 *
 * From the other blocks only their numbers are needed (an overflow page and its neighbour point to
 * each other). A primary bucket page that a record names only to lock it during replay stays
 * unchanged, LSN included.
 *
 * @throws {RedoError} when the record or the page is malformed
 */
export function redoHash(rec: WalRecord, blk: number): void {
  switch (rec.xl_info & XLR_RMGR_INFO_MASK) {
    case XLOG_HASH_INIT_META_PAGE:
      redoInitMetaPage(rec, blk);
      break;
    case XLOG_HASH_INIT_BITMAP_PAGE:
      redoInitBitmapPage(rec, blk);
      break;
    case XLOG_HASH_INSERT:
      redoInsert(rec, blk);
      break;
    case XLOG_HASH_ADD_OVFL_PAGE:
      redoAddOvflPage(rec, blk);
      break;
    case XLOG_HASH_SPLIT_ALLOCATE_PAGE:
      redoSplitAllocatePage(rec, blk);
      break;
    case XLOG_HASH_SPLIT_PAGE:
      throw new RedoError("the page of a bucket split must come as a full-page image");
    case XLOG_HASH_SPLIT_COMPLETE:
      redoSplitComplete(rec, blk);
      break;
    case XLOG_HASH_MOVE_PAGE_CONTENTS:
      if (blk === 0) return;
      redoMovePageContents(rec, blk);
      break;
    case XLOG_HASH_SQUEEZE_PAGE:
      redoSqueezePage(rec, blk);
      return;
    case XLOG_HASH_DELETE:
      if (blk === 0) return;
      redoDelete(rec, blk);
      break;
    case XLOG_HASH_SPLIT_CLEANUP:
      if (blk !== 0) throw unexpectedBlock(blk);
      checkHashPage();
      clearHashFlag(LH_BUCKET_NEEDS_SPLIT_CLEANUP);
      break;
    case XLOG_HASH_UPDATE_META_PAGE:
      redoUpdateMetaPage(rec, blk);
      break;
    case XLOG_HASH_VACUUM_ONE_PAGE:
      redoVacuumOnePage(rec, blk);
      return;
    default:
      throw new RedoError(`unknown hash record type 0x${rec.xl_info.toString(16)}`);
  }
  pageSetLsn(PAGE, rec.endLsn);
}

// xl_hash_init_meta_page
const INIT_NUM_TUPLES = 0;
const INIT_PROCID = 8;
const INIT_FFACTOR = 12;
const SIZE_OF_HASH_INIT_META_PAGE = 14;

/** Block 0: metapage. */
function redoInitMetaPage(rec: WalRecord, blk: number): void {
  if (blk !== 0) throw unexpectedBlock(blk);
  const xlrec = mainData(rec, SIZE_OF_HASH_INIT_META_PAGE);
  initMetapage(f64(xlrec + INIT_NUM_TUPLES), u32(xlrec + INIT_PROCID), u16(xlrec + INIT_FFACTOR));
}

// xl_hash_init_bitmap_page
const INIT_BMSIZE = 0;
const SIZE_OF_HASH_INIT_BITMAP_PAGE = 2;

/** Block 0: the first bitmap page; block 1: metapage. */
function redoInitBitmapPage(rec: WalRecord, blk: number): void {
  const xlrec = mainData(rec, SIZE_OF_HASH_INIT_BITMAP_PAGE);
  if (blk === 0) {
    initBitmapPage(u16(xlrec + INIT_BMSIZE));
  } else if (blk === 1) {
    checkMetapage();
    // It comes after the metapage and the buckets.
    addBitmap(u32(PAGE + HASHM_MAXBUCKET) + 2);
  } else {
    throw unexpectedBlock(blk);
  }
}

// xl_hash_insert
const INSERT_OFFNUM = 0;
const SIZE_OF_HASH_INSERT = 2;

/** Block 0: bucket or overflow page, its data is the tuple; block 1: metapage. */
function redoInsert(rec: WalRecord, blk: number): void {
  if (blk === 0) {
    const offnum = u16(mainData(rec, SIZE_OF_HASH_INSERT) + INSERT_OFFNUM);
    const size = rec.dataLen[0];
    copy(pageAddItem(PAGE, size, offnum), rec.dataOff[0], size);
  } else if (blk === 1) {
    checkMetapage();
    setNTuples(nTuples() + 1);
  } else {
    throw unexpectedBlock(blk);
  }
}

// xl_hash_add_ovfl_page
const OVFL_BMSIZE = 0;
const OVFL_BMPAGE_FOUND = 2;
const SIZE_OF_HASH_ADD_OVFL_PAGE = 3;

/**
 * Block 0: new overflow page; 1: the page before it in the bucket's chain; 2: the bitmap page with
 * its bit, if it comes from there; 3: a new bitmap page, if the index needs one; 4: metapage.
 */
function redoAddOvflPage(rec: WalRecord, blk: number): void {
  const xlrec = mainData(rec, SIZE_OF_HASH_ADD_OVFL_PAGE);
  switch (blk) {
    case 0:
      hashPageInit(blockNumber(rec, 1), u32(blockData(rec, 0, SIZE_OF_UINT32)), LH_OVERFLOW_PAGE);
      break;
    case 1:
      checkHashPage();
      setNextBlkno(blockNumber(rec, 0));
      break;
    case 2:
      setBitmapBit(u32(blockData(rec, 2, SIZE_OF_UINT32)));
      break;
    case 3:
      initBitmapPage(u16(xlrec + OVFL_BMSIZE));
      break;
    case 4:
      checkMetapage();
      setU32(PAGE + HASHM_FIRSTFREE, u32(blockData(rec, 4, SIZE_OF_UINT32)));
      if (W8[xlrec + OVFL_BMPAGE_FOUND] === 0) {
        addSpares(1);
        if (hasBlock(rec, 3)) {
          addBitmap(blockNumber(rec, 3));
          addSpares(1);
        }
      }
      break;
    default:
      throw unexpectedBlock(blk);
  }
}

// xl_hash_split_allocate_page
const ALLOCATE_NEW_BUCKET = 0;
const ALLOCATE_OLD_BUCKET_FLAG = 4;
const ALLOCATE_NEW_BUCKET_FLAG = 6;
const ALLOCATE_FLAGS = 8;
const SIZE_OF_HASH_SPLIT_ALLOC_PAGE = 9;
const XLH_SPLIT_META_UPDATE_MASKS = 1 << 0;
const XLH_SPLIT_META_UPDATE_SPLITPOINT = 1 << 1;

/**
 * Block 0: primary page of the old bucket; 1: of the new one; 2: metapage, with new masks and
 * splitpoint as its data.
 */
function redoSplitAllocatePage(rec: WalRecord, blk: number): void {
  const xlrec = mainData(rec, SIZE_OF_HASH_SPLIT_ALLOC_PAGE);
  const newBucket = u32(xlrec + ALLOCATE_NEW_BUCKET);
  if (blk === 0) {
    checkHashPage();
    setHashFlag(u16(xlrec + ALLOCATE_OLD_BUCKET_FLAG));
    // On a primary page this is no block number but the highest bucket as of the last split.
    setPrevBlkno(newBucket);
  } else if (blk === 1) {
    hashPageInit(newBucket, newBucket, u16(xlrec + ALLOCATE_NEW_BUCKET_FLAG));
  } else if (blk === 2) {
    checkMetapage();
    setU32(PAGE + HASHM_MAXBUCKET, newBucket);
    const flags = W8[xlrec + ALLOCATE_FLAGS];
    let masksSize = 0;
    if ((flags & XLH_SPLIT_META_UPDATE_MASKS) !== 0) {
      masksSize = 2 * SIZE_OF_UINT32;
      const masks = blockData(rec, 2, masksSize);
      setU32(PAGE + HASHM_LOWMASK, u32(masks));
      setU32(PAGE + HASHM_HIGHMASK, u32(masks + SIZE_OF_UINT32));
    }
    if ((flags & XLH_SPLIT_META_UPDATE_SPLITPOINT) !== 0) {
      const splitpoint = blockData(rec, 2, masksSize + 2 * SIZE_OF_UINT32) + masksSize;
      setSpares(u32(splitpoint), u32(splitpoint + SIZE_OF_UINT32));
      setU32(PAGE + HASHM_OVFLPOINT, u32(splitpoint));
    }
  } else {
    throw unexpectedBlock(blk);
  }
}

// xl_hash_split_complete
const COMPLETE_OLD_BUCKET_FLAG = 0;
const COMPLETE_NEW_BUCKET_FLAG = 2;
const SIZE_OF_HASH_SPLIT_COMPLETE = 4;

/** Block 0: primary page of the old bucket; block 1: of the new one. */
function redoSplitComplete(rec: WalRecord, blk: number): void {
  if (blk > 1) throw unexpectedBlock(blk);
  const xlrec = mainData(rec, SIZE_OF_HASH_SPLIT_COMPLETE);
  checkHashPage();
  setHashFlag(u16(xlrec + (blk === 0 ? COMPLETE_OLD_BUCKET_FLAG : COMPLETE_NEW_BUCKET_FLAG)));
}

// xl_hash_move_page_contents
const MOVE_NTUPS = 0;
const SIZE_OF_HASH_MOVE_PAGE_CONTENTS = 3;

/**
 * Block 1: the page that gets the tuples, its data says where; block 2: the page they are taken
 * from.
 */
function redoMovePageContents(rec: WalRecord, blk: number): void {
  const xlrec = mainData(rec, SIZE_OF_HASH_MOVE_PAGE_CONTENTS);
  if (blk === 1) addMovedTuples(rec, u16(xlrec + MOVE_NTUPS));
  else if (blk === 2) deleteOffsets(rec, 2);
  else throw unexpectedBlock(blk);
}

// xl_hash_squeeze_page
const SQUEEZE_PREVBLKNO = 0;
const SQUEEZE_NEXTBLKNO = 4;
const SQUEEZE_NTUPS = 8;
const SQUEEZE_IS_PREV_BUCKET_SAME_WRT = 11;
const SIZE_OF_HASH_SQUEEZE_PAGE = 12;

/** Applies XLOG_HASH_SQUEEZE_PAGE before PostgreSQL 17, when block 1 always counted as changed. */
function redoSqueezePage(rec: WalRecord, blk: number): void {
  if (blk === 0) return;
  squeezePage(rec, blk);
  pageSetLsn(PAGE, rec.endLsn);
}

/** Applies XLOG_HASH_SQUEEZE_PAGE. @throws {RedoError} when record and page don't fit together */
export function redoSqueezePage17(rec: WalRecord, blk: number): void {
  if (blk === 0) return;
  const isChanged = squeezePage(rec, blk);
  if (isChanged) pageSetLsn(PAGE, rec.endLsn);
}

/**
 * Block 1: the page that gets the tuples of the overflow page that is freed; 2: that page; 3: the
 * page before it, if that is not block 1; 4: the page after it, if any; 5: the bitmap page with its
 * bit; 6: the metapage, if it changes. Returns whether the page has changed.
 */
function squeezePage(rec: WalRecord, blk: number): boolean {
  const xlrec = mainData(rec, SIZE_OF_HASH_SQUEEZE_PAGE);
  const prevIsWritten = W8[xlrec + SQUEEZE_IS_PREV_BUCKET_SAME_WRT] !== 0;
  switch (blk) {
    case 1: {
      const ntups = u16(xlrec + SQUEEZE_NTUPS);
      addMovedTuples(rec, ntups);
      if (prevIsWritten) setNextBlkno(u32(xlrec + SQUEEZE_NEXTBLKNO));
      return ntups > 0 || prevIsWritten;
    }
    case 2:
      hashPageInit(INVALID_BLOCK_NUMBER, INVALID_BUCKET, LH_UNUSED_PAGE);
      return true;
    case 3:
      if (prevIsWritten) throw unexpectedBlock(blk);
      checkHashPage();
      setNextBlkno(u32(xlrec + SQUEEZE_NEXTBLKNO));
      return true;
    case 4:
      checkHashPage();
      setPrevBlkno(u32(xlrec + SQUEEZE_PREVBLKNO));
      return true;
    case 5:
      clearBitmapBit(u32(blockData(rec, 5, SIZE_OF_UINT32)));
      return true;
    case 6:
      checkMetapage();
      setU32(PAGE + HASHM_FIRSTFREE, u32(blockData(rec, 6, SIZE_OF_UINT32)));
      return true;
    default:
      throw unexpectedBlock(blk);
  }
}

/**
 * Block 1's data: `ntups` offset numbers, then as many index tuples, whose line pointers have the
 * aligned size.
 */
function addMovedTuples(rec: WalRecord, ntups: number): void {
  checkHashPage();
  if (ntups === 0) return;
  const offsets = blockData(rec, 1, ntups * SIZE_OF_OFFSET_NUMBER);
  const end = offsets + rec.dataLen[1];
  let tuple = offsets + ntups * SIZE_OF_OFFSET_NUMBER;
  for (let i = 0; i < ntups; i++) {
    const size = maxAlign(indexTupleSize(tuple, end));
    if (tuple + size > end) throw new RedoError(`moved tuple ${i} of ${ntups} is cut off`);
    copy(pageAddItem(PAGE, size, u16(offsets + i * SIZE_OF_OFFSET_NUMBER)), tuple, size);
    tuple += size;
  }
  if (tuple !== end) throw new RedoError(`${end - tuple} bytes are left behind the ${ntups} moved tuples`);
}

/** The data of block `blk` is the offset numbers of the tuples to delete. */
function deleteOffsets(rec: WalRecord, blk: number): void {
  pageIndexMultiDelete(PAGE, rec.dataOff[blk], Math.trunc(rec.dataLen[blk] / SIZE_OF_OFFSET_NUMBER));
}

// xl_hash_delete
const DELETE_CLEAR_DEAD_MARKING = 0;
const SIZE_OF_HASH_DELETE = 2;

/** Block 1: bucket or overflow page. */
function redoDelete(rec: WalRecord, blk: number): void {
  if (blk !== 1) throw unexpectedBlock(blk);
  const xlrec = mainData(rec, SIZE_OF_HASH_DELETE);
  checkHashPage();
  deleteOffsets(rec, 1);
  if (W8[xlrec + DELETE_CLEAR_DEAD_MARKING] !== 0) clearHashFlag(LH_PAGE_HAS_DEAD_TUPLES);
}

// xl_hash_update_meta_page
const UPDATE_NTUPLES = 0;
const SIZE_OF_HASH_UPDATE_META_PAGE = 8;

/** Block 0: metapage. */
function redoUpdateMetaPage(rec: WalRecord, blk: number): void {
  if (blk !== 0) throw unexpectedBlock(blk);
  const xlrec = mainData(rec, SIZE_OF_HASH_UPDATE_META_PAGE);
  checkMetapage();
  setNTuples(f64(xlrec + UPDATE_NTUPLES));
}

// xl_hash_vacuum_one_page, followed by the offset numbers
const VACUUM_NTUPLES = 4;
const SIZE_OF_HASH_VACUUM_ONE_PAGE = 8;

function redoVacuumOnePage(rec: WalRecord, blk: number): void {
  const ntuples = i32(mainData(rec, SIZE_OF_HASH_VACUUM_ONE_PAGE) + VACUUM_NTUPLES);
  if (ntuples < 0) throw new RedoError(`number of tuples to remove is ${ntuples}`);
  vacuumOnePage(rec, blk, ntuples);
}

/**
 * Applies XLOG_HASH_VACUUM_ONE_PAGE, whose count has 16 bits. @throws {RedoError} when record and
 * page don't fit together
 */
export function redoVacuumOnePage16(rec: WalRecord, blk: number): void {
  vacuumOnePage(rec, blk, u16(mainData(rec, SIZE_OF_HASH_VACUUM_ONE_PAGE) + VACUUM_NTUPLES));
}

/** Block 0: bucket or overflow page; block 1: metapage. */
function vacuumOnePage(rec: WalRecord, blk: number, ntuples: number): void {
  if (blk === 0) {
    const size = SIZE_OF_HASH_VACUUM_ONE_PAGE + ntuples * SIZE_OF_OFFSET_NUMBER;
    checkHashPage();
    pageIndexMultiDelete(PAGE, mainData(rec, size) + SIZE_OF_HASH_VACUUM_ONE_PAGE, ntuples);
    clearHashFlag(LH_PAGE_HAS_DEAD_TUPLES);
  } else if (blk === 1) {
    checkMetapage();
    setNTuples(nTuples() - ntuples);
  } else {
    throw unexpectedBlock(blk);
  }
  pageSetLsn(PAGE, rec.endLsn);
}
