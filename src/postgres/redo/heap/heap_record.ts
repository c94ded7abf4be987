/**
 * Types, flags and structs of heap records (rmgrs Heap and Heap2),
 * src/include/access/heapam_xlog.h. Offsets are into the main data.
 */

// Heap
export const XLOG_HEAP_INSERT = 0x00;
export const XLOG_HEAP_DELETE = 0x10;
export const XLOG_HEAP_UPDATE = 0x20;
export const XLOG_HEAP_TRUNCATE = 0x30;
export const XLOG_HEAP_HOT_UPDATE = 0x40;
export const XLOG_HEAP_CONFIRM = 0x50;
export const XLOG_HEAP_LOCK = 0x60;
export const XLOG_HEAP_INPLACE = 0x70;

// Heap2
export const XLOG_HEAP2_REWRITE = 0x00;
export const XLOG_HEAP2_PRUNE = 0x10;
export const XLOG_HEAP2_VACUUM = 0x20;
export const XLOG_HEAP2_FREEZE_PAGE = 0x30;
export const XLOG_HEAP2_VISIBLE = 0x40;
export const XLOG_HEAP2_MULTI_INSERT = 0x50;
export const XLOG_HEAP2_LOCK_UPDATED = 0x60;
export const XLOG_HEAP2_NEW_CID = 0x70;

export const XLOG_HEAP_OPMASK = 0x70;
/** The record's first tuple is the page's first: redo starts from an empty page. */
export const XLOG_HEAP_INIT_PAGE = 0x80;

// xl_heap_insert
export const INSERT_OFFNUM = 0;
export const INSERT_FLAGS = 2;
export const SIZE_OF_HEAP_INSERT = 3;

// flags of xl_heap_insert and xl_heap_multi_insert
export const XLH_INSERT_ALL_VISIBLE_CLEARED = 1 << 0;
export const XLH_INSERT_ALL_FROZEN_SET = 1 << 5;

/** xl_heap_header, which precedes a new tuple's data: t_infomask2, t_infomask, t_hoff. */
export const SIZE_OF_HEAP_HEADER = 5;

// xl_heap_delete
export const DELETE_XMAX = 0;
export const DELETE_OFFNUM = 4;
export const DELETE_INFOBITS_SET = 6;
export const DELETE_FLAGS = 7;
export const SIZE_OF_HEAP_DELETE = 8;

// flags of xl_heap_delete
export const XLH_DELETE_ALL_VISIBLE_CLEARED = 1 << 0;
/** A speculative insertion is undone. */
export const XLH_DELETE_IS_SUPER = 1 << 3;
export const XLH_DELETE_IS_PARTITION_MOVE = 1 << 4;

// xl_heap_update
export const UPDATE_OLD_XMAX = 0;
export const UPDATE_OLD_OFFNUM = 4;
export const UPDATE_OLD_INFOBITS_SET = 6;
export const UPDATE_FLAGS = 7;
export const UPDATE_NEW_XMAX = 8;
export const UPDATE_NEW_OFFNUM = 12;
export const SIZE_OF_HEAP_UPDATE = 14;

// flags of xl_heap_update
export const XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED = 1 << 0;
export const XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED = 1 << 1;
export const XLH_UPDATE_PREFIX_FROM_OLD = 1 << 5;
export const XLH_UPDATE_SUFFIX_FROM_OLD = 1 << 6;

/** xl_heap_confirm: the offset number. */
export const SIZE_OF_HEAP_CONFIRM = 2;
/** xl_heap_inplace: the offset number. */
export const SIZE_OF_HEAP_INPLACE = 2;

// xl_heap_lock and xl_heap_lock_updated
export const LOCK_XMAX = 0;
export const LOCK_OFFNUM = 4;
export const LOCK_INFOBITS_SET = 6;
export const LOCK_FLAGS = 7;
export const SIZE_OF_HEAP_LOCK = 8;
export const XLH_LOCK_ALL_FROZEN_CLEARED = 1 << 0;

// xl_heap_prune: latestRemovedXid, nredirected, ndead
export const PRUNE_NREDIRECTED = 4;
export const PRUNE_NDEAD = 6;
export const SIZE_OF_HEAP_PRUNE = 8;

/** xl_heap_vacuum: nunused. */
export const SIZE_OF_HEAP_VACUUM = 2;

// xl_heap_freeze_page: cutoff_xid, ntuples
export const FREEZE_NTUPLES = 4;
export const SIZE_OF_HEAP_FREEZE_PAGE = 6;
// xl_heap_freeze_tuple, one per tuple in the block's data
export const FREEZE_TUPLE_XMAX = 0;
export const FREEZE_TUPLE_OFFSET = 4;
export const FREEZE_TUPLE_INFOMASK2 = 6;
export const FREEZE_TUPLE_INFOMASK = 8;
export const FREEZE_TUPLE_FRZFLAGS = 10;
export const SIZE_OF_FREEZE_TUPLE = 12;
// frzflags
export const XLH_FREEZE_XVAC = 0x02;
export const XLH_INVALID_XVAC = 0x04;

// xl_heap_multi_insert: flags, ntuples, and the offset numbers when the page is not initialised
export const MULTI_INSERT_FLAGS = 0;
export const MULTI_INSERT_NTUPLES = 2;
export const SIZE_OF_HEAP_MULTI_INSERT = 4;
// xl_multi_insert_tuple, in the block's data, aligned to 2 bytes from its start; the tuple's data
// follows it directly
export const MULTI_INSERT_TUPLE_DATALEN = 0;
/** From here on it is an xl_heap_header. */
export const MULTI_INSERT_TUPLE_HEADER = 2;
export const SIZE_OF_MULTI_INSERT_TUPLE = 7;

// xl_heap_visible: cutoff_xid, flags
export const VISIBLE_FLAGS = 4;
export const SIZE_OF_HEAP_VISIBLE = 5;
/** Block references of XLOG_HEAP2_VISIBLE. */
export const VISIBLE_VM_BLOCK = 0;
export const VISIBLE_HEAP_BLOCK = 1;
