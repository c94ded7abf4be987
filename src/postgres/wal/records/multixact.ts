/**
 * MultiXact records, src/include/access/multixact.h. Every parser throws {@link WalError} on a
 * short record.
 */
import type { WalFormat } from "../wal_format.ts";
import { MainData } from "../main_data.ts";
import type { WalRecord } from "../record.ts";

export const XLOG_MULTIXACT_ZERO_OFF_PAGE = 0x00;
export const XLOG_MULTIXACT_ZERO_MEM_PAGE = 0x10;
export const XLOG_MULTIXACT_CREATE_ID = 0x20;
export const XLOG_MULTIXACT_TRUNCATE_ID = 0x30;

/** sizeof(MultiXactMember): xid and status. */
const MEMBER_SIZE = 8;

/** The page number of a ZERO_OFF_PAGE (pg_multixact/offsets) or ZERO_MEM_PAGE (members) record. */
export function parseMultixactZeroPage(rec: WalRecord, pg: WalFormat): number {
  return new MainData(rec).slruPage(pg);
}

export interface MultiXactMember {
  xid: number;
  /** MultiXactStatus: 0 FOR KEY SHARE … 5 UPDATE. */
  status: number;
}

export interface MultixactCreate {
  mid: number;
  /** Where its members start in pg_multixact/members. */
  moff: number;
  members: readonly MultiXactMember[];
}

export function parseMultixactCreate(rec: WalRecord): MultixactCreate {
  const data = new MainData(rec);
  const mid = data.u32();
  const moff = data.u32();
  const nmembers = data.count(MEMBER_SIZE);
  const members: MultiXactMember[] = [];
  for (let i = 0; i < nmembers; i++) {
    const xid = data.u32();
    members.push({ xid, status: data.u32() });
  }
  return { mid, moff, members };
}

/** Offsets below endTruncOff and members below endTruncMemb are not needed any more. */
export interface MultixactTruncate {
  oldestMultiDB: number;
  startTruncOff: number;
  endTruncOff: number;
  startTruncMemb: number;
  endTruncMemb: number;
}

export function parseMultixactTruncate(rec: WalRecord): MultixactTruncate {
  const data = new MainData(rec);
  const oldestMultiDB = data.u32();
  const startTruncOff = data.u32();
  const endTruncOff = data.u32();
  const startTruncMemb = data.u32();
  const endTruncMemb = data.u32();
  return { oldestMultiDB, startTruncOff, endTruncOff, startTruncMemb, endTruncMemb };
}
