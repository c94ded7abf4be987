/**
 * Full-page images: turns the form that a record stores into a page. RestoreBlockImage in
 * xlogreader.c.
 */
import { BLCKSZ } from "../cluster/page_layout.ts";
import { zstdDecompressSync } from "node:zlib";
import { assert } from "../../common/assert.ts";
import { errorMessage } from "../../common/errors.ts";
import { WalError } from "./error.ts";
import { decompressLz4 } from "./lz4.ts";
import { decompressPglz } from "./pglz.ts";
import {
  BKPBLOCK_HAS_IMAGE,
  BKPIMAGE_COMPRESS_LZ4,
  BKPIMAGE_COMPRESS_PGLZ,
  BKPIMAGE_COMPRESS_ZSTD,
  BKPIMAGE_COMPRESSED,
  type WalRecord,
} from "./record.ts";

/** A compressed image is unpacked here before its hole is inserted. */
const unpacked = new Uint8Array(BLCKSZ);

/**
 * Writes the 8192 bytes of the page image of block reference `block` to `dst[dstOff..]`: unpacked,
 * hole zeroed. The page has the LSN of the time when the image was taken; redo sets the new one.
 *
 * `dst` may be the buffer that holds the record, as long as the two don't overlap.
 *
 * @throws {WalError} when the image can't be unpacked
 */
export function restoreBlockImage(rec: WalRecord, block: number, dst: Uint8Array, dstOff: number): void {
  assert(
    block < rec.blockCount && rec.blockInUse[block] === 1 &&
      (rec.blockFlags[block] & BKPBLOCK_HAS_IMAGE) !== 0,
    "the block reference has an image",
  );
  const holeOff = rec.holeOff[block];
  const holeLen = rec.holeLen[block];
  let src = rec.bytes;
  let srcOff = rec.imageOff[block];
  if ((rec.imageInfo[block] & BKPIMAGE_COMPRESSED) !== 0) {
    unpack(rec, block, BLCKSZ - holeLen);
    src = unpacked;
    srcOff = 0;
  }
  if (holeLen === 0) {
    copy(dst, dstOff, src, srcOff, BLCKSZ);
    return;
  }
  const behindHole = holeOff + holeLen;
  copy(dst, dstOff, src, srcOff, holeOff);
  dst.fill(0, dstOff + holeOff, dstOff + behindHole);
  copy(dst, dstOff + behindHole, src, srcOff + holeOff, BLCKSZ - behindHole);
}

function copy(dst: Uint8Array, dstOff: number, src: Uint8Array, srcOff: number, length: number): void {
  // Within one buffer copyWithin is several times cheaper: it needs no view.
  if (dst === src) dst.copyWithin(dstOff, srcOff, srcOff + length);
  else dst.set(src.subarray(srcOff, srcOff + length), dstOff);
}

function unpack(rec: WalRecord, block: number, size: number): void {
  const method = rec.imageInfo[block] & BKPIMAGE_COMPRESSED;
  const off = rec.imageOff[block];
  const len = rec.imageLen[block];
  switch (method) {
    case BKPIMAGE_COMPRESS_PGLZ:
      if (decompressPglz(rec.bytes, off, len, unpacked, 0, size)) return;
      throw new WalError(rec.lsn, `pglz image of block ${block} does not unpack to ${size} bytes`);
    case BKPIMAGE_COMPRESS_LZ4:
      if (decompressLz4(rec.bytes, off, len, unpacked, 0, size)) return;
      throw new WalError(rec.lsn, `lz4 image of block ${block} does not unpack to ${size} bytes`);
    case BKPIMAGE_COMPRESS_ZSTD:
      unpackZstd(rec, block, size);
      return;
    default:
      throw new WalError(
        rec.lsn,
        `image of block ${block} is compressed in an unknown way, flags 0x${method.toString(16)}`,
      );
  }
}

function unpackZstd(rec: WalRecord, block: number, size: number): void {
  const off = rec.imageOff[block];
  let page;
  try {
    // One byte more than needed, so that a longer result is reported as such and not as an error of
    // the library. The library does not accept shared memory, where WAL lies, so it gets a copy.
    page = zstdDecompressSync(new Uint8Array(rec.bytes.subarray(off, off + rec.imageLen[block])), {
      maxOutputLength: BLCKSZ + 1,
    });
  } catch (error) {
    throw new WalError(rec.lsn, `zstd image of block ${block} does not unpack: ${errorMessage(error)}`);
  }
  if (page.length !== size) {
    throw new WalError(
      rec.lsn,
      `zstd image of block ${block} unpacks to ${page.length} bytes, expected ${size}`,
    );
  }
  unpacked.set(page);
}
