/**
 * Redo of B-tree indexes. Record types and structs: src/include/access/nbtxlog.h; replay:
 * src/backend/access/nbtree/nbtxlog.c.
 */
import type { WalRecord } from "../../wal/record.ts";
import { redoDedup } from "./btree_dedup.ts";
import { redoDelete, redoVacuum } from "./btree_delete.ts";
import { insertTuple, insertTupleSplittingPosting } from "./btree_insert.ts";
import {
  BTP_DELETED,
  BTP_HALF_DEAD,
  BTP_HAS_FULLXID,
  BTP_LEAF,
  BTP_ROOT,
  btreePageInit,
  btreeTuple,
  checkBtreePage,
  clearIncompleteSplit,
  P_HIKEY,
  P_NONE,
  restoreMeta,
  restoreTuples,
  setNext,
  setPrev,
} from "./btree_page.ts";
import { INDEX_ALT_TID_MASK } from "./btree_posting.ts";
import { redoSplit } from "./btree_split.ts";
import { SIZE_OF_INDEX_TUPLE } from "../page/index_tuple.ts";
import {
  pageAddItem,
  pageIndexTupleDelete,
  pageSetLsn,
  pdSpecial,
  setPdLower,
  setPdUpper,
  SIZE_OF_PAGE_HEADER,
} from "../page/page.ts";
import { mainData, unexpectedBlock } from "../page/record_data.ts";
import { copy, PAGE, setU16, u16, u32 } from "../page/workspace.ts";

const XLOG_BTREE_INSERT_LEAF = 0x00;
const XLOG_BTREE_INSERT_UPPER = 0x10;
const XLOG_BTREE_INSERT_META = 0x20;
const XLOG_BTREE_SPLIT_L = 0x30;
const XLOG_BTREE_SPLIT_R = 0x40;
const XLOG_BTREE_INSERT_POST = 0x50;
const XLOG_BTREE_DEDUP = 0x60;
const XLOG_BTREE_DELETE = 0x70;
const XLOG_BTREE_UNLINK_PAGE = 0x80;
const XLOG_BTREE_UNLINK_PAGE_META = 0x90;
const XLOG_BTREE_NEWROOT = 0xa0;
const XLOG_BTREE_MARK_PAGE_HALFDEAD = 0xb0;
export const XLOG_BTREE_VACUUM = 0xc0;
const XLOG_BTREE_META_CLEANUP = 0xe0;
const XLOG_BTREE_OPMASK = 0xf0;

// Block references of an insertion above the leaves
const INSERT_CHILD_BLOCK = 1;
const INSERT_META_BLOCK = 2;

// xl_btree_newroot
const NEWROOT_LEVEL = 4;
const SIZE_OF_NEWROOT = 8;
const NEWROOT_CHILD_BLOCK = 1;
const NEWROOT_META_BLOCK = 2;

// xl_btree_mark_page_halfdead
const HALFDEAD_POFFSET = 0;
const HALFDEAD_LEFTBLK = 8;
const HALFDEAD_RIGHTBLK = 12;
const HALFDEAD_TOPPARENT = 16;
const SIZE_OF_HALFDEAD = 20;
const HALFDEAD_PARENT_BLOCK = 1;

// xl_btree_unlink_page
const UNLINK_LEFTSIB = 0;
const UNLINK_RIGHTSIB = 4;
const UNLINK_LEVEL = 8;
const UNLINK_SAFEXID = 16;
const UNLINK_LEAFLEFTSIB = 24;
const UNLINK_LEAFRIGHTSIB = 28;
const UNLINK_LEAFTOPPARENT = 32;
const SIZE_OF_UNLINK = 36;
const UNLINK_TARGET_BLOCK = 0;
const UNLINK_LEFT_BLOCK = 1;
const UNLINK_RIGHT_BLOCK = 2;
const UNLINK_LEAF_BLOCK = 3;
const UNLINK_META_BLOCK = 4;

/** BTDeletedPageData, after a deleted page's header: FullTransactionId safexid. */
const SIZE_OF_DELETED_PAGE_DATA = 8;

/** BlockNumber in an index tuple's t_tid, which is its downlink. */
const SIZE_OF_DOWNLINK = 4;
const T_INFO = 6;

/**
 * Applies a Btree record to the page in the workspace.
 * @param blk which of the record's block references that page is
 * @throws {RedoError} when record and page don't fit together
 */
export function redoBtree(rec: WalRecord, blk: number): void {
  const op = rec.xl_info & XLOG_BTREE_OPMASK;
  switch (op) {
    case XLOG_BTREE_INSERT_LEAF:
    case XLOG_BTREE_INSERT_UPPER:
    case XLOG_BTREE_INSERT_META:
      return redoInsert(rec, blk, op);
    case XLOG_BTREE_SPLIT_L:
      return redoSplit(rec, blk, true);
    case XLOG_BTREE_SPLIT_R:
      return redoSplit(rec, blk, false);
    case XLOG_BTREE_UNLINK_PAGE:
    case XLOG_BTREE_UNLINK_PAGE_META:
      return redoUnlinkPage(rec, blk, op);
    case XLOG_BTREE_NEWROOT:
      return redoNewroot(rec, blk);
    case XLOG_BTREE_MARK_PAGE_HALFDEAD:
      return redoMarkPageHalfdead(rec, blk);
  }
  if (blk !== 0) throw unexpectedBlock(blk);
  switch (op) {
    case XLOG_BTREE_INSERT_POST:
      return insertTupleSplittingPosting(rec);
    case XLOG_BTREE_DEDUP:
      return redoDedup(rec);
    case XLOG_BTREE_DELETE:
      return redoDelete(rec);
    case XLOG_BTREE_VACUUM:
      return redoVacuum(rec);
    case XLOG_BTREE_META_CLEANUP:
      return restoreMeta(rec, blk);
    default:
      // XLOG_BTREE_REUSE_PAGE, for standbys, refers to no block.
      throw unexpectedBlock(blk);
  }
}

