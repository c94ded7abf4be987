/**
 * Redo of GIN indexes: an entry tree of keys, a posting tree per frequent key, and a list of
 * pending insertions.
 *
 * Record types and structs: src/include/access/ginxlog.h; replay: src/backend/access/gin/ginxlog.c.
 */
import type { WalRecord } from "../../wal/record.ts";
import { RedoError } from "../page/errors.ts";
import {
  redoCreatePostingTree,
  redoDeletePostingItem,
  redoInsertPostingItem,
  redoRecompressLeaf,
} from "./gin_data.ts";
import { redoInsertDownlink, redoInsertLeafEntry } from "./gin_entry.ts";
import { redoDeleteListPages, redoInsertListPage, redoUpdateMetapage } from "./gin_list.ts";
import {
  checkGinPage,
  checkGinPageKind,
  GIN_DATA,
  GIN_DELETED,
  GIN_INCOMPLETE_SPLIT,
  ginFlags,
  setGinFlags,
  setGinRightlink,
} from "./gin_page.ts";
import { pageSetLsn, setPdPruneXid } from "../page/page.ts";
import { mainData, unexpectedBlock } from "../page/record_data.ts";
import { PAGE, u16, u32 } from "../page/workspace.ts";

const XLOG_GIN_CREATE_PTREE = 0x10;
const XLOG_GIN_INSERT = 0x20;
const XLOG_GIN_SPLIT = 0x30;
const XLOG_GIN_VACUUM_PAGE = 0x40;
const XLOG_GIN_DELETE_PAGE = 0x50;
const XLOG_GIN_UPDATE_META_PAGE = 0x60;
const XLOG_GIN_INSERT_LISTPAGE = 0x70;
const XLOG_GIN_DELETE_LISTPAGE = 0x80;
const XLOG_GIN_VACUUM_DATA_LEAF_PAGE = 0x90;
/** GIN uses all four bits that belong to the resource manager. */
const XLOG_GIN_OPMASK = 0xf0;

// ginxlogInsert: uint16 flags, and for internal pages BlockIdData[2] with the left and the right
// child (high halves first)
const SIZE_OF_INSERT = 2;
const RIGHT_CHILD = SIZE_OF_INSERT + 4;
const SIZE_OF_INSERT_WITH_CHILDREN = RIGHT_CHILD + 4;
const GIN_INSERT_ISDATA = 0x01;
const GIN_INSERT_ISLEAF = 0x02;

/** XLOG_GIN_SPLIT's block reference of the child whose own split this one completes. */
const SPLIT_CHILD = 3;

// ginxlogDeletePage: OffsetNumber parentOffset, padding, BlockNumber rightLink, TransactionId
// deleteXid
const DELETE_RIGHTLINK = 4;
const DELETE_XID = 8;
const SIZE_OF_DELETE_PAGE = 12;

/**
 * Applies a GIN record to the page of block reference `blk`. Does not look at any other block's
 * page or data.
 *
 * @throws {RedoError} when the record or the page is malformed
 */
export function redoGin(rec: WalRecord, blk: number): void {
  switch (rec.xl_info & XLOG_GIN_OPMASK) {
    case XLOG_GIN_CREATE_PTREE:
      if (blk !== 0) throw unexpectedBlock(blk);
      redoCreatePostingTree(rec);
      break;
    case XLOG_GIN_INSERT:
      redoInsert(rec, blk);
      break;
    case XLOG_GIN_SPLIT:
      // Both halves, and a new root, are full-page images.
      if (blk !== SPLIT_CHILD) throw missingImage();
      clearIncompleteSplit();
      break;
    case XLOG_GIN_VACUUM_PAGE:
      throw missingImage();
    case XLOG_GIN_DELETE_PAGE:
      redoDeletePage(rec, blk);
      break;
    case XLOG_GIN_UPDATE_META_PAGE:
      redoUpdateMetapage(rec, blk);
      break;
    case XLOG_GIN_INSERT_LISTPAGE:
      redoInsertListPage(rec, blk);
      break;
    case XLOG_GIN_DELETE_LISTPAGE:
      redoDeleteListPages(rec, blk);
      break;
    case XLOG_GIN_VACUUM_DATA_LEAF_PAGE:
      if (blk !== 0) throw unexpectedBlock(blk);
      redoRecompressLeaf(rec.dataOff[0], rec.dataLen[0]);
      break;
    default:
      throw new RedoError(`unknown GIN record type 0x${rec.xl_info.toString(16)}`);
  }
  pageSetLsn(PAGE, rec.endLsn);
}

/**
 * Block 0: the page; block 1: the left half of the child's split that the new downlink completes.
 */
function redoInsert(rec: WalRecord, blk: number): void {
  const flags = u16(mainData(rec, SIZE_OF_INSERT));
  const isLeaf = (flags & GIN_INSERT_ISLEAF) !== 0;
  if (blk === 1 && !isLeaf) {
    clearIncompleteSplit();
    return;
  }
  if (blk !== 0) throw unexpectedBlock(blk);
  const isData = (flags & GIN_INSERT_ISDATA) !== 0;
  const at = rec.dataOff[0];
  const length = rec.dataLen[0];
  if (isLeaf) {
    if (isData) redoRecompressLeaf(at, length);
    else redoInsertLeafEntry(at, length);
    return;
  }
  const xlrec = mainData(rec, SIZE_OF_INSERT_WITH_CHILDREN);
  const rightBlkno = ((u16(xlrec + RIGHT_CHILD) << 16) | u16(xlrec + RIGHT_CHILD + 2)) >>> 0;
  if (isData) redoInsertPostingItem(at, length, rightBlkno);
  else redoInsertDownlink(at, length, rightBlkno);
}

function clearIncompleteSplit(): void {
  checkGinPage();
  setGinFlags(ginFlags() & ~GIN_INCOMPLETE_SPLIT);
}

/**
 * Block 0: the posting tree page that is deleted; block 1: its parent; block 2: its left sibling.
 */
function redoDeletePage(rec: WalRecord, blk: number): void {
  const xlrec = mainData(rec, SIZE_OF_DELETE_PAGE);
  switch (blk) {
    case 0:
      checkGinPageKind(GIN_DATA, GIN_DATA);
      setGinFlags(ginFlags() | GIN_DELETED);
      // GinPageSetDeleteXid: older transactions may still be on the page
      setPdPruneXid(PAGE, u32(xlrec + DELETE_XID));
      break;
    case 1:
      redoDeletePostingItem(u16(xlrec));
      break;
    case 2:
      checkGinPageKind(GIN_DATA, GIN_DATA);
      setGinRightlink(u32(xlrec + DELETE_RIGHTLINK));
      break;
    default:
      throw unexpectedBlock(blk);
  }
}

function missingImage(): RedoError {
  return new RedoError("the record has no full-page image of the page");
}
