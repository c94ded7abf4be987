/**
 * Redo of SP-GiST indexes. Source: src/backend/access/spgist/spgxlog.c; record structs:
 * src/include/access/spgxlog.h.
 *
 * Everything that a record does is in its main data; its blocks have no data of their own.
 */
import { type WalRecord, XLR_RMGR_INFO_MASK } from "../../wal/record.ts";
import { RedoError } from "../page/errors.ts";
import { INVALID_BLOCK_NUMBER, INVALID_OFFSET_NUMBER } from "../page/item_pointer.ts";
import { pageIndexTupleDelete, pageSetLsn } from "../page/page.ts";
import { blockNumber, hasBlock, mainData, unexpectedBlock } from "../page/record_data.ts";
import {
  addDeadTuple,
  addOrReplaceTuple,
  checkSpgistPage,
  innerTupleSize,
  leafTupleSize,
  replaceByDeadTuples,
  replaceTuple,
  setNextOffset,
  SIZE_OF_OFFSET_NUMBER,
  SPGIST_LEAF,
  SPGIST_NULLS,
  SPGIST_PLACEHOLDER,
  SPGIST_REDIRECT,
  spgistPageInit,
  updateNodeLink,
} from "./spgist_page.ts";
import { redoPickSplit } from "./spgist_picksplit.ts";
import { redoVacuumLeaf, redoVacuumRedirect, redoVacuumRoot } from "./spgist_vacuum.ts";
import { PAGE, u16, u32, W8 } from "../page/workspace.ts";

const XLOG_SPGIST_ADD_LEAF = 0x10;
const XLOG_SPGIST_MOVE_LEAFS = 0x20;
const XLOG_SPGIST_ADD_NODE = 0x30;
const XLOG_SPGIST_SPLIT_TUPLE = 0x40;
const XLOG_SPGIST_PICKSPLIT = 0x50;
const XLOG_SPGIST_VACUUM_LEAF = 0x60;
const XLOG_SPGIST_VACUUM_ROOT = 0x70;
export const XLOG_SPGIST_VACUUM_REDIRECT = 0x80;

/**
 * Applies an SP-GiST record to the page of block reference `blk`.
 *
 * From the other blocks only their numbers are needed, for downlinks and redirections that lead to
 * them.
 *
 * @throws {RedoError} when the record or the page is malformed
 */
export function redoSpgist(rec: WalRecord, blk: number): void {
  switch (rec.xl_info & XLR_RMGR_INFO_MASK) {
    case XLOG_SPGIST_ADD_LEAF:
      redoAddLeaf(rec, blk);
      break;
    case XLOG_SPGIST_MOVE_LEAFS:
      redoMoveLeafs(rec, blk);
      break;
    case XLOG_SPGIST_ADD_NODE:
      redoAddNode(rec, blk);
      break;
    case XLOG_SPGIST_SPLIT_TUPLE:
      redoSplitTuple(rec, blk);
      break;
    case XLOG_SPGIST_PICKSPLIT:
      redoPickSplit(rec, blk);
      break;
    case XLOG_SPGIST_VACUUM_LEAF:
      redoVacuumLeaf(rec, blk);
      break;
    case XLOG_SPGIST_VACUUM_ROOT:
      redoVacuumRoot(rec, blk);
      break;
    case XLOG_SPGIST_VACUUM_REDIRECT:
      redoVacuumRedirect(rec, blk);
      break;
    default:
      throw new RedoError(`unknown SP-GiST record type 0x${rec.xl_info.toString(16)}`);
  }
  pageSetLsn(PAGE, rec.endLsn);
}

// spgxlogAddLeaf, followed by the leaf tuple
const ADD_LEAF_NEW_PAGE = 0;
const ADD_LEAF_STORES_NULLS = 1;
const ADD_LEAF_OFFNUM_LEAF = 2;
const ADD_LEAF_OFFNUM_HEAD_LEAF = 4;
const ADD_LEAF_OFFNUM_PARENT = 6;
const ADD_LEAF_NODE_I = 8;
const SIZE_OF_ADD_LEAF = 10;

