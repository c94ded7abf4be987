/**
 * Records of the WAL machinery itself, src/include/catalog/pg_control.h and
 * src/include/access/xlog_internal.h. Every parser throws {@link WalError} on a short record.
 */
import { type CheckPoint, parseCheckpoint, SIZE_OF_CHECKPOINT } from "../../cluster/checkpoint.ts";
import { WalError } from "../error.ts";
import { MainData } from "../main_data.ts";
import type { Lsn } from "../../../common/lsn.ts";
import { type WalRecord, XLR_RMGR_INFO_MASK } from "../record.ts";
import { RM_XLOG_ID } from "../rmgr.ts";

export const XLOG_CHECKPOINT_SHUTDOWN = 0x00;
export const XLOG_CHECKPOINT_ONLINE = 0x10;
export const XLOG_NOOP = 0x20;
export const XLOG_NEXTOID = 0x30;
export const XLOG_SWITCH = 0x40;
export const XLOG_BACKUP_END = 0x50;
export const XLOG_PARAMETER_CHANGE = 0x60;
export const XLOG_RESTORE_POINT = 0x70;
export const XLOG_FPW_CHANGE = 0x80;
export const XLOG_END_OF_RECOVERY = 0x90;
export const XLOG_FPI_FOR_HINT = 0xa0;
export const XLOG_FPI = 0xb0;
export const XLOG_OVERWRITE_CONTRECORD = 0xd0;
export const XLOG_CHECKPOINT_REDO = 0xe0;

/** The body of a CHECKPOINT_SHUTDOWN or CHECKPOINT_ONLINE record. */
export function parseCheckpointRecord(rec: WalRecord): CheckPoint {
  if (rec.mainLen < SIZE_OF_CHECKPOINT) {
    throw new WalError(rec.lsn, `a checkpoint of ${rec.mainLen} bytes, expected ${SIZE_OF_CHECKPOINT}`);
  }
  return parseCheckpoint(rec.bytes, rec.mainOff);
}

/** Whether the record is the online checkpoint whose replay starts at `redo`. */
export function isOnlineCheckpoint(rec: WalRecord, redo: Lsn): boolean {
  return rec.xl_rmid === RM_XLOG_ID && (rec.xl_info & XLR_RMGR_INFO_MASK) === XLOG_CHECKPOINT_ONLINE &&
    parseCheckpointRecord(rec).redo === redo;
}

/** The next Oid of a NEXTOID record: all below may be in use. */
export function parseNextOid(rec: WalRecord): number {
  return new MainData(rec).u32();
}

export interface ParameterChange {
  MaxConnections: number;
  max_worker_processes: number;
  max_wal_senders: number;
  max_prepared_xacts: number;
  max_locks_per_xact: number;
  wal_level: number;
  wal_log_hints: boolean;
  track_commit_timestamp: boolean;
}

export function parseParameterChange(rec: WalRecord): ParameterChange {
  const data = new MainData(rec);
  const MaxConnections = data.i32();
  const max_worker_processes = data.i32();
  const max_wal_senders = data.i32();
  const max_prepared_xacts = data.i32();
  const max_locks_per_xact = data.i32();
  const wal_level = data.i32();
  const wal_log_hints = data.bool();
  return {
    MaxConnections,
    max_worker_processes,
    max_wal_senders,
    max_prepared_xacts,
    max_locks_per_xact,
    wal_level,
    wal_log_hints,
    track_commit_timestamp: data.bool(),
  };
}
