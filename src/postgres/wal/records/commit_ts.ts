/** Commit timestamp records, src/include/access/commit_ts.h. Every parser throws {@link WalError} on a short record. */
import { MainData } from "../main_data.ts";
import type { WalRecord } from "../record.ts";

export const COMMIT_TS_ZEROPAGE = 0x00;
export const COMMIT_TS_TRUNCATE = 0x10;

/** The page number of a ZEROPAGE record. */
export function parseCommitTsZeroPage(rec: WalRecord): number {
  return new MainData(rec).u32();
}

/** Segments wholly before `pageno` go away. */
export interface CommitTsTruncate {
  pageno: number;
  oldestXid: number;
}

export function parseCommitTsTruncate(rec: WalRecord): CommitTsTruncate {
  const data = new MainData(rec);
  const pageno = data.u32();
  return { pageno, oldestXid: data.u32() };
}
