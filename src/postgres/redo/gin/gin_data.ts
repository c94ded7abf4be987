/**
 * Redo on posting tree pages: internal pages hold an array of posting items, leaves hold compressed
 * posting lists.
 *
 * Record structs: src/include/access/ginxlog.h; replay: src/backend/access/gin/ginxlog.c; the page
 * operations behind it: src/backend/access/gin/gindatapage.c.
 */
import type { WalRecord } from "../../wal/record.ts";
import { RedoError } from "../page/errors.ts";
import {
  checkGinPageKind,
  GIN_COMPRESSED,
  GIN_CONTENTS_END,
  GIN_DATA,
  GIN_DATA_START,
  GIN_LEAF,
  ginFlags,
  ginInitPage,
  ginMaxoff,
  setGinDataSize,
  setGinFlags,
  setGinMaxoff,
} from "./gin_page.ts";
import {
  decodePostingList,
  encodePostingList,
  mergeItems,
  postingListSize,
  readItemPointer,
  SIZE_OF_POSTING_LIST_HEADER,
} from "./gin_posting_list.ts";
import { SIZE_OF_ITEM_POINTER } from "../page/item_pointer.ts";
import { pdLower } from "../page/page.ts";
import { mainData } from "../page/record_data.ts";
import { BLCKSZ, copy, PAGE, SCRATCH, setU16, u16, u32, W8 } from "../page/workspace.ts";

/** sizeof(ginxlogCreatePostingTree): uint32 size. */
const SIZE_OF_CREATE_POSTING_TREE = 4;

// PostingItem: BlockIdData child_blkno (high half first), ItemPointerData key
const SIZE_OF_POSTING_ITEM = 10;
// ginxlogInsertDataInternal: OffsetNumber offset, PostingItem newitem
const NEWITEM = 2;
const SIZE_OF_INSERT_DATA_INTERNAL = NEWITEM + SIZE_OF_POSTING_ITEM;

/** GinDataPageMaxDataSize. */
const DATA_CAPACITY = GIN_CONTENTS_END - GIN_DATA_START;
const MAX_POSTING_ITEMS = Math.floor(DATA_CAPACITY / SIZE_OF_POSTING_ITEM);

// actions of a ginxlogSegmentAction
const GIN_SEGMENT_DELETE = 1;
const GIN_SEGMENT_INSERT = 2;
const GIN_SEGMENT_REPLACE = 3;
const GIN_SEGMENT_ADDITEMS = 4;

/** The part of the page that actions have not reached yet, moved out of the way of the output. */
const TAIL = SCRATCH;
/** A segment that is encoded here before it replaces another. */
const NEW_SEGMENT = SCRATCH + BLCKSZ;

/**
 * A segment of at most BLCKSZ bytes holds one item in its header and at least a byte for every
 * other.
 */
const MAX_SEGMENT_ITEMS = 1 + BLCKSZ - SIZE_OF_POSTING_LIST_HEADER;
const oldItems = new Float64Array(MAX_SEGMENT_ITEMS);
const addedItems = new Float64Array(MAX_SEGMENT_ITEMS);
const mergedItems = new Float64Array(2 * MAX_SEGMENT_ITEMS);

/**
 * XLOG_GIN_CREATE_PTREE: the new tree's root, a leaf that takes over a posting list that has
 * outgrown its tuple.
 */
export function redoCreatePostingTree(rec: WalRecord): void {
  const xlrec = mainData(rec, SIZE_OF_CREATE_POSTING_TREE);
  const size = u32(xlrec);
  if (size > rec.mainLen - SIZE_OF_CREATE_POSTING_TREE || size > DATA_CAPACITY) {
    throw new RedoError(
      `posting lists of ${size} bytes: the record has ${rec.mainLen - SIZE_OF_CREATE_POSTING_TREE}, ` +
        `a page takes ${DATA_CAPACITY}`,
    );
  }
  ginInitPage(GIN_DATA | GIN_LEAF | GIN_COMPRESSED);
  copy(GIN_DATA_START, xlrec + SIZE_OF_CREATE_POSTING_TREE, size);
  setGinDataSize(size);
}

