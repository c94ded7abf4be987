/**
 * A decoded WAL record, as offsets into the buffer that holds it. Nothing is copied or allocated
 * per record: one instance is filled again and again (a "flyweight"), with its block references in
 * parallel arrays.
 *
 * Layout of a record: `XLogRecord` in src/include/access/xlogrecord.h.
 */

/**
 * sizeof(XLogRecord): xl_tot_len, xl_xid, xl_prev, xl_info, xl_rmid, two bytes of padding, xl_crc.
 */
export const SIZE_OF_XLOG_RECORD = 24;

/** XLR_MAX_BLOCK_ID + 1. */
export const MAX_BLOCK_REFERENCES = 33;

// fork_flags of XLogRecordBlockHeader
export const BKPBLOCK_FORK_MASK = 0x0f;
export const BKPBLOCK_HAS_IMAGE = 0x10;
export const BKPBLOCK_HAS_DATA = 0x20;
/** Redo builds the page from nothing: no earlier version is needed. */
export const BKPBLOCK_WILL_INIT = 0x40;
export const BKPBLOCK_SAME_REL = 0x80;

// WalRecord.imageInfo: bimg_info of XLogRecordBlockImageHeader as PostgreSQL 15 and later have it
export const BKPIMAGE_HAS_HOLE = 0x01;
/** The image replaces the page. Without this flag it is only there for wal_consistency_checking. */
export const BKPIMAGE_APPLY = 0x02;
export const BKPIMAGE_COMPRESS_PGLZ = 0x04;
export const BKPIMAGE_COMPRESS_LZ4 = 0x08;
export const BKPIMAGE_COMPRESS_ZSTD = 0x10;
export const BKPIMAGE_COMPRESSED = 0x1c;

/** `xl_info` bits that belong to the resource manager (the low four are XLogInsert's own). */
export const XLR_RMGR_INFO_MASK = 0xf0;

export class WalRecord {
  /** The buffer that holds the whole record, contiguous and 8-byte aligned. */
  bytes: Uint8Array = EMPTY;
  /** Where its header starts in {@link bytes}. */
  off = 0;
  /**
   * False when the record was passed over: its header and the headers of its parts are there, their
   * data is not.
   */
  isWhole = true;

  xl_tot_len = 0;
  /** Unsigned 32 bits. */
  xl_xid = 0;
  /** LSN of the previous record's start. */
  xl_prev = 0;
  xl_info = 0;
  xl_rmid = 0;

  /** LSN of the first byte of the record. */
  lsn = 0;
  /** PostgreSQL's EndRecPtr: the LSN after the record, 8-byte aligned; redo stores it in pd_lsn. */
  endLsn = 0;

  /** Main data: `mainLen` bytes at `mainOff` in {@link bytes}. */
  mainOff = 0;
  mainLen = 0;
  /** From XLR_BLOCK_ID_ORIGIN; 0 when absent. */
  originId = 0;
  /** From XLR_BLOCK_ID_TOPLEVEL_XID; 0 when absent. */
  toplevelXid = 0;

  /** Highest block id in use + 1; 0 when the record refers to no block. */
  blockCount = 0;
  /** 1 where the block id is in use. */
  readonly blockInUse: Uint8Array = new Uint8Array(MAX_BLOCK_REFERENCES);
  /** fork_flags: BKPBLOCK_* and, in the low four bits, the fork. */
  readonly blockFlags: Uint8Array = new Uint8Array(MAX_BLOCK_REFERENCES);
  readonly spcNode: Uint32Array = new Uint32Array(MAX_BLOCK_REFERENCES);
  readonly dbNode: Uint32Array = new Uint32Array(MAX_BLOCK_REFERENCES);
  readonly relNode: Uint32Array = new Uint32Array(MAX_BLOCK_REFERENCES);
  readonly blkno: Uint32Array = new Uint32Array(MAX_BLOCK_REFERENCES);
  /** The block's own data: `dataLen[i]` bytes at `dataOff[i]`. */
  readonly dataOff: Int32Array = new Int32Array(MAX_BLOCK_REFERENCES);
  readonly dataLen: Int32Array = new Int32Array(MAX_BLOCK_REFERENCES);
  /** The block's image as stored (maybe compressed): `imageLen[i]` bytes at `imageOff[i]`. */
  readonly imageOff: Int32Array = new Int32Array(MAX_BLOCK_REFERENCES);
  readonly imageLen: Int32Array = new Int32Array(MAX_BLOCK_REFERENCES);
  /** bimg_info, as the record has it: see {@link imageInfo} for what it means. */
  readonly bimgInfo: Uint8Array = new Uint8Array(MAX_BLOCK_REFERENCES);
  /** BKPIMAGE_*: how the image is stored, and what it is for. */
  readonly imageInfo: Uint8Array = new Uint8Array(MAX_BLOCK_REFERENCES);
  readonly holeOff: Int32Array = new Int32Array(MAX_BLOCK_REFERENCES);
  readonly holeLen: Int32Array = new Int32Array(MAX_BLOCK_REFERENCES);
}

const EMPTY = new Uint8Array(0);
