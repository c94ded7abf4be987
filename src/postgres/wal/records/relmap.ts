/** Relation map records, src/include/utils/relmapper.h. */
import type { WalFormat } from "../wal_format.ts";
import { WalError } from "../error.ts";
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

/** @throws {WalError} when the record is short, or the map does not have the major's size */
export function parseRelmapUpdate(rec: WalRecord, pg: WalFormat): RelmapUpdate {
  const data = new MainData(rec);
  const dbid = data.u32();
  const tsid = data.u32();
  const map = data.view(data.count(1));
  if (map.length !== pg.relmapSize) {
    throw new WalError(rec.lsn, `a relation map of ${map.length} bytes, expected ${pg.relmapSize}`);
  }
  return { dbid, tsid, data: map };
}
