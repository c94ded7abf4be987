/** The columns of answers in PostgreSQL's replication protocol. */
import type { Column } from "./column.ts";

export const IDENTIFY_SYSTEM_COLUMNS: readonly Column[] = [
  { name: "systemid", type: "text" },
  { name: "timeline", type: "int4" },
  { name: "xlogpos", type: "text" },
  { name: "dbname", type: "text" },
];

/** Of READ_REPLICATION_SLOT. */
export const READ_SLOT_COLUMNS: readonly Column[] = [
  { name: "slot_type", type: "text" },
  { name: "restart_lsn", type: "text" },
  { name: "restart_tli", type: "int8" },
];

/** Of CREATE_REPLICATION_SLOT. */
export const SLOT_COLUMNS: readonly Column[] = [
  { name: "slot_name", type: "text" },
  { name: "consistent_point", type: "text" },
  { name: "snapshot_name", type: "text" },
  { name: "output_plugin", type: "text" },
];

/** Where a base backup begins, and where it ends. */
export const BACKUP_POSITION_COLUMNS: readonly Column[] = [
  { name: "recptr", type: "text" },
  { name: "tli", type: "int8" },
];

/** The tablespaces of a base backup. A row of nulls is the data directory itself; sizes in KiB. */
export const BACKUP_TABLESPACE_COLUMNS: readonly Column[] = [
  { name: "spcoid", type: "int8" },
  { name: "spclocation", type: "text" },
  { name: "size", type: "int8" },
];
