/**
 * Parses a record: its header, its block references, and where data and images are.
 *
 * Format: src/include/access/xlogrecord.h. The checks are those of DecodeXLogRecord in
 * src/backend/access/transam/xlogreader.c, plus bounds on forks and images that a reader of unknown
 * bytes needs.
 */
import { BLCKSZ } from "../cluster/page_layout.ts";
import { INIT_FORKNUM } from "../cluster/relfile.ts";
import {
  BKPBLOCK_FORK_MASK,
  BKPBLOCK_HAS_DATA,
  BKPBLOCK_HAS_IMAGE,
  BKPBLOCK_SAME_REL,
  BKPIMAGE_COMPRESSED,
  BKPIMAGE_HAS_HOLE,
  MAX_BLOCK_REFERENCES,
  SIZE_OF_XLOG_RECORD,
  type WalRecord,
} from "./record.ts";
import { UNKNOWN_IMAGE_INFO, type WalFormat } from "./wal_format.ts";
import { WalError } from "./error.ts";
import { isValidRmgrId } from "./rmgr.ts";

const TWO_POW_32 = 0x1_0000_0000;
/** Above this an LSN is not an exact number any more. */
const LSN_HIGH_MAX = 0x1f_ffff;

// Offsets in XLogRecord.
export const XL_TOT_LEN = 0;
export const XL_XID = 4;
export const XL_PREV = 8;
export const XL_INFO = 16;
export const XL_RMID = 17;
export const XL_CRC = 20;

// Block ids that say what follows instead of naming a block.
export const XLR_BLOCK_ID_DATA_SHORT = 255;
export const XLR_BLOCK_ID_DATA_LONG = 254;
export const XLR_BLOCK_ID_ORIGIN = 253;
export const XLR_BLOCK_ID_TOPLEVEL_XID = 252;

// Sizes of what follows the id byte.
const BLOCK_HEADER_REST = 3;
const IMAGE_HEADER = 5;
const HOLE_LENGTH = 2;
const RELFILENODE = 12;
const BLOCK_NUMBER = 4;

/**
 * Fills `rec` from the record at `bytes[off..]`, except `lsn` and `endLsn`, which the bytes don't
 * tell: set `rec.lsn` first, since errors name it. Looks at nothing outside
 * `[off, off + xl_tot_len)`. Does not check the CRC.
 *
 * @param off where the record starts, 8-byte aligned; the record is contiguous
 * @param pg the major that wrote it
 * @param dropped how many bytes of its data, after its headers, are missing: offsets of data must
 *   not be used then
 * @throws {WalError} on anything that PostgreSQL would not have written
 */
