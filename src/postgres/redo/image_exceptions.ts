/**
 * Records that refer to blocks without an image of them even when it is the first change of the
 * block after a checkpoint, because redo of them needs none: REGBUF_NO_IMAGE in
 * src/backend/access/heap/heapam.c (log_heap_visible) and src/backend/access/hash.
 */
import { RM_HASH_ID, RM_HEAP2_ID } from "../wal/rmgr.ts";
import type { WalRecord } from "../wal/record.ts";
import { XLOG_HEAP2_VISIBLE, XLOG_HEAP_OPMASK } from "./heap/heap_record.ts";

/** Whether it only sets bits that say that all rows of a page are visible. */
export function isVisibleRecord(record: WalRecord): boolean {
  return record.xl_rmid === RM_HEAP2_ID && (record.xl_info & XLOG_HEAP_OPMASK) === XLOG_HEAP2_VISIBLE;
}

/** Whether it is of a hash index: it refers to a bucket's first page only to lock it. */
export function isHashRecord(record: WalRecord): boolean {
  return record.xl_rmid === RM_HASH_ID;
}
