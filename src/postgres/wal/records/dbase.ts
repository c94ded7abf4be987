/** Database records, src/include/commands/dbcommands_xlog.h. Every parser throws {@link WalError} on a short record. */
import { MainData } from "../main_data.ts";
import type { WalRecord } from "../record.ts";

export const XLOG_DBASE_CREATE_FILE_COPY = 0x00;
export const XLOG_DBASE_CREATE_WAL_LOG = 0x10;
export const XLOG_DBASE_DROP = 0x20;

/** A database came into being as a copy of every file of another one, in one record. */
export interface DbaseCreateFileCopy {
  db_id: number;
  tablespace_id: number;
  src_db_id: number;
  src_tablespace_id: number;
}

export function parseDbaseCreateFileCopy(rec: WalRecord): DbaseCreateFileCopy {
  const data = new MainData(rec);
  const db_id = data.u32();
  const tablespace_id = data.u32();
  const src_db_id = data.u32();
  const src_tablespace_id = data.u32();
  return { db_id, tablespace_id, src_db_id, src_tablespace_id };
}

/** A database came into being empty; its blocks follow in WAL. */
export interface DbaseCreateWalLog {
  db_id: number;
  tablespace_id: number;
}

export function parseDbaseCreateWalLog(rec: WalRecord): DbaseCreateWalLog {
  const data = new MainData(rec);
  const db_id = data.u32();
  return { db_id, tablespace_id: data.u32() };
}

/** A database's directories in these tablespaces go away. */
export interface DbaseDrop {
  db_id: number;
  tablespace_ids: readonly number[];
}

export function parseDbaseDrop(rec: WalRecord): DbaseDrop {
  const data = new MainData(rec);
  const db_id = data.u32();
  return { db_id, tablespace_ids: data.u32s(data.count(4)) };
}