/** Block 0: the leaf page; block 1: the page of the parent, if its downlink changes. */
function redoAddLeaf(rec: WalRecord, blk: number): void {
  const xlrec = mainData(rec, SIZE_OF_ADD_LEAF);
  const offnumLeaf = u16(xlrec + ADD_LEAF_OFFNUM_LEAF);
  if (blk === 1) {
    const offnumParent = u16(xlrec + ADD_LEAF_OFFNUM_PARENT);
    updateNodeLink(offnumParent, u16(xlrec + ADD_LEAF_NODE_I), blockNumber(rec, 0), offnumLeaf);
    return;
  }
  if (blk !== 0) throw unexpectedBlock(blk);

  const tuple = xlrec + SIZE_OF_ADD_LEAF;
  const size = leafTupleSize(tuple, rec.mainOff + rec.mainLen);
  if (W8[xlrec + ADD_LEAF_NEW_PAGE] !== 0) initLeafPage(W8[xlrec + ADD_LEAF_STORES_NULLS]);
  const offnumHeadLeaf = u16(xlrec + ADD_LEAF_OFFNUM_HEAD_LEAF);
  if (offnumLeaf === offnumHeadLeaf) {
    // The head of the chain was dead; nothing else is in the chain.
    replaceTuple(tuple, size, offnumLeaf);
  } else {
    addOrReplaceTuple(tuple, size, offnumLeaf);
    if (offnumHeadLeaf !== INVALID_OFFSET_NUMBER) setNextOffset(offnumHeadLeaf, offnumLeaf);
  }
}

// spgxlogMoveLeafs, followed by nMoves offset numbers to delete, those of the inserted tuples, and
// these
const MOVE_LEAFS_N_MOVES = 0;
const MOVE_LEAFS_NEW_PAGE = 2;
const MOVE_LEAFS_REPLACE_DEAD = 3;
const MOVE_LEAFS_STORES_NULLS = 4;
const MOVE_LEAFS_OFFNUM_PARENT = 6;
const MOVE_LEAFS_NODE_I = 8;
const MOVE_LEAFS_MY_XID = 12;
const MOVE_LEAFS_IS_BUILD = 16;
const SIZE_OF_MOVE_LEAFS = 20;

/**
 * Block 0: the page that loses the leaf tuples; 1: the page that gets them and one more; 2: the
 * page of the parent.
 */
function redoMoveLeafs(rec: WalRecord, blk: number): void {
  const xlrec = mainData(rec, SIZE_OF_MOVE_LEAFS);
  const nMoves = u16(xlrec + MOVE_LEAFS_N_MOVES);
  // A dead tuple is not worth moving; then there is only the new one.
  const nInsert = W8[xlrec + MOVE_LEAFS_REPLACE_DEAD] !== 0 ? 1 : nMoves + 1;
  mainData(rec, SIZE_OF_MOVE_LEAFS + (nMoves + nInsert) * SIZE_OF_OFFSET_NUMBER);
  const toDelete = xlrec + SIZE_OF_MOVE_LEAFS;
  const toInsert = toDelete + nMoves * SIZE_OF_OFFSET_NUMBER;
  const head = u16(toInsert + (nInsert - 1) * SIZE_OF_OFFSET_NUMBER);

  if (blk === 0) {
    const state = W8[xlrec + MOVE_LEAFS_IS_BUILD] !== 0 ? SPGIST_PLACEHOLDER : SPGIST_REDIRECT;
    const xid = u32(xlrec + MOVE_LEAFS_MY_XID);
    replaceByDeadTuples(toDelete, nMoves, state, SPGIST_PLACEHOLDER, blockNumber(rec, 1), head, xid);
  } else if (blk === 1) {
    if (W8[xlrec + MOVE_LEAFS_NEW_PAGE] !== 0) initLeafPage(W8[xlrec + MOVE_LEAFS_STORES_NULLS]);
    const end = rec.mainOff + rec.mainLen;
    let tuple = toInsert + nInsert * SIZE_OF_OFFSET_NUMBER;
    for (let i = 0; i < nInsert; i++) {
      const size = leafTupleSize(tuple, end);
      addOrReplaceTuple(tuple, size, u16(toInsert + i * SIZE_OF_OFFSET_NUMBER));
      tuple += size;
    }
  } else if (blk === 2) {
    updateNodeLink(
      u16(xlrec + MOVE_LEAFS_OFFNUM_PARENT),
      u16(xlrec + MOVE_LEAFS_NODE_I),
      blockNumber(rec, 1),
      head,
    );
  } else {
    throw unexpectedBlock(blk);
  }
}

