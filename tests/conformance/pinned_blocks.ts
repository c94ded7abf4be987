/**
 * Blocks that a record names without changing them, only so that replay takes a cleanup lock. PostgreSQL has such a page pinned
 * but not locked when it writes the record, and with wal_consistency_checking logs it all the same: others may change it meanwhile, and their
 * records come before this one while its image, copied earlier where images are compressed, lacks what they did. So the image is
 * no measure; that redo changes nothing is one.
 *
 * hashbucketcleanup in hash.c; _hash_squeezebucket and _hash_freeovflpage in hashovfl.c.
 */
import { type WalRecord, XLR_RMGR_INFO_MASK } from "../../src/postgres/wal/record.ts";
import { RM_HASH_ID } from "../../src/postgres/wal/rmgr.ts";

const XLOG_HASH_MOVE_PAGE_CONTENTS = 0x70;
const XLOG_HASH_SQUEEZE_PAGE = 0x80;
const XLOG_HASH_DELETE = 0x90;

/** Block reference 0 of these is the primary page of the bucket; it is left out when that is the page that changes. */
const NAMES_PRIMARY_PAGE: ReadonlySet<number> = new Set([
  XLOG_HASH_MOVE_PAGE_CONTENTS,
  XLOG_HASH_SQUEEZE_PAGE,
  XLOG_HASH_DELETE,
]);

/** Whether block reference `i` is there for its lock alone. */
export function isOnlyPinned(rec: WalRecord, i: number): boolean {
  return rec.xl_rmid === RM_HASH_ID && i === 0 && NAMES_PRIMARY_PAGE.has(rec.xl_info & XLR_RMGR_INFO_MASK);
}