export function parseRecord(
  rec: WalRecord,
  bytes: Uint8Array,
  off: number,
  pg: WalFormat,
  dropped = 0,
): void {
  if (off < 0 || off + SIZE_OF_XLOG_RECORD > bytes.length) {
    throw new WalError(rec.lsn, `${bytes.length - off} bytes are too few for a record header`);
  }
  const totLen = u32(bytes, off + XL_TOT_LEN);
  if (totLen < SIZE_OF_XLOG_RECORD || off + totLen - dropped > bytes.length) {
    throw new WalError(
      rec.lsn,
      `record length ${totLen} is outside ${SIZE_OF_XLOG_RECORD}..${bytes.length - off + dropped}`,
    );
  }
  const prevHigh = u32(bytes, off + XL_PREV + 4);
  if (prevHigh > LSN_HIGH_MAX) throw new WalError(rec.lsn, "xl_prev is beyond 2^53");
  const rmid = bytes[off + XL_RMID];
  if (!isValidRmgrId(rmid)) throw new WalError(rec.lsn, `invalid resource manager id ${rmid}`);

  rec.bytes = bytes;
  rec.off = off;
  rec.isWhole = dropped === 0;
  rec.xl_tot_len = totLen;
  rec.xl_xid = u32(bytes, off + XL_XID);
  rec.xl_prev = prevHigh * TWO_POW_32 + u32(bytes, off + XL_PREV);
  rec.xl_info = bytes[off + XL_INFO];
  rec.xl_rmid = rmid;
  rec.originId = 0;
  rec.toplevelXid = 0;

  const end = off + totLen;
  let at = off + SIZE_OF_XLOG_RECORD;
  let mainLen = 0;
  let blockCount = 0;
  // Bytes of data and images that the headers so far announce; the headers end where exactly that
  // many bytes are left.
  let dataTotal = 0;
  let spcNode = 0;
  let dbNode = 0;
  let relNode = 0;
  let hasRelation = false;

  while (end - at > dataTotal) {
    const id = bytes[at++];
    if (id < MAX_BLOCK_REFERENCES) {
      if (id < blockCount) throw new WalError(rec.lsn, `block id ${id} is out of order`);
      if (end - at < BLOCK_HEADER_REST) throw shortRecord(rec);
      while (blockCount < id) rec.blockInUse[blockCount++] = 0;
      blockCount = id + 1;
      rec.blockInUse[id] = 1;
      const flags = bytes[at];
      const dataLen = u16(bytes, at + 1);
      at += BLOCK_HEADER_REST;
      if ((flags & BKPBLOCK_FORK_MASK) > INIT_FORKNUM) {
        throw new WalError(rec.lsn, `block ${id} names fork ${flags & BKPBLOCK_FORK_MASK}`);
      }
      if (((flags & BKPBLOCK_HAS_DATA) !== 0) !== (dataLen !== 0)) {
        throw new WalError(
          rec.lsn,
          `block ${id} has flags 0x${flags.toString(16)} but ${dataLen} bytes of data`,
        );
      }
      rec.blockFlags[id] = flags;
      rec.dataLen[id] = dataLen;
      dataTotal += dataLen;

      if ((flags & BKPBLOCK_HAS_IMAGE) !== 0) {
        if (end - at < IMAGE_HEADER) throw shortRecord(rec);
        const imageLen = u16(bytes, at);
        const holeOff = u16(bytes, at + 2);
        const bimgInfo = bytes[at + 4];
        const info = pg.imageInfo[bimgInfo];
        if (info === UNKNOWN_IMAGE_INFO) throw unknownImageInfo(rec, id, bimgInfo, pg);
        at += IMAGE_HEADER;
        let holeLen = 0;
        if ((info & BKPIMAGE_COMPRESSED) === 0) {
          holeLen = BLCKSZ - imageLen;
        } else if ((info & BKPIMAGE_HAS_HOLE) !== 0) {
          if (end - at < HOLE_LENGTH) throw shortRecord(rec);
          holeLen = u16(bytes, at);
          at += HOLE_LENGTH;
        }
        checkImage(rec, id, info, imageLen, holeOff, holeLen);
        rec.imageLen[id] = imageLen;
        rec.bimgInfo[id] = bimgInfo;
        rec.imageInfo[id] = info;
        rec.holeOff[id] = holeOff;
        rec.holeLen[id] = holeLen;
        dataTotal += imageLen;
      } else {
        rec.imageLen[id] = 0;
        rec.imageInfo[id] = 0;
        rec.holeOff[id] = 0;
        rec.holeLen[id] = 0;
      }

      if ((flags & BKPBLOCK_SAME_REL) === 0) {
        if (end - at < RELFILENODE) throw shortRecord(rec);
        spcNode = u32(bytes, at);
        dbNode = u32(bytes, at + 4);
        relNode = u32(bytes, at + 8);
        hasRelation = true;
        at += RELFILENODE;
      } else if (!hasRelation) {
        throw new WalError(rec.lsn, `block ${id} is in the relation of a block before it, but there is none`);
      }
      if (end - at < BLOCK_NUMBER) throw shortRecord(rec);
      rec.spcNode[id] = spcNode;
      rec.dbNode[id] = dbNode;
      rec.relNode[id] = relNode;
      rec.blkno[id] = u32(bytes, at);
      at += BLOCK_NUMBER;
    } else if (id === XLR_BLOCK_ID_DATA_SHORT) {
      if (end - at < 1) throw shortRecord(rec);
      mainLen = bytes[at++];
      dataTotal += mainLen;
      break;
    } else if (id === XLR_BLOCK_ID_DATA_LONG) {
      if (end - at < 4) throw shortRecord(rec);
      mainLen = u32(bytes, at);
      at += 4;
      dataTotal += mainLen;
      break;
    } else if (id === XLR_BLOCK_ID_ORIGIN) {
      if (end - at < 2) throw shortRecord(rec);
      rec.originId = u16(bytes, at);
      at += 2;
    } else if (id === XLR_BLOCK_ID_TOPLEVEL_XID) {
      if (end - at < 4) throw shortRecord(rec);
      rec.toplevelXid = u32(bytes, at);
      at += 4;
    } else {
      throw new WalError(rec.lsn, `invalid block id ${id}`);
    }
  }
  if (end - at !== dataTotal) throw shortRecord(rec);

  // After the headers: each block's image and data in the order of the ids, then the main data.
  for (let id = 0; id < blockCount; id++) {
    if (rec.blockInUse[id] === 0) continue;
    rec.imageOff[id] = at;
    at += rec.imageLen[id];
    rec.dataOff[id] = at;
    at += rec.dataLen[id];
  }
  rec.blockCount = blockCount;
  rec.mainOff = at;
  rec.mainLen = mainLen;
}

/** The cross-checks between an image's length, its hole and its flags. */
function checkImage(
  rec: WalRecord,
  id: number,
  info: number,
  imageLen: number,
  holeOff: number,
  holeLen: number,
): void {
  const hasHole = (info & BKPIMAGE_HAS_HOLE) !== 0;
  const compressed = (info & BKPIMAGE_COMPRESSED) !== 0;
  const right = hasHole
    ? holeOff > 0 && holeLen > 0 && holeOff + holeLen <= BLCKSZ && imageLen < BLCKSZ
    : holeOff === 0 && holeLen === 0 && (compressed ? imageLen < BLCKSZ : imageLen === BLCKSZ);
  if (!right) {
    throw new WalError(
      rec.lsn,
      `image of block ${id} has ${imageLen} bytes, hole ${holeOff}+${holeLen}, flags 0x${info.toString(16)}`,
    );
  }
}

function unknownImageInfo(rec: WalRecord, id: number, bimgInfo: number, pg: WalFormat): WalError {
  return new WalError(
    rec.lsn,
    `image of block ${id} has flags 0x${bimgInfo.toString(16)}, which PostgreSQL ${pg.major} does not know`,
  );
}

function shortRecord(rec: WalRecord): WalError {
  return new WalError(
    rec.lsn,
    `the parts of the record don't add up to its length, ${rec.xl_tot_len} bytes`,
  );
}

function u16(bytes: Uint8Array, at: number): number {
  return bytes[at] | (bytes[at + 1] << 8);
}

function u32(bytes: Uint8Array, at: number): number {
  return (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
}
