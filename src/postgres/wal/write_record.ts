/** Writes the headers of WAL records. */
import { crc32c } from "../../common/crc32c.ts";
import { type Lsn, lsnHigh, lsnLow } from "../../common/lsn.ts";
import { XL_CRC, XL_INFO, XL_PREV, XL_RMID, XL_TOT_LEN } from "./parse.ts";
import { SIZE_OF_XLOG_RECORD } from "./record.ts";

export interface RecordHeader {
  /** Where the record before starts. */
  readonly prev: Lsn;
  readonly rmid: number;
  readonly info: number;
}

/**
 * Writes a record's header before its data, with the checksum of both. `xl_xid` is 0.
 *
 * @param bytes the whole record, with {@link SIZE_OF_XLOG_RECORD} zeros where the header goes
 */
export function writeRecordHeader(bytes: Uint8Array, { prev, rmid, info }: RecordHeader): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  view.setUint32(XL_TOT_LEN, bytes.length, true);
  view.setUint32(XL_PREV, lsnLow(prev), true);
  view.setUint32(XL_PREV + 4, lsnHigh(prev), true);
  view.setUint8(XL_INFO, info);
  view.setUint8(XL_RMID, rmid);
  const bodyCrc = crc32c(bytes, SIZE_OF_XLOG_RECORD, bytes.length - SIZE_OF_XLOG_RECORD);
  view.setUint32(XL_CRC, crc32c(bytes, 0, XL_CRC, bodyCrc), true);
}
