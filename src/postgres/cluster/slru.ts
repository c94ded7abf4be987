/**
 * The SLRUs: arrays on disk that are indexed by transaction, multixact or member number, in pages
 * of 8 KiB and files ("segments") of 32 pages.
 *
 * Sources: src/backend/access/transam/{slru,clog,multixact,commit_ts}.c.
 */
import { BLCKSZ } from "./page_layout.ts";
import { assert } from "../../common/assert.ts";

/** SLRU_PAGES_PER_SEGMENT, src/include/access/slru.h. */
export const SLRU_PAGES_PER_SEGMENT = 32;

export const SLRU_CLOG = 0;
export const SLRU_MULTIXACT_OFFSETS = 1;
export const SLRU_MULTIXACT_MEMBERS = 2;
export const SLRU_COMMIT_TS = 3;

/** Directories under the data directory, by SLRU_*. */
export const SLRU_DIRECTORIES = [
  "pg_xact",
  "pg_multixact/offsets",
  "pg_multixact/members",
  "pg_commit_ts",
] as const;

/** Two bits per transaction. */
export const CLOG_XACTS_PER_PAGE = BLCKSZ * 4;
/** A 32-bit offset per multixact. */
export const MULTIXACT_OFFSETS_PER_PAGE = BLCKSZ / 4;
/** Members come in groups of 4: a flag byte each, then their four xids. */
export const MULTIXACT_MEMBERS_PER_GROUP = 4;
export const MULTIXACT_MEMBER_GROUP_SIZE = 20;
/** 409 groups; the page's last 12 bytes are unused. */
export const MULTIXACT_MEMBERS_PER_PAGE = Math.floor(BLCKSZ / MULTIXACT_MEMBER_GROUP_SIZE) *
  MULTIXACT_MEMBERS_PER_GROUP;
/** SizeOfCommitTimestampEntry: a TimestampTz and a replication origin. */
export const COMMIT_TS_ENTRY_SIZE = 10;
export const COMMIT_TS_XACTS_PER_PAGE = Math.floor(BLCKSZ / COMMIT_TS_ENTRY_SIZE);

const ENTRIES_PER_PAGE = [
  CLOG_XACTS_PER_PAGE,
  MULTIXACT_OFFSETS_PER_PAGE,
  MULTIXACT_MEMBERS_PER_PAGE,
  COMMIT_TS_XACTS_PER_PAGE,
] as const;

// Transaction status, src/include/access/clog.h
export const TRANSACTION_STATUS_IN_PROGRESS = 0;
export const TRANSACTION_STATUS_COMMITTED = 1;
export const TRANSACTION_STATUS_ABORTED = 2;
export const TRANSACTION_STATUS_SUB_COMMITTED = 3;

/** Entries on a page of an SLRU. */
export function slruEntriesPerPage(slru: number): number {
  const entries = ENTRIES_PER_PAGE[slru];
  assert(entries !== undefined, "there is such an SLRU");
  return entries;
}

/** The page that holds entry `number` (an xid, a multixact id, a member offset). */
export function slruPage(slru: number, number: number): number {
  return Math.floor((number >>> 0) / slruEntriesPerPage(slru));
}

/** The segment that holds page `pageno`. */
export function slruSegment(pageno: number): number {
  return Math.floor(pageno / SLRU_PAGES_PER_SEGMENT);
}

/** `0000`, `00FF`, `14078`: four hex digits, or as many as it takes (SlruFileName). */
function slruSegmentFileName(segno: number): string {
  assert(Number.isInteger(segno) && segno >= 0, "a segment number is not negative");
  return segno.toString(16).toUpperCase().padStart(4, "0");
}

/** The path of a segment, relative to the data directory. */
export function slruSegmentPath(slru: number, segno: number): string {
  const directory = SLRU_DIRECTORIES[slru];
  assert(directory !== undefined, "there is such an SLRU");
  return `${directory}/${slruSegmentFileName(segno)}`;
}

/** The number of a segment by its file name; undefined when it isn't one (SlruScanDirectory). */
export function parseSlruSegmentFileName(name: string): number | undefined {
  return /^[0-9A-F]{4,6}$/.test(name) ? parseInt(name, 16) : undefined;
}

/**
 * Whether `a` comes before `b` in the circle of 32-bit xids (TransactionIdPrecedes). Special xids
 * come before all.
 */
export function transactionIdPrecedes(a: number, b: number): boolean {
  if (!isNormalXid(a) || !isNormalXid(b)) return (a >>> 0) < (b >>> 0);
  return ((a - b) | 0) < 0;
}

/** FirstNormalTransactionId: below are bootstrap's and the frozen one. */
export const FIRST_NORMAL_XID = 3;

/** FirstMultiXactId, src/include/access/multixact.h. */
export const FIRST_MULTIXACT_ID = 1;

function isNormalXid(xid: number): boolean {
  return (xid >>> 0) >= FIRST_NORMAL_XID;
}

/**
 * Whether `a` comes before `b` in the circle of multixact ids or member offsets
 * (MultiXactIdPrecedes).
 */
export function multiXactIdPrecedes(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}

