/** Relation map records, src/include/utils/relmapper.h. */
import { MainData } from "../main_data.ts";
import type { WalRecord } from "../record.ts";

export const XLOG_RELMAP_UPDATE = 0x00;

export interface RelmapUpdate {
  /** 0 for the map of the shared relations. */
  dbid: number;
  tsid: number;
  /** The whole new content of pg_filenode.map, a view into the record; not checked. */
  data: Uint8Array;
}

/** @throws {WalError} when the record is short */
export function parseRelmapUpdate(rec: WalRecord): RelmapUpdate {
  const data = new MainData(rec);
  const dbid = data.u32();
  const tsid = data.u32();
  return { dbid, tsid, data: data.view(data.count(1)) };
}
