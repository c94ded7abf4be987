/**
 * Transaction status records, src/include/access/clog.h. Every parser throws {@link WalError} on a
 * short record.
 */
import type { WalFormat } from "../wal_format.ts";
import { MainData } from "../main_data.ts";
import type { WalRecord } from "../record.ts";

export const CLOG_ZEROPAGE = 0x00;
export const CLOG_TRUNCATE = 0x10;

/** The page number of a ZEROPAGE record. */
export function parseClogZeroPage(rec: WalRecord, pg: WalFormat): number {
  return new MainData(rec).slruPage(pg);
}

/** Removes segments wholly before `pageno`. */
export interface ClogTruncate {
  pageno: number;
  oldestXact: number;
  oldestXactDb: number;
}

export function parseClogTruncate(rec: WalRecord, pg: WalFormat): ClogTruncate {
  const data = new MainData(rec);
  const pageno = data.slruPage(pg);
  const oldestXact = data.u32();
  return { pageno, oldestXact, oldestXactDb: data.u32() };
}
