/** Turns values in memory into the form that layer files store. */
import { assert } from "../../common/assert.ts";
import type { EncodedValue, EncodeValue, ObjectId } from "../../pagestore/mod.ts";
import { cutRecord, NO_BLOCK } from "../../postgres/wal/cut_record.ts";
import type { PgVersion } from "../../postgres/versions/pg_version.ts";
import { parseRecord } from "../../postgres/wal/parse.ts";
import { WalRecord } from "../../postgres/wal/record.ts";
import { findBlock } from "../../postgres/redo/reconstruct.ts";
import { isRecordTag, KIND_RELATION } from "./keys.ts";

/** A shorter record is stored whole: cutting it would save less than it costs. */
const CUT_FROM_BYTES = 256;

const record = new WalRecord();
let aligned = new Uint8Array(64 << 10);
let cut = new Uint8Array(64 << 10);
const target = { spcNode: 0, dbNode: 0, relNode: 0, fork: 0, blkno: 0 };

const value: { tag: number; bytes: Uint8Array; off: number; len: number } = {
  tag: 0,
  bytes: aligned,
  off: 0,
  len: 0,
};

/**
 * Returns the function that encodes a value for a layer file. In memory, a record that touches many
 * blocks exists once. On disk, each block has its own copy, cut down to the part that the block
 * needs. A result is valid until the next call.
 *
 * @param pg the major that wrote the records
 */
export function storedValues(pg: PgVersion): EncodeValue {
  return (tag, bytes, off, len, object, block) => encodeStoredValue(pg, tag, bytes, off, len, object, block);
}

function encodeStoredValue(
  pg: PgVersion,
  tag: number,
  bytes: Uint8Array,
  off: number,
  len: number,
  object: ObjectId,
  block: number,
): EncodedValue {
  value.tag = tag;
  value.bytes = bytes;
  value.off = off;
  value.len = len;
  if (!isRecordTag(tag) || len < CUT_FROM_BYTES) return value;
  assert(object.kind === KIND_RELATION, "WAL records are stored under relation blocks only");
  if (aligned.length < len) {
    aligned = new Uint8Array(2 * len);
    cut = new Uint8Array(2 * len);
  }
  aligned.set(bytes.subarray(off, off + len));
  parseRecord(record, aligned, 0, pg);
  target.spcNode = object.a;
  target.dbNode = object.b;
  target.relNode = object.c;
  target.fork = object.d;
  target.blkno = block;
  const blk = findBlock(record, target);
  value.bytes = cut;
  value.off = 0;
  value.len = cutRecord(record, blk === -1 ? NO_BLOCK : blk, cut, 0);
  return value;
}
