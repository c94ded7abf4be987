/**
 * Cuts a WAL record down to what one of its blocks needs. A store that keeps a record once for each
 * block that it changes would otherwise keep every block's data as many times.
 *
 * The result is a record that parseRecord reads and that redo applies to that block with the same
 * result. It keeps the header, the headers of all block references (redo of one block looks at the
 * numbers of others), the main data, and the data or the image of the one block. xl_crc is the old
 * record's and does not match; xl_prev is kept.
 */
import { ZenithError } from "../../common/errors.ts";
import {
  BKPBLOCK_FORK_MASK,
  BKPBLOCK_HAS_DATA,
  BKPBLOCK_HAS_IMAGE,
  BKPBLOCK_SAME_REL,
  BKPBLOCK_WILL_INIT,
  BKPIMAGE_APPLY,
  BKPIMAGE_COMPRESSED,
  BKPIMAGE_HAS_HOLE,
  SIZE_OF_XLOG_RECORD,
  type WalRecord,
} from "./record.ts";
import { XL_TOT_LEN, XLR_BLOCK_ID_DATA_LONG, XLR_BLOCK_ID_DATA_SHORT } from "./parse.ts";

/** Keeps no block's data or image: for a page that the record changes without referring to it. */
export const NO_BLOCK = -1;

/**
 * Writes the record cut down to block reference `blk` to `out[outOff..]`. `rec` may lie in any
 * buffer but `out`.
 *
 * @param blk the block reference to keep; {@link NO_BLOCK} for none
 * @returns its length, never more than `rec.xl_tot_len`
 * @throws {ZenithError} `out_of_range` when `out` is too short
 */
export function cutRecord(rec: WalRecord, blk: number, out: Uint8Array, outOff: number): number {
  if (out.length - outOff < rec.xl_tot_len) {
    throw new ZenithError(
      "out_of_range",
      `${out.length - outOff} bytes are too few for a record of ${rec.xl_tot_len}`,
    );
  }
  const bytes = rec.bytes;
  // With the image, nothing else about the block matters.
  const image = blk !== NO_BLOCK && (rec.blockFlags[blk] & BKPBLOCK_HAS_IMAGE) !== 0 &&
    (rec.imageInfo[blk] & BKPIMAGE_APPLY) !== 0;
  let at = outOff;
  for (let i = 0; i < SIZE_OF_XLOG_RECORD; i++) out[at++] = bytes[rec.off + i];

  let previous = -1;
  for (let i = 0; i < rec.blockCount; i++) {
    if (rec.blockInUse[i] === 0 || (image && i !== blk)) continue;
    at = writeBlockHeader(rec, i, previous, i === blk, image, out, at);
    previous = i;
  }
  const mainLen = image ? 0 : rec.mainLen;
  if (mainLen > 0) at = writeMainDataHeader(mainLen, out, at);

  if (image) at = copyPart(out, at, bytes, rec.imageOff[blk], rec.imageLen[blk]);
  else if (blk !== NO_BLOCK) at = copyPart(out, at, bytes, rec.dataOff[blk], rec.dataLen[blk]);
  at = copyPart(out, at, bytes, rec.mainOff, mainLen);
  setU32(out, outOff + XL_TOT_LEN, at - outOff);
  return at - outOff;
}

/** XLogRecordBlockHeader and its parts. Returns the end. */
function writeBlockHeader(
  rec: WalRecord,
  i: number,
  previous: number,
  wanted: boolean,
  image: boolean,
  out: Uint8Array,
  off: number,
): number {
  const dataLen = wanted && !image ? rec.dataLen[i] : 0;
  const sameRelation = previous >= 0 && rec.relNode[i] === rec.relNode[previous] &&
    rec.dbNode[i] === rec.dbNode[previous] && rec.spcNode[i] === rec.spcNode[previous];
  let at = off;
  out[at++] = i;
  out[at++] = (rec.blockFlags[i] & (BKPBLOCK_FORK_MASK | BKPBLOCK_WILL_INIT)) |
    (image ? BKPBLOCK_HAS_IMAGE : 0) | (dataLen > 0 ? BKPBLOCK_HAS_DATA : 0) |
    (sameRelation ? BKPBLOCK_SAME_REL : 0);
  at = writeU16(out, at, dataLen);
  if (image) {
    const info = rec.imageInfo[i];
    at = writeU16(out, at, rec.imageLen[i]);
    at = writeU16(out, at, rec.holeOff[i]);
    out[at++] = rec.bimgInfo[i];
    if ((info & BKPIMAGE_COMPRESSED) !== 0 && (info & BKPIMAGE_HAS_HOLE) !== 0) {
      at = writeU16(out, at, rec.holeLen[i]);
    }
  }
  if (!sameRelation) {
    setU32(out, at, rec.spcNode[i]);
    setU32(out, at + 4, rec.dbNode[i]);
    setU32(out, at + 8, rec.relNode[i]);
    at += 12;
  }
  setU32(out, at, rec.blkno[i]);
  return at + 4;
}

/** XLogRecordDataHeaderShort or Long. Returns the end. */
function writeMainDataHeader(mainLen: number, out: Uint8Array, off: number): number {
  if (mainLen <= 0xff) {
    out[off] = XLR_BLOCK_ID_DATA_SHORT;
    out[off + 1] = mainLen;
    return off + 2;
  }
  out[off] = XLR_BLOCK_ID_DATA_LONG;
  setU32(out, off + 1, mainLen);
  return off + 5;
}

function copyPart(out: Uint8Array, at: number, bytes: Uint8Array, off: number, len: number): number {
  if (len > 0) out.set(bytes.subarray(off, off + len), at);
  return at + len;
}

function writeU16(out: Uint8Array, at: number, value: number): number {
  out[at] = value;
  out[at + 1] = value >>> 8;
  return at + 2;
}

function setU32(out: Uint8Array, at: number, value: number): void {
  out[at] = value;
  out[at + 1] = value >>> 8;
  out[at + 2] = value >>> 16;
  out[at + 3] = value >>> 24;
}
