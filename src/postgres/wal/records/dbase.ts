/** Database records, src/include/commands/dbcommands_xlog.h. */
import type { DbaseRecordKind, WalFormat } from "../wal_format.ts";
import { WalError } from "../error.ts";
import { MainData } from "../main_data.ts";
import type { WalRecord } from "../record.ts";

/** Creates a database as a copy of every file of another one, in one record. */
export interface DbaseCreateFileCopy {
  kind: "create_file_copy";
  db_id: number;
  tablespace_id: number;
  src_db_id: number;
  src_tablespace_id: number;
}

/** Creates an empty database; its blocks follow in the WAL. */
export interface DbaseCreateWalLog {
  kind: "create_wal_log";
  db_id: number;
  tablespace_id: number;
}

/** Removes a database's directories in these tablespaces. */
export interface DbaseDrop {
  kind: "drop";
  db_id: number;
  tablespace_ids: readonly number[];
}

export type DbaseRecord = DbaseCreateFileCopy | DbaseCreateWalLog | DbaseDrop;

/** @throws {WalError} on a short record, and on one of a type that the major does not have */
export function parseDbase(rec: WalRecord, pg: WalFormat): DbaseRecord {
  const kind: DbaseRecordKind | undefined = pg.dbaseRecords[rec.xl_info >> 4];
  const data = new MainData(rec);
  const db_id = data.u32();
  switch (kind) {
    case "create_file_copy": {
      const tablespace_id = data.u32();
      const src_db_id = data.u32();
      return { kind, db_id, tablespace_id, src_db_id, src_tablespace_id: data.u32() };
    }
    case "create_wal_log":
      return { kind, db_id, tablespace_id: data.u32() };
    case "drop":
      return { kind, db_id, tablespace_ids: data.u32s(data.count(4)) };
    case undefined:
      throw new WalError(
        rec.lsn,
        `PostgreSQL ${pg.major} has no Database record of type 0x${rec.xl_info.toString(16)}`,
      );
  }
}