/**
 * A downlink goes into an internal page because the child it used to name alone has split: the item
 * at `offset` keeps its key and now names the right half, the new item before it names the left
 * half.
 *
 * @param at a ginxlogInsertDataInternal of `length` bytes
 * @param rightBlkno the right half
 */
export function redoInsertPostingItem(at: number, length: number, rightBlkno: number): void {
  checkGinPageKind(GIN_DATA | GIN_LEAF, GIN_DATA);
  if (length < SIZE_OF_INSERT_DATA_INTERNAL) {
    throw new RedoError(`ginxlogInsertDataInternal of ${length} bytes`);
  }
  const offset = u16(at);
  const maxoff = ginMaxoff();
  if (offset < 1 || offset > maxoff || maxoff >= MAX_POSTING_ITEMS) {
    throw new RedoError(
      `posting item ${offset} on a page of ${maxoff} items: expected 1 to ${maxoff}, and room up to ${MAX_POSTING_ITEMS}`,
    );
  }
  const item = postingItemAddress(offset);
  setU16(item, rightBlkno >>> 16);
  setU16(item + 2, rightBlkno & 0xffff);
  copy(item + SIZE_OF_POSTING_ITEM, item, (maxoff - offset + 1) * SIZE_OF_POSTING_ITEM);
  copy(item, at + NEWITEM, SIZE_OF_POSTING_ITEM);
  setPostingItemCount(maxoff + 1);
}

/** GinPageDeletePostingItem: takes the downlink of a deleted page out of its parent. */
export function redoDeletePostingItem(offset: number): void {
  checkGinPageKind(GIN_DATA | GIN_LEAF, GIN_DATA);
  const maxoff = ginMaxoff();
  if (offset < 1 || offset > maxoff || maxoff > MAX_POSTING_ITEMS) {
    throw new RedoError(`posting item ${offset} on a page of ${maxoff} items`);
  }
  const item = postingItemAddress(offset);
  copy(item, item + SIZE_OF_POSTING_ITEM, (maxoff - offset) * SIZE_OF_POSTING_ITEM);
  setPostingItemCount(maxoff - 1);
}

function postingItemAddress(offset: number): number {
  return GIN_DATA_START + (offset - 1) * SIZE_OF_POSTING_ITEM;
}

function setPostingItemCount(count: number): void {
  setGinMaxoff(count);
  setGinDataSize(count * SIZE_OF_POSTING_ITEM);
}

/**
 * Changes a leaf's posting lists as ginRedoRecompress does. Each action names the segment it
 * concerns, counted on the page as it was: deleted, replaced, a new one put before it, or items
 * added to it. Added items are all that the record carries of the changed segment, so it is
 * decoded, merged and encoded again, and must come out exactly as Postgres's.
 *
 * @param at a ginxlogRecompressDataLeaf of `length` bytes
 */
