/**
 * Commit timestamp records, src/include/access/commit_ts.h. Every parser throws {@link WalError} on
 * a short record.
 */
import type { WalFormat } from "../wal_format.ts";
import { MainData } from "../main_data.ts";
import type { WalRecord } from "../record.ts";

export const COMMIT_TS_ZEROPAGE = 0x00;
export const COMMIT_TS_TRUNCATE = 0x10;

/** The page number of a ZEROPAGE record. */
export function parseCommitTsZeroPage(rec: WalRecord, pg: WalFormat): number {
  return new MainData(rec).slruPage(pg);
}

/** Removes segments wholly before `pageno`. */
export interface CommitTsTruncate {
  pageno: number;
  oldestXid: number;
}

export function parseCommitTsTruncate(rec: WalRecord, pg: WalFormat): CommitTsTruncate {
  const data = new MainData(rec);
  const pageno = data.slruPage(pg);
  return { pageno, oldestXid: data.u32() };
}