/** Byte of a CLOG page that holds the status of `xid`, see {@link clogShift}. */
export function clogByte(xid: number): number {
  return ((xid >>> 0) % CLOG_XACTS_PER_PAGE) >> 2;
}

/** Where in that byte its two bits start. */
export function clogShift(xid: number): number {
  return (xid & 3) << 1;
}

/** Byte offset of a multixact's entry on its page of pg_multixact/offsets. */
export function multixactOffsetEntry(mid: number): number {
  return ((mid >>> 0) % MULTIXACT_OFFSETS_PER_PAGE) * 4;
}

/** Byte offset of a member's flag byte on its page of pg_multixact/members. */
export function multixactMemberFlags(offset: number): number {
  const onPage = (offset >>> 0) % MULTIXACT_MEMBERS_PER_PAGE;
  const member = onPage % MULTIXACT_MEMBERS_PER_GROUP;
  return (onPage - member) / MULTIXACT_MEMBERS_PER_GROUP * MULTIXACT_MEMBER_GROUP_SIZE + member;
}

/** Byte offset of a member's xid on its page of pg_multixact/members. */
export function multixactMemberXid(offset: number): number {
  const onPage = (offset >>> 0) % MULTIXACT_MEMBERS_PER_PAGE;
  const member = onPage % MULTIXACT_MEMBERS_PER_GROUP;
  return (onPage - member) / MULTIXACT_MEMBERS_PER_GROUP * MULTIXACT_MEMBER_GROUP_SIZE +
    MULTIXACT_MEMBERS_PER_GROUP + member * 4;
}

/**
 * Byte offset of a transaction's entry on its page of pg_commit_ts: 8 bytes TimestampTz, 2 bytes
 * origin.
 */
export function commitTsEntry(xid: number): number {
  return ((xid >>> 0) % COMMIT_TS_XACTS_PER_PAGE) * COMMIT_TS_ENTRY_SIZE;
}

/**
 * Whether page `page1` comes before all of page `page2` in the circle (PagePrecedes of the SLRU).
 * The numbers compared lie a little inside the pages, as PostgreSQL's do, so that special xids
 * don't count.
 */
function slruPagePrecedes(slru: number, page1: number, page2: number): boolean {
  const perPage = slruEntriesPerPage(slru);
  const inside = FIRST_INSIDE[slru];
  const first1 = (page1 * perPage + inside) >>> 0;
  const first2 = (page2 * perPage + inside) >>> 0;
  const last2 = (first2 + perPage - 1) >>> 0;
  // Numbers that start inside are at least FIRST_NORMAL_XID, except where they have wrapped around.
  if (slru === SLRU_CLOG || slru === SLRU_COMMIT_TS) {
    return transactionIdPrecedes(first1, first2) && transactionIdPrecedes(first1, last2);
  }
  return multiXactIdPrecedes(first1, first2) && multiXactIdPrecedes(first1, last2);
}

/** By SLRU: FirstNormalTransactionId + 1, FirstMultiXactId + 1, 0, FirstNormalTransactionId + 1. */
const FIRST_INSIDE = [FIRST_NORMAL_XID + 1, 2, 0, FIRST_NORMAL_XID + 1] as const;

/**
 * Whether truncation at `cutoffPage` removes segment `segno`: for CLOG TRUNCATE, CommitTs TRUNCATE,
 * and the offsets of MultiXact TRUNCATE_ID with {@link multixactOffsetsCutoffPage}
 * (SlruMayDeleteSegment). Members differ: see {@link truncatedMemberSegments}.
 */
export function slruMayDeleteSegment(slru: number, segno: number, cutoffPage: number): boolean {
  const firstPage = segno * SLRU_PAGES_PER_SEGMENT;
  return slruPagePrecedes(slru, firstPage, cutoffPage) &&
    slruPagePrecedes(slru, firstPage + SLRU_PAGES_PER_SEGMENT - 1, cutoffPage);
}

/**
 * The cutoff page in pg_multixact/offsets for a truncation up to multixact `endTruncOff`
 * (PerformOffsetsTruncation).
 */
export function multixactOffsetsCutoffPage(endTruncOff: number): number {
  // PreviousMultiXactId: 0 is not a multixact.
  const previous = endTruncOff === 1 ? 0xffff_ffff : (endTruncOff - 1) >>> 0;
  return slruPage(SLRU_MULTIXACT_OFFSETS, previous);
}

/**
 * The segments of pg_multixact/members that a truncation of `[startTruncMemb, endTruncMemb)`
 * removes.
 */
export function truncatedMemberSegments(startTruncMemb: number, endTruncMemb: number): number[] {
  const last = slruSegment(slruPage(SLRU_MULTIXACT_MEMBERS, 0xffff_ffff));
  const end = slruSegment(slruPage(SLRU_MULTIXACT_MEMBERS, endTruncMemb));
  const segments: number[] = [];
  let segno = slruSegment(slruPage(SLRU_MULTIXACT_MEMBERS, startTruncMemb));
  while (segno !== end) {
    segments.push(segno);
    segno = segno === last ? 0 : segno + 1;
  }
  return segments;
}
