/**
 * Tablespace records, src/include/commands/tablespace.h. Every parser throws {@link WalError} on a
 * short record.
 */
import { MainData } from "../main_data.ts";
import type { WalRecord } from "../record.ts";

export const XLOG_TBLSPC_CREATE = 0x00;
export const XLOG_TBLSPC_DROP = 0x10;

/** MAXPGPATH. */
const PATH_SIZE = 1024;

export interface TblspcCreate {
  ts_id: number;
  /** What the symbolic link `pg_tblspc/<ts_id>` points to; empty for one in place. */
  ts_path: string;
}

export function parseTblspcCreate(rec: WalRecord): TblspcCreate {
  const data = new MainData(rec);
  const ts_id = data.u32();
  return { ts_id, ts_path: data.cString(PATH_SIZE) };
}

export interface TblspcDrop {
  ts_id: number;
}

export function parseTblspcDrop(rec: WalRecord): TblspcDrop {
  return { ts_id: new MainData(rec).u32() };
}