// spgxlogAddNode, followed by the new inner tuple
const ADD_NODE_OFFNUM = 0;
const ADD_NODE_OFFNUM_NEW = 2;
const ADD_NODE_NEW_PAGE = 4;
/** The block reference of the page that the parent tuple is on. */
const ADD_NODE_PARENT_BLK = 5;
const ADD_NODE_OFFNUM_PARENT = 6;
const ADD_NODE_NODE_I = 8;
const ADD_NODE_MY_XID = 12;
const ADD_NODE_IS_BUILD = 16;
const SIZE_OF_ADD_NODE = 20;

/**
 * Block 0: the page of the inner tuple that gets a node; 1: the page that it moves to, if it has
 * to; 2: the page of the parent, if it is neither of them.
 */
function redoAddNode(rec: WalRecord, blk: number): void {
  const xlrec = mainData(rec, SIZE_OF_ADD_NODE);
  const tuple = xlrec + SIZE_OF_ADD_NODE;
  const size = innerTupleSize(tuple, rec.mainOff + rec.mainLen);
  const offnum = u16(xlrec + ADD_NODE_OFFNUM);
  if (!hasBlock(rec, 1)) {
    if (blk !== 0) throw unexpectedBlock(blk);
    replaceTuple(tuple, size, offnum);
    return;
  }

  const blknoNew = blockNumber(rec, 1);
  const offnumNew = u16(xlrec + ADD_NODE_OFFNUM_NEW);
  if (blk === 0) {
    checkSpgistPage();
    pageIndexTupleDelete(PAGE, offnum);
    if (W8[xlrec + ADD_NODE_IS_BUILD] !== 0) {
      addDeadTuple(offnum, SPGIST_PLACEHOLDER, INVALID_BLOCK_NUMBER, INVALID_OFFSET_NUMBER, 0);
    } else {
      addDeadTuple(offnum, SPGIST_REDIRECT, blknoNew, offnumNew, u32(xlrec + ADD_NODE_MY_XID));
    }
  } else if (blk === 1) {
    // There are no nodes on the pages for nulls.
    if (W8[xlrec + ADD_NODE_NEW_PAGE] !== 0) spgistPageInit(0);
    addOrReplaceTuple(tuple, size, offnumNew);
  } else if (blk !== 2) {
    throw unexpectedBlock(blk);
  }
  if (W8[xlrec + ADD_NODE_PARENT_BLK] === blk) {
    updateNodeLink(u16(xlrec + ADD_NODE_OFFNUM_PARENT), u16(xlrec + ADD_NODE_NODE_I), blknoNew, offnumNew);
  }
}

// spgxlogSplitTuple, followed by the prefix tuple and the postfix tuple
const SPLIT_OFFNUM_PREFIX = 0;
const SPLIT_OFFNUM_POSTFIX = 2;
const SPLIT_NEW_PAGE = 4;
const SPLIT_POSTFIX_BLK_SAME = 5;
const SIZE_OF_SPLIT_TUPLE = 6;

/**
 * Block 0: the page of the tuple that becomes the prefix tuple; block 1: that of the postfix tuple,
 * if it is another.
 */
function redoSplitTuple(rec: WalRecord, blk: number): void {
  const xlrec = mainData(rec, SIZE_OF_SPLIT_TUPLE);
  const end = rec.mainOff + rec.mainLen;
  const prefix = xlrec + SIZE_OF_SPLIT_TUPLE;
  const prefixSize = innerTupleSize(prefix, end);
  const postfix = prefix + prefixSize;
  const postfixSize = innerTupleSize(postfix, end);
  const offnumPostfix = u16(xlrec + SPLIT_OFFNUM_POSTFIX);
  const sameBlock = W8[xlrec + SPLIT_POSTFIX_BLK_SAME] !== 0;

  if (blk === 0) {
    replaceTuple(prefix, prefixSize, u16(xlrec + SPLIT_OFFNUM_PREFIX));
    if (sameBlock) addOrReplaceTuple(postfix, postfixSize, offnumPostfix);
  } else if (blk === 1 && !sameBlock) {
    if (W8[xlrec + SPLIT_NEW_PAGE] !== 0) spgistPageInit(0);
    addOrReplaceTuple(postfix, postfixSize, offnumPostfix);
  } else {
    throw unexpectedBlock(blk);
  }
}

function initLeafPage(storesNulls: number): void {
  spgistPageInit(storesNulls !== 0 ? SPGIST_LEAF | SPGIST_NULLS : SPGIST_LEAF);
}
