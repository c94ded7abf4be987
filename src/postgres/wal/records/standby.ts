/** Records for hot standbys, src/include/storage/standbydefs.h. */
import { MainData } from "../main_data.ts";
import type { WalRecord } from "../record.ts";

export const XLOG_RUNNING_XACTS = 0x10;

// xl_running_xacts: xcnt, subxcnt, a bool with its padding, nextXid
const OFFSET_NEXT_XID = 12;

/**
 * Returns the id that the next transaction gets: no record before this one has it or a later one.
 *
 * @throws {WalError} when the record is short
 */
export function parseRunningNextXid(rec: WalRecord): number {
  const data = new MainData(rec);
  data.skip(OFFSET_NEXT_XID);
  return data.u32();
}