export function redoRecompressLeaf(at: number, length: number): void {
  checkGinPageKind(GIN_DATA | GIN_LEAF, GIN_DATA | GIN_LEAF);
  if (length < 2) throw new RedoError(`ginxlogRecompressDataLeaf of ${length} bytes`);
  const walEnd = at + length;
  let wal = at + 2;
  let actions = u16(at);
  if (actions === 0) throw new RedoError("ginxlogRecompressDataLeaf without an action");

  if ((ginFlags() & GIN_COMPRESSED) === 0) compressLeaf();

  let read = GIN_DATA_START;
  let end = PAGE + pdLower(PAGE);
  if (end < GIN_DATA_START || end > GIN_CONTENTS_END) {
    throw new RedoError(`pd_lower ${end - PAGE} on a posting tree leaf`);
  }
  let write = GIN_DATA_START;
  let segment = 0;
  let tailCopied = false;

  for (; actions > 0; actions--) {
    if (wal + 2 > walEnd) throw new RedoError(`record ends with ${actions} segment actions to come`);
    const target = W8[wal];
    const action = W8[wal + 1];
    wal += 2;
    if (target < segment) {
      throw new RedoError(`segment action on segment ${target}, after one on segment ${segment - 1}`);
    }
    for (; segment < target; segment++) {
      const size = postingListSize(read, end);
      if (tailCopied) write = putSegment(write, read, size);
      else write += size;
      read += size;
    }
    if (!tailCopied) {
      // From here on the lists may grow over what has not been read yet.
      copy(TAIL, read, end - read);
      end = TAIL + (end - read);
      read = TAIL;
      tailCopied = true;
    }
    switch (action) {
      case GIN_SEGMENT_DELETE:
        read += postingListSize(read, end);
        segment++;
        break;
      case GIN_SEGMENT_INSERT: {
        const size = postingListSize(wal, walEnd);
        write = putSegment(write, wal, size);
        wal += size;
        break;
      }
      case GIN_SEGMENT_REPLACE: {
        read += postingListSize(read, end);
        segment++;
        const size = postingListSize(wal, walEnd);
        write = putSegment(write, wal, size);
        wal += size;
        break;
      }
      case GIN_SEGMENT_ADDITEMS: {
        if (wal + 2 > walEnd) throw new RedoError("segment action without its item count");
        const count = u16(wal);
        wal += 2;
        if (wal + count * SIZE_OF_ITEM_POINTER > walEnd) {
          throw new RedoError(`segment action with ${count} items, but only ${walEnd - wal} bytes left`);
        }
        const size = addItems(read, end, wal, count);
        write = putSegment(write, NEW_SEGMENT, size);
        wal += count * SIZE_OF_ITEM_POINTER;
        read += postingListSize(read, end);
        segment++;
        break;
      }
      default:
        throw new RedoError(`unknown segment action ${action}`);
    }
  }
  write = putSegment(write, read, end - read);
  setGinDataSize(write - GIN_DATA_START);
}

/** Copies a segment onto the page. @returns the address after it */
function putSegment(write: number, from: number, size: number): number {
  if (write + size > GIN_CONTENTS_END) {
    throw new RedoError(
      `posting lists do not fit: ${write + size - GIN_DATA_START} of ${DATA_CAPACITY} bytes`,
    );
  }
  copy(write, from, size);
  return write + size;
}

/**
 * Encodes the segment at `at` together with `count` item pointers at `itemsAt` into NEW_SEGMENT.
 *
 * @returns the size of the result
 */
function addItems(at: number, end: number, itemsAt: number, count: number): number {
  const oldCount = decodePostingList(at, end, oldItems);
  readItemPointers(itemsAt, count);
  const mergedCount = mergeItems(addedItems, count, oldItems, oldCount, mergedItems);
  return encodePostingList(mergedItems, mergedCount, NEW_SEGMENT, BLCKSZ);
}

/** Reads `count` ItemPointerData into addedItems. */
function readItemPointers(at: number, count: number): void {
  if (count > MAX_SEGMENT_ITEMS) throw new RedoError(`${count} items do not fit a posting list segment`);
  for (let i = 0; i < count; i++) addedItems[i] = readItemPointer(at + i * SIZE_OF_ITEM_POINTER);
}

/**
 * Turns a leaf written before PostgreSQL 9.4, a plain array of item pointers, into one with a
 * compressed segment.
 */
function compressLeaf(): void {
  const count = ginMaxoff();
  if (count * SIZE_OF_ITEM_POINTER > DATA_CAPACITY) {
    throw new RedoError(`${count} items on an uncompressed leaf`);
  }
  let size = 0;
  if (count > 0) {
    readItemPointers(GIN_DATA_START, count);
    size = encodePostingList(addedItems, count, NEW_SEGMENT, BLCKSZ);
    putSegment(GIN_DATA_START, NEW_SEGMENT, size);
  }
  setGinDataSize(size);
  setGinFlags(ginFlags() | GIN_COMPRESSED);
  setGinMaxoff(0);
}
