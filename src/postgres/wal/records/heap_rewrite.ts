/**
 * The record of a catalog's rewrite for logical decoding: xl_heap_rewrite_mapping in
 * src/include/access/heapam_xlog.h. Throws {@link WalError} on a short record.
 */
import type { Lsn } from "../../../common/lsn.ts";
import { MainData } from "../main_data.ts";
import { type WalRecord, XLR_RMGR_INFO_MASK } from "../record.ts";
import { RM_HEAP2_ID } from "../rmgr.ts";

/** XLOG_HEAP2_REWRITE, without XLOG_HEAP_INIT_PAGE. */
const XLOG_HEAP2_REWRITE = 0x00;
const XLOG_HEAP_OPMASK = 0x70;

/** Where old row versions went, for transactions that still see the catalog as it was. */
export interface HeapRewrite {
  /** The file below `pg_logical/mappings`, and where in it the mappings go. */
  readonly file: string;
  readonly offset: number;
  /** Where the WAL was when the rewrite began. */
  readonly startLsn: Lsn;
  readonly mappings: Uint8Array;
}

/** null for any other record. The mappings lie in the record's buffer. */
export function parseHeapRewrite(rec: WalRecord): HeapRewrite | null {
  const isRewrite = rec.xl_rmid === RM_HEAP2_ID &&
    (rec.xl_info & XLR_RMGR_INFO_MASK & XLOG_HEAP_OPMASK) === XLOG_HEAP2_REWRITE;
  if (!isRewrite) return null;
  const data = new MainData(rec);
  const mappedXid = data.u32();
  const db = data.u32();
  const rel = data.u32();
  data.u32();
  const offset = data.i64();
  data.u32();
  data.u32();
  const startLsn = data.i64() as Lsn;
  const hex = (value: number): string => value.toString(16);
  const lsn = `${hex(Math.floor(startLsn / 2 ** 32))}_${hex(startLsn % 2 ** 32)}`.toUpperCase();
  return {
    // LOGICAL_REWRITE_FORMAT
    file: `map-${hex(db)}-${hex(rel)}-${lsn}-${hex(mappedXid)}-${hex(rec.xl_xid)}`,
    offset,
    startLsn,
    mappings: rec.bytes.subarray(rec.mainOff + rec.mainLen - data.left, rec.mainOff + rec.mainLen),
  };
}
