/** Records for hot standbys, src/include/storage/standbydefs.h. Every parser throws {@link WalError} on a short record. */
import { MainData } from "../main_data.ts";
import type { WalRecord } from "../record.ts";

export const XLOG_STANDBY_LOCK = 0x00;
export const XLOG_RUNNING_XACTS = 0x10;
export const XLOG_INVALIDATIONS = 0x20;

const XID_SIZE = 4;
/** The transactions in progress at some point near the record. */
export interface RunningXacts {
  subxid_overflow: boolean;
  /** 32 bits. */
  nextXid: number;
  oldestRunningXid: number;
  latestCompletedXid: number;
  xids: readonly number[];
  subxids: readonly number[];
}

export function parseRunningXacts(rec: WalRecord): RunningXacts {
  const data = new MainData(rec);
  const xcnt = data.count(XID_SIZE);
  const subxcnt = data.count(XID_SIZE);
  const subxid_overflow = data.bool();
  data.skip(3);
  const nextXid = data.u32();
  const oldestRunningXid = data.u32();
  const latestCompletedXid = data.u32();
  const xids = data.u32s(xcnt);
  return {
    subxid_overflow,
    nextXid,
    oldestRunningXid,
    latestCompletedXid,
    xids,
    subxids: data.u32s(subxcnt),
  };
}
