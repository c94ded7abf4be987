/** Transaction status records, src/include/access/clog.h. Every parser throws {@link WalError} on a short record. */
import { MainData } from "../main_data.ts";
import type { WalRecord } from "../record.ts";

export const CLOG_ZEROPAGE = 0x00;
export const CLOG_TRUNCATE = 0x10;

/** The page number of a ZEROPAGE record. */
export function parseClogZeroPage(rec: WalRecord): number {
  return new MainData(rec).u32();
}

/** Segments wholly before `pageno` go away. */
export interface ClogTruncate {
  pageno: number;
  oldestXact: number;
  oldestXactDb: number;
}

export function parseClogTruncate(rec: WalRecord): ClogTruncate {
  const data = new MainData(rec);
  const pageno = data.u32();
  const oldestXact = data.u32();
  return { pageno, oldestXact, oldestXactDb: data.u32() };
}
