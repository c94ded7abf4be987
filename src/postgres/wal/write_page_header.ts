/** Writes the headers of WAL pages. */
import { type Lsn, lsnHigh, lsnLow } from "../../common/lsn.ts";
import type { WalFormat } from "./wal_format.ts";
import {
  pageHeaderSize,
  SIZE_OF_XLOG_LONG_PHD,
  XLOG_BLCKSZ,
  XLP_FIRST_IS_CONTRECORD,
  XLP_INFO,
  XLP_LONG_HEADER,
  XLP_MAGIC,
  XLP_PAGEADDR,
  XLP_REM_LEN,
  XLP_SEG_SIZE,
  XLP_SYSID,
  XLP_TLI,
  XLP_XLOG_BLCKSZ,
} from "./page_header.ts";

export interface PageHeader {
  pg: WalFormat;
  tli: number;
  systemIdentifier: bigint;
  segmentSize: number;
  /**
   * How many bytes of a record from an earlier page are still to come; 0 when a record starts here.
   */
  remLen: number;
}

/**
 * Writes the header of the WAL page at `pageLsn` to `bytes[off..]`: the long form where a segment
 * starts.
 */
export function writePageHeader(bytes: Uint8Array, off: number, pageLsn: number, header: PageHeader): void {
  const isLong = pageHeaderSize(pageLsn, header.segmentSize) === SIZE_OF_XLOG_LONG_PHD;
  const view = new DataView(bytes.buffer, bytes.byteOffset + off);
  const info = (isLong ? XLP_LONG_HEADER : 0) | (header.remLen > 0 ? XLP_FIRST_IS_CONTRECORD : 0);
  view.setUint16(XLP_MAGIC, header.pg.walPageMagic, true);
  view.setUint16(XLP_INFO, info, true);
  view.setUint32(XLP_TLI, header.tli, true);
  view.setUint32(XLP_PAGEADDR, lsnLow(pageLsn as Lsn), true);
  view.setUint32(XLP_PAGEADDR + 4, lsnHigh(pageLsn as Lsn), true);
  view.setUint32(XLP_REM_LEN, header.remLen, true);
  if (!isLong) return;
  view.setBigUint64(XLP_SYSID, header.systemIdentifier, true);
  view.setUint32(XLP_SEG_SIZE, header.segmentSize, true);
  view.setUint32(XLP_XLOG_BLCKSZ, XLOG_BLCKSZ, true);
}
