/**
 * How the content of a Postgres data directory is spread over the page store's objects.
 *
 * | kind           | a      | b       | c   | d    | blocks                   | size entry      |
 * |----------------|--------|---------|-----|------|--------------------------|-----------------|
 * | RELATION       | spc    | db      | rel | fork | pages                    | pages (dropped) |
 * | SLRU_SEGMENT   | slru   | segment |     |      | pages 0..31              | pages (removed) |
 * | RELMAP         | spc    | db      |     |      | 0: pg_filenode.map       |                 |
 * | DATABASE       | spc    | db      |     |      | 0: one byte (dropped)    |                 |
 * | TABLESPACE     | spc    |         |     |      | 0: its path (dropped)    |                 |
 * | TWOPHASE       | xid    |         |     |      | 0: state file (finished) |                 |
 * | REPLORIGIN     | origin |         |     |      | 0: remote LSN (dropped)  |                 |
 * | CHECKPOINT     |        |         |     |      | 0: CheckPoint struct     |                 |
 * | CONTROL        |        |         |     |      | 0: initdb's pg_control   |                 |
 * | COMMIT_TIME    |        |         |     |      | 0: see commit_times.ts   |                 |
 * | TOTAL_BLOCKS   |        |         |     |      | 0: sum of all sizes      |                 |
 * | CLOCK_SET_BACK |        |         |     |      | 0: see commit_times.ts   |                 |
 * | WAL_TIMELINES  |        |         |     |      | 0: see wal_timelines.ts  |                 |
 *
 * A word in parentheses is what an empty value means: the object is absent, because it was dropped,
 * removed or finished. The numbers are on disk: never reuse one.
 */
import type { ObjectId } from "../../pagestore/mod.ts";

export const KIND_RELATION = 1;
export const KIND_SLRU_SEGMENT = 2;
export const KIND_RELMAP = 3;
export const KIND_DATABASE = 4;
export const KIND_TABLESPACE = 5;
export const KIND_TWOPHASE = 6;
export const KIND_REPLORIGIN = 7;
export const KIND_CHECKPOINT = 8;
export const KIND_CONTROL = 9;
export const KIND_COMMIT_TIME = 10;
export const KIND_TOTAL_BLOCKS = 11;
export const KIND_CLOCK_SET_BACK = 12;
export const KIND_WAL_TIMELINES = 13;

/** The only block of a single-valued object. */
export const VALUE_BLOCK = 0;

export function relationKey(spc: number, db: number, rel: number, fork: number): ObjectId {
  return { kind: KIND_RELATION, a: spc, b: db, c: rel, d: fork };
}

export function slruSegmentKey(slru: number, segment: number): ObjectId {
  return { kind: KIND_SLRU_SEGMENT, a: slru, b: segment, c: 0, d: 0 };
}

export function relmapKey(spc: number, db: number): ObjectId {
  return { kind: KIND_RELMAP, a: spc, b: db, c: 0, d: 0 };
}

export function databaseKey(spc: number, db: number): ObjectId {
  return { kind: KIND_DATABASE, a: spc, b: db, c: 0, d: 0 };
}

export function tablespaceKey(spc: number): ObjectId {
  return { kind: KIND_TABLESPACE, a: spc, b: 0, c: 0, d: 0 };
}

export function twophaseKey(xid: number): ObjectId {
  return { kind: KIND_TWOPHASE, a: xid, b: 0, c: 0, d: 0 };
}

export function reploriginKey(origin: number): ObjectId {
  return { kind: KIND_REPLORIGIN, a: origin, b: 0, c: 0, d: 0 };
}

export const CHECKPOINT_KEY: ObjectId = { kind: KIND_CHECKPOINT, a: 0, b: 0, c: 0, d: 0 };
export const CONTROL_KEY: ObjectId = { kind: KIND_CONTROL, a: 0, b: 0, c: 0, d: 0 };
export const COMMIT_TIME_KEY: ObjectId = { kind: KIND_COMMIT_TIME, a: 0, b: 0, c: 0, d: 0 };
export const TOTAL_BLOCKS_KEY: ObjectId = { kind: KIND_TOTAL_BLOCKS, a: 0, b: 0, c: 0, d: 0 };
export const CLOCK_SET_BACK_KEY: ObjectId = { kind: KIND_CLOCK_SET_BACK, a: 0, b: 0, c: 0, d: 0 };
export const WAL_TIMELINES_KEY: ObjectId = { kind: KIND_WAL_TIMELINES, a: 0, b: 0, c: 0, d: 0 };

// Tags of stored values. The page store returns the tag with the bytes.

/** The whole value: a page, a file, a size. Empty means a page of zeros, or absent. */
export const TAG_BYTES = 0;
/** A WAL record that redo applies to the version before it. */
export const TAG_RECORD = 1;
/** Bytes to write into an SLRU page: (offset u16, length u16, bytes), repeated. */
export const TAG_PATCH = 2;
/** Transaction statuses to write into a pg_xact page: status u32, then xids u32. */
export const TAG_XACT_STATUS = 3;
/**
 * A {@link TAG_RECORD} after which the page's LSN is the record's end, whatever redo of the record
 * alone would set it to.
 */
export const TAG_RECORD_MOVING_LSN = 4;

/** Whether values with this tag are WAL records. */
export function isRecordTag(tag: number): boolean {
  return tag === TAG_RECORD || tag === TAG_RECORD_MOVING_LSN;
}