function redoInsert(rec: WalRecord, blk: number, op: number): void {
  if (blk === 0) return insertTuple(rec);
  if (blk === INSERT_CHILD_BLOCK && op !== XLOG_BTREE_INSERT_LEAF) return clearIncompleteSplit(rec);
  if (blk === INSERT_META_BLOCK && op === XLOG_BTREE_INSERT_META) return restoreMeta(rec, blk);
  throw unexpectedBlock(blk);
}

function redoNewroot(rec: WalRecord, blk: number): void {
  const level = u32(mainData(rec, SIZE_OF_NEWROOT) + NEWROOT_LEVEL);
  if (blk === NEWROOT_CHILD_BLOCK) return clearIncompleteSplit(rec);
  if (blk === NEWROOT_META_BLOCK) return restoreMeta(rec, blk);
  if (blk !== 0) throw unexpectedBlock(blk);
  btreePageInit(P_NONE, P_NONE, level, level === 0 ? BTP_ROOT | BTP_LEAF : BTP_ROOT);
  if (level > 0) restoreTuples(rec, blk);
  pageSetLsn(PAGE, rec.endLsn);
}

/**
 * The first step of deleting a leaf and the pages above it that have no other child: the topmost
 * one's parent drops its downlink.
 */
function redoMarkPageHalfdead(rec: WalRecord, blk: number): void {
  const main = mainData(rec, SIZE_OF_HALFDEAD);
  if (blk === HALFDEAD_PARENT_BLOCK) {
    // The subtree's key range goes to its right sibling: the subtree's tuple gets the sibling's
    // downlink, and the sibling's tuple is removed.
    const off = u16(main + HALFDEAD_POFFSET);
    checkBtreePage();
    copy(btreeTuple(off), btreeTuple(off + 1), SIZE_OF_DOWNLINK);
    pageIndexTupleDelete(PAGE, off + 1);
    pageSetLsn(PAGE, rec.endLsn);
  } else if (blk === 0) {
    const left = u32(main + HALFDEAD_LEFTBLK);
    const right = u32(main + HALFDEAD_RIGHTBLK);
    initHalfDeadLeaf(rec, left, right, u32(main + HALFDEAD_TOPPARENT));
  } else {
    throw unexpectedBlock(blk);
  }
}

/** The second step, once for each page of the subtree: it leaves its level's chain. */
function redoUnlinkPage(rec: WalRecord, blk: number, op: number): void {
  const main = mainData(rec, SIZE_OF_UNLINK);
  const left = u32(main + UNLINK_LEFTSIB);
  const right = u32(main + UNLINK_RIGHTSIB);
  switch (blk) {
    case UNLINK_TARGET_BLOCK:
      return initDeletedPage(rec, left, right, u32(main + UNLINK_LEVEL), main + UNLINK_SAFEXID);
    case UNLINK_LEFT_BLOCK:
      checkBtreePage();
      setNext(right);
      return pageSetLsn(PAGE, rec.endLsn);
    case UNLINK_RIGHT_BLOCK:
      checkBtreePage();
      setPrev(left);
      return pageSetLsn(PAGE, rec.endLsn);
    case UNLINK_LEAF_BLOCK: {
      const leafLeft = u32(main + UNLINK_LEAFLEFTSIB);
      const leafRight = u32(main + UNLINK_LEAFRIGHTSIB);
      return initHalfDeadLeaf(rec, leafLeft, leafRight, u32(main + UNLINK_LEAFTOPPARENT));
    }
    case UNLINK_META_BLOCK:
      if (op === XLOG_BTREE_UNLINK_PAGE_META) return restoreMeta(rec, blk);
      throw unexpectedBlock(blk);
    default:
      throw unexpectedBlock(blk);
  }
}

/** A deleted page keeps only the transaction id after which it can be reused (BTPageSetDeleted). */
function initDeletedPage(rec: WalRecord, left: number, right: number, level: number, safexid: number): void {
  btreePageInit(left, right, level, BTP_DELETED | BTP_HAS_FULLXID | (level === 0 ? BTP_LEAF : 0));
  setPdLower(PAGE, SIZE_OF_PAGE_HEADER + SIZE_OF_DELETED_PAGE_DATA);
  setPdUpper(PAGE, pdSpecial(PAGE));
  copy(PAGE + SIZE_OF_PAGE_HEADER, safexid, SIZE_OF_DELETED_PAGE_DATA);
  pageSetLsn(PAGE, rec.endLsn);
}

/**
 * A half-dead leaf's one tuple is a high key without attributes that points to the top of the
 * subtree.
 */
function initHalfDeadLeaf(rec: WalRecord, left: number, right: number, topParent: number): void {
  btreePageInit(left, right, 0, BTP_HALF_DEAD | BTP_LEAF);
  const highKey = pageAddItem(PAGE, SIZE_OF_INDEX_TUPLE, P_HIKEY);
  setU16(highKey, topParent >>> 16);
  setU16(highKey + 2, topParent);
  setU16(highKey + T_INFO, SIZE_OF_INDEX_TUPLE | INDEX_ALT_TID_MASK);
  pageSetLsn(PAGE, rec.endLsn);
}
